//! Frames that the GPU decoded are inspected where they lie, unchanged, with the same result as those of a decoder
//! in system memory.

use std::path::Path;

use gst::prelude::*;

use crate::clip::{FRAMES, encode};
use crate::media::{PICTURES, bundled_detector, shared_cache};
use crate::stream::{Seen, has, inspect, launch, play};

pub const DECODERS: [(&str, &str); 2] = [
    ("nvh264dec", "video/x-raw(memory:CUDAMemory)"),
    ("nvv4l2decoder", "video/x-raw(memory:NVMM)"),
];

fn decode(file: &Path, decoder: &str, detector: &str) -> Vec<Seen> {
    let upstream = format!(
        "filesrc location={} ! h264parse ! {decoder}",
        file.display()
    );
    let seen = inspect(&upstream, detector, &[]);
    assert_eq!(seen.len(), FRAMES, "{decoder}");
    seen
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn decoders_on_the_gpu_give_the_same_detections_as_one_in_system_memory() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.h264");
    let detector = format!(
        "{} threshold=0.4",
        bundled_detector("fp32", &shared_cache())
    );
    for name in PICTURES {
        encode(name, &file);
        let reference = decode(&file, "openh264dec ! video/x-raw,format=I420", &detector);
        assert!(
            reference.iter().all(|seen| seen.detections.len() == 1),
            "{name}"
        );
        for (decoder, caps) in DECODERS.into_iter().filter(|(decoder, _)| has(decoder)) {
            let decoded = decode(&file, &format!("{decoder} ! {caps},format=NV12"), &detector);
            for (own, other) in decoded.iter().zip(&reference) {
                let (own, other) = (&own.detections, &other.detections);
                assert_eq!(
                    own.len(),
                    other.len(),
                    "{decoder} {name}: {own:?}, {other:?}"
                );
                for (own, other) in own.iter().zip(other) {
                    let overlap = own
                        .detection
                        .bounding_box
                        .iou(&other.detection.bounding_box);
                    assert_eq!(own.label, other.label, "{decoder} {name}");
                    assert!(overlap >= 0.98, "{decoder} {name}: {own:?}, {other:?}");
                }
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn frames_come_out_in_the_memory_and_with_the_pixels_with_which_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.h264");
    encode("astronaut.png", &file);
    let detector = format!(
        "{} threshold=0.2",
        bundled_detector("fp16", &shared_cache())
    );
    for (decoder, caps) in DECODERS.into_iter().filter(|(decoder, _)| has(decoder)) {
        let decoded = decode(&file, &format!("{decoder} ! {caps}"), &detector);
        for seen in decoded {
            assert!(!seen.detections.is_empty(), "{decoder}");
            assert!(seen.same_memory, "{decoder}");
            seen.after.assert_same(&seen.before, decoder);
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn stats_count_every_decoded_frame_and_name_the_gpu_s_engine() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.h264");
    encode("chelsea.png", &file);
    // The backend is not named: with a GPU and TensorRT, these are chosen.
    let description = format!(
        "filesrc location={} ! h264parse ! openh264dec \
         ! rsdetectnet name=detector backend=auto engine-cache={} ! appsink name=sink sync=false",
        file.display(),
        shared_cache().display()
    );
    let pipeline = launch(&description);
    assert_eq!(play(&pipeline, &description, &[]).len(), FRAMES);
    let detector = pipeline.by_name("detector").unwrap();
    let stats = detector.property::<gst::Structure>("stats");
    let backend: String = stats.get("backend").unwrap();
    println!("{stats}");
    assert!(backend.starts_with("TensorRT"), "{backend}");
    assert!(backend.contains(" on NVIDIA "), "{backend}");
    assert_eq!(stats.get::<u64>("inspected").unwrap(), FRAMES as u64);
    assert_eq!(stats.get::<u64>("detections").unwrap(), FRAMES as u64);
}
