//! What networks return: one table of all families ([`ENTRIES`]), which is also their documentation, and the search in
//! it. A family is a function that recognises its outputs and one that describes them as a [`Plan`].

mod anchors;
mod centers;
mod detectnet;
mod detr;
mod distributions;
mod evidence;
mod lists;
mod pairs;
mod preparations;
mod rows;
mod table;
mod yolo;

use std::fmt;

pub use evidence::Evidence;
pub use table::{ENTRIES, Entry};

use super::UnexpectedShape;
use super::plan::{Activation, Plan};
use crate::engine::{ElementType, TensorSpec, describe};
use crate::preprocess::{InputGeometry, Preparation};

/// So many classes are reckoned with where neither the outputs nor labels say how many there are.
pub const OPEN_CLASSES: usize = 256;

/// The families of output layouts that are understood. [`ENTRIES`] says what each of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Ssd,
    UltraFace,
    TfDetection,
    TfLiteDetection,
    EfficientNms,
    EfficientDet,
    RtDetr,
    Torchvision,
    DetectionOutput,
    Yolov3,
    Yolov4,
    Yolov4Decoded,
    Yolov5,
    Yolov5Heads,
    Yolov6,
    Yolov7EndToEnd,
    Yolov8,
    YoloObb,
    Yolov10,
    Yolox,
    YoloxDecoded,
    YoloNas,
    YoloNasFlat,
    DamoYolo,
    PpYoloe,
    Paddle,
    PicoDet,
    NanoDet,
    NanoDetPlus,
    UltralyticsRtDetr,
    RtDetrRaw,
    RfDetr,
    Detr,
    RetinaNet,
    MmDetection,
    DetectNetV2,
    DetectNet,
    CenterNet,
    CenterFace,
}

impl Family {
    /// The family that `decoder=` names.
    pub fn from_name(name: &str) -> Option<Self> {
        let entry = ENTRIES.iter().find(|entry| entry.name == name)?;
        Some(entry.family)
    }

    /// The family's line of the table.
    pub fn entry(self) -> &'static Entry {
        // A test makes sure that the table holds the families in their order.
        &ENTRIES[self as usize]
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.entry().name)
    }
}

/// How sure it is that outputs are those of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sureness {
    /// The shapes do not speak against it.
    Possible,
    /// The shapes are those of the family.
    Likely,
    /// Names, inputs or metadata say so.
    Certain,
}

/// How outputs can be read as those of a family.
#[derive(Clone, Debug, PartialEq)]
struct Match {
    sureness: Sureness,
    /// As [`Layout::classes`]; none where the outputs do not say.
    classes: Option<usize>,
    background: bool,
    outputs: Vec<usize>,
    planar: bool,
    anchors: Option<Vec<[f32; 2]>>,
}

impl Match {
    fn new(sureness: Sureness, classes: usize, outputs: &[usize]) -> Self {
        Self {
            sureness,
            classes: Some(classes),
            background: false,
            outputs: outputs.to_vec(),
            planar: false,
            anchors: None,
        }
    }

    /// Of a family whose outputs hold numbers of classes.
    fn open(sureness: Sureness, outputs: &[usize]) -> Self {
        Self {
            classes: None,
            ..Self::new(sureness, 0, outputs)
        }
    }

    fn with_background(self) -> Self {
        Self {
            background: true,
            ..self
        }
    }

    fn fits(&self, labels: usize) -> bool {
        self.classes
            .is_none_or(|classes| classes == labels || (self.background && classes == labels + 1))
    }
}

/// Which outputs of a network hold what.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    pub family: Family,
    /// Number of classes, that of the background included, so that a class is an index into the labels.
    pub classes: usize,
    /// Class 0 is the background.
    pub background: bool,
    /// The outputs hold numbers of classes and do not say how many there are.
    pub open_classes: bool,
    /// Indices into the network's outputs, in the family's own order.
    outputs: Vec<usize>,
    /// Values of a candidate lie in planes, not in a row.
    planar: bool,
    /// Widths and heights of the anchors, in pixels of the network's input, where the model's description gives them.
    anchors: Option<Vec<[f32; 2]>>,
    activation: Option<Activation>,
}

/// The outputs are not those of one family that is understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnknownLayout {
    #[error(
        "the model's outputs are not those of a detector that is understood here: {seen}. Understood are {known}; \
         README lists their outputs, and decoder= names one that the names or shapes do not show"
    )]
    Unknown { seen: String, known: String },
    #[error(
        "the model's outputs ({seen}) can be those of {candidates}: set decoder= to the one that it is"
    )]
    Ambiguous { seen: String, candidates: String },
    #[error("the model's outputs ({seen}) are not those of decoder={family}: {wanted} are needed")]
    Contradiction {
        seen: String,
        family: Family,
        wanted: &'static str,
    },
}

impl Layout {
    /// Finds the family by names, types and shapes, the number of labels and what else is known. What
    /// [`Evidence::decoder`] says counts; of several families, those that names and metadata make certain come first,
    /// then those whose number of classes is that of the labels, then those that the name of the file hints at.
    pub fn recognize(evidence: &Evidence<'_>) -> Result<Self, UnknownLayout> {
        let seen = || describe(evidence.outputs);
        let read = |entry: &'static Entry| {
            if !evidence.outputs.iter().all(|o| is_reasonable(&o.shape)) {
                return None;
            }
            let found = (entry.recognize)(evidence)?;
            let layout = Self::new(entry, found.clone(), evidence);
            layout.fits(evidence).then_some((entry, found))
        };
        if let Some(family) = evidence.decoder {
            let entry = family.entry();
            let (entry, found) = read(entry).ok_or_else(|| UnknownLayout::Contradiction {
                seen: seen(),
                family,
                wanted: entry.outputs,
            })?;
            return Ok(Self::new(entry, found, evidence));
        }
        let matches = ENTRIES.iter().filter_map(read);
        let mut found: Vec<_> = matches.collect();
        type Found = (&'static Entry, Match);
        let mut narrow = |rule: &dyn Fn(&Found) -> bool| {
            if found.iter().any(rule) {
                found.retain(rule);
            }
            found.clone()
        };
        if let Some(labels) = evidence.labels {
            narrow(&|(_, m)| m.fits(labels));
        }
        let surest = narrow(&|_| true).iter().map(|(_, m)| m.sureness).max();
        narrow(&|(_, m)| Some(m.sureness) == surest);
        if evidence.labels.is_none() {
            narrow(&|(_, m)| m.fits(COCO_CLASSES) || m.fits(COCO_CATEGORIES));
        }
        let found = narrow(&|(entry, _)| evidence.file_hints_at(entry.hints));
        match found.as_slice() {
            [] => Err(UnknownLayout::Unknown {
                seen: seen(),
                known: names(ENTRIES.iter()),
            }),
            [(entry, found)] => Ok(Self::new(entry, found.clone(), evidence)),
            several => Err(UnknownLayout::Ambiguous {
                seen: seen(),
                candidates: names(several.iter().map(|(entry, _)| *entry)),
            }),
        }
    }

    fn new(entry: &Entry, found: Match, evidence: &Evidence<'_>) -> Self {
        let open = found.classes.is_none();
        let listed = evidence.labels.unwrap_or(OPEN_CLASSES);
        Self {
            family: entry.family,
            classes: found.classes.unwrap_or(listed),
            background: found.background,
            open_classes: open,
            outputs: found.outputs,
            planar: found.planar,
            anchors: evidence.anchors.clone().or(found.anchors),
            activation: evidence.activation,
        }
    }

    /// Widths and heights of the anchors that the model's description gave, in pixels of the network's input.
    pub fn anchors(&self) -> Option<&[[f32; 2]]> {
        self.anchors.as_deref()
    }

    /// What scores need, where that is not what the family's usually do.
    pub fn activation(&self) -> Option<Activation> {
        self.activation
    }

    /// Whether the outputs can be decoded, as far as their shapes are known.
    fn fits(&self, evidence: &Evidence<'_>) -> bool {
        let mut shapes: Vec<_> = evidence.outputs.iter().map(|o| o.shape.clone()).collect();
        for shape in &mut shapes {
            // The batch is the axis that models leave open, and decoding is the same for each of its images.
            if let [batch @ -1, _, ..] = shape.as_mut_slice() {
                *batch = 1;
            }
        }
        let open = shapes.iter().flatten().any(|&size| size < 0);
        open || self.plan(&shapes, evidence.input, evidence.outputs).is_ok()
    }

    /// What the family's networks want done to pixels, where the model says nothing else. Networks that take
    /// bytes normalise them on their own; signed ones are 128 less.
    pub fn default_preparation(&self, input: ElementType) -> Preparation {
        let mut preparation = self.family.entry().preparation;
        match input {
            ElementType::Uint8 => (preparation.mean, preparation.scale) = ([0.0; 3], [1.0; 3]),
            ElementType::Int8 => (preparation.mean, preparation.scale) = ([128.0; 3], [1.0; 3]),
            _ => {}
        }
        preparation
    }

    /// How to decode outputs of these shapes. `outputs` are named in errors.
    pub fn plan(
        &self,
        shapes: &[Vec<i64>],
        input: InputGeometry,
        outputs: &[TensorSpec],
    ) -> Result<Plan, UnexpectedShape> {
        let shapes_of = Shapes {
            layout: self,
            shapes,
            input,
        };
        let mut plan = (self.family.entry().plan)(&shapes_of).ok_or_else(|| {
            let first = self.outputs.first().copied().unwrap_or_default();
            self.unexpected(first, shapes, outputs)
        })?;
        if let Some(activation) = self.activation {
            for source in &mut plan.sources {
                source.scores.activation = activation;
            }
        }
        Ok(plan)
    }

    pub(super) fn unexpected(
        &self,
        output: usize,
        shapes: &[Vec<i64>],
        outputs: &[TensorSpec],
    ) -> UnexpectedShape {
        UnexpectedShape {
            name: outputs
                .get(output)
                .map_or_else(String::new, |o| o.name.clone()),
            shape: shapes.get(output).cloned().unwrap_or_default(),
            family: self.family,
            classes: self.classes,
        }
    }
}

/// Classes of COCO that have pictures, and numbers of COCO's categories up to the last, 0 for the background included.
const COCO_CLASSES: usize = 80;
const COCO_CATEGORIES: usize = 91;

fn names<'a>(entries: impl Iterator<Item = &'a Entry>) -> String {
    let names: Vec<_> = entries.map(|entry| entry.name).collect();
    names.join(", ")
}

/// The shapes that a run returned, or that TensorRT promises for a batch.
struct Shapes<'a> {
    layout: &'a Layout,
    shapes: &'a [Vec<i64>],
    input: InputGeometry,
}

impl Shapes<'_> {
    /// The index of the output with this role, in the family's order.
    fn output(&self, role: usize) -> Option<usize> {
        self.layout.outputs.get(role).copied()
    }

    /// The sizes of the output with this role, if it has so many axes.
    fn sizes<const AXES: usize>(&self, role: usize) -> Option<[usize; AXES]> {
        let shape = self.shapes.get(self.output(role)?)?;
        if !is_reasonable(shape) {
            return None;
        }
        let shape: &[i64; AXES] = shape.as_slice().try_into().ok()?;
        let mut sizes = [0; AXES];
        for (size, &dimension) in sizes.iter_mut().zip(shape) {
            *size = usize::try_from(dimension).ok()?;
        }
        Some(sizes)
    }

    /// Width and height of the network's input.
    fn input_size(&self) -> [f32; 2] {
        [self.input.width as f32, self.input.height as f32]
    }
}

/// Whether a tensor is as large as a detector's can be: shapes come from people's files, and memory is taken by them.
/// Axes that are open count as 1, and so does the batch.
fn is_reasonable(shape: &[i64]) -> bool {
    const MOST_VALUES: i64 = 1 << 25;
    let axes = match shape {
        [_, axes @ ..] if shape.len() > 2 => axes,
        axes => axes,
    };
    let values = axes
        .iter()
        .try_fold(1i64, |values, &size| values.checked_mul(size.max(1)));
    let known = shape.iter().all(|&size| size >= -1);
    known && values.is_some_and(|values| values <= MOST_VALUES)
}

/// Boxes in pixels of the network's input.
const PIXELS: [f32; 2] = [1.0, 1.0];

#[cfg(test)]
mod tests;
