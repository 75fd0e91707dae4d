//! What rsdetectnet found in a buffer, as plain structs.

use std::ffi::c_char;

use gst::glib;

use super::Complaint;
use crate::meta::roi;

/// `RsDetectNetDetection`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CDetection {
    /// UTF-8 that is never freed.
    pub label: *const c_char,
    pub class_id: u32,
    pub confidence: f32,
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
    /// -1 where the object is not tracked.
    pub object_id: i64,
    /// 0 for buffers of one frame.
    pub batch_id: u32,
    /// 0 where there is no hash.
    pub hash_size: u32,
    /// Bytes of the buffer's metadata.
    pub hash: *const u8,
    /// 1 where the object was not found but is expected there, else 0.
    pub predicted: u32,
    pub reserved: u32,
}

const _: () =
    assert!(size_of::<CDetection>() == 64 && std::mem::offset_of!(CDetection, object_id) == 32);

/// Writes up to `capacity` detections and returns how many there are.
///
/// # Safety
/// `buffer` is a GstBuffer or null; `detections` has room for `capacity` of them, or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsdetectnet_detections(
    buffer: *const gst::ffi::GstBuffer,
    detections: *mut CDetection,
    capacity: usize,
) -> usize {
    if buffer.is_null() {
        return 0;
    }
    // SAFETY: no text is written.
    let complaint = unsafe { Complaint::new(std::ptr::null_mut(), 0) };
    let count = complaint.keep(|| {
        // SAFETY: the caller's buffer lives as long as the call.
        let found = roi::detections(unsafe { gst::BufferRef::from_ptr(buffer) });
        let room = if detections.is_null() { 0 } else { capacity };
        for (index, found) in found.iter().take(room).enumerate() {
            // SAFETY: the caller has room for so many.
            unsafe { detections.add(index).write(plain(found)) };
        }
        Ok(found.len())
    });
    count.unwrap_or(0)
}

fn plain(found: &roi::LabeledDetection) -> CDetection {
    let detection = &found.detection;
    // The metadata holds these bytes as well, so that they outlive `found`.
    let hash = found.hash.as_deref().unwrap_or_default();
    CDetection {
        // The label was read from a quark: this finds that quark again, whose text lives for ever.
        label: glib::Quark::from_str(&found.label).as_str().as_ptr(),
        class_id: detection.class_id,
        confidence: detection.confidence,
        x: detection.bounding_box.x,
        y: detection.bounding_box.y,
        width: detection.bounding_box.width,
        height: detection.bounding_box.height,
        object_id: detection.object_id.map_or(-1, |id| id as i64),
        batch_id: found.batch_id.unwrap_or(0),
        hash_size: hash.len() as u32,
        hash: hash.as_ptr(),
        predicted: found.predicted.into(),
        reserved: 0,
    }
}
