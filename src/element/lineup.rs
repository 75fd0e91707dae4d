//! Frames that are being inspected, in the order in which they came, with the events between them. A thread of the pad
//! `src` takes them out as they are done.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use super::branch::queue::survives_flush;
use super::streaming::Transit;
use crate::lock;

pub(super) type Flow = Result<gst::FlowSuccess, gst::FlowError>;

/// What the thread takes out.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would be allocated for every frame"
)]
pub(super) enum Item {
    Frame(Transit),
    Event(gst::Event),
}

impl Item {
    fn is_frame(&self) -> bool {
        matches!(self, Self::Frame(_))
    }

    fn survives_flush(&self) -> bool {
        matches!(self, Self::Event(event) if survives_flush(event))
    }

    /// Whether frames are welcome after it where a stream had ended before.
    fn begins(&self) -> bool {
        let beginnings = [gst::EventType::StreamStart, gst::EventType::Segment];
        matches!(self, Self::Event(event) if beginnings.contains(&event.type_()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Nothing,
    Frame,
    Event,
}

/// The thread is at work on an item, until this is dropped.
pub(super) struct AtWork<'a> {
    lineup: &'a Lineup,
    /// What came of a frame; if nobody says, something went very wrong.
    pub flow: Flow,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.lineup.done(self.flow);
    }
}

struct State {
    /// Between activation and deactivation of the pad.
    open: bool,
    flushing: bool,
    items: VecDeque<Item>,
    /// Who takes the items out.
    thread: Option<ThreadId>,
    /// What the thread is at work on.
    work: Work,
    /// Downstream was linked anew since that began.
    relinked: bool,
    /// What pushing returns. On an error, no frame is under way.
    flow: Flow,
    /// Threads that wait for a change.
    sleepers: usize,
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
                thread: None,
                work: Work::Nothing,
                relinked: false,
                flow: Ok(gst::FlowSuccess::Ok),
                sleepers: 0,
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

    /// Lets go of everyone who waits, and of everything.
    pub fn close(&self) {
        self.empty(|state| {
            state.open = false;
            std::mem::take(&mut state.items)
        });
    }

    /// Lets go of everyone who waits, and of what a flush takes with it.
    pub fn begin_flush(&self) {
        self.empty(|state| {
            state.flushing = true;
            let items = state.items.drain(..);
            let (kept, dropped) = items.partition(Item::survives_flush);
            state.items = kept;
            dropped
        });
    }

    /// Waits until the thread is done with what it was at work on when a flush began.
    pub fn wait_until_idle(&self) {
        let mut state = lock(&self.state);
        // A flush may come from downstream, on this very thread.
        while state.work != Work::Nothing && state.thread != Some(thread::current().id()) {
            state = self.wait(state);
        }
    }

    pub fn end_flush(&self) {
        let mut state = lock(&self.state);
        state.flushing = false;
        state.flow = Ok(gst::FlowSuccess::Ok);
        self.release(state);
    }

    fn empty(&self, change: impl FnOnce(&mut State) -> VecDeque<Item>) {
        let mut state = lock(&self.state);
        let dropped = change(&mut state);
        self.release(state);
        // Frames are waited for here.
        drop(dropped);
    }

    /// Waits until fewer than `limit` frames are under way; the error, if downstream has failed.
    pub fn wait_for_room(&self, limit: usize) -> Flow {
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

    pub fn push_frame(&self, frame: Transit) -> Flow {
        let mut state = lock(&self.state);
        let flow = match state.open && !state.flushing {
            true => state.flow,
            false => Err(gst::FlowError::Flushing),
        };
        match flow {
            Ok(_) => {
                state.items.push_back(Item::Frame(frame));
                self.release(state);
            }
            // The frame is waited for after the lock.
            Err(_) => drop(state),
        }
        flow
    }

    /// Whether the event was taken in.
    pub fn push_event(&self, event: gst::Event) -> bool {
        let mut state = lock(&self.state);
        let taken = state.open && !state.flushing;
        if taken {
            let item = Item::Event(event);
            // Downstream may have ended a stream after which another comes.
            if item.begins() && state.flow == Err(gst::FlowError::Eos) {
                state.flow = Ok(gst::FlowSuccess::Ok);
            }
            state.items.push_back(item);
            self.release(state);
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

    /// The next item; None when the thread is to end. It stays through a flush: a task that is started again keeps what
    /// it was started with for ever.
    pub fn next(&self) -> Option<(Item, AtWork<'_>)> {
        let mut state = lock(&self.state);
        state.thread = Some(thread::current().id());
        loop {
            if !state.open {
                return None;
            }
            if !state.flushing
                && let Some(item) = state.items.pop_front()
            {
                state.relinked = false;
                let flow = match item {
                    Item::Frame(_) => {
                        state.work = Work::Frame;
                        Err(gst::FlowError::Error)
                    }
                    Item::Event(_) => {
                        state.work = Work::Event;
                        Ok(gst::FlowSuccess::Ok)
                    }
                };
                drop(state);
                let lineup = self;
                return Some((item, AtWork { lineup, flow }));
            }
            state = self.wait(state);
        }
    }

    /// The thread is done with an item, and this came of it.
    fn done(&self, flow: Flow) {
        let mut state = lock(&self.state);
        state.work = Work::Nothing;
        let dropped = match flow {
            Err(error) if !state.flushing => state.fail(error),
            _ => VecDeque::new(),
        };
        self.release(state);
        // Frames are waited for here.
        drop(dropped);
    }

    /// Somebody may listen now where nobody did.
    pub fn relinked(&self) {
        let mut state = lock(&self.state);
        state.relinked = true;
        if state.flow == Err(gst::FlowError::NotLinked) {
            state.flow = Ok(gst::FlowSuccess::Ok);
        }
    }

    fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.sleepers += 1;
        let mut state = self
            .changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
        state.sleepers -= 1;
        state
    }

    /// Lets go of what was changed, and wakes those who wait for that: with none of them it costs no system call.
    fn release(&self, state: MutexGuard<'_, State>) {
        let sleepers = state.sleepers;
        drop(state);
        if sleepers > 0 {
            self.changed.notify_all();
        }
    }
}

impl State {
    /// Downstream refused a frame: those that follow would be refused as well, up to where another stream begins.
    fn fail(&mut self, error: gst::FlowError) -> VecDeque<Item> {
        if error == gst::FlowError::NotLinked && self.relinked {
            return VecDeque::new();
        }
        let is_eos = error == gst::FlowError::Eos;
        let next_stream = self.items.iter().position(|item| is_eos && item.begins());
        let following = self
            .items
            .split_off(next_stream.unwrap_or(self.items.len()));
        let (dropped, events) = self.items.drain(..).partition(Item::is_frame);
        self.items = events;
        self.items.extend(following);
        if next_stream.is_none() {
            self.flow = Err(error);
        }
        dropped
    }

    /// Frames that came in and are not pushed yet.
    fn frames(&self) -> usize {
        let waiting = self.items.iter().filter(|item| item.is_frame()).count();
        waiting + usize::from(self.work == Work::Frame)
    }
}
