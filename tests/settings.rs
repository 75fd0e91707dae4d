//! What the properties promise, also while playing.

mod common;

use common::*;
use gst::prelude::*;

fn labels_found(harness: &mut gst_check::Harness) -> Vec<String> {
    let buffer = harness.push_and_pull(four_cells().buffer()).unwrap();
    gstrsdetectnet::detections(&buffer)
        .into_iter()
        .map(|d| d.label)
        .collect()
}

#[test]
fn thresholds_classes_and_limits_take_effect_while_playing() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let mut harness = harness(&element, &four_cells().info());
    assert_eq!(labels_found(&mut harness), ["red", "red", "blue", "green"]);
    element.set_property("threshold", 0.7f32);
    assert_eq!(labels_found(&mut harness), ["red", "red", "blue"]);
    element.set_property("classes", "green:0.55,Blue");
    assert_eq!(labels_found(&mut harness), ["blue", "green"]);
    element.set_property("classes", None::<&str>);
    element.set_property("max-detections", 2u32);
    assert_eq!(labels_found(&mut harness), ["red", "red"]);
}

#[test]
fn a_wrong_value_while_playing_is_a_warning_and_the_earlier_one_stays() {
    let element = colors_element("colors-ssd.onnx")
        .property("classes", "red")
        .build()
        .unwrap();
    let mut harness = harness(&element, &four_cells().info());
    let bus = listen(&element);
    assert_eq!(labels_found(&mut harness), ["red", "red"]);
    element.set_property("classes", "violet");
    assert_eq!(labels_found(&mut harness), ["red", "red"]);
    let message = bus.pop_filtered(&[gst::MessageType::Warning]).unwrap();
    let gst::MessageView::Warning(warning) = message.view() else {
        unreachable!()
    };
    assert!(
        warning.error().to_string().contains("no class 'violet'"),
        "{warning:?}"
    );
}

/// A red cell behind grey bars 10 pixels wide, one for each of the 30 columns under a pixel of the network's input:
/// the nearest columns to the middle are grey, two thirds of all are red.
#[test]
fn area_scaling_finds_what_bilinear_scaling_looks_past() {
    init();
    let mut picture = Picture::grey(1920, 1080).with_cell(3, 4, RED);
    for bar in 0..8 {
        picture = picture.with_block(3 * 240 + 30 * bar + 10, 4 * 135, 10, 135, [114; 3]);
    }
    let sample = gst::Sample::builder()
        .buffer(&picture.buffer())
        .caps(&picture.info().to_caps().unwrap())
        .build();
    let found = |scaling: &'static str| {
        let builder = colors_element("colors-ssd.onnx").property_from_str("scaling", scaling);
        detect_one(&builder.build().unwrap(), &sample)
    };
    assert_found(&found("bilinear"), &[], 1.0, 1.0);
    let found = found("area");
    assert_found(&found, &[("red", picture.cell_box(3, 4))], 0.99, 0.5);
    let confidence = found[0].detection.confidence;
    assert!((confidence - 2.0 / 3.0).abs() < 1e-3, "{confidence}");
}

#[test]
fn post_messages_posts_every_inspected_frame_with_its_objects() {
    let element = colors_element("colors-ssd.onnx")
        .property("post-messages", true)
        .build()
        .unwrap();
    let mut harness = harness(&element, &four_cells().info());
    let bus = listen(&element);
    let mut buffer = four_cells().buffer();
    buffer
        .get_mut()
        .unwrap()
        .set_pts(gst::ClockTime::from_mseconds(40));
    harness.push_and_pull(buffer).unwrap();
    harness
        .push_and_pull(Picture::grey(64, 64).buffer())
        .unwrap();
    let mut frames = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Element]))
        .map(|message| message.structure().unwrap().to_owned());
    let first = frames.next().unwrap();
    assert_eq!(first.name(), "rsdetectnet");
    assert_eq!(first.get::<u64>("timestamp"), Ok(40_000_000));
    assert_eq!(
        (first.get::<u64>("frame"), first.get::<u32>("width")),
        (Ok(0), Ok(64))
    );
    let objects = first.get::<gst::Array>("objects").unwrap();
    assert_eq!(objects.len(), 4);
    let blue = objects[2].get::<gst::Structure>().unwrap();
    assert_eq!(blue.get::<&str>("label"), Ok("blue"));
    assert_eq!(blue.get::<i32>("label_id"), Ok(3));
    assert_eq!(blue.get::<f64>("x").unwrap().round(), 40.0);
    assert_eq!(blue.get::<f64>("w").unwrap().round(), 8.0);
    let second = frames.next().unwrap();
    assert_eq!(second.get::<gst::Array>("objects").unwrap().len(), 0);
    assert!(frames.next().is_none());
}

#[test]
fn the_region_of_interest_carries_what_dl_streamer_reads() {
    let element = colors_element("colors-ssd.onnx")
        .property("classes", "blue")
        .build()
        .unwrap();
    let mut harness = harness(&element, &four_cells().info());
    let buffer = harness.push_and_pull(four_cells().buffer()).unwrap();
    let roi = buffer
        .meta::<gst_video::VideoRegionOfInterestMeta>()
        .unwrap();
    assert_eq!((roi.roi_type(), roi.rect()), ("blue", (40, 40, 8, 8)));
    let detection = roi.param("detection").unwrap();
    assert_eq!(detection.get::<i32>("label_id"), Ok(3));
    assert!(detection.get::<f64>("confidence").unwrap() > 0.99);
    for (field, value) in [
        ("x_min", 0.625),
        ("y_min", 0.625),
        ("x_max", 0.75),
        ("y_max", 0.75),
    ] {
        assert!(
            (detection.get::<f64>(field).unwrap() - value).abs() < 1e-4,
            "{field}"
        );
    }
}

#[test]
fn metadata_none_leaves_the_frame_bare_and_may_change_while_playing() {
    let element = colors_element("colors-ssd.onnx")
        .property("metadata", "none")
        .build()
        .unwrap();
    let mut harness = harness(&element, &four_cells().info());
    let mut found = || {
        let buffer = harness.push_and_pull(four_cells().buffer()).unwrap();
        gstrsdetectnet::detections(&buffer).len()
    };
    assert_eq!(found(), 0);
    element.set_property("metadata", "roi");
    assert_eq!(found(), 4);
}

#[test]
fn an_overlay_draws_a_box_around_the_object_and_leaves_the_rest() {
    let element = colors_element("colors-ssd.onnx")
        .property("overlay", "box")
        .property("classes", "blue")
        .build()
        .unwrap();
    let mut harness = harness(&element, &four_cells().info());
    let buffer = harness.push_and_pull(four_cells().buffer()).unwrap();
    let (before, after) = (four_cells(), buffer.map_readable().unwrap());
    let changed: Vec<_> = (0..64 * 64)
        .filter(|i| before.rgb[i * 3..][..3] != after[i * 3..][..3])
        .map(|i| (i % 64, i / 64))
        .collect();
    assert!(!changed.is_empty());
    for (x, y) in changed {
        assert!(
            (39..49).contains(&x) && (39..49).contains(&y),
            "({x},{y}) is not near the object"
        );
        assert!(
            !((43..45).contains(&x) && (43..45).contains(&y)),
            "({x},{y}) is inside the object"
        );
    }
}
