//! Lines on their way to a broker, for applications: what is not acknowledged is sent again.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::lock;
use crate::metrics::Metrics;

/// How often [`Outbox::wait_until_empty`] looks.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// It was handed out to be sent, and has no number yet.
    HandedOut,
    Sent(u64),
    /// The broker has it, but not all that came before it.
    Acknowledged,
}

#[derive(Debug)]
struct Line {
    topic: String,
    text: Vec<u8>,
    state: State,
}

#[derive(Debug, Default)]
struct Content {
    lines: VecDeque<Line>,
    acknowledged: u64,
    lost: u64,
}

/// A bounded buffer between those who write lines and a client of MQTT, Kafka, NATS or another broker that acknowledges
/// what it was sent. A line leaves it when it is acknowledged, so that it arrives at least once; what finds no room is
/// lost and counted.
#[derive(Debug)]
pub struct Outbox {
    capacity: usize,
    content: Mutex<Content>,
}

impl Outbox {
    /// Most lines that are on their way at once.
    pub const WINDOW: usize = 64;

    /// An empty one, for so many lines.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            content: Mutex::default(),
        }
    }

    /// Adds a line, without its line feed.
    pub fn push(&self, topic: &str, line: &[u8]) {
        let mut content = lock(&self.content);
        if content.lines.len() < self.capacity {
            content.lines.push_back(Line {
                topic: topic.to_owned(),
                text: line.trim_ascii_end().to_vec(),
                state: State::Waiting,
            });
        } else {
            content.lost += 1;
        }
    }

    /// The topic and text of the line to send next; none while nothing waits, or [`WINDOW`](Self::WINDOW) lines are
    /// on their way.
    pub fn next_to_send(&self) -> Option<(String, Vec<u8>)> {
        let mut content = lock(&self.content);
        let mut window = content.lines.iter_mut().take(Self::WINDOW);
        let line = window.find(|line| line.state == State::Waiting)?;
        line.state = State::HandedOut;
        Some((line.topic.clone(), line.text.clone()))
    }

    /// The client has given this number to the line that was handed out first of those that have none.
    pub fn sent(&self, number: u64) {
        let mut content = lock(&self.content);
        let mut window = content.lines.iter_mut().take(Self::WINDOW);
        if let Some(line) = window.find(|line| line.state == State::HandedOut) {
            line.state = State::Sent(number);
        }
    }

    /// The broker has the line of this number. Brokers need not keep to the order of the lines.
    pub fn acknowledged(&self, number: u64) {
        let mut content = lock(&self.content);
        let mut window = content.lines.iter_mut().take(Self::WINDOW);
        if let Some(line) = window.find(|line| line.state == State::Sent(number)) {
            line.state = State::Acknowledged;
        }
        let is_done = |line: &Line| line.state == State::Acknowledged;
        while content.lines.front().is_some_and(is_done) {
            content.lines.pop_front();
            content.acknowledged += 1;
        }
    }

    /// The connection is lost: what it carried and was not acknowledged waits again.
    pub fn send_again(&self) {
        for line in lock(&self.content).lines.iter_mut().take(Self::WINDOW) {
            if line.state != State::Acknowledged {
                line.state = State::Waiting;
            }
        }
    }

    /// Lines that the broker does not have yet.
    pub fn waiting(&self) -> usize {
        lock(&self.content).lines.len()
    }

    /// Lines that the broker has.
    pub fn delivered(&self) -> u64 {
        lock(&self.content).acknowledged
    }

    /// Lines that found no room.
    pub fn lost(&self) -> u64 {
        lock(&self.content).lost
    }

    /// Returns when everything is delivered, or the time is over.
    pub fn wait_until_empty(&self, deadline: Instant) {
        while self.waiting() > 0 && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    }

    pub fn add_metrics(&self, metrics: &mut Metrics) {
        let content = lock(&self.content);
        let waiting = content.lines.len() as f64;
        metrics.add("rsdetectnet_outbox_waiting", &[], waiting);
        let delivered = content.acknowledged as f64;
        metrics.add("rsdetectnet_outbox_delivered_total", &[], delivered);
        let lost = content.lost as f64;
        metrics.add("rsdetectnet_outbox_lost_total", &[], lost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_lines(capacity: usize, lines: usize) -> Outbox {
        let outbox = Outbox::new(capacity);
        for number in 0..lines {
            outbox.push("cameras/gate", format!("{number}\n").as_bytes());
        }
        outbox
    }

    fn texts(outbox: &Outbox) -> Vec<String> {
        let lines = std::iter::from_fn(|| outbox.next_to_send());
        lines
            .map(|(_, text)| String::from_utf8(text).unwrap())
            .collect()
    }

    #[test]
    fn lines_come_in_their_order_and_no_more_than_the_window_at_once() {
        let outbox = with_lines(100, 100);
        let first = texts(&outbox);
        let expected: Vec<_> = (0..Outbox::WINDOW).map(|n| n.to_string()).collect();
        assert_eq!(first, expected);
        outbox.sent(1);
        outbox.acknowledged(1);
        assert_eq!(texts(&outbox), [Outbox::WINDOW.to_string()]);
        assert_eq!((outbox.waiting(), outbox.delivered()), (99, 1));
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_whatever_the_order_of_acknowledgements() {
        let outbox = with_lines(10, 4);
        assert_eq!(texts(&outbox).len(), 4);
        for number in 1..=3 {
            outbox.sent(number);
        }
        outbox.acknowledged(2);
        assert_eq!((outbox.waiting(), outbox.delivered()), (4, 0));
        outbox.send_again();
        assert_eq!(texts(&outbox), ["0", "2", "3"]);
        // Numbers of the lost connection mean nothing any more.
        outbox.acknowledged(3);
        assert_eq!(outbox.delivered(), 0);
        for number in 11..=13 {
            outbox.sent(number);
            outbox.acknowledged(number);
        }
        assert_eq!((outbox.waiting(), outbox.delivered()), (0, 4));
    }

    #[test]
    fn what_finds_no_room_is_counted_and_the_rest_stays() {
        let outbox = with_lines(3, 5);
        assert_eq!((outbox.waiting(), outbox.lost()), (3, 2));
        assert_eq!(texts(&outbox), ["0", "1", "2"]);
        let mut metrics = Metrics::default();
        outbox.add_metrics(&mut metrics);
        let text = metrics.to_string();
        assert!(text.contains("rsdetectnet_outbox_waiting{} 3\n"), "{text}");
        assert!(
            text.contains("rsdetectnet_outbox_lost_total{} 2\n"),
            "{text}"
        );
    }
}
