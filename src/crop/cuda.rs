//! Crops of frames in the memory of a GPU: all of a frame in one launch.
//!
//! The structs of C layout are those of `src/cuda/kernels/crop.cuh`.

mod cropper;
mod download;

use cust::sys::CUstream;

use super::Rectangle;
use super::color;
use super::render::{CropResize, picture};
use crate::cuda::{CudaError, Kernels};
use crate::frame::planes::{self, PlaneError};
use crate::frame::{DeviceFrame, DeviceStorage, PixelFormat};

pub use cropper::DeviceCropper;
pub use download::{Download, Downloads};

/// Pixels of a target that one block writes.
const TILE: (usize, usize) = (64, 16);

/// A rectangle of a frame, and the whole frame that it becomes. It is copied where format, size and colorimetry stay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    pub source: DeviceFrame,
    pub rectangle: Rectangle,
    pub target: DeviceFrame,
    pub resize: CropResize,
}

/// Why something cannot be cut out.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CropError {
    #[error(transparent)]
    Plane(#[from] PlaneError),
    #[error("the frame lies in CUDA arrays, which kernels read only through textures")]
    NoTexture,
    #[error("crops are not written into block-linear frames")]
    BlockLinear,
    #[error("the rectangle {0:?} does not lie within the frame, or cuts a chroma sample apart")]
    Rectangle(Rectangle),
    #[error(transparent)]
    Cuda(#[from] CudaError),
}

/// `CropPlanes` of crop.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Planes {
    planes: [u64; 3],
    pitches: [u32; 3],
    layout: u32,
    order: u32,
    width: u32,
    height: u32,
}

/// `CropJob` of crop.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Job {
    source: Planes,
    target: Planes,
    flags: u32,
    left: u32,
    top: u32,
    picture: [u32; 4],
    columns: u32,
    matrix: [[f32; 3]; 3],
    offset: [f32; 3],
    scale: f32,
    black: [f32; 3],
}

const _: () = assert!(size_of::<Job>() == 208);

/// `CropFlags` of crop.cuh.
mod flags {
    pub const FROM_TEXTURES: u32 = 1;
    pub const COPY: u32 = 2;
    pub const LUMA_IN_PIXELS: u32 = 4;
    pub const CHROMA_IN_PIXELS: u32 = 8;
    pub const LUMA_IN_CHROMA: u32 = 16;
    pub const CHROMA_IN_CHROMA: u32 = 32;
}

/// `CropLaunch` of crop.cuh: one launch for a table of jobs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Launch {
    jobs: u64,
    first_tiles: u64,
    count: u32,
    tiles: u32,
}

impl Launch {
    /// A block for each tile.
    pub fn grid(&self) -> [u32; 3] {
        [self.tiles, 1, 1]
    }

    /// Enqueues the launch.
    ///
    /// # Safety
    /// The current context is that of the kernels, the stream, the table and the frames of its jobs. Table and
    /// frames have the sizes that they were described with, and live until the stream has passed the launch.
    pub unsafe fn launch(&self, kernels: &Kernels, stream: CUstream) -> Result<(), CudaError> {
        if self.tiles == 0 {
            return Ok(());
        }
        // SAFETY: the caller vouches for what the addresses name.
        unsafe { kernels.crop.launch(self.grid(), stream, self) }
    }
}

/// What a launch has to do; used again from frame to frame.
#[derive(Debug, Default)]
pub struct Jobs {
    jobs: Vec<Job>,
    /// The first tile of each job.
    first_tiles: Vec<u32>,
    tiles: u32,
}

impl Jobs {
    pub fn clear(&mut self) {
        self.jobs.clear();
        self.first_tiles.clear();
        self.tiles = 0;
    }

    pub fn push(&mut self, cut: &Cut) -> Result<(), CropError> {
        let job = Job::new(cut)?;
        self.first_tiles.push(self.tiles);
        self.tiles += job.columns * job.target.height.div_ceil(TILE.1 as u32);
        self.jobs.push(job);
        Ok(())
    }

    /// Bytes of the table.
    pub fn size(&self) -> usize {
        size_of_val(&self.jobs[..]) + size_of::<u32>() * (self.first_tiles.len() + 1)
    }

    /// Writes the table as the kernel reads it.
    ///
    /// # Panics
    /// If the table is larger than `bytes`.
    pub fn write(&self, bytes: &mut [u8]) {
        let (jobs, tiles) = bytes[..self.size()].split_at_mut(size_of_val(&self.jobs[..]));
        // SAFETY: a job has no padding, and any value is one of bytes.
        jobs.copy_from_slice(unsafe {
            std::slice::from_raw_parts(self.jobs.as_ptr().cast(), size_of_val(&self.jobs[..]))
        });
        let numbers = self.first_tiles.iter().chain([&self.tiles]);
        for (bytes, number) in tiles.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *bytes = number.to_ne_bytes();
        }
    }

    /// The launch for a table that lies at an address, a multiple of 8.
    pub fn launch(&self, table: u64) -> Launch {
        Launch {
            jobs: table,
            first_tiles: table + size_of_val(&self.jobs[..]) as u64,
            count: self.jobs.len() as u32,
            tiles: self.tiles,
        }
    }
}

impl Job {
    fn new(cut: &Cut) -> Result<Self, CropError> {
        let Cut {
            source,
            rectangle,
            target,
            resize,
        } = cut;
        planes::check(source)?;
        planes::check(target)?;
        check_rectangle(source, *rectangle)?;
        let textures = match source.storage {
            DeviceStorage::Pitch => 0,
            DeviceStorage::Texture => flags::FROM_TEXTURES,
            DeviceStorage::BlockLinear => return Err(CropError::NoTexture),
        };
        if target.storage != DeviceStorage::Pitch {
            return Err(CropError::BlockLinear);
        }
        let size = (rectangle.width, rectangle.height);
        let same = (source.format, source.colorimetry, size)
            == (
                target.format,
                target.colorimetry,
                (target.width, target.height),
            );
        let from = (source.format, source.colorimetry);
        let to = (target.format, target.colorimetry);
        let finishes = color::finishes(from, to);
        let scale = finishes[0].scale;
        let matrix = finishes.map(|finish| finish.matrix);
        let shown = picture(*resize, size, target.format, (target.width, target.height));
        let pixels = [shown.x, shown.y, shown.width, shown.height];
        Ok(Self {
            source: Planes::of(source, size),
            target: Planes::of(target, (target.width, target.height)),
            flags: textures | if same { flags::COPY } else { 0 } | counting(target.format, &matrix),
            left: rectangle.x as u32,
            top: rectangle.y as u32,
            picture: pixels.map(|pixels| pixels as u32),
            columns: target.width.div_ceil(TILE.0) as u32,
            matrix,
            offset: finishes.map(|finish| finish.offset),
            scale,
            black: color::black(to).map(|black| black * scale),
        })
    }
}

impl Planes {
    fn of(frame: &DeviceFrame, (width, height): (usize, usize)) -> Self {
        let (layout, order) = planes::layout(frame.format);
        Self {
            planes: frame.planes.map(|plane| plane.pointer),
            pitches: frame.planes.map(|plane| plane.pitch as u32),
            layout,
            order,
            width: width as u32,
            height: height as u32,
        }
    }
}

fn check_rectangle(source: &DeviceFrame, rectangle: Rectangle) -> Result<(), CropError> {
    let (columns, rows) = source.format.subsampling();
    let fits = |start: usize, length: usize, step: usize, limit: usize| {
        let end = start.saturating_add(length);
        length > 0 && end <= limit && start.is_multiple_of(step)
    };
    match fits(rectangle.x, rectangle.width, columns, source.width)
        && fits(rectangle.y, rectangle.height, rows, source.height)
    {
        true => Ok(()),
        false => Err(CropError::Rectangle(rectangle)),
    }
}

/// Which components of the source the grids of the target take something of.
fn counting(target: PixelFormat, matrix: &[[f32; 3]; 3]) -> u32 {
    let chroma_components = if target.is_yuv() { 1..3 } else { 0..0 };
    let pixel_components = match target.is_yuv() || target == PixelFormat::Gray8 {
        true => 0..1,
        false => 0..3,
    };
    let count = |components: std::ops::Range<usize>, luma: u32, chroma: u32| {
        let rows = &matrix[components];
        let any =
            |counts: fn(&[f32; 3]) -> bool, flag| if rows.iter().any(counts) { flag } else { 0 };
        any(|row| row[0] != 0.0, luma) | any(|row| row[1] != 0.0 || row[2] != 0.0, chroma)
    };
    count(
        pixel_components,
        flags::LUMA_IN_PIXELS,
        flags::CHROMA_IN_PIXELS,
    ) | count(
        chroma_components,
        flags::LUMA_IN_CHROMA,
        flags::CHROMA_IN_CHROMA,
    )
}
