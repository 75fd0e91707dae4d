//! Which frames of a live stream are inspected in time, when an age is set that they should not exceed.

use std::time::{Duration, Instant};

use gst::ClockTime;

/// Frames among which the freshest is looked for, at least; twice as many at most.
const WINDOW: u32 = 32;

/// A frame that came after so much time was waited for: none lay before the element.
const PAUSE: Duration = Duration::from_millis(1);

/// How old frames are when they come, and how long inspections take.
#[derive(Debug, Default)]
pub(super) struct Punctuality {
    /// What an inspection takes when it is slow: at once as long as the longest, and less only by and by.
    inspection: Duration,
    /// The least ages in the window before and in this one.
    freshest: [Option<ClockTime>; 2],
    in_window: u32,
    /// When the element was done with the last frame.
    taken: Option<Instant>,
    /// The element had been waiting for the frame that came last.
    was_awaited: bool,
}

impl Punctuality {
    /// A frame was inspected.
    pub fn inspected(&mut self, took: Duration) {
        self.inspection = match took.checked_sub(self.inspection) {
            Some(_) => took,
            None => self.inspection - (self.inspection - took) / 8,
        };
    }

    pub fn frame_comes(&mut self) {
        self.was_awaited = self.taken.is_none_or(|taken| taken.elapsed() > PAUSE);
    }

    /// The element can take another frame.
    pub fn frame_is_taken(&mut self) {
        self.taken = Some(Instant::now());
    }

    /// By how much a frame of this running time, which has just come, is too late at `now`.
    pub fn lateness(
        &mut self,
        running_time: ClockTime,
        now: ClockTime,
        max_latency: ClockTime,
    ) -> Option<ClockTime> {
        self.late(
            now.saturating_sub(running_time),
            max_latency,
            self.was_awaited,
        )
    }

    /// A frame of this age is in time if it is found out before it is older than `max_latency`. Where frames come so
    /// late, or inspections take so long, that none would be, a frame that had not to wait for another is in time,
    /// unless it is older when it comes.
    fn late(
        &mut self,
        age: ClockTime,
        max_latency: ClockTime,
        was_awaited: bool,
    ) -> Option<ClockTime> {
        let inspection = ClockTime::try_from(self.inspection).unwrap_or_default();
        let is_hopeless = self.freshest(age) + inspection > max_latency;
        let found_out = age + inspection;
        let is_in_time =
            age <= max_latency && (found_out <= max_latency || (is_hopeless && was_awaited));
        (!is_in_time).then(|| found_out.saturating_sub(max_latency))
    }

    /// The least age of late, this one included.
    fn freshest(&mut self, age: ClockTime) -> ClockTime {
        if self.in_window == WINDOW {
            self.in_window = 0;
            self.freshest = [self.freshest[1], None];
        }
        self.in_window += 1;
        let [before, now] = &mut self.freshest;
        let now = *now.insert(now.map_or(age, |least| least.min(age)));
        before.map_or(now, |before| before.min(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> ClockTime {
        ClockTime::from_mseconds(milliseconds)
    }

    /// Frames of 25 a second that come `before` ms after their time into a queue, and are inspected in `takes` ms; the
    /// longest time from a frame's own to the end of its inspection, and how many are inspected of 500.
    fn of_a_camera(before: u64, takes: u64, limit: u64) -> (ClockTime, u32) {
        let mut punctuality = Punctuality::default();
        let (mut idle, mut longest, mut inspected) = (ClockTime::ZERO, ClockTime::ZERO, 0);
        for number in 0..500 {
            let running_time = ms(number * 40);
            let comes = running_time + ms(before);
            let now = idle.max(comes);
            let late = punctuality.late(now - running_time, ms(limit), comes > idle);
            idle = now;
            if late.is_none() {
                idle += ms(takes);
                punctuality.inspected(Duration::from_millis(takes));
                inspected += 1;
                // Nothing is known of inspections at first.
                if number > 20 {
                    longest = longest.max(idle - running_time);
                }
            }
        }
        (longest, inspected)
    }

    #[test]
    fn what_can_be_found_out_in_time_is_and_nothing_later() {
        assert_eq!(of_a_camera(10, 5, 300), (ms(15), 500));
        let (longest, inspected) = of_a_camera(10, 100, 300);
        assert!(
            longest <= ms(300) && inspected >= 190,
            "{longest} {inspected}"
        );
        let (longest, inspected) = of_a_camera(30, 220, 300);
        assert!(
            longest <= ms(300) && inspected >= 80,
            "{longest} {inspected}"
        );
    }

    #[test]
    fn what_cannot_be_in_time_is_inspected_when_it_had_not_to_wait() {
        // Slower than the limit alone.
        let (longest, inspected) = of_a_camera(10, 400, 300);
        assert!(
            longest <= ms(10 + 400) && inspected >= 40,
            "{longest} {inspected}"
        );
        // What comes late takes too long by a little.
        let (longest, inspected) = of_a_camera(200, 150, 300);
        assert!(
            longest <= ms(200 + 150) && inspected >= 100,
            "{longest} {inspected}"
        );
    }

    #[test]
    fn what_comes_too_late_is_late_however_fresh_it_is() {
        assert_eq!(of_a_camera(301, 5, 300).1, 0);
        let mut punctuality = Punctuality::default();
        assert_eq!(punctuality.late(ms(350), ms(300), true), Some(ms(50)));
    }
}
