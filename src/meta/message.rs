//! Detections as a structure for the application's bus.

use gst::glib;

use crate::detection::Detection;
use crate::model::Labels;
use crate::thumbnail::Thumbnails;

/// What is known of the inspected frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameFacts<'a> {
    /// Frames since the stream started, from 0.
    pub number: u64,
    pub pts: Option<gst::ClockTime>,
    pub stream_time: Option<gst::ClockTime>,
    pub running_time: Option<gst::ClockTime>,
    pub width: u32,
    pub height: u32,
    /// It looks like the last inspected one, whose detections are repeated.
    pub repeated: bool,
    /// It was not inspected: its detections are where a tracker expects its objects.
    pub predicted: bool,
    /// The hashes of the buffer's frames and of their detections, where they are wanted.
    pub thumbnails: Option<&'a Thumbnails>,
}

impl FrameFacts<'_> {
    /// The hash of the buffer's frames, one after the other.
    pub fn frame_hash(&self) -> Option<&[u8]> {
        Some(self.thumbnails?.of_frames())
    }

    /// The hash of a detection, by its frame and by its place among the detections there.
    pub fn object_hash(&self, frame: usize, object: usize) -> Option<&[u8]> {
        self.thumbnails?.of_object(frame, object)
    }
}

/// `rsdetectnet, frame=…, timestamp=…, stream-time=…, running-time=…, width=…, height=…, objects=<…>`: times in
/// nanoseconds where they are known, each object with label, label_id, confidence and x, y, w, h in pixels; frame and
/// objects with `hash` (GBytes) where it is wanted, the frame with `repeated` where its objects are those of another,
/// and with `predicted` where they are those that a tracker expects in a frame that was not inspected. `detections`
/// are by frame of the buffer.
pub fn structure(
    facts: &FrameFacts<'_>,
    detections: &[Vec<Detection>],
    labels: &Labels,
) -> gst::Structure {
    let detections = detections.iter().enumerate().flat_map(|(frame, found)| {
        let found = found.iter().enumerate();
        found.map(move |(index, detection)| (detection, facts.object_hash(frame, index)))
    });
    let objects = detections.map(|(detection, hash)| {
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
            .field_if_some("hash", hash.map(glib::Bytes::from))
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
        .field_if_some("repeated", facts.repeated.then_some(true))
        .field_if_some("predicted", facts.predicted.then_some(true))
        .field_if_some("hash", facts.frame_hash().map(glib::Bytes::from))
        .field("objects", gst::Array::new(objects))
        .build()
}
