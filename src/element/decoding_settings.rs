//! What the user says of the network, and which of its boxes go besides unsure ones.

use std::path::Path;

use gst::glib;
use gst::glib::prelude::*;
use gst::prelude::*;

use super::settings::take;
use crate::decode::cuda::MAX_DETECTIONS;
use crate::decode::{Filter, SizeLimits};

/// The value of `decoder` that leaves it to recognition.
const AUTOMATIC: &str = "auto";

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DecodingSettings {
    decoder: Option<String>,
    class_agnostic: bool,
    min_size: u32,
    max_size: u32,
    modelinfo_out: Option<String>,
    input_width: u32,
    input_height: u32,
    top_k: u32,
    soft_nms_sigma: f32,
}

impl DecodingSettings {
    /// The family that the user names.
    pub fn decoder(&self) -> Option<String> {
        self.decoder.clone().filter(|decoder| decoder != AUTOMATIC)
    }

    /// Width and height of the network's input; of one alone, the other is the same.
    pub fn input_size(&self) -> Option<(usize, usize)> {
        let (width, height) = (self.input_width as usize, self.input_height as usize);
        match (width, height) {
            (0, 0) => None,
            (side, 0) | (0, side) => Some((side, side)),
            size => Some(size),
        }
    }

    /// Where what is known of the model is written.
    pub fn modelinfo_out(&self) -> Option<&Path> {
        self.modelinfo_out.as_deref().map(Path::new)
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
            most_of_class: self.top_k as usize,
            soft_sigma: self.soft_nms_sigma,
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
            side_spec("input-width", "Input width", "Width"),
            side_spec("input-height", "Input height", "Height"),
            glib::ParamSpecString::builder("modelinfo-out")
                .nick("Modelinfo out")
                .blurb(
                    "File into which all that is known of the model is written when it is loaded, to be read, edited \
                     and put beside it as MODEL.onnx.modelinfo (none = nothing is written)",
                )
                .mutable_ready()
                .build(),
            glib::ParamSpecBoolean::builder("class-agnostic")
                .nick("Class-agnostic")
                .blurb("Overlapping boxes of different classes are the same object, too")
                .default_value(self.class_agnostic)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("top-k")
                .nick("Top k")
                .blurb("Most detections of one class in a frame; the most confident ones are kept (0 = no limit)")
                .maximum(MAX_DETECTIONS as u32)
                .default_value(self.top_k)
                .mutable_playing()
                .build(),
            glib::ParamSpecFloat::builder("soft-nms-sigma")
                .nick("Soft-NMS sigma")
                .blurb(
                    "Overlapping boxes of a class are not dropped but become less confident, by exp(-IoU^2 / sigma), \
                     and go below their threshold; 0.5 is usual (0 = they are dropped, as iou-threshold says)",
                )
                .minimum(0.0)
                .maximum(10.0)
                .default_value(self.soft_nms_sigma)
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
            "input-width" => self.input_width.to_value(),
            "input-height" => self.input_height.to_value(),
            "modelinfo-out" => self.modelinfo_out.to_value(),
            "class-agnostic" => self.class_agnostic.to_value(),
            "top-k" => self.top_k.to_value(),
            "soft-nms-sigma" => self.soft_nms_sigma.to_value(),
            "min-size" => self.min_size.to_value(),
            "max-size" => self.max_size.to_value(),
            _ => return None,
        })
    }

    /// Takes over a property's new value; says whether it is one of these.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "decoder" => take(&mut self.decoder, value),
            "input-width" => take(&mut self.input_width, value),
            "input-height" => take(&mut self.input_height, value),
            "modelinfo-out" => take(&mut self.modelinfo_out, value),
            "class-agnostic" => take(&mut self.class_agnostic, value),
            "top-k" => take(&mut self.top_k, value),
            "soft-nms-sigma" => take(&mut self.soft_nms_sigma, value),
            "min-size" => take(&mut self.min_size, value),
            "max-size" => take(&mut self.max_size, value),
            _ => return false,
        }
        true
    }
}

fn side_spec(name: &str, nick: &str, side: &str) -> glib::ParamSpec {
    let blurb = format!(
        "{side} in pixels of the network's input, for models that leave it open (0 = as their .modelinfo or metadata says)"
    );
    glib::ParamSpecUInt::builder(name)
        .nick(nick)
        .blurb(&blurb)
        .maximum(16384)
        .mutable_ready()
        .build()
}

fn size_spec(name: &str, nick: &str, blurb: &str) -> glib::ParamSpec {
    glib::ParamSpecUInt::builder(name)
        .nick(nick)
        .blurb(blurb)
        .mutable_playing()
        .build()
}
