//! Frames that are being inspected, in the order in which they came, with the events between them. A thread of the pad
//! `src` takes them out as they are done.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::streaming::Transit;
use crate::lock;

/// What the thread takes out.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would be allocated for every frame"
)]
pub(super) enum Item {
    Frame(Transit),
    Event(gst::Event),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Nothing,
    Frame,
    Event,
}

struct State {
    /// Between activation and deactivation of the pad.
    open: bool,
    flushing: bool,
    items: VecDeque<Item>,
    /// What the thread is at work on.
    work: Work,
    /// What the latest push returned.
    flow: Result<gst::FlowSuccess, gst::FlowError>,
}

pub(super) struct Lineup {
    state: Mutex<State>,
    changed: Condvar,
}

impl Default for Lineup {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                open: false,
                flushing: false,
                items: VecDeque::new(),
                work: Work::Nothing,
                flow: Ok(gst::FlowSuccess::Ok),
            }),
            changed: Condvar::new(),
        }
    }
}

impl Lineup {
    pub fn open(&self) {
        let mut state = lock(&self.state);
        state.open = true;
        state.flushing = false;
        state.flow = Ok(gst::FlowSuccess::Ok);
    }

    /// Lets go of everyone who waits, and of all frames.
    pub fn close(&self) {
        self.empty(|state| state.open = false);
    }

    pub fn begin_flush(&self) {
        self.empty(|state| state.flushing = true);
    }

    pub fn end_flush(&self) {
        let mut state = lock(&self.state);
        state.flushing = false;
        state.flow = Ok(gst::FlowSuccess::Ok);
    }

    fn empty(&self, change: impl FnOnce(&mut State)) {
        let items = {
            let mut state = lock(&self.state);
            change(&mut state);
            self.changed.notify_all();
            std::mem::take(&mut state.items)
        };
        // Frames are waited for here.
        drop(items);
    }

    /// Waits until fewer than `limit` frames are under way; the error, if downstream has failed.
    pub fn wait_for_room(&self, limit: usize) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut state = lock(&self.state);
        loop {
            if !state.open || state.flushing {
                return Err(gst::FlowError::Flushing);
            }
            if state.flow.is_err() || state.frames() < limit {
                return state.flow;
            }
            state = self.wait(state);
        }
    }

    pub fn push_frame(&self, frame: Transit) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut state = lock(&self.state);
        if !state.open || state.flushing {
            drop(state);
            return Err(gst::FlowError::Flushing);
        }
        state.items.push_back(Item::Frame(frame));
        self.changed.notify_all();
        state.flow
    }

    /// Whether the event was taken in.
    pub fn push_event(&self, event: gst::Event) -> bool {
        let mut state = lock(&self.state);
        let taken = state.open && !state.flushing;
        if taken {
            // Downstream may have ended a stream after which another comes.
            let begins = [gst::EventType::StreamStart, gst::EventType::Segment];
            if begins.contains(&event.type_()) && state.flow == Err(gst::FlowError::Eos) {
                state.flow = Ok(gst::FlowSuccess::Ok);
            }
            state.items.push_back(Item::Event(event));
            self.changed.notify_all();
        }
        taken
    }

    /// Waits until everything that came in has been pushed; false if it was let go instead.
    pub fn drain(&self) -> bool {
        let mut state = lock(&self.state);
        loop {
            if !state.open || state.flushing {
                return false;
            }
            if state.items.is_empty() && state.work == Work::Nothing {
                return true;
            }
            state = self.wait(state);
        }
    }

    /// The next item, which [`Lineup::done`] must follow; None when the thread is to pause.
    pub fn next(&self) -> Option<Item> {
        let mut state = lock(&self.state);
        loop {
            if !state.open || state.flushing {
                return None;
            }
            if let Some(item) = state.items.pop_front() {
                state.work = match item {
                    Item::Frame(_) => Work::Frame,
                    Item::Event(_) => Work::Event,
                };
                return Some(item);
            }
            state = self.wait(state);
        }
    }

    /// The thread is done with an item; with a frame, if `flow` says what came of it.
    pub fn done(&self, flow: Option<Result<gst::FlowSuccess, gst::FlowError>>) {
        let mut state = lock(&self.state);
        state.work = Work::Nothing;
        if let Some(flow) = flow
            && !state.flushing
        {
            state.flow = flow;
        }
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Frames that came in and are not pushed yet.
    fn frames(&self) -> usize {
        let waiting = self.items.iter();
        let waiting = waiting
            .filter(|item| matches!(item, Item::Frame(_)))
            .count();
        waiting + usize::from(self.work == Work::Frame)
    }
}
