//! Whether objects are followed from frame to frame, and how.

use gst::glib;
use gst::glib::prelude::*;
use gst::prelude::*;

use super::settings::take;
use crate::track::{Method, bytetrack, iou};

/// Frames in which an object may be missing where the settings leave it open: those of jetson-inference and of
/// ByteTrack.
const DROP_FRAMES_OF_IOU: u32 = 15;
const DROP_FRAMES_OF_BYTETRACK: u32 = 30;

/// How objects are followed from frame to frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRsDetectNetTracker")]
pub enum TrackerKind {
    #[default]
    #[enum_value(name = "Not at all", nick = "none")]
    None,
    #[enum_value(name = "By the overlap of their boxes", nick = "iou")]
    Iou,
    #[enum_value(
        name = "By their motion, also where they are detected with low confidence",
        nick = "bytetrack"
    )]
    ByteTrack,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct TrackingSettings {
    tracker: TrackerKind,
    min_frames: u32,
    drop_frames: u32,
    overlap: f32,
    low_threshold: f32,
    new_margin: f32,
    match_threshold: f32,
}

impl Default for TrackingSettings {
    fn default() -> Self {
        Self {
            tracker: TrackerKind::default(),
            min_frames: 3,
            drop_frames: 0,
            overlap: 0.5,
            low_threshold: 0.1,
            new_margin: 0.1,
            match_threshold: 0.8,
        }
    }
}

impl TrackingSettings {
    /// None where nothing is followed.
    pub fn method(&self) -> Option<Method> {
        let drop_frames = |default| match self.drop_frames {
            0 => default,
            frames => frames,
        };
        match self.tracker {
            TrackerKind::None => None,
            TrackerKind::Iou => Some(Method::Iou(iou::Options {
                min_frames: self.min_frames,
                drop_frames: drop_frames(DROP_FRAMES_OF_IOU),
                overlap: self.overlap,
            })),
            TrackerKind::ByteTrack => Some(Method::ByteTrack(bytetrack::Options {
                low_threshold: self.low_threshold,
                new_margin: self.new_margin,
                match_threshold: self.match_threshold,
                drop_frames: drop_frames(DROP_FRAMES_OF_BYTETRACK),
            })),
        }
    }

    pub fn specs(&self) -> Vec<glib::ParamSpec> {
        vec![
            glib::ParamSpecEnum::builder_with_default("tracker", self.tracker)
                .nick("Tracker")
                .blurb(
                    "How objects are followed from frame to frame; those that are have an object_id in all metadata, \
                     and are predicted in frames that pass uninspected",
                )
                .mutable_playing()
                .build(),
            number(
                "tracker-min-frames",
                "Minimum frames",
                "Inspected frames in which tracker=iou must find an object before it has an object_id",
                self.min_frames,
            ),
            number(
                "tracker-drop-frames",
                "Drop frames",
                "Frames in a row in which an object may be missing before its object_id is forgotten (0 = 15 with \
                 tracker=iou, 30 with bytetrack)",
                self.drop_frames,
            ),
            part(
                "tracker-overlap",
                "Overlap",
                "Least overlap (intersection over union) of an object's boxes in two inspected frames, with \
                 tracker=iou",
                self.overlap,
            ),
            part(
                "tracker-low-threshold",
                "Low threshold",
                "Least confidence of a detection in which tracker=bytetrack recognises an object that it follows; \
                 others need that of threshold",
                self.low_threshold,
            ),
            part(
                "tracker-new-margin",
                "New margin",
                "By how much the confidence of a new object must exceed threshold, with tracker=bytetrack",
                self.new_margin,
            ),
            part(
                "tracker-match-threshold",
                "Match threshold",
                "Greatest distance (1 - intersection over union * confidence) of a detection from where \
                 tracker=bytetrack expects its object",
                self.match_threshold,
            ),
        ]
    }

    pub fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "tracker" => self.tracker.to_value(),
            "tracker-min-frames" => self.min_frames.to_value(),
            "tracker-drop-frames" => self.drop_frames.to_value(),
            "tracker-overlap" => self.overlap.to_value(),
            "tracker-low-threshold" => self.low_threshold.to_value(),
            "tracker-new-margin" => self.new_margin.to_value(),
            "tracker-match-threshold" => self.match_threshold.to_value(),
            _ => return None,
        })
    }

    /// Takes over a property's new value; says whether it is one of these.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "tracker" => take(&mut self.tracker, value),
            "tracker-min-frames" => take(&mut self.min_frames, value),
            "tracker-drop-frames" => take(&mut self.drop_frames, value),
            "tracker-overlap" => take(&mut self.overlap, value),
            "tracker-low-threshold" => take(&mut self.low_threshold, value),
            "tracker-new-margin" => take(&mut self.new_margin, value),
            "tracker-match-threshold" => take(&mut self.match_threshold, value),
            _ => return false,
        }
        true
    }
}

fn number(name: &str, nick: &str, blurb: &str, default: u32) -> glib::ParamSpec {
    glib::ParamSpecUInt::builder(name)
        .nick(nick)
        .blurb(blurb)
        .default_value(default)
        .mutable_playing()
        .build()
}

fn part(name: &str, nick: &str, blurb: &str, default: f32) -> glib::ParamSpec {
    glib::ParamSpecFloat::builder(name)
        .nick(nick)
        .blurb(blurb)
        .minimum(0.0)
        .maximum(1.0)
        .default_value(default)
        .mutable_playing()
        .build()
}
