//! Detections as metadata that the rest of GStreamer understands.

pub mod message;
pub mod roi;
