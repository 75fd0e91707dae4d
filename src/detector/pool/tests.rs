use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use super::*;

const THREADS: usize = 8;
const LONG: Duration = Duration::from_secs(20);

/// Miri runs a thousand times slower, and finds a race in a few rounds as well as in many.
const ROUNDS: usize = if cfg!(miri) { 3 } else { 20 };
const STREAMS: usize = if cfg!(miri) { 5 } else { 16 };

/// A copy of a model, on so many threads.
struct Copy {
    threads: usize,
}

fn wide() -> Arc<Desks<Copy>> {
    Arc::new(Desks::new(Copy { threads: THREADS }, THREADS))
}

/// As many copies as the streams of the test call for.
fn copies(desks: &Desks<Copy>, number: usize) -> Vec<Copy> {
    let threads = desks.share(number);
    (0..number).map(|_| Copy { threads }).collect()
}

fn threads_of(turn: &Turn<'_, Copy>) -> usize {
    turn.copy.as_ref().unwrap().threads
}

/// Waits until so many streams wait for a copy.
fn until_waiting(desks: &Desks<Copy>, number: usize) {
    let start = std::time::Instant::now();
    while lock(&desks.state).waiting.len() < number {
        assert!(start.elapsed() < LONG, "they do not wait");
        thread::yield_now();
    }
}

#[test]
fn a_lone_stream_has_all_threads_and_several_have_a_share_each() {
    let desks = wide();
    desks.streams.join();
    assert_eq!(threads_of(&desks.turn()), THREADS);
    desks.replace(copies(&desks, 4), None);
    assert_eq!(threads_of(&desks.turn()), THREADS);
    for _ in 0..3 {
        desks.streams.join();
    }
    {
        let turns: Vec<_> = (0..4).map(|_| desks.turn()).collect();
        assert!(turns.iter().all(|turn| threads_of(turn) == THREADS / 4));
    }
    for _ in 0..3 {
        desks.streams.leave();
    }
    assert_eq!(threads_of(&desks.turn()), THREADS);
}

#[test]
fn turns_come_in_the_order_in_which_they_were_asked_for() {
    let desks = wide();
    for _ in 0..STREAMS {
        desks.streams.join();
    }
    desks.replace(copies(&desks, 1), None);
    let (record, order) = mpsc::channel();
    thread::scope(|scope| {
        let held = desks.turn();
        for stream in 0..STREAMS {
            let (desks, record) = (&desks, record.clone());
            scope.spawn(move || {
                let _turn = desks.turn();
                record.send(stream).unwrap();
            });
            until_waiting(desks, stream + 1);
        }
        drop(held);
    });
    drop(record);
    assert!(order.iter().eq(0..STREAMS));
}

#[test]
fn who_asks_again_at_once_comes_after_all_who_wait() {
    let desks = wide();
    for _ in 0..3 {
        desks.streams.join();
    }
    desks.replace(copies(&desks, 1), None);
    for _ in 0..5 * ROUNDS {
        let held = desks.turn();
        let served = AtomicUsize::new(0);
        thread::scope(|scope| {
            for waiting in 0..2 {
                let (desks, served) = (&desks, &served);
                scope.spawn(move || {
                    let _turn = desks.turn();
                    served.fetch_add(1, Ordering::SeqCst);
                });
                until_waiting(desks, waiting + 1);
            }
            drop(held);
            let _again = desks.turn();
            assert_eq!(served.load(Ordering::SeqCst), 2);
        });
    }
}

#[test]
fn never_do_more_threads_work_than_there_are_while_streams_and_copies_come_and_go() {
    let desks = wide();
    let (busy, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for stream in 0..STREAMS {
            let (desks, busy, most) = (&desks, &busy, &most);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    desks.streams.join();
                    for _ in 0..ROUNDS {
                        let turn = desks.turn();
                        let now = busy.fetch_add(threads_of(&turn), Ordering::SeqCst);
                        most.fetch_max(now + threads_of(&turn), Ordering::SeqCst);
                        if (stream + round) % 3 == 0 {
                            thread::sleep(Duration::from_micros(50));
                        }
                        busy.fetch_sub(threads_of(&turn), Ordering::SeqCst);
                    }
                    desks.streams.leave();
                }
            });
        }
        for number in [2, 4, 8, 1, 8, 3] {
            thread::sleep(Duration::from_millis(5));
            desks.replace(copies(&desks, number), None);
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), THREADS);
    let state = lock(&desks.state);
    assert_eq!((state.busy, state.waiting.len()), (0, 0));
    assert!(state.wide.is_some());
    assert_eq!(state.narrow.len(), 3, "copies of earlier sets are gone");
    assert_eq!(desks.streams.count(), 0);
}

#[test]
fn who_asks_alone_while_the_copies_are_in_use_waits_for_all_threads() {
    let desks = wide();
    for _ in 0..2 {
        desks.streams.join();
    }
    desks.replace(copies(&desks, 2), None);
    let narrow = desks.turn();
    desks.streams.leave();
    thread::scope(|scope| {
        let (done, is_done) = mpsc::channel();
        let desks = &desks;
        scope.spawn(move || done.send(threads_of(&desks.turn())).unwrap());
        until_waiting(desks, 1);
        assert!(is_done.try_recv().is_err());
        drop(narrow);
        assert_eq!(is_done.recv_timeout(LONG), Ok(THREADS));
    });
}

#[test]
fn a_panic_in_a_turn_gives_the_copy_back() {
    let desks = wide();
    desks.streams.join();
    let other = Arc::clone(&desks);
    let panicked = thread::spawn(move || {
        let _turn = other.turn();
        std::panic::panic_any("on purpose");
    });
    assert!(panicked.join().is_err());
    assert_eq!(threads_of(&desks.turn()), THREADS);
}
