//! One grid at the columns of the output, in either way of shrinking.

use super::area::AreaSampler;
use super::bilinear::BilinearSampler;
use super::grid::Grid;
use super::kernel::{Component, InstructionSet};
use crate::frame::SystemFrame;
use crate::preprocess::{Placement, Shrinking};

#[derive(Debug)]
enum Way {
    Bilinear(Box<BilinearSampler>),
    Area(AreaSampler),
}

/// Makes the rows of one grid for the output, from the first to the last.
#[derive(Debug)]
pub struct Sampler {
    grid: &'static Grid,
    way: Way,
}

impl Sampler {
    pub fn new(grid: &'static Grid, placement: &Placement, shrinking: Shrinking) -> Self {
        let averages = shrinking.averages(placement.frame_width, placement.width)
            || shrinking.averages(placement.frame_height, placement.height);
        let way = match averages {
            true => Way::Area(AreaSampler::new(grid, placement)),
            false => Way::Bilinear(Box::new(BilinearSampler::new(
                grid,
                (placement.frame_width, placement.frame_height),
                (0..placement.width).map(|x| placement.frame_column(x)),
                (0..placement.height).map(|y| placement.frame_row(y)),
            ))),
        };
        Self { grid, way }
    }

    pub fn grid(&self) -> &'static Grid {
        self.grid
    }

    /// Forgets the samples of the frame before.
    pub fn begin_frame(&mut self) {
        match &mut self.way {
            Way::Bilinear(sampler) => sampler.begin_frame(),
            Way::Area(_) => {}
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
        match &mut self.way {
            Way::Bilinear(sampler) => sampler.sample(frame, y, instructions),
            Way::Area(sampler) => sampler.sample(frame, placement, y, instructions),
        }
    }

    /// A component of the grid, by its place in [`Grid::components`], around the current output row.
    pub fn component(&self, position: usize) -> Component<'_> {
        match &self.way {
            Way::Bilinear(sampler) => sampler.component(position),
            Way::Area(sampler) => sampler.component(position),
        }
    }
}
