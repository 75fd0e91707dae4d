//! What the application around the element does: other programs, other clocks, another version of the plugin.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::common::pads::*;
use crate::common::*;

#[test]
fn programs_started_in_mid_stream_inherit_no_file_and_disturb_nothing() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let stream = Stream::playing(&element, &four_cells().info());
    for number in 1..=20 {
        stream.source.push(four_cells().buffer()).unwrap();
        let listing = Command::new("ls").args(["-l", "/proc/self/fd"]).output();
        let listing = String::from_utf8(listing.unwrap().stdout).unwrap();
        assert!(
            !listing.contains(".onnx") && !listing.contains("rsdetectnet"),
            "{listing}"
        );
        stream.sink.wait_for_frames(number);
    }
    let passed = stream.sink.passed();
    assert!(passed.iter().all(|passed| match passed {
        Passed::Frame { detections, .. } => detections.len() == 4,
        _ => true,
    }));
}

/// A live pipeline whose clock jumps by an hour, there and back.
#[test]
fn a_clock_that_jumps_loses_no_frame_and_stops_nothing() {
    init();
    let clock = gst_check::TestClock::new();
    clock.set_time(gst::ClockTime::from_seconds(7200));
    let pipeline = gst::Pipeline::new();
    let source = gst_app::AppSrc::builder()
        .caps(&four_cells().info().to_caps().unwrap())
        .format(gst::Format::Time)
        .is_live(true)
        .build();
    let element = colors_element("colors-ssd.onnx")
        .property("max-latency", 100u32)
        .property_from_str("late-policy", "skip-inference")
        .build()
        .unwrap();
    let sink = gst_app::AppSink::builder().sync(false).build();
    pipeline
        .add_many([source.upcast_ref(), &element, sink.upcast_ref()])
        .unwrap();
    gst::Element::link_many([source.upcast_ref(), &element, sink.upcast_ref()]).unwrap();
    pipeline.use_clock(Some(&clock));
    pipeline.set_state(gst::State::Playing).unwrap();
    let start = clock.time();
    let hour = gst::ClockTime::from_seconds(3600);
    // A test clock refuses to go back; base time that goes ahead is the same to the element.
    let jumps = [
        (start, gst::ClockTime::ZERO, true),
        (start + hour, gst::ClockTime::ZERO, false),
        (start + hour, hour, true),
        (start + hour, hour * 2, true),
    ];
    for (time, pts, is_inspected) in jumps {
        clock.set_time(time);
        let mut buffer = four_cells().buffer();
        buffer.get_mut().unwrap().set_pts(pts);
        source.push_buffer(buffer).unwrap();
        let sample = sink
            .try_pull_sample(gst::ClockTime::from_seconds(20))
            .unwrap();
        let detections = gstrsdetectnet::detections(sample.buffer().unwrap());
        assert_eq!(
            detections.len(),
            if is_inspected { 4 } else { 0 },
            "at {time}, {pts}"
        );
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn two_versions_of_the_plugin_in_one_registry_give_one_element_that_works() {
    let folder = tempfile::tempdir().unwrap();
    let copies = ["first", "second"].map(|name| folder.path().join(name));
    for copy in &copies {
        std::fs::create_dir(copy).unwrap();
        std::fs::copy(library(), copy.join("libgstrsdetectnet.so")).unwrap();
    }
    let [first, second] = copies.map(|copy| copy.to_str().unwrap().to_owned());
    for _ in 0..2 {
        let output = Command::new("gst-launch-1.0")
            .args([
                "-m",
                "videotestsrc",
                "num-buffers=3",
                "!",
                "video/x-raw,width=64,height=64",
                "!",
            ])
            .args([
                "rsdetectnet",
                &format!("model={}", model("colors-ssd.onnx")),
                "!",
            ])
            .args([
                "rsdetectnet",
                &format!("model={}", model("colors-yolov5.onnx")),
                "!",
                "fakesink",
            ])
            .env("GST_PLUGIN_PATH", format!("{first}:{second}"))
            .env("GST_REGISTRY", folder.path().join("registry.bin"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
    }
}

const LAST_WORDS: &str = "it leaves";

#[test]
fn a_process_that_exits_in_mid_stream_ends_at_once_and_without_a_crash() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "hosts::child_exits_in_mid_stream",
            "--ignored",
            "--nocapture",
        ])
        // What it leaves behind is the point of it.
        .env_remove("GST_TRACERS")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(LAST_WORDS)));
    let begin = Instant::now();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{text}");
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
#[ignore = "run by a_process_that_exits_in_mid_stream_ends_at_once_and_without_a_crash"]
fn child_exits_in_mid_stream() {
    init();
    let pipeline = gst::parse::launch("videotestsrc ! rsdetectnet ! fakesink").unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    println!("{LAST_WORDS}");
    std::process::exit(7);
}
