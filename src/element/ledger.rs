//! What became of every frame that came in, so that the counters of `stats` add up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Frames since the element started that are not counted by what became of them on their way through.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    received: AtomicU64,
    /// The element had an error because of them.
    failed: AtomicU64,
    /// Let go of by a flush, by a stop, or because downstream takes none.
    flushed: AtomicU64,
}

impl Ledger {
    pub fn begin(&self) {
        for counter in [&self.received, &self.failed, &self.flushed] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// A frame has come in.
    pub fn enter(self: &Arc<Self>) -> Ticket {
        self.received.fetch_add(1, Ordering::Relaxed);
        Ticket {
            ledger: Arc::clone(self),
            is_settled: false,
        }
    }

    pub fn add_statistics(&self, stats: &mut gst::StructureRef) {
        stats.set("frames", self.received.load(Ordering::Relaxed));
        stats.set("failed", self.failed.load(Ordering::Relaxed));
        stats.set("flushed", self.flushed.load(Ordering::Relaxed));
    }
}

/// Goes with a frame until it is known what became of it.
#[derive(Debug)]
pub(super) struct Ticket {
    ledger: Arc<Ledger>,
    is_settled: bool,
}

impl Ticket {
    /// It is counted elsewhere.
    pub fn settle(mut self) {
        self.is_settled = true;
    }

    pub fn fail(self) {
        self.ledger.failed.fetch_add(1, Ordering::Relaxed);
        self.settle();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_settled {
            self.ledger.flushed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_flushed_unless_something_else_became_of_it() {
        gst::init().unwrap();
        let ledger = Arc::new(Ledger::default());
        ledger.enter().settle();
        ledger.enter().fail();
        ledger.enter();
        let under_way = ledger.enter();
        let mut stats = gst::Structure::new_empty("stats");
        ledger.add_statistics(&mut stats);
        let counts = ["frames", "failed", "flushed"].map(|name| stats.get::<u64>(name).unwrap());
        assert_eq!(counts, [4, 1, 1]);
        drop(under_way);
        ledger.begin();
        ledger.add_statistics(&mut stats);
        assert_eq!(stats.get::<u64>("frames").unwrap(), 0);
    }
}
