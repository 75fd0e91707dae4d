//! The memory layout of DeepStream's metadata, as gstnvdsmeta.h, nvdsmeta.h and nvll_osd_struct.h define it, up
//! to what is written here.
//!
//! Sizes and offsets were taken from the headers of 6.0, 6.0.1, 6.1, 6.1.1, 6.2, 6.3 and 9.1 on an LP64 machine,
//! as x86-64 and aarch64 are. All agree but for one field: since 9.0 the rectangle in the midst of an object has a
//! rotation. Batches say how large their objects are, so [`ObjectLayout::of_size`] knows which they have.

use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;

use gst::glib::ffi::{GList, gboolean};

/// `NVDS_BATCH_GST_META`.
pub const BATCH_GST_META: c_int = 4097;

/// `UNTRACKED_OBJECT_ID`.
pub const UNTRACKED: u64 = u64::MAX;

/// `MAX_LABEL_SIZE`, the terminating zero included.
pub const LABEL_BYTES: usize = 128;

pub type CopyFunction = unsafe extern "C" fn(*mut c_void, *mut c_void) -> *mut c_void;
pub type ReleaseFunction = unsafe extern "C" fn(*mut c_void, *mut c_void);

/// `NvDsMeta`, the GstMeta.
#[repr(C)]
pub struct Meta {
    pub meta: gst::ffi::GstMeta,
    pub meta_data: *mut c_void,
    pub user_data: *mut c_void,
    pub meta_type: c_int,
}

/// `NvDsBaseMeta`.
#[repr(C)]
pub struct BaseMeta {
    pub batch: *mut Batch,
    pub meta_type: c_int,
    pub user_context: *mut c_void,
    pub copy: Option<CopyFunction>,
    pub release: Option<ReleaseFunction>,
}

/// `NvDsMetaPool`.
#[repr(C)]
pub struct Pool {
    pub meta_type: c_int,
    pub max_elements: u32,
    pub element_size: u32,
}

/// `NvDsBatchMeta`.
#[repr(C)]
pub struct Batch {
    pub base: BaseMeta,
    pub max_frames: u32,
    pub num_frames: u32,
    pub frame_pool: *mut Pool,
    pub object_pool: *mut Pool,
    pub other_pools: [*mut Pool; 4],
    /// Of [`Frame`]s.
    pub frames: *mut GList,
}

/// `NvDsFrameMeta`.
#[repr(C)]
pub struct Frame {
    pub base: BaseMeta,
    pub pad_index: u32,
    pub batch_id: u32,
    pub frame_num: c_int,
    /// Nanoseconds.
    pub buf_pts: u64,
    /// Nanoseconds since 1970.
    pub ntp_timestamp: u64,
    pub source_id: u32,
    pub num_surfaces: c_int,
    pub source_width: u32,
    pub source_height: u32,
    pub surface_type: u32,
    pub surface_index: u32,
    pub num_objects: u32,
    pub infer_done: gboolean,
    /// Of objects, displays and what users add.
    pub lists: [*mut GList; 3],
    pub misc: [i64; 4],
    pub pipeline_width: u32,
    pub pipeline_height: u32,
}

/// `NvBbox_Coords`, in pixels.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rectangle {
    pub left: f32,
    pub top: f32,
    pub width: f32,
    pub height: f32,
}

/// `NvOSD_ColorParams`, each 0 to 1.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Color {
    pub red: f64,
    pub green: f64,
    pub blue: f64,
    pub alpha: f64,
}

/// `NvOSD_RectParams` up to the rotation.
#[repr(C)]
pub struct RectangleParams {
    pub rectangle: Rectangle,
    pub border_width: u32,
    pub border_color: Color,
    pub has_background: u32,
    pub reserved: u32,
    pub background: Color,
    pub has_color_info: c_int,
    pub color_id: c_int,
}

/// `NvDsObjectMeta` up to the rotation of its rectangle.
#[repr(C)]
pub struct Object {
    pub base: BaseMeta,
    pub parent: *mut Object,
    pub unique_component_id: c_int,
    pub class_id: c_int,
    pub object_id: u64,
    pub detector_box: Rectangle,
    pub tracker_box: Rectangle,
    pub confidence: f32,
    pub tracker_confidence: f32,
    pub rectangle: RectangleParams,
}

/// `NvOSD_MaskParams`.
#[repr(C)]
pub struct Mask {
    pub data: *mut f32,
    pub size: u32,
    pub threshold: f32,
    pub width: u32,
    pub height: u32,
}

/// `NvOSD_FontParams`.
#[repr(C)]
pub struct Font {
    pub name: *const c_char,
    pub size: u32,
    pub color: Color,
}

/// `NvOSD_TextParams`; the text is freed by g_free.
#[repr(C)]
pub struct Text {
    pub text: *mut c_char,
    pub x: u32,
    pub y: u32,
    pub font: Font,
    pub has_background: c_int,
    pub background: Color,
}

/// What follows the rectangle in `NvDsObjectMeta`, up to its lists.
#[repr(C)]
pub struct ObjectTail {
    pub mask: Mask,
    pub text: Text,
    pub label: [u8; LABEL_BYTES],
}

/// Which of the two layouts objects have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectLayout {
    /// DeepStream 6.0 to 6.3, and whatever release has objects of that size.
    Upright,
    /// DeepStream 9.0 and later: the rectangle ends with its rotation in degrees, and four bytes of padding.
    Rotated,
}

impl ObjectLayout {
    /// By `sizeof(NvDsObjectMeta)`.
    pub fn of_size(size: u32) -> Option<Self> {
        match size {
            544 => Some(Self::Upright),
            552 => Some(Self::Rotated),
            _ => None,
        }
    }

    /// Where the rotation is.
    ///
    /// # Safety
    /// `object` is an object of this layout.
    pub unsafe fn rotation(self, object: *mut Object) -> Option<*mut f32> {
        // SAFETY: the rotation follows the head within the object.
        (self == Self::Rotated).then(|| unsafe { object.add(1).cast() })
    }

    /// # Safety
    /// `object` is an object of this layout.
    pub unsafe fn tail(self, object: *mut Object) -> *mut ObjectTail {
        let rotation = match self {
            Self::Upright => 0,
            Self::Rotated => 8,
        };
        // SAFETY: the tail follows the head and the rotation within the object.
        unsafe { object.add(1).byte_add(rotation).cast() }
    }
}

const _: () = {
    assert!(offset_of!(Meta, meta_type) == 32);
    assert!(size_of::<BaseMeta>() == 40);
    assert!(offset_of!(Pool, element_size) == 8);
    assert!(offset_of!(Batch, max_frames) == 40);
    assert!(offset_of!(Batch, object_pool) == 56);
    assert!(offset_of!(Batch, frames) == 96);
    assert!(offset_of!(Frame, batch_id) == 44);
    assert!(offset_of!(Frame, buf_pts) == 56);
    assert!(offset_of!(Frame, source_id) == 72);
    assert!(offset_of!(Frame, source_width) == 80);
    assert!(offset_of!(Frame, surface_type) == 88);
    assert!(offset_of!(Frame, num_objects) == 96);
    assert!(offset_of!(Frame, infer_done) == 100);
    assert!(offset_of!(Frame, lists) == 104);
    assert!(offset_of!(Frame, misc) == 128);
    assert!(offset_of!(Frame, pipeline_width) == 160);
    assert!(offset_of!(Object, unique_component_id) == 48);
    assert!(offset_of!(Object, object_id) == 56);
    assert!(offset_of!(Object, detector_box) == 64);
    assert!(offset_of!(Object, tracker_box) == 80);
    assert!(offset_of!(Object, confidence) == 96);
    assert!(offset_of!(Object, rectangle) == 104);
    assert!(size_of::<RectangleParams>() == 104);
    assert!(offset_of!(RectangleParams, border_color) == 24);
    assert!(offset_of!(RectangleParams, background) == 64);
    assert!(offset_of!(RectangleParams, has_color_info) == 96);
    assert!(size_of::<Object>() == 208);
    assert!(size_of::<Mask>() == 24);
    assert!(size_of::<Font>() == 48);
    assert!(size_of::<Text>() == 104);
    assert!(offset_of!(Text, font) == 16);
    assert!(offset_of!(Text, background) == 72);
    assert!(offset_of!(ObjectTail, label) == 128);
    // The lists of an object start at 464, or 472 with a rotation.
    assert!(size_of::<Object>() + size_of::<ObjectTail>() == 464);
};
