//! Streams on several GPUs of one machine.

use std::thread;

use gst::prelude::*;
use gst_video::VideoInfo;
use gstrsdetectnet::cuda::context::gpus;
use gstrsdetectnet::frame::cuda::CudaFrame;

use crate::common::pads::{Passed, Stream};
use crate::common::{Picture, RED, assert_found, init};
use crate::fed::Fed;
use crate::media::{COLORS_SSD, shared_cache};

/// Streams of each GPU.
const STREAMS: usize = 3;

fn several() -> bool {
    let several = gpus().unwrap() > 1;
    if !several {
        println!("NOT TESTED: this machine has one GPU");
    }
    several
}

#[test]
#[ignore = "needs two NVIDIA GPUs and TensorRT"]
fn streams_spread_over_all_gpus_and_each_finds_its_own_object() {
    if !several() {
        return;
    }
    init();
    let all = STREAMS * gpus().unwrap() as usize;
    let description = format!("{} gpu-id=-1", COLORS_SSD.detector(&shared_cache()));
    let cell = |stream: usize| ((stream % 4) as u32, (stream / 4) as u32);
    let streams: Vec<_> = (0..all)
        .map(|number| {
            let (column, row) = cell(number);
            let picture = Picture::grey(256, 256).with_cell(column, row, RED);
            let stream = Stream::new(&gst::parse::launch(&description).unwrap());
            stream.begin(&picture.info().to_caps().unwrap());
            (stream, picture)
        })
        .collect();
    thread::scope(|scope| {
        for (stream, picture) in &streams {
            scope.spawn(|| {
                for _ in 0..50 {
                    let pushed = stream.source.push(picture.buffer());
                    assert!(pushed.is_ok(), "{pushed:?}: {:?}", stream.error());
                }
            });
        }
    });
    for (number, (stream, picture)) in streams.iter().enumerate() {
        let stats = stream.stats();
        // Who shares a model is on its GPU.
        assert_eq!(
            stats.get::<u32>("model-streams").unwrap(),
            STREAMS as u32,
            "{stats}"
        );
        assert!(stream.source.push_event(gst::event::Eos::new()));
        stream.sink.wait_for(gst::EventType::Eos);
        let (column, row) = cell(number);
        let mut frames = 0;
        for passed in stream.sink.passed() {
            if let Passed::Frame { detections, .. } = passed {
                assert_found(
                    &detections,
                    &[("red", picture.cell_box(column, row))],
                    0.99,
                    0.9,
                );
                frames += 1;
            }
        }
        assert_eq!(frames, 50);
    }
}

#[test]
#[ignore = "needs two NVIDIA GPUs and TensorRT"]
fn frames_stay_on_the_gpu_that_they_are_on() {
    if !several() {
        return;
    }
    let picture = Picture::grey(256, 256).with_cell(2, 1, RED);
    for gpu in (0..gpus().unwrap()).rev() {
        let fed = Fed::playing(
            &format!(
                "cudaupload cuda-device-id={gpu} ! video/x-raw(memory:CUDAMemory) ! {} gpu-id=-1",
                COLORS_SSD.detector(&shared_cache())
            ),
            &picture,
        );
        for frame in 0..5 {
            fed.push(&picture, gst::ClockTime::from_mseconds(40 * frame));
            let patience = gst::ClockTime::from_seconds(60);
            let sample = fed.sink.try_pull_sample(patience).unwrap();
            let buffer = sample.buffer_owned().unwrap();
            let info = VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
            let mapped = CudaFrame::map(&buffer, &info).unwrap();
            assert_eq!(mapped.context().gpu_id(), gpu);
            let wanted = [("red", picture.cell_box(2, 1))];
            assert_found(&gstrsdetectnet::detections(&buffer), &wanted, 0.99, 0.9);
        }
        fed.stop();
    }
}
