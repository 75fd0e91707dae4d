//! Cameras: each a pipeline as people write it, fed with a file that never ends.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::clip::{self, Clip};
use crate::counters::Counters;
use crate::options::Options;

/// When the frames of a camera are due.
pub struct Pace {
    period: Duration,
    due: Instant,
}

impl Pace {
    /// For one of many cameras, whose frames do not all come at once.
    pub fn new(frames_per_second: f64, camera: usize, cameras: usize) -> Self {
        let period = Duration::from_secs_f64(1.0 / frames_per_second);
        Self {
            period,
            due: Instant::now() + period.mul_f64(camera as f64 / cameras as f64),
        }
    }

    /// Waits until the next frame is due. One whose time is long past is counted, and those between are lost: a camera
    /// does not run faster to catch up.
    pub fn wait(&mut self, counters: &Counters) {
        let now = Instant::now();
        match self.due.checked_duration_since(now) {
            Some(early) => std::thread::sleep(early),
            None if now - self.due >= self.period => {
                counters.late.fetch_add(1, Ordering::Relaxed);
                self.due = now;
            }
            None => {}
        }
        self.due += self.period;
    }
}

pub struct Camera {
    pipeline: gst::Pipeline,
    pub detector: Option<gst::Element>,
    pub counters: Arc<Counters>,
}

impl Camera {
    /// Camera number `number` of `options.cameras`, with the element or without.
    pub fn new(
        options: &Options,
        clip: &Arc<Clip>,
        decoder: &str,
        with_detector: bool,
        (number, of): (usize, usize),
    ) -> Result<Self, Box<dyn Error>> {
        let counters = Arc::new(Counters::default());
        let queue = match options.queue {
            true => "queue max-size-buffers=2 max-size-bytes=0 max-size-time=0 !",
            false => "",
        };
        let detector = match with_detector {
            true => "rsdetectnet name=detector !",
            false => "",
        };
        let pipeline = gst::parse::launch(&format!(
            "appsrc name=source format=time ! h264parse ! {} ! {queue} {detector} fakesink name=sink sync=false",
            clip::decoder(decoder)
        ))?;
        let pipeline = pipeline
            .downcast::<gst::Pipeline>()
            .map_err(|_| "no pipeline")?;
        let source = pipeline.by_name("source").and_downcast::<gst_app::AppSrc>();
        feed(
            &source.ok_or("no appsrc")?,
            options,
            clip,
            &counters,
            (number, of),
        );
        let detector = pipeline.by_name("detector");
        if let Some(detector) = &detector {
            options.apply(detector);
            counters.measure(detector).ok_or("no pads")?;
        } else if let Some(context) = options.shared_context() {
            pipeline.set_context(&context);
        }
        let sink = pipeline
            .by_name("sink")
            .and_then(|sink| sink.static_pad("sink"));
        counters.count_at(&sink.ok_or("no sink")?);
        Ok(Self {
            pipeline,
            detector,
            counters,
        })
    }

    /// Starts the camera; says how long its element took.
    pub fn start(&self) -> Result<Duration, Box<dyn Error>> {
        let begin = Instant::now();
        if let Some(detector) = &self.detector {
            // On its own, so that it alone is measured.
            detector.set_locked_state(true);
            detector
                .set_state(gst::State::Paused)
                .map_err(|_| self.failure())?;
        }
        let took = begin.elapsed();
        self.pipeline
            .set_state(gst::State::Playing)
            .map_err(|_| self.failure())?;
        if let Some(detector) = &self.detector {
            detector.set_locked_state(false);
            detector.sync_state_with_parent()?;
        }
        Ok(took)
    }

    /// The first error that was posted.
    pub fn check(&self) -> Result<(), Box<dyn Error>> {
        let bus = self.pipeline.bus().ok_or("no bus")?;
        let error = bus.pop_filtered(&[gst::MessageType::Error]);
        match error.as_ref().map(|error| error.view()) {
            Some(gst::MessageView::Error(error)) => {
                Err(format!("{} ({:?})", error.error(), error.debug()).into())
            }
            _ => Ok(()),
        }
    }

    fn failure(&self) -> Box<dyn Error> {
        let unknown = || "a camera does not start".into();
        self.check().err().unwrap_or_else(unknown)
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Has the source ask for access units one by one, without end.
fn feed(
    source: &gst_app::AppSrc,
    options: &Options,
    clip: &Arc<Clip>,
    counters: &Arc<Counters>,
    (number, of): (usize, usize),
) {
    source.set_caps(Some(&clip.caps));
    source.set_max_buffers(2);
    source.set_is_live(options.paced.is_some());
    let (clip, counters, paced) = (Arc::clone(clip), Arc::clone(counters), options.paced);
    let mut pace = None;
    let mut next = 0;
    let give = move |source: &gst_app::AppSrc, _wanted: u32| {
        if let Some(rate) = paced {
            let pace = pace.get_or_insert_with(|| Pace::new(rate, number, of));
            pace.wait(&counters);
        }
        // Refused when the camera stops.
        let _ = source.push_buffer(clip.unit(next));
        next += 1;
    };
    source.set_callbacks(gst_app::AppSrcCallbacks::builder().need_data(give).build());
}
