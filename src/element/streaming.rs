//! What the streaming thread holds, and what happens to one frame.

use std::sync::Arc;
use std::time::Instant;

use super::lateness_settings::LatePolicy;
use super::memory::Format;
use super::producer::{InspectedFrame, Producer};
use super::settings::{Settings, SettingsError};
use super::statistics::Fate;
use crate::decode::Selection;
use crate::detection::Detection;
use crate::detector::{DetectError, Detector, Drawing, Frames, Request, Streams, Timings};
use crate::frame::cuda::{CudaFrame, CudaFrameError};
use crate::frame::gstcuda::CudaContext;
use crate::frame::memory::Memory;
use crate::frame::nvmm::{NvmmBuffer, NvmmError};
use crate::frame::{DeviceFrame, DeviceStorage, FrameError};
use crate::meta::Metadata;
use crate::meta::message::{self, FrameFacts};
use crate::overlay::{Overlay, Parts};

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
    #[error("a frame came before its caps")]
    NoCaps,
    #[error("the frame is on GPU {frame}, but the model on GPU {model}: set gpu-id={frame}, or -1")]
    OtherGpu { frame: u32, model: u32 },
    #[error("the frame lies in another CUDA context than the model")]
    OtherContext(CudaContext),
}

/// A frame that was taken in, on its way downstream.
pub(super) struct Transit {
    pub buffer: gst::Buffer,
    pub facts: FrameFacts,
    pub stage: Stage,
    /// Settings that were to hold from this frame on, and why they do not.
    pub bad_settings: Option<String>,
}

/// What is to happen to a frame.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all frames are inspected, and no list holds any"
)]
pub(super) enum Stage {
    /// It passes as it is.
    Passing,
    /// It was late by so much, and passes or is dropped.
    Late(gst::ClockTime, LatePolicy),
    Inspecting(Inspection),
}

/// A frame whose objects are being found.
pub(super) struct Inspection {
    format: Format,
    device_frames: Vec<DeviceFrame>,
    // Waited for before what it reads is unmapped.
    request: Request,
    held: Held,
}

/// What keeps a frame in GPU memory readable.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would be an allocation for each frame"
)]
enum Held {
    Nothing,
    Cuda(#[expect(dead_code, reason = "held for its drop")] CudaFrame),
    Nvmm(#[expect(dead_code, reason = "held for its drop")] NvmmBuffer),
}

/// A frame whose objects are found.
pub(super) struct Found {
    format: Format,
    timings: Timings,
    room: Room,
}

/// Lists for one frame, used again and again.
#[derive(Default)]
struct Room {
    /// By frame of a buffer; only batches of nvstreammux have more than one.
    detections: Vec<Vec<Detection>>,
    device_frames: Vec<DeviceFrame>,
}

/// What the inspection of one frame needs of its stream, which goes on meanwhile.
pub(super) struct Inspector {
    detector: Arc<Detector>,
    selection: Arc<Selection>,
    format: Option<Format>,
    room: Room,
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
    detector: Arc<Detector>,
    selection: Arc<Selection>,
    overlay: Option<Overlay>,
    /// It was told that frames like these cannot be drawn into.
    warned_of_overlay: bool,
    metadata: Metadata,
    post_messages: bool,
    interval: u32,
    pub qos: bool,
    pub max_latency: Option<gst::ClockTime>,
    pub late_policy: LatePolicy,
    pub format: Option<Format>,
    pub segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    unused: Vec<Room>,
    /// Makes what the request pads push.
    pub producer: Producer,
    /// Frames that came in since the start.
    frames: u64,
    /// Frames to pass on before the next inspection.
    to_skip: u32,
}

impl Inspection {
    /// Waits for what is found.
    pub fn wait(self) -> Result<Found, DetectError> {
        let Self {
            format,
            device_frames,
            request,
            held,
        } = self;
        let (timings, detections) = request.wait()?;
        drop(held);
        Ok(Found {
            format,
            timings,
            room: Room {
                detections,
                device_frames,
            },
        })
    }
}

impl Streaming {
    pub fn new(detector: Detector, settings: &Settings) -> Result<Self, SettingsError> {
        let mut streaming = Self {
            selection: Arc::new(settings.selection(detector.labels())?),
            detector: Arc::new(detector),
            overlay: None,
            warned_of_overlay: false,
            metadata: Metadata::default(),
            post_messages: false,
            interval: 0,
            qos: false,
            max_latency: None,
            late_policy: LatePolicy::default(),
            format: None,
            segment: None,
            unused: Vec::new(),
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
        self.selection = Arc::new(selection);
        self.overlay = (parts != Parts::default()).then(|| Overlay::new(parts));
        self.post_messages = settings.post_messages;
        self.interval = settings.interval;
        self.to_skip = self.to_skip.min(self.interval);
        self.qos = settings.qos;
        self.max_latency = settings.lateness.max_latency();
        self.late_policy = settings.lateness.policy;
        Ok(())
    }

    /// The next frame is inspected whatever `interval` says: what came before is another picture.
    pub fn forget_past(&mut self) {
        self.to_skip = 0;
        self.producer.forget_past();
    }

    /// The running time of a frame, if its segment has one.
    fn running_time(&self, buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
        self.segment.as_ref()?.to_running_time(buffer.pts()?)
    }

    fn stream_time(&self, buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
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

    /// Those that share the model.
    pub fn streams(&self) -> Streams {
        self.detector.streams().clone()
    }

    /// Puts another detector, of the same model, in the place of this one.
    pub fn replace_detector(&mut self, detector: Detector) {
        self.detector = Arc::new(detector);
    }

    /// For a frame that is to be inspected now.
    pub fn inspector(&mut self) -> Inspector {
        self.to_skip = self.interval;
        Inspector {
            detector: Arc::clone(&self.detector),
            selection: Arc::clone(&self.selection),
            format: self.format.clone(),
            room: self.unused.pop().unwrap_or_default(),
        }
    }

    /// Attaches what was found and draws it.
    pub fn complete(
        &mut self,
        found: Found,
        facts: &FrameFacts,
        buffer: &mut gst::Buffer,
    ) -> Result<Inspected, InspectError> {
        let start = Instant::now();
        let Found {
            format,
            timings,
            mut room,
        } = found;
        let labels = self.detector.labels();
        self.producer.frame_inspected(&InspectedFrame {
            format: &format,
            buffer,
            context: self.detector.context(),
            facts: *facts,
            timings,
            detections: &room.detections,
            labels,
        })?;
        if self.metadata.applies_to(buffer, &room.detections) {
            self.metadata
                .attach(buffer.make_mut(), facts, &room.detections, labels);
        }
        let not_drawn = match self.draw(&format, buffer, &mut room)? {
            Drawn::Never(reason) if !self.warned_of_overlay => {
                self.warned_of_overlay = true;
                Some(reason)
            }
            _ => None,
        };
        let labels = self.detector.labels();
        let all = || room.detections.iter().flatten();
        let message = self
            .post_messages
            .then(|| message::structure(facts, all(), labels));
        let fate = Fate::Inspected {
            timings,
            attach: start.elapsed(),
            detections: all().count(),
        };
        self.unused.push(room);
        Ok(Inspected {
            fate,
            message,
            not_drawn,
        })
    }

    /// Draws what was found into the frame, in place. Memory that another buffer shares is copied first; that of
    /// NVMM cannot be, so that there, as with DeepStream's own elements, all branches behind a `tee` see the drawing.
    fn draw(
        &mut self,
        format: &Format,
        buffer: &mut gst::Buffer,
        room: &mut Room,
    ) -> Result<Drawn, InspectError> {
        let Self {
            detector,
            overlay: Some(overlay),
            ..
        } = self
        else {
            return Ok(Drawn::Done);
        };
        let Room {
            detections,
            device_frames,
        } = room;
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

    /// What is known of the latest frame.
    pub fn facts(&self, buffer: &gst::BufferRef) -> FrameFacts {
        let size = self.format.as_ref().map(|format| format.shape.size());
        let (width, height) = size.unwrap_or_default();
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

impl Inspector {
    /// Begins to find objects in the frame.
    pub fn inspect(self, buffer: &gst::Buffer) -> Result<Inspection, InspectError> {
        let Self {
            detector,
            selection,
            format,
            room:
                Room {
                    detections: outputs,
                    mut device_frames,
                },
        } = self;
        let format = format.ok_or(InspectError::NoCaps)?;
        let info = &format.shape.info;
        let (request, held) = match format.memory {
            Memory::System => {
                let mapped = format.shape.read(buffer)?;
                let frames = Frames::System(mapped.view()?);
                let request = detector.submit(frames, &selection, outputs)?;
                (request, Held::Nothing)
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
                let request = detector.submit(frames, &selection, outputs)?;
                (request, Held::Cuda(mapped))
            }
            Memory::Nvmm => {
                let mapped = map_nvmm(&detector, buffer, info, &mut device_frames)?;
                let frames = Frames::Device {
                    frames: &device_frames,
                    pending: None,
                };
                let request = detector.submit(frames, &selection, outputs)?;
                (request, Held::Nvmm(mapped))
            }
        };
        Ok(Inspection {
            format,
            device_frames,
            request,
            held,
        })
    }
}

/// Whether the overlay is in the frame.
enum Drawn {
    /// As far as there was something to draw.
    Done,
    /// Nor will it be in other frames like this, for this reason.
    Never(&'static str),
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
    let model = detector.gpu_id();
    frames.clear();
    for index in 0..mapped.len() {
        let frame = mapped.frame(index)?;
        if frame.gpu_id != model {
            let frame = frame.gpu_id;
            return Err(InspectError::OtherGpu { frame, model });
        }
        frames.push(frame);
    }
    Ok(mapped)
}
