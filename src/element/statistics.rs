//! Counters and times for the `stats` property.

use std::time::{Duration, Instant};

use crate::detector::{Streams, Timings};

/// Percentiles are of this many inspections, the latest.
const WINDOW: usize = 256;

/// The latest durations of one stage.
#[derive(Debug)]
struct Window {
    microseconds: [u32; WINDOW],
    filled: usize,
    next: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            microseconds: [0; WINDOW],
            filled: 0,
            next: 0,
        }
    }
}

impl Window {
    fn add(&mut self, duration: Duration) {
        self.microseconds[self.next] = duration.as_micros().try_into().unwrap_or(u32::MAX);
        self.next = (self.next + 1) % WINDOW;
        self.filled = (self.filled + 1).min(WINDOW);
    }

    /// The median and the 99th percentile, in microseconds.
    fn percentiles(&self) -> (u32, u32) {
        let mut sorted = self.microseconds;
        let sorted = &mut sorted[..self.filled];
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get((self.filled * percent) / 100).copied();
        (at(50).unwrap_or(0), at(99).unwrap_or(0))
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Inspected {
        timings: Timings,
        /// The time for its thumbnails.
        hash: Duration,
        attach: Duration,
        detections: usize,
    },
    /// Passed on with the detections of the last inspected frame, as which it looks.
    Unchanged { hash: Duration },
    /// Passed on uninspected, as `interval` says or because it was a gap.
    Skipped,
    /// Passed on uninspected because it was late.
    Late,
    /// Dropped because it was late.
    Dropped,
}

/// Everything that `stats` tells of the stream since the element started.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    inspected: u64,
    unchanged: u64,
    skipped: u64,
    late: u64,
    dropped: u64,
    detections: u64,
    preprocess: Window,
    infer: Window,
    decode: Window,
    hash: Window,
    attach: Window,
    total: Window,
    /// Start of the current second, frames since then, and frames per second of the one before.
    second: Option<(Instant, u32)>,
    frames_per_second: f64,
    backend: String,
    /// Of the model, while there is one.
    streams: Option<Streams>,
}

impl Statistics {
    /// The model is there, and runs on this.
    pub fn begin(&mut self, backend: String, streams: Streams) {
        self.backend = backend;
        self.share(Some(streams));
    }

    /// The model is shared by these from now on; None once it is gone.
    pub fn share(&mut self, streams: Option<Streams>) {
        self.streams = streams;
    }

    pub fn add(&mut self, now: Instant, fate: Fate) {
        match fate {
            Fate::Inspected {
                timings,
                hash,
                attach,
                detections,
            } => {
                self.inspected += 1;
                self.detections += detections as u64;
                self.preprocess.add(timings.preprocess);
                self.infer.add(timings.infer);
                self.decode.add(timings.decode);
                self.hash.add(hash);
                self.attach.add(attach);
                self.total.add(timings.total() + hash + attach);
            }
            Fate::Unchanged { hash } => {
                self.unchanged += 1;
                self.hash.add(hash);
            }
            Fate::Skipped => self.skipped += 1,
            Fate::Late => self.late += 1,
            Fate::Dropped => self.dropped += 1,
        }
        let (start, frames) = match self.second {
            None => (now, 0),
            Some((start, frames)) => (start, frames + 1),
        };
        let elapsed = now.saturating_duration_since(start).as_secs_f64();
        self.second = Some((start, frames));
        if elapsed >= 1.0 {
            self.frames_per_second = f64::from(frames) / elapsed;
            self.second = Some((now, 0));
        }
    }

    /// Frames inspected and frames that were late, for QoS messages.
    pub fn processed_and_late(&self) -> (u64, u64) {
        (self.inspected, self.late + self.dropped)
    }

    pub fn to_structure(&self) -> gst::Structure {
        let stages = [
            ("preprocess", &self.preprocess),
            ("infer", &self.infer),
            ("decode", &self.decode),
            ("hash", &self.hash),
            ("attach", &self.attach),
            ("total", &self.total),
        ];
        let streams = self.streams.as_ref().map_or(0, Streams::count) as u32;
        let mut structure = gst::Structure::builder("stats")
            .field("backend", &self.backend)
            .field("model-streams", streams)
            .field("inspected", self.inspected)
            .field("unchanged", self.unchanged)
            .field("skipped", self.skipped)
            .field("late", self.late)
            .field("dropped", self.dropped)
            .field("detections", self.detections)
            .field("fps", self.frames_per_second);
        for (stage, window) in stages {
            let (median, high) = window.percentiles();
            structure = structure
                .field(format!("{stage}-p50-us"), median)
                .field(format!("{stage}-p99-us"), high);
        }
        structure.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_latest_inspections() {
        let mut window = Window::default();
        for microseconds in 0..1000 {
            window.add(Duration::from_micros(microseconds));
        }
        assert_eq!(window.percentiles(), (744 + 128, 744 + 253));
    }

    #[test]
    fn counters_add_up_and_frames_per_second_are_of_whole_seconds() {
        gst::init().unwrap();
        let mut statistics = Statistics::default();
        let start = Instant::now();
        for frame in 0..=20u32 {
            let fate = match frame % 4 {
                0 => Fate::Skipped,
                1 => Fate::Late,
                2 => Fate::Unchanged {
                    hash: Duration::from_micros(9),
                },
                _ => Fate::Inspected {
                    timings: Timings::default(),
                    hash: Duration::from_micros(9),
                    attach: Duration::ZERO,
                    detections: 2,
                },
            };
            statistics.add(start + Duration::from_millis(50) * frame, fate);
        }
        let stats = statistics.to_structure();
        let count = |name| stats.get::<u64>(name).unwrap();
        let fates = ["skipped", "late", "unchanged", "inspected"].map(count);
        assert_eq!(fates, [6, 5, 5, 5]);
        assert_eq!(count("detections"), 10);
        assert_eq!(stats.get::<u32>("hash-p50-us").unwrap(), 9);
        assert_eq!(stats.get::<f64>("fps").unwrap(), 20.0);
    }
}
