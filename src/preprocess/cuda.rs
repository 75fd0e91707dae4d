//! Preprocessing of frames in the memory of a GPU: one launch for a batch.
//!
//! The structs of C layout are those of `src/cuda/kernels/preprocess.cuh`.

use cust::sys::CUstream;

use crate::cuda::{CudaError, Kernels};
use crate::frame::planes::{self, PlaneError};
use crate::frame::{DeviceFrame, DeviceStorage, Rectangle};

use super::color::ColorTransform;
use super::{
    ChannelOrder, InputGeometry, Placement, Preparation, ResizeMode, Shrinking, TensorLayout, scale,
};

/// Frames in one launch; a kernel's parameters may have 4 KiB.
pub const MAX_FRAMES: usize = 32;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Element {
    F32 = 0,
    F16 = 1,
    /// `(value - mean) * scale` rounded to the nearest whole number and limited to 0..255.
    U8 = 2,
    /// Likewise, and limited to -128..127.
    I8 = 3,
}

/// The network's input in the memory of a GPU: `slots` images of three channels, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputTensor {
    pub address: u64,
    pub geometry: InputGeometry,
    pub element: Element,
    pub slots: usize,
}

/// A frame, or a part of it that begins at even pixels, and the image of the batch that it becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slot {
    pub frame: DeviceFrame,
    pub part: Rectangle,
    pub index: usize,
}

impl Slot {
    /// All of a frame.
    pub fn whole(frame: DeviceFrame, index: usize) -> Self {
        Self {
            part: frame.whole(),
            frame,
            index,
        }
    }
}

/// Why a frame cannot be preprocessed where it is.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PreprocessError {
    #[error(transparent)]
    Plane(#[from] PlaneError),
    #[error("image {index} of the batch was asked for, the tensor has {slots}")]
    NoSuchSlot { index: usize, slots: usize },
    #[error("the frame lies in CUDA arrays, which kernels read only through textures")]
    NoTexture,
    #[error("{part:?} is no part of a frame of {width}x{height}, or cuts a chroma sample apart")]
    Part {
        part: Rectangle,
        width: usize,
        height: usize,
    },
    #[error("{0} frames were given, one launch takes {MAX_FRAMES}")]
    TooManyFrames(usize),
}

/// `Target` of preprocess.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Target {
    data: u64,
    slot_stride: u32,
    channel_stride: u32,
    row_stride: u32,
    pixel_stride: u32,
    width: u32,
    height: u32,
    element: u32,
    bgr: u32,
    mean: [f32; 3],
    scale: [f32; 3],
    fill: f32,
}

/// `Frame` of preprocess.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Descriptor {
    planes: [u64; 3],
    pitches: [u32; 3],
    order: u32,
    layout: u8,
    flags: u8,
    slot: u16,
    width: u32,
    height: u32,
    left: i32,
    top: i32,
    placed_width: u32,
    placed_height: u32,
    scale_x: [f32; 2],
    scale_y: [f32; 2],
    luma: f32,
    red_v: f32,
    green_u: f32,
    green_v: f32,
    blue_u: f32,
    offset: [f32; 3],
    first_column: u16,
    first_row: u16,
}

/// `PreprocessBatch` of preprocess.cuh: everything one launch needs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    target: Target,
    frames: [Descriptor; MAX_FRAMES],
    count: u32,
}

const _: () = assert!(size_of::<Batch>() <= 4096);

/// What is the same for all frames of a model.
#[derive(Clone, Copy, Debug)]
pub struct Preprocessor {
    tensor: InputTensor,
    preparation: Preparation,
    shrinking: Shrinking,
}

impl Preprocessor {
    pub fn new(tensor: InputTensor, preparation: Preparation, shrinking: Shrinking) -> Self {
        Self {
            tensor,
            preparation,
            shrinking,
        }
    }

    /// Where a frame of this size lies in the tensor.
    pub fn placement(&self, frame_width: usize, frame_height: usize) -> Placement {
        Placement::new(
            self.preparation.resize,
            self.tensor.geometry,
            frame_width,
            frame_height,
        )
    }

    /// Describes a launch for at most [`MAX_FRAMES`] frames.
    pub fn batch(&self, slots: &[Slot]) -> Result<Batch, PreprocessError> {
        if slots.len() > MAX_FRAMES {
            return Err(PreprocessError::TooManyFrames(slots.len()));
        }
        let mut frames = [Descriptor::default(); MAX_FRAMES];
        for (descriptor, slot) in frames.iter_mut().zip(slots) {
            *descriptor = self.describe(slot)?;
        }
        Ok(Batch {
            target: self.target(),
            frames,
            count: slots.len() as u32,
        })
    }

    fn target(&self) -> Target {
        let InputGeometry {
            width,
            height,
            layout,
        } = self.tensor.geometry;
        let (channel, row, pixel) = match layout {
            TensorLayout::Nchw => (width * height, width, 1),
            TensorLayout::Nhwc => (1, 3 * width, 3),
        };
        Target {
            data: self.tensor.address,
            slot_stride: (3 * width * height) as u32,
            channel_stride: channel as u32,
            row_stride: row as u32,
            pixel_stride: pixel as u32,
            width: width as u32,
            height: height as u32,
            element: self.tensor.element as u32,
            bgr: u32::from(self.preparation.order == ChannelOrder::Bgr),
            mean: self.preparation.mean,
            scale: self.preparation.scale,
            fill: match self.preparation.resize {
                ResizeMode::Letterbox { fill, .. } => f32::from(fill),
                ResizeMode::Stretch | ResizeMode::Crop => 0.0,
            },
        }
    }

    fn describe(&self, slot: &Slot) -> Result<Descriptor, PreprocessError> {
        let (frame, part) = (&slot.frame, slot.part);
        let (width, height) = (part.width, part.height);
        if slot.index >= self.tensor.slots {
            return Err(PreprocessError::NoSuchSlot {
                index: slot.index,
                slots: self.tensor.slots,
            });
        }
        planes::check(frame)?;
        let placement = self.placement(width, height);
        let (layout, order) = planes::layout(frame.format);
        let textures = match frame.storage {
            DeviceStorage::Pitch => 0,
            DeviceStorage::Texture => flags::TEXTURES,
            DeviceStorage::BlockLinear => return Err(PreprocessError::NoTexture),
        };
        let planes = frame.part(part).ok_or(PreprocessError::Part {
            part,
            width: frame.width,
            height: frame.height,
        })?;
        let planes = planes.map(|plane| plane.pointer);
        let pitches = frame.planes.map(|plane| plane.pitch as u32);
        let average = |frame, placed, flag| {
            if self.shrinking.averages(frame, placed) {
                flag
            } else {
                0
            }
        };
        let color = ColorTransform::new(frame.format, frame.colorimetry);
        let [[luma, _, red_v], [_, green_u, green_v], [_, blue_u, _]] = color.matrix;
        Ok(Descriptor {
            planes,
            pitches,
            order,
            layout: layout as u8,
            slot: slot.index as u16,
            // Those of other storage lie behind the planes' addresses.
            first_column: if textures == 0 { 0 } else { part.x as u16 },
            first_row: if textures == 0 { 0 } else { part.y as u16 },
            flags: textures
                | average(width, placement.width, flags::AVERAGE_X)
                | average(height, placement.height, flags::AVERAGE_Y),
            width: width as u32,
            height: height as u32,
            left: placement.left as i32,
            top: placement.top as i32,
            placed_width: placement.width as u32,
            placed_height: placement.height as u32,
            scale_x: in_two(scale(width, placement.width)),
            scale_y: in_two(scale(height, placement.height)),
            luma,
            red_v,
            green_u,
            green_v,
            blue_u,
            offset: color.offset,
        })
    }
}

impl Batch {
    /// Blocks of 32x8 pixels of the tensor, for each frame.
    pub fn grid(&self) -> [u32; 3] {
        let Target { width, height, .. } = self.target;
        [width.div_ceil(32), height.div_ceil(8), self.count]
    }

    /// Enqueues the launch; its frames' images in the tensor are written when the stream has passed it.
    ///
    /// # Safety
    /// The current context is the one of the kernels, the stream, the tensor and the frames. Tensor and frames
    /// have the sizes that they were described with, and live until the stream has passed the launch.
    pub unsafe fn launch(&self, kernels: &Kernels, stream: CUstream) -> Result<(), CudaError> {
        if self.count == 0 {
            return Ok(());
        }
        // SAFETY: the caller vouches for what the descriptors name.
        unsafe { kernels.preprocess.launch(self.grid(), stream, self) }
    }
}

/// `FrameFlags` of preprocess.cuh.
mod flags {
    pub const TEXTURES: u8 = 1;
    pub const AVERAGE_X: u8 = 2;
    pub const AVERAGE_Y: u8 = 4;
}

/// A number as the sum of two with fewer bits.
fn in_two(number: f64) -> [f32; 2] {
    let most = number as f32;
    [most, (number - f64::from(most)) as f32]
}
