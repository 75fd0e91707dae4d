//! How an element shares its model with others, and how many of its frames may be under way.

use gst::glib;
use gst::glib::prelude::*;

use super::settings::take;
use gst::prelude::*;

/// Frames under way at once where the settings leave it open: on a GPU the next one is decoded and prepared
/// meanwhile; on the CPU there is nobody else to do the work.
const AUTOMATIC_ON_GPU: usize = 2;
const AUTOMATIC_ON_CPU: usize = 1;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SharingSettings {
    pub instance: Option<String>,
    max_in_flight: u32,
}

impl SharingSettings {
    pub fn max_in_flight(&self, on_gpu: bool) -> usize {
        match self.max_in_flight {
            0 if on_gpu => AUTOMATIC_ON_GPU,
            0 => AUTOMATIC_ON_CPU,
            number => number as usize,
        }
    }

    pub fn specs(&self) -> Vec<glib::ParamSpec> {
        vec![
            glib::ParamSpecString::builder("model-instance-id")
                .nick("Model instance")
                .blurb(
                    "Elements share a loaded model where all its options and this text are the same; another text \
                     gives an element a model of its own",
                )
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("max-in-flight")
                .nick("Frames in flight")
                .blurb(
                    "Most frames of this element that are being inspected at once; with 1 they are pushed by the \
                     thread that brings them, with more by a thread of the pad src, or by that one where it has to \
                     wait (0 = 2 on a GPU, 1 on the CPU)",
                )
                .maximum(16)
                .default_value(self.max_in_flight)
                .mutable_ready()
                .build(),
        ]
    }

    pub fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "model-instance-id" => self.instance.to_value(),
            "max-in-flight" => self.max_in_flight.to_value(),
            _ => return None,
        })
    }

    /// Takes over a property's new value; says whether it is one of these.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "model-instance-id" => take(&mut self.instance, value),
            "max-in-flight" => take(&mut self.max_in_flight, value),
            _ => return false,
        }
        true
    }
}
