//! Hashes of frames in GPU memory are those of the same pixels in system memory, and frames that look the same pass
//! uninspected there too.

use gst::prelude::*;
use gst_check::Harness;
use gst_video::VideoFormat;
use gstrsdetectnet::cuda::context::Context;
use gstrsdetectnet::thumbnail::cpu::Thumbnailer;
use gstrsdetectnet::thumbnail::{Area, pixels_of};
use gstrsdetectnet::{LabeledDetection, frame_details};

use crate::clip::{FRAMES, encode};
use crate::common::{BLUE, Picture, RED, init};
use crate::decoded::DECODERS;
use crate::media::{COLORS_SSD, bundled_detector, shared_cache};
use crate::pixels::Pixels;
use crate::stream::{EVERY_KIND, colorful, has, launch, play, play_each, uploads};
use crate::surface::{SIDE, batch, caps, overwrite, upload};

/// What the CPU makes of a frame's pixels.
fn frame_hash(pixels: &Pixels, side: usize) -> Vec<u8> {
    let mut hash = Vec::new();
    let area = Area::whole(0, pixels.width, pixels.height);
    Thumbnailer::default().append(&pixels.frame(), &[area], side, &mut hash);
    hash
}

fn object_hash(pixels: &Pixels, found: &LabeledDetection, side: usize) -> Vec<u8> {
    let size = (pixels.width, pixels.height);
    let pixels_of_box = pixels_of(found.detection.bounding_box, size);
    let area = Area {
        frame: 0,
        pixels: pixels_of_box,
    };
    let mut hash = Vec::new();
    Thumbnailer::default().append(&pixels.frame(), &[area], side, &mut hash);
    hash
}

/// Asserts that frame and objects of a buffer have the hashes of its pixels.
fn check_hashes(sample: &gst::Sample, side: usize, what: &str) {
    let buffer = sample.buffer().unwrap();
    let pixels = Pixels::of_sample(sample);
    let details = frame_details(buffer).unwrap();
    let hash = details.hash.unwrap();
    assert_eq!(hash[..], frame_hash(&pixels, side), "{what}");
    for found in gstrsdetectnet::detections(buffer) {
        let hash = found.hash.as_ref().unwrap();
        assert_eq!(hash[..], object_hash(&pixels, &found, side), "{what}");
    }
}

fn count(pipeline: &gst::Pipeline, name: &str) -> u64 {
    let detector = pipeline.by_name("detector").unwrap();
    let stats = detector.property::<gst::Structure>("stats");
    stats.get(name).unwrap()
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn hashes_in_every_memory_and_format_are_those_of_the_pixels() {
    let (picture, wanted) = colorful();
    for format in EVERY_KIND {
        let mut upstreams = vec!["appsrc name=source".to_owned()];
        upstreams.extend(uploads(format));
        for upstream in upstreams {
            for side in [7, 16] {
                let description = format!(
                    "{upstream} ! {} hash-size={side} ! appsink name=sink sync=false",
                    COLORS_SSD.detector(&shared_cache())
                );
                let samples = vec![picture.converted(format, None); 2];
                let output = play(&launch(&description), &description, &samples);
                assert_eq!(output.len(), 2, "{description}");
                for sample in &output {
                    let found = gstrsdetectnet::detections(sample.buffer().unwrap());
                    assert_eq!(found.len(), wanted.len(), "{description}");
                    check_hashes(sample, side, &description);
                }
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_decoded_clip_of_a_still_picture_is_inspected_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("still.h264");
    encode("astronaut.png", &file);
    let decode = |decoder: &str| {
        let description = format!(
            "filesrc location={} ! h264parse ! {decoder} ! {} threshold=0.2 hash-size=16 skip-unchanged=2 \
             ! appsink name=sink sync=false",
            file.display(),
            bundled_detector("fp16", &shared_cache())
        );
        let pipeline = launch(&description);
        let output = play_each(&pipeline, &description, &[], |sample| {
            let buffer = sample.buffer().unwrap();
            let details = frame_details(buffer).unwrap();
            let found = gstrsdetectnet::detections(buffer);
            if !details.repeated {
                check_hashes(&sample, 16, &description);
            }
            let pixels = Pixels::of_sample(&sample);
            assert_eq!(
                details.hash.as_ref().unwrap()[..],
                frame_hash(&pixels, 16),
                "{description}"
            );
            (details, found)
        });
        assert_eq!(output.len(), FRAMES, "{description}");
        let counts = ["inspected", "unchanged"].map(|name| count(&pipeline, name));
        println!("{decoder}: {}", pipeline_stats(&pipeline));
        assert_eq!(counts, [1, FRAMES as u64 - 1], "{description}");
        for (number, (details, found)) in output.iter().enumerate() {
            assert_eq!(details.repeated, number > 0, "{description}");
            assert!(!found.is_empty(), "{description}");
            let then = &output[0].1;
            assert_eq!(found.len(), then.len(), "{description}");
            for (now, then) in found.iter().zip(then) {
                assert_eq!(now.repeated, number > 0, "{description}");
                assert_eq!(now.hash, then.hash, "{description}");
                assert_eq!(now.detection, then.detection, "{description}");
            }
        }
        let hashes = output.into_iter().map(|(details, _)| details.hash.unwrap());
        hashes.collect::<Vec<_>>()
    };
    let reference = decode("openh264dec ! video/x-raw,format=I420");
    for (decoder, caps) in DECODERS.into_iter().filter(|(decoder, _)| has(decoder)) {
        let hashes = decode(&format!("{decoder} ! {caps},format=NV12"));
        assert_eq!(hashes, reference, "{decoder}");
    }
}

fn pipeline_stats(pipeline: &gst::Pipeline) -> gst::Structure {
    pipeline.by_name("detector").unwrap().property("stats")
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn what_moves_is_inspected_each_time_in_every_memory() {
    let at = |column| Picture::grey(256, 256).with_cell(column, 3, RED);
    for upstream in uploads(VideoFormat::Nv12) {
        let description = format!(
            "{upstream} ! {} skip-unchanged=0.5 ! appsink name=sink sync=false",
            COLORS_SSD.detector(&shared_cache())
        );
        let samples =
            [0, 1, 1, 5, 5, 5].map(|column| at(column).converted(VideoFormat::Nv12, None));
        let pipeline = launch(&description);
        // nvvideoconvert has fewer frames than there are here.
        let repeated = play_each(&pipeline, &description, &samples, |sample| {
            frame_details(sample.buffer().unwrap()).is_some_and(|details| details.repeated)
        });
        assert_eq!(
            repeated,
            [false, false, true, false, true, true],
            "{upstream}"
        );
        assert_eq!(
            (count(&pipeline, "inspected"), count(&pipeline, "unchanged")),
            (3, 3)
        );
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_batch_is_inspected_when_one_of_its_frames_changes() {
    init();
    let context = Context::primary(0).unwrap();
    let _current = context.enter().unwrap();
    let pictures =
        [RED, BLUE, [114; 3]].map(|color| Picture::grey(SIDE, SIDE).with_cell(2, 4, color));
    let pixels =
        pictures.map(|picture| Pixels::of_sample(&picture.converted(VideoFormat::Nv12, None)));
    let frames = upload(&pixels);
    let caps = caps();
    let element = gst::parse::launch(&format!(
        "{} batch-size=4 hash-size=8 skip-unchanged=0.3",
        COLORS_SSD.detector(&shared_cache())
    ))
    .unwrap();
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    harness.set_src_caps(caps.clone());
    harness.play();
    // The third frame becomes the first one, by 0.6 levels, then stays.
    for (change, repeated) in [(false, false), (false, true), (true, false), (false, true)] {
        if change {
            overwrite(&frames[2], &pixels[0]);
        }
        let buffer = harness.push_and_pull(batch(&frames)).unwrap();
        let details = frame_details(&buffer).unwrap();
        assert_eq!(details.repeated, repeated);
        let pixels = Pixels::of_batch(&buffer, &caps);
        let wanted: Vec<u8> = pixels
            .iter()
            .flat_map(|pixels| frame_hash(pixels, 8))
            .collect();
        assert_eq!(details.hash.unwrap()[..], wanted);
        for found in gstrsdetectnet::detections(&buffer) {
            let own = &pixels[found.batch_id.unwrap() as usize];
            assert_eq!(
                found.hash.as_ref().unwrap()[..],
                object_hash(own, &found, 8)
            );
        }
    }
    drop(harness);
    element.set_state(gst::State::Null).unwrap();
}
