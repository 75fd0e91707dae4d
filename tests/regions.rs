//! Regions and tiles of frames, through the whole element.

mod common;

use common::*;
use gst::prelude::*;
use gstrsdetectnet::{BoundingBox, LabeledDetection};

/// The boxes found in a frame, from left to right.
fn boxes(element: &gst::Element, picture: &Picture) -> Vec<BoundingBox> {
    let mut harness = harness(element, &picture.info());
    let buffer = harness.push_and_pull(picture.buffer()).unwrap();
    let found = gstrsdetectnet::detections(&buffer);
    let mut boxes: Vec<_> = found.iter().map(box_of).collect();
    boxes.sort_by(|a, b| a.x.total_cmp(&b.x));
    boxes
}

fn box_of(found: &LabeledDetection) -> BoundingBox {
    found.detection.bounding_box
}

fn assert_boxes(found: &[BoundingBox], expected: &[[f32; 4]]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, [x, y, width, height]) in found.iter().zip(expected) {
        let expected = BoundingBox {
            x: *x,
            y: *y,
            width: *width,
            height: *height,
        };
        assert!(found.iou(&expected) > 0.95, "{found:?}, not {expected:?}");
    }
}

/// What the model sees in 64x64 pixels is 8x8 pixels large.
fn small_objects() -> Picture {
    Picture::grey(256, 192)
        .with_block(8, 16, 8, 8, RED)
        // In two tiles that begin at 0 and at 48.
        .with_block(48, 48, 8, 8, RED)
        .with_block(200, 152, 8, 8, RED)
}

#[test]
fn tiles_find_what_is_too_small_in_the_whole_and_each_object_once() {
    let whole = colors_element("colors-ssd.onnx").build().unwrap();
    assert_boxes(&boxes(&whole, &small_objects()), &[]);
    let tiled = colors_element("colors-ssd.onnx")
        .property("tiles", "64x64")
        .property("tile-overlap", 0.25f32)
        .build()
        .unwrap();
    let expected = [
        [8.0, 16.0, 8.0, 8.0],
        [48.0, 48.0, 8.0, 8.0],
        [200.0, 152.0, 8.0, 8.0],
    ];
    assert_boxes(&boxes(&tiled, &small_objects()), &expected);
    // What fills the frame is found in the whole, beside the tiles.
    let large = Picture::grey(256, 192).with_cell(3, 4, GREEN);
    let found = boxes(&tiled, &large);
    assert!(
        found
            .iter()
            .any(|found| found.iou(&large.cell_box(3, 4)) > 0.95),
        "{found:?}"
    );
}

#[test]
fn only_regions_are_inspected_each_in_the_size_of_the_input() {
    let in_region = |region: &str| {
        let element = colors_element("colors-ssd.onnx")
            .property("inference-region", region.to_owned())
            .build()
            .unwrap();
        boxes(&element, &small_objects())
    };
    let (left, right) = ([8.0, 16.0, 8.0, 8.0], [200.0, 152.0, 8.0, 8.0]);
    assert_boxes(&in_region("0,0,64,64"), &[left, [48.0, 48.0, 8.0, 8.0]]);
    assert_boxes(&in_region("64,0,64,48; 192,128,64,64"), &[right]);
    assert_boxes(&in_region("192,128,25%,64"), &[right]);
    // A triangle in the same 64x64 pixels, above the line from the lower left corner to the right upper one.
    assert_boxes(&in_region("0,0 64,0 0,64"), &[left]);
}

#[test]
fn regions_are_tiled_too() {
    let element = colors_element("colors-ssd.onnx")
        .property("inference-region", "128,64,128,128")
        .property("tiles", "64x64")
        .property("tile-overlap", 0.0f32)
        .build()
        .unwrap();
    assert_boxes(
        &boxes(&element, &small_objects()),
        &[[200.0, 152.0, 8.0, 8.0]],
    );
}

#[test]
fn regions_change_while_playing_and_a_bad_one_leaves_the_earlier_in_force() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let picture = small_objects();
    let mut harness = harness(&element, &picture.info());
    let bus = listen(&element);
    let mut found = || {
        let buffer = harness.push_and_pull(picture.buffer()).unwrap();
        gstrsdetectnet::detections(&buffer).len()
    };
    assert_eq!(found(), 0);
    element.set_property("inference-region", "0,0,64,64");
    assert_eq!(found(), 2);
    element.set_property("inference-region", "0,0,64");
    assert_eq!(found(), 2);
    let warning = bus.pop_filtered(&[gst::MessageType::Warning]).unwrap();
    let gst::MessageView::Warning(warning) = warning.view() else {
        unreachable!()
    };
    let text = warning.error().to_string();
    assert!(
        text.contains("'0,0,64' is neither x,y,width,height"),
        "{text}"
    );
    element.set_property("inference-region", "");
    assert_eq!(found(), 0);
}

#[test]
fn a_region_outside_of_the_frames_is_an_error_that_names_both() {
    let element = colors_element("colors-ssd.onnx")
        .property("inference-region", "300,0,64,64")
        .build()
        .unwrap();
    let picture = small_objects();
    let mut harness = harness(&element, &picture.info());
    let bus = listen(&element);
    assert!(harness.push(picture.buffer()).is_err());
    let error = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = error.view() else {
        unreachable!()
    };
    let text = error.error().to_string();
    assert!(
        text.contains("300,0,64,64") && text.contains("256x192"),
        "{text}"
    );
}

#[test]
fn models_that_want_frames_cropped_see_their_middle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    std::fs::copy(model("colors-ssd.onnx"), &path).unwrap();
    let info = "[modelinfo]\nversion=1.0\nresize=crop\n";
    std::fs::write(folder.path().join("net.modelinfo"), info).unwrap();
    let element = colors_element("colors-ssd.onnx")
        .property("model", path.to_str().unwrap().to_owned())
        .build()
        .unwrap();
    let picture = Picture::grey(128, 64)
        .with_block(8, 8, 8, 8, RED)
        .with_block(40, 16, 8, 8, GREEN);
    assert_boxes(&boxes(&element, &picture), &[[40.0, 16.0, 8.0, 8.0]]);
}
