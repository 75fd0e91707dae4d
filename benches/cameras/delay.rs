//! How long frames are in an element, measured without an allocation for each.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// More frames are never in an element.
const MOST_INSIDE: usize = 64;
/// Each power of two is divided into so many steps.
const STEPS: usize = 32;
const BUCKETS: usize = STEPS * 28;

/// Counts of durations in microseconds, to 3% or better.
#[derive(Clone)]
pub struct Histogram(Box<[u32; BUCKETS]>);

impl Default for Histogram {
    fn default() -> Self {
        Self(Box::new([0; BUCKETS]))
    }
}

impl Histogram {
    fn add(&mut self, duration: Duration) {
        let microseconds = duration.as_micros() as usize;
        let power = microseconds.max(STEPS).ilog2() - STEPS.ilog2();
        let step = (microseconds >> power) - STEPS * usize::from(microseconds >= STEPS);
        let index = match microseconds < STEPS {
            true => step,
            false => (power as usize + 1) * STEPS + step,
        };
        self.0[index.min(BUCKETS - 1)] += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(other.0.iter()) {
            *own += other;
        }
    }

    /// The duration below which this part of all lies; None where there are none.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let all: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        let wanted = ((all as f64 * part).ceil() as u64).max(1);
        let mut below = 0;
        let index = self.0.iter().position(|count| {
            below += u64::from(*count);
            below >= wanted
        })?;
        let microseconds = match index < STEPS {
            true => index,
            false => (index % STEPS + STEPS) << (index / STEPS - 1),
        };
        Some(Duration::from_micros(microseconds as u64))
    }
}

struct State {
    inside: VecDeque<(Option<gst::ClockTime>, Instant)>,
    histogram: Histogram,
}

/// The frames of one stream that are in its element.
pub struct Delays(Mutex<State>);

impl Default for Delays {
    fn default() -> Self {
        Self(Mutex::new(State {
            inside: VecDeque::with_capacity(MOST_INSIDE),
            histogram: Histogram::default(),
        }))
    }
}

impl Delays {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn enter(&self, pts: Option<gst::ClockTime>) {
        let mut state = self.state();
        if state.inside.len() == MOST_INSIDE {
            state.inside.pop_front();
        }
        state.inside.push_back((pts, Instant::now()));
    }

    pub fn leave(&self, pts: Option<gst::ClockTime>) {
        let now = Instant::now();
        let mut state = self.state();
        while let Some((entered_pts, entered)) = state.inside.pop_front() {
            if entered_pts == pts {
                state.histogram.add(now - entered);
                return;
            }
        }
    }

    /// What was measured since the last time.
    pub fn take(&self) -> Histogram {
        let fresh = Histogram::default();
        std::mem::replace(&mut self.state().histogram, fresh)
    }
}
