//! What the user sets for hashes and for frames that look the same.

use gst::glib;
use gst::glib::prelude::*;
use gst::prelude::*;

use super::settings::take;
use crate::thumbnail::MAX_SIDE;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct HashSettings {
    pub hash_size: u32,
    pub skip_unchanged: f32,
}

impl HashSettings {
    pub fn specs(&self) -> Vec<glib::ParamSpec> {
        vec![
            glib::ParamSpecUInt::builder("hash-size")
                .nick("Hash size")
                .blurb(
                    "Side of the grey thumbnails, in pixels, that are the hashes of frames and objects in metadata, \
                     messages and lines (0 = none)",
                )
                .maximum(MAX_SIDE as u32)
                .default_value(self.hash_size)
                .mutable_playing()
                .build(),
            glib::ParamSpecFloat::builder("skip-unchanged")
                .nick("Skip unchanged")
                .blurb(
                    "Pass frames on uninspected whose thumbnail differs from that of the last inspected frame by no \
                     more than this, the mean absolute difference in levels of 0 to 255, and repeat what was found \
                     (0 = inspect all)",
                )
                .maximum(255.0)
                .minimum(0.0)
                .default_value(self.skip_unchanged)
                .mutable_playing()
                .build(),
        ]
    }

    /// The value of a property that is one of these settings.
    pub fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "hash-size" => self.hash_size.to_value(),
            "skip-unchanged" => self.skip_unchanged.to_value(),
            _ => return None,
        })
    }

    /// Takes over a property's new value.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            "hash-size" => take(&mut self.hash_size, value),
            "skip-unchanged" => take(&mut self.skip_unchanged, value),
            _ => {}
        }
    }
}
