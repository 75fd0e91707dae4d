//! The `crops` pad: a buffer for every detection, of the format and size that downstream wants.

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gst_video::VideoInfo;

use super::branch::{Stop, Worker};
use super::crop_caps::{Allowed, CropFormat};
use super::crop_pool::CropPool;
use super::device_crops::{DeviceCrops, Gpu, Order, Pixels};
use super::imp::CAT;
use super::memory::{Format, caps_of_crops, memories_of_crops};
use crate::crop::Rectangle;
use crate::crop::render::{CropResize, Renderer};
use crate::frame::SystemFrame;
use crate::frame::buffer::FrameShape;
use crate::frame::cuda::CudaFrame;
use crate::frame::memory::Memory;
use crate::frame::nvmm::NvmmBuffer;
use crate::{lock, profiler};

pub(super) const NAME: &str = "crops";

/// Frames whose crops may wait for what is linked to the pad.
pub(super) const MOST_WAITING: usize = 16;

/// All that crops can be on any machine.
pub(super) fn caps() -> gst::Caps {
    caps_of_crops(&[Memory::Cuda, Memory::Nvmm, Memory::System])
}

/// Answers what crops can be here, of video with these caps.
pub(super) fn answer(query: &mut gst::query::Caps, video: Option<&gst::CapsRef>, on_gpu: bool) {
    let possible = match video {
        Some(video) => caps_of_crops(&memories_of_crops(Memory::from_caps(video))),
        None if on_gpu => caps(),
        None => caps_of_crops(&[Memory::System]),
    };
    let answer = match query.filter() {
        Some(filter) => filter.intersect_with_mode(&possible, gst::CapsIntersectMode::First),
        None => possible,
    };
    query.set_result(&answer);
}

/// What downstream allows, told to the thread that cuts out of frames which do not wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes(Arc<Mutex<Option<Arc<Allowed>>>>);

impl Wishes {
    pub fn latest(&self) -> Option<Arc<Allowed>> {
        lock(&self.0).clone()
    }

    fn tell(&self, allowed: Option<Arc<Allowed>>) {
        *lock(&self.0) = allowed;
    }
}

/// A detection's pixels, copied out of the frame as they were, or on a GPU as downstream wanted them by then.
#[derive(Debug)]
pub(super) struct StagedCrop {
    /// Has the crop's times and its meta, and the pixels that are there.
    pub buffer: gst::Buffer,
    pub pixels: Pixels,
    /// What the crop is in the frame's own format and size.
    pub native: VideoInfo,
}

/// All crops of one buffer.
#[derive(Debug)]
pub(super) struct CropBatch {
    pub crops: Vec<StagedCrop>,
    pub resize: CropResize,
    /// Where they were cut out, unless it was on the CPU.
    pub gpu: Option<Gpu>,
}

#[derive(Debug)]
pub(super) struct CropPusher {
    wishes: Wishes,
    video: Option<Format>,
    allowed: Option<Arc<Allowed>>,
    /// What the pad's caps are now, and the crop that they were made for.
    current: Option<(CropFormat, VideoInfo)>,
    pool: CropPool,
    renderer: Renderer,
    /// For crops that were made for other wishes.
    device: Option<DeviceCrops>,
}

impl Worker for CropPusher {
    type Item = CropBatch;
    type Told = Wishes;

    fn new(wishes: Wishes) -> Self {
        Self {
            wishes,
            video: None,
            allowed: None,
            current: None,
            pool: CropPool::default(),
            renderer: Renderer::default(),
            device: None,
        }
    }

    fn video_caps(&mut self, pad: &gst::Pad, caps: &gst::CapsRef) {
        self.video = Format::from_caps(caps);
        self.renegotiate();
        // The sooner the other thread knows, the fewer crops take two steps. What is wrong is told with the first.
        if let Some(video) = &self.video
            && video.memory != Memory::System
            && pad.is_linked()
            && let Ok(allowed) = Allowed::ask(pad, video)
        {
            self.wishes.tell(Some(Arc::new(allowed)));
        }
    }

    fn renegotiate(&mut self) {
        self.allowed = None;
        self.wishes.tell(None);
    }

    fn ensure_caps(&mut self, pad: &gst::Pad, next: Option<&CropBatch>) -> Result<(), Stop> {
        let next = next.and_then(|batch| batch.crops.first());
        match next.map(|crop| crop.native.clone()) {
            Some(crop) => self.set_caps(pad, &crop),
            // Nothing has been cut out yet: the largest crop that there can be stands for those to come.
            None => match self.video.as_ref().map(|video| video.shape.info.clone()) {
                Some(frame) if self.allowed.is_none() => self.set_caps(pad, &frame),
                _ => Ok(()),
            },
        }
    }

    fn push(&mut self, pad: &gst::Pad, batch: CropBatch) -> Result<(), Stop> {
        for crop in batch.crops {
            self.set_caps(pad, &crop.native)?;
            let Some((format, _)) = &self.current else {
                return Ok(());
            };
            let format = format.clone();
            let buffer = self.finish(crop, &format, batch.resize, batch.gpu.as_ref())?;
            pad.push(buffer)?;
        }
        Ok(())
    }
}

impl CropPusher {
    /// Gives the pad the caps for a crop that has these in the frame's own format.
    fn set_caps(&mut self, pad: &gst::Pad, native: &VideoInfo) -> Result<(), Stop> {
        let allowed = match &self.allowed {
            Some(allowed) => {
                let fits = self.current.as_ref().is_some_and(|(_, made_for)| {
                    match allowed.has_fixed_size() {
                        true => made_for.colorimetry() == native.colorimetry(),
                        false => made_for == native,
                    }
                });
                if fits {
                    return Ok(());
                }
                allowed
            }
            None => {
                let Some(video) = &self.video else {
                    return Ok(());
                };
                let allowed = Arc::new(Allowed::ask(pad, video)?);
                self.wishes.tell(Some(Arc::clone(&allowed)));
                self.allowed.insert(allowed)
            }
        };
        let format = allowed.caps_for(native)?;
        let changed = pad.current_caps().as_ref() != Some(&format.caps);
        if changed {
            gst::log!(CAT, obj = pad, "caps of crops: {}", format.caps);
            pad.push_event(gst::event::Caps::new(&format.caps));
        }
        match format.fixed_size && format.memory == Memory::System {
            true => self.pool.negotiate(pad, &format),
            // A pool of one size is no help where each crop has its own.
            false => self.pool.clear(),
        }
        self.current = Some((format, native.clone()));
        Ok(())
    }

    /// The buffer that is pushed for a crop.
    fn finish(
        &mut self,
        crop: StagedCrop,
        format: &CropFormat,
        resize: CropResize,
        gpu: Option<&Gpu>,
    ) -> Result<gst::Buffer, Stop> {
        let wanted = &format.shape;
        match &crop.pixels {
            Pixels::Here { shape, memory }
                if *memory == format.memory && is_as_wanted(&shape.info, &wanted.info) =>
            {
                Ok(crop.buffer)
            }
            Pixels::Here { shape, memory } if (*memory, format.memory) == BOTH_SYSTEM => {
                let mapped = shape.read(&crop.buffer).map_err(problem)?;
                let frame = mapped.view().map_err(problem)?;
                self.render(&frame, &crop.buffer, wanted, resize)
            }
            Pixels::Coming {
                download,
                offset,
                shape,
            } if format.memory == Memory::System => {
                let bytes = download.wait().map_err(problem)?;
                let frame = shape.view(bytes.get(*offset..).unwrap_or_default());
                self.render(&frame.map_err(problem)?, &crop.buffer, wanted, resize)
            }
            _ => self.convert(&crop, format, resize, gpu),
        }
    }

    /// Draws a crop into a buffer of this format and size, which takes over times and meta.
    fn render(
        &mut self,
        frame: &SystemFrame<'_>,
        staged: &gst::BufferRef,
        wanted: &FrameShape,
        resize: CropResize,
    ) -> Result<gst::Buffer, Stop> {
        let _range = profiler::range(c"render");
        let mut target = self.pool.acquire(&wanted.info);
        let edit = target.make_mut();
        {
            let mut mapped = wanted.write(edit).map_err(problem)?;
            let mut view = mapped.view().map_err(problem)?;
            self.renderer.render(frame, &mut view, resize);
        }
        carry(staged, edit);
        Ok(target)
    }

    /// Makes a crop that lies on a GPU what downstream wants: it was made before that was known, or for earlier wishes.
    fn convert(
        &mut self,
        crop: &StagedCrop,
        format: &CropFormat,
        resize: CropResize,
        gpu: Option<&Gpu>,
    ) -> Result<gst::Buffer, Stop> {
        let gpu = gpu.ok_or_else(|| Stop::Problem(NOT_ON_A_GPU.into()))?;
        let current = gpu.context.enter().map_err(problem)?;
        let (cuda, nvmm);
        let (source, pending) = match &crop.pixels {
            Pixels::Coming {
                download,
                offset,
                shape,
            } => {
                let address = download.address() + *offset as u64;
                (shape.at(address), None)
            }
            Pixels::Here { shape, memory } if *memory == Memory::Cuda => {
                cuda = CudaFrame::map(&crop.buffer, &shape.info).map_err(problem)?;
                (cuda.frame(), cuda.pending_stream())
            }
            Pixels::Here { shape, .. } => {
                nvmm = NvmmBuffer::map(&crop.buffer, shape).map_err(problem)?;
                (nvmm.frame(0).map_err(problem)?, None)
            }
        };
        let order = Order {
            source,
            rectangle: Rectangle {
                x: 0,
                y: 0,
                width: source.width,
                height: source.height,
            },
            format: format.clone(),
            colorimetry: format.shape.colorimetry(),
        };
        drop(current);
        let device = DeviceCrops::on(&mut self.device, gpu).map_err(problem)?;
        // SAFETY: the source is mapped, or part of a download, in the context that the crops were made in.
        let made = unsafe { device.cut(&[order], pending, resize) }.map_err(problem)?;
        let Some(mut made) = made.into_iter().next() else {
            return Err(Stop::Problem(NOT_ON_A_GPU.into()));
        };
        match &made.pixels {
            Pixels::Here { .. } => {
                carry(&crop.buffer, made.buffer.make_mut());
                Ok(made.buffer)
            }
            Pixels::Coming {
                download,
                offset,
                shape,
            } => {
                let bytes = download.wait().map_err(problem)?;
                let frame = shape.view(bytes.get(*offset..).unwrap_or_default());
                self.render(&frame.map_err(problem)?, &crop.buffer, shape, resize)
            }
        }
    }
}

const BOTH_SYSTEM: (Memory, Memory) = (Memory::System, Memory::System);
const NOT_ON_A_GPU: &str = "a crop in system memory cannot be put on a GPU";

fn problem(error: impl std::fmt::Display) -> Stop {
    Stop::Problem(error.to_string())
}

fn is_as_wanted(native: &VideoInfo, wanted: &VideoInfo) -> bool {
    (native.format(), native.width(), native.height())
        == (wanted.format(), wanted.width(), wanted.height())
        && native.colorimetry() == wanted.colorimetry()
}

/// Gives a buffer the times and the metas of another one, but not how that one's rows lie.
fn carry(from: &gst::BufferRef, to: &mut gst::BufferRef) {
    let _ = from.copy_into(to, gst::BufferCopyFlags::TIMESTAMPS, ..);
    let layout = gst_video::VideoMeta::meta_api();
    from.foreach_meta(|meta| {
        if meta.api() != layout {
            let _ = meta.transform(to, &gst::meta::MetaTransformCopy::new(..));
        }
        std::ops::ControlFlow::Continue(())
    });
}
