//! Thumbnails of frames in system memory, by the rules in [`super`].
//!
//! What lies below each other is added up first, row after row as it lies in memory, which the compiler turns into
//! vector instructions; only the sums of many rows are divided into cells.

use std::ops::Range;

use super::{Area, Levels, Span};
use crate::frame::Rectangle;
use crate::frame::{PixelFormat, SystemFrame};

/// Rows that are added up before they are divided into cells: as many as sums have room for (255 * 256 in 16 bits,
/// 255 * 255 * 256 * 256 in 32).
const ROWS_AT_ONCE: usize = 256;

/// Columns of levels that fit into 16 bits whose sum fits into 32.
const COLUMNS_AT_ONCE: usize = 1 << 16;

/// Makes one thumbnail after the other; keeps its memory.
#[derive(Clone, Debug, Default)]
pub struct Thumbnailer {
    narrow: Vec<u16>,
    wide: Vec<u32>,
    columns: Vec<Span>,
    cells: Vec<u64>,
}

impl Thumbnailer {
    /// Appends the thumbnails of areas of a frame, each `side` x `side` bytes.
    ///
    /// # Panics
    /// If an area is empty or does not lie within the frame, or if `side` is 0.
    pub fn append(
        &mut self,
        frame: &SystemFrame<'_>,
        areas: &[Area],
        side: usize,
        thumbnails: &mut Vec<u8>,
    ) {
        for area in areas {
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2.
                unsafe { self.append_with_avx2(frame, area.pixels, side, thumbnails) };
                continue;
            }
            self.append_one(frame, area.pixels, side, thumbnails);
        }
    }

    /// The same, compiled for vectors of 256 bits.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn append_with_avx2(
        &mut self,
        frame: &SystemFrame<'_>,
        pixels: Rectangle,
        side: usize,
        thumbnails: &mut Vec<u8>,
    ) {
        self.append_one(frame, pixels, side, thumbnails);
    }

    #[inline(always)]
    fn append_one(
        &mut self,
        frame: &SystemFrame<'_>,
        pixels: Rectangle,
        side: usize,
        thumbnails: &mut Vec<u8>,
    ) {
        let Self {
            narrow,
            wide,
            columns,
            cells,
        } = self;
        columns.clear();
        columns.extend((0..side).map(|x| Span::new(x, side, pixels.width)));
        cells.resize(side, 0);
        let levels = Levels::new(frame.format, frame.colorimetry);
        let mut picture = Picture {
            frame,
            pixels,
            levels,
            columns,
            cells,
            thumbnails,
        };
        match levels {
            Levels::Luma { black, span } => {
                let luma = Luma {
                    black: black as u16,
                    span: span as u16,
                };
                match frame.format {
                    PixelFormat::P010 => picture.append(wide, &TenBits(luma)),
                    PixelFormat::Yuy2 => picture.append(narrow, &Bytes::<2, 0>(luma)),
                    PixelFormat::Uyvy => picture.append(narrow, &Bytes::<2, 1>(luma)),
                    _ => picture.append(narrow, &Bytes::<1, 0>(luma)),
                }
            }
            Levels::Weighted { weights, .. } => {
                let [red, green, blue] = weights;
                match frame.format {
                    PixelFormat::Rgb => picture.append(narrow, &Colors([red, green, blue])),
                    PixelFormat::Bgr => picture.append(narrow, &Colors([blue, green, red])),
                    PixelFormat::Rgbx => picture.append(narrow, &Colors([red, green, blue, 0])),
                    PixelFormat::Bgrx => picture.append(narrow, &Colors([blue, green, red, 0])),
                    PixelFormat::Xrgb => picture.append(narrow, &Colors([0, red, green, blue])),
                    PixelFormat::Rgba => {
                        picture.append(wide, &OverBlack::<3>([red, green, blue, 0]));
                    }
                    PixelFormat::Bgra => {
                        picture.append(wide, &OverBlack::<3>([blue, green, red, 0]));
                    }
                    _ => picture.append(wide, &OverBlack::<0>([0, red, green, blue])),
                }
            }
        }
    }
}

/// How rows of pixels are added up.
trait Adding {
    /// Bytes of a pixel in the first plane.
    const BYTES: usize;
    /// Sums of a pixel's column.
    const SUMS: usize;
    type Sum: Copy + Default;

    fn add_row(&self, row: &[u8], sums: &mut [Self::Sum]);

    /// The sum of the levels of columns beside each other.
    fn total(&self, sums: &[Self::Sum]) -> u64;
}

/// How luma samples become levels.
#[derive(Clone, Copy)]
struct Luma {
    black: u16,
    span: u16,
}

/// Luma of 8 bits at byte `AT` of each pixel's.
struct Bytes<const BYTES: usize, const AT: usize>(Luma);

impl<const BYTES: usize, const AT: usize> Adding for Bytes<BYTES, AT> {
    const BYTES: usize = BYTES;
    const SUMS: usize = 1;
    type Sum = u16;

    #[inline(always)]
    fn add_row(&self, row: &[u8], sums: &mut [u16]) {
        // In bytes, more fit into a vector.
        let (black, span) = (self.0.black as u8, self.0.span as u8);
        for (sum, pixel) in sums.iter_mut().zip(row.as_chunks::<BYTES>().0) {
            *sum += u16::from(pixel[AT].saturating_sub(black).min(span));
        }
    }

    #[inline(always)]
    fn total(&self, sums: &[u16]) -> u64 {
        let some = sums.chunks(COLUMNS_AT_ONCE);
        some.map(|sums| u64::from(sums.iter().map(|sum| u32::from(*sum)).sum::<u32>()))
            .sum()
    }
}

/// Luma of 10 bits in the upper part of 16.
struct TenBits(Luma);

impl Adding for TenBits {
    const BYTES: usize = 2;
    const SUMS: usize = 1;
    type Sum = u32;

    #[inline(always)]
    fn add_row(&self, row: &[u8], sums: &mut [u32]) {
        let Luma { black, span } = self.0;
        for (sum, pixel) in sums.iter_mut().zip(row.as_chunks().0) {
            let sample = u16::from_le_bytes(*pixel) >> 6;
            *sum += u32::from(sample.saturating_sub(black).min(span));
        }
    }

    #[inline(always)]
    fn total(&self, sums: &[u32]) -> u64 {
        sums.iter().map(|sum| u64::from(*sum)).sum()
    }
}

/// Each byte of a pixel has its weight. They are added up apart and weighed in the end: that gives the same sum.
struct Colors<const BYTES: usize>([u32; BYTES]);

impl<const BYTES: usize> Adding for Colors<BYTES> {
    const BYTES: usize = BYTES;
    const SUMS: usize = BYTES;
    type Sum = u16;

    #[inline(always)]
    fn add_row(&self, row: &[u8], sums: &mut [u16]) {
        for (sum, byte) in sums.iter_mut().zip(row) {
            *sum += u16::from(*byte);
        }
    }

    #[inline(always)]
    fn total(&self, sums: &[u16]) -> u64 {
        let some = sums.as_chunks::<BYTES>().0.chunks(COLUMNS_AT_ONCE);
        some.map(|columns| {
            let mut bytes = [0u32; BYTES];
            for column in columns {
                for (byte, sum) in bytes.iter_mut().zip(column) {
                    *byte += u32::from(*sum);
                }
            }
            let weighed = bytes.into_iter().zip(self.0);
            weighed
                .map(|(sum, weight)| u64::from(sum) * u64::from(weight))
                .sum::<u64>()
        })
        .sum()
    }
}

/// The bytes of a pixel have weights, whose sum is multiplied with the byte `ALPHA`.
struct OverBlack<const ALPHA: usize>([u32; 4]);

impl<const ALPHA: usize> Adding for OverBlack<ALPHA> {
    const BYTES: usize = 4;
    const SUMS: usize = 1;
    type Sum = u32;

    #[inline(always)]
    fn add_row(&self, row: &[u8], sums: &mut [u32]) {
        for (sum, pixel) in sums.iter_mut().zip(row.as_chunks().0) {
            let quad = u32::from_le_bytes(*pixel);
            let [a, b, c, d] = [quad, quad >> 8, quad >> 16, quad >> 24].map(|byte| byte & 255);
            let grey = a * self.0[0] + b * self.0[1] + c * self.0[2] + d * self.0[3];
            *sum += grey * [a, b, c, d][ALPHA];
        }
    }

    #[inline(always)]
    fn total(&self, sums: &[u32]) -> u64 {
        sums.iter().map(|sum| u64::from(*sum)).sum()
    }
}

/// A part of a frame on its way to a thumbnail.
struct Picture<'a> {
    frame: &'a SystemFrame<'a>,
    pixels: Rectangle,
    levels: Levels,
    /// The pixels of a row that each cell of a row covers.
    columns: &'a [Span],
    /// The sums of a row of cells.
    cells: &'a mut [u64],
    thumbnails: &'a mut Vec<u8>,
}

impl Picture<'_> {
    #[inline(always)]
    fn append<A: Adding>(&mut self, sums: &mut Vec<A::Sum>, adding: &A) {
        let Rectangle { width, height, .. } = self.pixels;
        let side = self.columns.len();
        sums.resize(width * A::SUMS, A::Sum::default());
        let area = (width * height) as u64;
        for y in 0..side {
            let rows = Span::new(y, side, height);
            self.cells.fill(0);
            // Rows that are covered wholly are added up together.
            let whole = side as u64;
            let begin = rows.first + usize::from(rows.lead < whole);
            let end = rows.last + usize::from(rows.trail == whole || rows.first == rows.last);
            self.add_rows(rows.first..begin, rows.lead, sums, adding);
            self.add_rows(begin..end, whole, sums, adding);
            self.add_rows(end.max(begin)..rows.last + 1, rows.trail, sums, adding);
            let bytes = self.cells.iter().map(|sum| self.levels.byte(*sum, area));
            self.thumbnails.extend(bytes);
        }
    }

    /// Adds rows, of each of which so much is covered, to the row of cells.
    #[inline(always)]
    fn add_rows<A: Adding>(
        &mut self,
        mut rows: Range<usize>,
        covered: u64,
        sums: &mut [A::Sum],
        adding: &A,
    ) {
        let plane = &self.frame.planes[0];
        let first = self.pixels.x * A::BYTES;
        while !rows.is_empty() {
            let next = rows.end.min(rows.start + ROWS_AT_ONCE);
            sums.fill(A::Sum::default());
            for row in rows.start..next {
                let row = &plane.data[(self.pixels.y + row) * plane.stride..];
                adding.add_row(&row[first..][..self.pixels.width * A::BYTES], sums);
            }
            rows.start = next;
            self.divide(covered, sums, adding);
        }
    }

    #[inline(always)]
    fn divide<A: Adding>(&mut self, covered: u64, sums: &[A::Sum], adding: &A) {
        let side = self.columns.len() as u64;
        let total = |columns: Range<usize>| {
            adding.total(&sums[columns.start * A::SUMS..columns.end * A::SUMS])
        };
        for (cell, span) in self.cells.iter_mut().zip(self.columns) {
            let Span {
                first,
                last,
                lead,
                trail,
            } = *span;
            let mut row = total(first..first + 1) * lead;
            if last > first {
                row += total(first + 1..last) * side + total(last..last + 1) * trail;
            }
            *cell += row * covered;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Colorimetry;
    use crate::frame::system::Plane;

    #[test]
    fn every_processor_gives_the_same_bytes() {
        let (width, height) = (302, 613);
        let data: Vec<u8> = (0..4 * width * height)
            .map(|i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        for format in [
            PixelFormat::Nv12,
            PixelFormat::P010,
            PixelFormat::Uyvy,
            PixelFormat::Bgr,
            PixelFormat::Xrgb,
            PixelFormat::Rgba,
        ] {
            let (stride, _) = format.plane_size(0, width, height);
            let planes = [Plane {
                data: &data,
                stride,
            }; 3];
            let frame =
                SystemFrame::new(format, Colorimetry::default(), width, height, planes).unwrap();
            for side in [1, 16, 64] {
                let area = Area::whole(0, width, height);
                let (mut fastest, mut portable) = (Vec::new(), Vec::new());
                let mut thumbnailer = Thumbnailer::default();
                thumbnailer.append(&frame, &[area], side, &mut fastest);
                thumbnailer.append_one(&frame, area.pixels, side, &mut portable);
                assert_eq!(fastest, portable, "{format:?} {side}");
                assert_eq!(fastest.len(), side * side);
            }
        }
    }
}
