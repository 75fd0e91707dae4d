//! One grid at the columns of the output, where at least one axis takes the mean of all samples under a pixel.
//!
//! The rows under an output row become one row, in which every sample counts; then the columns of this row under
//! each output pixel become one number.

use super::grid::Grid;
use super::kernel::{Component, InstructionSet};
use crate::frame::SystemFrame;
use crate::preprocess::{Placement, Shrinking};

/// Neighbouring samples of an axis with their weights, which sum up to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    pub first: usize,
    pub last: usize,
    /// The weight of the first sample.
    pub lead: f32,
    /// The weight of each sample between the first and the last.
    pub inner: f32,
    /// The weight of the last sample; 0 if it is the first.
    pub trail: f32,
}

impl Span {
    /// The nearest two samples of a position; beyond the edges those of the edge.
    fn around(position: f64, samples: usize) -> Self {
        let position = position.clamp(0.0, samples.saturating_sub(1) as f64);
        let (first, weight) = (position.floor(), position.fract() as f32);
        Self {
            first: first as usize,
            last: (first as usize + 1).min(samples - 1),
            lead: 1.0 - weight,
            inner: 0.0,
            trail: weight,
        }
    }

    /// All samples between two positions.
    fn between(begin: f64, end: f64, samples: usize) -> Self {
        // From here on the sample `i` reaches from `i` to `i + 1`.
        let begin = (begin + 0.5).clamp(0.0, samples as f64 - 1.0);
        let end = (end + 0.5).clamp(begin, samples as f64);
        let first = begin as usize;
        let last = (end.ceil() as usize).saturating_sub(1);
        if last <= first {
            return Self::around(first as f64, first + 1);
        }
        let length = end - begin;
        Self {
            first,
            last,
            lead: (((first + 1) as f64 - begin) / length) as f32,
            inner: length.recip() as f32,
            trail: ((end - last as f64) / length) as f32,
        }
    }

    /// The samples of a grid for a column of the picture.
    fn of_column(grid: &Grid, placement: &Placement, x: usize) -> Self {
        let (columns, _) = grid.size(placement.frame_width, placement.frame_height);
        if !Shrinking::Average.averages(placement.frame_width, placement.width) {
            return Self::around(grid.column(placement.frame_column(x)), columns);
        }
        let edge = |x| grid.column(placement.frame_column_edge(x));
        Self::between(edge(x), edge(x + 1), columns)
    }

    /// The samples of a grid for a row of the picture.
    fn of_row(grid: &Grid, placement: &Placement, y: usize) -> Self {
        let (_, rows) = grid.size(placement.frame_width, placement.frame_height);
        if !Shrinking::Average.averages(placement.frame_height, placement.height) {
            return Self::around(grid.row(placement.frame_row(y)), rows);
        }
        let edge = |y| grid.row(placement.frame_row_edge(y));
        Self::between(edge(y), edge(y + 1), rows)
    }
}

/// The rows of a plane that make up an output row.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub data: &'a [u8],
    /// Bytes from one row to the next, and those of a row that count.
    pub stride: usize,
    pub bytes: usize,
    pub span: Span,
}

impl<'a> Rows<'a> {
    pub fn row(&self, index: usize) -> &'a [u8] {
        &self.data[index * self.stride..][..self.bytes]
    }
}

#[derive(Debug)]
pub struct AreaSampler {
    grid: &'static Grid,
    columns: Vec<Span>,
    /// All samples of the plane's row, in the weighted sum of rows.
    merged: Vec<f32>,
    /// The same at the output's columns.
    means: Vec<f32>,
    /// The output row, one component after another.
    samples: Vec<f32>,
}

impl AreaSampler {
    pub fn new(grid: &'static Grid, placement: &Placement) -> Self {
        let (columns, _) = grid.size(placement.frame_width, placement.frame_height);
        Self {
            grid,
            columns: (0..placement.width)
                .map(|x| Span::of_column(grid, placement, x))
                .collect(),
            merged: vec![0.0; columns * grid.samples_of_step()],
            means: vec![0.0; placement.width * grid.samples_of_step()],
            samples: vec![0.0; placement.width * grid.components().count()],
        }
    }

    /// Moves to the picture's row `y`.
    pub fn sample(
        &mut self,
        frame: &SystemFrame<'_>,
        placement: &Placement,
        y: usize,
        instructions: InstructionSet,
    ) {
        let plane = &frame.planes[self.grid.plane];
        let (bytes, _) = frame
            .format
            .plane_size(self.grid.plane, frame.width, frame.height);
        let rows = Rows {
            data: plane.data,
            stride: plane.stride,
            bytes,
            span: Span::of_row(self.grid, placement, y),
        };
        let workspace = [&mut *self.merged, &mut *self.means];
        instructions.sample_area(self.grid, rows, &self.columns, workspace, &mut self.samples);
    }

    /// A component of the grid, by its place in [`Grid::components`], in the current output row.
    pub fn component(&self, position: usize) -> Component<'_> {
        let width = self.columns.len();
        Component::Ready(&self.samples[position * width..][..width])
    }
}
