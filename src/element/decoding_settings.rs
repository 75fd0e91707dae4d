//! How the network's outputs are understood, and which of its boxes go besides unsure ones.

use gst::glib;
use gst::glib::prelude::*;
use gst::prelude::*;

use super::settings::take;
use crate::decode::{Filter, SizeLimits};

/// The value of `decoder` that leaves it to recognition.
const AUTOMATIC: &str = "auto";

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DecodingSettings {
    decoder: Option<String>,
    class_agnostic: bool,
    min_size: u32,
    max_size: u32,
}

impl DecodingSettings {
    /// The family that the user names.
    pub fn decoder(&self) -> Option<String> {
        self.decoder.clone().filter(|decoder| decoder != AUTOMATIC)
    }

    pub fn filter(&self) -> Filter {
        Filter {
            class_agnostic: self.class_agnostic,
            sizes: SizeLimits {
                smallest: self.min_size as f32,
                largest: match self.max_size {
                    0 => f32::INFINITY,
                    size => size as f32,
                },
            },
        }
    }

    pub fn specs(&self) -> Vec<glib::ParamSpec> {
        vec![
            glib::ParamSpecString::builder("decoder")
                .nick("Decoder")
                .blurb(
                    "The family of the model's outputs where they do not show it, such as yolox or rt-detr; README \
                     lists them (auto = as recognised)",
                )
                .default_value(Some(AUTOMATIC))
                .mutable_ready()
                .build(),
            glib::ParamSpecBoolean::builder("class-agnostic")
                .nick("Class-agnostic")
                .blurb("Overlapping boxes of different classes are the same object, too")
                .default_value(self.class_agnostic)
                .mutable_playing()
                .build(),
            size_spec(
                "min-size",
                "Minimum size",
                "Least shorter side of a box in pixels of the frame (0 = no limit)",
            ),
            size_spec(
                "max-size",
                "Maximum size",
                "Greatest longer side of a box in pixels of the frame (0 = no limit)",
            ),
        ]
    }

    pub fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "decoder" => self.decoder.as_deref().unwrap_or(AUTOMATIC).to_value(),
            "class-agnostic" => self.class_agnostic.to_value(),
            "min-size" => self.min_size.to_value(),
            "max-size" => self.max_size.to_value(),
            _ => return None,
        })
    }

    /// Takes over a property's new value; says whether it is one of these.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "decoder" => take(&mut self.decoder, value),
            "class-agnostic" => take(&mut self.class_agnostic, value),
            "min-size" => take(&mut self.min_size, value),
            "max-size" => take(&mut self.max_size, value),
            _ => return false,
        }
        true
    }
}

fn size_spec(name: &str, nick: &str, blurb: &str) -> glib::ParamSpec {
    glib::ParamSpecUInt::builder(name)
        .nick(nick)
        .blurb(blurb)
        .mutable_playing()
        .build()
}
