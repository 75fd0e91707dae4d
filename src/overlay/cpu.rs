//! Renders shapes into frames in system memory, by the rules in [`super`].

use std::ops::Range;
use std::{iter, slice};

use super::color::{Channel, Color};
use super::layout::{Picture, Shape};
use super::text::Font;
use crate::frame::system::PlaneMut;
use crate::frame::{PixelFormat, SystemFrameMut};

use Channel::{Alpha, Blue, Cb, Cr, Green, Luma, Red};

/// Draws a picture into a frame. `coverage` is working memory to keep for the next frame.
pub fn render(picture: &Picture, frame: &mut SystemFrameMut<'_>, coverage: &mut Vec<u8>) {
    let format = frame.format;
    let mut on = Renderer {
        picture,
        frame,
        coverage,
    };
    match format {
        PixelFormat::Nv12 => {
            on.draw::<u8, 1>(0, [Some(Luma)], (0, 0));
            on.draw::<u8, 2>(1, [Some(Cb), Some(Cr)], (1, 1));
        }
        PixelFormat::Nv21 => {
            on.draw::<u8, 1>(0, [Some(Luma)], (0, 0));
            on.draw::<u8, 2>(1, [Some(Cr), Some(Cb)], (1, 1));
        }
        PixelFormat::I420 => {
            on.draw::<u8, 1>(0, [Some(Luma)], (0, 0));
            on.draw::<u8, 1>(1, [Some(Cb)], (1, 1));
            on.draw::<u8, 1>(2, [Some(Cr)], (1, 1));
        }
        PixelFormat::P010 => {
            on.draw::<UpperTenBits, 1>(0, [Some(Luma)], (0, 0));
            on.draw::<UpperTenBits, 2>(1, [Some(Cb), Some(Cr)], (1, 1));
        }
        PixelFormat::Yuy2 => {
            on.draw::<u8, 2>(0, [Some(Luma), None], (0, 0));
            on.draw::<u8, 4>(0, [None, Some(Cb), None, Some(Cr)], (1, 0));
        }
        PixelFormat::Uyvy => {
            on.draw::<u8, 2>(0, [None, Some(Luma)], (0, 0));
            on.draw::<u8, 4>(0, [Some(Cb), None, Some(Cr), None], (1, 0));
        }
        PixelFormat::Rgb => on.draw::<u8, 3>(0, [Red, Green, Blue].map(Some), (0, 0)),
        PixelFormat::Bgr => on.draw::<u8, 3>(0, [Blue, Green, Red].map(Some), (0, 0)),
        PixelFormat::Rgba => on.draw::<u8, 4>(0, [Red, Green, Blue, Alpha].map(Some), (0, 0)),
        PixelFormat::Bgra => on.draw::<u8, 4>(0, [Blue, Green, Red, Alpha].map(Some), (0, 0)),
        PixelFormat::Argb => on.draw::<u8, 4>(0, [Alpha, Red, Green, Blue].map(Some), (0, 0)),
        PixelFormat::Rgbx => {
            on.draw::<u8, 4>(0, [Some(Red), Some(Green), Some(Blue), None], (0, 0));
        }
        PixelFormat::Bgrx => {
            on.draw::<u8, 4>(0, [Some(Blue), Some(Green), Some(Red), None], (0, 0));
        }
        PixelFormat::Xrgb => {
            on.draw::<u8, 4>(0, [None, Some(Red), Some(Green), Some(Blue)], (0, 0));
        }
        PixelFormat::Gray8 => on.draw::<u8, 1>(0, [Some(Luma)], (0, 0)),
    }
}

/// A channel's value as it is stored.
trait Stored: Copy + Default + 'static {
    const BITS: u32;
    fn new(value: u32) -> Self;
    /// This value under another of this opacity, 0 to 255.
    fn under(self, other: Self, opacity: u8) -> Self;
    /// Bytes as a row of values; what is left over at its end is left out.
    fn row(bytes: &mut [u8]) -> &mut [Self];
}

impl Stored for u8 {
    const BITS: u32 = 8;

    fn new(value: u32) -> Self {
        value as u8
    }

    // In 16 bits, which hold 255 * 255 + 127, as twice as many fit in a vector.
    fn under(self, other: Self, opacity: u8) -> Self {
        let old = u16::from(self) * u16::from(255 - opacity);
        ((old + u16::from(other) * u16::from(opacity) + 127) / 255) as u8
    }

    fn row(bytes: &mut [u8]) -> &mut [Self] {
        bytes
    }
}

/// 16 bits, little-endian, the value in the upper 10.
type UpperTenBits = [u8; 2];

impl Stored for UpperTenBits {
    const BITS: u32 = 10;

    fn new(value: u32) -> Self {
        ((value as u16) << 6).to_le_bytes()
    }

    fn under(self, other: Self, opacity: u8) -> Self {
        let value = |stored| u32::from(u16::from_le_bytes(stored) >> 6);
        let old = value(self) * u32::from(255 - opacity);
        Self::new((old + value(other) * u32::from(opacity) + 127) / 255)
    }

    fn row(bytes: &mut [u8]) -> &mut [Self] {
        bytes.as_chunks_mut().0
    }
}

struct Renderer<'r, 'data> {
    picture: &'r Picture,
    frame: &'r mut SystemFrameMut<'data>,
    coverage: &'r mut Vec<u8>,
}

impl Renderer<'_, '_> {
    /// Draws the samples of a plane: `N` values of type `S` each, of these channels, `None` for a value to leave
    /// alone. The coordinates of a pixel, shifted right by `shift`, are those of its sample.
    fn draw<S: Stored, const N: usize>(
        &mut self,
        plane: usize,
        channels: [Option<Channel>; N],
        shift: (usize, usize),
    ) {
        let colorimetry = self.frame.colorimetry;
        let ink = |color: Color| Ink {
            values: channels.map(|channel| {
                let value = color.sample(channel?, colorimetry, S::BITS);
                Some(S::new(value))
            }),
            alpha: color.alpha,
        };
        let mut samples = Samples {
            plane: &mut self.frame.planes[plane],
            shift_x: shift.0,
            shift_y: shift.1,
            width: self.frame.width,
            height: self.frame.height,
        };
        for shape in &self.picture.shapes {
            match *shape {
                Shape::Fill {
                    left,
                    top,
                    width,
                    height,
                    color,
                } => {
                    let columns = clipped(left.into(), width.into(), samples.width);
                    let rows = clipped(top.into(), height.into(), samples.height);
                    samples.fill::<S, N>(columns, rows, &ink(color));
                }
                Shape::Glyphs {
                    left,
                    top,
                    font,
                    scale,
                    ref text,
                    color,
                } => {
                    let line = GlyphLine {
                        columns: clipped_text(left, text.len(), font.width, scale, samples.width),
                        rows: clipped_text(top, 1, font.height, scale, samples.height),
                        left: left.into(),
                        top,
                        font,
                        scale,
                        text: &self.picture.text[text.clone()],
                    };
                    let ink = ink(color);
                    match shift {
                        (0, 0) => samples.draw_glyphs::<S, N>(&line, &ink),
                        _ => line.glyphs(samples.width).for_each(|glyph| {
                            samples.draw_glyph_shared::<S, N>(&glyph, &ink, self.coverage);
                        }),
                    }
                }
            }
        }
    }
}

/// The part of `start..start + length` within `0..limit`.
fn clipped(start: i64, length: u64, limit: usize) -> Range<usize> {
    let end = start.saturating_add_unsigned(length);
    let within = |at: i64| usize::try_from(at).unwrap_or(0).min(limit);
    within(start)..within(end)
}

/// The part within `0..limit` of so many enlarged glyph cells from `start` on.
fn clipped_text(start: i32, cells: usize, cell: u32, scale: u32, limit: usize) -> Range<usize> {
    let enlarged = u64::from(cell) * u64::from(scale);
    clipped(start.into(), enlarged.saturating_mul(cells as u64), limit)
}

/// The values of a shape's colour in a sample, and how much of it is drawn, 0 to 255.
struct Ink<S, const N: usize> {
    values: [Option<S>; N],
    alpha: u8,
}

/// Text to draw.
struct GlyphLine<'a> {
    /// The pixels of the frame that its cells cover.
    columns: Range<usize>,
    rows: Range<usize>,
    left: i64,
    top: i32,
    font: &'a Font,
    scale: u32,
    text: &'a [u8],
}

impl<'a> GlyphLine<'a> {
    /// The glyphs that begin left of `frame_width`, each as a line of its own.
    fn glyphs(&self, frame_width: usize) -> impl Iterator<Item = GlyphLine<'a>> {
        let Self {
            ref rows,
            left,
            top,
            font,
            scale,
            text,
            ..
        } = *self;
        let rows = rows.clone();
        let advance = u64::from(font.width) * u64::from(scale);
        let lefts =
            std::iter::successors(Some(left), move |left| left.checked_add_unsigned(advance));
        lefts
            .zip(text)
            .take_while(move |(left, _)| *left < frame_width as i64)
            .map(move |(left, code)| GlyphLine {
                columns: clipped(left, advance, frame_width),
                rows: rows.clone(),
                left,
                top,
                font,
                scale,
                text: slice::from_ref(code),
            })
    }

    /// Calls `visit` with every run of covered pixels in one of [`GlyphLine::rows`], within
    /// [`GlyphLine::columns`].
    fn runs(&self, y: usize, mut visit: impl FnMut(Range<usize>)) {
        let scale = i64::from(self.scale);
        let font_row = ((y as i64 - i64::from(self.top)) / scale) as u32;
        let advance = i64::from(self.font.width) * scale;
        let within = |x: i64| {
            let x = usize::try_from(x).unwrap_or(0);
            x.clamp(self.columns.start, self.columns.end)
        };
        let mut glyph_left = self.left;
        for &code in self.text {
            let mut bits = u32::from(self.font.row(code, font_row));
            let mut x = glyph_left;
            while bits != 0 {
                let gap = bits.trailing_zeros();
                let run = (bits >> gap).trailing_ones();
                let start = x + i64::from(gap) * scale;
                x = start + i64::from(run) * scale;
                visit(within(start)..within(x));
                bits >>= gap + run;
            }
            glyph_left += advance;
        }
    }
}

/// The samples in a plane of a frame of `width` by `height` pixels.
struct Samples<'a, 'data> {
    plane: &'a mut PlaneMut<'data>,
    shift_x: usize,
    shift_y: usize,
    width: usize,
    height: usize,
}

impl Samples<'_, '_> {
    /// Fills the pixels `columns` of `rows`, both within the frame.
    fn fill<S: Stored, const N: usize>(
        &mut self,
        columns: Range<usize>,
        rows: Range<usize>,
        ink: &Ink<S, N>,
    ) {
        for row_band in bands(rows, self.shift_y, self.height) {
            for band in bands(columns.clone(), self.shift_x, self.width) {
                let covered = row_band.covered * band.covered;
                let pixels = row_band.pixels * band.pixels;
                let block = self.rows::<S, N>(row_band.samples.clone(), band.samples);
                blend(block, ink, covered, pixels);
            }
        }
    }

    /// Draws glyphs on samples that stand for one pixel each.
    fn draw_glyphs<S: Stored, const N: usize>(&mut self, line: &GlyphLine<'_>, ink: &Ink<S, N>) {
        let first = line.columns.start;
        for (y, row) in line
            .rows
            .clone()
            .zip(self.rows::<S, N>(line.rows.clone(), line.columns.clone()))
        {
            line.runs(y, |run| {
                let samples = row.get_mut(run.start - first..run.end - first);
                blend(samples.into_iter(), ink, 1, 1);
            });
        }
    }

    /// Draws a glyph on samples that stand for several pixels.
    fn draw_glyph_shared<S: Stored, const N: usize>(
        &mut self,
        glyph: &GlyphLine<'_>,
        ink: &Ink<S, N>,
        coverage: &mut Vec<u8>,
    ) {
        let (shift_x, shift_y) = (self.shift_x, self.shift_y);
        let (frame_columns, frame_rows) = (0..self.width, 0..self.height);
        let columns = shared_samples(&glyph.columns, shift_x);
        let rows = shared_samples(&glyph.rows, shift_y);
        for (y, row) in rows.clone().zip(self.rows::<S, N>(rows, columns.clone())) {
            coverage.clear();
            coverage.resize(columns.len(), 0);
            for pixel_y in shared_range(y, shift_y, &glyph.rows) {
                glyph.runs(pixel_y, |run| {
                    for x in run {
                        coverage[(x >> shift_x) - columns.start] += 1;
                    }
                });
            }
            let pixel_rows = shared_range(y, shift_y, &frame_rows).len();
            for ((x, sample), &covered) in columns.clone().zip(row).zip(coverage.iter()) {
                if covered > 0 {
                    let pixels = pixel_rows * shared_range(x, shift_x, &frame_columns).len();
                    let block = iter::once(slice::from_mut(sample));
                    blend(block, ink, covered.into(), pixels);
                }
            }
        }
    }

    /// The rows of a block of samples.
    fn rows<S: Stored, const N: usize>(
        &mut self,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> impl Iterator<Item = &mut [[S; N]]> {
        let size = N * size_of::<S>();
        let first = rows.start * self.plane.stride + columns.start * size;
        self.plane
            .data
            .get_mut(first..)
            .unwrap_or_default()
            .chunks_mut(self.plane.stride.max(1))
            .take(rows.len())
            .filter_map(move |row| row.get_mut(..columns.len() * size))
            .map(|bytes| S::row(bytes).as_chunks_mut().0)
    }
}

/// Draws samples with `covered` of their `pixels` pixels covered, each.
fn blend<'a, S: Stored, const N: usize>(
    block: impl Iterator<Item = &'a mut [[S; N]]>,
    ink: &Ink<S, N>,
    covered: usize,
    pixels: usize,
) {
    let opacity = ((usize::from(ink.alpha) * covered + pixels / 2) / pixels) as u8;
    if opacity == 255 && ink.values.iter().all(Option::is_some) {
        let values = ink.values.map(Option::unwrap_or_default);
        block.for_each(|row| row.fill(values));
    } else if opacity > 0 {
        // A value to leave alone is blended like the others, with nothing: that needs no branch.
        let values = ink.values.map(|value| match value {
            Some(value) => (value, opacity),
            None => (S::default(), 0),
        });
        for row in block {
            for sample in row {
                for (stored, (value, opacity)) in sample.iter_mut().zip(values) {
                    *stored = stored.under(value, opacity);
                }
            }
        }
    }
}

/// Neighbouring samples, along one axis, that have the same share of their pixels covered.
struct Band {
    samples: Range<usize>,
    covered: usize,
    pixels: usize,
}

/// The samples that stand for a range of pixels within `0..limit`. Only the first and the last of them may be
/// covered in part, so these are bands of their own.
fn bands(pixels: Range<usize>, shift: usize, limit: usize) -> impl Iterator<Item = Band> {
    let Range { start, end } = shared_samples(&pixels, shift);
    let (second, last) = match shift {
        0 => (start, end),
        _ => (
            (start + 1).min(end),
            end.saturating_sub(1).max(start + 1).min(end),
        ),
    };
    [start..second, second..last, last..end]
        .into_iter()
        .filter(|samples| !samples.is_empty())
        .map(move |samples| Band {
            covered: shared_range(samples.start, shift, &pixels).len(),
            pixels: shared_range(samples.start, shift, &(0..limit)).len(),
            samples,
        })
}

/// The samples that stand for a range of pixels, along one axis.
fn shared_samples(pixels: &Range<usize>, shift: usize) -> Range<usize> {
    match pixels.is_empty() {
        true => 0..0,
        false => pixels.start >> shift..((pixels.end - 1) >> shift) + 1,
    }
}

/// The part of a range of pixels that shares a sample, along one axis.
fn shared_range(sample: usize, shift: usize, pixels: &Range<usize>) -> Range<usize> {
    let start = pixels.start.max(sample << shift);
    start..pixels.end.min((sample + 1) << shift).max(start)
}
