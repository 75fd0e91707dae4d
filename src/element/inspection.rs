//! A frame on its way through the detector: taken in on the thread that brings it, waited for where it goes on.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::hash_settings::HashPlan;
use super::hashing::Comparer;
use super::memory::Format;
use crate::detection::Detection;
use crate::detector::{DetectError, Detector, Frames, Request, Search, Timings};
use crate::frame::buffer::FrameShape;
use crate::frame::cuda::{CudaFrame, CudaFrameError};
use crate::frame::gstcuda::CudaContext;
use crate::frame::memory::Memory;
use crate::frame::nvmm::{NvmmBuffer, NvmmError};
use crate::frame::{DeviceFrame, FrameError};
use crate::thumbnail::Thumbnails;
use crate::thumbnail::cuda::ThumbnailError;
use crate::track::Sighting;
use crate::{lock, profiler};

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
    #[error("a frame came before its caps")]
    NoCaps,
    #[error("the frame is on GPU {frame}, but the model on GPU {model}: set gpu-id={frame}, or -1")]
    OtherGpu { frame: u32, model: u32 },
    #[error("the frame lies in another CUDA context than the model")]
    OtherContext(CudaContext),
}

/// A frame whose objects are being found, or are known already.
pub(super) struct Inspection {
    format: Format,
    plan: HashPlan,
    room: Room,
    /// What it took to look at the frame.
    looked: Duration,
    // Waited for before what it reads is unmapped.
    /// None where the frame looks like the last inspected one, which has what is to be found.
    request: Option<Request>,
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
    pub format: Format,
    pub plan: HashPlan,
    pub looked: Duration,
    /// None where they are those of the frame that was inspected last.
    pub timings: Option<Timings>,
    pub room: Room,
}

/// Lists for one frame, used again and again.
#[derive(Default)]
pub(super) struct Room {
    /// By frame of a buffer; only batches of nvstreammux have more than one.
    pub detections: Vec<Vec<Detection>>,
    pub device_frames: Vec<DeviceFrame>,
    /// What the detections were chosen from, where objects are followed; by frame as they are.
    pub sightings: Vec<Sighting>,
    /// The thumbnails with which the frame was compared.
    pub look: Vec<u8>,
    /// What users see of the frame.
    pub thumbnails: Thumbnails,
}

/// What the inspection of one frame needs of its stream, which goes on meanwhile.
pub(super) struct Inspector {
    pub detector: Arc<Detector>,
    pub search: Search,
    pub format: Option<Format>,
    pub plan: HashPlan,
    pub comparer: Arc<Mutex<Comparer>>,
    pub room: Room,
}

/// What was begun with a frame, as an [`Inspection`] tells it.
struct Begun {
    looked: Duration,
    request: Option<Request>,
}

impl Inspection {
    /// Whether waiting for what is found takes no time.
    pub fn is_done(&self) -> bool {
        self.request.as_ref().is_none_or(Request::is_done)
    }

    /// Waits for what is found.
    pub fn wait(self) -> Result<Found, DetectError> {
        let Self {
            format,
            plan,
            mut room,
            looked,
            request,
            held,
        } = self;
        let mut timings = None;
        if let Some(request) = request {
            let found = request.wait()?;
            timings = Some(found.0);
            room.detections = found.1;
        }
        drop(held);
        Ok(Found {
            format,
            plan,
            looked,
            timings,
            room,
        })
    }
}

impl Inspector {
    /// Begins to find objects in the frame, unless it looks like the last one in which it did.
    pub fn inspect(mut self, buffer: &gst::Buffer) -> Result<Inspection, InspectError> {
        let format = self.format.take().ok_or(InspectError::NoCaps)?;
        let info = &format.shape.info;
        let (begun, held) = match format.memory {
            Memory::System => {
                let mapped = format.shape.read(buffer)?;
                (self.begin(Frames::System(mapped.view()?))?, Held::Nothing)
            }
            Memory::Cuda => {
                let mapped = CudaFrame::map(buffer, info)?;
                let context = self.detector.context().ok_or(DetectError::GpuFrameOnCpu)?;
                if context.handle() != mapped.context().handle() {
                    return Err(InspectError::OtherContext(mapped.context().clone()));
                }
                let frames = Frames::Device {
                    frames: &[mapped.frame()],
                    pending: mapped.pending_stream(),
                };
                (self.begin(frames)?, Held::Cuda(mapped))
            }
            Memory::Nvmm => {
                let mut device_frames = std::mem::take(&mut self.room.device_frames);
                let mapped = map_nvmm(&self.detector, buffer, &format.shape, &mut device_frames)?;
                let begun = self.begin(Frames::Device {
                    frames: &device_frames,
                    pending: None,
                })?;
                self.room.device_frames = device_frames;
                (begun, Held::Nvmm(mapped))
            }
        };
        Ok(Inspection {
            format,
            plan: self.plan,
            room: self.room,
            looked: begun.looked,
            request: begun.request,
            held,
        })
    }

    fn begin(&mut self, frames: Frames<'_>) -> Result<Begun, InspectError> {
        let Self {
            detector,
            plan,
            comparer,
            room,
            ..
        } = self;
        let start = Instant::now();
        let context = detector.context();
        let unchanged = lock(comparer).is_unchanged(*plan, frames, context, &mut room.look)?;
        let looked = start.elapsed();
        let request = match unchanged {
            true => None,
            false => {
                let outputs = std::mem::take(&mut room.detections);
                let _range = profiler::range(c"submit");
                Some(detector.submit(frames, &self.search, outputs)?)
            }
        };
        Ok(Begun { looked, request })
    }
}

/// Fills `frames`, which are good as long as the returned buffer lives.
pub(super) fn map_nvmm(
    detector: &Detector,
    buffer: &gst::Buffer,
    caps: &FrameShape,
    frames: &mut Vec<DeviceFrame>,
) -> Result<NvmmBuffer, InspectError> {
    let context = detector.context().ok_or(DetectError::GpuFrameOnCpu)?;
    // Surface arrays of Jetson become visible in the context that is current.
    let _current = context.enter().map_err(DetectError::from)?;
    let mapped = NvmmBuffer::map(buffer, caps)?;
    let model = detector.gpu_id();
    frames.clear();
    for index in 0..mapped.len() {
        let frame = mapped.frame(index)?;
        if mapped.gpu_id() != model {
            let frame = mapped.gpu_id();
            return Err(InspectError::OtherGpu { frame, model });
        }
        frames.push(frame);
    }
    Ok(mapped)
}
