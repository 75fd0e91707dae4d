//! Detections as a structure for the application's bus.

use crate::detection::Detection;
use crate::model::Labels;

/// What is known of the inspected frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameFacts {
    /// Frames since the stream started, from 0.
    pub number: u64,
    pub pts: Option<gst::ClockTime>,
    pub stream_time: Option<gst::ClockTime>,
    pub running_time: Option<gst::ClockTime>,
    pub width: u32,
    pub height: u32,
}

/// `rsdetectnet, frame=…, timestamp=…, stream-time=…, running-time=…, width=…, height=…, objects=<…>`: times in
/// nanoseconds where they are known, each object with label, label_id, confidence and x, y, w, h in pixels.
pub fn structure<'a>(
    facts: &FrameFacts,
    detections: impl Iterator<Item = &'a Detection>,
    labels: &Labels,
) -> gst::Structure {
    let objects = detections.map(|detection| {
        let bounding_box = detection.bounding_box;
        gst::Structure::builder("object")
            .field("label", labels.get(detection.class_id))
            .field("label_id", detection.class_id as i32)
            .field("confidence", f64::from(detection.confidence))
            .field("x", f64::from(bounding_box.x))
            .field("y", f64::from(bounding_box.y))
            .field("w", f64::from(bounding_box.width))
            .field("h", f64::from(bounding_box.height))
            .field_if_some("object_id", detection.object_id.map(|id| id as i64))
            .build()
    });
    gst::Structure::builder("rsdetectnet")
        .field("frame", facts.number)
        .field_if_some("timestamp", facts.pts.map(gst::ClockTime::nseconds))
        .field_if_some(
            "stream-time",
            facts.stream_time.map(gst::ClockTime::nseconds),
        )
        .field_if_some(
            "running-time",
            facts.running_time.map(gst::ClockTime::nseconds),
        )
        .field("width", facts.width)
        .field("height", facts.height)
        .field("objects", gst::Array::new(objects))
        .build()
}
