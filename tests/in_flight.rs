//! With several frames under way at once, everything leaves in the order in which it came, and every way to end or to
//! interrupt a stream does what it does with one.

mod common;

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
fn a_flush_drops_what_is_under_way_and_the_stream_goes_on() {
    let stream = playing(IN_FLIGHT);
    stream.source.push(frame(0)).unwrap();
    stream.sink.wait_for_frames(1);
    for round in 1..=20 {
        stream.sink.take();
        stream.sink.set(Door::Closed);
        for number in 0..IN_FLIGHT as u64 {
            stream.source.push(frame(100 + number)).unwrap();
        }
        thread::scope(|scope| {
            // One that waits for room.
            let waiting = scope.spawn(|| stream.source.push(frame(200)));
            stream.sink.wait_for_a_knock();
            if round % 2 == 0 {
                thread::sleep(Duration::from_millis(5));
            }
            assert!(stream.source.push_event(gst::event::FlushStart::new()));
            assert_eq!(waiting.join().unwrap(), Err(gst::FlowError::Flushing));
        });
        assert_eq!(
            stream.source.push(frame(201)),
            Err(gst::FlowError::Flushing)
        );
        stream.sink.set(OPEN);
        assert!(stream.source.push_event(gst::event::FlushStop::new(true)));
        assert!(stream.source.push_event(segment()));
        for number in 0..10 {
            stream.source.push(frame(round + number)).unwrap();
        }
        stream.sink.wait_for_frames(10);
        let passed = stream.sink.passed();
        let events = [
            gst::EventType::FlushStart,
            gst::EventType::FlushStop,
            gst::EventType::Segment,
        ];
        assert_eq!(passed[..3], events.map(Passed::Event));
        assert!(numbers(&passed).into_iter().eq(round..round + 10));
    }
    assert_eq!(stream.error(), None);
}

#[test]
fn a_flush_at_the_start_does_not_take_with_it_what_the_stream_is() {
    for _ in 0..30 {
        let element = element(IN_FLIGHT);
        let lines = Sink::new();
        let pad = element.request_pad_simple("detections").unwrap();
        pad.link(&lines.pad).unwrap();
        let stream = Stream::playing(&element, &picture(0).info());
        assert!(stream.source.push_event(gst::event::FlushStart::new()));
        assert!(stream.source.push_event(gst::event::FlushStop::new(true)));
        assert!(stream.source.push_event(segment()));
        stream.source.push(frame(0)).unwrap();
        for sink in [&stream.sink, &lines] {
            sink.wait_for_frames(1);
            let kind = |passed| match passed {
                Passed::Event(kind) => Some(kind),
                _ => None,
            };
            let events: Vec<_> = sink.passed().into_iter().filter_map(kind).collect();
            for needed in [
                gst::EventType::StreamStart,
                gst::EventType::Caps,
                gst::EventType::Segment,
            ] {
                assert!(events.contains(&needed), "no {needed:?} in {events:?}");
            }
        }
    }
}

#[test]
fn flushes_from_another_thread_let_nothing_old_through() {
    const ROUNDS: u64 = 60;
    let stream = playing(IN_FLIGHT);
    for round in 0..ROUNDS {
        thread::scope(|scope| {
            // As the thread of a source, which stops at a flush and starts again after it.
            let source = scope.spawn(|| {
                let mut number = round * 1000;
                while stream.source.push(frame(number)).is_ok() {
                    number += 1;
                }
            });
            thread::sleep(Duration::from_micros(1 + round * 317 % 7000));
            assert!(stream.source.push_event(gst::event::FlushStart::new()));
            source.join().unwrap();
        });
        assert!(stream.source.push_event(gst::event::FlushStop::new(true)));
        assert!(stream.source.push_event(segment()));
    }
    stream.source.push(frame(ROUNDS * 1000)).unwrap();
    stream.sink.wait_for_frames(1);
    assert!(stream.source.push_event(gst::event::Eos::new()));
    stream.sink.wait_for(gst::EventType::Eos);
    let passed = stream.sink.passed();
    let flush_stop = Passed::Event(gst::EventType::FlushStop);
    let rounds: Vec<_> = passed.split(|passed| *passed == flush_stop).collect();
    assert_eq!(rounds.len() as u64, ROUNDS + 1);
    for (round, passed) in (0..).zip(rounds) {
        let numbers = numbers(passed);
        assert!(
            numbers
                .iter()
                .copied()
                .eq(round * 1000..round * 1000 + numbers.len() as u64),
            "round {round}: {numbers:?}"
        );
    }
    assert_eq!(stream.error(), None);
}

#[test]
fn a_serialized_query_is_answered_after_the_frames_before_it() {
    init();
    let caps = picture(0).info().to_caps().unwrap();
    for in_flight in [1, IN_FLIGHT] {
        let stream = playing(in_flight);
        if in_flight > 1 {
            stream.sink.set(Door::Closed);
        }
        for number in 0..in_flight as u64 - 1 {
            stream.source.push(frame(number)).unwrap();
        }
        stream.sink.take();
        thread::scope(|scope| {
            let (answered, is_answered) = mpsc::channel();
            let (stream, caps) = (&stream, &caps);
            scope.spawn(move || {
                let mut allocation = gst::query::Allocation::new(Some(caps), true);
                answered
                    .send(stream.source.peer_query(&mut allocation))
                    .unwrap();
                let mut drain = gst::query::Drain::new();
                answered.send(stream.source.peer_query(&mut drain)).unwrap();
            });
            if in_flight > 1 {
                stream.sink.wait_for_a_knock();
                thread::sleep(SETTLED);
                assert!(is_answered.try_recv().is_err(), "it was answered too early");
                stream.sink.set(OPEN);
            }
            assert_eq!(is_answered.recv_timeout(LONG), Ok(true));
            assert_eq!(is_answered.recv_timeout(LONG), Ok(true));
        });
        let passed = stream.sink.take();
        assert!(numbers(&passed).into_iter().eq(0..in_flight as u64 - 1));
        let queries = [gst::QueryType::Allocation, gst::QueryType::Drain];
        assert_eq!(passed[passed.len() - 2..], queries.map(Passed::Query));
    }
}

#[test]
fn a_query_that_waits_for_frames_ends_with_a_flush_or_a_stop() {
    for stops in [false, true] {
        let stream = playing(IN_FLIGHT);
        stream.sink.set(Door::Closed);
        stream.source.push(frame(0)).unwrap();
        stream.sink.wait_for_a_knock();
        thread::scope(|scope| {
            let asking = scope.spawn(|| stream.source.peer_query(&mut gst::query::Drain::new()));
            thread::sleep(Duration::from_millis(20));
            assert!(!asking.is_finished());
            if stops {
                // As in a pipeline, where sinks stop first.
                stream.sink.set(Door::Open(Err(gst::FlowError::Flushing)));
                stream.element.set_state(gst::State::Null).unwrap();
            } else {
                assert!(stream.source.push_event(gst::event::FlushStart::new()));
            }
            // Stopped at the door, the frame may have gone before the stop came.
            let answered = asking.join().unwrap();
            assert!(stops || !answered);
        });
    }
}

#[test]
fn what_downstream_returns_reaches_upstream_with_the_next_frames() {
    use gst::FlowError::*;
    for error in [Eos, NotLinked, Error, Flushing, NotNegotiated, CustomError] {
        let stream = playing(IN_FLIGHT);
        stream.source.push(frame(0)).unwrap();
        stream.sink.wait_for_frames(1);
        stream.sink.set(Door::Open(Err(error)));
        let refused = (1..=IN_FLIGHT as u64 + 2)
            .map(|number| stream.source.push(frame(number)))
            .find(Result::is_err);
        assert_eq!(refused, Some(Err(error)));
        assert_eq!(stream.source.push(frame(9)), Err(error));
        // Nothing is lost of what tells downstream that the stream has ended.
        assert!(stream.source.push_event(gst::event::Eos::new()));
        stream.sink.wait_for(gst::EventType::Eos);
        assert_eq!(numbers(&stream.sink.passed()), [0], "{error:?}");
    }
}

#[test]
fn one_refusal_is_not_forgotten_over_frames_that_are_taken_later() {
    let stream = playing(IN_FLIGHT);
    stream.sink.set(Door::Closed);
    for number in 0..IN_FLIGHT as u64 {
        stream.source.push(frame(number)).unwrap();
    }
    stream.sink.wait_for_a_knock();
    stream.sink.set(Door::RefusesOne(gst::FlowError::Error));
    assert_eq!(stream.source.push(frame(10)), Err(gst::FlowError::Error));
    assert_eq!(frames(&stream.sink.passed()), 0);
}

#[test]
fn after_the_end_another_stream_may_begin() {
    for begins in ["segment", "stream-start", "flush"] {
        let stream = playing(IN_FLIGHT);
        stream.sink.set(Door::Open(Err(gst::FlowError::Eos)));
        let ended = (0..IN_FLIGHT as u64 + 2)
            .any(|number| stream.source.push(frame(number)) == Err(gst::FlowError::Eos));
        assert!(ended);
        stream.sink.set(OPEN);
        match begins {
            "segment" => assert!(stream.source.push_event(segment())),
            "stream-start" => stream.begin(&picture(0).info().to_caps().unwrap()),
            _ => {
                assert!(stream.source.push_event(gst::event::FlushStart::new()));
                assert!(stream.source.push_event(gst::event::FlushStop::new(true)));
                assert!(stream.source.push_event(segment()));
            }
        }
        stream.sink.take();
        for number in 20..30 {
            stream.source.push(frame(number)).unwrap();
        }
        stream.sink.wait_for_frames(10);
        assert!(
            numbers(&stream.sink.passed()).into_iter().eq(20..30),
            "{begins}"
        );
    }
}

#[test]
fn a_pad_that_is_unlinked_and_linked_again_goes_on() {
    for in_flight in [1, IN_FLIGHT] {
        let stream = playing(in_flight);
        let out = stream.element.static_pad("src").unwrap();
        for round in 0..20 {
            let running = AtomicBool::new(true);
            thread::scope(|scope| {
                let source = scope.spawn(|| {
                    let mut number = 0;
                    while running.load(Ordering::SeqCst) {
                        match stream.source.push(frame(number)) {
                            Err(error) => return Err(error),
                            Ok(_) => number += 1,
                        }
                    }
                    Ok(gst::FlowSuccess::Ok)
                });
                thread::sleep(Duration::from_micros(500 + round * 331 % 5000));
                out.unlink(&stream.sink.pad).unwrap();
                assert_eq!(source.join().unwrap(), Err(gst::FlowError::NotLinked));
                running.store(false, Ordering::SeqCst);
            });
            out.link(&stream.sink.pad).unwrap();
            stream.sink.take();
            // What came while nobody listened may still be under way.
            for number in 0..5 {
                stream.source.push(frame(number)).unwrap();
            }
            stream.sink.wait_for_frames(5);
            let numbers = numbers(&stream.sink.passed());
            assert!(
                numbers[numbers.len() - 5..].iter().copied().eq(0..5),
                "{numbers:?}"
            );
        }
        assert_eq!(stream.error(), None);
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
