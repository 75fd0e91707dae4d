//! rsdetectnet finds objects in video frames where the frames already are: a GStreamer plugin with the
//! element `rsdetectnet`, and what applications need to read its results.
//!
//! The way of a frame, room by room: [`frame`] borrows its planes, [`region`] says what of it is looked at,
//! [`preprocess`] writes that into the network's input, an [`engine`] runs the network, [`decode`] turns its output
//! into [`detection`]s, [`track`] knows them again from frame to frame, and [`meta`] attaches them to the buffer;
//! [`crop`] cuts them out, [`overlay`] draws them, and by its [`thumbnail`] a frame that looks like the last one needs
//! none of this. [`model`] knows what a model is, [`detector`] puts the stages together, and only [`element`] knows
//! pads.
//!
//! [`c_api`] gives other languages what they cannot reach through GStreamer.
//!
//! An application registers the element with [`plugin_register_static`] and reads a buffer with [`detections`] and
//! [`crop_details`], an element with [`stats`]. A [`Supervisor`] keeps the pipeline of a camera running, [`Metrics`]
//! say how it goes, and an [`Outbox`] holds what a broker is to get; `pipelines/embed.rs` is a program made of these.

pub mod c_api;
pub mod crop;
pub mod cuda;
pub mod decode;
pub mod detection;
pub mod detector;
mod dynamic_library;
pub mod element;
pub mod engine;
pub mod frame;
pub mod meta;
pub mod metrics;
pub mod model;
pub mod outbox;
pub mod overlay;
pub mod preprocess;
mod printable;
mod profiler;
pub mod region;
pub mod supervisor;
pub mod thumbnail;
pub mod track;

pub use detection::{BoundingBox, Detection, OrientedBox};
pub use element::stats::{StageTime, Stats, stats};
pub use meta::crop::{CropDetails, crop_details};
pub use meta::frame::{FrameDetails, frame_details};
pub use meta::roi::{LabeledDetection, detections};
pub use metrics::{Metrics, serve};
pub use outbox::Outbox;
pub use supervisor::{Latest, ModelKeeper, Supervisor};

use gst::glib;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks even after a panic in another thread: what the locks guard here is replaced whole or counted up, so it is
/// never half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    element::register(plugin)
}

gst::plugin_define!(
    rsdetectnet,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_REPOSITORY"),
    env!("BUILD_REL_DATE")
);
