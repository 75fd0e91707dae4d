//! When a frame is too late to be inspected, and what becomes of it then.

use gst::glib;
use gst::glib::prelude::*;
use gst::prelude::*;

use super::settings::take;

/// What becomes of a frame that is too late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRsDetectNetLatePolicy")]
pub enum LatePolicy {
    #[default]
    #[enum_value(name = "It passes uninspected", nick = "skip-inference")]
    SkipInference,
    #[enum_value(name = "It is dropped", nick = "drop")]
    Drop,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LatenessSettings {
    pub policy: LatePolicy,
    max_latency: u32,
}

impl LatenessSettings {
    /// The greatest age, in running time, that frames are to have when they have been inspected.
    pub fn max_latency(&self) -> Option<gst::ClockTime> {
        let limit = u64::from(self.max_latency);
        (limit > 0).then(|| gst::ClockTime::from_mseconds(limit))
    }

    pub fn specs(&self) -> Vec<glib::ParamSpec> {
        vec![
            glib::ParamSpecUInt::builder("max-latency")
                .nick("Maximum latency")
                .blurb(
                    "Frames of a live stream of which it would be known what is in them more than this many milliseconds \
                     after their time are too late to be inspected (0 = only those that downstream calls late)",
                )
                .default_value(self.max_latency)
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("late-policy", self.policy)
                .nick("Late policy")
                .blurb("What becomes of frames that are too late to be inspected")
                .mutable_playing()
                .build(),
        ]
    }

    pub fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "max-latency" => self.max_latency.to_value(),
            "late-policy" => self.policy.to_value(),
            _ => return None,
        })
    }

    /// Takes over a property's new value; says whether it is one of these.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "max-latency" => take(&mut self.max_latency, value),
            "late-policy" => take(&mut self.policy, value),
            _ => return false,
        }
        true
    }
}
