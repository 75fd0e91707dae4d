//! Pipelines that are started again when they fail, for applications that watch cameras for months.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::element::stats::{Stats, stats};
use crate::lock;
use crate::meta::roi::{LabeledDetection, detections};
use crate::metrics::Metrics;

/// The wait before a pipeline is started again doubles from the first to the last.
const FIRST_WAIT: Duration = Duration::from_millis(125);
const LAST_WAIT: Duration = Duration::from_millis(500);

/// A camera that gives no frame for so long is started again.
const STALL: Duration = Duration::from_secs(5);

const ENDS: [gst::MessageType; 2] = [gst::MessageType::Error, gst::MessageType::Eos];

/// The latest frame that came out of the element.
#[derive(Clone, Debug, Default)]
pub struct Latest {
    pub at: Option<Instant>,
    /// From when the frame was taken until it came out; none of a pipeline that is not live.
    pub delay: Option<Duration>,
    pub detections: Vec<LabeledDetection>,
}

/// Runs a pipeline with an element `rsdetectnet` in it: each run makes it anew from its description. Nothing happens
/// between two calls of [`tick`](Self::tick).
pub struct Supervisor {
    description: String,
    connect: Box<dyn Fn(&gst::Pipeline) + Send>,
    once: bool,
    run: Option<Run>,
    /// When the pipeline starts, or started.
    start: Instant,
    wait: Duration,
    starts: u64,
    latest: Arc<Mutex<Latest>>,
    /// Of the runs that have ended.
    earlier: Stats,
    told: Option<String>,
}

/// A pipeline, which is set to NULL when it goes.
struct Run {
    pipeline: gst::Pipeline,
    detector: gst::Element,
    is_live: bool,
}

impl Drop for Run {
    fn drop(&mut self) {
        // A pipeline that does not stop cannot be helped.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl Run {
    fn new(description: &str) -> Result<Self, String> {
        let pipeline = launch(description)?;
        let detector = pipeline
            .iterate_all_by_element_factory_name("rsdetectnet")
            .next();
        Ok(Self {
            detector: detector
                .ok()
                .flatten()
                .ok_or("there is no rsdetectnet in the pipeline")?,
            pipeline,
            is_live: false,
        })
    }

    fn stats(&self) -> Stats {
        stats(&self.detector).unwrap_or_default()
    }

    /// The next message of an error or of the end.
    fn pop(&self) -> Option<gst::Message> {
        self.pipeline.bus()?.pop_filtered(&ENDS)
    }

    /// Writes down what each frame shows.
    fn watch(&self, latest: &Arc<Mutex<Latest>>) {
        let latest = Arc::clone(latest);
        let Some(pad) = self.detector.static_pad("src") else {
            return;
        };
        let element = self.detector.downgrade();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let (Some(buffer), Some(element)) = (info.buffer(), element.upgrade()) {
                *lock(&latest) = Latest {
                    at: Some(Instant::now()),
                    delay: delay(&element, pad, buffer),
                    detections: detections(buffer),
                };
            }
            gst::PadProbeReturn::Ok
        });
    }
}

/// How old a frame is by the pipeline's clock.
fn delay(element: &gst::Element, pad: &gst::Pad, buffer: &gst::Buffer) -> Option<Duration> {
    let event = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = event.segment().downcast_ref::<gst::ClockTime>()?;
    let taken = segment.to_running_time(buffer.pts())?;
    let delay = element.current_running_time()?.saturating_sub(taken);
    Some(delay.into())
}

impl Supervisor {
    /// Of a pipeline as gst-launch-1.0 takes it; what is wrong with it is said in a sentence. With `once` it is a file,
    /// which is read once; else it is a camera, which is started again also when its stream ends or stalls. `connect`
    /// is called with the pipeline before each start.
    pub fn new(
        description: &str,
        once: bool,
        connect: impl Fn(&gst::Pipeline) + Send + 'static,
    ) -> Result<Self, String> {
        Run::new(description)?;
        Ok(Self {
            description: description.to_owned(),
            connect: Box::new(connect),
            once,
            run: None,
            start: Instant::now(),
            wait: FIRST_WAIT,
            starts: 0,
            latest: Arc::default(),
            earlier: Stats::default(),
            told: None,
        })
    }

    /// Starts the pipeline if that is due, and looks whether it still runs; to be called a few times a second. Says
    /// whether it goes on: not when a file was read to its end, and in a sentence why not when a file cannot be read.
    ///
    /// `on_failure` is told why a camera failed, which is started again after a while; once, where the reason stays the
    /// same.
    pub fn tick(&mut self, on_failure: impl FnOnce(&str)) -> Result<bool, String> {
        let reason = match self.look() {
            Ok(false) => return Ok(true),
            Ok(true) => {
                self.stop(Duration::ZERO);
                return Ok(false);
            }
            Err(reason) => reason,
        };
        let gave_frames = self.gave_frames();
        self.wait = match gave_frames {
            true => FIRST_WAIT,
            false => LAST_WAIT.min(self.wait * 2),
        };
        self.stop(self.wait);
        if self.once {
            return Err(reason);
        }
        if gave_frames || self.told.as_ref() != Some(&reason) {
            on_failure(&reason);
            self.told = Some(reason);
        }
        Ok(true)
    }

    /// The same for many, of which those that do not go on are taken out. Says whether any is left, or none was there.
    pub fn tick_all(
        all: &mut BTreeMap<String, Self>,
        on_failure: impl Fn(&str, &str),
    ) -> Result<bool, String> {
        let mut outcome = Ok(true);
        let were_some = !all.is_empty();
        all.retain(|name, one| {
            let goes_on = one.tick(|reason| on_failure(name, reason));
            goes_on.unwrap_or_else(|reason| {
                outcome = Err(format!("{name}: {reason}"));
                false
            })
        });
        outcome.map(|_| !were_some || !all.is_empty())
    }

    /// Says whether the pipeline came to its end, or why it failed.
    fn look(&mut self) -> Result<bool, String> {
        let now = Instant::now();
        let Some(run) = &self.run else {
            if now >= self.start {
                self.start = now;
                self.starts += 1;
                let mut run = Run::new(&self.description)?;
                (self.connect)(&run.pipeline);
                // Why it does not start is on the bus.
                let started = run.pipeline.set_state(gst::State::Playing);
                run.is_live = started == Ok(gst::StateChangeSuccess::NoPreroll);
                run.watch(&self.latest);
                self.run = Some(run);
            }
            return Ok(false);
        };
        let message = run.pop();
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(error)) => Err(sentence(error)),
            Some(_) if self.once => Ok(true),
            Some(_) => Err("the stream ended".into()),
            None if !self.once && now.saturating_duration_since(self.latest_at()) > STALL => {
                Err(format!("no frame has come for {} s", STALL.as_secs()))
            }
            None => Ok(false),
        }
    }

    /// When the latest frame of this run came, or the run began.
    fn latest_at(&self) -> Instant {
        let latest = lock(&self.latest).at;
        latest.map_or(self.start, |at| at.max(self.start))
    }

    fn gave_frames(&self) -> bool {
        self.run.is_some() && self.latest_at() > self.start
    }

    /// Ends this run; the next begins after a while.
    fn stop(&mut self, wait: Duration) {
        self.earlier = self.stats();
        self.run = None;
        self.start = Instant::now() + wait;
    }

    /// Ends this run; the next begins with the next tick.
    pub fn restart(&mut self) {
        self.stop(Duration::ZERO);
    }

    /// Whether frames come.
    pub fn is_up(&self) -> bool {
        self.gave_frames() && self.latest_at().elapsed() < STALL
    }

    /// How often the pipeline was started again, or that was tried.
    pub fn restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }

    /// What the element has done, in all runs together.
    pub fn stats(&self) -> Stats {
        let now = self.run.as_ref().map(Run::stats);
        now.unwrap_or_default().after(&self.earlier)
    }

    pub fn latest(&self) -> Latest {
        lock(&self.latest).clone()
    }

    /// Adds how the source does: what [`Metrics::add_stats`] adds, and whether it is up (1 or 0), its restarts and its
    /// delay.
    pub fn add_metrics(&self, metrics: &mut Metrics, labels: &[(&str, &str)]) {
        metrics.add_stats(labels, &self.stats());
        metrics.add("rsdetectnet_up", labels, f64::from(self.is_up()));
        let restarts = self.restarts() as f64;
        metrics.add("rsdetectnet_restarts_total", labels, restarts);
        if let Some(delay) = lock(&self.latest).delay {
            metrics.add("rsdetectnet_delay_seconds", labels, delay.as_secs_f64());
        }
    }

    /// Ends streams, so that what they write is finished, and frees their pipelines when they are at their end, have
    /// failed, or the time is over.
    pub fn finish(all: impl IntoIterator<Item = Self>, deadline: Instant) {
        let runs: Vec<Run> = all.into_iter().filter_map(|one| one.run).collect();
        for run in &runs {
            run.pipeline.send_event(gst::event::Eos::new());
        }
        for run in runs {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = gst::ClockTime::try_from(left).unwrap_or_default();
            let bus = run.pipeline.bus();
            bus.and_then(|bus| bus.timed_pop_filtered(left, &ENDS));
        }
    }
}

/// Keeps a model loaded while the elements that share it come and go.
pub struct ModelKeeper(Run);

impl ModelKeeper {
    /// Begins to load the model of an element with these properties, as gst-launch-1.0 takes them. With the same ones,
    /// and a `model-instance-id` among them, other elements share it.
    pub fn start(properties: &str) -> Result<Self, String> {
        // With a frame the element waits for a model that takes long.
        let frame = "videotestsrc num-buffers=1 ! video/x-raw,format=I420";
        let run = Run::new(&format!("{frame} ! rsdetectnet {properties} ! fakesink"))?;
        // Why it does not start is on the bus.
        let _ = run.pipeline.set_state(gst::State::Playing);
        Ok(Self(run))
    }

    /// Waits until the model is loaded, and says what runs it; none where `is_given_up`, which is asked again and again
    /// and should take some time, says so. Where the model cannot be loaded, the error is a sentence.
    pub fn wait(&self, mut is_given_up: impl FnMut() -> bool) -> Result<Option<String>, String> {
        while !is_given_up() {
            let message = self.0.pop();
            let message = message.as_ref().map(|message| message.view());
            if let Some(gst::MessageView::Error(error)) = message {
                return Err(sentence(error));
            }
            let stats = self.0.stats();
            if stats.inspected > 0 {
                return Ok(Some(stats.backend));
            }
        }
        Ok(None)
    }
}

/// A pipeline as gst-launch-1.0 takes it, or what is wrong with it in a sentence.
fn launch(description: &str) -> Result<gst::Pipeline, String> {
    let element = gst::parse::launch(description).map_err(|error| error.message().to_owned())?;
    let no_pipeline = |_| format!("'{description}' is a single element, and no pipeline");
    element.downcast().map_err(no_pipeline)
}

/// An error message in a sentence, with what the element says of the cause.
fn sentence(error: &gst::message::Error) -> String {
    let details = error.debug().unwrap_or_default();
    // The first line is a place in the source.
    let cause = details.lines().nth(1).unwrap_or_default();
    format!("{} {cause}", error.error().message())
        .trim_end()
        .to_owned()
}
