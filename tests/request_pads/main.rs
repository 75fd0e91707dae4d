//! The pads `crops` and `detections` never hold up the video, and come and go while it plays.

#[path = "../common/mod.rs"]
mod common;
mod streams;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use gst::prelude::*;
use gst_check::Harness;

const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);
const PADS: [&str; 2] = ["crops", "detections"];
/// What the queues of the pads hold, in frames.
const MOST_WAITING: [u64; 2] = [16, 1024];

fn picture() -> Picture {
    Picture::grey(64, 64).with_cell(1, 1, RED)
}

fn frame(number: u64) -> gst::Buffer {
    let mut buffer = picture().buffer();
    let edit = buffer.get_mut().unwrap();
    edit.set_pts(FRAME * number);
    edit.set_duration(FRAME);
    buffer
}

fn video_harness(element: &gst::Element) -> Harness {
    harness(element, &picture().info())
}

fn count(element: &gst::Element, name: &str) -> u64 {
    let stats = element.property::<gst::Structure>("stats");
    stats.get(name).unwrap()
}

/// A sink that says what it gets, and that takes buffers only as they are let through. It is made after the harness of
/// its element, so that it lets go of everything before that stops.
struct Gate {
    pad: gst::Pad,
    events: Receiver<gst::Event>,
    buffers: Receiver<gst::Buffer>,
    /// Each sent word is what becomes of one buffer; once the sender is gone, all are taken.
    words: Option<Sender<gst::FlowReturn>>,
    waiting: Arc<AtomicU64>,
}

impl Gate {
    fn new() -> Self {
        init();
        let (events_in, events) = channel();
        let (buffers_in, buffers) = channel();
        let (words, next_word) = channel::<gst::FlowReturn>();
        let (events_in, buffers_in) = (Mutex::new(events_in), Mutex::new(buffers_in));
        let next_word = Mutex::new(next_word);
        let waiting = Arc::new(AtomicU64::new(0));
        let always = gst::PadPresence::Always;
        let any = gst::Caps::new_any();
        let template = gst::PadTemplate::new("gate", gst::PadDirection::Sink, always, &any);
        let pad = gst::Pad::builder_from_template(&template.unwrap())
            .chain_function({
                let waiting = waiting.clone();
                move |_, _, buffer| {
                    waiting.fetch_add(1, Ordering::SeqCst);
                    let word = next_word.lock().unwrap().recv();
                    let flow = word.unwrap_or(gst::FlowReturn::Ok).into_result();
                    if flow.is_ok() {
                        let _ = buffers_in.lock().unwrap().send(buffer);
                    }
                    flow
                }
            })
            .event_function(move |_, _, event| {
                let _ = events_in.lock().unwrap().send(event);
                true
            })
            .build();
        pad.set_active(true).unwrap();
        Self {
            pad,
            events,
            buffers,
            words: Some(words),
            waiting,
        }
    }

    fn open() -> Self {
        let mut gate = Self::new();
        gate.words = None;
        gate
    }

    fn say(&self, word: gst::FlowReturn) {
        self.words.as_ref().unwrap().send(word).unwrap();
    }

    fn wait_for_a_push(&self) {
        let start = Instant::now();
        while self.waiting.load(Ordering::SeqCst) == 0 {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "nothing was pushed"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn buffer(&self) -> gst::Buffer {
        self.buffers.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    fn event(&self, kind: gst::EventType) -> gst::Event {
        loop {
            let event = self.events.recv_timeout(Duration::from_secs(20)).unwrap();
            if event.type_() == kind {
                return event;
            }
        }
    }
}

fn request(element: &gst::Element, name: &str, gate: &Gate) -> gst::Pad {
    let pad = element.request_pad_simple(name).unwrap();
    pad.link(&gate.pad).unwrap();
    pad
}

#[test]
fn each_pad_is_there_once() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    for name in PADS {
        let template = element.pad_template(name).unwrap();
        let request = || element.request_pad(&template, None, None);
        let pad = request().unwrap();
        assert_eq!(pad.name(), name);
        assert_eq!(request(), None);
        element.release_request_pad(&pad);
        assert!(request().is_some());
    }
}

#[test]
fn a_blocked_branch_loses_its_oldest_results_and_the_video_goes_on() {
    for (name, limit) in PADS.into_iter().zip(MOST_WAITING) {
        let element = colors_element("colors-ssd.onnx").build().unwrap();
        let mut harness = video_harness(&element);
        let mut gate = Gate::new();
        request(&element, name, &gate);
        let frames = limit + 100;
        for number in 0..frames {
            harness.push_and_pull(frame(number)).unwrap();
            if number == 0 {
                gate.wait_for_a_push();
            }
        }
        let dropped = match name {
            "crops" => count(&element, "crops-dropped"),
            _ => count(&element, "json-dropped"),
        };
        assert_eq!(dropped, frames - limit - 1);
        gate.words = None;
        assert_eq!(gate.buffer().pts(), Some(gst::ClockTime::ZERO));
        for number in frames - limit..frames {
            assert_eq!(gate.buffer().pts(), Some(FRAME * number));
        }
    }
}

#[test]
fn drop_newest_keeps_what_waits_already() {
    let element = colors_element("colors-ssd.onnx")
        .property_from_str("crop-overflow", "drop-newest")
        .build()
        .unwrap();
    let mut harness = video_harness(&element);
    let mut gate = Gate::new();
    request(&element, "crops", &gate);
    for number in 0..40 {
        harness.push_and_pull(frame(number)).unwrap();
        if number == 0 {
            gate.wait_for_a_push();
        }
    }
    assert_eq!(
        (count(&element, "crops"), count(&element, "crops-dropped")),
        (40, 23)
    );
    gate.words = None;
    for number in 0..17 {
        assert_eq!(gate.buffer().pts(), Some(FRAME * number));
    }
}

#[test]
fn block_loses_nothing_and_ends_with_a_flush_or_a_stop() {
    for end in ["room", "flush", "stop", "release"] {
        let element = colors_element("colors-ssd.onnx")
            .property_from_str("crop-overflow", "block")
            .build()
            .unwrap();
        let mut harness = video_harness(&element);
        let mut gate = Gate::new();
        let pad = request(&element, "crops", &gate);
        let sink = harness.srcpad().unwrap().peer().unwrap();
        let pushed = Arc::new(AtomicU64::new(0));
        let pusher = std::thread::spawn({
            let pushed = pushed.clone();
            move || {
                for number in 0..30 {
                    sink.chain(frame(number))?;
                    pushed.fetch_add(1, Ordering::SeqCst);
                }
                Ok(gst::FlowSuccess::Ok)
            }
        });
        // One frame is with downstream and sixteen wait.
        let start = Instant::now();
        while pushed.load(Ordering::SeqCst) < 17 && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(pushed.load(Ordering::SeqCst), 17);
        match end {
            "room" => {
                gate.words = None;
                assert!((0..30).all(|number| gate.buffer().pts() == Some(FRAME * number)));
                assert_eq!(pusher.join().unwrap(), Ok(gst::FlowSuccess::Ok));
                assert_eq!(count(&element, "crops-dropped"), 0);
            }
            "flush" => {
                harness.push_event(gst::event::FlushStart::new());
                assert_eq!(pusher.join().unwrap(), Err(gst::FlowError::Flushing));
                gate.words = None;
            }
            "stop" => {
                // As in a pipeline, where sinks stop first.
                gate.say(gst::FlowReturn::Flushing);
                gate.words = None;
                element.set_state(gst::State::Null).unwrap();
                assert_eq!(pusher.join().unwrap(), Err(gst::FlowError::Flushing));
            }
            _ => {
                element.release_request_pad(&pad);
                assert_eq!(pusher.join().unwrap(), Ok(gst::FlowSuccess::Ok));
                gate.words = None;
            }
        }
    }
}

#[test]
fn a_pad_is_released_while_downstream_blocks_and_can_be_requested_again() {
    for name in PADS {
        let element = colors_element("colors-ssd.onnx").build().unwrap();
        let mut harness = video_harness(&element);
        let blocked = Gate::new();
        let pad = request(&element, name, &blocked);
        harness.push_and_pull(frame(0)).unwrap();
        blocked.wait_for_a_push();
        let start = Instant::now();
        element.release_request_pad(&pad);
        assert!(start.elapsed() < Duration::from_secs(2));
        assert!(!pad.is_linked() && pad.parent().is_none());
        let gate = Gate::open();
        request(&element, name, &gate);
        harness.push_and_pull(frame(1)).unwrap();
        assert_eq!(gate.buffer().pts(), Some(FRAME));
        drop(blocked.words);
        element.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn unlinked_pads_harm_nothing_and_crops_flow_without_a_sink_for_the_video() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    for name in PADS {
        element.request_pad_simple(name).unwrap();
    }
    let mut harness = video_harness(&element);
    for number in 0..50 {
        harness.push_and_pull(frame(number)).unwrap();
    }
    assert_eq!(
        (count(&element, "crops"), count(&element, "json-lines")),
        (0, 0)
    );

    let alone = colors_element("colors-ssd.onnx").build().unwrap();
    let mut harness = Harness::with_element(&alone, Some("sink"), Some("crops"));
    harness.set_src_caps(picture().info().to_caps().unwrap());
    harness.play();
    harness.push_and_pull(frame(0)).unwrap();
}

#[test]
fn a_failing_branch_is_a_warning_and_begins_again_with_a_new_link() {
    for name in PADS {
        let element = colors_element("colors-ssd.onnx").build().unwrap();
        let bus = listen(&element);
        let mut harness = video_harness(&element);
        let gate = Gate::new();
        let pad = request(&element, name, &gate);
        gate.say(gst::FlowReturn::Error);
        for number in 0..5 {
            harness.push_and_pull(frame(number)).unwrap();
        }
        let twenty = gst::ClockTime::from_seconds(20);
        let warning = bus
            .timed_pop_filtered(twenty, &[gst::MessageType::Warning])
            .unwrap();
        let gst::MessageView::Warning(warning) = warning.view() else {
            unreachable!()
        };
        let text = warning.error().to_string();
        assert!(text.contains(&format!("the pad {name} stopped")), "{text}");
        pad.unlink(&gate.pad).unwrap();
        let other = Gate::open();
        pad.link(&other.pad).unwrap();
        harness.push_and_pull(frame(9)).unwrap();
        // What was waiting may come as well.
        while other.buffer().pts() != Some(FRAME * 9) {}
        assert!(
            bus.pop_filtered(&[gst::MessageType::Warning, gst::MessageType::Error])
                .is_none()
        );
    }
}

#[test]
fn pads_come_and_go_a_thousand_times_while_the_video_plays() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let mut harness = video_harness(&element);
    let bus = listen(&element);
    let done = Arc::new(AtomicU64::new(0));
    let visitor = std::thread::spawn({
        let (element, done) = (element.clone(), done.clone());
        move || {
            let mut buffers = 0;
            for round in 0..1000 {
                let gates = PADS.map(|name| {
                    let gate = Gate::open();
                    (request(&element, name, &gate), gate)
                });
                if round % 10 == 0 {
                    gates[round / 10 % 2].1.buffer();
                }
                for (pad, gate) in gates {
                    element.release_request_pad(&pad);
                    buffers += gate.buffers.try_iter().count();
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
            buffers
        }
    });
    let mut frames = 0;
    while !visitor.is_finished() {
        let passed = harness.push_and_pull(frame(frames)).unwrap();
        assert_eq!(gstrsdetectnet::detections(&passed).len(), 1);
        frames += 1;
    }
    visitor.join().unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 1000);
    let bad = [gst::MessageType::Warning, gst::MessageType::Error];
    assert!(bus.pop_filtered(&bad).is_none());
    element.set_state(gst::State::Null).unwrap();
    assert_eq!(element.num_pads(), 2);
}

#[test]
fn a_paused_pipeline_with_every_branch_prerolled_stops_at_once() {
    init();
    let labels = tests_file("models/colors.labels.txt");
    // As behind a tee, a queue lets the branches have what they need to pause while the sink of the video has it.
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc pattern=red ! video/x-raw,format=I420,width=64,height=64 ! \
         rsdetectnet name=d crop-overflow=block model={} labels={} ! queue ! fakesink sync=true \
         d.crops ! jpegenc ! fakesink sync=true d.detections ! fakesink sync=true",
        model("colors-ssd.onnx"),
        labels.display()
    ))
    .unwrap();
    for state in [gst::State::Paused, gst::State::Playing, gst::State::Paused] {
        pipeline.set_state(state).unwrap();
        let (result, now, _) = pipeline.state(gst::ClockTime::from_seconds(20));
        result.unwrap();
        assert_eq!(now, state);
        std::thread::sleep(Duration::from_millis(100));
    }
    let start = Instant::now();
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
}
