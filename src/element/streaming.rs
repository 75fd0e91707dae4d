//! What the streaming thread holds, and what happens to one frame.

use std::time::Instant;

use super::settings::{Settings, SettingsError};
use super::statistics::Fate;
use crate::decode::Selection;
use crate::detection::Detection;
use crate::detector::{DetectError, Detector};
use crate::frame::FrameError;
use crate::frame::buffer::FrameShape;
use crate::meta::message::{self, FrameFacts};
use crate::meta::roi;
use crate::overlay::{Overlay, Parts};

/// Why a frame could not be inspected.
#[derive(Debug, thiserror::Error)]
pub(super) enum InspectError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Detect(#[from] DetectError),
}

/// What the streaming thread needs from frame to frame; made in READY→PAUSED, gone in PAUSED→READY.
pub(super) struct Streaming {
    detector: Detector,
    selection: Selection,
    overlay: Option<Overlay>,
    post_messages: bool,
    interval: u32,
    pub qos: bool,
    pub shape: Option<FrameShape>,
    pub segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    detections: Vec<Detection>,
    /// Frames that came in since the start.
    frames: u64,
    /// Frames to pass on before the next inspection.
    to_skip: u32,
}

impl Streaming {
    pub fn new(detector: Detector, settings: &Settings) -> Result<Self, SettingsError> {
        let mut streaming = Self {
            selection: settings.selection(detector.labels())?,
            detector,
            overlay: None,
            post_messages: false,
            interval: 0,
            qos: false,
            shape: None,
            segment: None,
            detections: Vec::new(),
            frames: 0,
            to_skip: 0,
        };
        streaming.apply(settings)?;
        Ok(streaming)
    }

    /// Takes over settings that may change while playing; on an error the earlier ones stay.
    pub fn apply(&mut self, settings: &Settings) -> Result<(), SettingsError> {
        let selection = settings.selection(self.detector.labels())?;
        let parts = settings.overlay_parts()?;
        self.selection = selection;
        self.overlay = (parts != Parts::default()).then(|| Overlay::new(parts));
        self.post_messages = settings.post_messages;
        self.interval = settings.interval;
        self.to_skip = self.to_skip.min(self.interval);
        self.qos = settings.qos;
        Ok(())
    }

    /// The next frame is inspected whatever `interval` says: what came before is another picture.
    pub fn forget_past(&mut self) {
        self.to_skip = 0;
    }

    /// The running time of a frame, if its segment has one.
    pub fn running_time(&self, buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
        self.segment.as_ref()?.to_running_time(buffer.pts()?)
    }

    pub fn stream_time(&self, buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
        self.segment.as_ref()?.to_stream_time(buffer.pts()?)
    }

    /// Whether `interval` or a gap says that this frame passes uninspected.
    pub fn skips(&mut self, buffer: &gst::BufferRef) -> bool {
        self.frames += 1;
        if buffer.flags().contains(gst::BufferFlags::GAP) {
            return true;
        }
        match self.to_skip {
            0 => false,
            _ => {
                self.to_skip -= 1;
                true
            }
        }
    }

    /// Finds objects in the frame and attaches them; returns what `post-messages` posts.
    pub fn inspect(
        &mut self,
        shape: &FrameShape,
        buffer: &mut gst::Buffer,
    ) -> Result<(Fate, Option<gst::Structure>), InspectError> {
        let timings = {
            let mapped = shape.read(buffer)?;
            self.detector
                .detect(&mapped.view()?, &self.selection, &mut self.detections)?
        };
        self.to_skip = self.interval;
        let start = Instant::now();
        let size = shape.size();
        let labels = self.detector.labels();
        if !self.detections.is_empty() {
            let buffer = buffer.make_mut();
            roi::attach(buffer, size, &self.detections, labels);
            if let Some(overlay) = &mut self.overlay {
                let mut mapped = shape.write(buffer)?;
                overlay.draw(&mut mapped.view()?, &self.detections, labels.as_slice());
            }
        }
        let message = self
            .post_messages
            .then(|| message::structure(&self.facts(buffer, size), &self.detections, labels));
        let fate = Fate::Inspected {
            timings,
            attach: start.elapsed(),
            detections: self.detections.len(),
        };
        Ok((fate, message))
    }

    fn facts(&self, buffer: &gst::BufferRef, (width, height): (u32, u32)) -> FrameFacts {
        FrameFacts {
            number: self.frames.saturating_sub(1),
            pts: buffer.pts(),
            stream_time: self.stream_time(buffer),
            running_time: self.running_time(buffer),
            width,
            height,
        }
    }
}
