//! The custom meta `rsdetectnet-frame`: what is known of a frame as a whole. It stays on the buffer through any element
//! that keeps metadata without tags.
//!
//! Its fields, where they apply: `hash` (GBytes), the thumbnail of `hash_size` x `hash_size` bytes (int), those of
//! the frames of a batched buffer one after the other; `repeated` (boolean), where the frame looks like the last
//! inspected one, whose detections it carries; and `predicted` (boolean), where it was not inspected and carries what
//! a tracker expects. C and Python read it with `gst_buffer_get_custom_meta(buffer, "rsdetectnet-frame")`, Rust with
//! [`frame_details`].

use std::sync::Once;

use gst::glib;
use gst::meta::CustomMeta;

use super::message::FrameFacts;

pub const NAME: &str = "rsdetectnet-frame";

/// What is known of a frame as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameDetails {
    /// Its grey thumbnail, row by row; of a batched buffer those of its frames, one after the other.
    pub hash: Option<glib::Bytes>,
    /// The side of the thumbnail, in pixels.
    pub hash_size: usize,
    /// It looks like the last inspected frame, whose detections it carries.
    pub repeated: bool,
    /// It was not inspected, and carries the objects that a tracker expects in it.
    pub predicted: bool,
}

/// Makes the meta known to GStreamer; happens once in a process, whoever asks.
pub fn register() {
    static ONCE: Once = Once::new();
    super::register_custom(NAME, &ONCE);
}

/// Whether there is anything to say of a frame.
pub fn applies_to(facts: &FrameFacts<'_>) -> bool {
    facts.repeated || facts.predicted || facts.thumbnails.is_some()
}

pub fn attach(buffer: &mut gst::BufferRef, facts: &FrameFacts<'_>) {
    register();
    // The meta is registered, so that this cannot fail.
    let Ok(mut meta) = CustomMeta::add(buffer, NAME) else {
        return;
    };
    let structure = meta.mut_structure();
    if let Some(thumbnails) = facts.thumbnails {
        structure.set("hash", glib::Bytes::from(thumbnails.of_frames()));
        structure.set("hash_size", thumbnails.side() as i32);
    }
    for (name, is_set) in [("repeated", facts.repeated), ("predicted", facts.predicted)] {
        if is_set {
            structure.set(name, true);
        }
    }
}

/// What is known of the frame of a buffer, if rsdetectnet had something to say of it.
pub fn frame_details(buffer: &gst::BufferRef) -> Option<FrameDetails> {
    let meta = CustomMeta::from_buffer(buffer, NAME).ok()?;
    let structure = meta.structure();
    let hash_size = structure.get::<i32>("hash_size").ok();
    Some(FrameDetails {
        hash: structure.get("hash").ok(),
        hash_size: hash_size.and_then(|side| side.try_into().ok()).unwrap_or(0),
        repeated: structure.get("repeated").unwrap_or(false),
        predicted: structure.get("predicted").unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thumbnail::Thumbnails;

    #[test]
    fn what_is_attached_is_what_is_read_back_also_from_a_copy() {
        gst::init().unwrap();
        let mut thumbnails = Thumbnails::default();
        thumbnails.begin(2, &[vec![], vec![]]).extend(0..8);
        for (repeated, thumbnails, hash, hash_size) in [
            (false, Some(&thumbnails), Some([0, 1, 2, 3, 4, 5, 6, 7]), 2),
            (true, Some(&thumbnails), Some([0, 1, 2, 3, 4, 5, 6, 7]), 2),
            (true, None, None, 0),
        ] {
            let facts = FrameFacts {
                repeated,
                predicted: !repeated,
                thumbnails,
                ..FrameFacts::default()
            };
            assert!(applies_to(&facts));
            let mut buffer = gst::Buffer::new();
            attach(buffer.get_mut().unwrap(), &facts);
            let expected = FrameDetails {
                hash: hash.map(glib::Bytes::from_owned),
                hash_size,
                repeated,
                predicted: !repeated,
            };
            assert_eq!(frame_details(&buffer), Some(expected.clone()));
            assert_eq!(frame_details(&buffer.copy()), Some(expected));
        }
        assert!(!applies_to(&FrameFacts::default()));
        assert_eq!(frame_details(&gst::Buffer::new()), None);
    }
}
