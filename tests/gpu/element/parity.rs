//! The element finds on a GPU what an independent implementation finds, from every memory in every format.

use gst_video::VideoFormat;
use gstrsdetectnet::LabeledDetection;
use gstrsdetectnet::frame::buffer::SYSTEM_FORMATS;

use crate::common::{Picture, assert_found};
use crate::media::{
    COLORS_SSD, COLORS_SSD_UINT8, COLORS_YOLO, Expected, PICTURES, THRESHOLD, bundled_detector,
    expected, picture, shared_cache,
};
use crate::stream::{colorful, inspect, uploads};

/// How far a detection may be from the reference.
#[derive(Clone, Copy)]
pub struct Tolerance {
    pub iou: f32,
    pub confidence: f32,
}

const FP32: Tolerance = Tolerance {
    iou: 0.99,
    confidence: 0.01,
};
const FP16: Tolerance = Tolerance {
    iou: 0.95,
    confidence: 0.03,
};
/// 4:2:0 loses chroma and limited range loses levels.
const OTHER_FORMAT: Tolerance = Tolerance {
    iou: 0.95,
    confidence: 0.06,
};

/// Asserts that all is found that must be, and nothing that must not; what lies so near to the threshold that the
/// tolerance decides may be found or not.
pub fn assert_as_expected(
    what: &str,
    found: &[LabeledDetection],
    expected: &[Expected],
    threshold: f32,
    tolerance: Tolerance,
) {
    let certain = threshold + tolerance.confidence;
    let same = |found: &LabeledDetection, expected: &Expected| {
        let detection = found.detection;
        (&found.label, detection.class_id) == (&expected.label, expected.class_id)
            && (detection.confidence - expected.confidence).abs() <= tolerance.confidence
            && detection.bounding_box.iou(&expected.bounding_box) >= tolerance.iou
    };
    for expected in expected.iter().filter(|e| e.confidence > certain) {
        let hits = found.iter().filter(|found| same(found, expected)).count();
        assert_eq!(hits, 1, "{what}: {expected:?} in {found:?}");
    }
    for found in found.iter().filter(|f| f.detection.confidence > certain) {
        let wanted = expected.iter().any(|expected| same(found, expected));
        assert!(wanted, "{what}: {found:?} in {expected:?}");
    }
}

/// The pictures of tests/media in one format through the element.
fn check_pictures(
    upstream: &str,
    precision: &str,
    format: VideoFormat,
    pictures: &[&str],
    threshold: f32,
    tolerance: Tolerance,
) {
    // Each format has a stream of its own for each picture, as elements differ in how they take new caps.
    for name in pictures {
        let sample = picture(name).converted(format, None);
        let detector = format!(
            "{} threshold={threshold}",
            bundled_detector(precision, &shared_cache())
        );
        let seen = inspect(upstream, &detector, &[sample]);
        assert_eq!(seen.len(), 1);
        let what = format!("{precision} {format} through {upstream}, {name}");
        let expected = expected(name);
        assert_as_expected(&what, &seen[0].detections, &expected, threshold, tolerance);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn pictures_give_the_reference_s_labels_boxes_and_confidences_in_fp32_and_fp16() {
    for (precision, tolerance) in [("fp32", FP32), ("fp16", FP16)] {
        check_pictures(
            "appsrc name=source",
            precision,
            VideoFormat::Rgb,
            &PICTURES,
            THRESHOLD,
            tolerance,
        );
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn every_format_of_system_memory_gives_the_same_objects() {
    for format in SYSTEM_FORMATS {
        // The bundled model was trained on colours.
        if format != VideoFormat::Gray8 {
            let pictures = ["chelsea.png", "coffee.png"];
            check_pictures(
                "appsrc name=source",
                "fp32",
                format,
                &pictures,
                0.4,
                OTHER_FORMAT,
            );
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn every_format_in_gpu_memory_gives_the_same_objects() {
    for format in SYSTEM_FORMATS {
        if matches!(format, VideoFormat::Gray8 | VideoFormat::Xrgb) {
            continue;
        }
        for upstream in uploads(format) {
            let pictures = ["chelsea.png", "coffee.png"];
            check_pictures(&upstream, "fp32", format, &pictures, 0.4, OTHER_FORMAT);
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn pictures_in_gpu_memory_give_the_reference_s_detections_in_fp32_and_fp16() {
    for upstream in uploads(VideoFormat::Rgba) {
        for (precision, tolerance) in [("fp32", FP32), ("fp16", FP16)] {
            let format = VideoFormat::Rgba;
            check_pictures(
                &upstream, precision, format, &PICTURES, THRESHOLD, tolerance,
            );
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn generated_models_of_every_kind_find_exactly_the_known_boxes() {
    let (colorful, wanted) = colorful();
    let grey = Picture::grey(256, 256);
    for model in [COLORS_SSD, COLORS_SSD_UINT8, COLORS_YOLO] {
        let detector = model.detector(&shared_cache());
        let mut upstreams = vec!["appsrc name=source".to_owned()];
        upstreams.extend(uploads(VideoFormat::Nv12));
        for upstream in upstreams {
            let samples =
                [&colorful, &grey, &colorful].map(|p| p.converted(VideoFormat::Nv12, None));
            let seen = inspect(&upstream, &detector, &samples);
            assert_eq!(seen.len(), 3, "{upstream} ! {detector}");
            assert_found(&seen[0].detections, &wanted, 0.99, 0.9);
            assert_found(&seen[1].detections, &[], 0.99, 0.9);
            assert_eq!(seen[0].detections, seen[2].detections);
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn generated_models_find_the_known_boxes_in_every_format() {
    let (picture, wanted) = colorful();
    for format in SYSTEM_FORMATS
        .into_iter()
        .filter(|f| *f != VideoFormat::Gray8)
    {
        let mut upstreams = vec!["appsrc name=source".to_owned()];
        if format != VideoFormat::Xrgb {
            upstreams.extend(uploads(format));
        }
        for upstream in upstreams {
            let sample = picture.converted(format, None);
            let seen = inspect(&upstream, &COLORS_SSD.detector(&shared_cache()), &[sample]);
            assert_found(&seen[0].detections, &wanted, 0.99, 0.9);
        }
    }
}
