//! From output tensors to detections in pixels of the frame.
//!
//! [`families`] knows what networks return, and brings each to a [`plan::Plan`]; [`host`] and [`cuda`] carry it out.

pub mod classes;
pub mod cuda;
pub mod families;
pub mod host;
pub mod nms;
pub mod plan;
mod signs;

use crate::engine::TensorSpec;
use crate::preprocess::InputGeometry;

pub use families::{Evidence, Family, Layout, UnknownLayout};
pub use signs::Signs;

/// So many candidates of an image, the most confident, take part in the suppression.
pub const MAX_CANDIDATES: usize = 4096;

/// A run returned tensors of other shapes than the model had promised.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the network returned {name} of shape {shape:?}, which does not fit {family} with {classes} classes"
)]
pub struct UnexpectedShape {
    name: String,
    shape: Vec<i64>,
    family: Family,
    classes: usize,
}

/// The sizes that boxes may have, in pixels of the frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SizeLimits {
    /// Boxes with a shorter side go.
    pub smallest: f32,
    /// Boxes with a longer side go.
    pub largest: f32,
}

impl Default for SizeLimits {
    fn default() -> Self {
        Self::NONE
    }
}

impl SizeLimits {
    pub const NONE: Self = Self {
        smallest: 0.0,
        largest: f32::INFINITY,
    };

    fn contains(&self, shorter: f32, longer: f32) -> bool {
        shorter >= self.smallest && longer <= self.largest
    }
}

/// What else goes besides unsure boxes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Filter {
    /// Of overlapping boxes of different classes, too, only the most confident stays.
    pub class_agnostic: bool,
    pub sizes: SizeLimits,
    /// Most detections of a class; 0 is no limit.
    pub most_of_class: usize,
    /// Above 0, boxes that overlap a better one of their class do not go: they become less confident, by
    /// `e^(-IoU² / soft_sigma)` (Bodla et al., "Soft-NMS", 2017), and go where that is no more than their threshold.
    pub soft_sigma: f32,
}

impl Filter {
    /// Leaves all as it is.
    pub const NONE: Self = Self {
        class_agnostic: false,
        sizes: SizeLimits::NONE,
        most_of_class: 0,
        soft_sigma: 0.0,
    };
}

/// What is kept of the network's candidates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// What the confidence must exceed, by class; infinite for classes that are not wanted.
    pub thresholds: Vec<f32>,
    pub iou_threshold: f32,
    pub max_detections: usize,
    pub filter: Filter,
}

impl Selection {
    fn wants(&self, class: usize, confidence: f32) -> bool {
        self.thresholds
            .get(class)
            .is_some_and(|threshold| confidence > *threshold)
    }

    /// Only candidates above this can be wanted.
    fn least_threshold(&self) -> f32 {
        self.thresholds
            .iter()
            .copied()
            .fold(f32::INFINITY, f32::min)
    }
}

/// A layout that decodes on the CPU. It keeps what it needs from frame to frame.
#[derive(Clone, Debug)]
pub struct HostDecoder {
    layout: Layout,
    input: InputGeometry,
    outputs: Vec<TensorSpec>,
    /// For the shapes of the last run.
    shapes: Vec<Vec<i64>>,
    plan: Option<plan::Plan>,
    scratch: host::Scratch,
    signs: Signs,
}

impl HostDecoder {
    /// For a network with these outputs, of the layout that was recognised by them.
    pub fn new(layout: Layout, input: InputGeometry, outputs: &[TensorSpec]) -> Self {
        Self {
            layout,
            input,
            outputs: outputs.to_vec(),
            shapes: Vec::new(),
            plan: None,
            scratch: host::Scratch::default(),
            signs: Signs::default(),
        }
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Replaces `detections` by those that the first image of the outputs holds, best first, in pixels of the
    /// frame and within it. `outputs` are all of the network's outputs, in the network's order.
    pub fn decode(
        &mut self,
        outputs: &[crate::engine::Tensor<'_>],
        placement: &crate::preprocess::Placement,
        selection: &Selection,
        detections: &mut Vec<crate::detection::Detection>,
    ) -> Result<(), UnexpectedShape> {
        let same = self.shapes.len() == outputs.len()
            && self.shapes.iter().zip(outputs).all(|(a, b)| a == b.shape);
        if self.plan.is_none() || !same {
            self.shapes = outputs.iter().map(|o| o.shape.to_vec()).collect();
            self.plan = Some(self.layout.plan(&self.shapes, self.input, &self.outputs)?);
        }
        let Some(plan) = &self.plan else {
            return Ok(());
        };
        let scratch = &mut self.scratch;
        let signs = host::decode(plan, outputs, placement, selection, scratch, detections)
            .map_err(|short| self.layout.unexpected(short.0, &self.shapes, &self.outputs))?;
        self.signs.join(signs);
        Ok(())
    }

    /// What speaks against the model, in a sentence, the first time that something does.
    pub fn diagnosis(&mut self) -> Option<String> {
        self.signs.diagnosis(&self.layout)
    }
}
