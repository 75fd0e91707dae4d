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
pub mod layout;
pub mod text;

use crate::detection::Detection;
use crate::frame::SystemFrameMut;
use layout::Picture;

/// What is drawn for a detection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The edges of the bounding box.
    pub outline: bool,
    /// The label of the class.
    pub label: bool,
    /// The confidence, with two decimals.
    pub confidence: bool,
    /// The identity that a tracker gave, as `#12`; nothing for an object without one.
    pub track: bool,
}

impl Parts {
    fn any_text(self) -> bool {
        self.label || self.confidence || self.track
    }
}

/// Draws detections into frames. Keep one for many frames: its buffers are used again.
#[derive(Debug, Default)]
pub struct Overlay {
    parts: Parts,
    picture: Picture,
    coverage: Vec<u8>,
}

impl Overlay {
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            ..Self::default()
        }
    }

    /// Draws `detections` into `frame`. `labels` are indexed by class; a class without one is drawn as `class 7`.
    /// Boxes are cut at the edges of the frame; those without area in it are not drawn.
    pub fn draw<L: AsRef<str>>(
        &mut self,
        frame: &mut SystemFrameMut<'_>,
        detections: &[Detection],
        labels: &[L],
    ) {
        self.picture
            .lay_out(self.parts, detections, labels, frame.width, frame.height);
        cpu::render(&self.picture, frame, &mut self.coverage);
    }

    /// The same as a picture, for another renderer and a frame of this size.
    pub fn picture<L: AsRef<str>>(
        &mut self,
        detections: &[Detection],
        labels: &[L],
        width: usize,
        height: usize,
    ) -> &Picture {
        self.picture
            .lay_out(self.parts, detections, labels, width, height);
        &self.picture
    }
}
