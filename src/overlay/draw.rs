//! Draws rectangles and masks into frames in the memory of a GPU, in place.
//!
//! A sample stands for one pixel, a shared chroma sample for the two or four pixels of the frame that share it.
//! With `covered` of its `pixels` pixels covered, it is blended with opacity `(alpha * covered + pixels / 2) /
//! pixels` as `(old * (255 - opacity) + value * opacity + 127) / 255`, in integers; each primitive over what the
//! ones before it left. The structs of C layout are those of `src/cuda/kernels/overlay.cuh`.

use std::ffi::c_void;

use cust::memory::{DeviceBuffer, DeviceCopy, LockedBuffer};
use cust::sys::{self, CUstream};

use crate::cuda::driver::check;
use crate::cuda::stream::finish_default_stream;
use crate::cuda::{CudaError, Kernels};
use crate::frame::planes::{self, PlaneError};
use crate::frame::{DeviceFrame, DeviceStorage};

const NO_MASK: u32 = u32::MAX;

/// A colour as a frame stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ink {
    /// Y, U, V or R, G, B; of 10 bits for P010. Grey frames take the first.
    pub values: [u16; 3],
    /// 0 to 255; 255 hides what was there.
    pub alpha: u8,
}

/// Something to draw, in pixels of the frame. What lies outside of the frame is not drawn.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, DeviceCopy)]
pub struct Primitive {
    left: i32,
    top: i32,
    width: u32,
    height: u32,
    scale: u32,
    mask: u32,
    alpha: u32,
    values: [u16; 3],
    reserved: u16,
}

impl Primitive {
    /// A filled rectangle.
    pub fn fill(left: i32, top: i32, width: u32, height: u32, ink: Ink) -> Self {
        Self {
            left,
            top,
            width,
            height,
            scale: 1,
            mask: NO_MASK,
            alpha: ink.alpha.into(),
            values: ink.values,
            reserved: 0,
        }
    }

    /// A mask of up to 16 columns, such as a glyph, whose `height` rows begin at row `mask` of the painter's
    /// masks. Each of its pixels is a square of `scale` pixels.
    pub fn mask(
        (left, top): (i32, i32),
        mask: u32,
        (width, height): (u32, u32),
        scale: u32,
        ink: Ink,
    ) -> Self {
        let scale = scale.max(1);
        let (width, height) = (
            width.min(16).saturating_mul(scale),
            height.saturating_mul(scale),
        );
        Self {
            mask,
            scale,
            ..Self::fill(left, top, width, height, ink)
        }
    }

    /// One behind the last row of the masks that it reads.
    fn mask_end(&self) -> usize {
        match self.mask {
            NO_MASK => 0,
            first => first as usize + self.height.div_ceil(self.scale) as usize,
        }
    }
}

/// `Canvas` of overlay.cuh: everything one launch needs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Canvas {
    planes: [u64; 3],
    pitches: [u32; 3],
    layout: u32,
    order: u32,
    width: u32,
    height: u32,
    count: u32,
    primitives: u64,
    masks: u64,
}

/// Why something cannot be drawn.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DrawError {
    #[error(transparent)]
    Plane(#[from] PlaneError),
    #[error("frames in textures cannot be drawn into")]
    Textures,
    #[error("{count} primitives were given, the painter has room for {capacity}")]
    TooMany { count: usize, capacity: usize },
    #[error("a mask ends at row {end}, the painter has {rows}")]
    NoSuchMask { end: usize, rows: usize },
    #[error(transparent)]
    Cuda(#[from] CudaError),
}

impl Canvas {
    /// Describes a launch that draws `count` [`Primitive`]s at an address into a frame. Their masks are rows of
    /// 16 bits, whose lowest is the leftmost.
    pub fn new(
        frame: &DeviceFrame,
        primitives: u64,
        count: usize,
        masks: u64,
    ) -> Result<Self, DrawError> {
        planes::check(frame)?;
        if frame.storage != DeviceStorage::Pitch {
            return Err(DrawError::Textures);
        }
        let (layout, order) = planes::layout(frame.format);
        Ok(Self {
            planes: frame.planes.map(|p| p.pointer),
            pitches: frame.planes.map(|p| p.pitch as u32),
            layout,
            order,
            width: frame.width as u32,
            height: frame.height as u32,
            count: count as u32,
            primitives,
            masks,
        })
    }

    /// Blocks of 64x16 pixels.
    pub fn grid(&self) -> [u32; 3] {
        [self.width.div_ceil(64), self.height.div_ceil(16), 1]
    }

    /// Enqueues the launch.
    ///
    /// # Safety
    /// The current context is the one of the kernels, the stream and every address, where memory of the
    /// described sizes lies until the stream has passed the launch. Masks lie within their memory.
    pub unsafe fn launch(&self, kernels: &Kernels, stream: CUstream) -> Result<(), CudaError> {
        if self.count == 0 {
            return Ok(());
        }
        // SAFETY: the caller vouches for what the addresses name.
        unsafe { kernels.overlay.launch(self.grid(), stream, self) }
    }
}

/// Draws into one frame after the other. All memory is taken when it is made. Its context must be current
/// whenever it is used, and when it goes.
#[derive(Debug)]
pub struct Painter {
    host: LockedBuffer<Primitive>,
    device: DeviceBuffer<Primitive>,
    masks: DeviceBuffer<u16>,
    /// Primitives that the GPU may still have to read.
    enqueued: usize,
}

impl Painter {
    /// For up to `capacity` primitives until [`Painter::reuse`], whose masks have these rows.
    pub fn new(capacity: usize, masks: &[u16]) -> Result<Self, CudaError> {
        let nothing = Ink {
            values: [0; 3],
            alpha: 0,
        };
        let blank = Primitive::fill(0, 0, 0, 0, nothing);
        // SAFETY: primitives are copied there before a kernel reads them.
        let device = unsafe { DeviceBuffer::uninitialized(capacity) };
        let painter = Self {
            host: LockedBuffer::new(&blank, capacity)
                .map_err(CudaError::during("cuMemAllocHost"))?,
            device: device.map_err(CudaError::during("cuMemAlloc"))?,
            masks: DeviceBuffer::from_slice(masks).map_err(CudaError::during("cuMemcpyHtoD"))?,
            enqueued: 0,
        };
        // Other streams do not wait for it, and it copied the masks.
        finish_default_stream()?;
        Ok(painter)
    }

    /// How many more primitives it takes.
    pub fn room(&self) -> usize {
        self.host.len() - self.enqueued
    }

    /// Whether something was enqueued since [`Painter::reuse`].
    pub fn is_drawing(&self) -> bool {
        self.enqueued > 0
    }

    /// Makes room for as many primitives as in the beginning. Call it when the GPU is done with all drawing.
    pub fn reuse(&mut self) {
        self.enqueued = 0;
    }

    /// Enqueues the drawing of primitives into a frame, in their order.
    ///
    /// # Safety
    /// The current context is the one of the painter, the kernels, the stream and the frame. The frame has the
    /// described size; frame and painter live, and the painter is not [reused](Painter::reuse), until the stream
    /// has passed this.
    pub unsafe fn draw(
        &mut self,
        kernels: &Kernels,
        stream: CUstream,
        frame: &DeviceFrame,
        primitives: &[Primitive],
    ) -> Result<(), DrawError> {
        let (count, capacity) = (primitives.len(), self.room());
        if count > capacity {
            return Err(DrawError::TooMany { count, capacity });
        }
        let end = primitives
            .iter()
            .map(Primitive::mask_end)
            .max()
            .unwrap_or(0);
        let rows = self.masks.len();
        if end > rows {
            return Err(DrawError::NoSuchMask { end, rows });
        }
        if count == 0 {
            return Ok(());
        }
        let first = self.enqueued;
        let address =
            self.device.as_device_ptr().as_raw() + (first * size_of::<Primitive>()) as u64;
        let masks = self.masks.as_device_ptr().as_raw();
        let canvas = Canvas::new(frame, address, count, masks)?;
        let staged = &mut self.host[first..first + count];
        staged.copy_from_slice(primitives);
        self.enqueued += count;
        // SAFETY: both buffers hold as many primitives; the caller vouches for stream and frame.
        unsafe {
            check(
                "cuMemcpyHtoDAsync",
                sys::cuMemcpyHtoDAsync_v2(
                    address,
                    staged.as_ptr().cast::<c_void>(),
                    size_of_val(primitives),
                    stream,
                ),
            )?;
            canvas.launch(kernels, stream)?;
        }
        Ok(())
    }
}
