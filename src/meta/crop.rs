//! The custom meta `rsdetectnet-crop`: what a buffer of the pad `crops` shows. It stays on the buffer through any
//! element that keeps metadata without tags, such as queues, tees and encoders.
//!
//! Its fields: `label` (string), `label_id` (int), `confidence` (double, 0 to 1), `x`, `y`, `w`, `h` (int, the pixels
//! of the frame that the crop shows), `frame_width`, `frame_height` (int), `frame` (uint64, frames since the stream
//! started), `batch_id` (int) where the buffer held a batch of frames, `object_id` (int64) where a tracker gave one,
//! and `hash` (GBytes) where it is wanted. C and Python read it with
//! `gst_buffer_get_custom_meta(buffer, "rsdetectnet-crop")`, Rust with [`crop_details`].

use std::sync::Once;

use gst::glib;
use gst::meta::CustomMeta;

pub const NAME: &str = "rsdetectnet-crop";

/// What a crop shows. Sizes are in pixels of the frame that it was cut out of.
#[derive(Clone, Debug, PartialEq)]
pub struct CropDetails {
    pub label: String,
    pub label_id: u32,
    pub confidence: f32,
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
    pub frame_width: u32,
    pub frame_height: u32,
    /// Frames since the stream started, from 0.
    pub frame: u64,
    /// The frame's number in a batch of nvstreammux.
    pub batch_id: Option<u32>,
    pub object_id: Option<u64>,
    /// The grey thumbnail of the object, row by row, where `hash-size` asks for it: the pixels of its box, without the
    /// margin that the crop may have.
    pub hash: Option<glib::Bytes>,
}

/// Makes the meta known to GStreamer; happens once in a process, whoever asks.
pub fn register() {
    static ONCE: Once = Once::new();
    super::register_custom(NAME, &ONCE);
}

pub fn attach(buffer: &mut gst::BufferRef, details: &CropDetails) -> Result<(), glib::BoolError> {
    register();
    let mut meta = CustomMeta::add(buffer, NAME)?;
    let structure = meta.mut_structure();
    structure.set("label", &details.label);
    structure.set("label_id", details.label_id as i32);
    structure.set("confidence", f64::from(details.confidence));
    for (name, pixels) in [
        ("x", details.x),
        ("y", details.y),
        ("w", details.width),
        ("h", details.height),
        ("frame_width", details.frame_width),
        ("frame_height", details.frame_height),
    ] {
        structure.set(name, pixels as i32);
    }
    structure.set("frame", details.frame);
    if let Some(batch_id) = details.batch_id {
        structure.set("batch_id", batch_id as i32);
    }
    if let Some(object_id) = details.object_id {
        structure.set("object_id", object_id as i64);
    }
    if let Some(hash) = &details.hash {
        structure.set("hash", hash);
    }
    Ok(())
}

/// What a buffer shows, if it is a crop of rsdetectnet.
pub fn crop_details(buffer: &gst::BufferRef) -> Option<CropDetails> {
    let meta = CustomMeta::from_buffer(buffer, NAME).ok()?;
    let structure = meta.structure();
    let number = |name| structure.get::<i32>(name).ok()?.try_into().ok();
    Some(CropDetails {
        label: structure.get("label").ok()?,
        label_id: number("label_id")?,
        confidence: structure.get::<f64>("confidence").ok()? as f32,
        x: number("x")?,
        y: number("y")?,
        width: number("w")?,
        height: number("h")?,
        frame_width: number("frame_width")?,
        frame_height: number("frame_height")?,
        frame: structure.get("frame").ok()?,
        batch_id: number("batch_id"),
        object_id: structure
            .get::<i64>("object_id")
            .ok()
            .map(|object_id| object_id as u64),
        hash: structure.get("hash").ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_attached_is_what_is_read_back_also_from_a_copy() {
        gst::init().unwrap();
        let hashes = [None, Some(glib::Bytes::from_static(&[0, 255, 7, 9]))];
        let ids = [(None, None), (Some(3), Some(u64::MAX - 5))];
        for ((batch_id, object_id), hash) in ids.into_iter().zip(hashes) {
            let details = CropDetails {
                label: "driver's \"door\" 人".into(),
                label_id: 7,
                confidence: 0.75,
                x: 10,
                y: 20,
                width: 300,
                height: 400,
                frame_width: 1920,
                frame_height: 1080,
                frame: 1 << 40,
                batch_id,
                object_id,
                hash,
            };
            let mut buffer = gst::Buffer::new();
            attach(buffer.get_mut().unwrap(), &details).unwrap();
            assert_eq!(crop_details(&buffer), Some(details.clone()));
            assert_eq!(crop_details(&buffer.copy()), Some(details));
        }
        assert_eq!(crop_details(&gst::Buffer::new()), None);
    }
}
