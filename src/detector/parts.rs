//! Frames that are inspected in parts.

use std::sync::Arc;

use super::pool::HostModel;
use super::{DetectError, Timings};
use crate::decode::Selection;
use crate::detection::Detection;
use crate::frame::SystemFrame;
use crate::region::{self, Part};

/// The parts of each frame of a request, and what is wanted of them.
pub(super) struct PartsOfFrames {
    pub by_frame: Vec<Arc<[Part]>>,
    pub selection: Arc<Selection>,
}

impl PartsOfFrames {
    /// Replaces what was found in each part by what was found in each frame.
    pub fn merge(&self, found: &mut Vec<Vec<Detection>>) {
        let mut first = 0;
        for (frame, parts) in self.by_frame.iter().enumerate() {
            let mut merged = Vec::new();
            let of_parts = &found[first..first + parts.len()];
            region::merge(parts, of_parts, &self.selection, &mut merged);
            first += parts.len();
            // Frames have at least one part each: what lay here is merged.
            found[frame] = merged;
        }
        found.truncate(self.by_frame.len());
    }
}

/// What the network finds in each part of a frame.
pub(super) fn detect_parts(
    model: &HostModel,
    frame: &SystemFrame<'_>,
    parts: &[Part],
    selection: &Selection,
    outputs: &mut Vec<Vec<Detection>>,
) -> Result<Timings, DetectError> {
    outputs.resize_with(parts.len(), Vec::new);
    let mut timings = Timings::default();
    for (part, output) in parts.iter().zip(outputs) {
        output.clear();
        if let Some(frame) = frame.part(part.rectangle) {
            timings += model.detect(&frame, selection, output)?;
        }
    }
    Ok(timings)
}
