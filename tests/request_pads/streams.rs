//! Events and queries on the pads.

use super::*;

#[test]
fn a_pad_requested_late_hears_what_the_stream_is() {
    for name in PADS {
        let element = colors_element("colors-ssd.onnx").build().unwrap();
        let mut harness = video_harness(&element);
        harness.push_event(gst::event::Tag::new(gst::TagList::new()));
        harness.push_and_pull(frame(0)).unwrap();
        let gate = Gate::open();
        request(&element, name, &gate);
        harness.push_and_pull(frame(1)).unwrap();
        assert_eq!(gate.buffer().pts(), Some(FRAME));
        harness.push_event(gst::event::Eos::new());
        let mut events = Vec::new();
        while events.last() != Some(&gst::EventType::Eos) {
            events.push(
                gate.events
                    .recv_timeout(Duration::from_secs(9))
                    .unwrap()
                    .type_(),
            );
        }
        use gst::EventType::{Caps, Eos, Segment, StreamStart, Tag};
        assert_eq!(events, [StreamStart, Caps, Segment, Tag, Eos], "{name}");
    }
}

#[test]
fn a_flush_empties_the_branch_and_the_next_segment_goes_on() {
    for name in PADS {
        let element = colors_element("colors-ssd.onnx").build().unwrap();
        let mut harness = video_harness(&element);
        let gate = Gate::new();
        request(&element, name, &gate);
        for number in 0..5 {
            harness.push_and_pull(frame(number)).unwrap();
        }
        gate.wait_for_a_push();
        assert!(harness.push_event(gst::event::FlushStart::new()));
        gate.event(gst::EventType::FlushStart);
        gate.say(gst::FlowReturn::Flushing);
        assert!(harness.push_event(gst::event::FlushStop::new(true)));
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        assert!(harness.push_event(gst::event::Segment::new(&segment)));
        gate.event(gst::EventType::FlushStop);
        harness.push_and_pull(frame(9)).unwrap();
        gate.say(gst::FlowReturn::Ok);
        gate.event(gst::EventType::Segment);
        assert_eq!(gate.buffer().pts(), Some(FRAME * 9), "{name}");
        drop(gate.words);
        element.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn a_flush_that_has_returned_has_reached_every_pad_so_that_a_seek_finds_none_flushing() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let mut harness = video_harness(&element);
    let gates = PADS.map(|_| Gate::open());
    for (name, gate) in PADS.iter().zip(&gates) {
        request(&element, name, gate);
    }
    for number in 0..100 {
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        assert!(harness.push_event(gst::event::FlushStart::new()));
        assert!(harness.push_event(gst::event::FlushStop::new(true)));
        for gate in &gates {
            assert!(!gate.pad.pad_flags().contains(gst::PadFlags::FLUSHING));
        }
        assert!(harness.push_event(gst::event::Segment::new(&segment)));
        harness.push_and_pull(frame(number)).unwrap();
    }
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_branch_that_has_enough_is_left_alone_until_the_next_stream() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let bus = listen(&element);
    let mut harness = video_harness(&element);
    let gate = Gate::new();
    request(&element, "detections", &gate);
    gate.say(gst::FlowReturn::Eos);
    gate.say(gst::FlowReturn::Ok);
    for number in 0..5 {
        harness.push_and_pull(frame(number)).unwrap();
    }
    harness.push_event(gst::event::StreamStart::new("another"));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    harness.push_event(gst::event::Segment::new(&segment));
    harness.push_and_pull(frame(7)).unwrap();
    assert_eq!(gate.buffer().pts(), Some(FRAME * 7));
    assert!(bus.pop_filtered(&[gst::MessageType::Warning]).is_none());
}

#[test]
fn upstream_hears_a_seek_once_and_nothing_of_the_lateness_of_branches() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let gates = PADS.map(|name| {
        let gate = Gate::open();
        request(&element, name, &gate);
        gate
    });
    let mut harness = video_harness(&element);
    harness.push_and_pull(frame(0)).unwrap();
    let seek = gst::event::Seek::new(
        1.0,
        gst::SeekFlags::FLUSH,
        gst::SeekType::Set,
        gst::ClockTime::ZERO,
        gst::SeekType::None,
        gst::ClockTime::NONE,
    );
    let late = gst::event::Qos::new(gst::QOSType::Underflow, 9.0, i64::MAX / 2, FRAME);
    for gate in &gates {
        assert!(gate.pad.push_event(late.clone()));
        assert!(gate.pad.push_event(seek.clone()));
    }
    harness.push_upstream_event(seek);
    let heard: Vec<_> = std::iter::from_fn(|| harness.try_pull_upstream_event())
        .map(|event| event.type_())
        .filter(|kind| matches!(kind, gst::EventType::Seek | gst::EventType::Qos))
        .collect();
    assert_eq!(heard, [gst::EventType::Seek]);
    let found = gstrsdetectnet::detections(&harness.push_and_pull(frame(1)).unwrap());
    assert_eq!(found.len(), 1, "the frame is not late");
}

#[test]
fn branches_answer_for_latency_and_leave_caps_and_allocation_to_the_video() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let mut harness = video_harness(&element);
    let gate = Gate::open();
    let pad = request(&element, "crops", &gate);
    harness.set_upstream_latency(FRAME);
    let of_video = harness.query_latency().unwrap();
    let mut latency = gst::query::Latency::new();
    assert!(gate.pad.peer_query(&mut latency));
    assert_eq!(latency.result().1, of_video);
    let links = |pad: &gst::Pad| {
        let mut names = Vec::new();
        let mut links = pad.iterate_internal_links();
        while let Ok(Some(pad)) = links.next() {
            names.push(pad.name().to_string());
        }
        names
    };
    assert_eq!(links(&element.static_pad("sink").unwrap()), ["src"]);
    assert_eq!(links(&element.static_pad("src").unwrap()), ["sink"]);
    assert_eq!(links(&pad), ["sink"]);
}
