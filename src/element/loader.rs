//! Loads a model beside the thread that changes the element's state: an engine that must be built first takes
//! minutes, in which the application can still stop the element.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::cuda::context::Context;
use crate::detector::{Detector, DetectorOptions, LoadError};
use crate::lock;

enum Stage {
    Loading,
    /// It takes long.
    Building,
    Done(Option<Result<Detector, LoadError>>),
}

struct Shared {
    stage: Mutex<Stage>,
    changed: Condvar,
    cancelled: AtomicBool,
}

/// A model on its way.
pub(super) struct Loader {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Loader {
    /// Starts to load; `report` is told of long work, on another thread.
    pub fn start(
        options: DetectorOptions,
        context: Option<Context>,
        mut report: impl FnMut(&str, Option<u32>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            stage: Mutex::new(Stage::Loading),
            changed: Condvar::new(),
            cancelled: AtomicBool::new(false),
        });
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("rsdetectnet-load".into())
            .spawn(move || {
                let result = Detector::load(&options, context, &mut |phase, percent| {
                    worker.enter(Stage::Building);
                    report(phase, percent);
                    match worker.cancelled.load(Ordering::Acquire) {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                });
                worker.enter(Stage::Done(Some(result)));
            })?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// The outcome, unless loading turns out to take long: then None, at once.
    pub fn wait_unless_long(&self) -> Option<Result<Detector, LoadError>> {
        self.wait(|stage| !matches!(stage, Stage::Loading))
    }

    /// The outcome; None where somebody has taken it already, or loading was cancelled.
    pub fn wait_to_the_end(&self) -> Option<Result<Detector, LoadError>> {
        let cancelled = || self.shared.cancelled.load(Ordering::Acquire);
        let outcome = self.wait(|stage| matches!(stage, Stage::Done(_)) || cancelled());
        outcome.filter(|_| !cancelled())
    }

    fn wait(&self, until: impl Fn(&Stage) -> bool) -> Option<Result<Detector, LoadError>> {
        let stage = lock(&self.shared.stage);
        let mut stage = self
            .shared
            .changed
            .wait_while(stage, |stage| !until(stage))
            .unwrap_or_else(PoisonError::into_inner);
        match &mut *stage {
            Stage::Done(outcome) => outcome.take(),
            _ => None,
        }
    }

    /// Wakes whoever waits, and ends the work as soon as the engine's builder asks.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Release);
        let _stage = lock(&self.shared.stage);
        self.shared.changed.notify_all();
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.cancel();
        if let Some(thread) = lock(&self.thread).take() {
            // A panic there has left its mark as an outcome that never came.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn enter(&self, next: Stage) {
        let mut stage = lock(&self.stage);
        *stage = next;
        self.changed.notify_all();
    }
}
