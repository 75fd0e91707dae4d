//! What the thread of a branch does: events in the order that GStreamer wants, items while downstream takes them.

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::queue::Entry;
use super::{Stop, Worker};
use crate::element::imp;

/// How things stand between the branch and what is linked to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Good,
    /// Downstream wants nothing more of this stream.
    Ended,
    /// Downstream failed: nothing is pushed until a flush, a new stream or a new link.
    Failed,
}

pub(super) struct Pusher<W> {
    pad: gst::Pad,
    element: glib::WeakRef<super::super::RsDetectNet>,
    worker: W,
    standing: Standing,
    /// Sticky events that come after caps in the order of GStreamer, while the pad has none.
    held: Vec<gst::Event>,
}

impl<W: Worker> Pusher<W> {
    pub fn new(
        pad: gst::Pad,
        element: glib::WeakRef<super::super::RsDetectNet>,
        worker: W,
    ) -> Self {
        Self {
            pad,
            element,
            worker,
            standing: Standing::Good,
            held: Vec::new(),
        }
    }

    pub fn handle(&mut self, entry: Entry<W::Item>) {
        let Some(element) = self.element.upgrade() else {
            return;
        };
        imp::RsDetectNet::catch_panic_pad_function(
            Some(element.upcast_ref()),
            || (),
            |_| {
                let done = match entry {
                    Entry::Event(event) => self.event(event),
                    Entry::Item(item) => self.item(item),
                };
                if let Err(stop) = done {
                    self.stop(&element, &stop);
                }
            },
        );
    }

    fn item(&mut self, item: W::Item) -> Result<(), Stop> {
        self.look_downstream();
        if self.standing != Standing::Good || !self.pad.is_linked() {
            return Ok(());
        }
        self.ensure_caps(Some(&item))?;
        self.worker.push(&self.pad, item)
    }

    fn event(&mut self, event: gst::Event) -> Result<(), Stop> {
        gst::log!(imp::CAT, obj = self.pad, "{event:?}");
        self.look_downstream();
        match event.view() {
            gst::EventView::StreamStart(_) | gst::EventView::FlushStop(_) => {
                self.standing = Standing::Good;
                self.push_event(event);
            }
            gst::EventView::Caps(caps) => self.worker.video_caps(&self.pad, caps.caps()),
            gst::EventView::Eos(_) => {
                let ready = self.ready_for_data();
                self.push_event(event);
                ready?;
            }
            _ if event.is_sticky() => {
                if let gst::EventView::Segment(_) = event.view()
                    && self.standing == Standing::Ended
                {
                    self.standing = Standing::Good;
                }
                match self.pad.has_current_caps() {
                    true => self.push_event(event),
                    false => remember(&mut self.held, event),
                }
            }
            _ => {
                self.ready_for_data()?;
                if self.pad.has_current_caps() {
                    self.push_event(event);
                }
            }
        }
        Ok(())
    }

    /// A new link, or a wish for other caps, is a new beginning.
    fn look_downstream(&mut self) {
        if self.pad.check_reconfigure() {
            self.worker.renegotiate();
            if self.standing == Standing::Failed {
                self.standing = Standing::Good;
            }
        }
    }

    /// Caps come before anything but the start of a stream, also where the first to come is a gap.
    fn ready_for_data(&mut self) -> Result<(), Stop> {
        match self.standing == Standing::Good && self.pad.is_linked() {
            true => self.ensure_caps(None),
            false => Ok(()),
        }
    }

    fn ensure_caps(&mut self, next: Option<&W::Item>) -> Result<(), Stop> {
        self.worker.ensure_caps(&self.pad, next)?;
        if self.pad.has_current_caps() {
            for event in std::mem::take(&mut self.held) {
                self.push_event(event);
            }
        }
        Ok(())
    }

    fn push_event(&self, event: gst::Event) {
        if !self.pad.push_event(event) {
            gst::debug!(imp::CAT, obj = self.pad, "downstream refused an event");
        }
    }

    fn stop(&mut self, element: &super::super::RsDetectNet, stop: &Stop) {
        let problem = match stop {
            // Nothing is lost with a pad that nobody listens to, and a flush ends by itself.
            Stop::Flow(gst::FlowError::NotLinked | gst::FlowError::Flushing) => return,
            Stop::Flow(gst::FlowError::Eos) => {
                self.standing = Standing::Ended;
                return;
            }
            Stop::Flow(error) => format!("what is linked to it failed ({error:?})"),
            Stop::Problem(problem) => problem.clone(),
        };
        self.standing = Standing::Failed;
        gst::element_warning!(
            element,
            gst::StreamError::Failed,
            (
                "the pad {} stopped: {problem}; the video goes on",
                self.pad.name()
            )
        );
    }
}

/// Keeps a sticky event in the place of the one that it replaces.
pub(in crate::element) fn remember(events: &mut Vec<gst::Event>, event: gst::Event) {
    fn name(event: &gst::Event) -> Option<&gst::glib::GStr> {
        event.structure().map(|structure| structure.name())
    }
    let replaced = events.iter_mut().find(|kept| {
        kept.type_() == event.type_() && (!event.is_sticky_multi() || name(kept) == name(&event))
    });
    match replaced {
        Some(kept) => *kept = event,
        None => events.push(event),
    }
}
