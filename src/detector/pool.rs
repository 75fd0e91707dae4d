//! One model on the CPU, for all the streams that use it.
//!
//! A lone stream runs the network on all threads at once. Several streams run it side by side, each on its share of the
//! threads: that needs no coordination within the network, and is faster in total. Never does more work run at
//! once than there are threads.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::growth::Growth;
use super::host::HostDetector;
use super::{DetectError, DetectorOptions, LoadError, LoadProgress, Timings};
use crate::decode::{Layout, Selection};
use crate::detection::Detection;
use crate::engine::onnxruntime::threads;
use crate::frame::SystemFrame;
use crate::lock;
use crate::model::Labels;

/// Copies of a model's weights may need so many bytes together.
const MOST_MEMORY: usize = 512 << 20;

/// A model in main memory, with as many copies as its streams need.
pub struct HostModel {
    description: String,
    layout: Layout,
    labels: Labels,
    options: DetectorOptions,
    /// Copies that may be made.
    most_copies: usize,
    inspection: Mutex<Option<Duration>>,
    growth: Growth,
    desks: Arc<Desks>,
}

/// The copies, and who waits for one.
struct Desks {
    /// Streams that use the model.
    streams: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    /// On all threads, for a lone stream; None while it is in use.
    wide: Option<HostDetector>,
    /// Of several, those that are not in use.
    narrow: Vec<HostDetector>,
    /// How many copies there are besides the wide one, and which set of them is the latest.
    copies: usize,
    set: usize,
    waiting: VecDeque<Arc<Condvar>>,
}

/// A copy in use.
struct Turn<'a> {
    detector: Option<HostDetector>,
    /// None for the wide one.
    set: Option<usize>,
    desks: &'a Desks,
}

impl HostModel {
    pub fn load(options: &DetectorOptions) -> Result<Self, LoadError> {
        let wide = HostDetector::load(options)?;
        let most_copies = MOST_MEMORY / wide.model_bytes().max(1);
        Ok(Self {
            description: wide.description().to_owned(),
            layout: wide.layout().clone(),
            labels: wide.labels().clone(),
            options: options.clone(),
            most_copies: most_copies.min(threads(options.threads)),
            inspection: Mutex::default(),
            growth: Growth::new(1),
            desks: Arc::new(Desks {
                streams: AtomicUsize::new(0),
                state: Mutex::new(State {
                    wide: Some(wide),
                    narrow: Vec::new(),
                    copies: 0,
                    set: 0,
                    waiting: VecDeque::new(),
                }),
            }),
        })
    }

    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Engine and layout, for logs and `stats`.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// What one inspection takes, once it was measured.
    pub fn inspection(&self) -> &Mutex<Option<Duration>> {
        &self.inspection
    }

    /// One more stream uses the model.
    pub fn join(&self) {
        let streams = self.desks.streams.fetch_add(1, Ordering::AcqRel) + 1;
        let copies = streams.min(self.most_copies) as u32;
        self.growth.expect(copies, || {
            let (desks, options) = (Arc::clone(&self.desks), self.options.clone());
            let most = self.most_copies;
            move |copies, progress: &mut LoadProgress<'_>| {
                let copies = (copies as usize).min(most);
                let mut narrow = Vec::with_capacity(copies);
                let options = DetectorOptions {
                    threads: (threads(options.threads) / copies).max(1),
                    ..options.clone()
                };
                for _ in 0..copies {
                    if let ControlFlow::Break(()) = progress("copies of the model", None) {
                        return Ok(false);
                    }
                    narrow.push(HostDetector::load(&options)?);
                }
                desks.replace(narrow);
                Ok(true)
            }
        });
    }

    /// A stream uses the model no longer.
    pub fn leave(&self) {
        self.desks.streams.fetch_sub(1, Ordering::AcqRel);
    }

    /// Replaces `detections` by what the network finds in the frame, best first, when it is this stream's turn.
    pub fn detect(
        &self,
        frame: &SystemFrame<'_>,
        selection: &Selection,
        detections: &mut Vec<Detection>,
    ) -> Result<Timings, DetectError> {
        match &mut self.desks.turn().detector {
            Some(detector) => detector.detect(frame, selection, detections),
            None => Ok(Timings::default()),
        }
    }
}

impl Desks {
    /// A copy of the model, in the order in which they are asked for.
    fn turn(&self) -> Turn<'_> {
        let mut state = lock(&self.state);
        let mut own = None;
        loop {
            let first = match (&own, state.waiting.front()) {
                (Some(own), Some(front)) => Arc::ptr_eq(own, front),
                (_, front) => front.is_none(),
            };
            let alone = self.streams.load(Ordering::Acquire) <= 1;
            if first && let Some((detector, set)) = state.take(alone) {
                if own.is_some() {
                    state.waiting.pop_front();
                }
                state.wake_first();
                return Turn {
                    detector: Some(detector),
                    set,
                    desks: self,
                };
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

    /// Puts a new set in the place of the one before, whose copies go when they are given back.
    fn replace(&self, narrow: Vec<HostDetector>) {
        let old = {
            let mut state = lock(&self.state);
            state.set += 1;
            state.copies = narrow.len();
            let old = std::mem::replace(&mut state.narrow, narrow);
            state.wake_first();
            old
        };
        drop(old);
    }
}

impl State {
    /// A copy that is not in use, if there is one for as many streams as there are.
    fn take(&mut self, alone: bool) -> Option<(HostDetector, Option<usize>)> {
        if alone || self.copies == 0 {
            return self.wide.take().map(|detector| (detector, None));
        }
        self.narrow.pop().map(|detector| (detector, Some(self.set)))
    }

    fn wake_first(&self) {
        if let Some(first) = self.waiting.front() {
            first.notify_one();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.desks.state);
        let of_an_earlier_set = match self.set {
            None => {
                state.wide = self.detector.take();
                None
            }
            Some(set) if set == state.set => {
                state.narrow.extend(self.detector.take());
                None
            }
            Some(_) => self.detector.take(),
        };
        state.wake_first();
        drop(state);
        drop(of_an_earlier_set);
    }
}
