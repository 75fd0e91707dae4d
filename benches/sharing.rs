//! What it costs the host that many streams share an engine: CPU time of a frame by the scheduler alone, with an
//! engine that only takes its time.
//!
//!     cargo bench --bench sharing [-- SECONDS]
//!
//! Each stream has a thread and two frames under way, as the element has on a GPU.

#[path = "common/cpu_time.rs"]
mod cpu_time;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cpu_time::cpu_time;
use gstrsdetectnet::detector::scheduler::{Lane, MAX_BATCH, Scheduler, Seats};

/// What a batch takes: that of a small network and of a larger one, a frame in full batches.
const FRAME_TIMES: [Duration; 2] = [Duration::from_micros(36), Duration::from_micros(130)];
const STREAMS: [usize; 4] = [1, 8, 32, 64];
const UNDER_WAY: usize = 2;

struct Idler {
    frame_time: Duration,
    frames: u32,
    batches: Arc<AtomicU64>,
}

impl Lane for Idler {
    type Job = ();
    type Output = ();
    type Error = ();

    fn launch(&mut self, jobs: &[()]) -> Result<(), ()> {
        self.frames = jobs.len() as u32;
        self.batches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn wait_until_nearly_done(&mut self) -> Result<bool, ()> {
        Ok(false)
    }

    fn wait(&mut self, _alone: bool) -> Result<(), ()> {
        thread::sleep(self.frame_time * self.frames);
        Ok(())
    }

    fn collect(&mut self, _index: usize, (): &mut ()) {}
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let seconds = arguments.next().and_then(|s| s.parse().ok()).unwrap_or(2.0);
    println!("streams  frame time   frames/s  in a batch  CPU of a frame");
    for frame_time in FRAME_TIMES {
        for streams in STREAMS {
            let batches = Arc::new(AtomicU64::new(0));
            let scheduler = Arc::<Scheduler<Idler>>::default();
            for bay in 0..2 {
                for capacity in [1, 2, 4, 8, 16, MAX_BATCH] {
                    let lane = Idler {
                        frame_time,
                        frames: 0,
                        batches: Arc::clone(&batches),
                    };
                    scheduler.add(lane, capacity, bay);
                }
            }
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
            println!(
                "{streams:>7} {frame_time:>11.0?} {:>10.0} {:>11.1} {:>15.1?}",
                frames as f64 / start.elapsed().as_secs_f64(),
                frames as f64 / batches.load(Ordering::Relaxed).max(1) as f64,
                cpu / frames as u32,
            );
        }
    }
}
