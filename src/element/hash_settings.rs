//! What the user sets for hashes and for frames that look the same.

use gst::glib;
use gst::glib::prelude::*;
use gst::prelude::*;

use super::settings::take;
use crate::thumbnail::MAX_SIDE;

/// The side of thumbnails that are compared and nobody wants to see.
const COMPARED_SIDE: usize = 16;

/// What is to be made of a frame, as the settings were when it came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HashPlan {
    /// Of all its thumbnails.
    pub side: usize,
    /// Whether users see them.
    pub shown: bool,
    /// The most by which it may differ from the last inspected frame and need not be inspected; None where it is
    /// inspected whatever it looks like.
    pub limit: Option<f64>,
}

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

    /// Takes over a property's new value; says whether it is one of these.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "hash-size" => take(&mut self.hash_size, value),
            "skip-unchanged" => take(&mut self.skip_unchanged, value),
            _ => return false,
        }
        true
    }

    /// What is to be made of frames.
    pub fn plan(&self) -> HashPlan {
        HashPlan {
            side: match self.hash_size {
                0 => COMPARED_SIDE,
                side => side as usize,
            },
            shown: self.hash_size > 0,
            limit: (self.skip_unchanged > 0.0).then_some(self.skip_unchanged.into()),
        }
    }
}
