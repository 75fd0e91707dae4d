//! The inner loops with AVX2, for machines that have it.

mod rows;
pub mod windows;

use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_storeu_si256};

use super::TensorElement;
use super::area::{Rows, Span};
use super::grid::Grid;
use super::kernel::{self, Component, Finish, RowPair, Scratch, Target, Task, Words};
use super::taps::Taps;

/// Proof that the machine has AVX2: only [`Detected::new`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detected(());

impl Detected {
    pub fn new() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    pub fn sample_rows<const ROWS: usize>(
        self,
        grid: &Grid,
        taps: &Taps,
        words: &mut Words,
        rows: [Task<'_>; ROWS],
    ) {
        // SAFETY: `self` proves that the machine has AVX2.
        unsafe { sample_rows(grid, taps, words, rows) }
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

    pub fn mix<'a>(self, component: Component<'a>, out: &'a mut [f32]) -> &'a [f32] {
        // SAFETY: `self` proves that the machine has AVX2.
        unsafe { mix(component, out) }
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
        components: [Option<Component<'_>>; 3],
        finish: &[Finish; 3],
        scratch: &mut Scratch,
        target: Target<'_, T>,
    ) {
        // SAFETY: `self` proves that the machine has AVX2.
        unsafe { finish_row(components, finish, scratch, target) }
    }
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
fn mix<'a>(component: Component<'a>, out: &'a mut [f32]) -> &'a [f32] {
    kernel::mix(|pair, out| rows::between_rows(pair, out), component, out)
}

#[target_feature(enable = "avx2")]
fn finish_channel<T: TensorElement>(samples: [&[f32]; 3], finish: &Finish, out: &mut [T]) {
    kernel::finish_channel(samples, finish, out);
}

#[target_feature(enable = "avx2")]
fn sample_rows<const ROWS: usize>(
    grid: &Grid,
    taps: &Taps,
    words: &mut Words,
    rows: [Task<'_>; ROWS],
) {
    match &taps.windows {
        Some(windows) => windows.sample(rows),
        None => kernel::sample_rows(grid, taps, words, rows),
    }
}

#[target_feature(enable = "avx2")]
fn finish_row<T: TensorElement>(
    components: [Option<Component<'_>>; 3],
    finish: &[Finish; 3],
    scratch: &mut Scratch,
    target: Target<'_, T>,
) {
    let between_rows = |pair: RowPair<'_>, out: &mut [f32]| rows::between_rows(pair, out);
    kernel::finish_row(between_rows, components, finish, scratch, target);
}

#[inline]
#[target_feature(enable = "avx2")]
fn load<T: Copy>(values: &[T]) -> __m256i {
    assert!(size_of_val(values) >= size_of::<__m256i>());
    // SAFETY: `values` are at least the 32 bytes that are read, at any alignment.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(out: &mut [u16], values: __m256i) {
    assert!(size_of_val(out) >= size_of::<__m256i>());
    // SAFETY: `out` is at least the 32 bytes that are written, at any alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), values) }
}
