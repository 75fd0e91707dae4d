//! The inner loops, compiled for the baseline instruction set and for AVX2. Both give equal numbers.
//!
//! Each loop is one pass over plain slices with one output, which is what compilers turn into vector
//! instructions. The rows they share are short enough to stay in the first-level cache.

use super::TensorElement;
use super::area::{Rows, Span};
#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::grid::Grid;
use super::taps::Taps;

/// Pixels that are finished by channel before they are interleaved.
const SEGMENT: usize = 256;

/// Rows as wide as the output, reused for every row.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Words read from a source row, at the left and right sample of each output pixel.
    words: [Vec<u32>; 2],
    /// The components of an output row.
    samples: [Vec<f32>; 3],
}

impl Scratch {
    pub fn new(width: usize) -> Self {
        let row = |_| vec![0.0; width];
        Self {
            words: [vec![0; width], vec![0; width]],
            samples: [0, 1, 2].map(row),
        }
    }

    /// Has room for rows of this width.
    pub fn fit(&mut self, width: usize) {
        self.words.iter_mut().for_each(|row| row.resize(width, 0));
        self.samples
            .iter_mut()
            .for_each(|row| row.resize(width, 0.0));
    }
}

/// One component at the output's columns, in the source rows above and below an output row.
#[derive(Clone, Copy)]
pub struct RowPair<'a> {
    pub upper: &'a [f32],
    pub lower: &'a [f32],
    /// Weight of the lower row, 0 to 1.
    pub weight: f32,
}

/// From samples to the values of one of the tensor's channels:
/// `(clamp(matrix · samples + offset, 0, 255) - mean) * scale`.
#[derive(Clone, Copy, Debug)]
pub struct Finish {
    pub matrix: [f32; 3],
    pub offset: f32,
    pub mean: f32,
    pub scale: f32,
}

/// Where a finished row goes.
pub enum Target<'a, T> {
    Planar([&'a mut [T]; 3]),
    Interleaved(&'a mut [[T; 3]]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Detected),
}

impl InstructionSet {
    /// The best that this machine has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(detected) = avx2::Detected::new() {
            return Self::Avx2(detected);
        }
        Self::Baseline
    }

    /// Interpolates each component of a grid's row to the output's columns; `out` has them one after another.
    pub fn sample_row(
        self,
        grid: &Grid,
        row: &[u8],
        taps: &Taps,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let portable = |row: &[u8], taps: &Taps, step, words: [&mut [u32]; 2]| {
            gather(row, &taps.offsets, step, words);
        };
        match self {
            Self::Baseline => sample_row(portable, grid, row, taps, scratch, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(detected) => detected.sample_row(grid, row, taps, scratch, out),
        }
    }

    /// Sums up the rows and then the columns of a grid by their weights. `workspace` has room for all
    /// samples of a source row and of an output row; `out` has the grid's components one after another.
    pub fn sample_area(
        self,
        grid: &Grid,
        rows: Rows<'_>,
        columns: &[Span],
        workspace: [&mut [f32]; 2],
        out: &mut [f32],
    ) {
        match self {
            Self::Baseline => sample_area(grid, rows, columns, workspace, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(detected) => detected.sample_area(grid, rows, columns, workspace, out),
        }
    }

    /// A component between its two rows; `out` is where it goes if it must be computed.
    pub fn mix<'a>(self, pair: RowPair<'a>, out: &'a mut [f32]) -> &'a [f32] {
        match self {
            Self::Baseline => mix(pair, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(detected) => detected.mix(pair, out),
        }
    }

    /// Finishes one channel of an output row.
    pub fn finish_channel<T: TensorElement>(
        self,
        samples: [&[f32]; 3],
        finish: &Finish,
        out: &mut [T],
    ) {
        match self {
            Self::Baseline => finish_channel(samples, finish, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(detected) => detected.finish_channel(samples, finish, out),
        }
    }

    /// Interpolates between rows and finishes the output row.
    pub fn finish_row<T: TensorElement>(
        self,
        components: [RowPair<'_>; 3],
        finish: &[Finish; 3],
        scratch: &mut Scratch,
        target: Target<'_, T>,
    ) {
        match self {
            Self::Baseline => finish_row(components, finish, scratch, target),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(detected) => detected.finish_row(components, finish, scratch, target),
        }
    }
}

/// The little-endian word at a place in a row; bytes beyond its end are zero.
#[inline(always)]
fn word_at(row: &[u8], offset: usize) -> u32 {
    match row.get(offset..offset + size_of::<u32>()) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        _ => partial_word_at(row, offset),
    }
}

#[cold]
fn partial_word_at(row: &[u8], offset: usize) -> u32 {
    let bytes = row.iter().skip(offset).rev();
    bytes.fold(0, |word, &byte| word << 8 | u32::from(byte))
}

/// Reads the words at the offsets into the first row and, where a step is given, those so many bytes later
/// into the second.
#[inline(always)]
pub fn gather(row: &[u8], offsets: &[u32], step: Option<u32>, [left, right]: [&mut [u32]; 2]) {
    let Some(step) = step else {
        for (offset, word) in offsets.iter().zip(left) {
            *word = word_at(row, *offset as usize);
        }
        return;
    };
    for ((offset, left), right) in offsets.iter().zip(left).zip(right) {
        let offset = *offset as usize;
        match row.get(offset..offset + size_of::<u64>()) {
            Some(&[a, b, c, d, e, f, g, h]) => {
                let both = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
                *left = both as u32;
                *right = (both >> (8 * step)) as u32;
            }
            _ => {
                *left = word_at(row, offset);
                *right = word_at(row, offset + step as usize);
            }
        }
    }
}

#[inline(always)]
pub fn sample_row(
    gather: impl Fn(&[u8], &Taps, Option<u32>, [&mut [u32]; 2]),
    grid: &Grid,
    row: &[u8],
    taps: &Taps,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let [left, right] = &mut scratch.words;
    let neighbour_shift = grid.neighbour_shift();
    let step = neighbour_shift.is_none().then_some(grid.step);
    gather(row, taps, step, [left, right]);
    let left: &[u32] = left;
    let right = if step.is_some() { right } else { left };
    let neighbour_shift = neighbour_shift.unwrap_or(0);
    let rows = out.chunks_exact_mut(taps.offsets.len());
    for ((_, shift), out) in grid.components().zip(rows) {
        let shifts = [shift, shift + neighbour_shift];
        interpolate([left, right], shifts, grid.mask, &taps.weights, out);
    }
}

#[inline(always)]
fn interpolate(
    [left, right]: [&[u32]; 2],
    [left_shift, right_shift]: [u32; 2],
    mask: u32,
    weights: &[f32],
    out: &mut [f32],
) {
    for (((out, left), right), weight) in out.iter_mut().zip(left).zip(right).zip(weights) {
        // Masked samples fit 16 bits; signed integers convert in one instruction, unsigned ones do not.
        let left = ((left >> left_shift) & mask) as i32 as f32;
        let right = ((right >> right_shift) & mask) as i32 as f32;
        *out = left + weight * (right - left);
    }
}

#[inline(always)]
pub fn sample_area(
    grid: &Grid,
    rows: Rows<'_>,
    columns: &[Span],
    [merged, means]: [&mut [f32]; 2],
    out: &mut [f32],
) {
    match grid.sample_bytes() {
        1 => merge_rows::<1>(rows, grid.mask, merged),
        _ => merge_rows::<2>(rows, grid.mask, merged),
    }
    match grid.samples_of_step() {
        1 => merge_columns::<1>(grid, columns, merged, means, out),
        2 => merge_columns::<2>(grid, columns, merged, means, out),
        3 => merge_columns::<3>(grid, columns, merged, means, out),
        _ => merge_columns::<4>(grid, columns, merged, means, out),
    }
}

/// The weighted sum of rows whose samples have so many bytes. Rows of equal weight are summed up first, which is
/// exact for up to 2^14 of them.
#[inline(always)]
fn merge_rows<const BYTES: usize>(rows: Rows<'_>, mask: u32, merged: &mut [f32]) {
    let sample = |bytes: &[u8; BYTES]| {
        let word = bytes
            .iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u32::from(byte));
        (word & mask) as i32 as f32
    };
    let samples = |row| rows.row(row).as_chunks::<BYTES>().0;
    let Span {
        first,
        last,
        lead,
        inner,
        trail,
    } = rows.span;
    merged.fill(0.0);
    for row in first + 1..last {
        for (sum, bytes) in merged.iter_mut().zip(samples(row)) {
            *sum += sample(bytes);
        }
    }
    let outer = samples(first).iter().zip(samples(last));
    for (sum, (first, last)) in merged.iter_mut().zip(outer) {
        *sum = lead * sample(first) + inner * *sum + trail * sample(last);
    }
}

/// The weighted sums of columns, which are so many samples wide, for each output pixel.
#[inline(always)]
fn merge_columns<const STEP: usize>(
    grid: &Grid,
    columns: &[Span],
    merged: &[f32],
    means: &mut [f32],
    out: &mut [f32],
) {
    let (merged, means) = (
        merged.as_chunks::<STEP>().0,
        means.as_chunks_mut::<STEP>().0,
    );
    for (mean, span) in means.iter_mut().zip(columns) {
        let mut sums = [0.0; STEP];
        for column in merged.get(span.first + 1..span.last).unwrap_or_default() {
            for (sum, sample) in sums.iter_mut().zip(column) {
                *sum += sample;
            }
        }
        let (first, last) = (&merged[span.first], &merged[span.last]);
        let samples = first.iter().zip(sums).zip(last);
        for (mean, ((first, sum), last)) in mean.iter_mut().zip(samples) {
            *mean = span.lead * first + span.inner * sum + span.trail * last;
        }
    }
    let rows = out.chunks_exact_mut(columns.len());
    for ((_, shift), row) in grid.components().zip(rows) {
        let sample = shift as usize / 8 / grid.sample_bytes();
        for (out, mean) in row.iter_mut().zip(&*means) {
            *out = mean[sample];
        }
    }
}

#[inline(always)]
pub fn finish_row<T: TensorElement>(
    components: [RowPair<'_>; 3],
    finish: &[Finish; 3],
    scratch: &mut Scratch,
    target: Target<'_, T>,
) {
    let [first, second, third] = &mut scratch.samples;
    let samples = [
        mix(components[0], first),
        mix(components[1], second),
        mix(components[2], third),
    ];
    match target {
        Target::Planar(channels) => {
            for (finish, channel) in finish.iter().zip(channels) {
                finish_channel(samples, finish, channel);
            }
        }
        Target::Interleaved(pixels) => {
            let mut channels = [[T::default(); SEGMENT]; 3];
            for (index, pixels) in pixels.chunks_mut(SEGMENT).enumerate() {
                let part = index * SEGMENT..index * SEGMENT + pixels.len();
                let [a, b, c] = samples;
                let samples = [&a[part.clone()], &b[part.clone()], &c[part]];
                for (finish, channel) in finish.iter().zip(&mut channels) {
                    finish_channel(samples, finish, channel);
                }
                let [first, second, third] = &channels;
                for (((pixel, a), b), c) in pixels.iter_mut().zip(first).zip(second).zip(third) {
                    *pixel = [*a, *b, *c];
                }
            }
        }
    }
}

/// A component between its two rows.
#[inline(always)]
pub fn mix<'a>(pair: RowPair<'a>, out: &'a mut [f32]) -> &'a [f32] {
    if pair.weight == 0.0 {
        return pair.upper;
    }
    for ((out, upper), lower) in out.iter_mut().zip(pair.upper).zip(pair.lower) {
        *out = upper + pair.weight * (lower - upper);
    }
    out
}

#[inline(always)]
pub fn finish_channel<T: TensorElement>(samples: [&[f32]; 3], finish: &Finish, out: &mut [T]) {
    let Finish {
        matrix: [x, y, z],
        offset,
        mean,
        scale,
    } = *finish;
    let [a, b, c] = samples;
    for (((out, a), b), c) in out.iter_mut().zip(a).zip(b).zip(c) {
        let color = x * a + y * b + z * c + offset;
        *out = T::from_f32((color.clamp(0.0, 255.0) - mean) * scale);
    }
}
