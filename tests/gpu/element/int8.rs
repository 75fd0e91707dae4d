//! Models that are explicitly quantised: in int8 where TensorRT has it, else with the same results in float16.

use std::env;
use std::fs;
use std::path::PathBuf;

use gst::prelude::*;
use gst_video::VideoFormat;
use gstrsdetectnet::engine::tensorrt::library;

use crate::common::{Picture, assert_found, init};
use crate::media::{COLORS_SSD_INT8, PICTURES, THRESHOLD, expected_in, picture, shared_cache};
use crate::parity::{Tolerance, assert_as_expected};
use crate::stream::{colorful, inspect, uploads};

/// Engines round at other places than ONNX Runtime, each time by half a step of a hundred or so.
const INT8: Tolerance = Tolerance {
    iou: 0.85,
    confidence: 0.1,
};

/// The precisions in which this TensorRT takes quantised models.
fn precisions() -> &'static [&'static str] {
    if library().unwrap().has_int8_convolutions() {
        &["int8", "auto"]
    } else {
        println!(
            "NOT TESTED: int8, which {} lacks",
            library().unwrap().version()
        );
        &["auto"]
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_small_quantised_model_finds_exactly_the_known_boxes() {
    let (colorful, wanted) = colorful();
    let grey = Picture::grey(256, 256);
    for precision in precisions() {
        let detector = COLORS_SSD_INT8.detector_in(precision, &shared_cache());
        let mut upstreams = vec!["appsrc name=source".to_owned()];
        upstreams.extend(uploads(VideoFormat::Nv12));
        for upstream in upstreams {
            let samples = [&colorful, &grey].map(|p| p.converted(VideoFormat::Nv12, None));
            let seen = inspect(&upstream, &detector, &samples);
            assert_found(&seen[0].detections, &wanted, 0.99, 0.9);
            assert_found(&seen[1].detections, &[], 0.99, 0.9);
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn where_there_is_no_int8_asking_for_it_is_one_sentence() {
    if library().unwrap().has_int8_convolutions() {
        println!("NOT TESTED: {} has int8", library().unwrap().version());
        return;
    }
    init();
    let description = COLORS_SSD_INT8.detector_in("int8", &shared_cache());
    let element = gst::parse::launch(&description).unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Paused).is_err());
    let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else {
        unreachable!("only errors were asked for");
    };
    let error = error.error().to_string();
    element.set_state(gst::State::Null).unwrap();
    println!("{error}");
    assert!(error.contains("precision=auto"), "{error}");
}

/// `QDQ=ssd-int8.onnx`, which tests/gpu/quantize.py makes with the results of ONNX Runtime beside it.
#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_quantised_detector_finds_what_onnx_runtime_finds_with_it() {
    let Some(model) = env::var_os("QDQ").map(PathBuf::from) else {
        println!("NOT TESTED: QDQ names no model of tests/gpu/quantize.py");
        return;
    };
    let expected = fs::read_to_string(model.with_extension("expected.json")).unwrap();
    for precision in precisions() {
        let detector = format!(
            "rsdetectnet name=detector backend=tensorrt precision={precision} model={} threshold={THRESHOLD} \
             engine-cache={}",
            model.display(),
            shared_cache().display()
        );
        for name in PICTURES {
            let sample = picture(name).converted(VideoFormat::Rgb, None);
            let seen = inspect("appsrc name=source", &detector, &[sample]);
            let found = &seen[0].detections;
            for found in found {
                println!(
                    "{precision} {name}: {} {:.3} {:?}",
                    found.label, found.detection.confidence, found.detection.bounding_box
                );
            }
            let expected = expected_in(&expected, name);
            println!("ONNX Runtime: {expected:?}");
            let what = format!("{precision} {name}");
            assert_as_expected(&what, found, &expected, THRESHOLD, INT8);
        }
    }
}
