//! Where the samples of each pixel format lie.

use crate::frame::PixelFormat;

/// The bits of a sample that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    Eight,
    /// In the upper part of a word of 16.
    Ten,
}

impl Depth {
    /// How many bits a sum of samples loses between columns, so that 16 remain at most: its samples are weighted with
    /// 11 bits.
    pub const fn horizontal_shift(self) -> u32 {
        match self {
            Self::Eight => 4,
            Self::Ten => 5,
        }
    }

    /// How many bits the upper half of such a sum, weighted with 11 bits again, has more than a sample.
    pub const fn vertical_shift(self) -> u32 {
        match self {
            Self::Eight => 2,
            Self::Ten => 1,
        }
    }
}

/// Samples that share one grid of positions: luma, chroma, or all three colours of an RGB pixel.
///
/// The samples of a position are bits of the little-endian 32-bit word that begins at its first byte.
#[derive(Debug)]
pub struct Grid {
    pub plane: usize,
    /// Bytes from a position to its right neighbour.
    pub step: u32,
    /// The bits of a sample, once shifted down.
    pub mask: u32,
    /// Half as many positions as pixels, rounded up, horizontally and vertically.
    pub half_width: bool,
    pub half_height: bool,
    /// Where the sample of each component begins in the word, in bits; none for those of other grids.
    /// Components are the columns of the colour transform: Y, U, V or R, G, B.
    pub shifts: [Option<u32>; 3],
}

impl Grid {
    /// The components of this grid, each with its shift.
    pub fn components(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        let present = |(component, shift): (usize, &Option<u32>)| Some((component, (*shift)?));
        self.shifts.iter().enumerate().filter_map(present)
    }

    pub fn depth(&self) -> Depth {
        match self.mask {
            UPPER_TEN => Depth::Ten,
            _ => Depth::Eight,
        }
    }

    /// The bytes of a sample.
    pub fn sample_bytes(&self) -> usize {
        self.mask.ilog2() as usize / 8 + 1
    }

    /// Stored samples, of any component, from a position to its right neighbour.
    pub fn samples_of_step(&self) -> usize {
        self.step as usize / self.sample_bytes()
    }

    /// Columns and rows of positions in a frame of this size.
    pub fn size(&self, frame_width: usize, frame_height: usize) -> (usize, usize) {
        let halved = |size: usize, half: bool| if half { size.div_ceil(2) } else { size };
        (
            halved(frame_width, self.half_width),
            halved(frame_height, self.half_height),
        )
    }

    /// The column of the grid at a column of pixels: chroma lies on every second pixel.
    pub fn column(&self, pixel: f64) -> f64 {
        if self.half_width { pixel / 2.0 } else { pixel }
    }

    /// The row of the grid at a row of pixels: chroma lies between every two rows.
    pub fn row(&self, pixel: f64) -> f64 {
        if self.half_height {
            (pixel - 0.5) / 2.0
        } else {
            pixel
        }
    }
}

const BYTE: u32 = 0xff;
/// The upper ten bits of a 16-bit sample.
const UPPER_TEN: u32 = 0xffc0;

const fn full(step: u32, mask: u32, shifts: [Option<u32>; 3]) -> Grid {
    Grid {
        plane: 0,
        step,
        mask,
        half_width: false,
        half_height: false,
        shifts,
    }
}

const fn chroma(plane: usize, step: u32, mask: u32, shifts: [Option<u32>; 3]) -> Grid {
    Grid {
        plane,
        half_width: true,
        half_height: true,
        ..full(step, mask, shifts)
    }
}

const fn packed_chroma(shifts: [Option<u32>; 3]) -> Grid {
    Grid {
        half_width: true,
        ..full(4, BYTE, shifts)
    }
}

const LUMA: Grid = full(1, BYTE, [Some(0), None, None]);

/// The grids that make up a format; together they give each component at most once.
pub fn grids(format: PixelFormat) -> &'static [Grid] {
    match format {
        PixelFormat::Gray8 => &[LUMA],
        PixelFormat::Nv12 => const { &[LUMA, chroma(1, 2, BYTE, [None, Some(0), Some(8)])] },
        PixelFormat::Nv21 => const { &[LUMA, chroma(1, 2, BYTE, [None, Some(8), Some(0)])] },
        PixelFormat::I420 => {
            const {
                &[
                    LUMA,
                    chroma(1, 1, BYTE, [None, Some(0), None]),
                    chroma(2, 1, BYTE, [None, None, Some(0)]),
                ]
            }
        }
        PixelFormat::P010 => {
            const {
                &[
                    full(2, UPPER_TEN, [Some(0), None, None]),
                    chroma(1, 4, UPPER_TEN, [None, Some(0), Some(16)]),
                ]
            }
        }
        PixelFormat::Yuy2 => {
            const {
                &[
                    full(2, BYTE, [Some(0), None, None]),
                    packed_chroma([None, Some(8), Some(24)]),
                ]
            }
        }
        PixelFormat::Uyvy => {
            const {
                &[
                    full(2, BYTE, [Some(8), None, None]),
                    packed_chroma([None, Some(0), Some(16)]),
                ]
            }
        }
        PixelFormat::Rgb => const { &[full(3, BYTE, [Some(0), Some(8), Some(16)])] },
        PixelFormat::Bgr => const { &[full(3, BYTE, [Some(16), Some(8), Some(0)])] },
        PixelFormat::Rgba | PixelFormat::Rgbx => {
            const { &[full(4, BYTE, [Some(0), Some(8), Some(16)])] }
        }
        PixelFormat::Bgra | PixelFormat::Bgrx => {
            const { &[full(4, BYTE, [Some(16), Some(8), Some(0)])] }
        }
        PixelFormat::Argb | PixelFormat::Xrgb => {
            const { &[full(4, BYTE, [Some(8), Some(16), Some(24)])] }
        }
    }
}
