//! What the element does with the events that reach it.

use gst::subclass::prelude::*;

use super::imp::{CAT, RsDetectNet};
use super::memory::Format;
use super::quality::Quality;
use crate::lock;

impl RsDetectNet {
    pub(super) fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        gst::log!(CAT, obj = pad, "{event:?}");
        let sends_apart = self.sends_apart();
        match event.view() {
            gst::EventView::Caps(caps) => {
                let Some(format) = Format::from_caps(caps.caps()) else {
                    gst::element_imp_error!(
                        self,
                        gst::CoreError::Negotiation,
                        ("frames of {} cannot be inspected", caps.caps())
                    );
                    return false;
                };
                gst::info!(CAT, obj = pad, "frames are {}", caps.caps());
                if let Some(streaming) = lock(&self.streaming).as_mut() {
                    let size = |format: &Format| format.shape.size();
                    if streaming.format.as_ref().map(size) != Some(size(&format)) {
                        streaming.scenes.change();
                    }
                    streaming.format = Some(format);
                    streaming.forget_past();
                }
            }
            gst::EventView::StreamStart(start) => {
                if let Some(streaming) = lock(&self.streaming).as_mut() {
                    streaming.scenes.stream_started(start.stream_id());
                }
            }
            gst::EventView::Segment(segment) => {
                if let Some(streaming) = lock(&self.streaming).as_mut() {
                    let segment = segment.segment().clone().downcast().ok();
                    if streaming.segment != segment {
                        streaming.scenes.change();
                    }
                    streaming.segment = segment;
                    streaming.forget_past();
                }
            }
            gst::EventView::FlushStart(_) if sends_apart => self.lineup.begin_flush(),
            gst::EventView::FlushStop(_) => {
                *lock(&self.quality) = Quality::default();
                if let Some(streaming) = lock(&self.streaming).as_mut() {
                    streaming.segment = None;
                    streaming.scenes.change();
                    streaming.forget_past();
                }
            }
            _ => {}
        }
        let kind = event.type_();
        if sends_apart && event.is_serialized() && kind != gst::EventType::FlushStop {
            return self.lineup.push_event(event);
        }
        let done = self.send_event(event);
        match kind {
            gst::EventType::FlushStart if sends_apart => self.lineup.wait_until_idle(),
            gst::EventType::FlushStop if sends_apart => self.lineup.end_flush(),
            _ => {}
        }
        done
    }

    /// Passes an event on to all pads.
    pub(super) fn send_event(&self, event: gst::Event) -> bool {
        self.outputs.event(&event);
        gst::Pad::event_default(&self.sink_pad, Some(&*self.obj()), event)
    }

    pub(super) fn src_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        if let gst::EventView::Qos(qos) = event.view() {
            let (_, proportion, jitter, timestamp) = qos.get();
            lock(&self.quality).update(timestamp, jitter, proportion);
        }
        self.forward_upstream(pad, event)
    }

    /// Passes an event on upstream, a seek only once: it comes from every pad behind which there is a sink.
    pub(super) fn forward_upstream(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::Reconfigure {
            self.lineup.relinked();
        }
        let seek = (event.type_() == gst::EventType::Seek).then(|| event.seqnum());
        if seek.is_some() && *lock(&self.latest_seek) == seek {
            return true;
        }
        let done = gst::Pad::event_default(pad, Some(&*self.obj()), event);
        if done && seek.is_some() {
            *lock(&self.latest_seek) = seek;
        }
        done
    }
}
