//! The `detections` pad: a line of JSON for every inspected frame.

use gst::prelude::*;

use super::branch::{Stop, Worker};

pub(super) const NAME: &str = "detections";

/// Lines that may wait for what is linked to the pad.
pub(super) const MOST_WAITING: usize = 1024;

pub(super) fn caps() -> gst::Caps {
    gst::Caps::new_empty_simple("application/x-json")
}

#[derive(Debug)]
pub(super) struct LinePusher;

impl Worker for LinePusher {
    type Item = gst::Buffer;
    type Told = ();

    fn new((): ()) -> Self {
        Self
    }

    fn video_caps(&mut self, _pad: &gst::Pad, _caps: &gst::CapsRef) {}

    fn renegotiate(&mut self) {}

    fn ensure_caps(&mut self, pad: &gst::Pad, _next: Option<&gst::Buffer>) -> Result<(), Stop> {
        if !pad.has_current_caps() {
            pad.push_event(gst::event::Caps::new(&caps()));
        }
        Ok(())
    }

    fn push(&mut self, pad: &gst::Pad, line: gst::Buffer) -> Result<(), Stop> {
        pad.push(line)?;
        Ok(())
    }
}
