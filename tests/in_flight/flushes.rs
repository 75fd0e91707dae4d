//! Flushes while frames are under way.

use super::*;

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
