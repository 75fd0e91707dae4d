//! Any label and source in a line of JSON: one line, which a reader of JSON takes, and which holds both as they were.
#![no_main]

use gstrsdetectnet::BoundingBox;
use gstrsdetectnet::detector::Timings;
use gstrsdetectnet::detection::Detection;
use gstrsdetectnet::meta::json;
use gstrsdetectnet::meta::message::{self, FrameFacts};
use gstrsdetectnet::model::Labels;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|texts: (&str, &str)| {
    let (source, label) = texts;
    let labels = Labels::from_lines(label);
    let found = Detection {
        class_id: 0,
        confidence: 0.75,
        bounding_box: BoundingBox::from_corners(1.0, 2.0, 30.0, 40.0),
        object_id: None,
        oriented: None,
    };
    let facts = FrameFacts {
        width: 64,
        height: 48,
        ..FrameFacts::default()
    };
    let detections = [vec![found]];
    let line = json::line(source, &facts, &Timings::default(), &detections, &labels).expect("a line");
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    let read: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
    assert_eq!(read["source"], source);
    assert_eq!(read["objects"][0]["detection"]["label"], labels.get(0));
    if gst::init().is_ok() {
        message::structure(&facts, &detections, &labels);
    }
});
