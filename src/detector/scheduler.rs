//! Many streams, one engine: whatever waits is run together, and whoever waits does the work.
//!
//! There is no thread here. A stream that submits a frame launches a batch at once if the engine is free; a stream
//! that waits for a result waits for its batch on behalf of all streams in it, puts the results down at their seats,
//! and launches what has come in the meantime. So a lone stream runs as if it had the engine to itself, without a
//! switch of threads. A stream with an attendant need not wait: it is told when its results are there, and called when
//! a batch has nobody who waits for it.
//!
//! Two batches are under way at most: while one runs, the next is prepared. The second is launched when half of the
//! frames are in it that streams have lately had under way together, or when the first has ended: so batches grow with
//! the load, and a lone frame is never kept waiting for company while the engine has nothing to do.

mod seat;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use self::seat::{Seat, Sleepers};
use super::Timings;
use super::attendance::{Attendant, Duty};
use crate::{lock, profiler};

pub use self::seat::Seats;

/// Batches that are under way at once.
pub const BATCHES_UNDER_WAY: usize = 2;

/// Each batch lets what is expected to be under way together fall by this part, unless as much still is.
const CREST_FALLS: usize = 8;

/// More frames than this never run together.
pub const MAX_BATCH: usize = 32;

/// Fewer frames than this hardly take less time than as many.
const LEAST_FULL_BATCH: usize = 4;

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

/// A frame in the queue.
struct Waiting<L: Lane> {
    place: Place<L>,
    job: L::Job,
    /// It came to the end of the queue; others of its stream stand behind it.
    is_turn: bool,
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
    /// A batch is under way, and somebody was called to wait for its end.
    Called,
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
    waiting: VecDeque<Waiting<L>>,
    /// The most frames that lately waited or were under way together.
    crest: usize,
    sleepers: Sleepers<L>,
}

pub struct Scheduler<L: Lane> {
    state: Mutex<State<L>>,
    /// Batches that are unattended, for those who have not the lock.
    unattended: AtomicUsize,
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
            unattended: AtomicUsize::new(0),
        }
    }
}

impl<L: Lane> Ticket<L> {
    /// Whether waiting for it takes no time.
    pub fn is_done(&self) -> bool {
        self.seat.is_done()
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
            state.queue(Place { seat, frame }, job);
        }
        let mut state = self.launch(state);
        if !state.waiting.is_empty() {
            // What keeps these frames waiting may be over, and have nobody who saw it.
            self.call_for_unattended(&mut state, seats.attendant());
        }
        drop(state);
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
            if let Some(slot) = state.attendable_for(&seat) {
                called &= state.slots[slot].phase != Phase::Called;
                self.attend_slot(state, slot);
                continue;
            }
            state.sleepers.add(&seat);
            drop(state);
            seat.sleep();
            if seat.is_listed() {
                lock(&self.state).sleepers.remove(&seat);
            }
            called |= seat.was_called();
        }
        if called {
            // Others must come instead.
            self.call_again(&mut lock(&self.state));
        }
        let outcome = seat.outcome();
        home.give_back(seat);
        outcome
    }

    /// Waits for the batch of a lane, and does for all of its streams what comes next.
    fn attend_slot<'a>(&'a self, mut state: MutexGuard<'a, State<L>>, slot: usize) {
        let Some(mut crew) = state.slots[slot].crew.take() else {
            return;
        };
        state.slots[slot].phase = Phase::Attended;
        self.tell(&state);
        let alone = crew.places.len() == 1 && state.waiting.is_empty() && state.under_way().0 == 1;
        drop(state);
        let range = profiler::numbered(c"batch", crew.jobs.len() as u64);
        let result = crew.lane.wait(alone);
        drop(range);
        let (state, served) = self.conclude(slot, crew, result);
        // The engine goes on first, then the streams.
        drop(self.launch(state));
        served.tell();
    }

    /// Has somebody wait for the batch of a lane.
    fn call(&self, state: &mut State<L>, slot: usize, attendant: Option<&Arc<dyn Attendant>>) {
        state.slots[slot].phase = Phase::Unattended;
        // Who is called while awake does not come, and may go to sleep at the next moment: it has to find the batch
        // then.
        self.tell(state);
        if state.call(slot, attendant) {
            state.slots[slot].phase = Phase::Called;
            self.tell(state);
        }
    }

    fn call_for_unattended(&self, state: &mut State<L>, attendant: Option<&Arc<dyn Attendant>>) {
        for slot in 0..state.slots.len() {
            if state.slots[slot].phase == Phase::Unattended {
                self.call(state, slot, attendant);
            }
        }
    }

    /// Who was called to wait for a batch leaves without having done so.
    fn call_again(&self, state: &mut State<L>) {
        let called = state.slots_in(Phase::Called).next();
        if let Some(slot) = called {
            self.call(state, slot, None);
        }
    }

    /// Lets those know of unattended batches who have not the lock.
    fn tell(&self, state: &State<L>) {
        let unattended = state.slots_in(Phase::Unattended).count();
        self.unattended.store(unattended, Ordering::SeqCst);
    }

    /// Launches batches as long as there is something to launch and somewhere to run it.
    fn launch<'a>(&'a self, mut state: MutexGuard<'a, State<L>>) -> MutexGuard<'a, State<L>> {
        while let Some((slot, mut crew)) = state.next_batch() {
            drop(state);
            let range = profiler::numbered(c"launch", crew.jobs.len() as u64);
            let result = crew.lane.launch(&crew.jobs);
            drop(range);
            crew.launched = Instant::now();
            state = match result {
                Ok(()) => {
                    let mut state = lock(&self.state);
                    state.slots[slot].crew = Some(crew);
                    self.call(&mut state, slot, None);
                    state
                }
                Err(error) => {
                    let (state, served) = self.conclude(slot, crew, Err(error));
                    drop(state);
                    served.tell();
                    lock(&self.state)
                }
            }
        }
        state
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

impl<L: Lane> Duty for Scheduler<L> {
    fn is_due(&self) -> bool {
        self.unattended.load(Ordering::SeqCst) > 0
    }

    fn attend(&self, called: bool) {
        let state = lock(&self.state);
        let one = |phase| state.slots_in(phase).next();
        let to_which = one(Phase::Called).filter(|_| called);
        if let Some(slot) = to_which.or_else(|| one(Phase::Unattended)) {
            self.attend_slot(state, slot);
        }
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
    fn tell(self) {
        for seat in self.0.into_iter().flatten() {
            seat.tell_if_done();
        }
    }
}

impl<L: Lane> State<L> {
    fn slots_in(&self, phase: Phase) -> impl Iterator<Item = usize> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(move |(index, slot)| (slot.phase == phase).then_some(index))
    }

    /// A batch that nobody waits for yet: one with a frame of the request, else any, so that the engine comes free.
    fn attendable_for(&self, seat: &Arc<Seat<L>>) -> Option<usize> {
        let attendable = || {
            let all = self.slots_in(Phase::Unattended);
            all.chain(self.slots_in(Phase::Called))
        };
        let has_frame = |slot: &usize| {
            let mut places = self.slots[*slot].crew.iter().flat_map(|crew| &crew.places);
            places.any(|place| Arc::ptr_eq(&place.seat, seat))
        };
        attendable().find(has_frame).or_else(|| attendable().next())
    }

    /// Takes the frames of the next batch from the queue, if one is due.
    fn next_batch(&mut self) -> Option<(usize, Box<Crew<L>>)> {
        let (slot, frames) = self.choose()?;
        self.crest -= self.crest.div_ceil(CREST_FALLS);
        let chosen = &mut self.slots[slot];
        let mut crew = chosen.crew.take()?;
        chosen.phase = Phase::Attended;
        chosen.frames = frames;
        for Waiting {
            place,
            job,
            is_turn,
        } in self.waiting.drain(..frames)
        {
            if is_turn {
                place.seat.end_turn();
            }
            crew.places.push(place);
            crew.jobs.push(job);
        }
        Some((slot, crew))
    }

    /// Lets a frame wait: at the end of the queue, or with what has come of its stream since the stream's turn was
    /// put there. Frames of a stream that run together wake it once. What comes when its turn has come waits for the
    /// next: a stream overtakes nobody with more than it may have under way.
    fn queue(&mut self, place: Place<L>, job: L::Job) {
        let is_turn = place.seat.begins_turn();
        let at = match is_turn {
            true => None,
            false => self
                .waiting
                .iter()
                .rposition(|other| place.seat.is_of_stream_of(&other.place.seat)),
        };
        let frame = Waiting {
            place,
            job,
            is_turn,
        };
        match at {
            Some(last) => self.waiting.insert(last + 1, frame),
            None => self.waiting.push_back(frame),
        }
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
        // A lane runs as if it were full, and decoders beside it are the slower the larger it is: what it leaves runs
        // next, with what has come by then.
        let smaller = free().filter(|(_, slot)| {
            slot.capacity >= LEAST_FULL_BATCH
                && slot.capacity <= wanted
                && 7 * slot.capacity >= 4 * wanted
        });
        let larger = free().filter(|(_, slot)| slot.capacity >= wanted);
        let best = smaller.max_by_key(|(_, slot)| slot.capacity);
        let (index, slot) = best.or_else(|| larger.min_by_key(|(_, slot)| slot.capacity))?;
        Some((index, wanted.min(slot.capacity)))
    }

    /// Calls somebody to the batch of a lane: who sleeps until its end, or an attendant of those who have frames in it
    /// or wait for others to run, or this one. False if none comes.
    fn call(&mut self, slot: usize, attendant: Option<&Arc<dyn Attendant>>) -> bool {
        let crew = &self.slots[slot].crew;
        let places = || crew.iter().flat_map(|crew| &crew.places);
        let calls = |place: &Place<L>| place.seat.attendant().is_some_and(|one| one.call());
        self.sleepers.call(places().map(|place| &place.seat))
            // Who has frames in other batches may have to see to them before this one ends.
            || places().filter(|place| place.seat.is_only_one()).any(calls)
            || places().any(calls)
            || self.waiting.iter().any(|frame| calls(&frame.place))
            || attendant.is_some_and(|attendant| attendant.call())
    }
}

#[cfg(test)]
pub(crate) mod tests;
