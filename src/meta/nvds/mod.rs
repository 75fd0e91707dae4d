//! DeepStream's `NvDsObjectMeta`: one for each detection, on the frame of the `NvDsBatchMeta` that upstream put on
//! the buffer, or on a batch of one frame that is made here. Filled as nvinfer's `attach_metadata_detector` does
//! (gstnvinfer_meta_utils.cpp), for nvtracker, nvdsosd, nvmsgconv and nvdsanalytics.

mod layout;
mod library;

use std::ffi::c_int;
use std::ptr;
use std::sync::Once;
use std::time::{SystemTime, UNIX_EPOCH};

use gst::glib;
use gst::glib::ffi::GTRUE;

use self::layout::{
    BATCH_GST_META, Batch, Color, Font, Frame, LABEL_BYTES, Mask, ObjectTail, Rectangle,
    RectangleParams, Text, UNTRACKED,
};
pub use self::library::{DeepStreamError, Library};
use super::message::FrameFacts;
use crate::detection::Detection;
use crate::model::Labels;

/// The `gie-unique-id` of a primary detector: nvinfer's default, and what secondary ones ask for.
const COMPONENT_ID: c_int = 1;

/// The `confidence` of objects that a tracker has and a detector has not found (nvdsmeta.h).
const NOT_DETECTED: f32 = -0.1;

/// The most frames of a batch that are told apart.
const MOST_FRAMES: usize = 4096;

const BORDER_WIDTH: u32 = 3;
const FONT_SIZE: u32 = 11;
/// How far above the box its text starts, in pixels.
const TEXT_RISE: f32 = 10.0;

const RED: Color = opaque(1.0, 0.0, 0.0);
const WHITE: Color = opaque(1.0, 1.0, 1.0);
const BLACK: Color = opaque(0.0, 0.0, 0.0);

const fn opaque(red: f64, green: f64, blue: f64) -> Color {
    Color {
        red,
        green,
        blue,
        alpha: 1.0,
    }
}

/// Attaches to the buffers of one stream.
#[derive(Clone, Copy)]
pub struct NvDs {
    /// Whether a batch is made where there is none.
    makes_batches: bool,
}

impl NvDs {
    /// Attaches where upstream is DeepStream, and leaves other buffers alone.
    pub fn where_a_batch_is() -> Self {
        Self {
            makes_batches: false,
        }
    }

    /// Attaches to every buffer.
    pub fn always() -> Result<Self, DeepStreamError> {
        Library::get().map(|_| Self {
            makes_batches: true,
        })
    }

    /// Whether there is something to do for a buffer, even if nothing was found in it: that it was inspected.
    pub fn applies_to(self, buffer: &gst::BufferRef) -> bool {
        self.makes_batches || batch_of(buffer).is_some()
    }

    /// Attaches what was found in the frames of a buffer: the first of `detections` to the frame with the
    /// `batch_id` 0, and so on.
    pub fn attach(
        self,
        buffer: &mut gst::BufferRef,
        facts: &FrameFacts,
        detections: &[Vec<Detection>],
        labels: &Labels,
    ) {
        let known = batch_of(buffer);
        let found = match known {
            None if self.makes_batches => make_batch(buffer, facts),
            known => known,
        };
        let Some((library, batch)) = found else {
            return;
        };
        // SAFETY: the batch is that of a buffer that is borrowed for writing, and its own lock is held.
        unsafe {
            (library.lock)(batch);
            let mut node = (*batch).frames;
            while !node.is_null() {
                let frame: *mut Frame = (*node).data.cast();
                if let Some(found) = detections.get((*frame).batch_id as usize) {
                    if !facts.predicted {
                        (*frame).infer_done = GTRUE;
                    }
                    for detection in found {
                        let label = labels.get(detection.class_id);
                        let seen = Seen::of(detection, facts.predicted);
                        add_object(library, (batch, frame), detection, label, seen);
                    }
                }
                node = (*node).next;
            }
            (library.unlock)(batch);
        }
    }
}

/// The source of each frame of a buffer's batch, the pad of nvstreammux that it came through, by `batch_id`; none where
/// there is no batch.
pub fn sources(buffer: &gst::BufferRef, sources: &mut Vec<u32>) {
    sources.clear();
    let Some((library, batch)) = batch_of(buffer) else {
        return;
    };
    // SAFETY: the batch is that of a live buffer, and its own lock is held while its frames are read.
    unsafe {
        (library.lock)(batch);
        let mut node = (*batch).frames;
        while !node.is_null() {
            let frame: *const Frame = (*node).data.cast();
            let batch_id = (*frame).batch_id as usize;
            if batch_id < MOST_FRAMES {
                // Until they are told of, frames are sources of their own.
                let known = sources.len();
                sources.extend(known as u32..(batch_id as u32 + 1).max(known as u32));
                sources[batch_id] = (*frame).pad_index;
            }
            node = (*node).next;
        }
        (library.unlock)(batch);
    }
}

/// The batch that a buffer carries. Until some element has registered DeepStream's metadata there is none, and
/// the library is not looked for.
fn batch_of(buffer: &gst::BufferRef) -> Option<(&'static Library, *mut Batch)> {
    glib::Type::from_name("NvDsMetaAPI")?;
    let library = usable()?;
    // SAFETY: the function reads the metas of a live buffer.
    let batch = unsafe { (library.batch_of)(buffer.as_mut_ptr()) };
    (!batch.is_null()).then_some((library, batch))
}

/// The library; where it cannot be used, the log says why, once.
fn usable() -> Option<&'static Library> {
    static SAID: Once = Once::new();
    Library::get()
        .inspect_err(|error| {
            SAID.call_once(|| gst::warning!(gst::CAT_RUST, "no NvDsObjectMeta: {error}"));
        })
        .ok()
}

/// Attaches a batch of one frame, as nvstreammux makes it.
fn make_batch(
    buffer: &mut gst::BufferRef,
    facts: &FrameFacts,
) -> Option<(&'static Library, *mut Batch)> {
    let library = usable()?;
    // SAFETY: the buffer is borrowed for writing and takes the batch over with the functions that copy and free
    // it; batch and frame are this function's own until then.
    unsafe {
        let batch = (library.create_batch)(1);
        if batch.is_null() {
            return None;
        }
        (*batch).base.batch = batch;
        (*batch).base.copy = Some(library.copy_batch);
        (*batch).base.release = Some(library.release_batch);
        // Copies make pools of so many frames.
        (*batch).max_frames = 1;
        let frame = (library.acquire_frame)(batch);
        (*frame).pad_index = 0;
        (*frame).batch_id = 0;
        (*frame).frame_num = facts.number as c_int;
        (*frame).buf_pts = facts.pts.map_or(0, gst::ClockTime::nseconds);
        (*frame).ntp_timestamp = nanoseconds_since_1970();
        (*frame).source_id = 0;
        (*frame).num_surfaces = 1;
        (*frame).surface_index = 0;
        (*frame).source_width = facts.width;
        (*frame).source_height = facts.height;
        (*frame).pipeline_width = facts.width;
        (*frame).pipeline_height = facts.height;
        (library.add_frame)(batch, frame);
        let meta = (library.add_meta)(
            buffer.as_mut_ptr(),
            batch,
            ptr::null_mut(),
            library.copy_batch,
            library.release_batch,
        );
        (*meta).meta_type = BATCH_GST_META;
        Some((library, batch))
    }
}

fn nanoseconds_since_1970() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// Who vouches for an object.
#[derive(Clone, Copy)]
struct Seen {
    by_detector: bool,
    by_tracker: bool,
}

impl Seen {
    fn of(detection: &Detection, predicted: bool) -> Self {
        Self {
            by_detector: !predicted,
            by_tracker: detection.object_id.is_some(),
        }
    }
}

/// # Safety
/// `frame` is a frame of `batch`, whose lock is held.
unsafe fn add_object(
    library: &Library,
    (batch, frame): (*mut Batch, *mut Frame),
    detection: &Detection,
    label: &str,
    seen: Seen,
) {
    let bounding_box = detection.bounding_box;
    let rectangle = Rectangle {
        left: bounding_box.x,
        top: bounding_box.y,
        width: bounding_box.width,
        height: bounding_box.height,
    };
    // SAFETY: the object is the batch's and has the library's layout. Every field is one that its taker sets.
    unsafe {
        let object = (library.acquire_object)(batch);
        if object.is_null() {
            return;
        }
        (*object).parent = ptr::null_mut();
        (*object).unique_component_id = COMPONENT_ID;
        (*object).class_id = detection.class_id as c_int;
        (*object).object_id = detection.object_id.unwrap_or(UNTRACKED);
        let by = |seen: bool| {
            if seen {
                rectangle
            } else {
                Rectangle::default()
            }
        };
        (*object).detector_box = by(seen.by_detector);
        (*object).tracker_box = by(seen.by_tracker);
        (*object).confidence = match seen.by_detector {
            true => detection.confidence,
            false => NOT_DETECTED,
        };
        (*object).tracker_confidence = match seen.by_tracker {
            true => detection.confidence,
            false => 0.0,
        };
        (*object).rectangle = outline(rectangle);
        if let Some(rotation) = library.layout.rotation(object) {
            rotation.write(0.0);
        }
        library
            .layout
            .tail(object)
            .write(inscription(rectangle, label));
        (library.add_object)(frame, object, ptr::null_mut());
    }
}

fn outline(rectangle: Rectangle) -> RectangleParams {
    RectangleParams {
        rectangle,
        border_width: BORDER_WIDTH,
        border_color: RED,
        has_background: 0,
        reserved: 0,
        background: BLACK,
        has_color_info: 0,
        color_id: 0,
    }
}

/// The label as a name, cut to what there is room for, and as a text to draw above the box.
fn inscription(rectangle: Rectangle, label: &str) -> ObjectTail {
    let mut name = [0; LABEL_BYTES];
    let length = label.floor_char_boundary(LABEL_BYTES - 1);
    name[..length].copy_from_slice(&label.as_bytes()[..length]);
    ObjectTail {
        mask: Mask {
            data: ptr::null_mut(),
            size: 0,
            threshold: 0.0,
            width: 0,
            height: 0,
        },
        text: Text {
            // SAFETY: the text is copied; who frees the object frees it.
            text: unsafe { glib::ffi::g_strndup(label.as_ptr().cast(), label.len()) },
            x: rectangle.left.max(0.0) as u32,
            y: (rectangle.top - TEXT_RISE).max(0.0) as u32,
            font: Font {
                name: c"Serif".as_ptr(),
                size: FONT_SIZE,
                color: WHITE,
            },
            has_background: 1,
            background: BLACK,
        },
        label: name,
    }
}
