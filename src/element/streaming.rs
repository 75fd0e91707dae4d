//! What the streaming thread holds, and what happens to one frame.

use std::time::{Duration, Instant};

use super::hashing::Hashing;
use super::memory::Format;
use super::producer::{InspectedFrame, Producer};
use super::settings::{Settings, SettingsError};
use super::statistics::Fate;
use crate::decode::Selection;
use crate::detection::Detection;
use crate::detector::{DetectError, Detector, Drawing, Frames, Timings};
use crate::frame::cuda::{CudaFrame, CudaFrameError};
use crate::frame::gstcuda::CudaContext;
use crate::frame::memory::Memory;
use crate::frame::nvmm::{NvmmBuffer, NvmmError};
use crate::frame::{DeviceFrame, DeviceStorage, FrameError};
use crate::meta::Metadata;
use crate::meta::message::{self, FrameFacts};
use crate::overlay::{Overlay, Parts};
use crate::thumbnail::cuda::ThumbnailError;

/// Why a frame could not be inspected.
#[derive(Debug, thiserror::Error)]
pub(super) enum InspectError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Cuda(#[from] CudaFrameError),
    #[error(transparent)]
    Nvmm(#[from] NvmmError),
    #[error(transparent)]
    Detect(#[from] DetectError),
    #[error(transparent)]
    Thumbnail(#[from] ThumbnailError),
    #[error("the frame lies in another CUDA context than the model")]
    OtherContext(CudaContext),
}

/// What became of a frame that was inspected.
pub(super) struct Inspected {
    pub fate: Fate,
    /// What `post-messages` posts.
    pub message: Option<gst::Structure>,
    /// Why nothing was drawn, the first time.
    pub not_drawn: Option<&'static str>,
}

/// What the streaming thread needs from frame to frame; made in READY→PAUSED, gone in PAUSED→READY.
pub(super) struct Streaming {
    detector: Detector,
    selection: Selection,
    overlay: Option<Overlay>,
    /// It was told that frames like these cannot be drawn into.
    warned_of_overlay: bool,
    metadata: Metadata,
    post_messages: bool,
    interval: u32,
    pub qos: bool,
    pub format: Option<Format>,
    pub segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    /// By frame of a buffer; only batches of nvstreammux have more than one.
    detections: Vec<Vec<Detection>>,
    device_frames: Vec<DeviceFrame>,
    hashing: Hashing,
    /// Makes what the request pads push.
    pub producer: Producer,
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
            warned_of_overlay: false,
            metadata: Metadata::default(),
            post_messages: false,
            interval: 0,
            qos: false,
            format: None,
            segment: None,
            detections: Vec::new(),
            device_frames: Vec::new(),
            hashing: Hashing::default(),
            producer: Producer::default(),
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
        let crop_rules = settings.outputs.crop_rules(self.detector.labels())?;
        self.metadata.choose(settings.metadata_kinds()?)?;
        self.producer.apply(&settings.outputs, crop_rules);
        self.hashing.apply(&settings.hash);
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
        self.hashing.forget_past();
        self.producer.forget_past();
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

    /// Puts another detector, of the same model, in the place of this one.
    pub fn replace_detector(&mut self, detector: Detector) {
        self.detector = detector;
        self.hashing.forget_past();
    }

    /// Finds objects in the frame, or takes those of the last inspected one where it still looks the same; attaches
    /// them and draws them.
    pub fn inspect(
        &mut self,
        format: &Format,
        buffer: &mut gst::Buffer,
    ) -> Result<Inspected, InspectError> {
        let start = Instant::now();
        let repeated = self.hashing.compares() && self.is_unchanged(format, buffer)?;
        let compared = start.elapsed();
        let found = match repeated {
            true => None,
            false => Some(self.find(format, buffer)?),
        };
        self.to_skip = self.interval;
        let start = Instant::now();
        let (timings, hashed) = found.unwrap_or_default();
        let message = self.tell(format, buffer, repeated, timings)?;
        let not_drawn = match self.draw(format, buffer)? {
            Drawn::Never(reason) if !self.warned_of_overlay => {
                self.warned_of_overlay = true;
                Some(reason)
            }
            _ => None,
        };
        let hash = compared + hashed;
        let fate = match repeated {
            true => Fate::Unchanged { hash },
            false => Fate::Inspected {
                timings,
                hash,
                attach: start.elapsed(),
                detections: self.detections.iter().map(Vec::len).sum(),
            },
        };
        Ok(Inspected {
            fate,
            message,
            not_drawn,
        })
    }

    /// Gives what was found to the request pads, to the buffer and, as a message, to the application.
    fn tell(
        &mut self,
        format: &Format,
        buffer: &mut gst::Buffer,
        repeated: bool,
        timings: Timings,
    ) -> Result<Option<gst::Structure>, InspectError> {
        let labels = self.detector.labels();
        let facts = FrameFacts {
            repeated,
            thumbnails: self.hashing.thumbnails(),
            ..self.facts(buffer, format.shape.size())
        };
        self.producer.frame_inspected(&InspectedFrame {
            format,
            buffer,
            facts,
            timings,
            detections: &self.detections,
            labels,
        })?;
        if self.metadata.applies_to(buffer, &facts, &self.detections) {
            self.metadata
                .attach(buffer.make_mut(), &facts, &self.detections, labels);
        }
        let message = || message::structure(&facts, &self.detections, labels);
        Ok(self.post_messages.then(message))
    }

    /// Whether the frame looks like the last one that was inspected.
    fn is_unchanged(
        &mut self,
        format: &Format,
        buffer: &gst::Buffer,
    ) -> Result<bool, InspectError> {
        let Self {
            detector,
            hashing,
            device_frames,
            ..
        } = self;
        with_frames(
            detector,
            format,
            buffer,
            device_frames,
            |detector, frames| Ok(hashing.is_unchanged(frames, detector.context())?),
        )
    }

    /// Fills `detections`, and makes their thumbnails where they are wanted; says how long each took.
    fn find(
        &mut self,
        format: &Format,
        buffer: &gst::Buffer,
    ) -> Result<(Timings, Duration), InspectError> {
        let Self {
            detector,
            selection,
            detections,
            device_frames,
            hashing,
            ..
        } = self;
        with_frames(
            detector,
            format,
            buffer,
            device_frames,
            |detector, frames| {
                let timings = detector.detect(frames, selection, detections)?;
                let start = Instant::now();
                if hashing.makes() {
                    hashing.frames_inspected(frames, detector.context(), detections)?;
                }
                Ok((timings, start.elapsed()))
            },
        )
    }

    /// Draws what was found into the frame, in place. Memory that another buffer shares is copied first; that of
    /// NVMM cannot be, so that there, as with DeepStream's own elements, all branches behind a `tee` see the drawing.
    fn draw(&mut self, format: &Format, buffer: &mut gst::Buffer) -> Result<Drawn, InspectError> {
        let Self {
            detector,
            detections,
            device_frames,
            overlay: Some(overlay),
            ..
        } = self
        else {
            return Ok(Drawn::Done);
        };
        if detections.iter().all(Vec::is_empty) {
            return Ok(Drawn::Done);
        }
        let info = &format.shape.info;
        match format.memory {
            Memory::System => {
                let mut mapped = format.shape.write(buffer.make_mut())?;
                let labels = detector.labels().as_slice();
                overlay.draw(&mut mapped.view()?, &detections[0], labels);
            }
            Memory::Cuda => {
                let mapped = CudaFrame::map_for_drawing(buffer.make_mut(), info)?;
                let drawing = Drawing {
                    overlay,
                    detections,
                };
                detector.draw(&[mapped.frame()], mapped.pending_stream(), drawing)?;
            }
            Memory::Nvmm => {
                let _mapped = map_nvmm(detector, buffer, info, device_frames)?;
                if device_frames
                    .iter()
                    .any(|f| f.storage != DeviceStorage::Pitch)
                {
                    return Ok(Drawn::Never(
                        "the overlay cannot be drawn into block-linear frames; let nvvideoconvert make \
                         them pitch-linear, or draw with nvdsosd",
                    ));
                }
                let drawing = Drawing {
                    overlay,
                    detections,
                };
                detector.draw(device_frames, None, drawing)?;
            }
        }
        Ok(Drawn::Done)
    }

    /// What is known of a frame before it is inspected.
    fn facts(&self, buffer: &gst::BufferRef, (width, height): (u32, u32)) -> FrameFacts<'static> {
        FrameFacts {
            number: self.frames.saturating_sub(1),
            pts: buffer.pts(),
            stream_time: self.stream_time(buffer),
            running_time: self.running_time(buffer),
            width,
            height,
            repeated: false,
            thumbnails: None,
        }
    }
}

/// Whether the overlay is in the frame.
enum Drawn {
    /// As far as there was something to draw.
    Done,
    /// Nor will it be in other frames like this, for this reason.
    Never(&'static str),
}

/// Maps a buffer for reading while something is done with its frames. Nothing stays mapped.
fn with_frames<T>(
    detector: &mut Detector,
    format: &Format,
    buffer: &gst::Buffer,
    device_frames: &mut Vec<DeviceFrame>,
    action: impl FnOnce(&mut Detector, Frames<'_>) -> Result<T, InspectError>,
) -> Result<T, InspectError> {
    let info = &format.shape.info;
    match format.memory {
        Memory::System => {
            let mapped = format.shape.read(buffer)?;
            action(detector, Frames::System(mapped.view()?))
        }
        Memory::Cuda => {
            let mapped = CudaFrame::map(buffer, info)?;
            let context = detector.context().ok_or(DetectError::GpuFrameOnCpu)?;
            if context.handle() != mapped.context().handle() {
                return Err(InspectError::OtherContext(mapped.context().clone()));
            }
            let frames = Frames::Device {
                frames: &[mapped.frame()],
                pending: mapped.pending_stream(),
            };
            action(detector, frames)
        }
        Memory::Nvmm => {
            let _mapped = map_nvmm(detector, buffer, info, device_frames)?;
            let frames = Frames::Device {
                frames: device_frames,
                pending: None,
            };
            action(detector, frames)
        }
    }
}

/// Fills `frames`, which are good as long as the returned buffer lives.
fn map_nvmm(
    detector: &Detector,
    buffer: &gst::Buffer,
    info: &gst_video::VideoInfo,
    frames: &mut Vec<DeviceFrame>,
) -> Result<NvmmBuffer, InspectError> {
    let context = detector.context().ok_or(DetectError::GpuFrameOnCpu)?;
    // Surface arrays of Jetson become visible in the context that is current.
    let _current = context.enter().map_err(DetectError::from)?;
    let mapped = NvmmBuffer::map(buffer, info)?;
    frames.clear();
    for index in 0..mapped.len() {
        frames.push(mapped.frame(index)?);
    }
    Ok(mapped)
}
