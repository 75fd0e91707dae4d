//! One grid at the columns of the output, between the nearest two samples of each axis.

use super::grid::Grid;
use super::kernel::{InstructionSet, RowPair, Scratch};
use super::taps::{Taps, tap};
use crate::frame::SystemFrame;
use crate::preprocess::Placement;

/// A source row at the output's columns.
#[derive(Debug)]
struct SampledRow {
    source: Option<usize>,
    /// One component after another.
    samples: Vec<f32>,
}

/// Keeps the two source rows around the current output row, so that neighbouring output rows share them.
#[derive(Debug)]
pub struct BilinearSampler {
    pub grid: &'static Grid,
    taps: Taps,
    rows: [SampledRow; 2],
    upper: usize,
    lower: usize,
    weight: f32,
}

impl BilinearSampler {
    pub fn new(grid: &'static Grid, placement: &Placement) -> Self {
        Self::with_taps(grid, Taps::new(grid, placement))
    }

    pub fn with_taps(grid: &'static Grid, taps: Taps) -> Self {
        let row = || SampledRow {
            source: None,
            samples: vec![0.0; taps.offsets.len() * grid.components().count()],
        };
        Self {
            grid,
            rows: [row(), row()],
            taps,
            upper: 0,
            lower: 0,
            weight: 0.0,
        }
    }

    /// Forgets the samples of the frame before.
    pub fn begin_frame(&mut self) {
        for row in &mut self.rows {
            row.source = None;
        }
    }

    /// Moves to the output row whose centre is at a row of the frame's pixels.
    pub fn sample(
        &mut self,
        frame: &SystemFrame<'_>,
        pixel_row: f64,
        instructions: InstructionSet,
        scratch: &mut Scratch,
    ) {
        let (_, rows) = self.grid.size(frame.width, frame.height);
        let (source, weight) = tap(self.grid.row(pixel_row), rows);
        self.weight = weight;
        // The row sampled for `upper` must not take the place of one that `lower` can still use.
        self.upper = match &self.rows {
            [first, _] if first.source == Some(source) => 0,
            [_, second] if second.source == Some(source) => 1,
            [first, _] if first.source == Some(source + 1) => 1,
            _ => 0,
        };
        self.hold(self.upper, source, frame, instructions, scratch);
        self.lower = self.upper;
        if weight > 0.0 {
            self.lower = 1 - self.upper;
            self.hold(self.lower, source + 1, frame, instructions, scratch);
        }
    }

    /// Samples a source row into a place, unless it is there already.
    fn hold(
        &mut self,
        place: usize,
        source: usize,
        frame: &SystemFrame<'_>,
        instructions: InstructionSet,
        scratch: &mut Scratch,
    ) {
        let row = &mut self.rows[place];
        if row.source == Some(source) {
            return;
        }
        let plane = &frame.planes[self.grid.plane];
        let (bytes, _) = frame
            .format
            .plane_size(self.grid.plane, frame.width, frame.height);
        let data = &plane.data[source * plane.stride..][..bytes];
        instructions.sample_row(self.grid, data, &self.taps, scratch, &mut row.samples);
        row.source = Some(source);
    }

    /// A component of the grid, by its place in [`Grid::components`], around the current output row.
    pub fn component(&self, position: usize) -> RowPair<'_> {
        let width = self.taps.offsets.len();
        let samples = |row: usize| &self.rows[row].samples[position * width..][..width];
        RowPair {
            upper: samples(self.upper),
            lower: samples(self.lower),
            weight: self.weight,
        }
    }
}
