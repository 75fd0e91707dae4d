//! One model on the CPU, for all the streams that use it.
//!
//! A lone stream runs the network on all threads at once. Several streams run it side by side, each on its share of the
//! threads: that needs no coordination within the network, and is faster in total. Never does more work run at
//! once than there are threads.
//!
//! Side by side it runs on workers of its own, one for each copy, which go from frame to frame: each stays on a processor.
//! Were the streams to take turns on their own threads, the one that is woken would often share a processor with another
//! while a third falls idle.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rayon_core::{ThreadPool, ThreadPoolBuilder};

use super::growth::Growth;
use super::host::HostDetector;
use super::recognized::Recognized;
use super::sharing::Streams;
use super::{CAT, DetectError, DetectorOptions, Doubt, LoadError, LoadProgress, Timings};
use crate::decode::Selection;
use crate::detection::Detection;
use crate::engine::onnxruntime::threads;
use crate::frame::SystemFrame;
use crate::{lock, profiler};

/// Copies of a model's weights may need so many bytes together.
const MOST_MEMORY: usize = 512 << 20;

/// A model in main memory, with as many copies as its streams need.
pub struct HostModel {
    description: String,
    recognized: Arc<Recognized>,
    options: DetectorOptions,
    doubt: Doubt,
    /// Copies that may be made.
    most_copies: usize,
    inspection: Mutex<Option<Duration>>,
    growth: Growth,
    desks: Arc<Desks<Box<HostDetector>>>,
}

/// The copies, and who waits for one.
struct Desks<D> {
    streams: Streams,
    /// No more than these work at once.
    threads: usize,
    state: Mutex<State<D>>,
}

struct State<D> {
    /// On all threads, for a lone stream; None while it is in use.
    wide: Option<D>,
    /// Of several on a share of the threads each, those that are not in use.
    narrow: Vec<D>,
    /// How many copies there are besides the wide one, and which set of them is the latest.
    copies: usize,
    set: usize,
    /// As many as there are copies in this set; None where there could be none.
    workers: Option<Arc<ThreadPool>>,
    /// Threads of the copies that are in use.
    busy: usize,
    waiting: VecDeque<Arc<Condvar>>,
}

/// A copy in use.
struct Turn<'a, D> {
    copy: Option<D>,
    /// None for the wide one.
    set: Option<usize>,
    threads: usize,
    desks: &'a Desks<D>,
}

impl HostModel {
    pub fn load(options: &DetectorOptions) -> Result<Self, LoadError> {
        let doubt = Doubt::default();
        let wide = HostDetector::load(options, &doubt)?;
        let threads = threads(options.threads);
        let most_copies = MOST_MEMORY / wide.model_bytes().max(1);
        Ok(Self {
            description: wide.description().to_owned(),
            recognized: Arc::clone(wide.recognized()),
            options: options.clone(),
            doubt,
            most_copies: most_copies.min(threads),
            inspection: Mutex::default(),
            growth: Growth::new(1, |copies| copies * 2),
            desks: Arc::new(Desks::new(Box::new(wide), threads)),
        })
    }

    pub(super) fn recognized(&self) -> &Recognized {
        &self.recognized
    }

    /// Engine and layout, for logs and `stats`.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// What its outputs show to be wrong with it.
    pub fn doubt(&self) -> &Doubt {
        &self.doubt
    }

    /// What one inspection takes, once it was measured.
    pub fn inspection(&self) -> &Mutex<Option<Duration>> {
        &self.inspection
    }

    /// The streams that share the model.
    pub fn streams(&self) -> &Streams {
        &self.desks.streams
    }

    /// One more stream uses the model.
    pub fn join(&self) {
        let copies = self.desks.streams.join().min(self.most_copies) as u32;
        self.growth.expect(copies, || {
            let (desks, options) = (Arc::clone(&self.desks), self.options.clone());
            let (doubt, most) = (self.doubt.clone(), self.most_copies);
            move |copies, progress: &mut LoadProgress<'_>| {
                let copies = (copies as usize).min(most);
                let mut narrow = Vec::with_capacity(copies);
                let options = DetectorOptions {
                    threads: desks.share(copies),
                    ..options.clone()
                };
                for _ in 0..copies {
                    if let ControlFlow::Break(()) = progress("copies of the model", None) {
                        return Ok(false);
                    }
                    narrow.push(Box::new(HostDetector::load(&options, &doubt)?));
                }
                desks.replace(narrow, workers(copies));
                Ok(true)
            }
        });
    }

    /// A stream uses the model no longer.
    pub fn leave(&self) {
        self.desks.streams.leave();
    }

    /// Replaces `detections` by what the network finds in the frame, best first, when it is this stream's turn.
    pub fn detect(
        &self,
        frame: &SystemFrame<'_>,
        selection: &Selection,
        detections: &mut Vec<Detection>,
    ) -> Result<Timings, DetectError> {
        let mut inspect = || {
            let waiting = profiler::range(c"wait");
            let mut turn = self.desks.turn();
            drop(waiting);
            match &mut turn.copy {
                Some(detector) => detector.detect(frame, selection, detections),
                None => Ok(Timings::default()),
            }
        };
        match self.desks.workers() {
            Some(workers) => {
                let _waiting = profiler::range(c"wait");
                workers.install(inspect)
            }
            None => inspect(),
        }
    }
}

/// So many threads that wait for work.
fn workers(number: usize) -> Option<Arc<ThreadPool>> {
    let workers = ThreadPoolBuilder::new()
        .num_threads(number)
        .thread_name(|_| "rsdetectnet-run".into())
        .build();
    match workers {
        Ok(workers) => Some(Arc::new(workers)),
        Err(error) => {
            gst::warning!(CAT, "no threads for copies of a model: {error}");
            None
        }
    }
}

impl<D> Desks<D> {
    fn new(wide: D, threads: usize) -> Self {
        Self {
            streams: Streams::default(),
            threads,
            state: Mutex::new(State {
                wide: Some(wide),
                narrow: Vec::new(),
                copies: 0,
                set: 0,
                workers: None,
                busy: 0,
                waiting: VecDeque::new(),
            }),
        }
    }

    /// The threads of each of so many copies.
    fn share(&self, copies: usize) -> usize {
        (self.threads / copies.max(1)).max(1)
    }

    /// Who is to ask for a copy, where that is not the stream itself.
    fn workers(&self) -> Option<Arc<ThreadPool>> {
        let state = lock(&self.state);
        match self.is_wide(&state) {
            true => None,
            false => state.workers.clone(),
        }
    }

    /// Whether the next frame has all threads.
    fn is_wide(&self, state: &State<D>) -> bool {
        self.streams.count() <= 1 || state.copies == 0
    }

    /// A copy of the model, in the order in which they are asked for.
    fn turn(&self) -> Turn<'_, D> {
        let mut state = lock(&self.state);
        let mut own = None;
        loop {
            let first = match (&own, state.waiting.front()) {
                (Some(own), Some(front)) => Arc::ptr_eq(own, front),
                (_, front) => front.is_none(),
            };
            if first && let Some(turn) = self.take(&mut state) {
                if own.is_some() {
                    state.waiting.pop_front();
                }
                state.wake_first();
                return turn;
            }
            let woken = own.get_or_insert_with(|| {
                let woken = Arc::new(Condvar::new());
                state.waiting.push_back(Arc::clone(&woken));
                woken
            });
            let woken = Arc::clone(woken);
            state = woken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A copy that is not in use, of those for as many streams as there are, if enough threads are idle.
    fn take(&self, state: &mut State<D>) -> Option<Turn<'_, D>> {
        let is_wide = self.is_wide(state);
        let threads = match is_wide {
            true => self.threads,
            false => self.share(state.copies),
        };
        if state.busy + threads > self.threads {
            return None;
        }
        let copy = match is_wide {
            true => state.wide.take()?,
            false => state.narrow.pop()?,
        };
        state.busy += threads;
        Some(Turn {
            copy: Some(copy),
            set: (!is_wide).then_some(state.set),
            threads,
            desks: self,
        })
    }

    /// Puts a new set in the place of the one before, whose copies go when they are given back, and whose workers when
    /// they have done their last work.
    fn replace(&self, narrow: Vec<D>, workers: Option<Arc<ThreadPool>>) {
        let old = {
            let mut state = lock(&self.state);
            state.set += 1;
            state.copies = narrow.len();
            let old = (
                std::mem::replace(&mut state.narrow, narrow),
                std::mem::replace(&mut state.workers, workers),
            );
            state.wake_first();
            old
        };
        drop(old);
    }
}

impl<D> State<D> {
    fn wake_first(&self) {
        if let Some(first) = self.waiting.front() {
            first.notify_one();
        }
    }
}

impl<D> Drop for Turn<'_, D> {
    fn drop(&mut self) {
        let mut state = lock(&self.desks.state);
        state.busy -= self.threads;
        let of_an_earlier_set = match self.set {
            None => {
                state.wide = self.copy.take();
                None
            }
            Some(set) if set == state.set => {
                state.narrow.extend(self.copy.take());
                None
            }
            Some(_) => self.copy.take(),
        };
        state.wake_first();
        drop(state);
        drop(of_an_earlier_set);
    }
}

#[cfg(test)]
mod tests;
