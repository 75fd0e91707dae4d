//! Detections as metadata that the rest of GStreamer understands.

pub mod analytics;
pub mod crop;
pub mod frame;
pub mod json;
pub mod message;
pub mod nvds;
mod quarks;
pub mod roi;

use std::sync::Once;

use gst::meta::CustomMeta;

use self::analytics::{Analytics, AnalyticsMissing};
use self::message::FrameFacts;
use self::nvds::{DeepStreamError, NvDs};
use self::roi::Regions;
use crate::detection::Detection;
use crate::model::Labels;

/// Which metadata is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kinds {
    /// All that this system has.
    #[default]
    Auto,
    /// Just these, of which none may be missing.
    Only(Choice),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    pub roi: bool,
    pub analytics: bool,
    pub nvds: bool,
}

/// Metadata was asked for by name that this system does not have.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum MetadataError {
    #[error("metadata=analytics: {0}")]
    Analytics(#[from] AnalyticsMissing),
    #[error("metadata=nvds: {0}")]
    NvDs(#[from] DeepStreamError),
}

/// Makes a custom meta known to GStreamer, if `once` is new.
fn register_custom(name: &str, once: &Once) {
    once.call_once(|| {
        // The plugin and an application that links this library may both be there.
        if !CustomMeta::is_registered(name) {
            CustomMeta::register(name, &[]);
        }
    });
}

/// Attaches the detections of one stream.
#[derive(Default)]
pub struct Metadata {
    /// Whether anything is attached at all.
    any: bool,
    regions: Option<Regions>,
    analytics: Option<Analytics>,
    nvds: Option<NvDs>,
}

impl Metadata {
    /// Takes over which kinds to attach; on an error the earlier ones stay.
    pub fn choose(&mut self, kinds: Kinds) -> Result<(), MetadataError> {
        let (analytics, nvds) = match kinds {
            Kinds::Auto => (
                analytics::Library::get().ok(),
                Some(NvDs::where_a_batch_is()),
            ),
            Kinds::Only(choice) => (
                choice.analytics.then(analytics::Library::get).transpose()?,
                choice.nvds.then(NvDs::always).transpose()?,
            ),
        };
        let earlier = self.analytics.take();
        self.analytics =
            analytics.map(|library| earlier.unwrap_or_else(|| Analytics::new(library)));
        self.any = kinds != Kinds::Only(Choice::default());
        let roi = matches!(kinds, Kinds::Auto | Kinds::Only(Choice { roi: true, .. }));
        let earlier = self.regions.take();
        self.regions = roi.then(|| earlier.unwrap_or_default());
        self.nvds = nvds;
        Ok(())
    }

    /// Whether what is known of a buffer, and was found in its frames, leaves anything on it.
    pub fn applies_to(
        &self,
        buffer: &gst::BufferRef,
        facts: &FrameFacts<'_>,
        detections: &[Vec<Detection>],
    ) -> bool {
        let found = detections.iter().any(|found| !found.is_empty());
        found && (self.regions.is_some() || self.analytics.is_some())
            || self.any && frame::applies_to(facts)
            || self.nvds.is_some_and(|nvds| nvds.applies_to(buffer))
    }

    /// Attaches what was found in the frames of a buffer, of which only batches of nvstreammux have more than
    /// one. Relation metas have no word for those, and are left out.
    pub fn attach(
        &mut self,
        buffer: &mut gst::BufferRef,
        facts: &FrameFacts<'_>,
        detections: &[Vec<Detection>],
        labels: &Labels,
    ) {
        if self.any && frame::applies_to(facts) {
            frame::attach(buffer, facts);
        }
        if let Some(regions) = &mut self.regions {
            let batched = detections.len() > 1;
            for (index, found) in detections.iter().enumerate() {
                let batch_id = batched.then_some(index as u32);
                regions.attach(buffer, facts, batch_id, found, labels);
            }
        }
        if let (Some(analytics), [found]) = (&mut self.analytics, detections)
            && !found.is_empty()
        {
            analytics.attach(buffer, facts, found, labels);
        }
        if let Some(nvds) = self.nvds {
            nvds.attach(buffer, facts, detections, labels);
        }
    }
}
