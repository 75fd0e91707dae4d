//! The inner loops, compiled for the baseline instruction set and for AVX2. Both give equal numbers.
//!
//! Each loop is one pass over plain slices with one output, which is what compilers turn into vector
//! instructions. The rows they share are short enough to stay in the first-level cache.

use super::TensorElement;
use super::aligned::Aligned;
use super::area::{Rows, Span};
#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::grid::{Depth, Grid};
use super::taps::{BLOCK, Taps};

/// Pixels that are finished by channel before they are interleaved.
const SEGMENT: usize = 256;

/// The components of an output row, with room for whole blocks; reused for every row.
#[derive(Debug)]
pub struct Scratch([Aligned<f32>; 3]);

impl Scratch {
    pub fn new(width: usize) -> Self {
        Self([0, 1, 2].map(|_| Aligned::new(width.next_multiple_of(BLOCK))))
    }
}

/// Words of a source row, at the left and right sample of each output pixel.
#[derive(Debug)]
pub struct Words([Vec<u32>; 2]);

impl Words {
    pub fn new(width: usize) -> Self {
        Self([vec![0; width], vec![0; width]])
    }
}

/// A source row to be interpolated.
pub struct Task<'a> {
    pub row: &'a [u8],
    /// Room for each component, one after another, each in a padded row.
    pub sums: &'a mut [u16],
}

/// One component at the output's columns.
#[derive(Clone, Copy)]
pub enum Component<'a> {
    /// What it is in the output row.
    Ready(&'a [f32]),
    Between(RowPair<'a>),
}

/// One component in the source rows above and below an output row, interpolated between columns.
#[derive(Clone, Copy)]
pub struct RowPair<'a> {
    pub upper: &'a [u16],
    pub lower: &'a [u16],
    pub weights: [u16; 2],
    pub depth: Depth,
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

    /// Interpolates each component of a grid's rows to the output's columns.
    pub fn sample_rows<const ROWS: usize>(
        self,
        grid: &Grid,
        taps: &Taps,
        words: &mut Words,
        rows: [Task<'_>; ROWS],
    ) {
        match self {
            Self::Baseline => sample_rows(grid, taps, words, rows),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(detected) => detected.sample_rows(grid, taps, words, rows),
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

    /// A component in the output row; `out` is where it goes if it must be computed.
    pub fn mix<'a>(self, component: Component<'a>, out: &'a mut [f32]) -> &'a [f32] {
        match self {
            Self::Baseline => mix(between_rows, component, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(detected) => detected.mix(component, out),
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
        components: [Option<Component<'_>>; 3],
        finish: &[Finish; 3],
        scratch: &mut Scratch,
        target: Target<'_, T>,
    ) {
        match self {
            Self::Baseline => finish_row(between_rows, components, finish, scratch, target),
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

/// Reads the words that begin at the offsets into the first row and, where a distance is given, those so many bytes
/// later into the second.
#[inline(always)]
fn gather(row: &[u8], offsets: &[u32], distance: Option<usize>, words: &mut Words) {
    let [left, right] = &mut words.0;
    let Some(distance) = distance else {
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
                *right = (both >> (8 * distance)) as u32;
            }
            _ => {
                *left = word_at(row, offset);
                *right = word_at(row, offset + distance);
            }
        }
    }
}

/// Interpolates each component of a grid's rows between columns, by rule 3 of [`crate::preprocess`].
#[inline(always)]
pub fn sample_rows<const ROWS: usize>(
    grid: &Grid,
    taps: &Taps,
    words: &mut Words,
    rows: [Task<'_>; ROWS],
) {
    const EIGHT: u32 = Depth::Eight.horizontal_shift();
    const TEN: u32 = Depth::Ten.horizontal_shift();
    let neighbour_shift = 8 * taps.neighbour as u32;
    let sample_bits = grid.mask.ilog2() + 1;
    let in_same_word = |shift: u32| shift + neighbour_shift + sample_bits <= u32::BITS;
    let same_word = grid.components().all(|(_, shift)| in_same_word(shift));
    for Task { row, sums } in rows {
        let distance = (!same_word).then_some(taps.neighbour);
        gather(row, &taps.offsets, distance, words);
        let [left, right] = &words.0;
        let (right, to_right) = match same_word {
            true => (left, neighbour_shift),
            false => (right, 0),
        };
        let components = sums.chunks_exact_mut(taps.padded_width());
        for ((_, shift), sums) in grid.components().zip(components) {
            let shifts = [shift, shift + to_right];
            match grid.depth() {
                Depth::Eight => {
                    between_columns::<0xff, 0, EIGHT>([left, right], shifts, taps, sums)
                }
                Depth::Ten => between_columns::<0x3ff, 6, TEN>([left, right], shifts, taps, sums),
            }
        }
    }
}

/// `MASK` are the bits of a sample once it is shifted `DOWN`; sums lose `SHIFT` bits.
#[inline(always)]
fn between_columns<const MASK: u32, const DOWN: u32, const SHIFT: u32>(
    [left, right]: [&[u32]; 2],
    [left_shift, right_shift]: [u32; 2],
    taps: &Taps,
    sums: &mut [u16],
) {
    let words = left.iter().zip(right);
    let weights = taps.left_weights.iter().zip(&taps.right_weights);
    for ((sum, (left, right)), (left_weight, right_weight)) in
        sums.iter_mut().zip(words).zip(weights)
    {
        let left = (left >> (left_shift + DOWN) & MASK) as i32 * i32::from(*left_weight);
        let right = (right >> (right_shift + DOWN) & MASK) as i32 * i32::from(*right_weight);
        *sum = ((left + right) as u32 >> SHIFT) as u16;
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
    between_rows: impl Fn(RowPair<'_>, &mut [f32]) + Copy,
    components: [Option<Component<'_>>; 3],
    finish: &[Finish; 3],
    scratch: &mut Scratch,
    target: Target<'_, T>,
) {
    let Scratch([first, second, third]) = scratch;
    let mixed = [
        components[0].map(|component| mix(between_rows, component, first)),
        components[1].map(|component| mix(between_rows, component, second)),
        components[2].map(|component| mix(between_rows, component, third)),
    ];
    let Some(any) = mixed.into_iter().flatten().next() else {
        return;
    };
    let samples = mixed.map(|samples| samples.unwrap_or(any));
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

/// A component in the output row.
#[inline(always)]
pub fn mix<'a>(
    between_rows: impl Fn(RowPair<'_>, &mut [f32]),
    component: Component<'a>,
    out: &'a mut [f32],
) -> &'a [f32] {
    match component {
        Component::Ready(samples) => samples,
        Component::Between(pair) => {
            between_rows(pair, out);
            out
        }
    }
}

/// Interpolates between rows, by rule 3 of [`crate::preprocess`].
#[inline(always)]
pub fn between_rows(pair: RowPair<'_>, out: &mut [f32]) {
    let shift = pair.depth.vertical_shift();
    // The colour transform takes words with the ten bits in their upper part.
    let up = match pair.depth {
        Depth::Eight => 0,
        Depth::Ten => 6,
    };
    let upper_half = |weight: u16, sum: u16| (u32::from(weight) * u32::from(sum)) >> 16;
    let [above, below] = pair.weights;
    let half = 1 << shift >> 1;
    for ((out, upper), lower) in out.iter_mut().zip(pair.upper).zip(pair.lower) {
        let sum = upper_half(above, *upper) + upper_half(below, *lower);
        // Signed integers convert in one instruction, unsigned ones do not.
        *out = (((sum + half) >> shift) << up) as i32 as f32;
    }
}

#[inline(always)]
pub fn finish_channel<T: TensorElement>(samples: [&[f32]; 3], finish: &Finish, out: &mut [T]) {
    let [a, b, c] = samples;
    let terms = [
        (finish.matrix[0], a),
        (finish.matrix[1], b),
        (finish.matrix[2], c),
    ];
    let mut counting = terms.into_iter().filter(|(weight, _)| *weight != 0.0);
    match (counting.next(), counting.next(), counting.next()) {
        (Some((x, a)), None, None) => finish_terms(finish, out, a, |a| x * a),
        (Some((x, a)), Some((y, b)), None) => {
            finish_terms(finish, out, a.iter().zip(b), |(a, b)| x * a + y * b);
        }
        _ => {
            let [x, y, z] = finish.matrix;
            finish_terms(finish, out, a.iter().zip(b).zip(c), |((a, b), c)| {
                x * a + y * b + z * c
            });
        }
    }
}

#[inline(always)]
fn finish_terms<T: TensorElement, S>(
    finish: &Finish,
    out: &mut [T],
    samples: impl IntoIterator<Item = S>,
    sum: impl Fn(S) -> f32,
) {
    let Finish {
        offset,
        mean,
        scale,
        ..
    } = *finish;
    for (out, samples) in out.iter_mut().zip(samples) {
        let color = sum(samples) + offset;
        *out = T::from_f32((color.clamp(0.0, 255.0) - mean) * scale);
    }
}
