//! Which samples of a row the output's columns lie between.

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::grid::Grid;
use crate::preprocess::Placement;

/// A position in a grid as its sample before and the weight of the one after.
/// Positions beyond the edges take the edge's sample.
pub fn tap(position: f64, samples: usize) -> (usize, f32) {
    let position = position.clamp(0.0, samples.saturating_sub(1) as f64);
    let before = position.floor();
    (before as usize, (position - before) as f32)
}

/// Where each output pixel finds its two neighbouring samples in a row of a grid.
#[derive(Debug)]
pub struct Taps {
    /// Bytes from the start of the row to the left sample; never decreasing.
    pub offsets: Vec<u32>,
    /// Weight of the right sample, 0 to 1.
    pub weights: Vec<f32>,
    #[cfg(target_arch = "x86_64")]
    pub quads: Vec<avx2::Quad>,
}

impl Taps {
    pub fn new(grid: &Grid, placement: &Placement) -> Self {
        let pixels = (0..placement.width).map(|x| placement.frame_column(x));
        Self::at(grid, placement.frame_width, pixels)
    }

    /// For output pixels whose centres lie at these columns of the frame's pixels, from left to right.
    pub fn at(grid: &Grid, frame_width: usize, pixels: impl Iterator<Item = f64>) -> Self {
        let (columns, _) = grid.size(frame_width, 0);
        let tap_of_pixel = |pixel| {
            let (column, weight) = tap(grid.column(pixel), columns);
            let offset = column.saturating_mul(grid.step as usize);
            (u32::try_from(offset).unwrap_or(u32::MAX), weight)
        };
        let (offsets, weights): (Vec<u32>, _) = pixels.map(tap_of_pixel).unzip();
        Self {
            #[cfg(target_arch = "x86_64")]
            quads: avx2::quads(grid, &offsets),
            offsets,
            weights,
        }
    }
}
