//! What further elements cost: their starts, and memory of the GPU, which returns when the last one is gone.

use std::thread;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_video::VideoFormat;
use gstrsdetectnet::cuda::context::{Context, memory};

use crate::common::pads::{Passed, Stream, segment};
use crate::common::{Picture, RED, assert_found, init};
use crate::media::{COLORS_SSD, bundled_detector, shared_cache};
use crate::prepared;

fn sample() -> (gst::Sample, Picture) {
    let picture = Picture::grey(256, 256).with_cell(3, 2, RED);
    (picture.converted(VideoFormat::Nv12, None), picture)
}

fn start(description: &str, sample: &gst::Sample) -> Stream {
    init();
    let element = gst::parse::launch(description).unwrap();
    let stream = Stream::new(&element);
    stream.begin(&sample.caps_owned().unwrap());
    stream
}

fn push(stream: &Stream, sample: &gst::Sample, frames: usize) {
    for _ in 0..frames {
        let pushed = stream.source.push(sample.buffer_owned().unwrap());
        assert!(pushed.is_ok(), "{pushed:?}: {:?}", stream.error());
    }
}

/// Memory of the GPU that all processes use, in MiB.
fn used_memory(context: &Context) -> f64 {
    let _current = context.enter().unwrap();
    let memory = memory().unwrap();
    (memory.total - memory.free) as f64 / f64::from(1 << 20)
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn further_elements_start_at_once_and_need_next_to_no_memory() {
    const ELEMENTS: usize = 64;
    prepared::listen();
    let (sample, _) = sample();
    let description = bundled_detector("fp16", &shared_cache());
    let context = Context::primary(0).unwrap();
    let before = used_memory(&context);
    let begin = Instant::now();
    let mut streams = vec![start(&description, &sample)];
    push(&streams[0], &sample, 1);
    println!("the first element took {:?}", begin.elapsed());
    let mut starts = Vec::new();
    for _ in 1..ELEMENTS {
        let begin = Instant::now();
        let stream = start(&description, &sample);
        starts.push(begin.elapsed());
        streams.push(stream);
    }
    starts.sort();
    println!(
        "the others took {:?} in the middle, {:?} at most",
        starts[starts.len() / 2],
        starts[starts.len() - 1]
    );
    let busy = |frames| {
        thread::scope(|scope| {
            for stream in &streams {
                scope.spawn(|| push(stream, &sample, frames));
            }
        });
    };
    prepared::wait_for_batches_of(32);
    busy(200);
    let with_all = used_memory(&context);
    streams.truncate(ELEMENTS / 4);
    let with_a_quarter = used_memory(&context);
    let further = (with_all - with_a_quarter) / (ELEMENTS - ELEMENTS / 4) as f64;
    println!(
        "{:.0} MiB with {ELEMENTS}, {:.0} with {}: {further:.2} for each",
        with_all - before,
        with_a_quarter - before,
        ELEMENTS / 4
    );
    assert!(starts[starts.len() / 2] <= Duration::from_millis(20));
    assert!(further <= 8.0);
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn the_gpu_s_memory_returns_when_the_last_one_is_gone() {
    const ELEMENTS: usize = 8;
    const CYCLES: usize = 6;
    /// In MiB.
    const MAY_GROW: f64 = 16.0;
    let (sample, _) = sample();
    let description = bundled_detector("fp16", &shared_cache());
    let context = Context::primary(0).unwrap();
    let mut after = Vec::new();
    for cycle in 0..CYCLES {
        prepared::listen();
        let before = used_memory(&context);
        let mut streams: Vec<_> = (0..ELEMENTS)
            .map(|_| start(&description, &sample))
            .collect();
        push(&streams[0], &sample, 5);
        // Every other time, the last one goes while larger batches are still being prepared.
        if cycle % 2 == 0 {
            prepared::wait_for_batches_of(8);
        }
        thread::scope(|scope| {
            for stream in &streams {
                scope.spawn(|| push(stream, &sample, 50));
            }
        });
        let all = used_memory(&context);
        streams.truncate(1);
        push(&streams[0], &sample, 5);
        let one = used_memory(&context);
        drop(streams);
        after.push(used_memory(&context));
        println!(
            "cycle {cycle}: {before:.0} MiB before, {all:.0} with {ELEMENTS}, {one:.0} with one, {:.0} after",
            after[cycle]
        );
    }
    // The first start also loads what the process keeps.
    assert!(after[CYCLES - 1] - after[0] <= MAY_GROW, "{after:?}");
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn flushes_and_stops_with_frames_on_the_gpu_lose_no_later_frame() {
    const ROUNDS: u64 = 50;
    let (sample, picture) = sample();
    let description = format!("{} max-in-flight=4", COLORS_SSD.detector(&shared_cache()));
    let neighbour = start(&description, &sample);
    let stream = start(&description, &sample);
    for round in 0..ROUNDS {
        thread::scope(|scope| {
            let source =
                scope.spawn(
                    || {
                        while stream.source.push(sample.buffer_owned().unwrap()).is_ok() {}
                    },
                );
            scope.spawn(|| push(&neighbour, &sample, 10));
            thread::sleep(Duration::from_micros(1 + round * 211 % 5000));
            assert!(stream.source.push_event(gst::event::FlushStart::new()));
            source.join().unwrap();
        });
        assert!(stream.source.push_event(gst::event::FlushStop::new(true)));
        assert!(stream.source.push_event(segment()));
    }
    assert!(stream.source.push_event(gst::event::Eos::new()));
    stream.sink.wait_for(gst::EventType::Eos);
    assert!(neighbour.source.push_event(gst::event::Eos::new()));
    neighbour.sink.wait_for(gst::EventType::Eos);
    let wanted = [("red", picture.cell_box(3, 2))];
    let mut frames = 0;
    for passed in [stream.sink.passed(), neighbour.sink.passed()].concat() {
        if let Passed::Frame { detections, .. } = passed {
            assert_found(&detections, &wanted, 0.99, 0.9);
            frames += 1;
        }
    }
    println!("{frames} frames came out");
    assert!(frames >= 10 * ROUNDS as usize);
    assert_eq!((stream.error(), neighbour.error()), (None, None));
}
