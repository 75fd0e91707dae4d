//! Streams that are damaged, that change, that are not what they promise, and pads that go while the GPU works.

use std::env;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstrsdetectnet::cuda::context::Context;
use gstrsdetectnet::{BoundingBox, LabeledDetection};

use crate::clip::{FRAMES, encode};
use crate::common::pads::{Passed, Sink, Stream};
use crate::common::{RED, assert_adds_up, assert_found, init};
use crate::media::{COLORS_SSD, bundled_detector, shared_cache};
use crate::memory::free_memory;
use crate::playing::{push, stream, uploaded, with_cell};
use crate::process::{alone, is_child, printed};
use crate::stream::{has, launch, play_each};

const CUDA: &str = "video/x-raw(memory:CUDAMemory)";
const CLIP: &str = "RSDETECTNET_TEST_CLIP";
/// Empty where the decoder is to be alone.
const DETECTOR: &str = "RSDETECTNET_TEST_DETECTOR";

/// Bytes of a clip that are other ones then, by a rule without chance.
fn damaged(clip: &[u8], from: usize, step: usize) -> Vec<u8> {
    let mut bytes = clip.to_vec();
    let mut random = 2_463_534_242_u32;
    for at in (from..bytes.len()).step_by(step) {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        bytes[at] ^= random as u8 | 1;
    }
    bytes
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_decoder_that_gets_damaged_video_harms_no_element_and_the_next_stream_detects() {
    let test = "streams::\
        a_decoder_that_gets_damaged_video_harms_no_element_and_the_next_stream_detects";
    alone(test, 240, || {
        if !has("nvh264dec") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (clip, broken) = (
            folder.path().join("clip.h264"),
            folder.path().join("broken.h264"),
        );
        encode("astronaut.png", &clip);
        let whole = fs::read(&clip).unwrap();
        let twice = [&damaged(&whole, 64, 211)[..], &whole].concat();
        for (what, bytes) in [
            ("a byte in 97 is another", damaged(&whole, 64, 97)),
            ("a byte in 1,009 is another", damaged(&whole, 64, 1009)),
            ("its parameters are damaged", damaged(&whole, 5, 9)),
            ("it is cut off", whole[..whole.len() * 2 / 3].to_vec()),
            ("a damaged clip goes on whole", twice),
        ] {
            fs::write(&broken, bytes).unwrap();
            let path = broken.to_str().unwrap();
            let environment = |detector: &'static str| [(CLIP, path), (DETECTOR, detector)];
            match printed("streams::child_decodes", &environment(""), 60) {
                Err(error) => println!("NOT TESTED, {what}: nvh264dec alone: {error}"),
                Ok(alone) => {
                    println!("{what}: nvh264dec alone: {}", ending(&alone));
                    let said = printed("streams::child_decodes", &environment("yes"), 60);
                    println!("{what}: with the element: {}", ending(&said.unwrap()));
                }
            }
        }
    });
}

fn ending(said: &str) -> &str {
    let line = said.lines().find(|line| line.starts_with("ended: "));
    line.unwrap_or_else(|| panic!("{said}"))
}

#[test]
#[ignore = "a child process of the test above"]
fn child_decodes() {
    let (Ok(clip), Ok(detector)) = (env::var(CLIP), env::var(DETECTOR)) else {
        return;
    };
    if !is_child() {
        return;
    }
    let detector = match detector.as_str() {
        "" => "identity name=detector".to_owned(),
        _ => bundled_detector("fp32", &shared_cache()) + " threshold=0.4",
    };
    println!();
    let ours = detector.starts_with("rsdetectnet");
    println!("ended: {}", decode(&clip, &detector));
    if ours {
        let whole = Path::new(&clip).with_file_name("clip.h264");
        let after = decode(whole.to_str().unwrap(), &detector);
        assert_eq!(
            after,
            format!("EOS, {FRAMES} frames, {FRAMES} with something")
        );
    }
}

/// How a clip ends in a pipeline.
fn decode(clip: &str, detector: &str) -> String {
    let pipeline = launch(&format!(
        "filesrc location={clip} ! h264parse ! nvh264dec ! {CUDA} ! {detector} ! \
         fakesink name=sink sync=false signal-handoffs=true"
    ));
    let counts = std::sync::Arc::new(std::sync::Mutex::new((0, 0)));
    let counted = counts.clone();
    let sink = pipeline
        .by_name("sink")
        .unwrap()
        .static_pad("sink")
        .unwrap();
    sink.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let mut counts = counted.lock().unwrap();
        let found = gstrsdetectnet::detections(info.buffer().unwrap());
        counts.0 += 1;
        counts.1 += usize::from(!found.is_empty());
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(25), &ends);
    let how = match message.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Eos(_)) => "EOS".to_owned(),
        Some(gst::MessageView::Error(error)) => {
            let source = error.src().map(|source| source.name().to_string());
            assert_ne!(source.as_deref(), Some("detector"), "{}", error.error());
            format!("{} of {}", error.error(), source.unwrap_or_default())
        }
        _ => panic!("it neither ends nor fails"),
    };
    let element = pipeline.by_name("detector").unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    if gstrsdetectnet::stats(&element).is_some() {
        assert_adds_up(&element);
    }
    let (frames, found) = *counts.lock().unwrap();
    format!("{how}, {frames} frames, {found} with something")
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn decoded_streams_of_two_sizes_take_turns_in_one_element() {
    let test = "streams::decoded_streams_of_two_sizes_take_turns_in_one_element";
    alone(test, 120, || {
        const TURNS: usize = 4;
        if !has("nvh264dec") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let detector = bundled_detector("fp32", &shared_cache());
        let mut description =
            format!("concat name=all ! {detector} threshold=0.4 ! appsink name=sink sync=false");
        for turn in 0..TURNS {
            for name in ["astronaut.png", "coffee.png"] {
                let file = folder.path().join(name.replace("png", "h264"));
                if turn == 0 {
                    encode(name, &file);
                }
                let file = file.display();
                description +=
                    &format!(" filesrc location={file} ! h264parse ! nvh264dec ! {CUDA} ! all.");
            }
        }
        let seen = play_each(&launch(&description), &description, &[], |sample| {
            let caps = sample.caps_owned().unwrap();
            let width = caps.structure(0).unwrap().get::<i32>("width").unwrap();
            let found = gstrsdetectnet::detections(sample.buffer().unwrap());
            (width, found)
        });
        assert_eq!(seen.len(), 2 * TURNS * FRAMES);
        let of_size = |wanted: i32| {
            let frames = seen.iter().filter(move |(width, _)| *width == wanted);
            frames.map(|(_, found)| found).collect::<Vec<_>>()
        };
        // Each clip shows one picture, at whichever turn it comes.
        for width in [512, 600] {
            let frames = of_size(width);
            assert_eq!(frames.len(), TURNS * FRAMES);
            for found in frames.iter().skip(FRAMES) {
                assert_same(found, frames[FRAMES - 1]);
            }
        }
    });
}

/// Decoders begin a clip with a picture that is a little worse.
fn assert_same(own: &[LabeledDetection], wanted: &[LabeledDetection]) {
    assert_eq!((own.len(), wanted.len()), (1, 1), "{own:?}, {wanted:?}");
    let boxes = (
        own[0].detection.bounding_box,
        wanted[0].detection.bounding_box,
    );
    assert_eq!(own[0].label, wanted[0].label);
    assert!(boxes.0.iou(&boxes.1) >= 0.9, "{boxes:?}");
}

/// The box of a red cell of each frame, in the order in which they came out.
fn assert_red(passed: Vec<Passed>, wanted: impl Fn(usize) -> BoundingBox) -> usize {
    let mut frames = 0;
    for passed in passed {
        if let Passed::Frame { detections, .. } = passed {
            assert_found(&detections, &[("red", wanted(frames))], 0.95, 0.9);
            frames += 1;
        }
    }
    frames
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn caps_that_change_with_every_frame_in_cuda_memory_are_followed() {
    let test = "streams::caps_that_change_with_every_frame_in_cuda_memory_are_followed";
    alone(test, 90, || {
        const ROUNDS: usize = 300;
        init();
        let cells = [
            ((256, 256), (3, 2)),
            ((640, 480), (6, 1)),
            ((1280, 720), (0, 7)),
        ];
        let (samples, boxes): (Vec<_>, Vec<_>) = cells
            .iter()
            .map(|(size, cell)| with_cell(*size, *cell, RED))
            .unzip();
        let Some(frames) = uploaded(&samples) else {
            return;
        };
        let detector = COLORS_SSD.detector(&shared_cache());
        for in_flight in [1, 4] {
            let detector = format!("{detector} max-in-flight={in_flight}");
            let video = stream(&detector, &frames[0]);
            for round in 0..ROUNDS {
                let frame = &frames[round % frames.len()];
                let caps = gst::event::Caps::new(&frame.caps_owned().unwrap());
                assert!(video.source.push_event(caps));
                let pushed = push(&video, frame);
                assert!(pushed.is_ok(), "{pushed:?}: {:?}", video.error());
            }
            video.sink.wait_for_frames(ROUNDS);
            let seen = assert_red(video.sink.take(), |frame| boxes[frame % boxes.len()]);
            assert_eq!(seen, ROUNDS);
            let element = video.element.clone();
            drop(video);
            assert_adds_up(&element);
        }
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn frames_in_cuda_memory_that_are_not_what_their_caps_say_are_refused_with_both_sizes() {
    let test = "streams::\
        frames_in_cuda_memory_that_are_not_what_their_caps_say_are_refused_with_both_sizes";
    alone(test, 90, || {
        init();
        let (small, small_box) = with_cell((256, 256), (3, 2), RED);
        let (large, _) = with_cell((640, 480), (6, 1), RED);
        let Some(frames) = uploaded(&[small.clone(), large]) else {
            return;
        };
        let (in_system_memory, [small, large]) = (small, [&frames[0], &frames[1]]);
        let video = stream(&COLORS_SSD.detector(&shared_cache()), large);
        let refused = |sample: &gst::Sample, words: &[&str]| {
            assert_eq!(push(&video, sample), Err(gst::FlowError::Error));
            let error = video.error().unwrap();
            println!("{error}");
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        refused(small, &["640x480 NV12", "256x256 NV12"]);
        refused(&in_system_memory, &["SystemMemory"]);
        let mut pieces = large.buffer_owned().unwrap().copy();
        pieces.make_mut().append_memory(gst::Memory::with_size(64));
        let pieces = gst::Sample::builder().buffer(&pieces).build();
        refused(&pieces, &["2 pieces"]);
        let empty = gst::Sample::builder().buffer(&gst::Buffer::new()).build();
        refused(&empty, &["0 pieces"]);
        // Then one that is as its caps say.
        let caps = gst::event::Caps::new(&small.caps_owned().unwrap());
        assert!(video.source.push_event(caps));
        push(&video, small).unwrap();
        video.sink.wait_for_frames(1);
        assert_eq!(assert_red(video.sink.take(), |_| small_box), 1);
        let element = video.element.clone();
        drop(video);
        assert_adds_up(&element);
        let stats = gstrsdetectnet::stats(&element).unwrap();
        assert_eq!((stats.failed, stats.inspected), (4, 1), "{stats:?}");
    });
}

/// What is done to an element while another thread brings frames.
fn disturb(video: &Stream, round: u64) {
    let element = &video.element;
    let pause = |nanos: u64| thread::sleep(Duration::from_nanos(nanos));
    let pad = element.request_pad_simple("crops").unwrap();
    let sink = Sink::new();
    pad.link(&sink.pad).unwrap();
    pause(round * 104_729 % 6_000_000);
    match round % 4 {
        // It goes while crops are being cut.
        0 => element.release_request_pad(&pad),
        1 => {
            pad.unlink(&sink.pad).unwrap();
            pause(round * 7919 % 1_000_000);
            pad.link(&sink.pad).unwrap();
            element.release_request_pad(&pad);
        }
        2 => {
            // The sink has gone to sleep before the pad goes.
            sink.pad.set_active(false).unwrap();
            pause(round * 7919 % 1_000_000);
            element.release_request_pad(&pad);
        }
        _ => {
            let source = element.static_pad("src").unwrap();
            source.unlink(&video.sink.pad).unwrap();
            pause(round * 7919 % 1_000_000);
            source.link(&video.sink.pad).unwrap();
            element.release_request_pad(&pad);
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn pads_that_are_released_and_unlinked_while_the_gpu_works_leave_nothing_behind() {
    let test =
        "streams::pads_that_are_released_and_unlinked_while_the_gpu_works_leave_nothing_behind";
    alone(test, 150, || {
        const ROUNDS: u64 = 400;
        init();
        let (sample, bounding_box) = with_cell((1280, 720), (6, 1), RED);
        let Some(frames) = uploaded(&[sample]) else {
            return;
        };
        let detector = COLORS_SSD.detector(&shared_cache());
        // All batches are prepared at the start, so that nothing of the model grows later.
        let detector = format!("{detector} max-in-flight=4 batch-size=2");
        let video = stream(&detector, &frames[0]);
        // The rounds begin with the model loaded.
        push(&video, &frames[0]).unwrap();
        video.sink.wait_for_frames(1);
        let context = Context::primary(0).unwrap();
        let ended = AtomicBool::new(false);
        let mut settled = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    // Refused while nobody listens.
                    let _ = push(&video, &frames[0]);
                }
            });
            let begin = Instant::now();
            for round in 0..ROUNDS {
                disturb(&video, round);
                if round % (ROUNDS / 8) == 0 {
                    let free = free_memory(&context);
                    println!("{} KiB free after round {round}", free >> 10);
                    if round == ROUNDS / 4 {
                        settled = free;
                    }
                }
                if begin.elapsed() > Duration::from_secs(60) {
                    println!("only {round} rounds");
                    break;
                }
            }
            ended.store(true, Ordering::Relaxed);
        });
        let seen = assert_red(video.sink.take(), |_| bounding_box);
        push(&video, &frames[0]).unwrap();
        video.sink.wait_for_frames(1);
        assert_eq!(video.error(), None);
        let left = free_memory(&context);
        let stats = gstrsdetectnet::stats(&video.element).unwrap();
        println!(
            "{seen} frames, {} crops; {} KiB of the GPU less free than after a quarter",
            stats.crops,
            settled.saturating_sub(left) >> 10
        );
        assert!(settled.saturating_sub(left) <= 32 << 20);
        assert!(stats.crops > 0);
        let element = video.element.clone();
        drop(video);
        assert_adds_up(&element);
    });
}
