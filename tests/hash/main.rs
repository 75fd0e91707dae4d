//! `hash-size` and `skip-unchanged`: what a hash is, where it is found, and which frames pass uninspected.

#[path = "../common/mod.rs"]
mod common;
mod unchanged;

use common::*;
use gst::prelude::*;
use gst_check::Harness;
use gst_video::VideoFormat;
use gstrsdetectnet::{LabeledDetection, crop_details, frame_details};
use serde_json::Value;

const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);

fn timed(picture: &Picture, number: u64) -> gst::Buffer {
    let mut buffer = picture.buffer();
    let edit = buffer.get_mut().unwrap();
    edit.set_pts(FRAME * number);
    edit.set_duration(FRAME);
    buffer
}

fn count(element: &gst::Element, name: &str) -> u64 {
    element
        .property::<gst::Structure>("stats")
        .get(name)
        .unwrap()
}

/// Grey levels, 0 to 255, of a rectangle of a picture, averaged over cells in floating point. `weights` are those of
/// red, green and blue.
fn averages(picture: &Picture, weights: [f64; 3], pixels: [u32; 4], side: usize) -> Vec<f64> {
    let [left, top, width, height] = pixels.map(f64::from);
    let grey = |x: u32, y: u32| {
        let at = ((y * picture.width + x) * 3) as usize;
        let rgb = &picture.rgb[at..at + 3];
        let parts = rgb.iter().zip(weights);
        parts.map(|(c, weight)| f64::from(*c) * weight).sum::<f64>()
    };
    let cells = (0..side * side).map(|cell| {
        let (column, row) = ((cell % side) as f64, (cell / side) as f64);
        let (cell_width, cell_height) = (width / side as f64, height / side as f64);
        let (x, y) = (left + column * cell_width, top + row * cell_height);
        let mut sum = 0.0;
        for py in y.floor() as u32..(y + cell_height).ceil().min(top + height) as u32 {
            for px in x.floor() as u32..(x + cell_width).ceil().min(left + width) as u32 {
                let (fx, fy) = (f64::from(px), f64::from(py));
                let wide = (fx + 1.0).min(x + cell_width) - fx.max(x);
                let high = (fy + 1.0).min(y + cell_height) - fy.max(y);
                sum += grey(px, py) * wide.max(0.0) * high.max(0.0);
            }
        }
        sum / (cell_width * cell_height)
    });
    cells.collect()
}

fn assert_hash(hash: &[u8], averages: &[f64], tolerance: f64) {
    assert_eq!(hash.len(), averages.len());
    for (byte, average) in hash.iter().zip(averages) {
        let off = (f64::from(*byte) - average).abs();
        assert!(off <= 0.5 + tolerance, "{byte} instead of {average}");
    }
}

/// 256ths of BT.601's luma weights.
const WEIGHTS: [f64; 3] = [77.0 / 256.0, 150.0 / 256.0, 29.0 / 256.0];

/// Noise, with two objects in it.
fn scene() -> Picture {
    let mut picture = Picture::grey(322, 242);
    let mut state = 7u32;
    for byte in &mut picture.rgb {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = 94 + (state >> 24) as u8 % 40;
    }
    picture.with_cell(1, 1, RED).with_cell(6, 5, BLUE)
}

fn rectangle_of(buffer: &gst::BufferRef) -> Vec<[u32; 4]> {
    let regions = buffer.iter_meta::<gst_video::VideoRegionOfInterestMeta>();
    let rectangles = regions.map(|region| region.rect());
    rectangles.map(|(x, y, w, h)| [x, y, w, h]).collect()
}

#[test]
fn hashes_of_frames_and_objects_are_averages_of_their_pixels() {
    let picture = scene();
    let whole = [0, 0, picture.width, picture.height];
    for side in [1u32, 5, 16, 64] {
        let element = colors_element("colors-ssd.onnx")
            .property("hash-size", side)
            .build()
            .unwrap();
        let mut harness = harness(&element, &picture.info());
        let buffer = harness.push_and_pull(timed(&picture, 0)).unwrap();
        let details = frame_details(&buffer).unwrap();
        assert_eq!(
            (details.hash_size, details.repeated),
            (side as usize, false)
        );
        let wanted = averages(&picture, WEIGHTS, whole, side as usize);
        assert_hash(&details.hash.unwrap(), &wanted, 1e-9);
        let found = gstrsdetectnet::detections(&buffer);
        assert_eq!(found.len(), 2);
        for (found, rectangle) in found.iter().zip(rectangle_of(&buffer)) {
            let wanted = averages(&picture, WEIGHTS, rectangle, side as usize);
            assert_hash(found.hash.as_ref().unwrap(), &wanted, 1e-9);
            assert!(!found.repeated);
        }
    }
}

#[test]
fn every_format_gives_nearly_the_same_hash() {
    let picture = scene();
    let hash = |sample: &gst::Sample| {
        let element = colors_element("colors-ssd.onnx")
            .property("hash-size", 12u32)
            .build()
            .unwrap();
        let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        let mut harness = harness(&element, &info);
        let buffer = harness
            .push_and_pull(sample.buffer_owned().unwrap())
            .unwrap();
        frame_details(&buffer).unwrap().hash.unwrap()
    };
    let wanted = averages(&picture, WEIGHTS, [0, 0, picture.width, picture.height], 12);
    for format in gstrsdetectnet::frame::buffer::SYSTEM_FORMATS {
        // Conversion to YUV rounds each pixel, and puts colours out of range into it.
        let hash = hash(&picture.converted(format, None));
        assert_hash(&hash, &wanted, 1.0);
    }
}

/// Colours count as far as they are opaque: two rows of pixels, the lower one half transparent.
#[test]
fn alpha_counts_as_over_black_and_padding_does_not_count() {
    init();
    for (format, pixel, upper, lower) in [
        (VideoFormat::Rgba, [200, 200, 200, 255], 200, 100),
        (VideoFormat::Argb, [255, 200, 200, 200], 200, 100),
        (VideoFormat::Bgra, [200, 200, 200, 255], 200, 100),
        (VideoFormat::Rgbx, [200, 200, 200, 255], 200, 200),
        (VideoFormat::Xrgb, [255, 200, 200, 200], 200, 200),
    ] {
        let info = gst_video::VideoInfo::builder(format, 16, 16)
            .build()
            .unwrap();
        let faded = pixel.map(|byte: u8| if byte == 255 { 128 } else { byte });
        let rows = [pixel, faded].map(|pixel| [pixel; 16 * 8]);
        let data: Vec<u8> = rows.concat().concat();
        let element = colors_element("colors-ssd.onnx")
            .property("hash-size", 2u32)
            .build()
            .unwrap();
        let mut harness = harness(&element, &info);
        let buffer = harness
            .push_and_pull(gst::Buffer::from_slice(data))
            .unwrap();
        let hash = frame_details(&buffer).unwrap().hash.unwrap();
        assert_eq!(hash[..], [upper, upper, lower, lower], "{format}");
    }
}

fn bytes_of(structure: &gst::StructureRef) -> Vec<u8> {
    structure.get::<gst::glib::Bytes>("hash").unwrap().to_vec()
}

#[test]
fn message_line_and_crop_carry_the_same_hashes_as_the_metadata() {
    let picture = scene();
    let element = colors_element("colors-ssd.onnx")
        .property("hash-size", 4u32)
        .property("crop-margin", 0.3f32)
        .property("post-messages", true)
        .build()
        .unwrap();
    let ([mut harness, mut lines, mut crops], bus) = all_outputs(&element, &picture);
    let buffer = harness.push_and_pull(timed(&picture, 0)).unwrap();

    let frame = frame_details(&buffer).unwrap().hash.unwrap();
    let objects = gstrsdetectnet::detections(&buffer);
    let objects: Vec<_> = objects.into_iter().map(|o| o.hash.unwrap()).collect();
    assert_eq!((frame.len(), objects.len()), (16, 2));
    assert_ne!(objects[0], objects[1]);

    let message = elements_of_bus(&bus).remove(0);
    assert_eq!(bytes_of(&message), frame[..]);
    assert!(!message.has_field("repeated"));
    let posted = message.get::<gst::Array>("objects").unwrap();
    for (posted, hash) in posted.iter().zip(&objects) {
        assert_eq!(bytes_of(&posted.get::<gst::Structure>().unwrap()), hash[..]);
    }
    // What `gst-launch-1.0 -m` prints is what the line says.
    let encoded = |bytes: &[u8]| gst::glib::base64_encode(bytes).to_string();
    assert!(message.to_string().contains(&encoded(&frame)), "{message}");

    let line = lines.pull().unwrap();
    let line: Value = serde_json::from_slice(&line.map_readable().unwrap()).unwrap();
    assert_eq!(line["hash"], encoded(&frame));
    assert_eq!(line.get("repeated"), None);
    for (object, hash) in line["objects"].as_array().unwrap().iter().zip(&objects) {
        assert_eq!(object["hash"], encoded(hash));
    }

    for hash in &objects {
        let crop = crop_details(&crops.pull().unwrap()).unwrap();
        assert_eq!(crop.hash.as_ref(), Some(hash));
    }
}

#[test]
fn without_hash_size_nothing_has_a_hash_and_it_may_change_while_playing() {
    let picture = scene();
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let mut harness = harness(&element, &picture.info());
    let mut hashes = || {
        let buffer = harness.push_and_pull(timed(&picture, 0)).unwrap();
        let objects = gstrsdetectnet::detections(&buffer).into_iter();
        let objects: Vec<_> = objects.map(|o| o.hash.map(|hash| hash.len())).collect();
        (frame_details(&buffer).map(|f| f.hash_size), objects)
    };
    assert_eq!(hashes(), (None, vec![None, None]));
    element.set_property("hash-size", 8u32);
    assert_eq!(hashes(), (Some(8), vec![Some(64), Some(64)]));
    element.set_property("hash-size", 3u32);
    assert_eq!(hashes(), (Some(3), vec![Some(9), Some(9)]));
    element.set_property("metadata", "none");
    assert_eq!(hashes(), (None, vec![]));
    element.set_property("metadata", "roi");
    element.set_property("hash-size", 0u32);
    assert_eq!(hashes(), (None, vec![None, None]));
}
