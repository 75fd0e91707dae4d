//! A branch: a request src pad with a thread and a stream of its own, which a bounded queue keeps apart from the
//! video. Whatever happens behind the pad, the video goes on.

pub(super) mod pusher;
pub(super) mod queue;

use std::sync::{Arc, Mutex};

use gst::glib;
use gst::prelude::*;

use self::pusher::Pusher;
use self::queue::{Overflow, Queue};
use crate::lock;

/// Why a branch can go no further.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("{0:?}")]
    Flow(gst::FlowError),
    #[error("{0}")]
    Problem(String),
}

impl From<gst::FlowError> for Stop {
    fn from(error: gst::FlowError) -> Self {
        Self::Flow(error)
    }
}

/// What a branch does with what it is sent; lives on the thread of the branch.
pub(super) trait Worker: Send + 'static {
    type Item: Send + 'static;
    /// What it tells the streaming thread, which reads it on its own clone.
    type Told: Clone + Default + Send + Sync + 'static;

    fn new(told: Self::Told) -> Self;

    /// The video has these caps from here on.
    fn video_caps(&mut self, pad: &gst::Pad, caps: &gst::CapsRef);

    /// Downstream may accept other caps than before.
    fn renegotiate(&mut self);

    /// Sets caps on the pad unless it has some that fit: for the next item, or for those that may come.
    fn ensure_caps(&mut self, pad: &gst::Pad, next: Option<&Self::Item>) -> Result<(), Stop>;

    /// Pushes everything that an item stands for. Is called only while the pad is linked.
    fn push(&mut self, pad: &gst::Pad, item: Self::Item) -> Result<(), Stop>;
}

/// A branch, whatever it is sent.
pub(super) trait Stream {
    fn pad(&self) -> &gst::Pad;

    /// Opens the queue with what the stream has told so far. The thread that takes from it is started apart, so that
    /// this can happen under the lock that keeps new events away.
    fn open(&self, events: Vec<gst::Event>);

    /// Starts the thread.
    fn start(&self, element: &super::RsDetectNet) -> Result<(), glib::BoolError>;

    /// Stops the thread and waits for its end, which comes as soon as downstream returns from a push.
    fn stop(&self) -> Result<(), glib::BoolError>;

    /// Has the thread end by itself: downstream may keep it in a push for as long as it likes.
    fn abandon(&self);

    /// Queues an event; never waits.
    fn send_event(&self, event: gst::Event);

    fn begin_flush(&self, flush_start: gst::Event);

    /// Queues the end of a flush; never waits.
    fn end_flush(&self, flush_stop: gst::Event);

    /// Waits until downstream knows that the flush is over.
    fn wait_for_end_of_flush(&self);
}

pub(super) struct Branch<W: Worker> {
    pub pad: gst::Pad,
    pub told: W::Told,
    queue: Arc<Queue<W::Item>>,
    task: Mutex<Option<gst::Task>>,
}

impl<W: Worker> Branch<W> {
    pub fn new(pad: gst::Pad, limit: usize) -> Self {
        Self {
            pad,
            told: W::Told::default(),
            queue: Arc::new(Queue::new(limit)),
            task: Mutex::default(),
        }
    }

    /// Sends what a frame gave, or a gap for a frame that gave nothing; returns an item that was dropped for it.
    pub fn send_or_gap(
        &self,
        frame: &gst::BufferRef,
        item: Option<W::Item>,
        overflow: Overflow,
    ) -> Option<W::Item> {
        match (item, frame.pts()) {
            (Some(item), _) => return self.queue.send(item, overflow),
            (None, Some(pts)) => {
                let gap = gst::event::Gap::new(pts, frame.duration());
                self.queue.send_event(gap);
            }
            (None, None) => {}
        }
        None
    }

    /// Whether an item that is sent now would be dropped.
    pub fn would_drop(&self, overflow: Overflow) -> bool {
        self.queue.would_drop(overflow)
    }

    fn halt(&self) -> Option<gst::Task> {
        let task = lock(&self.task).take();
        if let Some(task) = &task {
            let _ = task.stop();
        }
        self.queue.close();
        task
    }
}

impl<W: Worker> Stream for Branch<W> {
    fn pad(&self) -> &gst::Pad {
        &self.pad
    }

    fn open(&self, events: Vec<gst::Event>) {
        self.queue.open(events);
    }

    fn start(&self, element: &super::RsDetectNet) -> Result<(), glib::BoolError> {
        let worker = W::new(self.told.clone());
        let pusher = Pusher::new(self.pad.clone(), element.downgrade(), worker);
        // What it holds goes with its thread: the task itself lives as long as its messages on a bus that nobody reads.
        let pusher = Arc::new(Mutex::new(Some(pusher)));
        let ending = Arc::clone(&pusher);
        let queue = self.queue.clone();
        let status = |kind| {
            let (pad, element) = (self.pad.downgrade(), element.downgrade());
            move |task: &gst::Task| {
                if let (Some(pad), Some(element)) = (pad.upgrade(), element.upgrade()) {
                    tell_status(&element, &pad, task, kind);
                }
            }
        };
        let left = status(gst::StreamStatusType::Leave);
        let task = gst::Task::builder(move |task| {
            let Some(entry) = queue.next() else {
                // Whoever closed the queue may have come before this was started, and stopped nothing.
                let _ = task.stop();
                return;
            };
            let taken = lock(&pusher).take();
            if let Some(mut taken) = taken {
                taken.handle(entry);
                *lock(&pusher) = Some(taken);
            }
        })
        .enter_callback(status(gst::StreamStatusType::Enter))
        .leave_callback(move |task| {
            let ended = lock(&ending).take();
            // The message is from the pad, which may live by this alone.
            left(task);
            drop(ended);
        })
        .build();
        // The element's change of state and the request of a pad may both activate it.
        if lock(&self.task).get_or_insert(task.clone()) != &task {
            return Ok(());
        }
        tell_status(element, &self.pad, &task, gst::StreamStatusType::Create);
        task.start()
    }

    fn stop(&self) -> Result<(), glib::BoolError> {
        match self.halt() {
            Some(task) => task.join(),
            None => Ok(()),
        }
    }

    fn abandon(&self) {
        self.halt();
    }

    fn send_event(&self, event: gst::Event) {
        self.queue.send_event(event);
    }

    fn begin_flush(&self, flush_start: gst::Event) {
        self.queue.begin_flush();
        let _ = self.pad.push_event(flush_start);
    }

    fn end_flush(&self, flush_stop: gst::Event) {
        self.queue.end_flush(flush_stop);
    }

    fn wait_for_end_of_flush(&self) {
        self.queue.wait_for_end_of_flush();
    }
}

/// Says on the bus what becomes of a thread, as GStreamer's own pads do, so that applications can set its priority.
fn tell_status(
    element: &super::RsDetectNet,
    pad: &gst::Pad,
    task: &gst::Task,
    kind: gst::StreamStatusType,
) {
    let message = gst::message::StreamStatus::builder(kind, element.upcast_ref::<gst::Element>())
        .src(pad)
        .status_object(task)
        .build();
    let _ = element.post_message(message);
}
