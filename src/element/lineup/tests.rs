use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::detector::scheduler::tests::Squares;
use crate::detector::scheduler::{Scheduler, Seats, Ticket};

/// Miri runs a thousand times slower.
const FRAMES: u64 = if cfg!(miri) { 4 } else { 300 };
const STREAMS: u64 = if cfg!(miri) { 4 } else { 24 };
const IN_FLIGHT: usize = 2;

fn scheduler(capacities: &[usize], time: Duration) -> Arc<Scheduler<Squares>> {
    let scheduler = Arc::new(Scheduler::default());
    for (number, capacity) in capacities.iter().enumerate() {
        scheduler.add(Squares::that_take(time), *capacity, number % 2);
    }
    scheduler
}

struct Frame {
    number: u64,
    scheduler: Arc<Scheduler<Squares>>,
    ticket: Option<Ticket<Squares>>,
}

impl Frame {
    /// Its number and the square of it.
    fn wait(mut self) -> (u64, u64) {
        let ticket = self.ticket.take().unwrap();
        (self.number, self.scheduler.wait(ticket).outputs[0][0])
    }
}

impl Inspectable for Frame {
    fn is_inspected(&self) -> bool {
        self.ticket.as_ref().is_none_or(Ticket::is_done)
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.scheduler.wait(ticket);
        }
    }
}

/// A stream as an element has it.
struct Stream {
    lineup: Arc<Lineup<Frame>>,
    scheduler: Arc<Scheduler<Squares>>,
    seats: Arc<Seats<Squares>>,
    sent: Mutex<Vec<u64>>,
    /// Frames that went on by the thread that brought them.
    by_bringer: AtomicUsize,
    blocked: AtomicBool,
}

impl Stream {
    fn new(scheduler: &Arc<Scheduler<Squares>>) -> Self {
        let stream = Self {
            lineup: Arc::default(),
            scheduler: Arc::clone(scheduler),
            seats: Arc::default(),
            sent: Mutex::default(),
            by_bringer: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
        };
        stream.seats.attended_by(stream.lineup.clone());
        let duty = Arc::clone(scheduler) as Arc<dyn Duty>;
        stream.lineup.share_duty(Some(duty));
        stream.lineup.open();
        stream
    }

    fn send(&self, mut sending: Sending<'_, Frame>) {
        if let Item::Frame(frame) = sending.item {
            assert!(frame.is_inspected(), "{} is not ready", frame.number);
            let (number, square) = frame.wait();
            assert_eq!(square, number * number);
            while self.blocked.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_micros(200));
            }
            lock(&self.sent).push(number);
        }
        sending.at_work.flow = Ok(gst::FlowSuccess::Ok);
    }

    /// What the thread of the pad does, to the end.
    fn run(&self) {
        loop {
            match self.lineup.next() {
                Task::Send(sending) => self.send(sending),
                Task::Attend(duty, called) => duty.attend(called),
                Task::End => return,
            }
        }
    }

    fn bring(&self, number: u64) -> Flow {
        while let Some(sending) = self.lineup.wait_for_room(IN_FLIGHT)? {
            self.by_bringer.fetch_add(1, Ordering::SeqCst);
            self.send(sending);
        }
        let job = std::iter::once(number);
        let ticket = self.scheduler.submit(&self.seats, job, Vec::new());
        let flow = self.lineup.push_frame(Frame {
            number,
            scheduler: Arc::clone(&self.scheduler),
            ticket: Some(ticket),
        });
        while let Some(sending) = self.lineup.before_leaving() {
            self.by_bringer.fetch_add(1, Ordering::SeqCst);
            self.send(sending);
        }
        flow
    }

    fn wait_for(&self, frames: u64) {
        let start = Instant::now();
        while lock(&self.sent).len() as u64 != frames {
            assert!(start.elapsed() < Duration::from_secs(60), "a frame hangs");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Runs the threads of pads while `body` runs.
fn with_senders(streams: &[Stream], body: impl FnOnce()) {
    thread::scope(|scope| {
        for stream in streams {
            scope.spawn(|| stream.run());
        }
        body();
        for stream in streams {
            stream.lineup.close();
        }
    });
}

#[test]
fn frames_of_many_streams_go_on_in_order_with_their_own_results() {
    for capacities in [&[1, 1][..], &[4, 4], &[1, 1, 8, 8, 32, 32]] {
        let scheduler = scheduler(capacities, Duration::from_micros(100));
        let streams: Vec<_> = (0..STREAMS).map(|_| Stream::new(&scheduler)).collect();
        with_senders(&streams, || {
            thread::scope(|scope| {
                for (place, stream) in (0..).zip(&streams) {
                    scope.spawn(move || {
                        for frame in 0..FRAMES {
                            // Some come fast, some slowly, some now and then.
                            match place % 3 {
                                1 => thread::sleep(Duration::from_micros(300)),
                                2 if frame % 10 == 0 => thread::sleep(Duration::from_millis(2)),
                                _ => {}
                            }
                            stream.bring(place * 1000 + frame).unwrap();
                        }
                        assert!(stream.lineup.drain());
                        let wanted: Vec<_> = (0..FRAMES).map(|f| place * 1000 + f).collect();
                        assert_eq!(*lock(&stream.sent), wanted);
                    });
                }
            });
        });
    }
}

#[test]
fn a_stream_that_goes_no_further_holds_up_no_other() {
    let scheduler = scheduler(&[1, 1, 2, 2], Duration::from_micros(100));
    let streams: Vec<_> = (0..4).map(|_| Stream::new(&scheduler)).collect();
    let blocked = &streams[..3];
    with_senders(&streams, || {
        thread::scope(|scope| {
            for stream in blocked {
                stream.blocked.store(true, Ordering::SeqCst);
                scope
                    .spawn(|| (0..FRAMES).for_each(|frame| stream.bring(frame).map(drop).unwrap()));
            }
            let free = &streams[3];
            for frame in 0..FRAMES {
                free.bring(frame).unwrap();
            }
            free.wait_for(FRAMES);
            assert!(blocked.iter().all(|stream| lock(&stream.sent).is_empty()));
            for stream in blocked {
                stream.blocked.store(false, Ordering::SeqCst);
                stream.wait_for(FRAMES);
            }
        });
    });
}

#[test]
fn a_frame_that_no_other_follows_goes_on_by_itself() {
    let scheduler = scheduler(&[1, 1], Duration::from_micros(100));
    let streams = [Stream::new(&scheduler)];
    with_senders(&streams, || {
        let [stream] = &streams;
        for frame in 0..FRAMES {
            stream.bring(frame).unwrap();
            stream.wait_for(frame + 1);
        }
        assert_eq!(stream.by_bringer.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_frame_that_comes_just_as_the_thread_of_the_pad_goes_to_sleep_is_seen_to() {
    let scheduler = scheduler(&[1, 1], Duration::ZERO);
    let streams = [Stream::new(&scheduler)];
    with_senders(&streams, || {
        let [stream] = &streams;
        for frame in 0..FRAMES * 10 {
            stream.bring(frame).unwrap();
            let start = Instant::now();
            while lock(&stream.sent).len() as u64 != frame + 1 {
                assert!(start.elapsed() < Duration::from_secs(60), "it hangs");
                thread::yield_now();
            }
        }
    });
}

#[test]
#[cfg_attr(miri, ignore = "it has too few frames")]
fn a_thread_without_room_sends_on_what_is_ready() {
    let scheduler = scheduler(&[1, 1, 4, 4], Duration::from_micros(200));
    let streams: Vec<_> = (0..4).map(|_| Stream::new(&scheduler)).collect();
    with_senders(&streams, || {
        thread::scope(|scope| {
            for stream in &streams {
                scope
                    .spawn(|| (0..FRAMES).for_each(|frame| stream.bring(frame).map(drop).unwrap()));
            }
        });
        for stream in &streams {
            stream.wait_for(FRAMES);
        }
    });
    let by_bringers = streams.iter().map(|s| s.by_bringer.load(Ordering::SeqCst));
    let most = STREAMS.min(4) * FRAMES;
    assert!(by_bringers.sum::<usize>() as u64 > most / 2);
}

#[test]
fn a_thread_that_had_no_room_brings_its_frame_before_it_sends_on_more() {
    let scheduler = scheduler(&[1, 1], Duration::ZERO);
    let stream = Stream::new(&scheduler);
    let ready = |number| Frame {
        number,
        scheduler: Arc::clone(&scheduler),
        ticket: None,
    };
    let number = |sending: &Sending<'_, Frame>| match &sending.item {
        Item::Frame(frame) => frame.number,
        Item::Event(event) => panic!("{event:?}"),
    };
    let sent = |mut sending: Sending<'_, Frame>| sending.at_work.flow = Ok(gst::FlowSuccess::Ok);
    let lineup = &stream.lineup;
    lineup.push_frame(ready(0)).unwrap();
    lineup.push_frame(ready(1)).unwrap();
    let first = lineup.wait_for_room(IN_FLIGHT).unwrap().unwrap();
    assert_eq!(number(&first), 0);
    sent(first);
    assert!(lineup.wait_for_room(IN_FLIGHT).unwrap().is_none());
    assert!(lock(&lineup.state).is_for_bringer());
    lineup.push_frame(ready(2)).unwrap();
    let more = lineup.before_leaving().unwrap();
    assert_eq!(number(&more), 1);
    sent(more);
    // While its own is sent on, it brings the next.
    assert!(lineup.before_leaving().is_none());
    // What becomes ready from now on is for the thread of the pad, also when this one waits for all.
    assert!(!lock(&lineup.state).is_for_bringer());
    let Task::Send(own) = lineup.next() else {
        panic!("nothing is left");
    };
    assert_eq!(number(&own), 2);
    sent(own);
    lineup.push_frame(ready(3)).unwrap();
    lineup.push_frame(ready(4)).unwrap();
    sent(lineup.wait_for_room(IN_FLIGHT).unwrap().unwrap());
    with_taken_out(lineup, || assert!(lineup.drain()));
    assert!(!lock(&lineup.state).is_for_bringer());
}

/// Has another thread take out what is there while `body` runs.
fn with_taken_out(lineup: &Lineup<Frame>, body: impl FnOnce()) {
    thread::scope(|scope| {
        scope.spawn(|| {
            while let Task::Send(mut sending) = lineup.next() {
                sending.at_work.flow = Ok(gst::FlowSuccess::Ok);
            }
        });
        body();
        lineup.close();
    });
}

#[test]
fn streams_that_end_or_flush_with_frames_under_way_leave_no_batch_behind() {
    let scheduler = scheduler(&[1, 1, 2, 2], Duration::from_micros(200));
    let steady = [Stream::new(&scheduler)];
    with_senders(&steady, || {
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for round in 0..FRAMES / 4 {
                        let streams = [Stream::new(&scheduler)];
                        with_senders(&streams, || {
                            let [stream] = &streams;
                            (0..3).for_each(|frame| stream.bring(frame).map(drop).unwrap());
                            if round % 2 == 0 {
                                stream.lineup.begin_flush();
                                stream.lineup.wait_until_idle();
                                stream.lineup.end_flush();
                                let sent = lock(&stream.sent).len() as u64;
                                stream.bring(4).unwrap();
                                stream.wait_for(sent + 1);
                            }
                        });
                        assert_eq!(stream_ends(&streams[0]), Err(gst::FlowError::Flushing));
                    }
                });
            }
            let [stream] = &steady;
            for frame in 0..FRAMES {
                stream.bring(frame).unwrap();
            }
            stream.wait_for(FRAMES);
        });
    });
    assert!(!scheduler.is_due());
}

#[test]
fn streams_that_drain_flush_or_wait_for_each_frame_share_a_model() {
    for capacities in [&[1, 1][..], &[1, 1, 4, 4]] {
        let scheduler = scheduler(capacities, Duration::from_micros(50));
        let streams: Vec<_> = (0..4).map(|_| Stream::new(&scheduler)).collect();
        let (draining, flushing) = (&streams[1..], &streams[0]);
        // Held by who brings a frame, and at the end of a flush.
        let stream_lock = Mutex::new(());
        with_senders(&streams, || {
            thread::scope(|scope| {
                for stream in draining {
                    scope.spawn(|| {
                        for frame in 0..FRAMES {
                            stream.bring(frame).unwrap();
                            if frame % 3 == 0 {
                                assert!(stream.lineup.drain());
                                assert_eq!(lock(&stream.sent).len() as u64, frame + 1);
                            }
                        }
                    });
                }
                for _ in 0..3 {
                    scope.spawn(|| {
                        let seats = Arc::default();
                        for frame in 0..FRAMES {
                            let job = std::iter::once(frame);
                            let ticket = scheduler.submit(&seats, job, Vec::new());
                            assert_eq!(scheduler.wait(ticket).outputs, [[frame * frame]]);
                        }
                    });
                }
                let bringer = scope.spawn(|| {
                    for frame in 0..2 * FRAMES {
                        let _stream = lock(&stream_lock);
                        let _ = flushing.bring(frame);
                    }
                });
                while !bringer.is_finished() {
                    flushing.lineup.begin_flush();
                    flushing.lineup.wait_until_idle();
                    drop(lock(&stream_lock));
                    flushing.lineup.end_flush();
                    thread::sleep(Duration::from_micros(400));
                }
                assert!(flushing.lineup.drain());
            });
        });
        assert!(lock(&flushing.sent).is_sorted());
        assert!(!scheduler.is_due());
    }
}

fn stream_ends(stream: &Stream) -> Flow {
    stream.bring(9)
}

#[test]
fn what_downstream_refuses_is_told_to_who_brings_the_next_frame() {
    let scheduler = scheduler(&[1, 1], Duration::from_micros(100));
    let stream = Stream::new(&scheduler);
    stream.bring(1).unwrap();
    stream.bring(2).unwrap();
    let duty = Arc::clone(&scheduler);
    let refuse = |mut sending: Sending<'_, Frame>| {
        sending.at_work.flow = Err(gst::FlowError::NotLinked);
    };
    loop {
        match stream.lineup.next() {
            Task::Send(sending) => break refuse(sending),
            Task::Attend(..) => duty.attend(true),
            Task::End => unreachable!(),
        }
    }
    assert_eq!(stream.bring(3), Err(gst::FlowError::NotLinked));
    stream.lineup.relinked();
    assert_eq!(stream.bring(4), Ok(gst::FlowSuccess::Ok));
    // A line that is not closed keeps its frames, and they keep the line.
    stream.lineup.close();
}
