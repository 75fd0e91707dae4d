//! With several frames under way at once, everything leaves in the order in which it came, and every way to end or to
//! interrupt a stream does what it does with one.

#[path = "../common/mod.rs"]
mod common;
mod downstream;
mod flushes;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::pads::*;
use common::*;
use gst::prelude::*;
use serde_json::Value;

const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);
const IN_FLIGHT: usize = 4;
/// Long enough for what must not happen to happen.
const SETTLED: Duration = Duration::from_millis(150);

fn element(in_flight: usize) -> gst::Element {
    let builder = colors_element("colors-ssd.onnx");
    let builder = builder.property("max-in-flight", in_flight as u32);
    builder.build().unwrap()
}

/// A picture that shows its number: a red cell at that place.
fn picture(number: u64) -> Picture {
    let cell = number as u32 % 64;
    Picture::grey(64, 64).with_cell(cell % 8, cell / 8, RED)
}

fn frame_of(picture: &Picture, number: u64) -> gst::Buffer {
    let mut buffer = picture.buffer();
    let edit = buffer.get_mut().unwrap();
    edit.set_pts(FRAME * number);
    edit.set_duration(FRAME);
    buffer
}

fn frame(number: u64) -> gst::Buffer {
    frame_of(&picture(number), number)
}

fn playing(in_flight: usize) -> Stream {
    Stream::playing(&element(in_flight), &picture(0).info())
}

/// The numbers of the frames that came out, each of which must show its own object.
fn numbers(passed: &[Passed]) -> Vec<u64> {
    let frames = passed.iter().filter_map(|passed| match passed {
        Passed::Frame {
            pts, detections, ..
        } => Some((pts.unwrap() / FRAME, detections)),
        _ => None,
    });
    frames
        .map(|(number, detections)| {
            let cell = number as u32 % 64;
            let wanted = picture(number).cell_box(cell % 8, cell / 8);
            assert_found(detections, &[("red", wanted)], 0.99, 0.9);
            number
        })
        .collect()
}

#[test]
fn frames_and_serialized_events_leave_in_the_order_in_which_they_came() {
    let large = Picture::grey(640, 480).with_cell(5, 6, BLUE);
    let mut all = Vec::new();
    for in_flight in [1, IN_FLIGHT] {
        let stream = Stream::new(&element(in_flight));
        let mut sent = Vec::new();
        let event = |event: gst::Event, sent: &mut Vec<_>| {
            sent.push(Passed::Event(event.type_()));
            assert!(stream.source.push_event(event));
        };
        let mut memory = Vec::new();
        let mut push = |buffer: gst::Buffer, sent: &mut Vec<_>| {
            memory.push(buffer.peek_memory(0).as_ptr() as usize);
            sent.push(Passed::Frame {
                pts: buffer.pts(),
                memory: *memory.last().unwrap(),
                detections: Vec::new(),
            });
            stream.source.push(buffer).unwrap();
        };
        let caps = |picture: &Picture| gst::event::Caps::new(&picture.info().to_caps().unwrap());
        event(gst::event::StreamStart::new("test"), &mut sent);
        event(caps(&picture(0)), &mut sent);
        event(segment(), &mut sent);
        push(frame(0), &mut sent);
        push(frame(1), &mut sent);
        let mut tags = gst::TagList::new();
        let edit = tags.get_mut().unwrap();
        edit.add::<gst::tags::Title>(&"title", gst::TagMergeMode::Replace);
        event(gst::event::Tag::new(tags), &mut sent);
        let mut gap = frame(2);
        gap.get_mut().unwrap().set_flags(gst::BufferFlags::GAP);
        push(gap, &mut sent);
        event(gst::event::Gap::new(FRAME * 3, FRAME), &mut sent);
        push(frame(4), &mut sent);
        event(caps(&large), &mut sent);
        push(frame_of(&large, 5), &mut sent);
        push(frame_of(&large, 6), &mut sent);
        event(segment(), &mut sent);
        event(caps(&picture(0)), &mut sent);
        let custom = gst::event::CustomDownstream::new(gst::Structure::new_empty("test"));
        event(custom, &mut sent);
        push(frame(7), &mut sent);
        event(gst::event::Eos::new(), &mut sent);
        stream.sink.wait_for(gst::EventType::Eos);

        let passed = stream.sink.passed();
        let without_detections = |passed: &Passed| match passed {
            Passed::Frame { pts, memory, .. } => Passed::Frame {
                pts: *pts,
                memory: *memory,
                detections: Vec::new(),
            },
            other => other.clone(),
        };
        let bare: Vec<_> = passed.iter().map(without_detections).collect();
        assert_eq!(bare, sent);
        let found = passed.into_iter().filter_map(|passed| match passed {
            Passed::Frame { detections, .. } => Some(detections),
            _ => None,
        });
        let found: Vec<_> = found.collect();
        let (red, blue) = (
            |cell| vec![("red", picture(0).cell_box(cell, 0))],
            vec![("blue", large.cell_box(5, 6))],
        );
        let wanted = [red(0), red(1), vec![], red(4), blue.clone(), blue, red(7)];
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_found(found, wanted, 0.99, 0.9);
        }
        assert_eq!(stream.error(), None);
        all.push(found);
    }
    assert_eq!(all[0], all[1], "more frames under way find other things");
}

#[test]
fn no_more_frames_than_allowed_are_inside_however_long_downstream_takes() {
    for in_flight in [2, IN_FLIGHT, 16] {
        let stream = playing(in_flight);
        stream.sink.set(Door::Closed);
        let pushed = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..40 {
                    stream.source.push(frame(number)).unwrap();
                    pushed.fetch_add(1, Ordering::SeqCst);
                }
            });
            stream.sink.wait_for_a_knock();
            let start = Instant::now();
            while pushed.load(Ordering::SeqCst) < in_flight as u64 && start.elapsed() < LONG {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(SETTLED);
            assert_eq!(pushed.load(Ordering::SeqCst), in_flight as u64);
            // What is not in the order of the stream overtakes them.
            let overtaking =
                gst::event::CustomDownstreamOob::new(gst::Structure::new_empty("test"));
            assert!(stream.source.push_event(overtaking));
            let overtook = Passed::Event(gst::EventType::CustomDownstreamOob);
            let passed = stream.sink.passed();
            assert!(passed.contains(&overtook) && frames(&passed) == 0);
            stream.sink.set(OPEN);
        });
        stream.sink.wait_for_frames(40);
        assert!(numbers(&stream.sink.passed()).into_iter().eq(0..40));
    }
}

#[test]
fn a_frame_leaves_while_the_next_one_is_inspected() {
    let builder = colors_element("slow-ssd.onnx").property("max-in-flight", IN_FLIGHT as u32);
    let stream = Stream::playing(&builder.build().unwrap(), &picture(0).info());
    let buffers: Vec<_> = (0..4).map(frame).collect();
    for (number, buffer) in buffers.into_iter().enumerate() {
        stream.source.push(buffer).unwrap();
        let out = frames(&stream.sink.passed());
        assert!(out >= number, "{out} frames are out after {number}");
    }
}

#[test]
fn a_hundred_stops_with_frames_under_way_leave_nothing_behind() {
    let element = element(IN_FLIGHT);
    // The first start opens ONNX Runtime, whose own threads stay.
    drop(Stream::playing(&element, &picture(0).info()));
    let before = threads();
    for round in 0..100u64 {
        let stream = Stream::playing(&element, &picture(0).info());
        if round % 3 == 0 {
            stream.sink.set(Door::Closed);
        }
        thread::scope(|scope| {
            let source = scope.spawn(|| {
                let mut number = 0;
                loop {
                    if let Err(error) = stream.source.push(frame(number)) {
                        return error;
                    }
                    number += 1;
                }
            });
            thread::sleep(Duration::from_micros(1 + round * 379 % 4000));
            if round % 3 == 0 {
                stream.sink.wait_for_a_knock();
                stream.sink.set(Door::Open(Err(gst::FlowError::Flushing)));
            }
            element.set_state(gst::State::Null).unwrap();
            assert_eq!(source.join().unwrap(), gst::FlowError::Flushing);
        });
        let numbers = numbers(&stream.sink.passed());
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64));
        assert_eq!(stream.error(), None);
    }
    wait_for_threads(before);
    assert_eq!(element.ref_count(), 1, "somebody still holds the element");
}

#[test]
fn a_pipeline_dropped_in_mid_stream_is_gone() {
    init();
    let before = threads();
    for round in 0..10 {
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc ! video/x-raw,format=I420,width=64,height=64,framerate=1000/1 ! \
             rsdetectnet name=detector max-in-flight={IN_FLIGHT} model={} labels={} ! fakesink sync=false",
            model("colors-ssd.onnx"),
            tests_file("models/colors.labels.txt").display(),
        ))
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        let detector = pipeline.by_name("detector").unwrap().downgrade();
        pipeline.set_state(gst::State::Playing).unwrap();
        thread::sleep(Duration::from_millis(round * 7));
        pipeline.set_state(gst::State::Null).unwrap();
        drop(pipeline);
        // A thread of GStreamer that was to bring the pipeline to its next state may hold it a little longer.
        let begin = Instant::now();
        while detector.upgrade().is_some() {
            assert!(begin.elapsed() < LONG, "somebody holds the element");
            thread::sleep(Duration::from_millis(1));
        }
    }
    // GStreamer keeps a few idle threads for its next tasks, whatever ran in them.
    assert!(
        threads() <= before + 8,
        "{} threads, {before} before",
        threads()
    );
}

#[test]
fn crops_lines_and_messages_come_in_the_order_of_the_frames() {
    const FRAMES: u64 = 60;
    let mut all = Vec::new();
    for in_flight in [1, IN_FLIGHT] {
        let element = element(in_flight);
        element.set_property("post-messages", true);
        for name in ["crop-overflow", "json-overflow"] {
            element.set_property_from_str(name, "block");
        }
        let (crops, lines) = (Sink::new(), Sink::new());
        let (line, all_lines) = mpsc::channel();
        lines
            .pad
            .add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let text = info.buffer().unwrap().map_readable().unwrap();
                line.send(serde_json::from_slice::<Value>(&text).unwrap())
                    .unwrap();
                gst::PadProbeReturn::Ok
            });
        element
            .request_pad_simple("crops")
            .unwrap()
            .link(&crops.pad)
            .unwrap();
        element
            .request_pad_simple("detections")
            .unwrap()
            .link(&lines.pad)
            .unwrap();
        let stream = Stream::playing(&element, &picture(0).info());
        for number in 0..FRAMES {
            stream.source.push(frame(number)).unwrap();
        }
        assert!(stream.source.push_event(gst::event::Eos::new()));
        for sink in [&stream.sink, &crops, &lines] {
            sink.wait_for(gst::EventType::Eos);
            let pts = sink.passed().into_iter().filter_map(|passed| match passed {
                Passed::Frame { pts, .. } => pts,
                _ => None,
            });
            assert!(pts.eq((0..FRAMES).map(|number| FRAME * number)));
            assert_eq!(
                sink.passed().last(),
                Some(&Passed::Event(gst::EventType::Eos))
            );
        }
        let lines: Vec<_> = all_lines.try_iter().collect();
        let numbers = lines.iter().map(|line| line["frame"].as_u64().unwrap());
        assert!(numbers.eq(0..FRAMES));
        let objects: Vec<_> = lines
            .iter()
            .map(|line| line["objects"].to_string())
            .collect();
        let messages = std::iter::from_fn(|| stream.bus.pop_filtered(&[gst::MessageType::Element]));
        let number = |message: gst::Message| message.structure()?.get::<u64>("frame").ok();
        let numbers = messages.filter_map(number);
        assert!(numbers.eq(0..FRAMES));
        all.push(objects);
    }
    assert_eq!(all[0], all[1]);
}
