//! The property `stats` as a typed value, for applications.

use std::time::Duration;

use gst::prelude::*;

/// What a stage took for a frame, in the latest 256 inspections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTime {
    pub median: Duration,
    /// 99 of 100 frames took no longer.
    pub percentile_99: Duration,
}

/// What an element has done since it started. All numbers are 0 before that.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// The engine that runs the model; empty until it is loaded.
    pub backend: String,
    /// Elements that share the model now.
    pub model_streams: u32,
    /// Frames that came in: the sum of the next seven and of those under way.
    pub frames: u64,
    pub inspected: u64,
    /// Passed on with the last result, as they look like the last inspected frame.
    pub unchanged: u64,
    /// Passed on uninspected, as `interval` says.
    pub skipped: u64,
    /// Passed on uninspected, as they came too late.
    pub late: u64,
    /// Dropped, as they came too late.
    pub dropped: u64,
    /// The element had an error because of them.
    pub failed: u64,
    /// Let go of by a flush, by a stop, or because downstream takes none.
    pub flushed: u64,
    pub detections: u64,
    /// Frames of the last whole second.
    pub frames_per_second: f64,
    pub preprocess: StageTime,
    pub infer: StageTime,
    pub decode: StageTime,
    pub hash: StageTime,
    pub attach: StageTime,
    pub total: StageTime,
    pub crops: u64,
    pub crops_dropped: u64,
    pub json_lines: u64,
    pub json_dropped: u64,
}

impl Stats {
    /// The same with what was counted before the latest start, for applications that restart a pipeline.
    pub fn after(self, earlier: &Self) -> Self {
        Self {
            frames: self.frames + earlier.frames,
            inspected: self.inspected + earlier.inspected,
            unchanged: self.unchanged + earlier.unchanged,
            skipped: self.skipped + earlier.skipped,
            late: self.late + earlier.late,
            dropped: self.dropped + earlier.dropped,
            failed: self.failed + earlier.failed,
            flushed: self.flushed + earlier.flushed,
            detections: self.detections + earlier.detections,
            crops: self.crops + earlier.crops,
            crops_dropped: self.crops_dropped + earlier.crops_dropped,
            json_lines: self.json_lines + earlier.json_lines,
            json_dropped: self.json_dropped + earlier.json_dropped,
            ..self
        }
    }
}

/// What an element `rsdetectnet` has done since it started; nothing for all others.
///
/// ```
/// # gst::init()?;
/// # gstrsdetectnet::plugin_register_static()?;
/// let detector = gst::ElementFactory::make("rsdetectnet").build()?;
/// let stats = gstrsdetectnet::stats(&detector).unwrap_or_default();
/// println!("{} of {} frames came too late", stats.late + stats.dropped, stats.frames);
/// # assert_eq!(stats.frames, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn stats(element: &impl IsA<gst::Element>) -> Option<Stats> {
    let element = element.upcast_ref();
    let is_ours = element.factory()?.name() == "rsdetectnet";
    let structure = is_ours.then(|| element.property::<gst::Structure>("stats"))?;
    let count = |name| structure.get::<u64>(name).unwrap_or_default();
    let time = |name: String| {
        let microseconds = structure.get::<u32>(name).unwrap_or_default();
        Duration::from_micros(microseconds.into())
    };
    let stage = |name: &str| StageTime {
        median: time(format!("{name}-p50-us")),
        percentile_99: time(format!("{name}-p99-us")),
    };
    Some(Stats {
        backend: structure.get("backend").unwrap_or_default(),
        model_streams: structure.get("model-streams").unwrap_or_default(),
        frames: count("frames"),
        inspected: count("inspected"),
        unchanged: count("unchanged"),
        skipped: count("skipped"),
        late: count("late"),
        dropped: count("dropped"),
        failed: count("failed"),
        flushed: count("flushed"),
        detections: count("detections"),
        frames_per_second: structure.get("fps").unwrap_or_default(),
        preprocess: stage("preprocess"),
        infer: stage("infer"),
        decode: stage("decode"),
        hash: stage("hash"),
        attach: stage("attach"),
        total: stage("total"),
        crops: count("crops"),
        crops_dropped: count("crops-dropped"),
        json_lines: count("json-lines"),
        json_dropped: count("json-dropped"),
    })
}
