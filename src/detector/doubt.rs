//! What speaks against a model, for all who use it.

use std::sync::{Arc, OnceLock};

use super::CAT;
use crate::printable::printable;

/// Empty until one of a model's copies, or lanes, finds something.
#[derive(Clone, Debug, Default)]
pub struct Doubt(Arc<OnceLock<String>>);

impl Doubt {
    /// Takes in what was found; the first counts.
    pub(super) fn raise(&self, diagnosis: String) {
        gst::warning!(CAT, "{}", printable(&diagnosis));
        let _ = self.0.set(diagnosis);
    }

    /// What was found. Nothing is locked for it.
    pub fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}
