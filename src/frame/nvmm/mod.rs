//! Frames in the memory of DeepStream and Jetson (`memory:NVMM`), used where they lie.
//!
//! A mapped NVMM buffer holds an `NvBufSurface`: a batch of frames that lie elsewhere.

mod color_format;
pub mod nvbufsurface;
pub mod pool;
mod surface_array;
#[cfg(test)]
mod tests;

use std::ffi::c_void;

use self::nvbufsurface::{
    LAYOUT_PITCH, Layout, MAX_PLANES, NvBufSurface, SurfaceParams, memory_type,
};
pub use self::surface_array::SurfaceArrayError;
use self::surface_array::{Bridge, Entry, View};
use super::PixelFormat;
use super::buffer::FrameShape;
use super::device::{DeviceFrame, DeviceFrameError, DevicePlane, DeviceStorage};

/// The size of the structure that nvbuf_utils of JetPack 4 puts into a buffer.
const NVBUF_UTILS_SIZE: usize = 1008;

/// Why a buffer with `memory:NVMM` caps cannot be used where it lies.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum NvmmError {
    #[error("the NVMM buffer cannot be mapped")]
    NotMappable,
    #[error("the buffer consists of {0} pieces of memory; an NVMM buffer is one piece")]
    Pieces(usize),
    #[error(
        "the NVMM buffer is one of JetPack 4's nvbuf_utils; set bufapi-version=1 on the element that makes it, \
         or use JetPack 5 or later"
    )]
    NvBufUtils,
    #[error("the NVMM buffer holds {0} bytes; an NvBufSurface has 64, or 72 since DeepStream 8")]
    UnknownSize(usize),
    #[error("the NvBufSurface says that {filled} of its {batch_size} frames are filled")]
    Batch { filled: u32, batch_size: u32 },
    #[error("the NvBufSurface has no list of its frames")]
    NoList,
    #[error("frame {index} is not in the NvBufSurface, which holds {frames}")]
    NoSuchFrame { index: usize, frames: usize },
    #[error("{0} frames are not supported")]
    UnsupportedFormat(String),
    #[error(
        "the frame is in {0} memory, which CUDA cannot read; set nvbuf-memory-type=nvbuf-mem-cuda-device \
         on the element that makes it"
    )]
    UnsupportedMemory(String),
    #[error("the frame is block linear in {0} memory, which is not supported")]
    BlockLinear(String),
    #[error("a {format:?} frame has {expected} planes, but the NvBufSurface names {planes}")]
    Planes {
        format: PixelFormat,
        expected: usize,
        planes: u32,
    },
    #[error(transparent)]
    SurfaceArray(#[from] SurfaceArrayError),
    #[error(transparent)]
    Frame(#[from] DeviceFrameError),
}

/// A mapped NVMM buffer: one frame, or a batch of `nvstreammux`. The frames were finished when the buffer
/// was pushed; there is no stream to wait for.
pub struct NvmmBuffer {
    mapped: gst::MappedBuffer<gst::buffer::Readable>,
    layout: Layout,
    surface: NvBufSurface,
    frames: usize,
    caps: FrameShape,
}

// SAFETY: the buffer is mapped and referenced, so that surface and entries live as long as this; they
// belong to no thread and are only read here.
unsafe impl Send for NvmmBuffer {}
// SAFETY: as above; registrations of surface arrays are locked.
unsafe impl Sync for NvmmBuffer {}

impl NvmmBuffer {
    /// Maps a buffer that has these caps. Of the caps only the colorimetry is used: formats and sizes are those of
    /// the surfaces.
    pub fn map(buffer: &gst::Buffer, caps: &FrameShape) -> Result<Self, NvmmError> {
        match buffer.n_memory() {
            1 => (),
            pieces => return Err(NvmmError::Pieces(pieces)),
        }
        let mapped = buffer
            .clone()
            .into_mapped_buffer_readable()
            .map_err(|_| NvmmError::NotMappable)?;
        let layout = match mapped.size() {
            NVBUF_UTILS_SIZE => return Err(NvmmError::NvBufUtils),
            size => Layout::of_buffer(size).ok_or(NvmmError::UnknownSize(size))?,
        };
        // SAFETY: the buffer holds at least the 32 bytes of the head, of which any pattern is a value.
        let surface = unsafe { mapped.as_ptr().cast::<NvBufSurface>().read_unaligned() };
        Ok(Self {
            frames: filled_frames(&surface)?,
            mapped,
            layout,
            surface,
            caps: caps.clone(),
        })
    }

    /// The number of frames in the batch, at least 1.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a surface without frames is refused"
    )]
    pub fn len(&self) -> usize {
        self.frames
    }

    /// The CUDA ordinal of the device that holds the frames.
    pub fn gpu_id(&self) -> u32 {
        self.surface.gpu_id
    }

    /// The pointers of one frame, valid as long as `self` lives. They belong to the primary context of the
    /// device; on Jetson, to the context that is current on this thread, and there must be one.
    pub fn frame(&self, index: usize) -> Result<DeviceFrame, NvmmError> {
        let params = self.entry(index)?;
        // SAFETY: an entry within the batch, which lives as long as the buffer is mapped.
        let entry = unsafe { params.read_unaligned() };
        let (format, order, colorimetry) = color_format::describe(entry.color_format, &self.caps)
            .ok_or_else(|| {
            NvmmError::UnsupportedFormat(color_format::name(entry.color_format))
        })?;
        if entry.planes.num_planes as usize != format.planes() {
            return Err(NvmmError::Planes {
                format,
                expected: format.planes(),
                planes: entry.planes.num_planes,
            });
        }
        let view = self.view(index, params, &entry)?;
        let mut planes = [DevicePlane::default(); 3];
        for (plane, held) in planes.iter_mut().zip(order).take(format.planes()) {
            *plane = plane_of(view, format, &entry, held);
        }
        let frame = DeviceFrame {
            format,
            colorimetry,
            width: entry.width as usize,
            height: entry.height as usize,
            storage: match view {
                View::Linear { .. } => DeviceStorage::Pitch,
                View::Image { storage, .. } => storage,
            },
            planes,
        }
        .checked()?;
        // Producers that wrap memory of their own leave the size out.
        if matches!(view, View::Linear { .. }) && entry.data_size != 0 {
            for (plane, held) in order.into_iter().enumerate().take(format.planes()) {
                let offset = entry.planes.offset[held] as usize;
                frame.check_extent(plane, offset, entry.data_size as usize)?;
            }
        }
        Ok(frame)
    }

    /// The address of an entry of the batch.
    fn entry(&self, index: usize) -> Result<*mut SurfaceParams, NvmmError> {
        if index >= self.frames {
            return Err(NvmmError::NoSuchFrame {
                index,
                frames: self.frames,
            });
        }
        Ok(self
            .surface
            .surface_list
            .wrapping_byte_add(index * self.layout.entry_stride())
            .cast())
    }

    /// Where CUDA finds an entry.
    fn view(
        &self,
        index: usize,
        params: *mut SurfaceParams,
        entry: &SurfaceParams,
    ) -> Result<View, NvmmError> {
        let held_in = self.surface.memory_type;
        let linear = match held_in {
            memory_type::CUDA_PINNED | memory_type::CUDA_DEVICE | memory_type::CUDA_UNIFIED => true,
            memory_type::SURFACE_ARRAY => false,
            // CUDA device memory on a GPU server, a surface array, which has no address, on Jetson.
            memory_type::DEFAULT => !entry.data_pointer.is_null(),
            other => return Err(NvmmError::UnsupportedMemory(memory_type::name(other))),
        };
        if !linear {
            let entry_of_surface = Entry {
                surface: self.mapped.as_ptr() as *mut c_void,
                index: index as u32,
                layout: self.layout,
                params,
            };
            let memory = self.mapped.buffer().peek_memory(0);
            // SAFETY: the mapped buffer's one memory holds the surface, of which this is an entry.
            let view = unsafe {
                surface_array::view(Bridge::get()?, memory, entry_of_surface, entry.buffer_desc)
            };
            return Ok(view?);
        }
        if entry.layout != LAYOUT_PITCH {
            return Err(NvmmError::BlockLinear(memory_type::name(held_in)));
        }
        // Pinned host memory has the same address on the device (unified virtual addressing).
        Ok(View::Linear {
            pointer: entry.data_pointer as u64,
        })
    }
}

/// How many frames a surface holds, if that can be.
fn filled_frames(surface: &NvBufSurface) -> Result<usize, NvmmError> {
    let (filled, batch_size) = match (surface.num_filled, surface.batch_size) {
        // Producers of single frames may leave the count as it was allocated.
        (0, 1) => (1, 1),
        counts => counts,
    };
    if filled == 0 || filled > batch_size {
        return Err(NvmmError::Batch { filled, batch_size });
    }
    if surface.surface_list.is_null() {
        return Err(NvmmError::NoList);
    }
    Ok(filled as usize)
}

/// One plane of an entry; `held` is its index in the surface, below [`MAX_PLANES`].
fn plane_of(view: View, format: PixelFormat, entry: &SurfaceParams, held: usize) -> DevicePlane {
    const { assert!(MAX_PLANES > 2) };
    let own_pitch = entry.planes.pitch[held] as usize;
    match view {
        View::Linear { pointer: 0 } => DevicePlane::default(),
        View::Linear { pointer } => DevicePlane {
            pointer: pointer.wrapping_add(u64::from(entry.planes.offset[held])),
            pitch: own_pitch,
        },
        View::Image {
            planes,
            pitch,
            storage,
        } => DevicePlane {
            pointer: planes[held],
            // CUDA gives the pitch of the first plane; only fully planar chroma has another one.
            pitch: match (storage, format, held) {
                (DeviceStorage::Pitch, PixelFormat::I420, 1 | 2) => own_pitch,
                _ => pitch,
            },
        },
    }
}
