//! Crops of frames that a GPU decoded are the pixels that a decoder in system memory makes of the same clip.

use std::path::Path;

use gstrsdetectnet::crop::render::CropResize;

use crate::clip::{FRAMES, encode};
use crate::cutting::{CUDA, NVMM, SYSTEM, crops, pipeline};
use crate::media::{bundled_detector, shared_cache};
use crate::pixels::Pixels;
use crate::stream::{has, launch, play, play_each};

/// Asserts that frames of a decoder on the GPU stand for the same colours as those of the one in system memory.
fn assert_same_colors(upstream: &str, reference: &[Pixels]) {
    let description = format!("{upstream} ! appsink name=sink sync=false");
    let colors = play_each(&launch(&description), &description, &[], |sample| {
        (Pixels::of_sample(&sample).colorimetry, sample.caps_owned())
    });
    for (own, reference) in colors.into_iter().zip(reference) {
        println!(
            "{:?}, where the system's are {:?}",
            own, reference.colorimetry
        );
        assert_eq!(own.0, reference.colorimetry, "{upstream}: {:?}", own.1);
    }
}

/// The frames of a clip from a decoder in system memory.
fn reference(file: &Path) -> Vec<Pixels> {
    let description = format!(
        "filesrc location={} ! h264parse ! openh264dec ! videoconvert ! video/x-raw,format=NV12 \
         ! appsink name=sink sync=false",
        file.display()
    );
    let frames = play(&launch(&description), &description, &[]);
    assert_eq!(frames.len(), FRAMES);
    frames.iter().map(Pixels::of_sample).collect()
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn crops_of_decoded_frames_are_those_of_a_decoder_in_system_memory() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.h264");
    encode("astronaut.png", &file);
    let reference = reference(&file);
    let detector = format!(
        "{} threshold=0.2",
        bundled_detector("fp16", &shared_cache())
    );
    for (decoder, own, memories) in [
        ("nvh264dec", CUDA, &[CUDA, SYSTEM][..]),
        ("nvv4l2decoder", NVMM, &[NVMM, CUDA, SYSTEM][..]),
    ] {
        if !has(decoder) {
            continue;
        }
        let upstream = format!(
            "filesrc location={} ! h264parse ! {decoder} ! {own},format=NV12",
            file.display()
        );
        assert_same_colors(&upstream, &reference);
        for memory in memories {
            for rest in [
                ",format=NV12",
                ",format=RGBA,width=224,height=224",
                ",format=I420,width=160,height=120",
            ] {
                let description = pipeline(&upstream, &detector, &format!("{memory}{rest}"));
                let made = crops(&description, &[]);
                println!("{} crops: {decoder} to {memory}{rest}", made.len());
                assert!(made.len() >= FRAMES, "{description}");
                for crop in made {
                    let frame = &reference[crop.details.frame as usize];
                    crop.assert_cut_out_of(frame, CropResize::Letterbox, &description);
                }
            }
        }
    }
}
