//! Where a request waits for its results. Whoever has them puts them down here: a stream that fetches its own disturbs
//! no other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::{Lane, Outcome};
use crate::detector::Timings;
use crate::detector::attendance::Attendant;
use crate::lock;

/// The place in the list of sleepers of who is not in it.
const NOWHERE: usize = usize::MAX;

/// The seats of one stream.
pub struct Seats<L: Lane> {
    /// Those that nobody uses at the moment.
    unused: Mutex<Vec<Arc<Seat<L>>>>,
    stream: Arc<Stream>,
}

/// What all seats of a stream have in common.
#[derive(Default)]
struct Stream {
    /// Seats that are in use.
    taken: AtomicUsize,
    /// A frame of it waits for its turn; only who has the queue changes this.
    has_turn: AtomicBool,
    /// Who is told when all results are there and nobody sleeps at a seat.
    attendant: OnceLock<Arc<dyn Attendant>>,
}

pub(super) struct Seat<L: Lane> {
    table: Mutex<Table<L>>,
    woken: Condvar,
    stream: Arc<Stream>,
    /// In the list of sleepers; only who has the list changes it.
    position: AtomicUsize,
}

struct Table<L: Lane> {
    outputs: Vec<L::Output>,
    /// Frames that are not inspected yet.
    remaining: usize,
    error: Option<Arc<L::Error>>,
    submitted: Instant,
    launched: Instant,
    finished: Instant,
    collected: Duration,
    asleep: bool,
    /// A batch has nobody who waits for it, and this one was chosen.
    called: bool,
}

/// Those who sleep until their results are there, or until they are called to wait for a batch.
pub(super) struct Sleepers<L: Lane>(Vec<Arc<Seat<L>>>);

impl<L: Lane> Default for Seats<L> {
    fn default() -> Self {
        Self {
            unused: Mutex::default(),
            stream: Arc::default(),
        }
    }
}

impl<L: Lane> Seats<L> {
    /// Has this one told of all results from now on; it stays so.
    pub fn attended_by(&self, attendant: Arc<dyn Attendant>) {
        let _ = self.stream.attendant.set(attendant);
    }

    pub(super) fn attendant(&self) -> Option<&Arc<dyn Attendant>> {
        self.stream.attendant.get()
    }

    /// A seat for a request of so many frames, whose results will be in `outputs`.
    pub(super) fn take(&self, frames: usize, mut outputs: Vec<L::Output>) -> Arc<Seat<L>> {
        outputs.resize_with(frames, L::Output::default);
        let unused = lock(&self.unused).pop();
        let seat = unused.unwrap_or_else(|| Arc::new(Seat::new(&self.stream)));
        self.stream.taken.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        *lock(&seat.table) = Table {
            outputs,
            remaining: frames,
            submitted: now,
            launched: now,
            finished: now,
            ..Table::new(now)
        };
        seat
    }

    pub(super) fn give_back(&self, seat: Arc<Seat<L>>) {
        self.stream.taken.fetch_sub(1, Ordering::Relaxed);
        lock(&self.unused).push(seat);
    }
}

impl<L: Lane> Table<L> {
    fn new(now: Instant) -> Self {
        Self {
            outputs: Vec::new(),
            remaining: 0,
            error: None,
            submitted: now,
            launched: now,
            finished: now,
            collected: Duration::ZERO,
            asleep: false,
            called: false,
        }
    }
}

impl<L: Lane> Seat<L> {
    fn new(stream: &Arc<Stream>) -> Self {
        Self {
            table: Mutex::new(Table::new(Instant::now())),
            woken: Condvar::new(),
            stream: Arc::clone(stream),
            position: AtomicUsize::new(NOWHERE),
        }
    }

    pub(super) fn attendant(&self) -> Option<&Arc<dyn Attendant>> {
        self.stream.attendant.get()
    }

    /// Whether its stream has no other request under way.
    pub(super) fn is_only_one(&self) -> bool {
        self.stream.taken.load(Ordering::Relaxed) == 1
    }

    /// Whether a frame of it is the first that waits for the stream's turn.
    pub(super) fn begins_turn(&self) -> bool {
        !self.stream.has_turn.swap(true, Ordering::Relaxed)
    }

    pub(super) fn end_turn(&self) {
        self.stream.has_turn.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_of_stream_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.stream, &other.stream)
    }

    /// The result of one frame, which `collect` writes.
    pub(super) fn put(
        &self,
        (launched, finished): (Instant, Instant),
        collect: impl FnOnce(&mut [L::Output]) -> Option<Arc<L::Error>>,
    ) {
        let mut table = lock(&self.table);
        if let Some(error) = collect(&mut table.outputs) {
            table.error = Some(error);
        }
        table.remaining -= 1;
        (table.launched, table.finished) = (launched, finished);
        table.collected = finished.elapsed();
    }

    pub(super) fn is_done(&self) -> bool {
        lock(&self.table).remaining == 0
    }

    /// Tells who sleeps here, or the attendant, if all results are there.
    pub(super) fn tell_if_done(&self) {
        let (is_done, sleeps) = {
            let mut table = lock(&self.table);
            let is_done = table.remaining == 0;
            (is_done, is_done && std::mem::take(&mut table.asleep))
        };
        match self.attendant() {
            _ if sleeps => self.woken.notify_one(),
            Some(attendant) if is_done => attendant.has_results(),
            _ => {}
        }
    }

    /// Sleeps until all results are there or somebody is needed.
    pub(super) fn sleep(&self) {
        let mut table = lock(&self.table);
        while table.remaining > 0 && !table.called {
            table.asleep = true;
            let woken = self.woken.wait(table);
            table = woken.unwrap_or_else(PoisonError::into_inner);
            table.asleep = false;
        }
    }

    /// Whether who sleeps here was called; it is so once.
    pub(super) fn was_called(&self) -> bool {
        std::mem::take(&mut lock(&self.table).called)
    }

    pub(super) fn is_listed(&self) -> bool {
        self.position.load(Ordering::Acquire) != NOWHERE
    }

    pub(super) fn outcome(&self) -> Outcome<L> {
        let mut table = lock(&self.table);
        let timings = Timings {
            preprocess: table.launched - table.submitted,
            infer: table.finished - table.launched,
            decode: table.collected,
        };
        Outcome {
            outputs: std::mem::take(&mut table.outputs),
            result: match table.error.take() {
                Some(error) => Err(error),
                None => Ok(timings),
            },
        }
    }
}

impl<L: Lane> Default for Sleepers<L> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<L: Lane> Sleepers<L> {
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn add(&mut self, seat: &Arc<Seat<L>>) {
        seat.position.store(self.0.len(), Ordering::Release);
        self.0.push(Arc::clone(seat));
    }

    pub fn remove(&mut self, seat: &Seat<L>) {
        let position = seat.position.swap(NOWHERE, Ordering::AcqRel);
        if position == NOWHERE {
            return;
        }
        self.0.swap_remove(position);
        if let Some(moved) = self.0.get(position) {
            moved.position.store(position, Ordering::Release);
        }
    }

    /// Has somebody wait for a batch: best one of `own`. False if nobody sleeps.
    pub fn call<'a>(&mut self, mut own: impl Iterator<Item = &'a Arc<Seat<L>>>) -> bool
    where
        L: 'a,
    {
        let own = own.find(|seat| seat.is_listed());
        let Some(seat) = own.or(self.0.last()).map(Arc::clone) else {
            return false;
        };
        // Who finds itself in the list no longer must also find that it was called.
        let asleep = {
            let mut table = lock(&seat.table);
            table.called = true;
            table.asleep
        };
        self.remove(&seat);
        if asleep {
            seat.woken.notify_one();
        }
        true
    }
}
