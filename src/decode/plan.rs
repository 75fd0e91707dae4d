//! What every family of networks comes down to: candidates with a box and scores at regular places in the outputs.
//!
//! The decoders for the CPU ([`super::host`]) and the GPU ([`super::cuda`]) know nothing else. A candidate is an
//! anchor of a cell: `index = cell * anchors + anchor`. For each of them:
//!
//! 1. The greatest of its scores decides on its class; of equal ones the first.
//! 2. The confidence is that score after [`Activation`], times the objectness where there is one.
//! 3. It must exceed the class's threshold. Then the four values of the box are read, and [`BoxFormat`] says how they
//!    become left, top, right and bottom in pixels of the network's input.
//! 4. [`Placement`](crate::preprocess::Placement) takes the box into the frame, where it is clipped. Boxes without
//!    area are no candidates.
//! 5. The [`MAX_CANDIDATES`](super::MAX_CANDIDATES) most confident take part in the [`Suppression`].

use std::sync::Arc;

use crate::preprocess::InputGeometry;

/// Where the values of candidates lie in one of the network's outputs, in elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Index into the network's outputs.
    pub output: usize,
    /// The first value of the first candidate.
    pub offset: usize,
    pub image_stride: usize,
    pub cell_stride: usize,
    pub anchor_stride: usize,
    /// From one value of a candidate to the next.
    pub value_stride: usize,
}

impl View {
    /// Rows `[N, cells, row]`, of which a candidate's values start at column `offset`.
    pub fn rows(output: usize, cells: usize, row: usize, offset: usize) -> Self {
        Self {
            output,
            offset,
            image_stride: cells * row,
            cell_stride: row,
            anchor_stride: 0,
            value_stride: 1,
        }
    }

    /// Planes `[N, planes, cells]`, of which a candidate's values start at plane `first`.
    pub fn planes(output: usize, planes: usize, cells: usize, first: usize) -> Self {
        Self {
            output,
            offset: first * cells,
            image_stride: planes * cells,
            cell_stride: 1,
            anchor_stride: 0,
            value_stride: cells,
        }
    }

    /// The same candidates, so many values further.
    pub fn skip(self, values: usize) -> Self {
        Self {
            offset: self.offset + values * self.value_stride,
            ..self
        }
    }

    pub fn at(&self, cell: usize, anchor: usize, value: usize) -> usize {
        self.offset
            + cell * self.cell_stride
            + anchor * self.anchor_stride
            + value * self.value_stride
    }
}

/// From a network's score to a probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    None,
    Sigmoid,
    /// Over all scores of the candidate, and that of the background where there is one.
    Softmax,
}

/// Where a candidate's class comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassOf {
    /// The place of its greatest score; the first score is that of class `first`.
    Score { first: usize },
    /// The anchor: each class has anchors of its own.
    Anchor,
    /// An output holds the number of the class.
    Output(View),
}

/// How confident a candidate is, and of which class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    pub view: View,
    /// Scores of each candidate, that of the background not among them.
    pub classes: usize,
    pub activation: Activation,
    /// The score of the background, which takes part in the softmax.
    pub background: Option<View>,
    /// One value for each candidate that its scores are multiplied with, and whether it needs a sigmoid.
    pub objectness: Option<(View, bool)>,
    pub class: ClassOf,
}

/// What the four values of a box are. A prior (a place, a step and a size) belongs to each candidate; without priors
/// the place is 0, and step and size are [`Boxes::scale`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum BoxFormat {
    /// Left, top, right, bottom: `place + value * step`.
    Corners = 0,
    /// Centre x and y: `place + point * step`; width and height: `extent * size`.
    Centers = 1,
    /// How far left, top, right and bottom are from the place: `place ∓ value * step`.
    Distances = 2,
}

/// From a network's value to the width or height of a box, in sizes of its prior.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Extent {
    Linear = 0,
    /// e^value
    Exponential = 1,
    /// (2 sigmoid(value))²
    SquaredSigmoid = 2,
}

/// From a network's value to the centre of a box, in steps of its prior: `gain * value + bias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The value goes through a sigmoid first.
    pub sigmoid: bool,
    pub gain: f32,
    pub bias: f32,
}

impl Point {
    pub const LINEAR: Self = Self {
        sigmoid: false,
        gain: 1.0,
        bias: 0.0,
    };
}

/// What a candidate's values are relative to, in pixels of the network's input.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Prior {
    pub x: f32,
    pub y: f32,
    pub step_x: f32,
    pub step_y: f32,
    pub width: f32,
    pub height: f32,
}

/// Where a candidate's box is.
#[derive(Clone, Debug, PartialEq)]
pub struct Boxes {
    /// The first two values, or all of a distribution's.
    pub points: View,
    /// The last two values.
    pub extents: View,
    pub format: BoxFormat,
    /// Vertical values come before horizontal ones.
    pub vertical_first: bool,
    /// Each of the four values is the mean of a softmax over so many, 0 to `bins - 1`; 1 where it is the value itself.
    pub bins: usize,
    pub point: Point,
    pub extent: Extent,
    /// What the last two values are multiplied with before [`Extent`].
    pub extent_gain: f32,
    /// Pixels of the network's input for one unit of a box without prior.
    pub scale: [f32; 2],
    /// One for each candidate.
    pub priors: Option<Arc<[Prior]>>,
    /// Radians, clockwise about the centre.
    pub angle: Option<View>,
}

impl Boxes {
    /// Four values in a row, in units of `scale`.
    pub fn plain(view: View, format: BoxFormat, scale: [f32; 2]) -> Self {
        Self {
            points: view,
            extents: view.skip(2),
            format,
            vertical_first: false,
            bins: 1,
            point: Point::LINEAR,
            extent: Extent::Linear,
            extent_gain: 1.0,
            scale,
            priors: None,
            angle: None,
        }
    }
}

/// Candidates whose values lie in the same outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub cells: usize,
    /// Candidates in each cell.
    pub anchors: usize,
    pub scores: Scores,
    pub boxes: Boxes,
    /// A value for each image: so many cells hold something.
    pub count: Option<View>,
    /// The first cell whose value here is negative ends the list.
    pub end: Option<View>,
    /// The cells are rows of so many: only the greatest score among a cell and its neighbours counts.
    pub peaks: Option<usize>,
}

impl Source {
    /// Candidates that all count.
    pub fn new(cells: usize, anchors: usize, scores: Scores, boxes: Boxes) -> Self {
        Self {
            cells,
            anchors,
            scores,
            boxes,
            count: None,
            end: None,
            peaks: None,
        }
    }

    pub fn candidates(&self) -> usize {
        self.cells * self.anchors
    }

    /// Every view, with the number of its values.
    pub fn views(&self) -> impl Iterator<Item = (View, usize)> + '_ {
        let Self { scores, boxes, .. } = self;
        let boxes_of = match boxes.bins {
            1 => [Some((boxes.points, 2)), Some((boxes.extents, 2))],
            bins => [Some((boxes.points, 4 * bins)), None],
        };
        let class = match scores.class {
            ClassOf::Output(view) => Some((view, 1)),
            _ => None,
        };
        let single = |view: Option<View>| view.map(|view| (view, 1));
        [
            Some((scores.view, scores.classes)),
            single(scores.background),
            single(scores.objectness.map(|(view, _)| view)),
            class,
            single(boxes.angle),
            single(self.end),
            self.count.map(|view| (view, 1)),
        ]
        .into_iter()
        .chain(boxes_of)
        .flatten()
    }
}

/// What is done about several boxes for one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Suppression {
    /// Nothing: the network has done it.
    None = 0,
    /// The most confident one of a class stays, those that overlap it go (IoU).
    PerClass = 1,
    /// From the most confident down, a box joins the first one of its class that covers it, or that it covers, to
    /// the threshold (intersection by the area of the larger); the two become the box around both.
    Clusters = 2,
}

/// All candidates of a network, for one shape of its outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub sources: Vec<Source>,
    pub suppression: Suppression,
}

impl Plan {
    pub fn new(source: Source, suppression: Suppression) -> Self {
        Self {
            sources: vec![source],
            suppression,
        }
    }

    pub fn candidates(&self) -> usize {
        self.sources.iter().map(Source::candidates).sum()
    }
}

/// Columns and rows of the cells of `stride` pixels that cover the input.
pub fn grid(input: InputGeometry, stride: usize) -> (usize, usize) {
    (input.width.div_ceil(stride), input.height.div_ceil(stride))
}

/// Cells of all grids together.
pub fn cells(input: InputGeometry, strides: &[usize]) -> usize {
    let cells = |&stride: &usize| {
        let (columns, rows) = grid(input, stride);
        columns * rows
    };
    strides.iter().map(cells).sum()
}

/// A prior for each cell of each grid, row by row, placed so many cells from the cell's left upper corner; step and
/// size are the stride.
pub fn grid_priors(input: InputGeometry, strides: &[usize], place: f32) -> Arc<[Prior]> {
    let mut priors = Vec::with_capacity(cells(input, strides));
    for &stride in strides {
        let (columns, rows) = grid(input, stride);
        let stride = stride as f32;
        for row in 0..rows {
            priors.extend((0..columns).map(|column| Prior {
                x: (column as f32 + place) * stride,
                y: (row as f32 + place) * stride,
                step_x: stride,
                step_y: stride,
                width: stride,
                height: stride,
            }));
        }
    }
    priors.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::TensorLayout;

    #[test]
    fn grids_cover_inputs_that_are_no_multiple_of_their_stride() {
        let input = InputGeometry {
            width: 100,
            height: 64,
            layout: TensorLayout::Nchw,
        };
        assert_eq!(cells(input, &[8, 16, 32]), 13 * 8 + 7 * 4 + 4 * 2);
        let priors = grid_priors(input, &[16, 32], 0.5);
        assert_eq!(priors.len(), 7 * 4 + 4 * 2);
        assert_eq!((priors[8].x, priors[8].y), (24.0, 24.0));
        assert_eq!((priors[28].x, priors[28].step_x), (16.0, 32.0));
    }
}
