//! One grid at the pixels of the output, between the nearest two samples of each axis.

use super::aligned::Aligned;
use super::grid::Grid;
use super::kernel::{Component, InstructionSet, RowPair, Task, Words};
use super::prefetch::prefetch;
use super::taps::{RowTap, Taps};
use crate::frame::SystemFrame;

/// A source row at the output's columns.
#[derive(Debug)]
struct SampledRow {
    source: Option<usize>,
    /// One component after another.
    sums: Aligned<u16>,
}

impl SampledRow {
    /// What is to be done that this holds a source row; none if it does already.
    fn task<'a>(&'a mut self, source: usize, row: &'a [u8]) -> Option<Task<'a>> {
        let sums = &mut *self.sums;
        (self.source.replace(source) != Some(source)).then_some(Task { row, sums })
    }
}

/// Keeps the two source rows around the current output row, so that neighbouring output rows share them.
#[derive(Debug)]
pub struct BilinearSampler {
    pub grid: &'static Grid,
    columns: Taps,
    rows: Vec<RowTap>,
    sampled: [SampledRow; 2],
    words: Words,
    upper: usize,
    lower: usize,
    weights: [u16; 2],
}

impl BilinearSampler {
    /// For frames of a width and height, and output pixels whose centres lie at these columns and rows of the frame's
    /// pixels, in ascending order.
    pub fn new(
        grid: &'static Grid,
        (frame_width, frame_height): (usize, usize),
        columns: impl Iterator<Item = f64>,
        rows: impl Iterator<Item = f64>,
    ) -> Self {
        let columns = Taps::new(grid, frame_width, columns);
        let sampled = || SampledRow {
            source: None,
            sums: Aligned::new(columns.padded_width() * grid.components().count()),
        };
        Self {
            grid,
            rows: rows
                .map(|row| RowTap::new(grid, frame_height, row))
                .collect(),
            sampled: [sampled(), sampled()],
            words: Words::new(columns.offsets.len()),
            columns,
            upper: 0,
            lower: 0,
            weights: [0; 2],
        }
    }

    /// Forgets the samples of the frame before.
    pub fn begin_frame(&mut self) {
        for row in &mut self.sampled {
            row.source = None;
        }
    }

    /// Moves to an output row.
    pub fn sample(&mut self, frame: &SystemFrame<'_>, y: usize, instructions: InstructionSet) {
        let RowTap {
            sources: [above, below],
            weights,
        } = self.rows[y];
        let place = |source| {
            self.sampled
                .iter()
                .position(|row| row.source == Some(source))
        };
        // The row sampled for `above` must not take the place of one that is `below`.
        let upper = match (place(above), place(below)) {
            (Some(place), _) => place,
            (None, Some(place)) => 1 - place,
            (None, None) => 0,
        };
        let lower = if below == above { upper } else { 1 - upper };
        (self.upper, self.lower, self.weights) = (upper, lower, weights);

        self.prefetch_for_next(frame, y, 0);
        let (above_row, below_row) = (self.row(frame, above), self.row(frame, below));
        let (grid, columns, words) = (self.grid, &self.columns, &mut self.words);
        let [first, second] = &mut self.sampled;
        let (for_upper, for_lower) = match upper {
            0 => (first, second),
            _ => (second, first),
        };
        let upper_task = for_upper.task(above, above_row);
        let lower_task = (lower != upper)
            .then(|| for_lower.task(below, below_row))
            .flatten();
        match (upper_task, lower_task) {
            (Some(upper), Some(lower)) => {
                instructions.sample_rows(grid, columns, words, [upper, lower]);
            }
            (Some(task), None) | (None, Some(task)) => {
                instructions.sample_rows(grid, columns, words, [task]);
            }
            (None, None) => {}
        }
        self.prefetch_for_next(frame, y, 1);
    }

    /// Has the processor fetch one of the next output row's source rows, unless this one has it too. One before it is
    /// busy with this row's samples and the other after: both at once would wait for each other.
    fn prefetch_for_next(&self, frame: &SystemFrame<'_>, y: usize, which: usize) {
        let Some(next) = self.rows.get(y + 1) else {
            return;
        };
        let (before, source) = (&next.sources[..which], next.sources[which]);
        if !before.contains(&source) && !self.rows[y].sources.contains(&source) {
            prefetch(self.row(frame, source));
        }
    }

    fn row<'a>(&self, frame: &SystemFrame<'a>, source: usize) -> &'a [u8] {
        let plane = &frame.planes[self.grid.plane];
        let (bytes, _) = frame
            .format
            .plane_size(self.grid.plane, frame.width, frame.height);
        &plane.data[source * plane.stride..][..bytes]
    }

    /// A component of the grid, by its place in [`Grid::components`], around the current output row.
    pub fn component(&self, position: usize) -> Component<'_> {
        let width = self.columns.padded_width();
        let sums = |row: usize| &self.sampled[row].sums[position * width..][..width];
        Component::Between(RowPair {
            upper: sums(self.upper),
            lower: sums(self.lower),
            weights: self.weights,
            depth: self.grid.depth(),
        })
    }
}
