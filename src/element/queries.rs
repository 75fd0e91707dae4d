//! What the element answers to those around it.

use std::sync::atomic::Ordering;

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::imp::RsDetectNet;
use super::{crops_pad, memory};

impl RsDetectNet {
    pub(super) fn query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        // What is asked in the order of the stream is answered when all that came before has gone on.
        let in_order = *pad == self.sink_pad && query.is_serialized();
        if in_order && self.sends_apart() && !self.lineup.drain() {
            return false;
        }
        match query.view_mut() {
            gst::QueryViewMut::Latency(latency) if *pad != self.sink_pad => {
                self.query_latency(latency)
            }
            gst::QueryViewMut::Context(_) => {
                self.offer().answer(self.obj().upcast_ref(), query)
                    || gst::Pad::query_default(pad, Some(&*self.obj()), query)
            }
            gst::QueryViewMut::Caps(caps) if pad.name() == crops_pad::NAME => {
                let video = self.sink_pad.current_caps();
                let on_gpu = self.on_gpu.load(Ordering::Acquire);
                crops_pad::answer(caps, video.as_deref(), on_gpu);
                true
            }
            gst::QueryViewMut::Caps(_) if [&self.sink_pad, &self.src_pad].contains(&pad) => {
                self.query_caps(pad, query)
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }

    /// What the other side of the element can take or give, without GPU memory where there is no GPU.
    fn query_caps(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        let answered = gst::Pad::query_default(pad, Some(&*self.obj()), query);
        if answered
            && !self.on_gpu.load(Ordering::Acquire)
            && let gst::QueryViewMut::Caps(caps) = query.view_mut()
            && let Some(result) = caps.result_owned()
        {
            let possible =
                result.intersect_with_mode(&memory::system_caps(), gst::CapsIntersectMode::First);
            caps.set_result(&possible);
        }
        answered
    }

    fn query_latency(&self, latency: &mut gst::query::Latency) -> bool {
        let mut upstream = gst::query::Latency::new();
        if !self.sink_pad.peer_query(&mut upstream) {
            return false;
        }
        let (live, least, most) = upstream.result();
        let own = gst::ClockTime::from_nseconds(self.latency.load(Ordering::Acquire));
        latency.set(live, least + own, most.map(|most| most + own));
        true
    }
}
