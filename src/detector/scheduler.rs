//! Many streams, one engine: whatever waits is run together, and whoever waits does the work.
//!
//! There is no thread here. A stream that submits a frame launches a batch at once if the engine is free; a stream
//! that waits for a result waits for its batch on behalf of all streams in it, hands out the results, and launches
//! what has come in the meantime. So a lone stream runs as if it had the engine to itself, without a switch of threads.
//!
//! Two batches are under way at most: while one runs, the next is prepared. The second is launched when it is as
//! large as the first, or when the first has ended: so batches grow with the load, and a lone frame is never kept
//! waiting for company while the engine has nothing to do.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Timings;
use crate::lock;

/// Batches that are under way at once.
pub const BATCHES_UNDER_WAY: usize = 2;

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
#[derive(Debug)]
#[must_use = "the frames of a request are read until it has been waited for"]
pub struct Ticket(usize);

/// A frame of a request.
#[derive(Clone, Copy, Debug)]
struct Place {
    request: usize,
    frame: usize,
}

/// A lane with the batch that it runs.
struct Crew<L: Lane> {
    lane: L,
    jobs: Vec<L::Job>,
    places: Vec<Place>,
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
    phase: Phase,
    /// Frames under way.
    frames: usize,
    /// None while it is attended.
    crew: Option<Box<Crew<L>>>,
}

struct Request<L: Lane> {
    woken: Arc<Condvar>,
    asleep: bool,
    outputs: Vec<L::Output>,
    remaining: usize,
    error: Option<Arc<L::Error>>,
    submitted: Instant,
    launched: Instant,
    finished: Instant,
    collected: Duration,
}

struct State<L: Lane> {
    slots: Vec<Slot<L>>,
    waiting: VecDeque<(Place, L::Job)>,
    requests: Vec<Request<L>>,
    unused: Vec<usize>,
}

pub struct Scheduler<L: Lane> {
    state: Mutex<State<L>>,
}

impl<L: Lane> Default for Scheduler<L> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                slots: Vec::new(),
                waiting: VecDeque::new(),
                requests: Vec::new(),
                unused: Vec::new(),
            }),
        }
    }
}

impl<L: Lane> Scheduler<L> {
    /// Adds a lane for batches of up to `capacity` frames.
    pub fn add(&self, lane: L, capacity: usize) {
        let capacity = capacity.clamp(1, MAX_BATCH);
        lock(&self.state).slots.push(Slot {
            capacity,
            phase: Phase::Free,
            frames: 0,
            crew: Some(Box::new(Crew {
                lane,
                jobs: Vec::with_capacity(capacity),
                places: Vec::with_capacity(capacity),
            })),
        });
    }

    /// Queues frames, and launches what can be launched. `outputs` are reused for the results.
    pub fn submit(
        &self,
        jobs: impl ExactSizeIterator<Item = L::Job>,
        mut outputs: Vec<L::Output>,
    ) -> Ticket {
        let frames = jobs.len();
        outputs.resize_with(frames, L::Output::default);
        let id = {
            let mut state = lock(&self.state);
            let id = state.new_request(outputs, frames);
            for (frame, job) in jobs.enumerate() {
                state.waiting.push_back((Place { request: id, frame }, job));
            }
            id
        };
        self.launch();
        Ticket(id)
    }

    /// The outcome of a request, when it is there.
    pub fn wait(&self, ticket: Ticket) -> Outcome<L> {
        let Ticket(id) = ticket;
        let mut state = lock(&self.state);
        loop {
            if state.requests[id].remaining == 0 {
                return state.retire(id);
            }
            if let Some(slot) = state.unattended_for(id) {
                state = self.attend(state, slot);
                continue;
            }
            let request = &mut state.requests[id];
            request.asleep = true;
            let woken = Arc::clone(&request.woken);
            state = woken.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.requests[id].asleep = false;
        }
    }

    /// Waits for the batch of a lane, and does for all of its streams what comes next.
    fn attend<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<L>>,
        slot: usize,
    ) -> MutexGuard<'a, State<L>> {
        let Some(mut crew) = state.slots[slot].crew.take() else {
            return state;
        };
        state.slots[slot].phase = Phase::Attended;
        let alone = crew.places.len() == 1 && state.requests.len() - state.unused.len() == 1;
        drop(state);
        let result = crew.lane.wait(alone);
        let mut state = lock(&self.state);
        let mut finished = [None; MAX_BATCH];
        for (finished, place) in finished.iter_mut().zip(&crew.places) {
            *finished = Some(place.request);
        }
        state.finish(slot, crew, result);
        drop(state);
        // The engine goes on first, then the streams.
        self.launch();
        let mut state = lock(&self.state);
        for request in finished.into_iter().flatten() {
            state.wake(request);
        }
        state
    }

    /// Launches batches as long as there is something to launch and somewhere to run it.
    fn launch(&self) {
        loop {
            let Some((slot, mut crew)) = lock(&self.state).next_batch() else {
                return;
            };
            let result = crew.lane.launch(&crew.jobs);
            let mut state = lock(&self.state);
            match result {
                Ok(()) => state.launched(slot, crew),
                Err(error) => {
                    let requests: Vec<_> = crew.places.iter().map(|place| place.request).collect();
                    state.finish(slot, crew, Err(error));
                    for request in requests {
                        state.wake(request);
                    }
                }
            }
        }
    }
}

impl<L: Lane> State<L> {
    fn new_request(&mut self, outputs: Vec<L::Output>, remaining: usize) -> usize {
        let now = Instant::now();
        let id = self.unused.pop().unwrap_or_else(|| {
            self.requests.push(Request {
                woken: Arc::default(),
                asleep: false,
                outputs: Vec::new(),
                remaining: 0,
                error: None,
                submitted: now,
                launched: now,
                finished: now,
                collected: Duration::ZERO,
            });
            self.requests.len() - 1
        });
        let request = &mut self.requests[id];
        request.outputs = outputs;
        request.remaining = remaining;
        request.error = None;
        (request.submitted, request.launched, request.finished) = (now, now, now);
        request.collected = Duration::ZERO;
        id
    }

    fn retire(&mut self, id: usize) -> Outcome<L> {
        // Who leaves may have been woken to wait for one of these.
        for slot in 0..self.slots.len() {
            if self.slots[slot].phase == Phase::Unattended {
                self.find_attendant(slot);
            }
        }
        self.unused.push(id);
        let request = &mut self.requests[id];
        let timings = Timings {
            preprocess: request.launched - request.submitted,
            infer: request.finished - request.launched,
            decode: request.collected,
        };
        Outcome {
            outputs: std::mem::take(&mut request.outputs),
            result: match request.error.take() {
                Some(error) => Err(error),
                None => Ok(timings),
            },
        }
    }

    /// A batch that nobody waits for: one with a frame of the request, else any, so that the engine comes free.
    fn unattended_for(&self, request: usize) -> Option<usize> {
        let is_unattended = |slot: &Slot<L>| slot.phase == Phase::Unattended;
        let has_frame = |slot: &Slot<L>| {
            let crew = slot.crew.as_ref();
            crew.is_some_and(|crew| crew.places.iter().any(|place| place.request == request))
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
        let chosen = &mut self.slots[slot];
        let mut crew = chosen.crew.take()?;
        chosen.phase = Phase::Attended;
        chosen.frames = frames;
        crew.jobs.clear();
        crew.places.clear();
        for (place, job) in self.waiting.drain(..frames) {
            crew.places.push(place);
            crew.jobs.push(job);
        }
        Some((slot, crew))
    }

    /// The lane for the next batch, and the batch's size.
    fn choose(&self) -> Option<(usize, usize)> {
        let waiting = self.waiting.len();
        let busy = self.slots.iter().filter(|slot| slot.phase != Phase::Free);
        let (batches, under_way) = busy.fold((0, 0), |(n, sum), slot| (n + 1, sum + slot.frames));
        let free = || {
            let slots = self.slots.iter().enumerate();
            slots.filter(|(_, slot)| slot.phase == Phase::Free)
        };
        let largest = free().map(|(_, slot)| slot.capacity).max()?;
        if waiting == 0 || batches >= BATCHES_UNDER_WAY || waiting < under_way.min(largest) {
            return None;
        }
        let share = (waiting + under_way).div_ceil(BATCHES_UNDER_WAY);
        let wanted = share.min(waiting).min(largest);
        // A lane runs as if it were full: what is nearly full now is better than what is half empty.
        let smaller =
            free().filter(|(_, slot)| slot.capacity <= wanted && 4 * slot.capacity >= 3 * wanted);
        let larger = free().filter(|(_, slot)| slot.capacity >= wanted);
        let best = smaller.max_by_key(|(_, slot)| slot.capacity);
        let (index, slot) = best.or_else(|| larger.min_by_key(|(_, slot)| slot.capacity))?;
        Some((index, wanted.min(slot.capacity)))
    }

    fn launched(&mut self, slot: usize, crew: Box<Crew<L>>) {
        let now = Instant::now();
        for place in &crew.places {
            self.requests[place.request].launched = now;
        }
        let launched = &mut self.slots[slot];
        launched.crew = Some(crew);
        launched.phase = Phase::Unattended;
        self.find_attendant(slot);
    }

    /// Hands out the results of a batch and frees its lane.
    fn finish(&mut self, slot: usize, mut crew: Box<Crew<L>>, result: Result<(), L::Error>) {
        let finished = Instant::now();
        let error = result.err().map(Arc::new);
        for (index, place) in crew.places.iter().enumerate() {
            let request = &mut self.requests[place.request];
            request.remaining -= 1;
            request.finished = finished;
            match &error {
                Some(error) => request.error = Some(Arc::clone(error)),
                None => crew.lane.collect(index, &mut request.outputs[place.frame]),
            }
        }
        let collected = finished.elapsed();
        for place in &crew.places {
            self.requests[place.request].collected = collected;
        }
        crew.jobs.clear();
        let slot = &mut self.slots[slot];
        slot.crew = Some(crew);
        slot.phase = Phase::Free;
        slot.frames = 0;
    }

    fn wake(&mut self, request: usize) {
        let request = &mut self.requests[request];
        if std::mem::take(&mut request.asleep) {
            request.woken.notify_one();
        }
    }

    /// Has somebody who sleeps wait for the batch of a lane: best one whose frame is in it.
    fn find_attendant(&mut self, slot: usize) {
        let places = self.slots[slot].crew.iter().flat_map(|crew| &crew.places);
        let own = places.map(|place| place.request);
        let mut sleepers = own.chain(0..self.requests.len());
        if let Some(sleeper) = sleepers.find(|request| self.requests[*request].asleep) {
            self.wake(sleeper);
        }
    }
}

#[cfg(test)]
mod tests;
