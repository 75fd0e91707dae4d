//! Crops of a batch of frames in one NVMM buffer: each out of its own frame.

use gst::prelude::*;
use gst_check::Harness;
use gst_video::VideoFormat;
use gstrsdetectnet::crop::render::CropResize;
use gstrsdetectnet::cuda::context::Context;
use gstrsdetectnet::frame::nvmm::pool::NvmmPools;

use crate::common::{BLUE, GREEN, Picture, RED, init};
use crate::cutting::{CUDA, Crop, NVMM, SYSTEM};
use crate::media::{COLORS_SSD, shared_cache};
use crate::pixels::Pixels;
use crate::surface::{SIDE, batch, caps, upload};

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn crops_of_a_batch_come_out_of_their_own_frames_in_every_memory() {
    init();
    let context = Context::primary(0).unwrap();
    let _current = context.enter().unwrap();
    let pictures = [
        Picture::grey(SIDE, SIDE).with_cell(1, 2, RED),
        Picture::grey(SIDE, SIDE),
        Picture::grey(SIDE, SIDE)
            .with_cell(5, 6, GREEN)
            .with_cell(7, 7, BLUE),
    ];
    let frames = pictures
        .each_ref()
        .map(|picture| Pixels::of_sample(&picture.converted(VideoFormat::Nv12, Some("bt601"))));
    let uploaded = upload(&frames);
    let mut caps = caps();
    caps.make_mut().set("colorimetry", "bt601");
    let mut memories = vec![SYSTEM, CUDA];
    match NvmmPools::get() {
        Ok(_) => memories.push(NVMM),
        Err(error) => println!("NOT TESTED: {error}"),
    }
    for memory in memories {
        for rest in ["", ",format=RGBA,width=96,height=64"] {
            let wish = format!("{memory}{rest}");
            let element = gst::parse::launch(&COLORS_SSD.detector(&shared_cache())).unwrap();
            let mut harness = Harness::with_element(&element, Some("sink"), Some("crops"));
            harness.set_sink_caps_str(&wish);
            harness.set_src_caps(caps.clone());
            harness.play();
            for _ in 0..3 {
                harness.push(batch(&uploaded)).unwrap();
                let mut labels = Vec::new();
                for _ in 0..3 {
                    let buffer = harness.pull().unwrap();
                    let caps = harness.sinkpad().unwrap().current_caps().unwrap();
                    let sample = gst::Sample::builder().buffer(&buffer).caps(&caps).build();
                    let crop = Crop::of(&sample);
                    let frame = crop.details.batch_id.unwrap() as usize;
                    crop.assert_cut_out_of(&frames[frame], CropResize::Letterbox, &wish);
                    labels.push((frame, crop.details.label));
                }
                labels.sort();
                let labels: Vec<_> = labels
                    .iter()
                    .map(|(f, label)| (*f, label.as_str()))
                    .collect();
                assert_eq!(labels, [(0, "red"), (2, "blue"), (2, "green")], "{wish}");
            }
            drop(harness);
            element.set_state(gst::State::Null).unwrap();
        }
    }
}
