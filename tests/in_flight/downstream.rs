//! What downstream asks and answers while frames are under way.

use super::*;

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
