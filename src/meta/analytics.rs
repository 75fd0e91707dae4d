//! `GstAnalyticsRelationMeta` of GStreamer 1.24 and later, through libgstanalytics opened at run time: an
//! object-detection entry for each detection and, for one that is tracked, a tracking entry related to it. An object
//! that is expected in a frame which was not inspected was last seen before that frame.
//!
//! Signatures and values are those of gst/analytics/*.h, which agree from 1.24 to 1.28.

use std::collections::HashMap;
use std::ffi::{c_int, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;

use gst::glib::ffi::{GFALSE, GQuark, gboolean};
use gst::glib::translate::IntoGlib;

use super::message::FrameFacts;
use super::quarks::LabelQuarks;
use crate::detection::Detection;
use crate::dynamic_library::DynamicLibrary;
use crate::model::Labels;

/// `GST_ANALYTICS_REL_TYPE_RELATE_TO`.
const RELATE_TO: c_uint = 1 << 3;

/// What one entry takes in the meta's memory, rounded up: entries of both kinds take 56 bytes.
const ENTRY_BYTES: usize = 64;

/// Tracks that are remembered, at most: more than a frame has detections.
const MOST_TRACKS: usize = 20_000;

/// This system's GStreamer has no analytics library.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("GStreamer's analytics library is missing, which came with GStreamer 1.24 ({0})")]
pub struct AnalyticsMissing(String);

/// `GstAnalyticsRelationMetaInitParams`: entries and bytes to make room for, and to grow by.
#[repr(C)]
struct InitParams {
    order: usize,
    bytes: usize,
}

/// `GstAnalyticsMtd`: a handle of an entry.
#[repr(C)]
struct Entry {
    id: c_uint,
    meta: *mut c_void,
}

impl Entry {
    fn unset() -> Self {
        Self {
            id: 0,
            meta: ptr::null_mut(),
        }
    }
}

/// The functions of libgstanalytics that writing needs.
pub struct Library {
    add_meta: unsafe extern "C" fn(*mut gst::ffi::GstBuffer, *mut InitParams) -> *mut c_void,
    add_detection: unsafe extern "C" fn(
        *mut c_void,
        GQuark,
        c_int,
        c_int,
        c_int,
        c_int,
        f32,
        *mut Entry,
    ) -> gboolean,
    add_tracking: unsafe extern "C" fn(*mut c_void, u64, u64, *mut Entry) -> gboolean,
    update_last_seen: unsafe extern "C" fn(*mut Entry, u64) -> gboolean,
    set_relation: unsafe extern "C" fn(*mut c_void, c_uint, c_uint, c_uint) -> gboolean,
    _library: DynamicLibrary,
}

impl Library {
    /// The library of this process, loaded on first use and never unloaded, as it registers types.
    pub fn get() -> Result<&'static Self, AnalyticsMissing> {
        static LIBRARY: OnceLock<Result<Library, AnalyticsMissing>> = OnceLock::new();
        LIBRARY
            .get_or_init(|| Self::open("libgstanalytics-1.0.so.0"))
            .as_ref()
            .map_err(Clone::clone)
    }

    fn open(name: &str) -> Result<Self, AnalyticsMissing> {
        let library = DynamicLibrary::open(name).map_err(AnalyticsMissing)?;
        // SAFETY: names and signatures are those of the headers.
        unsafe {
            Ok(Self {
                add_meta: function(&library, "gst_buffer_add_analytics_relation_meta_full")?,
                add_detection: function(&library, "gst_analytics_relation_meta_add_od_mtd")?,
                add_tracking: function(&library, "gst_analytics_relation_meta_add_tracking_mtd")?,
                update_last_seen: function(
                    &library,
                    "gst_analytics_tracking_mtd_update_last_seen",
                )?,
                set_relation: function(&library, "gst_analytics_relation_meta_set_relation")?,
                _library: library,
            })
        }
    }
}

/// # Safety
/// `T` must be the type of the function of that name.
unsafe fn function<T: Copy>(library: &DynamicLibrary, name: &str) -> Result<T, AnalyticsMissing> {
    // SAFETY: the caller vouches for the type.
    unsafe { library.function(name) }.ok_or_else(|| AnalyticsMissing(format!("it has no {name}")))
}

/// Attaches relation metas to the buffers of one stream.
pub struct Analytics {
    library: &'static Library,
    labels: LabelQuarks,
    tracks: HashMap<u64, Seen>,
}

/// The running times in which an object was seen first and last.
#[derive(Clone, Copy)]
struct Seen {
    first: gst::ClockTime,
    last: gst::ClockTime,
}

impl Analytics {
    pub fn new(library: &'static Library) -> Self {
        Self {
            library,
            labels: LabelQuarks::default(),
            tracks: HashMap::new(),
        }
    }

    /// Adds to the buffer's relation meta, or attaches one with room for each detection and a tracking entry
    /// for it, which may be a downstream tracker's.
    pub fn attach(
        &mut self,
        buffer: &mut gst::BufferRef,
        facts: &FrameFacts,
        detections: &[Detection],
        labels: &Labels,
    ) {
        let order = 2 * detections.len();
        let mut room = InitParams {
            order,
            bytes: ENTRY_BYTES * order,
        };
        // SAFETY: the buffer is borrowed for writing, and the call only reads the parameters.
        let meta = unsafe { (self.library.add_meta)(buffer.as_mut_ptr(), &mut room) };
        if meta.is_null() {
            return;
        }
        for detection in detections {
            let quark = self.labels.of(detection.class_id, labels).into_glib();
            let (x, y, width, height) = detection
                .bounding_box
                .covering_pixels(facts.width, facts.height);
            let mut entry = Entry::unset();
            // SAFETY: the meta is one of the buffer's; the entry is written.
            let added = unsafe {
                (self.library.add_detection)(
                    meta,
                    quark,
                    x as c_int,
                    y as c_int,
                    width as c_int,
                    height as c_int,
                    detection.confidence,
                    &mut entry,
                )
            };
            if let Some(object_id) = detection.object_id
                && added != GFALSE
            {
                let seen = self.seen(object_id, facts);
                self.relate(meta, entry.id, object_id, seen);
            }
        }
    }

    /// Adds a tracking entry and relates the detection to it.
    fn relate(&self, meta: *mut c_void, detection: c_uint, object_id: u64, seen: Option<Seen>) {
        let (first, last) = (seen.map(|seen| seen.first), seen.map(|seen| seen.last));
        let mut entry = Entry::unset();
        // SAFETY: the meta is one of a buffer that is borrowed for writing; the entry is written, and then names
        // an entry of that meta.
        unsafe {
            let added = (self.library.add_tracking)(meta, object_id, first.into_glib(), &mut entry);
            if added != GFALSE {
                (self.library.update_last_seen)(&mut entry, last.into_glib());
                (self.library.set_relation)(meta, RELATE_TO, detection, entry.id);
            }
        }
    }

    /// When the object was seen; running time goes back in a seek, and what was seen before it with it. In a frame
    /// that was not inspected it is not seen.
    fn seen(&mut self, object_id: u64, facts: &FrameFacts<'_>) -> Option<Seen> {
        let now = facts.running_time?;
        if self.tracks.len() >= MOST_TRACKS {
            self.tracks.clear();
        }
        let now_only = Seen {
            first: now,
            last: now,
        };
        let seen = self.tracks.entry(object_id).or_insert(now_only);
        seen.first = now.min(seen.first);
        if !facts.predicted {
            seen.last = now;
        }
        Some(*seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_wrong_library_is_one_clear_sentence() {
        let error = Library::open("libgstanalytics-that-is-not-there.so").err();
        let text = error.unwrap().to_string();
        assert!(
            text.starts_with(
                "GStreamer's analytics library is missing, which came with GStreamer 1.24 (libgst"
            ),
            "{text}"
        );
        let error = Library::open("libc.so.6").err().unwrap().to_string();
        assert!(
            error.ends_with("(it has no gst_buffer_add_analytics_relation_meta_full)"),
            "{error}"
        );
    }
}
