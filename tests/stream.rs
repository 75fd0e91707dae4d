//! The element in a stream: segments, flushes, seeks, EOS, gaps, caps changes, lateness, latency, states.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use gst::prelude::*;
use gst_check::Harness;

const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);

fn frame(picture: &Picture, number: u64) -> gst::Buffer {
    let mut buffer = picture.buffer();
    let edit = buffer.get_mut().unwrap();
    edit.set_pts(FRAME * number);
    edit.set_duration(FRAME);
    buffer
}

fn red_picture() -> Picture {
    Picture::grey(64, 64).with_cell(1, 1, RED)
}

fn found(buffer: &gst::Buffer) -> usize {
    gstrsdetectnet::detections(buffer).len()
}

/// Downstream says that the frame of this running time came so many nanoseconds late.
fn lateness(timestamp: gst::ClockTime, nanoseconds: i64) -> gst::Event {
    gst::event::Qos::builder(gst::QOSType::Underflow, 1.5, nanoseconds)
        .timestamp(timestamp)
        .build()
}

fn count(element: &gst::Element, name: &str) -> u64 {
    element
        .property::<gst::Structure>("stats")
        .get(name)
        .unwrap()
}

#[test]
fn interval_passes_frames_between_inspected_ones() {
    let element = colors_element("colors-ssd.onnx")
        .property("interval", 2u32)
        .build()
        .unwrap();
    let picture = red_picture();
    let mut harness = harness(&element, &picture.info());
    let found: Vec<_> = (0..7)
        .map(|n| found(&harness.push_and_pull(frame(&picture, n)).unwrap()))
        .collect();
    assert_eq!(found, [1, 0, 0, 1, 0, 0, 1]);
    assert_eq!(
        (count(&element, "inspected"), count(&element, "skipped")),
        (3, 4)
    );
}

#[test]
fn late_frames_pass_uninspected_and_a_message_says_so() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let picture = red_picture();
    let mut harness = harness(&element, &picture.info());
    let bus = listen(&element);
    let late = lateness(FRAME, 100_000_000);
    assert_eq!(
        found(&harness.push_and_pull(frame(&picture, 0)).unwrap()),
        1
    );
    harness.push_upstream_event(late);
    // Downstream has reached 140 ms: the frames of 40, 80 and 120 ms are late, that of 160 ms is not.
    let found: Vec<_> = (1..5)
        .map(|n| found(&harness.push_and_pull(frame(&picture, n)).unwrap()))
        .collect();
    assert_eq!(found, [0, 0, 0, 1]);
    assert_eq!(count(&element, "late"), 3);
    let messages: Vec<_> =
        std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Qos])).collect();
    assert_eq!(messages.len(), 3);
    let gst::MessageView::Qos(qos) = messages[0].view() else {
        unreachable!()
    };
    assert_eq!(qos.get().3, Some(FRAME));

    element.set_property("qos", false);
    harness.push_upstream_event(gst::event::Qos::new(
        gst::QOSType::Underflow,
        9.0,
        i64::MAX / 2,
        FRAME,
    ));
    assert_eq!(
        gstrsdetectnet::detections(&harness.push_and_pull(frame(&picture, 5)).unwrap()).len(),
        1
    );
}

#[test]
fn a_flush_forgets_lateness_and_the_stream_goes_on() {
    let element = colors_element("colors-ssd.onnx")
        .property("interval", 5u32)
        .build()
        .unwrap();
    let picture = red_picture();
    let mut harness = harness(&element, &picture.info());
    assert_eq!(
        found(&harness.push_and_pull(frame(&picture, 0)).unwrap()),
        1
    );
    harness.push_upstream_event(gst::event::Qos::new(
        gst::QOSType::Underflow,
        9.0,
        i64::MAX / 2,
        FRAME,
    ));
    assert!(harness.push_event(gst::event::FlushStart::new()));
    assert_eq!(
        harness.push(frame(&picture, 1)),
        Err(gst::FlowError::Flushing)
    );
    assert!(harness.push_event(gst::event::FlushStop::new(true)));
    assert!(
        harness.push_event(gst::event::Segment::new(&gst::FormattedSegment::<
            gst::ClockTime,
        >::new()))
    );
    assert_eq!(
        found(&harness.push_and_pull(frame(&picture, 2)).unwrap()),
        1
    );
}

#[test]
fn gaps_pass_as_events_and_as_buffers_without_inspection() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let picture = red_picture();
    let mut harness = harness(&element, &picture.info());
    let mut gap = frame(&picture, 0);
    gap.get_mut().unwrap().set_flags(gst::BufferFlags::GAP);
    assert_eq!(found(&harness.push_and_pull(gap).unwrap()), 0);
    assert!(harness.push_event(gst::event::Gap::new(FRAME, FRAME)));
    let types: Vec<_> = std::iter::from_fn(|| harness.try_pull_event())
        .map(|e| e.type_())
        .collect();
    assert_eq!(types.last(), Some(&gst::EventType::Gap), "{types:?}");
    assert_eq!(count(&element, "skipped"), 1);
}

#[test]
fn caps_may_change_with_every_frame() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    harness.play();
    for (round, (width, height)) in [(64, 64), (640, 480), (64, 64), (1920, 1080), (333, 77)]
        .into_iter()
        .enumerate()
    {
        let picture = Picture::grey(width, height).with_block(0, 0, width / 2, height / 2, BLUE);
        for format in [gst_video::VideoFormat::Rgb, gst_video::VideoFormat::Nv12] {
            let sample = picture.converted(format, None);
            harness.set_src_caps(sample.caps_owned().unwrap());
            let found = gstrsdetectnet::detections(
                &harness
                    .push_and_pull(sample.buffer_owned().unwrap())
                    .unwrap(),
            );
            let corner = picture.cell_box(0, 0);
            assert!(
                found
                    .iter()
                    .any(|f| f.label == "blue" && f.detection.bounding_box.iou(&corner) > 0.99),
                "round {round} {format}: {found:?}"
            );
        }
    }
}

#[test]
fn the_latency_of_live_streams_includes_an_inspection() {
    let element = colors_element("slow-ssd.onnx").build().unwrap();
    let picture = red_picture();
    let mut harness = harness(&element, &picture.info());
    let upstream = gst::ClockTime::from_mseconds(20);
    harness.set_upstream_latency(upstream);
    let own = harness.query_latency().unwrap() - upstream;
    harness.push_and_pull(frame(&picture, 0)).unwrap();
    let stats = element.property::<gst::Structure>("stats");
    let took = gst::ClockTime::from_useconds(u64::from(stats.get::<u32>("total-p50-us").unwrap()));
    assert!(
        own >= took / 4 && own <= took * 4,
        "says {own}, takes {took}"
    );
}

#[test]
fn it_starts_and_stops_many_times_and_finds_the_same_each_time() {
    init();
    let picture = red_picture();
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    for _ in 0..20 {
        let mut harness = harness(&element, &picture.info());
        assert_eq!(
            found(&harness.push_and_pull(frame(&picture, 0)).unwrap()),
            1
        );
        drop(harness);
        element.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn eos_and_a_seek_in_a_real_pipeline_lose_no_frame() {
    init();
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=50 ! video/x-raw,format=I420,width=64,height=64,framerate=25/1 ! \
         rsdetectnet name=detector model={} labels={} ! fakesink name=sink sync=false signal-handoffs=true",
        model("colors-ssd.onnx"),
        tests_file("models/colors.labels.txt").display(),
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let bus = pipeline.bus().unwrap();
    let wait_for_eos = || {
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = bus
            .timed_pop_filtered(gst::ClockTime::from_seconds(60), &end)
            .unwrap();
        assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    };
    pipeline.set_state(gst::State::Playing).unwrap();
    wait_for_eos();
    let detector = pipeline.by_name("detector").unwrap();
    assert_eq!(count(&detector, "frames"), 50);
    assert_eq!(count(&detector, "flushed"), 0);
    pipeline
        .seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::from_seconds(1))
        .unwrap();
    wait_for_eos();
    // num-buffers counts on over the seek, so what is left is that the stream ended and flowed.
    assert_eq!(count(&detector, "frames"), count(&detector, "inspected"));
    pipeline.set_state(gst::State::Null).unwrap();
}

/// What 60 frames of a live stream become when something before the element takes longer than a frame lasts.
fn of_a_slow_live_stream(policy: &str) -> (gst::Structure, usize) {
    init();
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc is-live=true num-buffers=60 ! video/x-raw,format=RGB,width=64,height=64,framerate=60/1 \
         ! queue max-size-buffers=0 max-size-time=0 max-size-bytes=0 ! identity sleep-time=50000 \
         ! rsdetectnet name=d model={} labels={} max-latency=200 late-policy={policy} ! fakesink name=sink sync=false",
        model("colors-ssd.onnx"),
        tests_file("models/colors.labels.txt").display()
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let passed = Arc::new(AtomicUsize::new(0));
    let counter = passed.clone();
    let pad = pipeline
        .by_name("sink")
        .unwrap()
        .static_pad("sink")
        .unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(30), &[gst::MessageType::Eos]);
    assert!(end.is_some());
    let stats = pipeline.by_name("d").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    (stats, passed.load(Ordering::SeqCst))
}

#[test]
fn frames_of_a_live_stream_that_come_too_late_pass_uninspected_or_are_dropped() {
    let count = |stats: &gst::Structure, name| stats.get::<u64>(name).unwrap();
    let (stats, passed) = of_a_slow_live_stream("skip-inference");
    assert_eq!((passed, count(&stats, "frames")), (60, 60));
    assert!(count(&stats, "late") > 40, "{stats}");
    assert_eq!(count(&stats, "late") + count(&stats, "inspected"), 60);

    let (stats, passed) = of_a_slow_live_stream("drop");
    assert!(count(&stats, "dropped") > 40, "{stats}");
    assert_eq!(count(&stats, "dropped") as usize + passed, 60);
    assert_eq!(count(&stats, "inspected") as usize, passed);
}
