//! Which samples of an axis the output's pixels lie between, and how much each of the two counts.

#[cfg(target_arch = "x86_64")]
use super::avx2::windows::Windows;
use super::grid::Grid;

/// What the weights of two neighbouring samples sum up to.
pub const ONE: u16 = 1 << 11;

/// The sample before a position of a grid, which may lie outside of the grid, and the weights of this sample and of
/// the next: rule 3 of [`crate::preprocess`].
pub fn tap(position: f64) -> (i64, [u16; 2]) {
    let position = position as f32;
    let before = position.floor();
    let after = position - before;
    let weight = |part: f32| (part * f32::from(ONE)).round_ties_even() as u16;
    (before as i64, [weight(1.0 - after), weight(after)])
}

/// Rows of sums have room for whole blocks of so many pixels.
pub const BLOCK: usize = 16;

/// The two source rows around an output row. Beyond the edges both are the edge's, and where the lower one has no
/// weight it is the upper one.
#[derive(Clone, Copy, Debug)]
pub struct RowTap {
    pub sources: [usize; 2],
    pub weights: [u16; 2],
}

impl RowTap {
    /// For an output row whose centre lies at this row of the frame's pixels.
    pub fn new(grid: &Grid, frame_height: usize, pixel: f64) -> Self {
        let (_, rows) = grid.size(0, frame_height);
        let (above, weights) = tap(grid.row(pixel));
        let below = above + i64::from(weights[1] > 0);
        let within = |row: i64| row.clamp(0, rows as i64 - 1) as usize;
        Self {
            sources: [within(above), within(below)],
            weights,
        }
    }
}

/// Where each output pixel finds its two neighbouring samples in a row of a grid.
#[derive(Debug)]
pub struct Taps {
    /// Bytes from the start of the row to the left sample; never decreasing.
    pub offsets: Vec<u32>,
    pub left_weights: Vec<i16>,
    pub right_weights: Vec<i16>,
    /// Bytes from the left sample to the right one. Both lie in the row, also those that have no weight.
    pub neighbour: usize,
    #[cfg(target_arch = "x86_64")]
    pub windows: Option<Windows>,
}

impl Taps {
    /// For output pixels whose centres lie at these columns of the frame's pixels, from left to right.
    pub fn new(grid: &Grid, frame_width: usize, pixels: impl Iterator<Item = f64>) -> Self {
        let (columns, _) = grid.size(frame_width, 0);
        let tap_of_pixel = |pixel| {
            let (before, weights) = tap(grid.column(pixel));
            let (column, weights) = match usize::try_from(before) {
                Err(_) => (0, [ONE, 0]),
                Ok(column) if column + 1 < columns => (column, weights),
                // The last sample of a row has no right neighbour, and is one itself.
                Ok(_) => (columns.saturating_sub(2), [0, ONE]),
            };
            let offset = column.saturating_mul(grid.step as usize);
            let offset = u32::try_from(offset).unwrap_or(u32::MAX);
            (offset, weights.map(|weight| weight as i16))
        };
        let (offsets, weights): (Vec<_>, Vec<_>) = pixels.map(tap_of_pixel).unzip();
        let neighbour = if columns > 1 { grid.step as usize } else { 0 };
        Self {
            #[cfg(target_arch = "x86_64")]
            windows: Windows::new(grid, columns, neighbour, &offsets, &weights),
            offsets,
            left_weights: weights.iter().map(|weights| weights[0]).collect(),
            right_weights: weights.iter().map(|weights| weights[1]).collect(),
            neighbour,
        }
    }

    /// The length of a row that has a place for each output pixel.
    pub fn padded_width(&self) -> usize {
        self.offsets.len().next_multiple_of(BLOCK)
    }
}
