//! Crops of frames in the memory of a GPU, in buffers of the memory that they are wanted in.

use std::sync::Arc;

use super::crop_caps::CropFormat;
use super::device_pools::{DevicePools, PoolError};
use crate::crop::Rectangle;
use crate::crop::cuda::{CropError, Cut, DeviceCropper, Download, Downloads};
use crate::crop::render::CropResize;
use crate::cuda::CudaError;
use crate::cuda::context::Context;
use crate::frame::buffer::FrameShape;
use crate::frame::cuda::{CudaFrame, CudaFrameError, DrawableCudaFrame};
use crate::frame::gstcuda::CudaContext;
use crate::frame::memory::Memory;
use crate::frame::nvmm::{NvmmBuffer, NvmmError};
use crate::frame::{Colorimetry, DeviceFrame, PendingStream};

/// Crops in a download begin at multiples of this, which every kernel's writes are aligned to.
const CROP_ALIGNMENT: usize = 256;

/// Why crops of a frame in GPU memory cannot be made.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum DeviceCropError {
    #[error(transparent)]
    Crop(#[from] CropError),
    #[error(transparent)]
    Cuda(#[from] CudaError),
    #[error(transparent)]
    CudaFrame(#[from] CudaFrameError),
    #[error(transparent)]
    Nvmm(#[from] NvmmError),
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error("the pool gave a frame of {0}, where one of {1} is needed")]
    OtherFrame(String, String),
    #[error("what is linked to the pad takes no crops of this video")]
    NotAllowed,
}

/// Where crops are made.
#[derive(Clone, Debug)]
pub(super) struct Gpu {
    pub context: Context,
    /// The same context as GStreamer's elements share it; None without GStreamer's CUDA library.
    pub shared: Option<CudaContext>,
    pub gpu_id: u32,
}

impl Gpu {
    fn is(&self, other: &Self) -> bool {
        self.context.handle() == other.context.handle() && self.shared == other.shared
    }
}

/// A crop to make.
#[derive(Debug)]
pub(super) struct Order {
    pub source: DeviceFrame,
    pub rectangle: Rectangle,
    pub format: CropFormat,
    /// What the crop's samples stand for. It is the source's own where caps say the same of both, whatever the source
    /// says of itself.
    pub colorimetry: Colorimetry,
}

/// Where the pixels of a crop are.
#[derive(Debug)]
pub(super) enum Pixels {
    /// In the crop's own buffer.
    Here { shape: FrameShape, memory: Memory },
    /// Among others on their way from the GPU.
    Coming {
        download: Arc<Download>,
        offset: usize,
        shape: FrameShape,
    },
}

/// A crop, and a buffer with its pixels, or without, if they are still on their way.
#[derive(Debug)]
pub(super) struct Made {
    pub buffer: gst::Buffer,
    pub pixels: Pixels,
}

/// Makes crops on one thread.
#[derive(Debug)]
pub(super) struct DeviceCrops {
    gpu: Gpu,
    cropper: DeviceCropper,
    downloads: Downloads,
    pools: DevicePools,
}

impl DeviceCrops {
    fn new(gpu: Gpu) -> Result<Self, CudaError> {
        Ok(Self {
            cropper: DeviceCropper::new(&gpu.context)?,
            downloads: Downloads::default(),
            pools: DevicePools::new(gpu.shared.clone(), gpu.gpu_id),
            gpu,
        })
    }

    /// The one in `slot`, which is made, or made anew, where it is none of this GPU.
    pub fn on<'a>(slot: &'a mut Option<Self>, gpu: &Gpu) -> Result<&'a mut Self, CudaError> {
        let made = match slot.take() {
            Some(made) if made.gpu.is(gpu) => made,
            _ => Self::new(gpu.clone())?,
        };
        Ok(slot.insert(made))
    }

    /// Makes all crops in one launch; the sources are free when this returns.
    ///
    /// # Safety
    /// The sources lie in the context of this and live until this returns; `pending` is a live stream of the context
    /// on which they are still being written.
    pub unsafe fn cut(
        &mut self,
        orders: &[Order],
        pending: Option<PendingStream>,
        resize: CropResize,
    ) -> Result<Vec<Made>, DeviceCropError> {
        // Surface arrays of Jetson become visible in the context that is current.
        let _current = self.gpu.context.enter()?;
        let (offsets, size) = lay_out(orders);
        let mut download = match size {
            0 => None,
            size => Some(self.downloads.take(&self.gpu.context, size)?),
        };
        let address = download.as_ref().map_or(0, Download::address);
        let mut buffers = Vec::with_capacity(orders.len());
        for order in orders {
            buffers.push(match order.format.memory {
                Memory::System => gst::Buffer::new(),
                Memory::Cuda | Memory::Nvmm => self.pools.acquire(&order.format)?,
            });
        }
        {
            let mut targets = Vec::with_capacity(orders.len());
            for ((order, buffer), offset) in orders.iter().zip(&mut buffers).zip(&offsets) {
                targets.push(self.target(order, buffer, address + *offset as u64)?);
            }
            let cuts: Vec<_> = orders
                .iter()
                .zip(&targets)
                .map(|(order, target)| Cut {
                    source: order.source,
                    rectangle: order.rectangle,
                    target: DeviceFrame {
                        colorimetry: order.colorimetry,
                        ..target.frame
                    },
                    resize,
                })
                .collect();
            let download = download.as_mut().map(|download| (download, size));
            // SAFETY: the caller vouches for the sources; the targets are mapped, and nobody else has them.
            unsafe { self.cropper.cut(&cuts, pending, download) }?;
        }
        let download = download.map(Arc::new);
        let made = orders.iter().zip(buffers).zip(offsets);
        Ok(made
            .map(|((order, buffer), offset)| {
                let (shape, memory) = (order.format.shape.clone(), order.format.memory);
                let pixels = match (&download, memory) {
                    (Some(download), Memory::System) => Pixels::Coming {
                        download: Arc::clone(download),
                        offset,
                        shape,
                    },
                    _ => Pixels::Here { shape, memory },
                };
                Made { buffer, pixels }
            })
            .collect())
    }

    /// Where a crop is written; `address` is its place in the download.
    fn target<'a>(
        &self,
        order: &Order,
        buffer: &'a mut gst::Buffer,
        address: u64,
    ) -> Result<Target<'a>, DeviceCropError> {
        let CropFormat { shape, memory, .. } = &order.format;
        let wanted = shape.at(address);
        let mut target = Target {
            frame: wanted,
            _cuda: None,
            _nvmm: None,
        };
        match memory {
            Memory::System => {}
            Memory::Cuda => {
                let mapped = CudaFrame::map_for_drawing(buffer.make_mut(), &shape.info)?;
                target.frame = mapped.frame();
                target._cuda = Some(mapped);
            }
            Memory::Nvmm => {
                let mapped = NvmmBuffer::map(buffer, shape)?;
                target.frame = mapped.frame(0)?;
                target._nvmm = Some(mapped);
            }
        }
        let say = |frame: &DeviceFrame| {
            let (format, width, height) = (frame.format, frame.width, frame.height);
            format!("{width}x{height} {format:?}")
        };
        match say(&target.frame) == say(&wanted) {
            true => Ok(target),
            false => Err(DeviceCropError::OtherFrame(
                say(&target.frame),
                say(&wanted),
            )),
        }
    }
}

/// A frame to write into, and what keeps it mapped.
struct Target<'a> {
    frame: DeviceFrame,
    _cuda: Option<DrawableCudaFrame<'a>>,
    _nvmm: Option<NvmmBuffer>,
}

/// Where the crops for system memory lie in a download, and its size.
fn lay_out(orders: &[Order]) -> (Vec<usize>, usize) {
    let mut size = 0;
    let offsets = orders
        .iter()
        .map(|order| {
            let offset = size;
            if order.format.memory == Memory::System {
                size += order
                    .format
                    .shape
                    .info
                    .size()
                    .next_multiple_of(CROP_ALIGNMENT);
            }
            offset
        })
        .collect();
    (offsets, size)
}
