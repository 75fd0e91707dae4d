//! Models whose input is not the usual one: of open size, signed bytes, grey.

mod common;
#[path = "common/onnx.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod onnx;

use common::*;
use gstrsdetectnet::LabeledDetection;

/// A generated model of which the bytes of some fields are replaced by others of the same length.
fn patched(name: &str, from: &[u8], to: &[u8]) -> (tempfile::TempDir, String) {
    let mut bytes = std::fs::read(model(name)).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from);
    let at = at.expect("the model has such fields");
    bytes[at..at + from.len()].copy_from_slice(to);
    saved(&bytes)
}

fn saved(bytes: &[u8]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    std::fs::write(&path, bytes).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

/// Three channels of 64x64, and of any height and width: an empty name takes as many bytes as 64.
const FIXED: [u8; 12] = [0x0a, 2, 8, 3, 0x0a, 2, 8, 64, 0x0a, 2, 8, 64];
const OPEN: [u8; 12] = [0x0a, 2, 8, 3, 0x0a, 2, 0x12, 0, 0x0a, 2, 0x12, 0];

fn found(element: &gst::Element, picture: &Picture) -> Vec<LabeledDetection> {
    let mut harness = harness(element, &picture.info());
    let buffer = harness.push_and_pull(picture.buffer()).unwrap();
    gstrsdetectnet::detections(&buffer)
}

fn assert_finds_the_cell(element: &gst::Element) {
    let picture = Picture::grey(128, 64).with_cell(5, 2, RED);
    let found = found(element, &picture);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].label, "red");
    let iou = found[0].detection.bounding_box.iou(&picture.cell_box(5, 2));
    assert!(iou > 0.95, "{found:?}");
}

#[test]
fn convolutions_take_the_size_that_is_wanted_whatever_they_were_exported_for() {
    init();
    let element = || {
        gst::ElementFactory::make("rsdetectnet")
            .property("model", model("faces-10x3x32x32.onnx"))
            .property_from_str("backend", "onnxruntime")
    };
    let error = start_error(&element().build().unwrap());
    assert!(
        error.contains("set input-width and input-height"),
        "{error}"
    );
    let sized = element()
        .property("input-width", 64u32)
        .property("input-height", 64u32);
    let picture = Picture::grey(128, 64).with_cell(5, 2, RED);
    let found = found(&sized.build().unwrap(), &picture);
    assert_eq!(found.len(), 1, "{found:?}");
    let iou = found[0].detection.bounding_box.iou(&picture.cell_box(5, 2));
    assert!(iou > 0.95, "{found:?}");
}

#[test]
fn a_network_for_several_pictures_at_a_time_is_refused_with_their_number() {
    let any = b"\x0a\x07\x12\x05batch\x0a\x02\x08\x03";
    let four = b"\x0a\x07\x08\x84\x80\x80\x80\x80\x00\x0a\x02\x08\x03";
    let (_folder, path) = patched("colors-yolov5.onnx", any, four);
    let element = colors_element("colors-yolov5.onnx").property("model", path);
    let error = start_error(&element.build().unwrap());
    assert!(error.contains("takes 4 images at a time"), "{error}");
}

#[test]
fn the_size_of_an_open_input_is_that_of_properties_description_or_metadata() {
    let (folder, path) = patched("colors-ssd.onnx", &FIXED, &OPEN);
    let element = || colors_element("colors-ssd.onnx").property("model", path.clone());
    let error = start_error(&element().build().unwrap());
    assert!(
        error.contains("set input-width and input-height"),
        "{error}"
    );
    assert_finds_the_cell(&element().property("input-width", 64u32).build().unwrap());
    let of_both = element()
        .property("input-width", 64u32)
        .property("input-height", 64u32);
    assert_finds_the_cell(&of_both.build().unwrap());
    let info = "[modelinfo]\nversion=1.0\n[input]\ndir=input\ndims=-1,3,64,64\n";
    std::fs::write(folder.path().join("net.modelinfo"), info).unwrap();
    assert_finds_the_cell(&element().build().unwrap());

    let (_folder, path) = patched("colors-yolov5.onnx", &FIXED, &OPEN);
    let element = colors_element("colors-yolov5.onnx").property("model", path);
    // Stretched as the colours' cells need it.
    let picture = Picture::grey(64, 64).with_cell(5, 2, RED);
    let found = found(&element.build().unwrap(), &picture);
    assert_eq!(
        found.len(),
        1,
        "imgsz of the metadata is [64, 64]: {found:?}"
    );
}

#[test]
fn another_size_than_a_model_has_is_an_error_that_names_both() {
    let element = colors_element("colors-ssd.onnx").property("input-height", 32u32);
    let error = start_error(&element.build().unwrap());
    assert!(
        error.contains("32x32") && error.contains("64x64"),
        "{error}"
    );
}

#[test]
fn signed_bytes_are_pixels_less_128() {
    // The type of the input, and the beginning of its shape.
    let (_folder, path) = patched(
        "colors-ssd-nhwc-uint8.onnx",
        &[8, 2, 0x12, 0x10, 0x0a, 2, 8, 1],
        &[8, 3, 0x12, 0x10, 0x0a, 2, 8, 1],
    );
    let element = colors_element("colors-ssd-nhwc-uint8.onnx").property("model", path);
    assert_finds_the_cell(&element.build().unwrap());
}

/// Finds cells by their brightness: 0 for black and mid grey, 1 for white.
fn brightness() -> Vec<u8> {
    let corners: Vec<f32> = (0..64)
        .flat_map(|cell| {
            let (x, y) = ((cell % 8 * 8) as f32, (cell / 8 * 8) as f32);
            [x, y, x + 8.0, y + 8.0].map(|side| side / 64.0)
        })
        .collect();
    let nodes = [
        onnx::node(
            "AveragePool",
            &["picture"],
            "cells",
            &[
                onnx::ints("kernel_shape", &[8, 8]),
                onnx::ints("strides", &[8, 8]),
            ],
        ),
        onnx::node("Relu", &["cells"], "bright", &[]),
        onnx::node("Reshape", &["bright", "row"], "in_row", &[]),
        onnx::node("Sub", &["one", "in_row"], "background", &[]),
        onnx::node(
            "Concat",
            &["background", "in_row"],
            "scores",
            &[onnx::int("axis", 2)],
        ),
        onnx::node("Identity", &["corners"], "boxes", &[]),
    ];
    let tensors = [
        onnx::integers("row", &[3], &[1, 64, 1]),
        onnx::floats("one", &[], &[1.0]),
        onnx::floats("corners", &[1, 64, 4], &corners),
    ];
    let outputs = [
        onnx::value("scores", onnx::FLOAT, &[1, 64, 2]),
        onnx::value("boxes", onnx::FLOAT, &[1, 64, 4]),
    ];
    let input = onnx::value("picture", onnx::FLOAT, &[1, 1, 64, 64]);
    onnx::model(&nodes, &tensors, &[input], &outputs)
}

#[test]
fn models_for_grey_see_the_luma_of_colours() {
    init();
    let (folder, path) = saved(&brightness());
    std::fs::write(folder.path().join("net.names"), "background\nbright\n").unwrap();
    let element = gst::ElementFactory::make("rsdetectnet")
        .property("model", path)
        .property("threshold", 0.1f32)
        .property_from_str("backend", "onnxruntime")
        .build()
        .unwrap();
    let picture = Picture::grey(64, 64)
        .with_cell(1, 1, [255; 3])
        .with_cell(4, 4, GREEN)
        .with_cell(6, 6, RED)
        .with_cell(6, 2, BLUE);
    let found = found(&element, &picture);
    assert_eq!(found.len(), 2, "{found:?}");
    for (found, (cell, luma)) in found.iter().zip([((1, 1), 1.0), ((4, 4), 0.587)]) {
        // Of -1 to 1.
        let expected = luma * 2.0 - 1.0;
        assert_eq!(found.label, "bright");
        assert!(
            (found.detection.confidence - expected).abs() < 1e-3,
            "{found:?}"
        );
        let iou = found
            .detection
            .bounding_box
            .iou(&picture.cell_box(cell.0, cell.1));
        assert!(iou > 0.95, "{found:?}");
    }
}
