//! Interpolation between rows with AVX2.

use std::arch::asm;
use std::arch::x86_64::{
    __m256i, _mm256_add_epi16, _mm256_castsi256_si128, _mm256_cvtepi32_ps, _mm256_cvtepu16_epi32,
    _mm256_extracti128_si256, _mm256_set1_epi16, _mm256_slli_epi32, _mm256_srli_epi16,
    _mm256_storeu_ps,
};

use super::load;
use crate::preprocess::cpu::grid::Depth;
use crate::preprocess::cpu::kernel::{self, RowPair};
use crate::preprocess::cpu::taps::BLOCK;

/// As [`kernel::between_rows`].
#[inline]
#[target_feature(enable = "avx2")]
pub fn between_rows(pair: RowPair<'_>, out: &mut [f32]) {
    const EIGHT: i32 = Depth::Eight.vertical_shift() as i32;
    const TEN: i32 = Depth::Ten.vertical_shift() as i32;
    let (blocks, rest) = out.as_chunks_mut();
    match pair.depth {
        Depth::Eight => blocks_between_rows::<EIGHT, 0>(pair, blocks),
        Depth::Ten => blocks_between_rows::<TEN, 6>(pair, blocks),
    }
    let done = blocks.as_flattened().len();
    let pair = RowPair {
        upper: &pair.upper[done..],
        lower: &pair.lower[done..],
        ..pair
    };
    kernel::between_rows(pair, rest);
}

/// `SHIFT` is that of the depth between rows; samples go `UP` to what the colour transform takes.
#[inline]
#[target_feature(enable = "avx2")]
fn blocks_between_rows<const SHIFT: i32, const UP: i32>(
    pair: RowPair<'_>,
    out: &mut [[f32; BLOCK]],
) {
    let [above, below] = pair.weights;
    let above = _mm256_set1_epi16(above as i16);
    let below = _mm256_set1_epi16(below as i16);
    let half = _mm256_set1_epi16(1 << SHIFT >> 1);
    let rows = pair
        .upper
        .as_chunks::<BLOCK>()
        .0
        .iter()
        .zip(pair.lower.as_chunks::<BLOCK>().0);
    for (out, (upper, lower)) in out.iter_mut().zip(rows) {
        let upper = upper_halves(load(upper), above);
        let lower = upper_halves(load(lower), below);
        let sums = _mm256_add_epi16(_mm256_add_epi16(upper, lower), half);
        let samples = _mm256_srli_epi16::<SHIFT>(sums);
        let first = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(samples));
        let second = _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(samples));
        let first = _mm256_cvtepi32_ps(_mm256_slli_epi32::<UP>(first));
        let second = _mm256_cvtepi32_ps(_mm256_slli_epi32::<UP>(second));
        // SAFETY: `out` has room for both, at any alignment.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), first);
            _mm256_storeu_ps(out.as_mut_ptr().add(BLOCK / 2), second);
        }
    }
}

/// The upper halves of products. The compiler would compute those of a weight that is the same in all lanes in 32 bits,
/// which takes thrice the time of this one instruction.
#[inline]
#[target_feature(enable = "avx2")]
fn upper_halves(a: __m256i, b: __m256i) -> __m256i {
    let upper: __m256i;
    // SAFETY: the instruction is one of AVX2, and changes nothing but the register.
    unsafe {
        asm!(
            "vpmulhuw {upper}, {a}, {b}",
            upper = lateout(ymm_reg) upper,
            a = in(ymm_reg) a,
            b = in(ymm_reg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    upper
}
