use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

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
}

/// Squares numbers on a machine that takes a while; refuses multiples of `refused`.
struct Squares {
    record: Arc<Record>,
    time: Duration,
    refused: Option<u64>,
    numbers: Vec<u64>,
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
        self.record.under_way.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    fn collect(&mut self, index: usize, output: &mut Vec<u64>) {
        output.clear();
        output.push(self.numbers[index] * self.numbers[index]);
    }
}

fn scheduler(capacities: &[usize], refused: Option<u64>) -> (Scheduler<Squares>, Arc<Record>) {
    let record = Arc::new(Record::default());
    let scheduler = Scheduler::default();
    for capacity in capacities {
        let lane = Squares {
            record: Arc::clone(&record),
            time: Duration::from_micros(200),
            refused,
            numbers: Vec::new(),
        };
        scheduler.add(lane, *capacity);
    }
    (scheduler, record)
}

fn submit(scheduler: &Scheduler<Squares>, numbers: &[u64]) -> Ticket {
    scheduler.submit(numbers.iter().copied(), Vec::new())
}

#[test]
fn every_stream_gets_its_own_results_in_its_own_order() {
    const EACH: u64 = 2 * FRAMES;
    for capacities in [&[1, 1][..], &[4, 4], &[1, 1, 8, 8, 32, 32]] {
        let (scheduler, record) = scheduler(capacities, None);
        thread::scope(|scope| {
            for stream in 0..STREAMS {
                let scheduler = &scheduler;
                scope.spawn(move || {
                    let number = |frame| stream * 1000 + frame;
                    let mut tickets = VecDeque::new();
                    for frame in 0..EACH {
                        tickets.push_back((frame, submit(scheduler, &[number(frame)])));
                        if tickets.len() > (stream % 3) as usize {
                            let (frame, ticket) = tickets.pop_front().unwrap();
                            let outcome = scheduler.wait(ticket);
                            assert!(outcome.result.is_ok());
                            assert_eq!(outcome.outputs, [[number(frame) * number(frame)]]);
                        }
                    }
                    for (frame, ticket) in tickets {
                        let outcome = scheduler.wait(ticket);
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
#[cfg_attr(miri, ignore = "it is about time")]
fn batches_grow_with_the_load() {
    let (scheduler, record) = scheduler(&[1, 1, 16, 16], None);
    thread::scope(|scope| {
        for stream in 0..STREAMS / 2 {
            let scheduler = &scheduler;
            scope.spawn(move || {
                for _ in 0..FRAMES {
                    let ticket = submit(scheduler, &[stream]);
                    assert!(scheduler.wait(ticket).result.is_ok());
                }
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
    let ticket = submit(&scheduler, &[7]);
    assert_eq!(*lock(&record.batches), [1]);
    assert_eq!(scheduler.wait(ticket).outputs, [[49]]);
}

#[test]
fn a_request_larger_than_a_batch_comes_back_whole_and_in_order() {
    let (scheduler, _) = scheduler(&[4, 4], None);
    let numbers: Vec<u64> = (1..=11).collect();
    let ticket = submit(&scheduler, &numbers);
    let outcome = scheduler.wait(ticket);
    let squares: Vec<_> = numbers.iter().map(|n| vec![n * n]).collect();
    assert_eq!(outcome.outputs, squares);
}

#[test]
fn frames_of_streams_that_wait_for_nothing_yet_hold_nobody_up() {
    let (scheduler, _) = scheduler(&[1, 1], None);
    let idle = [submit(&scheduler, &[1]), submit(&scheduler, &[2])];
    let ticket = submit(&scheduler, &[3]);
    assert_eq!(scheduler.wait(ticket).outputs, [[9]]);
    for (ticket, square) in idle.into_iter().zip([1, 4]) {
        assert_eq!(scheduler.wait(ticket).outputs, [[square]]);
    }
}

#[test]
fn a_batch_that_fails_is_an_error_for_its_frames_and_for_no_others() {
    let (scheduler, _) = scheduler(&[1, 1], Some(5));
    thread::scope(|scope| {
        for stream in 0..8.min(STREAMS) {
            let scheduler = &scheduler;
            scope.spawn(move || {
                for frame in 0..FRAMES {
                    let number = stream + frame;
                    let outcome = scheduler.wait(submit(scheduler, &[number]));
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
            let scheduler = &scheduler;
            scope.spawn(move || {
                for _ in 0..3 * FRAMES {
                    let outcome = scheduler.wait(submit(scheduler, &[stream]));
                    assert_eq!(outcome.outputs, [[stream * stream]]);
                }
            });
        }
        thread::sleep(Duration::from_millis(20));
        for _ in 0..2 {
            let lane = Squares {
                record: Arc::clone(&record),
                time: Duration::from_micros(200),
                refused: None,
                numbers: Vec::new(),
            };
            scheduler.add(lane, 8);
        }
    });
    let batches = lock(&record.batches);
    assert!(batches.iter().any(|batch| *batch > 1));
}
