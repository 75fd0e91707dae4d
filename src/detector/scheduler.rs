//! Many streams, one engine: whatever waits is run together, and whoever waits does the work.
//!
//! There is no thread here. A stream that submits a frame launches a batch at once if the engine is free; a stream
//! that waits for a result waits for its batch on behalf of all streams in it, puts the results down at their seats, and
//! launches what has come in the meantime. So a lone stream runs as if it had the engine to itself, without a switch of
//! threads.
//!
//! Two batches are under way at most: while one runs, the next is prepared. The second is launched when half of the
//! frames are in it that streams have lately had under way together, or when the first has ended: so batches grow with
//! the load, and a lone frame is never kept waiting for company while the engine has nothing to do.

mod seat;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use self::seat::{Seat, Sleepers};
use super::Timings;
use crate::{lock, profiler};

pub use self::seat::Seats;

/// Batches that are under way at once.
pub const BATCHES_UNDER_WAY: usize = 2;

/// Each batch lets what is expected to be under way together fall by this part, unless as much still is.
const CREST_FALLS: usize = 8;

/// More frames than this never run together.
pub const MAX_BATCH: usize = 32;

/// One place to run batches, with buffers of its own.
pub trait Lane: Send {
    /// A frame and what is asked of it.
    type Job: Send;
    /// What is found in a frame.
    type Output: Default + Send;
    type Error: Send + Sync;

    /// Starts a batch of at most the lane's capacity, and returns without waiting for it.
    fn launch(&mut self, jobs: &[Self::Job]) -> Result<(), Self::Error>;

    /// Waits for the batch that was launched. `alone`: for the only frame that anybody waits for, which is to be
    /// there soon rather than cheaply.
    fn wait(&mut self, alone: bool) -> Result<(), Self::Error>;

    /// Puts the result of the batch's frame number `index` into `output`, whose old content is replaced.
    fn collect(&mut self, index: usize, output: &mut Self::Output);
}

/// What became of a request.
pub struct Outcome<L: Lane> {
    /// As many as there were jobs, in their order; good only if `result` is.
    pub outputs: Vec<L::Output>,
    pub result: Result<Timings, Arc<L::Error>>,
}

/// A request that was submitted and has to be waited for.
#[must_use = "the frames of a request are read until it has been waited for"]
pub struct Ticket<L: Lane> {
    seat: Arc<Seat<L>>,
    home: Arc<Seats<L>>,
}

/// A frame of a request.
struct Place<L: Lane> {
    seat: Arc<Seat<L>>,
    frame: usize,
}

/// A lane with the batch that it runs.
struct Crew<L: Lane> {
    lane: L,
    jobs: Vec<L::Job>,
    places: Vec<Place<L>>,
    launched: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Free,
    /// Somebody starts a batch on it, or waits for its end.
    Attended,
    /// A batch is under way, and nobody waits for its end.
    Unattended,
}

struct Slot<L: Lane> {
    capacity: usize,
    /// Lanes of one bay share memory, so that only one of them runs.
    bay: usize,
    phase: Phase,
    /// Frames under way.
    frames: usize,
    /// None while it is attended.
    crew: Option<Box<Crew<L>>>,
}

struct State<L: Lane> {
    slots: Vec<Slot<L>>,
    waiting: VecDeque<(Place<L>, L::Job)>,
    /// The most frames that lately waited or were under way together.
    crest: usize,
    sleepers: Sleepers<L>,
}

pub struct Scheduler<L: Lane> {
    state: Mutex<State<L>>,
}

/// Those who have had a result of a batch.
struct Served<L: Lane>([Option<Arc<Seat<L>>>; MAX_BATCH]);

impl<L: Lane> Default for Scheduler<L> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                slots: Vec::new(),
                waiting: VecDeque::new(),
                crest: 0,
                sleepers: Sleepers::default(),
            }),
        }
    }
}

impl<L: Lane> Scheduler<L> {
    /// Adds a lane for batches of up to `capacity` frames. Lanes of one `bay` never run at once; as many bays are
    /// needed as batches may be under way.
    pub fn add(&self, lane: L, capacity: usize, bay: usize) {
        let capacity = capacity.clamp(1, MAX_BATCH);
        lock(&self.state).slots.push(Slot {
            capacity,
            bay,
            phase: Phase::Free,
            frames: 0,
            crew: Some(Box::new(Crew {
                lane,
                jobs: Vec::with_capacity(capacity),
                places: Vec::with_capacity(capacity),
                launched: Instant::now(),
            })),
        });
    }

    /// Queues frames of the stream whose seats these are, and launches what can be launched. `outputs` are reused for
    /// the results.
    pub fn submit(
        &self,
        seats: &Arc<Seats<L>>,
        jobs: impl ExactSizeIterator<Item = L::Job>,
        outputs: Vec<L::Output>,
    ) -> Ticket<L> {
        let seat = seats.take(jobs.len(), outputs);
        let mut state = lock(&self.state);
        for (frame, job) in jobs.enumerate() {
            let seat = Arc::clone(&seat);
            state.waiting.push_back((Place { seat, frame }, job));
        }
        self.launch(state);
        Ticket {
            seat,
            home: Arc::clone(seats),
        }
    }

    /// The outcome of a request, when it is there.
    pub fn wait(&self, ticket: Ticket<L>) -> Outcome<L> {
        let Ticket { seat, home } = ticket;
        let mut called = false;
        while !seat.is_done() {
            let mut state = lock(&self.state);
            if let Some(slot) = state.unattended_for(&seat) {
                called = false;
                self.attend(state, slot);
                continue;
            }
            state.sleepers.add(&seat);
            drop(state);
            seat.sleep();
            if seat.is_listed() {
                lock(&self.state).sleepers.remove(&seat);
            }
            called = seat.was_called();
        }
        if called {
            lock(&self.state).call_for_unattended();
        }
        let outcome = seat.outcome();
        home.give_back(seat);
        outcome
    }

    /// Waits for the batch of a lane, and does for all of its streams what comes next.
    fn attend<'a>(&'a self, mut state: MutexGuard<'a, State<L>>, slot: usize) {
        let Some(mut crew) = state.slots[slot].crew.take() else {
            return;
        };
        state.slots[slot].phase = Phase::Attended;
        let alone = crew.places.len() == 1 && state.waiting.is_empty() && state.under_way().0 == 1;
        drop(state);
        let range = profiler::numbered(c"batch", crew.jobs.len() as u64);
        let result = crew.lane.wait(alone);
        drop(range);
        let (state, served) = self.conclude(slot, crew, result);
        // The engine goes on first, then the streams.
        self.launch(state);
        served.wake();
    }

    /// Launches batches as long as there is something to launch and somewhere to run it.
    fn launch<'a>(&'a self, mut state: MutexGuard<'a, State<L>>) {
        while let Some((slot, mut crew)) = state.next_batch() {
            drop(state);
            let range = profiler::numbered(c"launch", crew.jobs.len() as u64);
            let result = crew.lane.launch(&crew.jobs);
            drop(range);
            crew.launched = Instant::now();
            state = match result {
                Ok(()) => {
                    let mut state = lock(&self.state);
                    state.launched(slot, crew);
                    state
                }
                Err(error) => {
                    let (state, served) = self.conclude(slot, crew, Err(error));
                    served.wake();
                    state
                }
            }
        }
    }

    /// Puts the results of a batch down and frees its lane.
    fn conclude(
        &self,
        slot: usize,
        mut crew: Box<Crew<L>>,
        result: Result<(), L::Error>,
    ) -> (MutexGuard<'_, State<L>>, Served<L>) {
        let served = crew.serve(result);
        let mut state = lock(&self.state);
        // Who has all results may have a new request already.
        for seat in served.0.iter().flatten().filter(|seat| seat.is_done()) {
            state.sleepers.remove(seat);
        }
        let slot = &mut state.slots[slot];
        slot.crew = Some(crew);
        slot.phase = Phase::Free;
        slot.frames = 0;
        (state, served)
    }
}

impl<L: Lane> Crew<L> {
    fn serve(&mut self, result: Result<(), L::Error>) -> Served<L> {
        let _range = profiler::numbered(c"decode", self.jobs.len() as u64);
        let times = (self.launched, Instant::now());
        let error = result.err().map(Arc::new);
        let lane = &mut self.lane;
        let mut served = Served([const { None }; MAX_BATCH]);
        for (index, place) in self.places.drain(..).enumerate() {
            place.seat.put(times, |outputs| {
                if error.is_none() {
                    lane.collect(index, &mut outputs[place.frame]);
                }
                error.clone()
            });
            served.0[index] = Some(place.seat);
        }
        self.jobs.clear();
        served
    }
}

impl<L: Lane> Served<L> {
    fn wake(self) {
        for seat in self.0.into_iter().flatten() {
            seat.wake_if_done();
        }
    }
}

impl<L: Lane> State<L> {
    /// A batch that nobody waits for: one with a frame of the request, else any, so that the engine comes free.
    fn unattended_for(&self, seat: &Arc<Seat<L>>) -> Option<usize> {
        let is_unattended = |slot: &Slot<L>| slot.phase == Phase::Unattended;
        let has_frame = |slot: &Slot<L>| {
            let mut places = slot.crew.iter().flat_map(|crew| &crew.places);
            places.any(|place| Arc::ptr_eq(&place.seat, seat))
        };
        let own = self
            .slots
            .iter()
            .position(|s| is_unattended(s) && has_frame(s));
        own.or_else(|| self.slots.iter().position(is_unattended))
    }

    /// Takes the frames of the next batch from the queue, if one is due.
    fn next_batch(&mut self) -> Option<(usize, Box<Crew<L>>)> {
        let (slot, frames) = self.choose()?;
        self.crest -= self.crest.div_ceil(CREST_FALLS);
        let chosen = &mut self.slots[slot];
        let mut crew = chosen.crew.take()?;
        chosen.phase = Phase::Attended;
        chosen.frames = frames;
        for (place, job) in self.waiting.drain(..frames) {
            crew.places.push(place);
            crew.jobs.push(job);
        }
        Some((slot, crew))
    }

    /// Batches and frames under way.
    fn under_way(&self) -> (usize, usize) {
        let busy = self.slots.iter().filter(|slot| slot.phase != Phase::Free);
        busy.fold((0, 0), |(n, sum), slot| (n + 1, sum + slot.frames))
    }

    /// The lane for the next batch, and the batch's size.
    fn choose(&mut self) -> Option<(usize, usize)> {
        let waiting = self.waiting.len();
        let (batches, under_way) = self.under_way();
        self.crest = self.crest.max(waiting + under_way);
        if waiting == 0 || batches >= BATCHES_UNDER_WAY {
            return None;
        }
        let busy = || self.slots.iter().filter(|slot| slot.phase != Phase::Free);
        let free = || {
            let slots = self.slots.iter().enumerate();
            slots.filter(|(_, slot)| {
                slot.phase == Phase::Free && busy().all(|other| other.bay != slot.bay)
            })
        };
        let largest = free().map(|(_, slot)| slot.capacity).max()?;
        let share = self.crest.div_ceil(BATCHES_UNDER_WAY).min(largest);
        if batches > 0 && waiting < share {
            return None;
        }
        let wanted = share.min(waiting);
        // A lane runs as if it were full: what is nearly full now is better than what is half empty.
        let smaller =
            free().filter(|(_, slot)| slot.capacity <= wanted && 4 * slot.capacity >= 3 * wanted);
        let larger = free().filter(|(_, slot)| slot.capacity >= wanted);
        let best = smaller.max_by_key(|(_, slot)| slot.capacity);
        let (index, slot) = best.or_else(|| larger.min_by_key(|(_, slot)| slot.capacity))?;
        Some((index, wanted.min(slot.capacity)))
    }

    fn launched(&mut self, slot: usize, crew: Box<Crew<L>>) {
        let launched = &mut self.slots[slot];
        launched.phase = Phase::Unattended;
        let crew = launched.crew.insert(crew);
        self.sleepers
            .call(crew.places.iter().map(|place| &place.seat));
    }

    /// Who was called to wait for a batch leaves without having done so.
    fn call_for_unattended(&mut self) {
        for slot in &self.slots {
            if slot.phase == Phase::Unattended {
                let places = slot.crew.iter().flat_map(|crew| &crew.places);
                self.sleepers.call(places.map(|place| &place.seat));
            }
        }
    }
}

#[cfg(test)]
mod tests;
