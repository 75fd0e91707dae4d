//! What the process holds, and whether it holds more and more.

use std::fmt;
use std::time::Duration;

use crate::heap::allocated;
use crate::usage::{Gpu, Load};

/// What the process holds at one moment.
#[derive(Clone, Copy)]
pub struct Reading {
    allocated: f64,
    resident: f64,
    files: f64,
    /// Of devices: what a GPU's driver opens and closes by itself.
    device_files: f64,
    threads: f64,
    gpu: Option<f64>,
    load: Option<Load>,
    delay: Duration,
}

fn entries(folder: &str) -> std::io::Result<f64> {
    Ok(std::fs::read_dir(folder)?.count() as f64)
}

/// Open files, and those of them that are devices.
fn open_files() -> std::io::Result<(f64, f64)> {
    let files: Vec<_> = std::fs::read_dir("/proc/self/fd")?.flatten().collect();
    let is_device = |path: &std::path::Path| path.starts_with("/dev");
    let targets = files
        .iter()
        .flat_map(|file| std::fs::read_link(file.path()));
    let devices = targets.filter(|target| is_device(target)).count();
    Ok(((files.len() - devices) as f64, devices as f64))
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
        let (files, device_files) = open_files()?;
        Ok(Self {
            allocated: allocated() as f64 / f64::from(1 << 20),
            resident: pages * 4096.0 / f64::from(1 << 20),
            files,
            device_files,
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
            self.files,
            self.device_files,
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
            ("files", of(&|r| r.files), 0.0),
            (
                "files of devices",
                of(&|r| r.device_files),
                // They were seen to go up and down by twos; two for each camera's thread are taken for the driver's.
                2.0 * self.cameras as f64,
            ),
            ("threads", of(&|r| r.threads), 0.0),
            ("MiB of the GPU", of(&|r| r.gpu.unwrap_or(0.0)), 8.0),
            ("ms of delay", of(&|r| r.delay.as_secs_f64() * 1000.0), 50.0),
        ]
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
        Ok(())
    }
}
