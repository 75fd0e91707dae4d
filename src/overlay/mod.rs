//! Draws detections into a frame, in place: outlines, and what was found as text on plates.
//!
//! [`layout`] turns detections into a plain list of shapes and knows nothing of pixel formats or memory. [`cpu`]
//! renders such a list into a frame in system memory, [`cuda`] into one in the memory of a GPU. Any renderer that
//! keeps these rules draws the same picture, to the bit:
//!
//! 1. Shapes are drawn in the order of the list, each over what the ones before it left; a line of text is as
//!    many shapes as it has glyphs, drawn from left to right.
//! 2. A shape's colour becomes sample values once, by [`color::Color::sample`]. An alpha channel is drawn
//!    towards opaque; the filler byte of RGBx and BGRx is left alone.
//! 3. A sample stands for one pixel, a subsampled chroma sample for the two or four pixels it is shared by, of
//!    which only those within the frame count. With `covered` of its `pixels` pixels covered by the shape,
//!    `opacity = (alpha * covered + pixels / 2) / pixels`, it becomes
//!    `(old * (255 - opacity) + value * opacity + 127) / 255`, all in integers, rounding down; a sample with
//!    opacity 0 is left alone. So a line one pixel wide tints the chroma it shares with its neighbour by half,
//!    as if the frame had been drawn in full resolution and subsampled afterwards.
//! 4. P010 samples are blended as 10-bit values; the lower 6 bits of a drawn sample are 0.

pub mod color;
pub mod cpu;
pub mod cuda;
pub mod draw;
pub mod layout;
mod tail;
pub mod text;

use crate::detection::Detection;
use crate::frame::SystemFrameMut;
use color::Color;
use layout::Picture;
use tail::Tails;

/// What is drawn for a detection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The edges of the bounding box.
    pub outline: bool,
    /// The inside of the bounding box.
    pub fill: bool,
    /// The label of the class.
    pub label: bool,
    /// The confidence, with two decimals.
    pub confidence: bool,
    /// The identity that a tracker gave, as `#12`; nothing for an object without one.
    pub track: bool,
    /// The way that an object with an identity has come, which fades with its age.
    pub tail: bool,
}

impl Parts {
    fn any_text(self) -> bool {
        self.label || self.confidence || self.track
    }
}

/// What is drawn for a detection, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub parts: Parts,
    /// Opacity of the inside of boxes; 255 hides what was there.
    pub fill_alpha: u8,
    /// By class; classes without one have [`Color::of_class`].
    pub colors: Vec<Option<Color>>,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            parts: Parts::default(),
            // That of jetson-inference.
            fill_alpha: 120,
            colors: Vec::new(),
        }
    }
}

impl From<Parts> for Look {
    fn from(parts: Parts) -> Self {
        Self {
            parts,
            ..Self::default()
        }
    }
}

impl Look {
    /// Whether anything is drawn at all.
    pub fn is_anything(&self) -> bool {
        self.parts != Parts::default()
    }

    fn color(&self, class_id: u32) -> Color {
        let own = self.colors.get(class_id as usize).copied().flatten();
        own.unwrap_or_else(|| Color::of_class(class_id))
    }
}

/// Draws detections into frames. Keep one for many frames: its buffers are used again.
#[derive(Debug, Default)]
pub struct Overlay {
    look: Look,
    tails: Tails,
    picture: Picture,
    coverage: Vec<u8>,
}

impl Overlay {
    pub fn new(look: impl Into<Look>) -> Self {
        Self {
            look: look.into(),
            ..Self::default()
        }
    }

    /// Draws differently from now on.
    pub fn change(&mut self, look: Look) {
        self.look = look;
    }

    /// Draws `detections` into `frame`. `labels` are indexed by class; a class without one is drawn as `class 7`.
    /// Boxes are cut at the edges of the frame; those without area in it are not drawn.
    pub fn draw<L: AsRef<str>>(
        &mut self,
        frame: &mut SystemFrameMut<'_>,
        detections: &[Detection],
        labels: &[L],
    ) {
        let (width, height) = (frame.width, frame.height);
        self.picture(detections, labels, width, height);
        cpu::render(&self.picture, frame, &mut self.coverage);
    }

    /// The same as a picture, for another renderer and a frame of this size. Each is a step on the way of its objects.
    pub fn picture<L: AsRef<str>>(
        &mut self,
        detections: &[Detection],
        labels: &[L],
        width: usize,
        height: usize,
    ) -> &Picture {
        let (look, tails) = (&self.look, &mut self.tails);
        self.picture
            .lay_out(look, tails, detections, labels, width, height);
        &self.picture
    }
}
