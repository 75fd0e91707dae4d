//! The request pads: which there are, what their streams have been told, and what they are sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use gst::glib;
use gst::prelude::*;

use super::branch::pusher::remember;
use super::branch::queue::Overflow;
use super::branch::{Branch, Stream};
use super::crop_caps::Allowed;
use super::crops_pad::{self, CropPusher};
use super::detections_pad::{self, LinePusher};
use super::producer::Produced;
use crate::lock;

/// What is worth making of the next frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub line: bool,
    pub crops: bool,
    /// Crops that are made now will not be dropped at once.
    pub room_for_crops: bool,
    /// What downstream allows crops to be, as far as it is known.
    pub allowed: Option<Arc<Allowed>>,
}

/// What happens to results that wait too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Overflows {
    pub lines: Overflow,
    pub crops: Overflow,
}

#[derive(Default)]
struct State {
    crops: Option<Arc<Branch<CropPusher>>>,
    detections: Option<Arc<Branch<LinePusher>>>,
    /// What a pad that is requested late must hear before anything else.
    told: Vec<gst::Event>,
}

impl State {
    fn streams(&self) -> impl Iterator<Item = Arc<dyn Stream>> + use<> {
        let crops = self.crops.clone().map(|branch| branch as Arc<dyn Stream>);
        let detections = self.detections.clone();
        let detections = detections.map(|branch| branch as Arc<dyn Stream>);
        [crops, detections].into_iter().flatten()
    }
}

#[derive(Debug, Default)]
struct Counters {
    lines: AtomicU64,
    lines_dropped: AtomicU64,
    crops: AtomicU64,
    crops_dropped: AtomicU64,
}

#[derive(Default)]
pub(super) struct Outputs {
    state: Mutex<State>,
    counters: Counters,
}

impl Outputs {
    /// A new pad of a request template; None where there is one already.
    pub fn create(
        &self,
        element: &super::RsDetectNet,
        template: &gst::PadTemplate,
    ) -> Option<gst::Pad> {
        let pad = super::request_pad::build(element, template);
        let mut state = lock(&self.state);
        match template.name_template() {
            crops_pad::NAME if state.crops.is_none() => {
                let branch = Branch::new(pad.clone(), crops_pad::MOST_WAITING);
                state.crops = Some(Arc::new(branch));
            }
            detections_pad::NAME if state.detections.is_none() => {
                let branch = Branch::new(pad.clone(), detections_pad::MOST_WAITING);
                state.detections = Some(Arc::new(branch));
            }
            _ => return None,
        }
        Some(pad)
    }

    /// Forgets a pad. Its thread ends by itself: downstream may hold it in a push.
    pub fn remove(&self, pad: &gst::Pad) {
        let removed = {
            let mut state = lock(&self.state);
            let stream = state.streams().find(|stream| stream.pad() == pad);
            state.crops.take_if(|branch| branch.pad == *pad);
            state.detections.take_if(|branch| branch.pad == *pad);
            stream
        };
        if let Some(stream) = removed {
            stream.abandon();
        }
    }

    /// Starts or stops the thread of a pad.
    pub fn activate(
        &self,
        element: &super::RsDetectNet,
        pad: &gst::Pad,
        active: bool,
    ) -> Result<(), glib::BoolError> {
        let state = lock(&self.state);
        let Some(stream) = state.streams().find(|stream| stream.pad() == pad) else {
            return Ok(());
        };
        if active {
            let told = state.told.iter().map(|event| own(pad, event));
            stream.open(told.collect());
        }
        drop(state);
        match active {
            true => stream.start(element),
            false => stream.stop(),
        }
    }

    /// Passes an event of the video on to the pads.
    pub fn event(&self, event: &gst::Event) {
        let mut state = lock(&self.state);
        match event.view() {
            gst::EventView::FlushStart(_) => {
                let streams = state.streams();
                // Downstream is told without the lock: it may take its time.
                drop(state);
                streams.for_each(|stream| stream.begin_flush(event.clone()));
                return;
            }
            gst::EventView::StreamStart(_) => forget(&mut state.told, &[gst::EventType::Eos]),
            gst::EventView::FlushStop(_) => {
                let past = [gst::EventType::Segment, gst::EventType::Eos];
                forget(&mut state.told, &past);
                let streams = state.streams();
                let streams = streams.inspect(|stream| stream.end_flush(event.clone()));
                let streams: Vec<_> = streams.collect();
                drop(state);
                for stream in streams {
                    stream.wait_for_end_of_flush();
                }
                return;
            }
            _ => {}
        }
        if event.is_sticky() {
            remember(&mut state.told, event.clone());
        }
        for stream in state.streams() {
            stream.send_event(own(stream.pad(), event));
        }
    }

    /// Begins anew: the next stream has told nothing yet.
    pub fn reset(&self) {
        lock(&self.state).told.clear();
        let counters = &self.counters;
        for counter in [
            &counters.lines,
            &counters.lines_dropped,
            &counters.crops,
            &counters.crops_dropped,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    pub fn wanted(&self, overflows: Overflows) -> Wanted {
        let state = lock(&self.state);
        let is_linked = |pad: &gst::Pad| pad.is_linked();
        let crops = state.crops.as_ref();
        Wanted {
            line: state.detections.as_ref().is_some_and(|b| is_linked(&b.pad)),
            crops: crops.is_some_and(|branch| is_linked(&branch.pad)),
            room_for_crops: crops.is_some_and(|branch| !branch.would_drop(overflows.crops)),
            allowed: crops.and_then(|branch| branch.told.latest()),
        }
    }

    /// Whether anyone listens to the pads.
    pub fn linked(&self) -> bool {
        lock(&self.state)
            .streams()
            .any(|stream| stream.pad().is_linked())
    }

    /// Sends each pad what a frame gave, or a gap; waits only where an overflow says so.
    pub fn send(&self, frame: &gst::BufferRef, produced: Produced, overflows: Overflows) {
        let (crops, detections) = {
            let state = lock(&self.state);
            (state.crops.clone(), state.detections.clone())
        };
        let counters = &self.counters;
        let count = |counter: &AtomicU64, number: usize| {
            counter.fetch_add(number as u64, Ordering::Relaxed);
        };
        if let Some(branch) = detections {
            let sent = produced.line.is_some();
            count(&counters.lines, usize::from(sent));
            let dropped = branch.send_or_gap(frame, produced.line, overflows.lines);
            count(&counters.lines_dropped, usize::from(dropped.is_some()));
        }
        if let Some(branch) = crops {
            let sent = produced.crops.as_ref().map_or(0, |batch| batch.crops.len());
            count(&counters.crops, sent + produced.crops_without_room);
            let dropped = branch.send_or_gap(frame, produced.crops, overflows.crops);
            let dropped = dropped.map_or(0, |batch| batch.crops.len());
            count(
                &counters.crops_dropped,
                dropped + produced.crops_without_room,
            );
        }
    }

    /// What `stats` tells of the pads.
    pub fn add_statistics(&self, stats: &mut gst::StructureRef) {
        let counters = &self.counters;
        for (name, counter) in [
            ("crops", &counters.crops),
            ("crops-dropped", &counters.crops_dropped),
            ("json-lines", &counters.lines),
            ("json-dropped", &counters.lines_dropped),
        ] {
            stats.set(name, counter.load(Ordering::Relaxed));
        }
    }
}

fn forget(told: &mut Vec<gst::Event>, kinds: &[gst::EventType]) {
    told.retain(|event| !kinds.contains(&event.type_()));
}

/// An event of the video as a pad tells it: its stream is another one.
fn own(pad: &gst::Pad, event: &gst::Event) -> gst::Event {
    let gst::EventView::StreamStart(start) = event.view() else {
        return event.clone();
    };
    gst::event::StreamStart::builder(&format!("{}/{}", start.stream_id(), pad.name()))
        .flags(start.stream_flags() | gst::StreamFlags::SPARSE)
        .group_id_if_some(start.group_id())
        .seqnum(start.seqnum())
        .build()
}
