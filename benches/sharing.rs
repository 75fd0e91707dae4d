//! How well many streams share an engine, by the scheduler alone: with an engine that only takes its time, how near
//! it comes to full batches one after the other, and what a frame costs the host.
//!
//!     cargo bench --bench sharing [-- SECONDS]
//!
//! Each stream has a thread and two frames under way, as the element has on a GPU. The engine takes the time that
//! TensorRT was measured to take on an H100; batches that run at once share it.

#[path = "common/cpu_time.rs"]
mod cpu_time;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cpu_time::cpu_time;
use gstrsdetectnet::detector::scheduler::{Lane, MAX_BATCH, Scheduler, Seats};
use gstrsdetectnet::engine::tensorrt::Batches;

/// What a batch takes, and each frame in it besides.
struct Network {
    name: &'static str,
    batch: Duration,
    frame: Duration,
}

const NETWORKS: [Network; 2] = [
    Network {
        name: "ssd-mobilenet-v2",
        batch: Duration::from_micros(220),
        frame: Duration::from_micros(29),
    },
    Network {
        name: "yolov5s",
        batch: Duration::from_micros(300),
        frame: Duration::from_micros(122),
    },
];
const STREAMS: [usize; 5] = [1, 8, 16, 32, 64];
const UNDER_WAY: usize = 2;

/// Runs all batches that there are at once, each the slower.
#[derive(Default)]
struct Engine {
    /// By lane.
    left: Vec<Duration>,
    looked_at: Option<Instant>,
}

impl Engine {
    /// Lets the time pass that has passed.
    fn go_on(&mut self) {
        let now = Instant::now();
        let mut passed = now - self.looked_at.replace(now).unwrap_or(now);
        loop {
            let running = || self.left.iter().filter(|left| !left.is_zero());
            let batches = running().count() as u32;
            let Some(shortest) = running().min().copied() else {
                return;
            };
            let step = shortest.min(passed / batches);
            if step.is_zero() {
                return;
            }
            for left in self.left.iter_mut() {
                *left = left.saturating_sub(step);
            }
            passed -= step * batches;
        }
    }
}

struct Idler {
    number: usize,
    capacity: u32,
    network: &'static Network,
    engine: Arc<Mutex<Engine>>,
    batches: Arc<AtomicU64>,
}

impl Idler {
    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane for Idler {
    type Job = ();
    type Output = ();
    type Error = ();

    fn launch(&mut self, _jobs: &[()]) -> Result<(), ()> {
        let mut engine = self.engine();
        engine.go_on();
        engine.left[self.number] = self.network.batch + self.network.frame * self.capacity;
        self.batches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn wait(&mut self, _alone: bool) -> Result<(), ()> {
        loop {
            let left = {
                let mut engine = self.engine();
                engine.go_on();
                engine.left[self.number]
            };
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left);
        }
    }

    fn collect(&mut self, _index: usize, (): &mut ()) {}
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let seconds = arguments.next().and_then(|s| s.parse().ok()).unwrap_or(2.0);
    println!("         network streams   frames/s   ratio  in a batch  CPU of a frame");
    for network in &NETWORKS {
        let limit =
            MAX_BATCH as f64 / (network.batch + network.frame * MAX_BATCH as u32).as_secs_f64();
        for streams in STREAMS {
            let batches = Arc::new(AtomicU64::new(0));
            let engine = Arc::<Mutex<Engine>>::default();
            let scheduler = Arc::<Scheduler<Idler>>::default();
            let mut lanes = 0;
            for bay in 0..2 {
                for capacity in Batches::UpTo(MAX_BATCH as u32).sizes() {
                    let lane = Idler {
                        number: lanes,
                        capacity,
                        network,
                        engine: Arc::clone(&engine),
                        batches: Arc::clone(&batches),
                    };
                    scheduler.add(lane, capacity as usize, bay);
                    lanes += 1;
                }
            }
            engine
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .left
                .resize(lanes, Duration::ZERO);
            let (stop, frames) = (AtomicBool::new(false), AtomicU64::new(0));
            let (start, cpu) = (Instant::now(), cpu_time(libc::RUSAGE_SELF));
            thread::scope(|scope| {
                for _ in 0..streams {
                    scope.spawn(|| {
                        let seats = Arc::<Seats<Idler>>::default();
                        let mut under_way = VecDeque::with_capacity(UNDER_WAY);
                        while !stop.load(Ordering::Relaxed) {
                            if under_way.len() == UNDER_WAY
                                && let Some(ticket) = under_way.pop_front()
                            {
                                scheduler.wait(ticket);
                                frames.fetch_add(1, Ordering::Relaxed);
                            }
                            let job = std::iter::once(());
                            under_way.push_back(scheduler.submit(&seats, job, Vec::new()));
                        }
                        for ticket in under_way {
                            scheduler.wait(ticket);
                        }
                    });
                }
                thread::sleep(Duration::from_secs_f64(seconds));
                stop.store(true, Ordering::Relaxed);
            });
            let frames = frames.into_inner().max(1);
            let cpu = cpu_time(libc::RUSAGE_SELF) - cpu;
            let rate = frames as f64 / start.elapsed().as_secs_f64();
            println!(
                "{:>16} {streams:>7} {rate:>10.0} {:>7.2} {:>11.1} {:>15.1?}",
                network.name,
                rate / limit,
                frames as f64 / batches.load(Ordering::Relaxed).max(1) as f64,
                cpu / frames as u32,
            );
        }
    }
}
