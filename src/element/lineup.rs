//! Frames that are being inspected, in the order in which they came, with the events between them. What is ready is
//! taken out by a thread of the pad `src`, or, where there is no room for more, by the thread that brings frames: it
//! would have to be woken anyway, and does all that it finds ready before the frame that it brings.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use super::branch::queue::survives_flush;
use crate::detector::{Attendant, Duty};
use crate::lock;

pub(super) type Flow = Result<gst::FlowSuccess, gst::FlowError>;

/// A frame in the line.
pub(super) trait Inspectable: Send {
    /// Whether sending it on does not have to wait for its inspection.
    fn is_inspected(&self) -> bool;
}

/// What is taken out.
pub(super) enum Item<F> {
    Frame(F),
    Event(gst::Event),
}

impl<F: Inspectable> Item<F> {
    fn is_ready(&self) -> bool {
        match self {
            Self::Frame(frame) => frame.is_inspected(),
            Self::Event(_) => true,
        }
    }

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

/// A thread is at work on an item, until this is dropped.
pub(super) struct AtWork<'a, F: Inspectable> {
    lineup: &'a Lineup<F>,
    /// What came of a frame; if nobody says, something went very wrong.
    pub flow: Flow,
}

impl<F: Inspectable> Drop for AtWork<'_, F> {
    fn drop(&mut self) {
        self.lineup.done(self.flow);
    }
}

/// An item for this thread to send on.
pub(super) struct Sending<'a, F: Inspectable> {
    pub item: Item<F>,
    pub at_work: AtWork<'a, F>,
}

/// What the thread of the pad `src` is to do.
pub(super) enum Task<'a, F: Inspectable> {
    Send(Sending<'a, F>),
    /// Called to it, or not.
    Attend(Arc<dyn Duty>, bool),
    End,
}

/// What the thread that brings frames does here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bringer {
    Away,
    /// It sleeps until fewer frames than this are under way, or the first one can be sent on.
    WaitsForRoom(usize),
    /// It was woken from that.
    Comes(usize),
    /// It sends on what is ready, and looks for more before it leaves.
    Stays,
}

struct State<F> {
    /// Between activation and deactivation of the pad.
    open: bool,
    flushing: bool,
    items: VecDeque<Item<F>>,
    /// What is to be done for all streams of the model.
    duty: Option<Arc<dyn Duty>>,
    /// The thread of the pad was called to it.
    called: bool,
    /// The thread of the pad sleeps.
    sender_sleeps: bool,
    bringer: Bringer,
    /// Who took out the last item.
    thread: Option<ThreadId>,
    /// What that thread is at work on.
    work: Work,
    /// Downstream was linked anew since that began.
    relinked: bool,
    /// What pushing returns. On an error, no frame is under way.
    flow: Flow,
    /// Other threads that wait for a change.
    sleepers: usize,
}

pub(super) struct Lineup<F> {
    state: Mutex<State<F>>,
    /// For the thread of the pad.
    task: Condvar,
    /// For the thread that brings frames.
    room: Condvar,
    /// For all others.
    changed: Condvar,
}

impl<F> Default for Lineup<F> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                open: false,
                flushing: false,
                items: VecDeque::new(),
                duty: None,
                called: false,
                sender_sleeps: false,
                bringer: Bringer::Away,
                thread: None,
                work: Work::Nothing,
                relinked: false,
                flow: Ok(gst::FlowSuccess::Ok),
                sleepers: 0,
            }),
            task: Condvar::new(),
            room: Condvar::new(),
            changed: Condvar::new(),
        }
    }
}

impl<F: Inspectable> Attendant for Lineup<F> {
    fn has_results(&self) {
        self.release(lock(&self.state));
    }

    fn call(&self) -> bool {
        let mut state = lock(&self.state);
        let comes = state.sender_sleeps;
        state.called |= comes;
        self.release(state);
        comes
    }
}

impl<F: Inspectable> Lineup<F> {
    /// Has the thread of the pad do its part for all streams of a model, or do so no longer.
    pub fn share_duty(&self, duty: Option<Arc<dyn Duty>>) {
        let before = std::mem::replace(&mut lock(&self.state).duty, duty);
        // The model may go with it.
        drop(before);
    }

    pub fn open(&self) {
        let mut state = lock(&self.state);
        state.open = true;
        state.flushing = false;
        if state.bringer == Bringer::Stays {
            state.bringer = Bringer::Away;
        }
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

    /// Waits until what a thread was at work on when a flush began is done.
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

    fn empty(&self, change: impl FnOnce(&mut State<F>) -> VecDeque<Item<F>>) {
        let mut state = lock(&self.state);
        let dropped = change(&mut state);
        self.release(state);
        // Frames are waited for here.
        drop(dropped);
    }

    /// Waits until fewer than `limit` frames are under way; the error, if downstream has failed. Instead there may be
    /// something to send on, after which this is to be called again. Who has brought a frame, or could not, calls
    /// [`Lineup::before_leaving`].
    pub fn wait_for_room(&self, limit: usize) -> Result<Option<Sending<'_, F>>, gst::FlowError> {
        let mut state = lock(&self.state);
        let stays = state.bringer == Bringer::Stays;
        loop {
            let is_full = state.frames() >= limit;
            let outcome = match state.flow {
                _ if !state.open || state.flushing => Some(Err(gst::FlowError::Flushing)),
                Err(error) => Some(Err(error)),
                Ok(_) if !is_full => Some(Ok(None)),
                Ok(_) => state.take_ready().map(|item| Ok(Some(item))),
            };
            if let Some(outcome) = outcome {
                state.bringer = match outcome {
                    Ok(Some(_)) => Bringer::Stays,
                    Ok(None) if stays => Bringer::Stays,
                    _ => Bringer::Away,
                };
                self.release(state);
                return outcome.map(|taken| taken.map(|taken| self.sending(taken)));
            }
            state.bringer = Bringer::WaitsForRoom(limit);
            let woken = self.room.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Something to send on that has become ready while this thread sent and brought frames, after which this is to be
    /// called again: what is left is for the thread of the pad, which would have to be woken. That has to be the frame
    /// that this thread has brought: where downstream takes as long as the inspection, the line would run empty, and
    /// the engine would wait for downstream and downstream for the engine.
    pub fn before_leaving(&self) -> Option<Sending<'_, F>> {
        let mut state = lock(&self.state);
        if state.bringer != Bringer::Stays {
            return None;
        }
        let taken = match state.frames() {
            0 | 1 => None,
            _ => state.take_ready(),
        };
        if taken.is_none() {
            state.bringer = Bringer::Away;
        }
        self.release(state);
        taken.map(|taken| self.sending(taken))
    }

    fn sending(&self, (item, flow): (Item<F>, Flow)) -> Sending<'_, F> {
        let at_work = AtWork { lineup: self, flow };
        Sending { item, at_work }
    }

    pub fn push_frame(&self, frame: F) -> Flow {
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
        if state.bringer == Bringer::Stays {
            // It sends nothing on while it waits here.
            state.bringer = Bringer::Away;
            self.release(state);
            state = lock(&self.state);
        }
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

    /// What comes next for the thread of the pad. It stays through a flush: a task that is started again keeps what it
    /// was started with for ever.
    pub fn next(&self) -> Task<'_, F> {
        let mut state = lock(&self.state);
        loop {
            let called = std::mem::take(&mut state.called);
            if let Some(duty) = state.duty.as_ref().filter(|_| called) {
                return Task::Attend(Arc::clone(duty), true);
            }
            if !state.open {
                return Task::End;
            }
            if !state.is_for_bringer()
                && let Some(taken) = state.take_ready()
            {
                drop(state);
                return Task::Send(self.sending(taken));
            }
            if let Some(duty) = state.duty.as_ref().filter(|duty| duty.is_due()) {
                return Task::Attend(Arc::clone(duty), false);
            }
            state.sender_sleeps = true;
            let woken = self.task.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
            state.sender_sleeps = false;
        }
    }

    /// A thread is done with an item, and this came of it.
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

    fn wait<'a>(&self, mut state: MutexGuard<'a, State<F>>) -> MutexGuard<'a, State<F>> {
        state.sleepers += 1;
        let mut state = self
            .changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
        state.sleepers -= 1;
        state
    }

    /// Lets go of what was changed, and wakes those for whom that makes a difference: with none of them it costs no
    /// system call.
    fn release(&self, mut state: MutexGuard<'_, State<F>>) {
        let bringer = state.wakes_bringer();
        let sender = state.wakes_sender();
        let sleepers = state.sleepers;
        drop(state);
        if bringer {
            self.room.notify_one();
        }
        if sender {
            self.task.notify_one();
        }
        if sleepers > 0 {
            self.changed.notify_all();
        }
    }
}

impl<F: Inspectable> State<F> {
    /// Whether the first item can be taken out.
    fn is_ready(&self) -> bool {
        let is_free = !self.flushing && self.work == Work::Nothing;
        is_free && self.items.front().is_some_and(Item::is_ready)
    }

    /// The first item if it can be taken out, to be worked on by this thread, and what comes of it if nobody says.
    fn take_ready(&mut self) -> Option<(Item<F>, Flow)> {
        if !self.is_ready() {
            return None;
        }
        let item = self.items.pop_front()?;
        self.thread = Some(thread::current().id());
        self.relinked = false;
        let (work, flow) = match item {
            Item::Frame(_) => (Work::Frame, Err(gst::FlowError::Error)),
            Item::Event(_) => (Work::Event, Ok(gst::FlowSuccess::Ok)),
        };
        self.work = work;
        Some((item, flow))
    }

    /// Whether the thread that brings frames waits where it takes out what is ready.
    fn is_for_bringer(&self) -> bool {
        match self.bringer {
            Bringer::Away => false,
            Bringer::Stays => true,
            Bringer::WaitsForRoom(limit) | Bringer::Comes(limit) => self.frames() >= limit,
        }
    }

    /// Whether the thread that brings frames is to be woken, which is then on its way.
    fn wakes_bringer(&mut self) -> bool {
        let Bringer::WaitsForRoom(limit) = self.bringer else {
            return false;
        };
        let ends = !self.open || self.flushing || self.flow.is_err();
        let wakes = ends || self.frames() < limit || self.is_ready();
        if wakes {
            self.bringer = Bringer::Comes(limit);
        }
        wakes
    }

    /// Whether the thread of the pad is to be woken, which is then on its way.
    fn wakes_sender(&mut self) -> bool {
        let has_task = self.called || !self.open || (self.is_ready() && !self.is_for_bringer());
        let wakes = self.sender_sleeps && has_task;
        self.sender_sleeps &= !wakes;
        wakes
    }

    /// Downstream refused a frame: those that follow would be refused as well, up to where another stream begins.
    fn fail(&mut self, error: gst::FlowError) -> VecDeque<Item<F>> {
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

#[cfg(test)]
mod tests;
