//! Signs that a model is not what it was taken for, or does not work: what its values are, seen over many frames.

use super::Layout;
use crate::detection::BoundingBox;
use crate::preprocess::Placement;

/// What has been seen in a network's outputs that outputs of a working network never hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// A score, or a confident box, is not a number.
    pub not_a_number: bool,
    /// A confidence is clearly above 1.
    pub above_one: bool,
    /// A score that is a probability is clearly below 0.
    pub below_zero: bool,
    /// A confident box lies far outside of the network's input.
    pub far: bool,
    /// A confident box has a class that the labels do not have.
    pub unknown_class: bool,
    /// Some score is not 0.
    pub something: bool,
    /// Confident boxes, and those of them that are smaller than two pixels of the network's input.
    pub boxes: u32,
    pub specks: u32,
    frames: u32,
    told: bool,
}

impl Signs {
    /// Confidences go a little beyond 1 in float16.
    pub const HIGHEST_CONFIDENCE: f32 = 1.01;
    pub const LOWEST_CONFIDENCE: f32 = -0.01;
    /// A box further from the picture than this many of its widths or heights is none.
    const FAR: f32 = 2.0;
    /// Boxes smaller than this in both directions are those of units that were misunderstood.
    const SPECK: f32 = 2.0;
    /// A network that finds nothing may have nothing to find; one without any score above 0 does not work.
    const SILENT_FRAMES: u32 = 10;
    const ENOUGH_BOXES: u32 = 20;

    /// As `Sign` of decode.cuh has them.
    pub fn from_bits(bits: u32) -> Self {
        Self {
            not_a_number: bits & 1 != 0,
            above_one: bits & 2 != 0,
            far: bits & 4 != 0,
            unknown_class: bits & 8 != 0,
            something: bits & 16 != 0,
            below_zero: bits & 32 != 0,
            ..Self::default()
        }
    }

    /// Takes a confident box in pixels of the network's input into account.
    pub fn look_at(&mut self, in_input: &BoundingBox, placement: &Placement) {
        let outside = |low: f32, high: f32, start: usize, size: usize| {
            let (start, size) = (start as f32, size as f32);
            high < start - Self::FAR * size || low > start + (1.0 + Self::FAR) * size
        };
        let Placement {
            left,
            top,
            width,
            height,
            ..
        } = *placement;
        let BoundingBox {
            x,
            y,
            width: w,
            height: h,
        } = *in_input;
        self.not_a_number |= [x, y, w, h].into_iter().any(f32::is_nan);
        self.far |= outside(in_input.x, in_input.right(), left, width)
            || outside(in_input.y, in_input.bottom(), top, height);
        self.boxes = self.boxes.saturating_add(1);
        let speck = in_input.width < Self::SPECK && in_input.height < Self::SPECK;
        self.specks = self.specks.saturating_add(u32::from(speck));
    }

    /// Takes the signs of one more frame in.
    pub fn join(&mut self, frame: Self) {
        self.not_a_number |= frame.not_a_number;
        self.above_one |= frame.above_one;
        self.below_zero |= frame.below_zero;
        self.far |= frame.far;
        self.unknown_class |= frame.unknown_class;
        self.something |= frame.something;
        self.boxes = self.boxes.saturating_add(frame.boxes);
        self.specks = self.specks.saturating_add(frame.specks);
        self.frames = self.frames.saturating_add(1);
    }

    /// What the signs mean, once.
    pub fn diagnosis(&mut self, layout: &Layout) -> Option<String> {
        let meaning = match self.told {
            true => None,
            false => self.meaning(layout),
        };
        self.told |= meaning.is_some();
        meaning
    }

    fn meaning(&self, layout: &Layout) -> Option<String> {
        let family = layout.family;
        Some(if self.not_a_number {
            "the network returns values that are not numbers: with float16 its values may be too large for it, which \
             precision=fp32 cures; else the model file is damaged"
                .into()
        } else if self.above_one {
            format!(
                "the network's scores are above 1, which those of {family} are not: set decoder= to the model's family"
            )
        } else if self.below_zero {
            format!(
                "the network's scores are below 0, as those of {family} are not: they may need activation=sigmoid in \
                 the model's .modelinfo, or decoder= the model's family"
            )
        } else if self.unknown_class {
            format!(
                "the network returns classes beyond the {} that are known: set labels= to the list that belongs to it",
                layout.classes
            )
        } else if self.far {
            format!(
                "the network's boxes lie far outside of the picture, which those of {family} do not: set decoder= to \
                 the model's family"
            )
        } else if self.boxes >= Self::ENOUGH_BOXES && self.specks * 2 > self.boxes {
            format!(
                "most of the network's boxes are smaller than two pixels, as if their unit were not that of {family}: \
                 set decoder= to the model's family"
            )
        } else if self.frames >= Self::SILENT_FRAMES && !self.something {
            "every score that the network returns is 0: the model file is damaged, or its preparation (mean, scale, \
             colour order) is not the one it was trained with"
                .into()
        } else {
            return None;
        })
    }
}
