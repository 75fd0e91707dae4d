//! The inner loops with AVX2, for machines that have it.

use std::arch::x86_64::{
    __m128i, _mm_loadu_si128, _mm_or_si128, _mm_shuffle_epi8, _mm_storeu_si128,
};

use super::TensorElement;
use super::area::{Rows, Span};
use super::grid::Grid;
use super::kernel::{self, Finish, RowPair, Scratch, Target};
use super::taps::Taps;

/// How the words of four output pixels come from two windows of 16 bytes, each of which has those of two.
#[derive(Debug)]
pub struct Quad {
    /// Where the windows begin in the row.
    offsets: [u32; 2],
    /// For each byte of the four words its place in the window, or [`Quad::ABSENT`].
    controls: [[u8; 16]; 2],
}

impl Quad {
    /// Shuffles make a zero of a place with the upper bit set.
    const ABSENT: u8 = 0x80;

    /// The words at four offsets, if the windows have the first `used` bytes (at most 8) of each.
    fn new(offsets: [u32; 4], used: u32) -> Option<Self> {
        let mut controls = [[Self::ABSENT; 16]; 2];
        for (index, offset) in offsets.into_iter().enumerate() {
            let window = index / 2;
            let distance = offset - offsets[2 * window];
            if distance > 16 - used {
                return None;
            }
            for byte in 0..used {
                controls[window][4 * index + byte as usize] = (distance + byte) as u8;
            }
        }
        Some(Self {
            offsets: [offsets[0], offsets[2]],
            controls,
        })
    }
}

/// Whole groups of four output pixels; none if the pixels of some pair lie too far apart.
pub fn quads(grid: &Grid, offsets: &[u32]) -> Vec<Quad> {
    let sample = grid.mask.ilog2() + 1;
    let last_sample = grid.components().map(|(_, shift)| shift).max().unwrap_or(0);
    let neighbour = grid.neighbour_shift().unwrap_or(0);
    let used_bytes = (last_sample + neighbour + sample).div_ceil(8);
    let groups = offsets.as_chunks().0.iter();
    let quads = groups.map(|group| Quad::new(*group, used_bytes));
    quads.collect::<Option<_>>().unwrap_or_default()
}

/// Proof that the machine has AVX2: only [`Detected::new`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detected(());

impl Detected {
    pub fn new() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    pub fn sample_row(
        self,
        grid: &Grid,
        row: &[u8],
        taps: &Taps,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        // SAFETY: `self` proves that the machine has AVX2.
        unsafe { sample_row(grid, row, taps, scratch, out) }
    }

    pub fn sample_area(
        self,
        grid: &Grid,
        rows: Rows<'_>,
        columns: &[Span],
        workspace: [&mut [f32]; 2],
        out: &mut [f32],
    ) {
        // SAFETY: `self` proves that the machine has AVX2.
        unsafe { sample_area(grid, rows, columns, workspace, out) }
    }

    pub fn mix<'a>(self, pair: RowPair<'a>, out: &'a mut [f32]) -> &'a [f32] {
        // SAFETY: `self` proves that the machine has AVX2.
        unsafe { mix(pair, out) }
    }

    pub fn finish_channel<T: TensorElement>(
        self,
        samples: [&[f32]; 3],
        finish: &Finish,
        out: &mut [T],
    ) {
        // SAFETY: `self` proves that the machine has AVX2.
        unsafe { finish_channel(samples, finish, out) }
    }

    pub fn finish_row<T: TensorElement>(
        self,
        components: [RowPair<'_>; 3],
        finish: &[Finish; 3],
        scratch: &mut Scratch,
        target: Target<'_, T>,
    ) {
        // SAFETY: `self` proves that the machine has AVX2.
        unsafe { finish_row(components, finish, scratch, target) }
    }
}

#[target_feature(enable = "avx2")]
fn sample_row(grid: &Grid, row: &[u8], taps: &Taps, scratch: &mut Scratch, out: &mut [f32]) {
    let gather = |row: &[u8], taps: &Taps, step, words: [&mut [u32]; 2]| {
        gather(row, taps, step, words);
    };
    kernel::sample_row(gather, grid, row, taps, scratch, out);
}

#[target_feature(enable = "avx2")]
fn sample_area(
    grid: &Grid,
    rows: Rows<'_>,
    columns: &[Span],
    workspace: [&mut [f32]; 2],
    out: &mut [f32],
) {
    kernel::sample_area(grid, rows, columns, workspace, out);
}

#[target_feature(enable = "avx2")]
fn mix<'a>(pair: RowPair<'a>, out: &'a mut [f32]) -> &'a [f32] {
    kernel::mix(pair, out)
}

#[target_feature(enable = "avx2")]
fn finish_channel<T: TensorElement>(samples: [&[f32]; 3], finish: &Finish, out: &mut [T]) {
    kernel::finish_channel(samples, finish, out);
}

#[target_feature(enable = "avx2")]
fn finish_row<T: TensorElement>(
    components: [RowPair<'_>; 3],
    finish: &[Finish; 3],
    scratch: &mut Scratch,
    target: Target<'_, T>,
) {
    kernel::finish_row(components, finish, scratch, target);
}

/// As [`kernel::gather`], by shuffles where the taps allow.
#[target_feature(enable = "avx2")]
fn gather(row: &[u8], taps: &Taps, step: Option<u32>, [left, right]: [&mut [u32]; 2]) {
    let mut done = shuffle(row, &taps.quads, left);
    if let Some(step) = step {
        let neighbours = row.get(step as usize..).unwrap_or_default();
        done = done.min(shuffle(neighbours, &taps.quads, right));
    }
    let rest = [&mut left[done..], &mut right[done..]];
    kernel::gather(row, &taps.offsets[done..], step, rest);
}

/// Reads words through windows of 16 bytes, up to where a window would reach beyond the row, and returns their
/// number. It takes fewer loads and stores than single words do, and less time than AVX2's own gather.
#[target_feature(enable = "avx2")]
fn shuffle(row: &[u8], quads: &[Quad], words: &mut [u32]) -> usize {
    let mut done = 0;
    for (quad, words) in quads.iter().zip(words.as_chunks_mut().0) {
        // Not `map`: a closure with AVX2 stays a call in a function of the standard library without.
        let [first, second] = quad.offsets;
        let (Some(first), Some(second)) = (window(row, first), window(row, second)) else {
            break;
        };
        let first = _mm_shuffle_epi8(load(first), load(&quad.controls[0]));
        let second = _mm_shuffle_epi8(load(second), load(&quad.controls[1]));
        store(words, _mm_or_si128(first, second));
        done += words.len();
    }
    done
}

#[inline(always)]
fn window(row: &[u8], offset: u32) -> Option<&[u8]> {
    let offset = offset as usize;
    row.get(offset..offset + size_of::<__m128i>())
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8]) -> __m128i {
    assert!(bytes.len() >= size_of::<__m128i>());
    // SAFETY: `bytes` are at least the 16 that are read, at any alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(words: &mut [u32; 4], value: __m128i) {
    // SAFETY: `words` are the 16 bytes that are written, at any alignment.
    unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), value) }
}
