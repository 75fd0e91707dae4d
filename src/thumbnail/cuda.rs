//! Thumbnails of frames in the memory of a GPU, by the rules in [`super`]: one launch for all of a buffer.
//!
//! A warp adds up a part of a cell, the last warp of a cell makes its byte; only the bytes cross to the host. The
//! structs of C layout are those of `src/cuda/kernels/thumbnail.cuh`.

use std::sync::Arc;

use cust::memory::DeviceBuffer;
use cust::sys::{self, CUstream};

use super::{Area, Levels, MAX_SIDE};
use crate::cuda::context::{Context, InContext};
use crate::cuda::driver::check;
use crate::cuda::staging::Staging;
use crate::cuda::stream::{Event, Stream};
use crate::cuda::{CudaError, Kernels, SharedKernels};
use crate::frame::Rectangle;
use crate::frame::planes::{self, PlaneError};
use crate::frame::texture::FrameTextures;
use crate::frame::{DeviceFrame, DeviceStorage, PendingStream};

/// Frames and areas of one launch; a kernel's parameters may have 4 KiB.
const MAX_FRAMES: usize = 32;
const MAX_AREAS: usize = 128;

/// Warps of a block.
const WARPS: u32 = 8;
/// Rows that a warp reads at once, where cells are not narrow.
const ROWS_AT_ONCE: usize = 4;
/// The kernel counts so many warps of a cell at most.
const MAX_SLICES: usize = 255;

/// Why frames cannot be looked at where they are.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ThumbnailError {
    #[error(transparent)]
    Plane(#[from] PlaneError),
    #[error("the frame lies in CUDA arrays, which kernels read only through textures")]
    NoTexture,
    #[error("a thumbnail of {side}x{side} pixels was asked for; sides are 1 to {MAX_SIDE}")]
    Side { side: usize },
    #[error("{0:?} does not lie within its frame")]
    Outside(Area),
    #[error(transparent)]
    Cuda(#[from] CudaError),
}

/// `ThumbnailFrame` of thumbnail.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Source {
    plane: u64,
    pitch: u32,
    layout: u32,
    order: u32,
    textures: u32,
    black: u32,
    span: u32,
    weights: u32,
    highest: u32,
}

/// `ThumbnailArea` of thumbnail.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    left: u16,
    top: u16,
    width: u16,
    height: u16,
    first_block: u32,
    frame: u16,
    slices: u16,
}

/// `ThumbnailBatch` of thumbnail.cuh: everything one launch needs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    sums: u64,
    cells: u64,
    side: u32,
    count: u32,
    frames: [Source; MAX_FRAMES],
    areas: [Part; MAX_AREAS],
}

const _: () = assert!(size_of::<Batch>() <= 4096);

impl Batch {
    /// Describes a launch that makes the thumbnails of the first areas, and says of how many. For each of their cells
    /// there are 8 bytes at `sums`, which are 0 before the launch and after it, and one at `cells`, where the
    /// thumbnails come one after the other.
    pub fn new(
        frames: &[DeviceFrame],
        areas: &[Area],
        side: usize,
        sums: u64,
        cells: u64,
    ) -> Result<(Self, usize), ThumbnailError> {
        if !(1..=MAX_SIDE).contains(&side) {
            return Err(ThumbnailError::Side { side });
        }
        let mut batch = Self {
            sums,
            cells,
            side: side as u32,
            count: 0,
            frames: [Source::default(); MAX_FRAMES],
            areas: [Part::default(); MAX_AREAS],
        };
        let first = areas.first().map_or(0, |area| area.frame);
        let frames = frames.get(first..).unwrap_or_default();
        for (source, frame) in batch.frames.iter_mut().zip(frames) {
            *source = Source::new(frame)?;
        }
        for area in areas.iter().take(MAX_AREAS) {
            let Some(index) = area.frame.checked_sub(first).filter(|i| *i < MAX_FRAMES) else {
                break;
            };
            let frame = frames.get(index).ok_or(ThumbnailError::Outside(*area))?;
            let part = Part::new(frame, area, side)?;
            batch.areas[batch.count as usize] = Part {
                frame: index as u16,
                first_block: batch.blocks(),
                ..part
            };
            batch.count += 1;
        }
        Ok((batch, batch.count as usize))
    }

    /// Blocks for the areas that there are.
    fn blocks(&self) -> u32 {
        let last = self
            .count
            .checked_sub(1)
            .map(|last| self.areas[last as usize]);
        last.map_or(0, |last| {
            let warps = self.side * self.side * u32::from(last.slices);
            last.first_block + warps.div_ceil(WARPS)
        })
    }

    pub fn grid(&self) -> [u32; 3] {
        [self.blocks(), 1, 1]
    }

    /// Enqueues the launch.
    ///
    /// # Safety
    /// The current context is the one of the kernels, the stream, the frames and both addresses, where memory of the
    /// described sizes lies until the stream has passed the launch.
    pub unsafe fn launch(&self, kernels: &Kernels, stream: CUstream) -> Result<(), CudaError> {
        if self.count == 0 {
            return Ok(());
        }
        // SAFETY: the caller vouches for what the addresses name.
        unsafe { kernels.thumbnail.launch(self.grid(), stream, self) }
    }
}

impl Source {
    fn new(frame: &DeviceFrame) -> Result<Self, ThumbnailError> {
        planes::check(frame)?;
        let (layout, order) = planes::layout(frame.format);
        let levels = Levels::new(frame.format, frame.colorimetry);
        let (black, span, weights) = match levels {
            Levels::Luma { black, span } => (black, span, 0),
            Levels::Weighted { weights, .. } => {
                let [red, green, blue] = weights;
                (0, 0, red | green << 8 | blue << 16)
            }
        };
        Ok(Self {
            plane: frame.planes[0].pointer,
            pitch: frame.planes[0].pitch as u32,
            layout,
            order,
            textures: match frame.storage {
                DeviceStorage::Pitch => 0,
                DeviceStorage::Texture => 1,
                DeviceStorage::BlockLinear => return Err(ThumbnailError::NoTexture),
            },
            black,
            span,
            weights,
            highest: levels.highest() as u32,
        })
    }
}

impl Part {
    /// `frame` is the one of the area; what depends on the launch is left open.
    fn new(frame: &DeviceFrame, area: &Area, side: usize) -> Result<Self, ThumbnailError> {
        let Rectangle {
            x,
            y,
            width,
            height,
        } = area.pixels;
        let within = |start: usize, length: usize, limit: usize| {
            length > 0 && start <= limit && length <= limit - start
        };
        if !within(x, width, frame.width) || !within(y, height, frame.height) {
            return Err(ThumbnailError::Outside(*area));
        }
        // The frame was checked: its sides have 16 bits.
        Ok(Self {
            left: x as u16,
            top: y as u16,
            width: width as u16,
            height: height as u16,
            slices: slices(width, height, side) as u16,
            ..Self::default()
        })
    }
}

/// Warps that share a cell, so that each reads a few rows.
fn slices(width: usize, height: usize, side: usize) -> usize {
    let (columns, rows) = (width.div_ceil(side), height.div_ceil(side));
    let beside = columns.next_power_of_two().min(32);
    let rows_of_a_warp = ROWS_AT_ONCE * 32 / beside;
    rows.div_ceil(rows_of_a_warp).min(MAX_SLICES)
}

/// Makes thumbnails of frames of one context, and waits for them.
pub struct DeviceThumbnailer(InContext<Machine>);

/// The parts on the GPU. They are used only while their context is current.
struct Machine {
    room: Option<Room>,
    textures: FrameTextures,
    frames: Vec<DeviceFrame>,
    kernels: Arc<SharedKernels>,
    finished: Event,
    produced: Event,
    stream: Stream,
}

/// Memory for so many cells as each of its buffers has entries.
struct Room {
    sums: DeviceBuffer<u64>,
    cells: Staging,
}

impl DeviceThumbnailer {
    pub fn new(context: &Context) -> Result<Self, CudaError> {
        let machine = InContext::make(context, || {
            Ok::<_, CudaError>(Machine {
                room: None,
                textures: FrameTextures::default(),
                frames: Vec::new(),
                kernels: Kernels::shared(context)?,
                finished: Event::new()?,
                produced: Event::new()?,
                stream: Stream::new()?,
            })
        })?;
        Ok(Self(machine))
    }

    /// The context in which frames must lie.
    pub fn context(&self) -> &Context {
        self.0.context()
    }

    /// Appends the thumbnails of areas of frames that are mapped in this context, each `side` x `side` bytes.
    /// `pending` is where they are still being written.
    pub fn append(
        &mut self,
        frames: &[DeviceFrame],
        pending: Option<PendingStream>,
        areas: &[Area],
        side: usize,
        thumbnails: &mut Vec<u8>,
    ) -> Result<(), ThumbnailError> {
        let (_current, machine) = self.0.enter()?;
        let appended = machine.append(frames, pending, areas, side, thumbnails);
        if appended.is_err() {
            // Sums of launches that did not end are not 0.
            machine.room = None;
        }
        appended
    }
}

impl Machine {
    fn append(
        &mut self,
        frames: &[DeviceFrame],
        pending: Option<PendingStream>,
        areas: &[Area],
        side: usize,
        thumbnails: &mut Vec<u8>,
    ) -> Result<(), ThumbnailError> {
        let count = areas.len() * side * side;
        if count == 0 {
            return Ok(());
        }
        self.make_room(count)?;
        self.make_readable(frames)?;
        let enqueued = self.enqueue(pending, areas, side, count);
        // Also after an error: what was enqueued uses the textures and the room.
        self.stream.finish(&self.finished)?;
        self.textures.clear();
        enqueued?;
        let host = self.room.as_ref().map(|room| &room.cells.host[..count]);
        thumbnails.extend_from_slice(host.unwrap_or_default());
        Ok(())
    }

    /// Enqueues the launches and the way of their results to the host.
    fn enqueue(
        &mut self,
        pending: Option<PendingStream>,
        areas: &[Area],
        side: usize,
        count: usize,
    ) -> Result<(), ThumbnailError> {
        let Self {
            room: Some(room),
            frames,
            kernels,
            produced,
            stream,
            ..
        } = self
        else {
            return Ok(());
        };
        if let Some(pending) = pending {
            // SAFETY: the stream is the one on which the frames' own context writes them.
            unsafe { stream.follow(pending.0, produced) }?;
        }
        let sums = room.sums.as_device_ptr().as_raw();
        let cells = room.cells.address();
        let mut done = 0;
        while done < areas.len() {
            let offset = (done * side * side) as u64;
            let (batch, taken) = Batch::new(
                frames,
                &areas[done..],
                side,
                sums + offset * size_of::<u64>() as u64,
                cells + offset,
            )?;
            // SAFETY: the context is current; the room has space for all areas, and lives, as the frames do, until
            // the wait that follows.
            unsafe { batch.launch(kernels, stream.raw()) }?;
            done += taken;
        }
        // SAFETY: there are so many bytes, and they live until the wait that follows.
        unsafe { room.cells.download(count, stream.raw()) }?;
        Ok(())
    }

    /// The frames as kernels can read them, of which they read the first plane: arrays through textures, which live
    /// until the launches are done.
    fn make_readable(&mut self, frames: &[DeviceFrame]) -> Result<(), CudaError> {
        self.frames.clear();
        for frame in frames {
            // SAFETY: the arrays belong to the frame, which is mapped until the launches are done.
            let frame = unsafe { self.textures.readable(frame, 1) }?;
            self.frames.push(frame);
        }
        Ok(())
    }

    /// Makes room for so many cells.
    fn make_room(&mut self, cells: usize) -> Result<(), CudaError> {
        let has_room = |room: &Room| room.cells.size() >= cells;
        if self.room.as_ref().is_some_and(has_room) {
            return Ok(());
        }
        self.room = None;
        let cells = cells.next_power_of_two();
        // SAFETY: the sums are cleared below.
        let sums = unsafe { DeviceBuffer::<u64>::uninitialized(cells) };
        let room = Room {
            sums: sums.map_err(CudaError::during("cuMemAlloc"))?,
            cells: Staging::new(cells)?,
        };
        // SAFETY: the buffer has as many words; launches follow on the same stream.
        check("cuMemsetD32Async", unsafe {
            sys::cuMemsetD32Async(
                room.sums.as_device_ptr().as_raw(),
                0,
                2 * cells,
                self.stream.raw(),
            )
        })?;
        self.room = Some(room);
        Ok(())
    }
}
