//! Files that are no model, or no labels.

use std::path::Path;
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::common::*;

/// The error with which the element refuses these files.
fn refusal(model: &Path, labels: Option<&Path>) -> String {
    init();
    let mut element = gst::ElementFactory::make("rsdetectnet").property("model", model.to_str());
    if let Some(labels) = labels {
        element = element.property("labels", labels.to_str());
    }
    start_error(&element.build().unwrap())
}

#[test]
fn a_sparse_file_of_two_gigabytes_is_refused_without_being_held_in_memory_or_read_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let sparse = folder.path().join("sparse.onnx");
    let file = std::fs::File::create(&sparse).unwrap();
    file.set_len(2 << 30).unwrap();
    let begin = Instant::now();
    let error = refusal(&sparse, None);
    assert!(error.contains("sparse.onnx"), "{error}");
    assert!(
        begin.elapsed() < Duration::from_secs(30),
        "{:?}",
        begin.elapsed()
    );
    assert!(peak_memory() < 1 << 30, "{} bytes", peak_memory());
}

#[test]
fn a_folder_a_pipe_and_a_device_are_no_models_and_stop_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.onnx");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for path in [folder.path(), &pipe, Path::new("/dev/zero")] {
        let error = refusal(path, None);
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        let error = refusal(model("colors-ssd.onnx").as_ref(), Some(path));
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn labels_that_are_too_many_or_no_text_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let labels = folder.path().join("labels.txt");
    let model = model("colors-ssd.onnx");
    std::fs::write(&labels, "one\n".repeat(200)).unwrap();
    let error = refusal(model.as_ref(), Some(&labels));
    assert!(error.contains("holds 200 labels"), "{error}");
    std::fs::write(&labels, b"red\n\xff\xfe\x80\n").unwrap();
    let error = refusal(model.as_ref(), Some(&labels));
    assert!(
        error.contains("labels.txt") && error.contains("UTF-8"),
        "{error}"
    );
    std::fs::File::create(&labels)
        .unwrap()
        .set_len(1 << 31)
        .unwrap();
    let error = refusal(model.as_ref(), Some(&labels));
    assert!(error.contains("labels.txt"), "{error}");
    assert!(peak_memory() < 1 << 30, "{} bytes", peak_memory());
}

#[test]
fn counters_of_a_start_that_fails_begin_at_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    std::fs::copy(tests_file("models/colors-ssd.onnx"), &model).unwrap();
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    element.set_property("model", model.to_str().unwrap());
    let picture = four_cells();
    let sample = gst::Sample::builder()
        .buffer(&picture.buffer())
        .caps(&picture.info().to_caps().unwrap())
        .build();
    assert_eq!(detect_one(&element, &sample).len(), 4);
    element.set_state(gst::State::Null).unwrap();
    assert_eq!(gstrsdetectnet::stats(&element).unwrap().frames, 1);
    std::fs::remove_file(model).unwrap();
    start_error(&element);
    let stats = gstrsdetectnet::stats(&element).unwrap();
    assert_eq!((stats.frames, stats.inspected, stats.detections), (0, 0, 0));
}
