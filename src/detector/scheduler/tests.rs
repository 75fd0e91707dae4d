use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::*;

/// Miri runs a thousand times slower, and finds a race in a few frames as well as in many.
const FRAMES: u64 = if cfg!(miri) { 4 } else { 100 };
const STREAMS: u64 = if cfg!(miri) { 6 } else { 64 };

/// What all lanes of a test have seen.
#[derive(Default)]
struct Record {
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    batches: Mutex<Vec<usize>>,
    /// No batch ends while fewer frames of the test wait or are under way.
    crowd: AtomicIsize,
    /// These frames.
    with_engine: AtomicIsize,
}

impl Record {
    fn awaits_frames(&self) -> bool {
        let crowd = self.crowd.load(Ordering::SeqCst);
        crowd > 0 && self.with_engine.load(Ordering::SeqCst) < crowd
    }
}

/// Squares numbers on a machine that takes a while; refuses multiples of `refused`.
#[derive(Default)]
pub(crate) struct Squares {
    record: Arc<Record>,
    time: Duration,
    refused: Option<u64>,
    numbers: Vec<u64>,
}

impl Squares {
    pub(crate) fn that_take(time: Duration) -> Self {
        Self {
            time,
            ..Self::default()
        }
    }
}

/// One of the streams, each of which has seats of its own.
struct Stream<'a> {
    scheduler: &'a Scheduler<Squares>,
    seats: Arc<Seats<Squares>>,
}

impl<'a> Stream<'a> {
    fn new(scheduler: &'a Scheduler<Squares>) -> Self {
        Self {
            scheduler,
            seats: Arc::default(),
        }
    }

    fn submit(&self, numbers: &[u64]) -> Ticket<Squares> {
        let numbers = numbers.iter().copied();
        self.scheduler.submit(&self.seats, numbers, Vec::new())
    }

    fn wait(&self, ticket: Ticket<Squares>) -> Outcome<Squares> {
        self.scheduler.wait(ticket)
    }

    fn ask(&self, numbers: &[u64]) -> Outcome<Squares> {
        self.wait(self.submit(numbers))
    }
}

impl Lane for Squares {
    type Job = u64;
    type Output = Vec<u64>;
    type Error = String;

    fn launch(&mut self, jobs: &[u64]) -> Result<(), String> {
        if let Some(bad) = jobs
            .iter()
            .find(|job| self.refused.is_some_and(|r| **job % r == 0))
        {
            return Err(format!("{bad} is refused"));
        }
        let under_way = self.record.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.record
            .most_under_way
            .fetch_max(under_way, Ordering::SeqCst);
        lock(&self.record.batches).push(jobs.len());
        self.numbers.clear();
        self.numbers.extend_from_slice(jobs);
        Ok(())
    }

    fn wait(&mut self, _alone: bool) -> Result<(), String> {
        thread::sleep(self.time);
        while self.record.awaits_frames() {
            thread::sleep(self.time);
        }
        self.record.under_way.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    fn collect(&mut self, index: usize, output: &mut Vec<u64>) {
        output.clear();
        output.push(self.numbers[index] * self.numbers[index]);
        self.record.with_engine.fetch_sub(1, Ordering::SeqCst);
    }
}

/// With lanes of these capacities, in two bays by turns.
fn scheduler(capacities: &[usize], refused: Option<u64>) -> (Scheduler<Squares>, Arc<Record>) {
    let record = Arc::new(Record::default());
    let scheduler = Scheduler::default();
    for (number, capacity) in capacities.iter().enumerate() {
        scheduler.add(squares(&record, refused), *capacity, number % 2);
    }
    (scheduler, record)
}

fn squares(record: &Arc<Record>, refused: Option<u64>) -> Squares {
    Squares {
        record: Arc::clone(record),
        time: Duration::from_micros(200),
        refused,
        ..Squares::default()
    }
}

#[test]
fn every_stream_gets_its_own_results_in_its_own_order() {
    const EACH: u64 = 2 * FRAMES;
    for capacities in [&[1, 1][..], &[4, 4], &[1, 1, 8, 8, 32, 32]] {
        let (scheduler, record) = scheduler(capacities, None);
        thread::scope(|scope| {
            for stream in 0..STREAMS {
                let place = Stream::new(&scheduler);
                scope.spawn(move || {
                    let number = |frame| stream * 1000 + frame;
                    let mut tickets = VecDeque::new();
                    for frame in 0..EACH {
                        tickets.push_back((frame, place.submit(&[number(frame)])));
                        if tickets.len() > (stream % 3) as usize {
                            let (frame, ticket) = tickets.pop_front().unwrap();
                            let outcome = place.wait(ticket);
                            assert!(outcome.result.is_ok());
                            assert_eq!(outcome.outputs, [[number(frame) * number(frame)]]);
                        }
                    }
                    for (frame, ticket) in tickets {
                        let outcome = place.wait(ticket);
                        assert_eq!(outcome.outputs, [[number(frame) * number(frame)]]);
                    }
                });
            }
        });
        let batches = lock(&record.batches);
        assert_eq!(batches.iter().sum::<usize>() as u64, STREAMS * EACH);
        assert!(
            batches
                .iter()
                .all(|batch| capacities.contains(batch) || *batch < 32)
        );
        assert!(record.most_under_way.load(Ordering::SeqCst) <= BATCHES_UNDER_WAY);
    }
}

#[test]
#[cfg_attr(miri, ignore = "it has too few streams")]
fn batches_grow_with_the_load() {
    let (scheduler, record) = scheduler(&[1, 1, 16, 16], None);
    let streams = STREAMS / 2;
    // All but those who wait for a batch that others' frames are in.
    let crowd = streams as usize - BATCHES_UNDER_WAY;
    record.crowd.store(crowd as isize, Ordering::SeqCst);
    thread::scope(|scope| {
        for stream in 0..streams {
            let (place, record) = (Stream::new(&scheduler), &record);
            scope.spawn(move || {
                for _ in 0..FRAMES {
                    let ticket = place.submit(&[stream]);
                    record.with_engine.fetch_add(1, Ordering::SeqCst);
                    assert!(place.wait(ticket).result.is_ok());
                }
                record.crowd.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    let batches = lock(&record.batches);
    let mean = batches.iter().sum::<usize>() as f64 / batches.len() as f64;
    assert!(mean > 6.0, "batches hold {mean} frames on the average");
}

#[test]
fn a_lone_frame_runs_at_once_and_alone() {
    let (scheduler, record) = scheduler(&[32, 32], None);
    let stream = Stream::new(&scheduler);
    let ticket = stream.submit(&[7]);
    assert_eq!(*lock(&record.batches), [1]);
    assert_eq!(stream.wait(ticket).outputs, [[49]]);
}

#[test]
fn a_request_larger_than_a_batch_comes_back_whole_and_in_order() {
    let (scheduler, _) = scheduler(&[4, 4], None);
    let numbers: Vec<u64> = (1..=11).collect();
    let outcome = Stream::new(&scheduler).ask(&numbers);
    let squares: Vec<_> = numbers.iter().map(|n| vec![n * n]).collect();
    assert_eq!(outcome.outputs, squares);
}

#[test]
fn frames_of_streams_that_wait_for_nothing_yet_hold_nobody_up() {
    let (scheduler, _) = scheduler(&[1, 1], None);
    let (idler, stream) = (Stream::new(&scheduler), Stream::new(&scheduler));
    let idle = [idler.submit(&[1]), idler.submit(&[2])];
    assert_eq!(stream.ask(&[3]).outputs, [[9]]);
    for (ticket, square) in idle.into_iter().zip([1, 4]) {
        assert_eq!(idler.wait(ticket).outputs, [[square]]);
    }
}

#[test]
fn a_batch_that_fails_is_an_error_for_its_frames_and_for_no_others() {
    let (scheduler, _) = scheduler(&[1, 1], Some(5));
    thread::scope(|scope| {
        for stream in 0..8.min(STREAMS) {
            let place = Stream::new(&scheduler);
            scope.spawn(move || {
                for frame in 0..FRAMES {
                    let number = stream + frame;
                    let outcome = place.ask(&[number]);
                    match number % 5 {
                        0 => assert_eq!(
                            *outcome.result.err().unwrap(),
                            format!("{number} is refused")
                        ),
                        _ => assert_eq!(outcome.outputs, [[number * number]]),
                    }
                }
            });
        }
    });
}

#[test]
fn lanes_may_be_added_while_streams_run() {
    let (scheduler, record) = scheduler(&[1, 1], None);
    thread::scope(|scope| {
        for stream in 0..16.min(STREAMS) {
            let place = Stream::new(&scheduler);
            scope.spawn(move || {
                for _ in 0..3 * FRAMES {
                    let outcome = place.ask(&[stream]);
                    assert_eq!(outcome.outputs, [[stream * stream]]);
                }
            });
        }
        thread::sleep(Duration::from_millis(20));
        for bay in 0..2 {
            scheduler.add(squares(&record, None), 8, bay);
        }
    });
    let batches = lock(&record.batches);
    assert!(batches.iter().any(|batch| *batch > 1));
}

#[test]
fn from_four_frames_on_batches_are_full() {
    let chosen = |capacities: &[usize], frames: usize| {
        let (scheduler, _) = scheduler(capacities, None);
        let seats = Arc::default();
        let mut state = lock(&scheduler.state);
        for number in 0..frames {
            let seat = Seats::take(&seats, 1, Vec::new());
            state.queue(Place { seat, frame: 0 }, number as u64);
        }
        // As many are expected to come together in the next batch.
        state.crest = BATCHES_UNDER_WAY * frames;
        let (slot, taken) = state.choose().unwrap();
        state.waiting.clear();
        (state.slots[slot].capacity, taken)
    };
    let lanes = [1, 2, 4, 8, 12, 16, 24, 32];
    for (frames, lane, taken) in [
        (1, 1, 1),
        (2, 2, 2),
        (3, 4, 3),
        (4, 4, 4),
        (5, 4, 4),
        (7, 4, 4),
        (8, 8, 8),
        (11, 8, 8),
        (15, 12, 12),
        (23, 16, 16),
        (31, 24, 24),
        (32, 32, 32),
    ] {
        assert_eq!(chosen(&lanes, frames), (lane, taken), "{frames} frames");
    }
    // An engine with few sizes takes more than half at once.
    assert_eq!(chosen(&[1, 16], 12), (16, 12));
    assert_eq!(chosen(&[4, 16], 7), (4, 4));
    assert_eq!(chosen(&[4, 16], 8), (16, 8));
}

#[test]
fn lanes_of_one_bay_never_run_at_once() {
    let record = Arc::new(Record::default());
    let scheduler = Scheduler::default();
    for capacity in [1, 1, 2, 4, 8] {
        scheduler.add(squares(&record, None), capacity, 0);
    }
    thread::scope(|scope| {
        for stream in 0..8.min(STREAMS) {
            let place = Stream::new(&scheduler);
            scope.spawn(move || {
                for _ in 0..FRAMES {
                    assert_eq!(place.ask(&[stream]).outputs, [[stream * stream]]);
                }
            });
        }
    });
    assert_eq!(record.most_under_way.load(Ordering::SeqCst), 1);
}

#[test]
fn streams_that_fetch_late_or_come_and_go_leave_no_batch_waiting() {
    let (scheduler, _) = scheduler(&[1, 1, 2, 2, 4, 4], None);
    thread::scope(|scope| {
        for number in 0..12.min(STREAMS) {
            let scheduler = &scheduler;
            scope.spawn(move || {
                for round in 0..FRAMES / 2 {
                    let place = Stream::new(scheduler);
                    let tickets = [1, 2].map(|frame| (frame, place.submit(&[frame, number])));
                    if (number + round) % 5 == 0 {
                        thread::sleep(Duration::from_micros(300));
                    }
                    for (frame, ticket) in tickets {
                        let outcome = place.wait(ticket);
                        assert_eq!(outcome.outputs, [[frame * frame], [number * number]]);
                    }
                }
            });
        }
    });
    assert_eq!(lock(&scheduler.state).waiting.len(), 0);
    assert_eq!(lock(&scheduler.state).sleepers.len(), 0);
}

/// It is awake whenever it is called, and goes to sleep at the next moment.
#[derive(Default)]
struct Drowsy {
    scheduler: OnceLock<Arc<Scheduler<Squares>>>,
    calls: AtomicUsize,
    sleeps_in: AtomicBool,
}

impl Attendant for Drowsy {
    fn has_results(&self) {}

    fn call(&self) -> bool {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if !self.scheduler.get().unwrap().is_due() {
            self.sleeps_in.store(true, Ordering::SeqCst);
        }
        false
    }
}

#[test]
fn who_is_awake_when_called_finds_the_batch_when_it_goes_to_sleep() {
    let (scheduler, _) = scheduler(&[1, 1], None);
    let scheduler = Arc::new(scheduler);
    let drowsy = Arc::new(Drowsy::default());
    assert!(drowsy.scheduler.set(Arc::clone(&scheduler)).is_ok());
    let stream = Stream::new(&scheduler);
    stream.seats.attended_by(drowsy.clone());
    for number in 0..3 {
        let ticket = stream.submit(&[number]);
        assert!(drowsy.calls.load(Ordering::SeqCst) as u64 > number);
        assert!(scheduler.is_due());
        scheduler.attend(false);
        assert!(ticket.is_done() && !scheduler.is_due());
        assert_eq!(stream.wait(ticket).outputs, [[number * number]]);
    }
    assert!(
        !drowsy.sleeps_in.load(Ordering::SeqCst),
        "a batch is missed"
    );
}

/// Comes when it is called, and counts how often.
#[derive(Default)]
struct Willing(AtomicUsize);

impl Attendant for Willing {
    fn has_results(&self) {}

    fn call(&self) -> bool {
        self.0.fetch_add(1, Ordering::SeqCst);
        true
    }
}

#[test]
fn a_stream_with_frames_in_two_batches_is_called_to_the_second_only_if_no_other_can_be() {
    let (scheduler, _) = scheduler(&[1, 2], None);
    let [busy, filler, other] = [(); 3].map(|()| Stream::new(&scheduler));
    let called = [&busy, &other].map(|stream| {
        let attendant = Arc::new(Willing::default());
        stream.seats.attended_by(attendant.clone());
        attendant
    });
    let calls = || called.each_ref().map(|one| one.0.load(Ordering::SeqCst));
    let (first, between) = (busy.submit(&[1]), filler.submit(&[2]));
    assert_eq!(calls(), [1, 0]);
    // Both lanes have a batch: these wait, and run together.
    let (second, third) = (busy.submit(&[3]), other.submit(&[4]));
    let of_busy = calls()[0];
    assert_eq!(filler.wait(between).outputs, [[4]]);
    assert_eq!(calls(), [of_busy, 1]);
    let waited = [(&busy, first, 1), (&busy, second, 9), (&other, third, 16)];
    for (stream, ticket, square) in waited {
        assert_eq!(stream.wait(ticket).outputs, [[square]]);
    }
}

#[test]
fn frames_of_a_stream_run_together_and_its_next_ones_after_those_of_all_others() {
    let (scheduler, _) = scheduler(&[1, 1], None);
    let [filler, eager, modest] = [(); 3].map(|()| Stream::new(&scheduler));
    let order = || -> Vec<u64> {
        let state = lock(&scheduler.state);
        state.waiting.iter().map(|frame| frame.job).collect()
    };
    let fillers = [1, 2].map(|number| filler.submit(&[number]));
    let first = eager.submit(&[3]);
    let others = modest.submit(&[4]);
    let second = eager.submit(&[5]);
    assert_eq!(order(), [3, 5, 4]);
    let [one, two] = fillers;
    assert_eq!(filler.wait(one).outputs, [[1]]);
    let third = eager.submit(&[6]);
    let fourth = eager.submit(&[7]);
    assert_eq!(order(), [5, 4, 6, 7]);
    assert_eq!(filler.wait(two).outputs, [[4]]);
    for (stream, ticket, square) in [
        (&eager, first, 9),
        (&eager, second, 25),
        (&modest, others, 16),
        (&eager, third, 36),
        (&eager, fourth, 49),
    ] {
        assert_eq!(stream.wait(ticket).outputs, [[square]]);
    }
    assert!(order().is_empty());
}
