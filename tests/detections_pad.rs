//! The pad `detections`: a line of JSON for each inspected frame, into real sinks.

mod common;

use std::io::{BufRead, Read};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use common::*;
use gst::prelude::*;
use gst_check::Harness;
use serde_json::Value;

const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);

/// Two objects in even frames, nothing in odd ones.
fn picture(number: u64) -> Picture {
    let grey = Picture::grey(128, 64);
    match number % 2 {
        0 => grey.with_cell(1, 1, RED).with_cell(6, 5, BLUE),
        _ => grey,
    }
}

fn frame(number: u64) -> gst::Buffer {
    let mut buffer = picture(number).buffer();
    let edit = buffer.get_mut().unwrap();
    edit.set_pts(FRAME * number);
    edit.set_duration(FRAME);
    buffer
}

fn harness(element: &gst::Element) -> Harness {
    let mut harness = Harness::with_element(element, Some("sink"), Some("detections"));
    harness.set_src_caps(picture(0).info().to_caps().unwrap());
    harness.play();
    harness
}

/// A pipeline whose element is named `d`, and where its frames go in.
fn pipeline(branches: &str) -> (gst::Pipeline, gst_app::AppSrc) {
    init();
    let labels = tests_file("models/colors.labels.txt");
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=in format=time ! rsdetectnet name=d model={} labels={} ! fakesink {branches}",
        model("colors-ssd.onnx"),
        labels.display()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let source = pipeline.by_name("in").unwrap();
    let source = source.downcast::<gst_app::AppSrc>().unwrap();
    source.set_caps(Some(&picture(0).info().to_caps().unwrap()));
    (pipeline, source)
}

/// Sends frames through such a pipeline, and waits for its end.
fn run(branches: &str, frames: u64) {
    let (pipeline, source) = pipeline(branches);
    pipeline.set_state(gst::State::Playing).unwrap();
    for number in 0..frames {
        source.push_buffer(frame(number)).unwrap();
    }
    source.end_of_stream().unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(gst::ClockTime::from_seconds(60), &end);
    pipeline.set_state(gst::State::Null).unwrap();
    let message = message.unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
}

/// Every line fits the documented schema, and the lines are those of these frames.
fn check_lines(text: &str, frames: u64, source: &str) {
    assert!(text.ends_with('\n'));
    assert_eq!(text.lines().count() as u64, frames);
    for (number, line) in (0..).zip(text.lines()) {
        let line: Value = serde_json::from_str(line).unwrap();
        check_line(&line);
        assert_eq!(line["source"], source);
        assert_eq!(line["frame"], number);
        assert_eq!(line["pts"], 40_000_000 * number);
        assert_eq!(line["timestamp"], 40_000_000 * number);
        let objects = line["objects"].as_array().unwrap();
        assert_eq!(objects.len(), if number % 2 == 0 { 2 } else { 0 });
    }
}

fn check_line(line: &Value) {
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(line),
        [
            "frame",
            "objects",
            "pts",
            "resolution",
            "running_time",
            "schema",
            "source",
            "timestamp",
            "timing"
        ]
    );
    assert_eq!(line["schema"], "rsdetectnet.detections/1");
    assert_eq!(line["resolution"]["width"], 128);
    assert_eq!(line["resolution"]["height"], 64);
    let timing = |name| line["timing"][name].as_u64().unwrap();
    assert!(
        timing("total_us") >= timing("preprocess_us") + timing("infer_us") + timing("decode_us")
    );
    assert!(timing("infer_us") > 0);
    for object in line["objects"].as_array().unwrap() {
        assert_eq!(names(object), ["detection", "h", "roi_type", "w", "x", "y"]);
        let detection = &object["detection"];
        assert_eq!(
            names(detection),
            ["bounding_box", "confidence", "label", "label_id"]
        );
        assert_eq!(detection["label"], object["roi_type"]);
        assert!((0.5..=1.0).contains(&detection["confidence"].as_f64().unwrap()));
        let corner = |name| detection["bounding_box"][name].as_f64().unwrap();
        let pixels = |name| object[name].as_f64().unwrap();
        for (part, whole) in [
            (corner("x_min") * 128.0, pixels("x")),
            (corner("y_min") * 64.0, pixels("y")),
            (corner("x_max") * 128.0, pixels("x") + pixels("w")),
            (corner("y_max") * 64.0, pixels("y") + pixels("h")),
        ] {
            assert!((part - whole).abs() < 1e-3, "{part} is not {whole}");
        }
    }
}

#[test]
fn a_file_gets_a_line_for_every_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines.json");
    run(
        &format!("d.detections ! filesink location={}", path.display()),
        20,
    );
    check_lines(&std::fs::read_to_string(path).unwrap(), 20, "d");
}

#[test]
fn a_file_descriptor_gets_a_line_for_every_frame() {
    let mut file = tempfile::tempfile().unwrap();
    run(
        &format!("d.detections ! queue ! fdsink fd={}", file.as_raw_fd()),
        9,
    );
    std::io::Seek::rewind(&mut file).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    check_lines(&text, 9, "d");
}

#[test]
fn a_tcp_client_gets_a_line_for_every_frame() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_string(&mut text)
            .unwrap();
        text
    });
    run(
        &format!("d.detections ! tcpclientsink host=127.0.0.1 port={port}"),
        9,
    );
    check_lines(&reader.join().unwrap(), 9, "d");
}

#[test]
fn a_client_of_a_tcp_server_gets_a_line_for_every_frame_since_it_connected() {
    let (pipeline, source) =
        pipeline("d.detections ! tcpserversink name=server host=127.0.0.1 port=0");
    let server = pipeline.by_name("server").unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let port = server.property::<i32>("current-port") as u16;
    let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let start = Instant::now();
    while server.property::<u32>("num-handles") == 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "no client");
        std::thread::sleep(Duration::from_millis(5));
    }
    for number in 0..9 {
        source.push_buffer(frame(number)).unwrap();
    }
    let lines = std::io::BufReader::new(client).lines().take(9);
    let text: String = lines.map(|line| line.unwrap() + "\n").collect();
    pipeline.set_state(gst::State::Null).unwrap();
    check_lines(&text, 9, "d");
}

#[test]
fn lines_have_the_time_of_their_frame_and_a_stream_of_their_own() {
    let element = colors_element("colors-ssd.onnx")
        .property("json-source", "gate \"7\"")
        .build()
        .unwrap();
    let mut harness = harness(&element);
    let line = harness.push_and_pull(frame(3)).unwrap();
    assert_eq!(
        (line.pts(), line.duration()),
        (Some(FRAME * 3), Some(FRAME))
    );
    let text = line.map_readable().unwrap();
    let parsed: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(parsed["source"], "gate \"7\"");
    harness.push_event(gst::event::Eos::new());
    let mut events = Vec::new();
    while events.last() != Some(&gst::EventType::Eos) {
        let event = harness.pull_event().unwrap();
        if let gst::EventView::StreamStart(start) = event.view() {
            assert!(start.stream_id().ends_with("/detections"));
            assert!(start.stream_flags().contains(gst::StreamFlags::SPARSE));
        }
        if let gst::EventView::Caps(caps) = event.view() {
            assert_eq!(caps.caps().to_string(), "application/x-json");
        }
        events.push(event.type_());
    }
    use gst::EventType::{Caps, Eos, Segment, StreamStart};
    assert_eq!(events, [StreamStart, Caps, Segment, Eos]);
}

#[test]
fn frames_without_a_line_are_gaps() {
    let element = colors_element("colors-ssd.onnx")
        .property("json-empty", false)
        .build()
        .unwrap();
    let mut harness = harness(&element);
    harness.push_and_pull(frame(0)).unwrap();
    harness.push(frame(1)).unwrap();
    let gap = std::iter::from_fn(|| harness.pull_event().ok())
        .find(|event| event.type_() == gst::EventType::Gap)
        .unwrap();
    let gst::EventView::Gap(gap) = gap.view() else {
        unreachable!()
    };
    assert_eq!(gap.get(), (FRAME, Some(FRAME)));
    element.set_property("json-empty", true);
    let line = harness.push_and_pull(frame(3)).unwrap();
    let parsed: Value = serde_json::from_slice(&line.map_readable().unwrap()).unwrap();
    assert_eq!(parsed["objects"], Value::Array(Vec::new()));
    assert_eq!(parsed["frame"], 2);
}
