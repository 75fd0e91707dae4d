//! What is known of a model when its family is looked for.

use super::Family;
use crate::decode::plan::{self, Activation};
use crate::engine::{ElementType, TensorSpec};
use crate::preprocess::InputGeometry;

/// The strides of the grids that most one-stage detectors have, and of those with one more.
pub const STRIDES: [usize; 3] = [8, 16, 32];
pub const MORE_STRIDES: [usize; 4] = [8, 16, 32, 64];

/// Strides of grids from the finest to the coarsest that one-stage detectors have.
const ALL_STRIDES: [usize; 6] = [4, 8, 16, 32, 64, 128];

/// What is known of a model.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    pub outputs: &'a [TensorSpec],
    /// Inputs besides the image.
    pub other_inputs: &'a [String],
    pub input: InputGeometry,
    /// How many labels there are for the model.
    pub labels: Option<usize>,
    /// The `task` in the metadata that Ultralytics writes.
    pub task: Option<&'a str>,
    /// The `head` in that metadata: the class of the network's last layer.
    pub head: Option<&'a str>,
    /// The model's name without its folder.
    pub file_name: &'a str,
    /// What the user or the model's description names.
    pub decoder: Option<Family>,
    /// Widths and heights of anchors in pixels of the network's input.
    pub anchors: Option<Vec<[f32; 2]>>,
    /// What scores need, where that is not what the family's usually do.
    pub activation: Option<Activation>,
}

impl<'a> Evidence<'a> {
    /// For a network of which only inputs and outputs are known.
    pub fn new(outputs: &'a [TensorSpec], input: InputGeometry) -> Self {
        Self {
            outputs,
            other_inputs: &[],
            input,
            labels: None,
            task: None,
            head: None,
            file_name: "",
            decoder: None,
            anchors: None,
            activation: None,
        }
    }

    /// Whether the file is called like networks of the family.
    pub(super) fn file_hints_at(&self, words: &[&str]) -> bool {
        let name = self.file_name.to_ascii_lowercase();
        words.iter().any(|word| name.contains(word))
    }

    pub(super) fn is_decoder(&self, family: Family) -> bool {
        self.decoder == Some(family)
    }

    /// Whether the model has another input of this name.
    pub(super) fn has_input(&self, name: &str) -> bool {
        self.other_inputs.iter().any(|input| input == name)
    }

    /// The shape of an output of floating-point numbers with so many axes; -1 for those that are open.
    pub(super) fn floats<const AXES: usize>(&self, output: usize) -> Option<[i64; AXES]> {
        let output = self.outputs.get(output)?;
        let float = matches!(output.element, ElementType::Float32 | ElementType::Float16);
        output.shape.as_slice().try_into().ok().filter(|_| float)
    }

    pub(super) fn is_integer(&self, output: usize) -> bool {
        let element = self.outputs.get(output).map(|output| output.element);
        matches!(
            element,
            Some(ElementType::Int32 | ElementType::Int64 | ElementType::Int8 | ElementType::Uint8)
        )
    }

    /// The one output with floating-point numbers and three axes.
    pub(super) fn single(&self) -> Option<[i64; 3]> {
        match self.outputs {
            [_] => self.floats(0),
            _ => None,
        }
    }

    /// The first output whose name holds one of these words, in small letters.
    pub(super) fn named(&self, words: &[&str]) -> Option<usize> {
        self.outputs.iter().position(|output| {
            let name = output.name.to_ascii_lowercase();
            words.iter().any(|word| name.contains(word))
        })
    }

    /// The output with exactly this name, or with a port behind it, as TensorFlow's have.
    pub(super) fn called(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|output| {
            let rest = output.name.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        })
    }

    /// The output with exactly this name.
    pub(super) fn called_exactly(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|output| output.name == name)
    }

    /// Cells of all grids of these strides.
    pub(super) fn cells(&self, strides: &[usize]) -> i64 {
        plan::cells(self.input, strides) as i64
    }

    /// Whether so many candidates can be `each` for each cell of grids of strides that follow each other.
    pub(super) fn fill_grids(&self, candidates: i64, each: i64) -> bool {
        let runs = (0..ALL_STRIDES.len())
            .flat_map(|first| (first + 1..=ALL_STRIDES.len()).map(move |end| first..end));
        let mut cells = runs.map(|run| each * self.cells(&ALL_STRIDES[run]));
        candidates < 0 || cells.any(|cells| cells == candidates)
    }

    /// Whether so many candidates are one for each cell of the usual grids.
    pub(super) fn one_a_cell(&self, candidates: i64) -> bool {
        candidates == self.cells(&STRIDES) || candidates == self.cells(&MORE_STRIDES)
    }

    /// Whether so many candidates are three for each cell of the usual grids.
    pub(super) fn three_a_cell(&self, candidates: i64) -> bool {
        candidates % 3 == 0 && self.one_a_cell(candidates / 3)
    }
}

/// Whether two sizes can be the same: one may be open.
pub(super) fn same(a: i64, b: i64) -> bool {
    a == b || a < 0 || b < 0
}
