//! The bundled model finds in the bundled pictures what an independent implementation finds.

mod common;

use common::*;
use gst::prelude::*;
use gst_video::VideoFormat;
use gstrsdetectnet::BoundingBox;

const PICTURES: [&str; 3] = ["astronaut.png", "chelsea.png", "coffee.png"];
/// The threshold of the reference.
const THRESHOLD: f32 = 0.25;

struct Expected {
    label: String,
    class_id: u32,
    confidence: f32,
    bounding_box: BoundingBox,
}

/// What tests/media/ssd-mobilenet-v2.expected.json says of a picture: found by ONNX Runtime, OpenCV and numpy.
fn expected(picture: &str) -> Vec<Expected> {
    let text = std::fs::read_to_string(tests_file("media/ssd-mobilenet-v2.expected.json")).unwrap();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let number = |v: &serde_json::Value| v.as_f64().unwrap() as f32;
    all[picture]["detections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| Expected {
            label: d["label"].as_str().unwrap().into(),
            class_id: d["class_id"].as_u64().unwrap() as u32,
            confidence: number(&d["confidence"]),
            bounding_box: BoundingBox {
                x: number(&d["box"][0]),
                y: number(&d["box"][1]),
                width: number(&d["box"][2]),
                height: number(&d["box"][3]),
            },
        })
        .collect()
}

fn assert_as_expected(
    picture: &str,
    sample: &gst::Sample,
    threshold: f32,
    iou: f32,
    confidence: f32,
) {
    let element = gst::ElementFactory::make("rsdetectnet")
        .property("threshold", threshold)
        .build()
        .unwrap();
    let found = detect_one(&element, sample);
    let expected = expected(picture);
    let expected: Vec<_> = expected
        .iter()
        .filter(|e| e.confidence > threshold)
        .collect();
    assert_eq!(found.len(), expected.len(), "{picture}: {found:?}");
    for (found, expected) in found.iter().zip(expected) {
        let detection = found.detection;
        assert_eq!(
            (&found.label, detection.class_id),
            (&expected.label, expected.class_id)
        );
        let difference = (detection.confidence - expected.confidence).abs();
        assert!(
            difference <= confidence,
            "{picture}: {found:?} differs by {difference}"
        );
        let overlap = detection.bounding_box.iou(&expected.bounding_box);
        assert!(overlap >= iou, "{picture}: {found:?} overlaps by {overlap}");
    }
}

#[test]
fn pictures_give_the_reference_s_labels_boxes_and_confidences() {
    init();
    for picture in PICTURES {
        let pixels = Picture::read_png(picture);
        let sample = pixels.converted(VideoFormat::Rgb, None);
        assert_as_expected(picture, &sample, THRESHOLD, 0.99, 0.01);
    }
}

#[test]
fn every_format_gives_the_same_objects() {
    init();
    // All that come share its model, which takes longest where processors are slow.
    let keeps_the_model = gst::ElementFactory::make("rsdetectnet").build().unwrap();
    keeps_the_model.set_state(gst::State::Paused).unwrap();
    // 4:2:0 loses chroma and limited range loses levels, so the confidences move a little.
    for format in gstrsdetectnet::frame::buffer::SYSTEM_FORMATS {
        if format == VideoFormat::Gray8 {
            continue;
        }
        for picture in ["chelsea.png", "coffee.png"] {
            let sample = Picture::read_png(picture).converted(format, None);
            assert_as_expected(picture, &sample, 0.5, 0.95, 0.06);
        }
    }
    keeps_the_model.set_state(gst::State::Null).unwrap();
}
