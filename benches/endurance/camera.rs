//! One camera with an object of its own, its detector, and who looks at what comes out.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_app::{AppSink, AppSrc};
use gstrsdetectnet::BoundingBox;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The model sees 8x8 cells of three colours.
pub const MOST: usize = 64 * 3;
const SIZES: [(u32, u32); 4] = [(640, 360), (1280, 720), (320, 240), (648, 368)];
/// Longer than anything takes, however busy the machine is.
const LONG: Duration = Duration::from_secs(60);

/// What became of the frames of cameras.
#[derive(Default)]
pub struct Tally {
    pub faults: u64,
    pub frames: u64,
    /// Of those that came out: with their own object, with none, with anything else.
    right: u64,
    without: u64,
    wrong: u64,
    /// As the elements counted them.
    received: u64,
    inspected: u64,
    uninspected: u64,
    dropped: u64,
    failed: u64,
    flushed: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.right += other.right;
        self.without += other.without;
        self.wrong += other.wrong;
        self.received += other.received;
        self.inspected += other.inspected;
        self.uninspected += other.uninspected;
        self.dropped += other.dropped;
        self.failed += other.failed;
        self.flushed += other.flushed;
    }

    fn accounted(&self) -> u64 {
        self.inspected + self.uninspected + self.dropped + self.failed + self.flushed
    }

    /// No result was another camera's or was lost, and every frame is accounted for.
    pub fn is_right(&self) -> bool {
        self.wrong == 0
            && self.right > 0
            && self.without <= self.uninspected
            && self.received == self.accounted()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            f,
            "{} frames in = {} inspected + {} passed uninspected + {} dropped + {} failed + {} flushed (together {})",
            self.received,
            self.inspected,
            self.uninspected,
            self.dropped,
            self.failed,
            self.flushed,
            self.accounted()
        )?;
        write!(
            f,
            "{} came out: {} with their own object, {} with none, {} with anything else; {} faults",
            self.frames, self.right, self.without, self.wrong, self.faults
        )
    }
}

/// What is shown to one camera, and what of it came out.
struct Scene {
    number: usize,
    size: AtomicU64,
    begin: Instant,
    /// How long the sink stalls at the next frame, in ms.
    stall: AtomicU64,
    right: AtomicU64,
    without: AtomicU64,
    wrong: AtomicU64,
    delays: Mutex<Vec<Duration>>,
    ended: AtomicBool,
}

impl Scene {
    fn size(&self) -> (u32, u32) {
        SIZES[self.size.load(Ordering::Relaxed) as usize]
    }

    fn object(&self, (width, height): (u32, u32)) -> (&'static str, BoundingBox) {
        let (cell, color) = (self.number % 64, self.number / 64);
        let (width, height) = ((width / 8) as f32, (height / 8) as f32);
        let bounding_box = BoundingBox {
            x: (cell % 8) as f32 * width,
            y: (cell / 8) as f32 * height,
            width,
            height,
        };
        (["red", "green", "blue"][color], bounding_box)
    }

    /// The camera's picture at a size, RGB.
    fn picture(&self, (width, height): (u32, u32)) -> Result<(gst::Caps, gst::Buffer)> {
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
            .fps(gst::Fraction::new(30, 1))
            .build()?;
        let mut bytes = vec![114; info.size()];
        let (color, object) = self.object((width, height));
        let channel = ["red", "green", "blue"].iter().position(|c| *c == color);
        for y in object.y as usize..(object.y + object.height) as usize {
            for x in object.x as usize..(object.x + object.width) as usize {
                let pixel = y * info.stride()[0] as usize + x * 3;
                bytes[pixel..pixel + 3].fill(0);
                bytes[pixel + channel.unwrap_or(0)] = 255;
            }
        }
        Ok((info.to_caps()?, gst::Buffer::from_mut_slice(bytes)))
    }

    fn look(&self, sample: &gst::Sample) -> Option<()> {
        let stall = self.stall.swap(0, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(stall));
        let buffer = sample.buffer()?;
        let caps = sample.caps()?.structure(0)?;
        let size = |name| caps.get::<i32>(name).ok().map(|side| side as u32);
        let (label, object) = self.object((size("width")?, size("height")?));
        let found = gstrsdetectnet::detections(buffer);
        let counter = match &found[..] {
            [] => &self.without,
            [one] if one.label == label && one.detection.bounding_box.iou(&object) > 0.9 => {
                &self.right
            }
            other => {
                eprintln!(
                    "camera {}: {other:?} instead of {label} {object:?}",
                    self.number
                );
                &self.wrong
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let shown = Duration::from_nanos(buffer.pts()?.nseconds());
        let delay = self.begin.elapsed().saturating_sub(shown);
        // A stall of our own is not the detector's delay.
        if stall == 0 {
            let mut delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
            delays.push(delay);
        }
        Some(())
    }
}

pub struct Camera {
    scene: Arc<Scene>,
    pipeline: gst::Pipeline,
    element: gst::Element,
    source: AppSrc,
    listener: Option<(gst::Pad, gst::Element)>,
    feeder: Option<JoinHandle<()>>,
    rate: u64,
}

impl Camera {
    pub fn start(number: usize, options: &crate::Options) -> Result<Self> {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        let pipeline = gst::parse::launch(&format!(
            "appsrc name=source format=time is-live=true max-buffers=4 leaky-type=downstream ! {} rsdetectnet \
             name=detector model={models}/colors-ssd.onnx labels={models}/colors.labels.txt max-latency=200 \
             late-policy=drop ! appsink name=sink sync=false",
            options.before,
            models = models.display(),
        ))?
        .downcast::<gst::Pipeline>()
        .map_err(|_| "no pipeline")?;
        let scene = Arc::new(Scene {
            number,
            size: AtomicU64::new(number as u64 % 4),
            begin: Instant::now(),
            stall: AtomicU64::new(0),
            right: AtomicU64::new(0),
            without: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            delays: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let by_name = |name| pipeline.by_name(name).ok_or("no such element");
        let sink = by_name("sink")?
            .downcast::<AppSink>()
            .map_err(|_| "no appsink")?;
        let watched = Arc::clone(&scene);
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            watched.look(&sample);
            Ok(gst::FlowSuccess::Ok)
        });
        sink.set_callbacks(callbacks.build());
        let mut camera = Self {
            element: by_name("detector")?,
            source: by_name("source")?
                .downcast::<AppSrc>()
                .map_err(|_| "no appsrc")?,
            scene,
            pipeline,
            listener: None,
            feeder: None,
            rate: options.rate,
        };
        camera.play()?;
        Ok(camera)
    }

    fn play(&mut self) -> Result<()> {
        self.pipeline.set_start_time(gst::ClockTime::NONE);
        let clock = gst::SystemClock::obtain();
        let passed = self.scene.begin.elapsed().as_nanos() as u64;
        self.pipeline.use_clock(Some(&clock));
        self.pipeline
            .set_base_time(clock.time() - gst::ClockTime::from_nseconds(passed));
        self.scene.ended.store(false, Ordering::Relaxed);
        if self.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(self.error().into());
        }
        let (scene, source, rate) = (Arc::clone(&self.scene), self.source.clone(), self.rate);
        self.feeder = Some(std::thread::spawn(move || {
            if let Err(error) = feed(&scene, &source, rate) {
                eprintln!("camera {}: {error}", scene.number);
            }
        }));
        Ok(())
    }

    fn error(&self) -> String {
        let bus = self.pipeline.bus();
        let error = bus.and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
        match error.as_ref().map(|error| error.view()) {
            Some(gst::MessageView::Error(error)) => error.error().to_string(),
            _ => "no error was posted".into(),
        }
    }

    /// What became of its frames since the last start. Once the feeder has ended.
    fn stop(&mut self) -> Result<Tally> {
        self.scene.ended.store(true, Ordering::Relaxed);
        if let Some(feeder) = self.feeder.take() {
            feeder.join().map_err(|_| "a feeder panicked")?;
        }
        self.stop_listening()?;
        // The counters stay until the next start.
        self.pipeline.set_state(gst::State::Ready)?;
        let stats: gst::Structure = self.element.property("stats");
        let count = |name: &str| stats.get::<u64>(name);
        let taken = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        let scene = &self.scene;
        let (right, without, wrong) = (
            taken(&scene.right),
            taken(&scene.without),
            taken(&scene.wrong),
        );
        let tally = Tally {
            faults: 0,
            frames: right + without + wrong,
            right,
            without,
            wrong,
            received: count("frames")?,
            inspected: count("inspected")? + count("unchanged")?,
            uninspected: count("skipped")? + count("late")?,
            dropped: count("dropped")?,
            failed: count("failed")?,
            flushed: count("flushed")?,
        };
        self.pipeline.set_state(gst::State::Null)?;
        Ok(tally)
    }

    pub fn remove(mut self) -> Result<Tally> {
        self.stop()
    }

    pub fn restart(&mut self) -> Result<Tally> {
        let tally = self.stop()?;
        self.play()?;
        Ok(tally)
    }

    /// A broken frame comes, and the element's error is waited for.
    pub fn fail(mut self) -> Result<Tally> {
        let bus = self.pipeline.bus().ok_or("no bus")?;
        let begin = Instant::now();
        // The queue of a stalled camera may drop it.
        while begin.elapsed() < LONG {
            let _ = self.source.push_buffer(gst::Buffer::from_slice([0; 16]));
            let wait = gst::ClockTime::from_mseconds(200);
            if let Some(error) = bus.timed_pop_filtered(wait, &[gst::MessageType::Error]) {
                drop(error);
                return self.stop();
            }
        }
        Err("a broken frame is no error".into())
    }

    pub fn change_size(&mut self, index: usize) {
        self.scene.size.store(index as u64, Ordering::Relaxed);
    }

    pub fn stall(&mut self, duration: Duration) {
        let stall = duration.as_millis() as u64;
        self.scene.stall.store(stall, Ordering::Relaxed);
    }

    pub fn change_threshold(&mut self, percent: usize) {
        let threshold = 0.3 + percent as f32 / 100.0;
        self.element.set_property("threshold", threshold);
    }

    /// Somebody begins to read the lines of JSON, or stops.
    pub fn listen(&mut self) -> Result<()> {
        if self.listener.is_some() {
            return self.stop_listening();
        }
        let sink = gst::ElementFactory::make("fakesink")
            .property("async", false)
            .property("sync", false)
            .build()?;
        self.pipeline.add(&sink)?;
        sink.sync_state_with_parent()?;
        let pad = self.element.request_pad_simple("detections");
        let pad = pad.ok_or("no detections pad")?;
        pad.link(&sink.static_pad("sink").ok_or("no pad")?)?;
        self.listener = Some((pad, sink));
        Ok(())
    }

    pub fn stop_listening(&mut self) -> Result<()> {
        if let Some((pad, sink)) = self.listener.take() {
            self.element.release_request_pad(&pad);
            // A change of the pipeline's state that is under way would start it again after it has left.
            sink.set_locked_state(true);
            self.pipeline.remove(&sink)?;
            sink.set_state(gst::State::Null)?;
        }
        Ok(())
    }

    /// Frames that came out since the last start.
    pub fn frames(&self) -> u64 {
        let scene = &self.scene;
        let counters = [&scene.right, &scene.without, &scene.wrong];
        counters.iter().map(|c| c.load(Ordering::Relaxed)).sum()
    }

    /// The 99th percentile of the delays since the last time.
    pub fn take_delay(&self) -> Duration {
        let delays = self.scene.delays.lock();
        let mut delays = std::mem::take(&mut *delays.unwrap_or_else(PoisonError::into_inner));
        delays.sort_unstable();
        let at = delays.len() * 99 / 100;
        delays.get(at).copied().unwrap_or_default()
    }
}

/// Shows the camera its object at its rate, in the size that is wanted now.
fn feed(scene: &Scene, source: &AppSrc, rate: u64) -> Result<()> {
    let period = Duration::from_nanos(1_000_000_000 / rate);
    let mut size = None;
    let mut picture = gst::Buffer::new();
    while !scene.ended.load(Ordering::Relaxed) {
        if size != Some(scene.size()) {
            let wanted = scene.size();
            let (caps, buffer) = scene.picture(wanted)?;
            source.set_caps(Some(&caps));
            (size, picture) = (Some(wanted), buffer);
        }
        let mut frame = picture.copy();
        let shown = gst::ClockTime::try_from(scene.begin.elapsed())?;
        frame.make_mut().set_pts(shown);
        if source.push_buffer(frame).is_err() {
            return Ok(());
        }
        std::thread::sleep(period);
    }
    Ok(())
}
