//! What lies between the streaming thread and the thread of a branch: a queue with a bound.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use gst::glib;

use crate::lock;

/// Downstream that does not heed a flush keeps nobody longer than this.
const PATIENCE: Duration = Duration::from_secs(1);

/// What happens to results that a branch does not take as fast as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRsDetectNetOverflow")]
pub enum Overflow {
    /// The video waits.
    #[enum_value(name = "The video waits until there is room", nick = "block")]
    Block,
    /// The oldest results give way.
    #[default]
    #[enum_value(name = "The oldest waiting results are dropped", nick = "drop-oldest")]
    DropOldest,
    /// The queue keeps what it has.
    #[enum_value(name = "New results are dropped", nick = "drop-newest")]
    DropNewest,
}

#[derive(Debug)]
pub(in crate::element) enum Entry<T> {
    Event(gst::Event),
    Item(T),
}

#[derive(Debug)]
struct State<T> {
    /// Between activation and deactivation of the pad.
    open: bool,
    flushing: bool,
    flush_stop: FlushStop,
    entries: VecDeque<Entry<T>>,
    items: usize,
    /// Who takes the entries.
    taker: Option<ThreadId>,
}

/// Where the end of the latest flush is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlushStop {
    Waiting,
    /// The thread of the branch pushes it.
    Taken,
    /// Downstream knows.
    Gone,
}

/// Events and items in the order in which they came. Only items are bounded: events are few, and gaps, which may
/// come with every frame, become one where they follow each other.
#[derive(Debug)]
pub(in crate::element) struct Queue<T> {
    limit: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Queue<T> {
    /// A closed queue of at most `limit` items.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            state: Mutex::new(State {
                open: false,
                flushing: false,
                flush_stop: FlushStop::Gone,
                entries: VecDeque::new(),
                items: 0,
                taker: None,
            }),
            changed: Condvar::new(),
        }
    }

    /// Begins anew with these events.
    pub fn open(&self, events: impl IntoIterator<Item = gst::Event>) {
        let mut state = lock(&self.state);
        state.open = true;
        state.flushing = false;
        state.flush_stop = FlushStop::Gone;
        state.items = 0;
        state.entries = events.into_iter().map(Entry::Event).collect();
        self.changed.notify_all();
    }

    /// Forgets everything and lets go of everyone who waits.
    pub fn close(&self) {
        let entries = {
            let mut state = lock(&self.state);
            state.open = false;
            state.items = 0;
            std::mem::take(&mut state.entries)
        };
        self.changed.notify_all();
        drop(entries);
    }

    /// Forgets the items and the events that a flush takes with it, and takes no more until [`Queue::end_flush`].
    pub fn begin_flush(&self) {
        let mut state = lock(&self.state);
        state.flushing = true;
        state.flush_stop = FlushStop::Gone;
        state.items = 0;
        state.entries.retain(|entry| match entry {
            Entry::Event(event) => survives_flush(event),
            Entry::Item(_) => false,
        });
        self.changed.notify_all();
    }

    pub fn end_flush(&self, flush_stop: gst::Event) {
        let mut state = lock(&self.state);
        if state.open && state.flushing {
            state.flushing = false;
            state.flush_stop = FlushStop::Waiting;
            state.entries.push_front(Entry::Event(flush_stop));
            self.changed.notify_all();
        }
    }

    /// Waits until downstream knows of the end of the flush: who flushed takes it for ready when the flush returns,
    /// and a pad that is still flushing refuses the seek that comes by another pad.
    pub fn wait_for_end_of_flush(&self) {
        let state = lock(&self.state);
        // A flush may come from downstream itself, on the thread of the branch.
        if state.taker == Some(thread::current().id()) {
            return;
        }
        let is_under_way = |state: &mut State<T>| state.open && state.flush_stop != FlushStop::Gone;
        let _ = self
            .changed
            .wait_timeout_while(state, PATIENCE, is_under_way);
    }

    /// Queues an event; never waits.
    pub fn send_event(&self, event: gst::Event) {
        let mut state = lock(&self.state);
        if !state.open || (state.flushing && !survives_flush(&event)) {
            return;
        }
        let event = match state.entries.back() {
            Some(Entry::Event(last)) => match joined_gaps(last, &event) {
                Some(gap) => {
                    state.entries.pop_back();
                    gap
                }
                None => event,
            },
            _ => event,
        };
        state.entries.push_back(Entry::Event(event));
        self.changed.notify_all();
    }

    /// Queues an item; waits for room only with [`Overflow::Block`]. Returns what had to give way.
    pub fn send(&self, item: T, overflow: Overflow) -> Option<T> {
        let mut state = lock(&self.state);
        while overflow == Overflow::Block && state.items >= self.limit {
            if !state.open || state.flushing {
                return None;
            }
            state = self.wait(state);
        }
        if !state.open || state.flushing {
            return None;
        }
        let dropped = match overflow {
            _ if state.items < self.limit => None,
            Overflow::DropNewest => return Some(item),
            _ => state.drop_oldest(),
        };
        state.items += 1;
        state.entries.push_back(Entry::Item(item));
        self.changed.notify_all();
        dropped
    }

    /// Whether an item that is sent now would be dropped.
    pub fn would_drop(&self, overflow: Overflow) -> bool {
        overflow == Overflow::DropNewest && lock(&self.state).items >= self.limit
    }

    /// Waits for the next entry, and has done with the one before; None once the queue is closed.
    pub fn next(&self) -> Option<Entry<T>> {
        let mut state = lock(&self.state);
        state.taker = Some(thread::current().id());
        if state.flush_stop == FlushStop::Taken {
            state.flush_stop = FlushStop::Gone;
            self.changed.notify_all();
        }
        while state.open {
            if !state.flushing
                && let Some(entry) = state.entries.pop_front()
            {
                match &entry {
                    Entry::Item(_) => {
                        state.items -= 1;
                        self.changed.notify_all();
                    }
                    Entry::Event(event) if event.type_() == gst::EventType::FlushStop => {
                        state.flush_stop = FlushStop::Taken;
                    }
                    Entry::Event(_) => {}
                }
                return Some(entry);
            }
            state = self.wait(state);
        }
        None
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    /// Takes out the oldest item and the gaps before it, so that these cannot pile up.
    fn drop_oldest(&mut self) -> Option<T> {
        let oldest = self
            .entries
            .iter()
            .position(|entry| matches!(entry, Entry::Item(_)))?;
        let Some(Entry::Item(item)) = self.entries.remove(oldest) else {
            return None;
        };
        self.items -= 1;
        for index in (0..oldest).rev() {
            if let Entry::Event(event) = &self.entries[index]
                && event.type_() == gst::EventType::Gap
            {
                self.entries.remove(index);
            }
        }
        Some(item)
    }
}

/// Whether an event says what a stream is, and not where it is: nobody would tell it again after a flush.
pub(in crate::element) fn survives_flush(event: &gst::Event) -> bool {
    let kind = event.type_();
    kind.is_sticky() && kind != gst::EventType::Segment && kind != gst::EventType::Eos
}

/// Two gaps as one that lasts from the start of the first to the end of the last.
fn joined_gaps(first: &gst::Event, second: &gst::Event) -> Option<gst::Event> {
    let (gst::EventView::Gap(first), gst::EventView::Gap(second)) = (first.view(), second.view())
    else {
        return None;
    };
    let ((from, first_duration), (start, duration)) = (first.get(), second.get());
    let begin = from.min(start);
    let end = (from + first_duration.unwrap_or_default()).max(start + duration?);
    Some(
        gst::event::Gap::builder(begin)
            .duration(end - begin)
            .seqnum(second.seqnum())
            .build(),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn queue(limit: usize) -> Queue<u32> {
        gst::init().unwrap();
        let queue = Queue::new(limit);
        queue.open([]);
        queue
    }

    fn gap(number: u64) -> gst::Event {
        let ms = gst::ClockTime::from_mseconds;
        gst::event::Gap::builder(ms(40 * number))
            .duration(ms(40))
            .build()
    }

    fn collection() -> gst::StreamCollection {
        gst::StreamCollection::builder(None).build()
    }

    fn drain(queue: &Queue<u32>) -> Vec<String> {
        let entries = std::mem::take(&mut lock(&queue.state).entries);
        let words = entries.into_iter().map(|entry| match entry {
            Entry::Item(item) => item.to_string(),
            Entry::Event(event) => match event.view() {
                gst::EventView::Gap(gap) => format!("gap {}", gap.get().1.unwrap().mseconds()),
                _ => event.type_().name().to_string(),
            },
        });
        words.collect()
    }

    #[test]
    fn a_full_queue_drops_the_oldest_or_the_newest_as_asked() {
        let oldest = queue(2);
        let dropped: Vec<_> = (0..4)
            .filter_map(|i| oldest.send(i, Overflow::DropOldest))
            .collect();
        assert_eq!(
            (dropped, drain(&oldest)),
            (vec![0, 1], vec!["2".into(), "3".into()])
        );
        let newest = queue(2);
        let dropped: Vec<_> = (0..4)
            .filter_map(|i| newest.send(i, Overflow::DropNewest))
            .collect();
        assert!(newest.would_drop(Overflow::DropNewest));
        assert!(!newest.would_drop(Overflow::DropOldest));
        assert_eq!(
            (dropped, drain(&newest)),
            (vec![2, 3], vec!["0".into(), "1".into()])
        );
    }

    #[test]
    fn gaps_join_and_never_pile_up_where_items_are_dropped() {
        let queue = queue(1);
        for number in 0..100 {
            queue.send_event(gap(3 * number));
            queue.send_event(gap(3 * number + 1));
            queue.send(number as u32, Overflow::DropOldest);
        }
        assert_eq!(drain(&queue), ["gap 80", "99"]);
    }

    #[test]
    fn a_blocked_sender_goes_on_when_there_is_room_a_flush_or_the_end() {
        for release in [0, 1, 2] {
            let queue = Arc::new(queue(1));
            queue.send(1, Overflow::Block);
            let sender = std::thread::spawn({
                let queue = queue.clone();
                move || queue.send(2, Overflow::Block)
            });
            std::thread::sleep(Duration::from_millis(20));
            assert!(!sender.is_finished());
            match release {
                0 => assert!(matches!(queue.next(), Some(Entry::Item(1)))),
                1 => queue.begin_flush(),
                _ => queue.close(),
            }
            assert_eq!(sender.join().unwrap(), None);
        }
    }

    #[test]
    fn a_flush_keeps_what_the_stream_is_and_forgets_where_it_was() {
        let queue = queue(4);
        queue.send_event(gst::event::StreamStart::new("stream"));
        queue.send_event(gst::event::Segment::new(&gst::FormattedSegment::<
            gst::ClockTime,
        >::new()));
        queue.send(1, Overflow::Block);
        queue.send_event(gst::event::Eos::new());
        queue.begin_flush();
        assert_eq!(queue.send(2, Overflow::Block), None);
        queue.send_event(gst::event::StreamCollection::new(&collection()));
        queue.send_event(gap(2));
        queue.end_flush(gst::event::FlushStop::new(true));
        queue.send(3, Overflow::Block);
        let kept = ["flush-stop", "stream-start", "stream-collection", "3"];
        assert_eq!(drain(&queue), kept);
    }

    #[test]
    fn who_ends_a_flush_goes_on_when_the_branch_has_told_it_and_the_branch_itself_never_waits() {
        let queue = Arc::new(queue(4));
        queue.begin_flush();
        queue.end_flush(gst::event::FlushStop::new(true));
        let flusher = std::thread::spawn({
            let queue = queue.clone();
            move || {
                let start = std::time::Instant::now();
                queue.wait_for_end_of_flush();
                start.elapsed()
            }
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(matches!(queue.next(), Some(Entry::Event(_))));
        queue.wait_for_end_of_flush();
        std::thread::sleep(Duration::from_millis(20));
        assert!(!flusher.is_finished());
        queue.send(1, Overflow::Block);
        assert!(matches!(queue.next(), Some(Entry::Item(1))));
        assert!(flusher.join().unwrap() < PATIENCE);
    }

    #[test]
    fn a_closed_queue_takes_and_gives_nothing() {
        let queue = queue(4);
        queue.send(1, Overflow::Block);
        queue.close();
        queue.send_event(gap(0));
        assert_eq!(queue.send(2, Overflow::Block), None);
        assert!(queue.next().is_none());
    }
}
