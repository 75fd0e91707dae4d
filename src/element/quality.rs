//! Quality of service: what downstream says of lateness, and which frames are too late to be inspected.

use gst::ClockTime;

/// What downstream said last, in running time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quality {
    earliest: Option<ClockTime>,
    pub proportion: f64,
}

impl Quality {
    /// Takes over a QoS event: a frame of this running time came `jitter` nanoseconds late (or early).
    pub fn update(&mut self, timestamp: Option<ClockTime>, jitter: i64, proportion: f64) {
        self.proportion = proportion;
        self.earliest = timestamp.map(|timestamp| {
            let late = ClockTime::from_nseconds(jitter.unsigned_abs());
            match jitter {
                0.. => timestamp + late,
                _ => timestamp.saturating_sub(late),
            }
        });
    }

    /// By how much a frame of this running time is too late; None where it is in time or nothing is known.
    pub fn lateness(&self, running_time: Option<ClockTime>) -> Option<ClockTime> {
        let (earliest, running_time) = (self.earliest?, running_time?);
        (running_time <= earliest).then(|| earliest - running_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_up_to_the_moment_that_downstream_has_reached_are_late() {
        let ms = ClockTime::from_mseconds;
        let mut quality = Quality::default();
        assert_eq!(quality.lateness(Some(ms(0))), None);
        quality.update(Some(ms(100)), 50_000_000, 1.5);
        assert_eq!(quality.lateness(Some(ms(120))), Some(ms(30)));
        assert_eq!(quality.lateness(Some(ms(151))), None);
        assert_eq!(quality.lateness(None), None);
        quality.update(Some(ms(10)), -20_000_000, 0.5);
        assert_eq!(quality.lateness(Some(ms(1))), None);
    }
}
