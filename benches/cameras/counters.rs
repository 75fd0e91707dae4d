//! What is counted of one camera, and the window of time in which all are measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::cpu_time::cpu_time;
use crate::delay::{Delays, Histogram};
use crate::usage::{Gpu, Load};

/// NVML averages over a sixth of a second or more.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Default)]
pub struct Counters {
    /// Frames that reached the sink.
    pub frames: AtomicU64,
    /// Frames that could be fed only a whole period or more after their time.
    pub late: AtomicU64,
    pub delays: Delays,
}

impl Counters {
    /// Counts what reaches a pad.
    pub fn count_at(self: &Arc<Self>, pad: &gst::Pad) {
        let counters = Arc::clone(self);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            counters.frames.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
    }

    /// Measures how long frames are in an element.
    pub fn measure(self: &Arc<Self>, element: &gst::Element) -> Option<()> {
        let counters = Arc::clone(self);
        let entering = element.static_pad("sink")?;
        entering.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            counters
                .delays
                .enter(info.buffer().and_then(|buffer| buffer.pts()));
            gst::PadProbeReturn::Ok
        });
        let counters = Arc::clone(self);
        let leaving = element.static_pad("src")?;
        leaving.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            counters
                .delays
                .leave(info.buffer().and_then(|buffer| buffer.pts()));
            gst::PadProbeReturn::Ok
        });
        Some(())
    }
}

/// What was measured in a while.
#[derive(Clone, Default)]
pub struct Window {
    pub elapsed: Duration,
    pub frames: u64,
    pub late: u64,
    pub cpu: Duration,
    pub delays: Histogram,
    pub load: Option<Load>,
    /// MiB of the GPU's memory in use at the end, of all processes.
    pub memory: Option<f64>,
}

impl Window {
    pub fn measure(cameras: &[Arc<Counters>], seconds: f64, gpu: Option<&Gpu>) -> Self {
        let frames = || {
            let counts = cameras
                .iter()
                .map(|camera| camera.frames.load(Ordering::Relaxed));
            counts.sum::<u64>()
        };
        for camera in cameras {
            camera.delays.take();
            camera.late.store(0, Ordering::Relaxed);
        }
        // NVML takes milliseconds for a look, which are not the frames'.
        let cpu = || cpu_time(libc::RUSAGE_SELF).saturating_sub(cpu_time(libc::RUSAGE_THREAD));
        let (start, cpu_before, before) = (Instant::now(), cpu(), frames());
        let mut loads = Vec::new();
        while start.elapsed().as_secs_f64() < seconds {
            std::thread::sleep(LOOK);
            loads.extend(gpu.and_then(Gpu::load));
        }
        let mut window = Self {
            elapsed: start.elapsed(),
            frames: frames() - before,
            cpu: cpu().saturating_sub(cpu_before),
            memory: gpu.and_then(Gpu::memory),
            load: mean(&loads),
            ..Self::default()
        };
        for camera in cameras {
            window.delays.merge(&camera.delays.take());
            window.late += camera.late.load(Ordering::Relaxed);
        }
        window
    }

    pub fn frames_per_second(&self) -> f64 {
        self.frames as f64 / self.elapsed.as_secs_f64()
    }

    /// Seconds of the processor for each 1,000 frames.
    pub fn cpu_for_a_thousand(&self) -> f64 {
        1000.0 * self.cpu.as_secs_f64() / self.frames.max(1) as f64
    }
}

fn mean(loads: &[Load]) -> Option<Load> {
    let mean = |of: fn(&Load) -> f64| loads.iter().map(of).sum::<f64>() / loads.len() as f64;
    (!loads.is_empty()).then(|| Load {
        compute: mean(|load| load.compute),
        decoder: mean(|load| load.decoder),
    })
}
