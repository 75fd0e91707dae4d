//! Events and queries on the pads.

use super::*;

const LONG: Duration = Duration::from_secs(20);

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

#[test]
fn a_released_pad_gives_back_what_it_used_though_nobody_reads_the_bus() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let mut harness = video_harness(&element);
    let bus = listen(&element);
    let caps = gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::Rgba)
        .width(32)
        .height(32)
        .build();
    let pool = gst_video::VideoBufferPool::new();
    let (arrived_in, arrived) = channel();
    let arrived_in = Mutex::new(arrived_in);
    let sink = gst::Pad::builder(gst::PadDirection::Sink)
        .chain_function(move |_, _, buffer| {
            let _ = arrived_in.lock().unwrap().send(buffer.size());
            Ok(gst::FlowSuccess::Ok)
        })
        .query_function({
            let pool = pool.clone();
            move |pad, parent, query| match query.view_mut() {
                gst::QueryViewMut::Allocation(query) => {
                    query.add_allocation_pool(Some(&pool), 32 * 32 * 4, 1, 0);
                    true
                }
                gst::QueryViewMut::Caps(query) => {
                    query.set_result(&caps);
                    true
                }
                _ => gst::Pad::query_default(pad, parent, query),
            }
        })
        .build();
    sink.set_active(true).unwrap();
    let pad = element.request_pad_simple("crops").unwrap();
    pad.link(&sink).unwrap();
    harness.push_and_pull(frame(0)).unwrap();
    assert_eq!(arrived.recv_timeout(LONG), Ok(32 * 32 * 4));
    assert!(pool.is_active());
    element.release_request_pad(&pad);
    let start = Instant::now();
    while pool.is_active() {
        assert!(start.elapsed() < LONG, "the pad's thread keeps its pool");
        std::thread::sleep(Duration::from_millis(1));
    }
    // The messages of the pad's thread are still there.
    assert!(
        bus.pop_filtered(&[gst::MessageType::StreamStatus])
            .is_some()
    );
}

/// What becomes of the threads of a pad, by its name.
fn thread_of(pad: &str, message: &gst::Message) -> Option<gst::StreamStatusType> {
    let gst::MessageView::StreamStatus(status) = message.view() else {
        return None;
    };
    let is_its = message.src().is_some_and(|source| source.name() == pad);
    is_its.then(|| status.get().0)
}

fn wait_for_the_end_of_the_thread_of(pad: &str, bus: &gst::Bus) {
    let start = Instant::now();
    while start.elapsed() < LONG {
        let status = [gst::MessageType::StreamStatus];
        let message = bus.timed_pop_filtered(gst::ClockTime::from_mseconds(100), &status);
        let told = message.and_then(|message| thread_of(pad, &message));
        if told == Some(gst::StreamStatusType::Leave) {
            return;
        }
    }
    panic!("nobody told that the thread of {pad} has ended");
}

#[test]
fn the_bus_tells_the_end_of_a_thread_also_where_nobody_else_holds_its_pad() {
    for name in PADS {
        let element = colors_element("colors-ssd.onnx").build().unwrap();
        let mut harness = video_harness(&element);
        let bus = listen(&element);
        let gate = Gate::new();
        let pad = element.request_pad_simple(name).unwrap();
        pad.link(&gate.pad).unwrap();
        harness.push_and_pull(frame(0)).unwrap();
        gate.wait_for_a_push();
        element.release_request_pad(&pad);
        drop(pad);
        // Messages hold the pad as well.
        while bus.pop().is_some() {}
        gate.say(gst::FlowReturn::Ok);
        wait_for_the_end_of_the_thread_of(name, &bus);
    }
}

#[test]
fn a_pad_that_is_released_while_its_thread_starts_leaves_no_thread_behind() {
    for name in PADS {
        let element = colors_element("colors-ssd.onnx").build().unwrap();
        let pad = element.request_pad_simple(name).unwrap();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let (starts, is_starting) = channel();
        let starts = Mutex::new(starts);
        bus.set_sync_handler(move |_, message| {
            if thread_of(name, message) == Some(gst::StreamStatusType::Create) {
                starts.lock().unwrap().send(()).unwrap();
                // For the release to come first.
                std::thread::sleep(Duration::from_millis(100));
            }
            gst::BusSyncReply::Pass
        });
        std::thread::scope(|scope| {
            scope.spawn(|| element.set_state(gst::State::Paused).unwrap());
            is_starting.recv_timeout(LONG).unwrap();
            element.release_request_pad(&pad);
        });
        wait_for_the_end_of_the_thread_of(name, &bus);
        element.set_state(gst::State::Null).unwrap();
        // Its messages hold the element, which holds it.
        element.set_bus(None);
    }
}
