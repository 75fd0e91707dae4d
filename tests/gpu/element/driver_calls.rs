//! The program whose calls of the CUDA driver `tests/gpu/driver-calls` counts.

use std::env;

use cust::memory::DeviceBuffer;
use gst::prelude::*;
use gst_check::Harness;
use gst_video::VideoFormat;
use gstrsdetectnet::cuda::context::Context;

use crate::common::{Picture, init};
use crate::media::{COLORS_SSD, shared_cache};
use crate::pixels::Pixels;
use crate::stream::{launch, play, upload};
use crate::surface::batch;

const SIDE: u32 = 256;

#[test]
#[ignore = "a child process of tests/gpu/driver-calls"]
fn child_inspects_frames() {
    let (Ok(memory), Ok(frames)) = (env::var("MEMORY"), env::var("FRAMES")) else {
        return;
    };
    let frames: u32 = frames.parse().unwrap();
    init();
    let context = Context::primary(0).unwrap();
    let _current = context.enter().unwrap();
    let in_system_memory = Picture::grey(SIDE, SIDE).converted(VideoFormat::Nv12, None);
    let caps = in_system_memory.caps_owned().unwrap();
    let buffer = in_system_memory.buffer_owned().unwrap();
    let pixels = Pixels::of(&buffer, &caps).planes.concat();
    let on_gpu = DeviceBuffer::from_slice(&pixels).unwrap();
    let (caps, buffer) = match memory.as_str() {
        "system" => (caps, buffer),
        "cuda" => {
            let Some(upload) = upload("cudaupload", "memory:CUDAMemory", VideoFormat::Nv12) else {
                println!("NOT TESTED: there is no cudaupload");
                return;
            };
            let description = format!("{upload} ! appsink name=sink sync=false");
            let uploaded = play(&launch(&description), &description, &[in_system_memory]);
            let sample = &uploaded[0];
            (sample.caps_owned().unwrap(), sample.buffer_owned().unwrap())
        }
        "nvmm" => {
            let mut caps = caps;
            let features = gst::CapsFeatures::new(["memory:NVMM"]);
            caps.make_mut().set_features(0, Some(features));
            (caps, batch(std::slice::from_ref(&on_gpu)))
        }
        other => panic!("there is no memory {other}"),
    };
    let detector = COLORS_SSD.detector(&shared_cache());
    let element = gst::parse::launch(&detector).unwrap();
    // Larger batches would be prepared meanwhile.
    element.set_property("batch-size", 1u32);
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    harness.set_src_caps(caps);
    harness.play();
    for _ in 0..frames {
        harness.push_and_pull(buffer.copy()).unwrap();
    }
    drop(harness);
    element.set_state(gst::State::Null).unwrap();
}
