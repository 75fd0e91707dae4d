//! The rows of the tables.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::alone::{OnnxRuntime, OnnxRuntimeAlone};
use crate::camera::Camera;
use crate::clip::{Clip, Decoded};
use crate::counters::{Counters, Window};
use crate::memory::Stream;
use crate::options::Options;
use crate::prepared;
use crate::usage::Gpu;

/// An engine may have to be built for the first frame.
const FIRST_FRAME: Duration = Duration::from_secs(600);

/// One row.
#[derive(Clone, Default)]
pub struct Row {
    pub cameras: usize,
    /// Frames a second of decoding alone, or of the engine alone.
    pub limit: f64,
    pub window: Window,
    /// The processor's time of decoding alone for 1,000 frames, in seconds.
    pub cpu_of_decoding: f64,
    /// MiB on the GPU that the elements need besides the decoders.
    pub memory: Option<f64>,
    /// The longest start of an element after the first one's.
    pub start: Option<Duration>,
    /// How long it took to prepare the batches.
    pub prepared: Duration,
}

impl Row {
    pub fn ratio(&self) -> f64 {
        self.window.frames_per_second() / self.limit
    }
}

pub struct Bench<'a> {
    pub options: &'a Options,
    pub gpu: Option<&'a Gpu>,
    pub on_gpu: bool,
}

impl Bench<'_> {
    fn used_memory(&self) -> Option<f64> {
        self.gpu.and_then(Gpu::memory)
    }

    /// Lets all that was started run, then measures. Many decoders take seconds to be opened.
    fn measure(
        &self,
        cameras: &[Arc<Counters>],
        check: impl Fn() -> Result<(), Box<dyn Error>>,
    ) -> Result<Window, Box<dyn Error>> {
        let has_begun = |camera: &Arc<Counters>| camera.frames.load(Ordering::Relaxed) > 0;
        wait_until(|| Ok(cameras.iter().all(has_begun)), &check)?;
        std::thread::sleep(Duration::from_secs_f64(self.options.warmup));
        let window = Window::measure(cameras, self.options.seconds, self.gpu);
        check()?;
        Ok(window)
    }

    fn prepare(&self, cameras: usize) -> Duration {
        match self.on_gpu {
            true => prepared::wait(self.options.under_way(cameras), self.options.patience),
            false => Duration::ZERO,
        }
    }

    /// So many cameras with decoders, first without the elements, then with them.
    pub fn decoded(
        &self,
        clip: &Arc<Clip>,
        decoder: &str,
        cameras: usize,
    ) -> Result<Row, Box<dyn Error>> {
        let before = self.used_memory();
        let alone = self.cameras(clip, decoder, false, cameras)?;
        let limit = self.measure(&counters(&alone), || {
            alone.iter().try_for_each(Camera::check)
        })?;
        drop(alone);
        let of_decoders = difference(limit.memory, before);

        prepared::forget();
        let before = self.used_memory();
        let mut starts = Vec::new();
        let mut running = Vec::new();
        for number in 0..cameras {
            let camera = Camera::new(self.options, clip, decoder, true, (number, cameras))?;
            starts.push(camera.start()?);
            if number == 0 {
                first_frame(camera.detector.as_ref(), || camera.check())?;
            }
            running.push(camera);
        }
        let prepared = self.prepare(cameras);
        let window = self.measure(&counters(&running), || {
            running.iter().try_for_each(Camera::check)
        })?;
        Ok(Row {
            cameras,
            limit: limit.frames_per_second(),
            cpu_of_decoding: limit.cpu_for_a_thousand(),
            memory: difference(difference(window.memory, before), of_decoders),
            start: starts.into_iter().skip(1).max(),
            prepared,
            window,
        })
    }

    fn cameras(
        &self,
        clip: &Arc<Clip>,
        decoder: &str,
        with_detector: bool,
        cameras: usize,
    ) -> Result<Vec<Camera>, Box<dyn Error>> {
        let made = (0..cameras).map(|number| {
            let camera = Camera::new(
                self.options,
                clip,
                decoder,
                with_detector,
                (number, cameras),
            )?;
            camera.start()?;
            Ok(camera)
        });
        made.collect()
    }

    /// So many streams of frames that are decoded already, beside the engine alone.
    pub fn in_memory(
        &self,
        decoded: &Decoded,
        limit: f64,
        streams: usize,
    ) -> Result<Row, Box<dyn Error>> {
        prepared::forget();
        let before = self.used_memory();
        let mut starts = Vec::new();
        let mut running = Vec::new();
        for number in 0..streams {
            let mut stream = Stream::new(self.options, decoded)?;
            starts.push(stream.start(self.options, (number, streams))?);
            if number == 0 {
                first_frame(Some(&stream.element), || stream.check())?;
            }
            running.push(stream);
        }
        let prepared = self.prepare(streams);
        let all: Vec<_> = running
            .iter()
            .map(|stream| Arc::clone(&stream.counters))
            .collect();
        let window = self.measure(&all, || running.iter().try_for_each(Stream::check))?;
        Ok(Row {
            cameras: streams,
            limit,
            memory: difference(window.memory, before),
            start: starts.into_iter().skip(1).max(),
            prepared,
            window,
            ..Row::default()
        })
    }

    /// As [`Bench::in_memory`], on the CPU: the engine is measured right before, as the machine may have other work.
    pub fn in_memory_on_cpu(
        &self,
        decoded: &Decoded,
        engine: &mut OnnxRuntime,
        streams: usize,
    ) -> Result<(Row, OnnxRuntimeAlone), Box<dyn Error>> {
        let alone = engine.measure(self.options.seconds / 2.0)?;
        Ok((self.in_memory(decoded, alone.better(), streams)?, alone))
    }
}

fn counters(cameras: &[Camera]) -> Vec<Arc<Counters>> {
    cameras
        .iter()
        .map(|camera| Arc::clone(&camera.counters))
        .collect()
}

fn difference(more: Option<f64>, less: Option<f64>) -> Option<f64> {
    Some(more? - less?)
}

/// Waits until an element has inspected a frame: its model is loaded, for all that follow.
fn first_frame(
    detector: Option<&gst::Element>,
    check: impl Fn() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let Some(detector) = detector else {
        return Ok(());
    };
    let has_inspected = || {
        let stats: gst::Structure = detector.property("stats");
        Ok(stats.get::<u64>("inspected")? > 0)
    };
    wait_until(has_inspected, check)
}

/// Waits for first frames, unless something fails.
fn wait_until(
    have_come: impl Fn() -> Result<bool, Box<dyn Error>>,
    check: impl Fn() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    while !have_come()? {
        check()?;
        if start.elapsed() > FIRST_FRAME {
            return Err("a camera or an element gave no frame".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The row whose ratio is in the middle.
pub fn median(mut rows: Vec<Row>) -> Option<Row> {
    rows.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
    let middle = rows.len() / 2;
    (!rows.is_empty()).then(|| rows.swap_remove(middle))
}
