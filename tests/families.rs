//! Networks of several families through the whole element with ONNX Runtime: their types of tensors, their further
//! inputs, their metadata and descriptions.

#[allow(dead_code, reason = "the tests of decoding use the rest")]
#[path = "decode/cases.rs"]
mod cases;
mod common;

use cases::{Case, cases};
use common::*;
use gstrsdetectnet::LabeledDetection;

/// The generated network of a case.
fn network(name: &str) -> String {
    let path = tests_file("decode/models")
        .join(name)
        .with_extension("onnx");
    path.to_str().unwrap().to_owned()
}

fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

/// What the element with this model finds in a frame of the case's size.
fn found(case: &Case, model: &str, decoder: &str) -> Vec<LabeledDetection> {
    init();
    let element = gst::ElementFactory::make("rsdetectnet")
        .property("model", model)
        .property("decoder", decoder)
        .property_from_str("backend", "onnxruntime")
        .property("max-detections", 300u32)
        .build()
        .unwrap();
    let (width, height) = (case.placement.frame_width, case.placement.frame_height);
    let picture = Picture::grey(width as u32, height as u32);
    let mut harness = harness(&element, &picture.info());
    let buffer = harness.push_and_pull(picture.buffer()).unwrap();
    gstrsdetectnet::detections(&buffer)
}

fn check(name: &str, found: &[LabeledDetection]) {
    let case = case(name);
    assert_eq!(found.len(), case.expected.len(), "{name}: {found:?}");
    for (found, expected) in found.iter().zip(&case.expected) {
        let [class, confidence, left, top, right, bottom] = *expected;
        let wanted = gstrsdetectnet::BoundingBox::from_corners(left, top, right, bottom);
        let detection = &found.detection;
        assert_eq!(detection.class_id, class as u32, "{name}: {found:?}");
        assert!(
            (detection.confidence - confidence).abs() < 2e-3,
            "{name}: {found:?}"
        );
        assert!(
            detection.bounding_box.iou(&wanted) > 0.98,
            "{name}: {found:?} instead of {wanted:?}"
        );
    }
}

#[test]
fn networks_of_many_families_run_as_they_are() {
    for entry in std::fs::read_dir(tests_file("decode/models")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        check(name, &found(&case(name), path.to_str().unwrap(), "auto"));
    }
}

#[test]
fn turned_boxes_keep_their_shape_beside_the_upright_box_around_them() {
    for found in found(&case("yolo-obb"), &network("yolo-obb"), "auto") {
        let detection = found.detection;
        let oriented = detection.oriented.unwrap();
        assert!(oriented.rectangle.width > 0.0 && (-0.71..2.31).contains(&oriented.angle));
        let around = oriented.bounding_box().clipped_to(200.0, 90.0);
        assert!(detection.bounding_box.iou(&around) > 0.999, "{detection:?}");
    }
    for found in found(&case("yolov8"), &network("yolov8"), "auto") {
        assert_eq!(found.detection.oriented, None);
    }
}

#[test]
fn labels_in_the_model_s_metadata_name_what_is_found() {
    let found = found(&case("tf-detection"), &network("tf-detection"), "auto");
    for found in found {
        // The metadata lists no background, which is class 0.
        assert_eq!(
            found.label,
            format!("label {}", found.detection.class_id - 1)
        );
    }
}

/// A copy of a network in a folder of its own, with a description and other files beside it.
fn described(name: &str, copy: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join(copy);
    std::fs::copy(network(name), &model).unwrap();
    for (file, text) in files {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    let model = model.to_str().unwrap().to_owned();
    (folder, model)
}

#[test]
fn a_modelinfo_beside_the_model_sets_labels_and_what_is_done_to_pixels() {
    let info = "[modelinfo]\nversion=1.0\nlabels=things.names\nresize=stretch\n[image]\ndir=input\nranges=0.0,1.0\n";
    let files = [
        ("net.onnx.modelinfo", info),
        ("things.names", "cat\ndog\ncow\n"),
    ];
    let (_folder, model) = described("yolov10", "net.onnx", &files);
    let case = case("yolov10");
    let found = found(&case, &model, "auto");
    assert!(!found.is_empty());
    assert!(
        found
            .iter()
            .all(|found| ["cat", "dog", "cow"].contains(&found.label.as_str()))
    );
    // Stretched, the boxes are elsewhere than letterboxed ones: those of the case in the frame's own proportions.
    let [_, confidence, left, top, right, bottom] = case.expected[0];
    let same = |found: &&LabeledDetection| (found.detection.confidence - confidence).abs() < 1e-4;
    let b = found.iter().find(same).unwrap().detection.bounding_box;
    assert!(
        (b.width - (right - left)).abs() < 1.0,
        "the letterbox fills the width"
    );
    assert!(
        (b.height - (bottom - top)).abs() > 1.0,
        "{b:?} was letterboxed"
    );
}

#[test]
fn decoder_wins_over_the_modelinfo_and_a_contradiction_is_an_error() {
    let info = [("net.modelinfo", "[modelinfo]\nversion=1.0\ndecoder=yolox\n")];
    let (_folder, model) = described("yolov10", "net.onnx", &info);
    let case = case("yolov10");
    check("yolov10", &found(&case, &model, "yolov10"));
    for (decoder, wanted) in [
        ("auto", "not those of decoder=yolox"),
        ("rt-detr", "not those of decoder=rt-detr: `labels`"),
        ("yolo5", "decoder=yolo5 is none of auto, ssd, "),
    ] {
        let error = error_of(&model, decoder);
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn a_modelinfo_that_was_written_is_read_as_the_same_and_found_is_the_same() {
    use gst::prelude::*;
    init();
    for entry in std::fs::read_dir(tests_file("decode/models")).unwrap() {
        let path = entry.unwrap().path();
        let case = case(path.file_stem().unwrap().to_str().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("net.onnx");
        std::fs::copy(&path, &model).unwrap();
        let model = model.to_str().unwrap();
        let write = |to: &str| {
            let element = gst::ElementFactory::make("rsdetectnet")
                .property("model", model)
                .property("decoder", case.family.to_string())
                .property("modelinfo-out", folder.path().join(to).to_str().unwrap())
                .property_from_str("backend", "onnxruntime")
                .build()
                .unwrap();
            let bus = listen(&element);
            element.set_state(gst::State::Paused).unwrap();
            element.set_state(gst::State::Null).unwrap();
            let warning = bus.pop_filtered(&[gst::MessageType::Warning]);
            assert!(warning.is_none(), "{}: {warning:?}", case.name);
            std::fs::read_to_string(folder.path().join(to)).unwrap()
        };
        let expected = found(&case, model, "auto");
        let text = write("net.onnx.modelinfo");
        assert!(text.contains(&format!("decoder={}", case.family)), "{text}");
        assert!(
            text.contains("dir=input") && text.contains("dir=output"),
            "{text}"
        );
        let again = found(&case, model, "auto");
        assert_eq!(again, expected, "{}: {text}", case.name);
        // What is written of a model with a description is that description.
        let second = write("second.modelinfo");
        let labels = |text: &str| text.replace("labels=second", "labels=net.onnx");
        assert_eq!(labels(&second), text, "{}", case.name);
    }
}

#[test]
fn a_description_that_says_something_else_is_not_overwritten() {
    use gst::prelude::*;
    init();
    let info = [("mine.modelinfo", "[modelinfo]\nversion=1.0\n")];
    let (folder, model) = described("yolov8", "net.onnx", &info);
    let mine = folder.path().join("mine.modelinfo");
    let element = gst::ElementFactory::make("rsdetectnet")
        .property("model", model)
        .property("modelinfo-out", mine.to_str().unwrap())
        .property_from_str("backend", "onnxruntime")
        .build()
        .unwrap();
    let bus = listen(&element);
    element.set_state(gst::State::Paused).unwrap();
    let warning = bus.pop_filtered(&[gst::MessageType::Warning]).unwrap();
    element.set_state(gst::State::Null).unwrap();
    let gst::MessageView::Warning(warning) = warning.view() else {
        unreachable!()
    };
    let text = warning.error().to_string();
    assert!(text.contains("mine.modelinfo was not written"), "{text}");
    assert_eq!(std::fs::read_to_string(mine).unwrap(), info[0].1);
}

#[test]
fn what_speaks_against_a_model_is_told_once_on_the_bus_of_each_element() {
    init();
    // Its scores are logits, which this calls probabilities.
    let info = [(
        "net.modelinfo",
        "[modelinfo]\nversion=1.0\nactivation=none\n",
    )];
    let (_folder, model) = described("rf-detr", "net.onnx", &info);
    let case = case("rf-detr");
    let (width, height) = (case.placement.frame_width, case.placement.frame_height);
    let picture = Picture::grey(width as u32, height as u32);
    let play = || {
        let element = gst::ElementFactory::make("rsdetectnet")
            .property("model", &model)
            .property_from_str("backend", "onnxruntime")
            .build()
            .unwrap();
        let mut harness = harness(&element, &picture.info());
        let bus = listen(&element);
        for _ in 0..30 {
            harness.push_and_pull(picture.buffer()).unwrap();
        }
        let warnings = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Warning]));
        let texts: Vec<_> = warnings
            .map(|message| match message.view() {
                gst::MessageView::Warning(warning) => warning.error().to_string(),
                _ => String::new(),
            })
            .collect();
        (harness, texts)
    };
    let (_first, texts) = play();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("those of rf-detr are not"), "{texts:?}");
    // It shares the model of the first.
    let (_second, texts) = play();
    assert_eq!(texts.len(), 1, "{texts:?}");
}

fn error_of(model: &str, decoder: &str) -> String {
    let element = gst::ElementFactory::make("rsdetectnet")
        .property("model", model)
        .property("decoder", decoder)
        .property_from_str("backend", "onnxruntime");
    start_error(&element.build().unwrap())
}

#[test]
fn a_broken_modelinfo_is_named_with_its_line() {
    init();
    let info = [("net.modelinfo", "[modelinfo]\nversion=1.0\nmean=1,2\n")];
    let (_folder, model) = described("yolov10", "net.onnx", &info);
    let error = error_of(&model, "auto");
    assert!(
        error.contains("net.modelinfo, line 3: mean=1,2 is neither"),
        "{error}"
    );
}

#[test]
fn sizes_and_overlaps_across_classes_are_limited_by_properties() {
    init();
    let case = case("yolov8");
    let (width, height) = (
        case.placement.frame_width as u32,
        case.placement.frame_height as u32,
    );
    let element = gst::ElementFactory::make("rsdetectnet")
        .property("model", network("yolov8"))
        .property("class-agnostic", true)
        .property("min-size", 20u32)
        .property("max-size", 60u32)
        .property_from_str("backend", "onnxruntime")
        .build()
        .unwrap();
    let picture = Picture::grey(width, height);
    let mut harness = harness(&element, &picture.info());
    let buffer = harness.push_and_pull(picture.buffer()).unwrap();
    let found = gstrsdetectnet::detections(&buffer);
    assert!(!found.is_empty() && found.len() < case.expected.len());
    for (i, a) in found.iter().enumerate() {
        let a = a.detection.bounding_box;
        assert!(
            a.width.min(a.height) >= 19.9 && a.width.max(a.height) <= 60.1,
            "{a:?}"
        );
        for b in &found[..i] {
            assert!(a.iou(&b.detection.bounding_box) <= 0.51);
        }
    }
}
