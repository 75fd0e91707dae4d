//! Interpolation between columns with AVX2: samples are read through windows of 16 bytes, each of which has those of
//! one, two or four output pixels, and put in order by shuffles. It takes fewer loads than single samples do, and less
//! time than AVX2's own gather.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm256_castsi128_si256, _mm256_inserti128_si256,
    _mm256_madd_epi16, _mm256_or_si256, _mm256_packus_epi32, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_srli_epi16, _mm256_srli_epi32,
};

use super::{load, store};
use crate::preprocess::cpu::grid::{Depth, Grid};
use crate::preprocess::cpu::kernel::Task;
use crate::preprocess::cpu::taps::BLOCK;

/// Bytes of a window.
const WINDOW: usize = size_of::<__m128i>();

/// Where the left sample of an output pixel begins, and the weights of both.
#[derive(Clone, Copy, Debug)]
struct Pair {
    left: usize,
    weights: [i16; 2],
}

/// Where the samples lie in a row, seen from the first byte of any.
#[derive(Debug)]
struct Layout {
    /// Where those of each component begin.
    components: Vec<usize>,
    sample_bytes: usize,
    /// From a left sample to the right one.
    neighbour: usize,
    /// To the end of the last sample: all windows end before.
    reach: usize,
}

/// How the samples of eight output pixels, four in each half of a register, come from so many windows for each half.
#[derive(Debug)]
#[repr(align(32))]
struct Eight<const WINDOWS: usize, const COMPONENTS: usize> {
    /// Where the windows of both halves begin.
    starts: [[u32; 2]; WINDOWS],
    /// For each byte of a component's samples, as words of 16 bits, its place in the window.
    controls: [[[[u8; WINDOW]; 2]; WINDOWS]; COMPONENTS],
    weights: [[i16; 2]; 8],
}

/// The pixels 0 to 3 and 8 to 11 of a block, and the others: packing puts them in order.
type Block<const WINDOWS: usize, const COMPONENTS: usize> = [Eight<WINDOWS, COMPONENTS>; 2];

impl<const WINDOWS: usize, const COMPONENTS: usize> Eight<WINDOWS, COMPONENTS> {
    /// Shuffles make a zero of a place with the upper bit set.
    const ABSENT: u8 = 0x80;

    /// None if the samples of some window lie too far apart.
    fn new(pairs: [Pair; 8], layout: &Layout) -> Option<Self> {
        let mut eight = Self {
            starts: [[0; 2]; WINDOWS],
            controls: [[[[Self::ABSENT; WINDOW]; 2]; WINDOWS]; COMPONENTS],
            weights: pairs.map(|pair| pair.weights),
        };
        let of_window = 4 / WINDOWS;
        for (lane, pair) in pairs.into_iter().enumerate() {
            let (half, place) = (lane / 4, lane % 4);
            let window = place / of_window;
            if place % of_window == 0 {
                let start = pair.left.min(layout.reach - WINDOW);
                eight.starts[window][half] = u32::try_from(start).ok()?;
            }
            let start = eight.starts[window][half] as usize;
            for (controls, component) in eight.controls.iter_mut().zip(&layout.components) {
                let control = &mut controls[window][half][4 * place..][..4];
                for byte in 0..layout.sample_bytes {
                    let left = pair.left + component + byte - start;
                    let right = left + layout.neighbour;
                    if right >= WINDOW {
                        return None;
                    }
                    (control[byte], control[2 + byte]) = (left as u8, right as u8);
                }
            }
        }
        Some(eight)
    }
}

/// How to read rows of a grid with so many components.
#[derive(Debug)]
enum Blocks<const COMPONENTS: usize> {
    OneWindow(Vec<Block<1, COMPONENTS>>),
    TwoWindows(Vec<Block<2, COMPONENTS>>),
    FourWindows(Vec<Block<4, COMPONENTS>>),
}

impl<const COMPONENTS: usize> Blocks<COMPONENTS> {
    fn new(pairs: &[[Pair; BLOCK]], layout: &Layout) -> Option<Self> {
        None.or_else(|| blocks(pairs, layout).map(Self::OneWindow))
            .or_else(|| blocks(pairs, layout).map(Self::TwoWindows))
            .or_else(|| blocks(pairs, layout).map(Self::FourWindows))
    }

    /// # Safety
    /// The rows have all bytes that the layout reaches.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn sample<const ROWS: usize>(&self, depth: Depth, rows: [Task<'_>; ROWS]) {
        const EIGHT: i32 = Depth::Eight.horizontal_shift() as i32;
        const TEN: i32 = Depth::Ten.horizontal_shift() as i32;
        // SAFETY: the caller's.
        unsafe {
            match (self, depth) {
                (Self::OneWindow(blocks), Depth::Eight) => {
                    sample::<_, _, _, 0, EIGHT>(blocks, rows)
                }
                (Self::TwoWindows(blocks), Depth::Eight) => {
                    sample::<_, _, _, 0, EIGHT>(blocks, rows)
                }
                (Self::FourWindows(blocks), Depth::Eight) => {
                    sample::<_, _, _, 0, EIGHT>(blocks, rows)
                }
                (Self::OneWindow(blocks), Depth::Ten) => sample::<_, _, _, 6, TEN>(blocks, rows),
                (Self::TwoWindows(blocks), Depth::Ten) => sample::<_, _, _, 6, TEN>(blocks, rows),
                (Self::FourWindows(blocks), Depth::Ten) => sample::<_, _, _, 6, TEN>(blocks, rows),
            }
        }
    }
}

fn blocks<const WINDOWS: usize, const COMPONENTS: usize>(
    pairs: &[[Pair; BLOCK]],
    layout: &Layout,
) -> Option<Vec<Block<WINDOWS, COMPONENTS>>> {
    let block = |&[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]: &[Pair; BLOCK]| {
        let first = Eight::new([a, b, c, d, i, j, k, l], layout)?;
        Some([first, Eight::new([e, f, g, h, m, n, o, p], layout)?])
    };
    pairs.iter().map(block).collect()
}

/// By the number of a grid's components.
#[derive(Debug)]
enum Components {
    One(Blocks<1>),
    Two(Blocks<2>),
    Three(Blocks<3>),
}

/// Reads the samples at the output's columns from rows of a grid.
#[derive(Debug)]
pub struct Windows {
    components: Components,
    depth: Depth,
    /// The first byte of any sample in the row, and the number of those from there on in which all windows lie.
    first: usize,
    reach: usize,
}

impl Windows {
    /// None if there is no output, or a row of so many columns has no room for a window.
    pub fn new(
        grid: &Grid,
        columns: usize,
        neighbour: usize,
        offsets: &[u32],
        weights: &[[i16; 2]],
    ) -> Option<Self> {
        let bytes = |(_, shift)| shift as usize / 8;
        let first = grid.components().map(bytes).min()?;
        let components: Vec<usize> = grid.components().map(|c| bytes(c) - first).collect();
        let (step, sample_bytes) = (grid.step as usize, grid.sample_bytes());
        let layout = Layout {
            reach: columns.checked_sub(1)? * step + components.iter().max()? + sample_bytes,
            components,
            sample_bytes,
            neighbour,
        };
        if layout.reach < WINDOW {
            return None;
        }
        let last = offsets.len().checked_sub(1)?;
        let pair = |index: usize| Pair {
            left: offsets[index.min(last)] as usize,
            weights: weights[index.min(last)],
        };
        let block = |start: usize| std::array::from_fn(|lane| pair(start + lane));
        let pairs: Vec<_> = (0..=last).step_by(BLOCK).map(block).collect();
        Some(Self {
            components: match layout.components.len() {
                1 => Components::One(Blocks::new(&pairs, &layout)?),
                2 => Components::Two(Blocks::new(&pairs, &layout)?),
                _ => Components::Three(Blocks::new(&pairs, &layout)?),
            },
            depth: grid.depth(),
            first,
            reach: layout.reach,
        })
    }

    /// Interpolates each component of rows.
    #[target_feature(enable = "avx2")]
    pub fn sample<const ROWS: usize>(&self, mut rows: [Task<'_>; ROWS]) {
        for task in &mut rows {
            task.row = &task.row[self.first..][..self.reach];
        }
        // SAFETY: these are the bytes of the layout.
        unsafe {
            match &self.components {
                Components::One(blocks) => blocks.sample(self.depth, rows),
                Components::Two(blocks) => blocks.sample(self.depth, rows),
                Components::Three(blocks) => blocks.sample(self.depth, rows),
            }
        }
    }
}

/// Interpolates each component of rows at once: they share the tables. `DOWN` takes words to samples, `SHIFT` sums to
/// what is kept of them.
///
/// # Safety
/// The rows have all bytes that the blocks' layout reaches.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn sample<
    const WINDOWS: usize,
    const COMPONENTS: usize,
    const ROWS: usize,
    const DOWN: i32,
    const SHIFT: i32,
>(
    blocks: &[Block<WINDOWS, COMPONENTS>],
    mut rows: [Task<'_>; ROWS],
) {
    let length = blocks.len() * BLOCK;
    for task in &rows {
        assert!(task.sums.len() >= COMPONENTS * length);
    }
    for (index, block) in blocks.iter().enumerate() {
        let mut sums = [[[_mm256_setzero_si256(); 2]; COMPONENTS]; ROWS];
        for (half, eight) in block.iter().enumerate() {
            let weights = load(eight.weights.as_flattened());
            for (sums, task) in sums.iter_mut().zip(&rows) {
                // SAFETY: the caller's.
                let windows = unsafe { read(&eight.starts, task.row) };
                for (sums, controls) in sums.iter_mut().zip(&eight.controls) {
                    let mut samples = _mm256_setzero_si256();
                    for (window, control) in windows.iter().zip(controls) {
                        let part = _mm256_shuffle_epi8(*window, load(control.as_flattened()));
                        samples = _mm256_or_si256(samples, part);
                    }
                    let samples = _mm256_srli_epi16::<DOWN>(samples);
                    sums[half] = _mm256_srli_epi32::<SHIFT>(_mm256_madd_epi16(samples, weights));
                }
            }
        }
        for (sums, task) in sums.into_iter().zip(&mut rows) {
            for (component, [first, second]) in sums.into_iter().enumerate() {
                let out = &mut task.sums[component * length + index * BLOCK..][..BLOCK];
                store(out, _mm256_packus_epi32(first, second));
            }
        }
    }
}

/// # Safety
/// The row has 16 bytes from each start on.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn read<const WINDOWS: usize>(
    starts: &[[u32; 2]; WINDOWS],
    row: &[u8],
) -> [__m256i; WINDOWS] {
    let mut windows = [_mm256_setzero_si256(); WINDOWS];
    for (window, starts) in windows.iter_mut().zip(starts) {
        // SAFETY: the caller vouches for the bytes, which may lie at any address.
        let [lower, upper] = starts.map(|start| unsafe {
            _mm_loadu_si128(row.as_ptr().add(start as usize).cast::<__m128i>())
        });
        *window = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(lower), upper);
    }
    windows
}
