//! What the process holds, and whether it holds more and more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::heap::allocated;
use crate::usage::{Gpu, Load};

/// What the process holds at one moment.
pub struct Reading {
    allocated: f64,
    resident: f64,
    files: Files,
    threads: f64,
    gpu: Option<f64>,
    load: Option<Load>,
    delay: Duration,
}

fn entries(folder: &str) -> std::io::Result<f64> {
    Ok(std::fs::read_dir(folder)?.count() as f64)
}

/// Open files by what they are: `/dev/nvidia0`, `socket`, `anon_inode:[eventfd]`. Sockets and pipes are links to a number
/// in brackets.
struct Files(BTreeMap<String, usize>);

impl Files {
    fn open() -> std::io::Result<Self> {
        let mut kinds = BTreeMap::new();
        for file in std::fs::read_dir("/proc/self/fd")?.flatten() {
            // The folder itself was open as well.
            if let Ok(target) = std::fs::read_link(file.path()) {
                let target = target.to_string_lossy().into_owned();
                let kind = match target.split_once(":[") {
                    Some((kind, _)) if kind != "anon_inode" => kind.to_owned(),
                    _ => target,
                };
                *kinds.entry(kind).or_default() += 1;
            }
        }
        Ok(Self(kinds))
    }

    fn number(&self, which: impl Fn(&str) -> bool) -> f64 {
        let kinds = self.0.iter().filter(|(kind, _)| which(kind));
        kinds.map(|(_, number)| *number as f64).sum()
    }
}

/// What a GPU's driver opens: devices, and sockets beside two for each camera. With a GPU these go up and down by twos,
/// and are taken for two of each thread that has waited for it.
fn is_of_driver(kind: &str) -> bool {
    kind.starts_with("/dev/") || kind == "socket"
}

/// Gives all threads one heap, of which [`allocated`] tells.
pub fn use_one_heap() {
    // SAFETY: no other thread runs yet.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

impl Reading {
    /// The delay is what the frames that came out since the last reading had, at most.
    pub fn now(gpu: Option<&Gpu>, delay: Duration) -> Result<Self, Box<dyn std::error::Error>> {
        let statm = std::fs::read_to_string("/proc/self/statm")?;
        let pages: f64 = statm.split(' ').nth(1).ok_or("statm")?.parse()?;
        Ok(Self {
            allocated: allocated() as f64 / f64::from(1 << 20),
            resident: pages * 4096.0 / f64::from(1 << 20),
            files: Files::open()?,
            threads: entries("/proc/self/task")?,
            gpu: gpu.and_then(Gpu::memory),
            load: gpu.and_then(Gpu::load),
            delay,
        })
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let gpu = self.gpu.map_or("-".into(), |gpu| format!("{gpu:.0}"));
        write!(
            f,
            "{:9.2} {:8.1} {:6} {:7} {:7} {gpu:>7} {:7.1}",
            self.allocated,
            self.resident,
            self.files.number(|kind| !is_of_driver(kind)),
            self.files.number(is_of_driver),
            self.threads,
            self.delay.as_secs_f64() * 1000.0
        )?;
        match self.load {
            Some(load) => write!(f, " {:5.0} {:6.0}", load.compute, load.decoder),
            None => Ok(()),
        }
    }
}

/// All readings. The first quarter is for warming up; of what is left, the lows of the halves are compared, as
/// what the cameras do goes up and down at random.
pub struct Growth {
    readings: Vec<Reading>,
    cameras: usize,
}

impl Growth {
    /// Of a process with so many cameras.
    pub fn new(cameras: usize) -> Self {
        let readings = Vec::new();
        Self { readings, cameras }
    }

    pub fn add(&mut self, reading: Reading) {
        self.readings.push(reading);
    }

    /// What each thing grew by, and how much that may be: its name, the growth, the limit.
    fn grown(&self) -> [(&'static str, f64, f64); 7] {
        let settled = &self.readings[self.readings.len() / 4..];
        let (early, late) = settled.split_at(settled.len() / 2);
        let of = |value: &dyn Fn(&Reading) -> f64| {
            let low =
                |readings: &[Reading]| readings.iter().map(value).fold(f64::INFINITY, f64::min);
            match (low(early), low(late)) {
                (early, late) if early.is_finite() && late.is_finite() => late - early,
                _ => 0.0,
            }
        };
        [
            ("MiB allocated", of(&|r| r.allocated), 2.0),
            ("MiB resident", of(&|r| r.resident), 32.0),
            (
                "files",
                of(&|r| r.files.number(|kind| !is_of_driver(kind))),
                0.0,
            ),
            (
                "files of the driver",
                of(&|r| r.files.number(is_of_driver)),
                // Which threads have waited so far changes at random.
                2.0 * self.cameras as f64,
            ),
            ("threads", of(&|r| r.threads), 0.0),
            ("MiB of the GPU", of(&|r| r.gpu.unwrap_or(0.0)), 8.0),
            ("ms of delay", of(&|r| r.delay.as_secs_f64() * 1000.0), 50.0),
        ]
    }

    /// The kinds of which there were not always as many, with the least and the most of each.
    fn files_that_changed(&self) -> Vec<String> {
        let kinds: BTreeSet<_> = self
            .readings
            .iter()
            .flat_map(|r| r.files.0.keys())
            .collect();
        let spread = kinds.into_iter().filter_map(|kind| {
            let numbers = || self.readings.iter().map(|r| r.files.number(|k| k == kind));
            let (least, most) = (
                numbers().fold(f64::INFINITY, f64::min),
                numbers().fold(0.0, f64::max),
            );
            (least < most).then(|| format!("{least} to {most} {kind}"))
        });
        spread.collect()
    }

    pub fn is_none(&self) -> bool {
        self.grown().iter().all(|(_, grown, limit)| grown <= limit)
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "grew, low to low, over {} readings:",
            self.readings.len() * 3 / 8
        )?;
        for (name, grown, limit) in self.grown() {
            let verdict = if grown <= limit { "" } else { " TOO MUCH" };
            write!(f, " {grown:+.1} {name}{verdict};")?;
        }
        match self.files_that_changed() {
            kinds if kinds.is_empty() => Ok(()),
            kinds => write!(f, "\nfiles went up and down: {}", kinds.join(", ")),
        }
    }
}
