//! What downstream takes decides on the memory of crops, also while the video plays.

use gst::prelude::*;
use gst_check::Harness;
use gst_video::VideoFormat;
use gstrsdetectnet::crop_details;
use gstrsdetectnet::frame::nvmm::pool::NvmmPools;

use crate::common::{BLUE, Picture};
use crate::cutting::{CUDA, NVMM, SYSTEM, crops, pipeline};
use crate::media::{COLORS_SSD, shared_cache};
use crate::stream::{has, uploads};

fn detector() -> String {
    COLORS_SSD.detector(&shared_cache())
}

fn sample() -> gst::Sample {
    let picture = Picture::grey(320, 240).with_cell(3, 4, BLUE);
    picture.converted(VideoFormat::Nv12, None)
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn crops_stay_in_the_memory_of_the_frames_where_downstream_takes_anything() {
    for upstream in uploads(VideoFormat::Nv12) {
        let own = match upstream.contains("NVMM") {
            true if NvmmPools::get().is_ok() => NVMM,
            _ => CUDA,
        };
        for (downstream, memory) in [
            ("queue", own),
            ("videoconvert ! video/x-raw", SYSTEM),
            ("jpegenc ! jpegdec", SYSTEM),
        ] {
            let description = pipeline(&upstream, &detector(), downstream);
            let element = launch_and_look(&description);
            assert_eq!(element, memory, "{description}");
        }
    }
}

/// The memory of the crops as they leave the pad.
fn launch_and_look(description: &str) -> &'static str {
    use crate::stream::{launch, play};
    let pipeline = launch(description);
    play(&pipeline, description, &[sample(), sample()]);
    let pipeline = launch(description);
    let detector = pipeline.by_name("detector").unwrap();
    let pad = detector.static_pad("crops").unwrap();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
    let noted = seen.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
        *noted.lock().unwrap() = pad.current_caps();
        gst::PadProbeReturn::Ok
    });
    play(&pipeline, description, &[sample(), sample()]);
    let caps = seen.lock().unwrap().take().unwrap();
    let features = caps.features(0).unwrap();
    match features {
        features if features.contains("memory:CUDAMemory") => CUDA,
        features if features.contains("memory:NVMM") => NVMM,
        _ => SYSTEM,
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn other_wishes_while_playing_change_memory_format_and_size() {
    if !has("cudaupload") {
        return;
    }
    let bin = gst::parse::bin_from_description(
        &format!(
            "cudaupload name=start ! {} detector.src ! fakesink async=false detector.crops ! \
             capsfilter name=wish caps={CUDA},format=NV12 ! identity name=end",
            detector()
        ),
        false,
    )
    .unwrap();
    for (name, element, pad) in [("sink", "start", "sink"), ("src", "end", "src")] {
        let target = bin.by_name(element).unwrap().static_pad(pad).unwrap();
        let ghost = gst::GhostPad::builder_with_target(&target).unwrap();
        bin.add_pad(&ghost.name(name).build()).unwrap();
    }
    let mut harness = Harness::with_element(&bin, Some("sink"), Some("src"));
    harness.set_src_caps(sample().caps_owned().unwrap());
    harness.play();
    let wish = bin.by_name("wish").unwrap();
    for (wanted, size) in [
        ("video/x-raw(memory:CUDAMemory),format=NV12", (40, 30)),
        (
            "video/x-raw(memory:CUDAMemory),format=RGBA,width=64,height=64",
            (64, 64),
        ),
        ("video/x-raw,format=I420,width=20", (20, 16)),
        ("video/x-raw,format=BGR,width=300,height=200", (300, 200)),
        ("video/x-raw(memory:CUDAMemory),height=90", (120, 90)),
    ] {
        let caps = wanted.parse::<gst::Caps>().unwrap();
        wish.set_property("caps", &caps);
        for _ in 0..3 {
            let buffer = sample().buffer_owned().unwrap();
            let crop = harness.push_and_pull(buffer).unwrap();
            let now = harness.sinkpad().unwrap().current_caps().unwrap();
            assert!(now.is_subset(&caps), "{now} instead of {wanted}");
            let structure = now.structure(0).unwrap();
            let side = |name| structure.get::<i32>(name).unwrap();
            assert_eq!((side("width"), side("height")), size);
            assert_eq!(crop_details(&crop).unwrap().label, "blue");
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn every_frame_gives_its_crops_from_the_first_on() {
    for upstream in uploads(VideoFormat::Nv12) {
        for wish in ["video/x-raw,format=RGBA,width=32,height=32", "queue"] {
            let description = pipeline(&upstream, &detector(), wish);
            for _ in 0..20 {
                let made = crops(&description, &vec![sample(); 5]);
                let frames: Vec<_> = made.iter().map(|crop| crop.details.frame).collect();
                assert_eq!(frames, [0, 1, 2, 3, 4], "{description}");
            }
        }
    }
}
