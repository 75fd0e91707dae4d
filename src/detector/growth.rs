//! Room for more frames at once, made on a thread of its own while the streams already run.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::detector::{CAT, LoadError, LoadProgress};
use crate::lock;
use crate::printable::printable;

/// Which batches there are engines for, and which are to be made.
pub struct Growth {
    /// The largest batch that was asked for.
    wanted: Arc<AtomicU32>,
    cancelled: Arc<AtomicBool>,
    thread: Mutex<Thread>,
    next: fn(u32) -> u32,
}

struct Thread {
    running: Option<JoinHandle<()>>,
    progress: Arc<Mutex<Made>>,
}

/// What the thread has done.
struct Made {
    /// There are engines for batches up to this.
    size: u32,
    /// It will look at what is wanted once more before it ends.
    looks: bool,
    /// There will be no larger batches.
    ended: bool,
}

impl Growth {
    /// There is an engine for batches up to `largest`; `next` says which size comes after one.
    pub fn new(largest: u32, next: fn(u32) -> u32) -> Self {
        Self {
            next,
            wanted: Arc::new(AtomicU32::new(largest)),
            cancelled: Arc::default(),
            thread: Mutex::new(Thread {
                running: None,
                progress: Arc::new(Mutex::new(Made {
                    size: largest,
                    looks: false,
                    ended: false,
                })),
            }),
        }
    }

    /// Has engines made for batches up to so many frames. The maker that `maker` gives makes one for one size, or
    /// says that the model has none.
    pub fn expect<M>(&self, frames: u32, maker: impl FnOnce() -> M)
    where
        M: FnMut(u32, &mut LoadProgress<'_>) -> Result<bool, LoadError> + Send + 'static,
    {
        if frames <= self.wanted.fetch_max(frames, Ordering::AcqRel) {
            return;
        }
        let mut thread = lock(&self.thread);
        {
            let mut made = lock(&thread.progress);
            if made.ended || std::mem::replace(&mut made.looks, true) {
                return;
            }
        }
        if let Some(ended) = thread.running.take() {
            let _ = ended.join();
        }
        let (wanted, cancelled) = (Arc::clone(&self.wanted), Arc::clone(&self.cancelled));
        let (progress, make) = (Arc::clone(&thread.progress), maker());
        let next = self.next;
        let started = std::thread::Builder::new()
            .name("rsdetectnet-grow".into())
            .spawn(move || grow(&wanted, &cancelled, &progress, next, make));
        match started {
            Ok(running) => thread.running = Some(running),
            Err(error) => {
                lock(&thread.progress).looks = false;
                gst::warning!(CAT, "no thread to prepare larger batches: {error}");
            }
        }
    }
}

/// Makes one engine after the other, each of the next size.
fn grow(
    wanted: &AtomicU32,
    cancelled: &AtomicBool,
    progress: &Mutex<Made>,
    next: fn(u32) -> u32,
    mut make: impl FnMut(u32, &mut LoadProgress<'_>) -> Result<bool, LoadError>,
) {
    loop {
        let size = {
            let mut made = lock(progress);
            if made.size >= wanted.load(Ordering::Acquire) {
                made.looks = false;
                return;
            }
            next(made.size)
        };
        let outcome = make(size, &mut |_, _| match cancelled.load(Ordering::Acquire) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        });
        let mut made = lock(progress);
        match outcome {
            Ok(true) => made.size = size,
            Ok(false) => made.ended = true,
            // Out of memory, mostly: the streams go on with the batches that there are.
            Err(error) => {
                gst::info!(CAT, "no batches of {size}: {}", printable(error));
                made.ended = true;
            }
        }
        if made.ended || cancelled.load(Ordering::Acquire) {
            return;
        }
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
        let running = lock(&self.thread).running.take();
        if let Some(running) = running {
            let _ = running.join();
        }
    }
}
