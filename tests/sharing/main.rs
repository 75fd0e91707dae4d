//! Elements of one process that ask for the same model share it, and nothing else: settings, results and failures are
//! each element's own.

mod cameras;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/heap.rs"]
mod heap;
mod starts;

use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::pads::*;
use common::*;
use gst::prelude::*;
use gst_video::VideoFormat;
use heap::allocated;

const COLORS: [(&str, [u8; 3]); 3] = [("red", RED), ("green", GREEN), ("blue", BLUE)];

fn colors() -> Builder {
    colors_element("colors-ssd.onnx")
}

fn start(builder: Builder) -> Stream {
    let info = Picture::grey(64, 64).info();
    Stream::playing(&builder.build().unwrap(), &info)
}

fn sharing(stream: &Stream) -> u32 {
    stream.stats().get("model-streams").unwrap()
}

/// The labels that the element finds in [`four_cells`].
fn labels(stream: &Stream) -> Vec<String> {
    stream.sink.take();
    stream.source.push(four_cells().buffer()).unwrap();
    stream.sink.wait_for_frames(1);
    let found = stream
        .sink
        .take()
        .into_iter()
        .find_map(|passed| match passed {
            Passed::Frame { detections, .. } => Some(detections),
            _ => None,
        });
    found
        .unwrap()
        .into_iter()
        .map(|found| found.label)
        .collect()
}

#[test]
fn elements_with_equal_options_share_a_model_until_they_stop() {
    let first = start(colors());
    assert_eq!(sharing(&first), 1);
    let second = start(colors());
    // What concerns the results alone does not matter.
    let other_results = start(
        colors()
            .property("threshold", 0.9f32)
            .property("classes", "red")
            .property("max-detections", 1u32)
            .property("interval", 3u32)
            .property("max-in-flight", 4u32)
            .property("overlay", "box"),
    );
    for stream in [&first, &second, &other_results] {
        assert_eq!(sharing(stream), 3);
    }
    second.element.set_state(gst::State::Ready).unwrap();
    assert_eq!([&first, &second, &other_results].map(sharing), [2, 0, 2]);
    second.element.set_state(gst::State::Playing).unwrap();
    assert_eq!([&first, &second, &other_results].map(sharing), [3, 3, 3]);
    drop(first);
    drop(other_results);
    assert_eq!(sharing(&second), 1);
}

#[test]
fn elements_with_other_options_have_a_model_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let same_labels = folder.path().join("labels.txt");
    std::fs::copy(tests_file("models/colors.labels.txt"), &same_labels).unwrap();
    let same_model = folder.path().join("colors-ssd.onnx");
    std::fs::copy(model("colors-ssd.onnx"), &same_model).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let streams = [
        start(colors()),
        start(colors().property("model-instance-id", "gate")),
        start(colors().property("model-instance-id", "garden")),
        start(colors().property("threads", 1u32)),
        start(colors().property_from_str("scaling", "area")),
        start(colors().property("labels", text(&same_labels))),
        start(colors().property("model", text(&same_model))),
        start(colors_element("colors-ssd-nhwc-uint8.onnx")),
    ];
    for stream in &streams {
        assert_eq!(sharing(stream), 1);
        assert_eq!(labels(stream), ["red", "red", "blue", "green"]);
    }
    let second_at_the_gate = start(colors().property("model-instance-id", "gate"));
    assert_eq!(sharing(&second_at_the_gate), 2);
    assert_eq!(streams.each_ref().map(sharing), [1, 2, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn a_model_file_that_was_replaced_is_loaded_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let element = || {
        let builder = colors().property("model", path.to_str().unwrap().to_owned());
        builder.property("labels", None::<String>)
    };
    std::fs::copy(model("colors-ssd.onnx"), &path).unwrap();
    let before = start(element());
    std::fs::copy(model("colors-yolov5.onnx"), &path).unwrap();
    let after = start(element());
    assert_eq!((sharing(&before), sharing(&after)), (1, 1));
    // The labels of the one are numbers, those of the other are in the model.
    assert_eq!(labels(&before)[0], "class 1");
    assert_eq!(labels(&after)[0], "red");
}

#[test]
fn settings_of_the_results_are_each_element_s_own() {
    let all = start(colors());
    let strict = start(colors().property("threshold", 0.7f32));
    let chosen = start(colors().property("classes", "green:0.55,Blue"));
    let few = start(colors().property("max-detections", 2u32));
    assert_eq!(sharing(&all), 4);
    for _ in 0..3 {
        assert_eq!(labels(&all), ["red", "red", "blue", "green"]);
        assert_eq!(labels(&strict), ["red", "red", "blue"]);
        assert_eq!(labels(&chosen), ["blue", "green"]);
        assert_eq!(labels(&few), ["red", "red"]);
    }
    strict.element.set_property("threshold", 0.1f32);
    assert_eq!(labels(&strict), ["red", "red", "blue", "green"]);
    assert_eq!(labels(&few), ["red", "red"]);
}

#[test]
fn the_last_one_out_frees_everything() {
    // Alone in a process, so that threads and memory are those of this test.
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_starts_and_stops",
            "--ignored",
            "--nocapture",
        ])
        // One heap for all threads, of which `allocated` tells.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    println!("{text}");
}

#[test]
#[ignore = "run by the_last_one_out_frees_everything"]
fn child_starts_and_stops() {
    const SETTLED: usize = 3;
    const CYCLES: usize = 12;
    /// A model left behind by each cycle would be 70 MB.
    const MAY_GROW: usize = 1 << 20;
    let cycle = || {
        init();
        let element = || gst::ElementFactory::make("rsdetectnet").build().unwrap();
        let streams: Vec<_> = (0..3)
            .map(|_| Stream::playing(&element(), &four_cells().info()))
            .collect();
        thread::scope(|scope| {
            for stream in &streams {
                scope.spawn(|| {
                    for _ in 0..5 {
                        stream.source.push(four_cells().buffer()).unwrap();
                    }
                });
            }
        });
        assert_eq!(sharing(&streams[0]), 3);
    };
    let before = threads();
    cycle();
    // ONNX Runtime keeps one thread from its first use on.
    wait_for_threads(before + 1);
    let begin = Instant::now();
    let held: Vec<usize> = (0..CYCLES)
        .map(|_| {
            cycle();
            // Copies of the model that were under way are dropped by their threads.
            wait_for_threads(before + 1);
            allocated()
        })
        .collect();
    let grown = held[CYCLES - 1].saturating_sub(held[SETTLED]);
    println!(
        "{grown} bytes grew over {} cycles of {:?}: {held:?}",
        CYCLES - 1 - SETTLED,
        begin.elapsed() / CYCLES as u32
    );
    assert!(grown < MAY_GROW, "{grown} bytes grew");
}
