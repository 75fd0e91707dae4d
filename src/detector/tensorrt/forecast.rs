//! When a batch that runs alone will be done. A host that sleeps until the GPU tells it wakes up late, by a good part of
//! what a small network takes; so it sleeps until shortly before, and is awake then.

use std::time::Duration;

/// The host is to be awake so long before the end.
const EARLY: Duration = Duration::from_micros(20);

/// Who sleeps longer than wanted by more than this was not kept by timers.
const LONGEST_OVERSLEEP: Duration = Duration::from_micros(100);

/// Estimates go one in so many parts of the way to what they are too low or too high by.
const SLOWLY: u32 = 16;

/// And one in so many where the host came too late to see by how much.
const QUICKLY: u32 = 8;

/// What batches take, and how exactly the host sleeps.
#[derive(Debug, Default)]
pub(super) struct Forecast {
    /// At once as short as the shortest, and longer only by and by. None while nothing is known.
    takes: Option<Duration>,
    /// At once as long as the longest, and shorter only by and by.
    oversleeps: Duration,
}

impl Forecast {
    /// How long to sleep if the batch was launched `ago`; None where nothing is known. It may be nothing.
    pub fn nap(&self, ago: Duration) -> Option<Duration> {
        let early = self.oversleeps + EARLY;
        Some(self.takes?.saturating_sub(ago + early))
    }

    /// A nap was to take so long, and took so long.
    pub fn napped(&mut self, nap: Duration, took: Duration) {
        let over = took.saturating_sub(nap).min(LONGEST_OVERSLEEP);
        self.oversleeps = match self.oversleeps.checked_sub(over) {
            Some(less) => self.oversleeps - less / SLOWLY,
            None => over,
        };
    }

    /// A batch was done already when the host looked, so long after it was launched: it took less, and who knows how
    /// much less.
    pub fn was_done(&mut self, ago: Duration) {
        let less = self.takes.filter(|takes| ago < *takes);
        self.takes = less.map_or(self.takes, |_| Some(ago - ago / QUICKLY));
    }

    /// A batch was seen to end so long after it was launched.
    pub fn took(&mut self, took: Duration) {
        self.takes = Some(match self.takes {
            Some(takes) if takes < took => takes + (took - takes) / SLOWLY,
            _ => took,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(microseconds: u64) -> Duration {
        Duration::from_micros(microseconds)
    }

    #[test]
    fn the_host_is_awake_before_the_end_however_badly_it_sleeps() {
        let mut forecast = Forecast::default();
        assert_eq!(forecast.nap(us(5)), None);
        forecast.took(us(400));
        for round in 0..1000 {
            let nap = forecast.nap(us(5)).unwrap();
            let slept = nap + us(50 + round % 7);
            forecast.napped(nap, slept);
            forecast.took(us(300));
            let early = us(300).checked_sub(us(5) + slept);
            if round > 0 {
                let early = early.unwrap();
                assert!(us(12) < early && early < us(40), "{early:?}");
            }
        }
    }

    #[test]
    fn what_takes_longer_for_once_hardly_counts() {
        let mut forecast = Forecast::default();
        forecast.took(us(300));
        forecast.took(us(1900));
        assert_eq!(forecast.nap(us(0)), Some(us(380)));
        forecast.took(us(300));
        forecast.napped(us(10), us(5000));
        assert_eq!(forecast.nap(us(0)), Some(us(180)));
    }

    #[test]
    fn a_host_that_comes_late_does_not_take_batches_for_long() {
        let mut forecast = Forecast::default();
        forecast.was_done(us(33_000));
        assert_eq!(forecast.nap(us(0)), None);
        forecast.took(us(300));
        for _ in 0..100 {
            forecast.was_done(us(33_000));
        }
        assert_eq!(forecast.nap(us(0)), Some(us(280)));
    }

    #[test]
    fn a_host_that_sleeps_too_long_sleeps_less_soon() {
        let mut forecast = Forecast::default();
        forecast.took(us(20_000));
        for _ in 0..40 {
            match forecast.nap(us(5)).unwrap() + us(5) {
                late if late > us(300) => forecast.was_done(late),
                _ => forecast.took(us(300)),
            }
        }
        let awake = forecast.nap(us(5)).unwrap() + us(5);
        assert!(us(200) < awake && awake < us(300), "{awake:?}");
    }

    #[test]
    fn where_no_time_is_left_there_is_no_nap() {
        let mut forecast = Forecast::default();
        forecast.took(us(300));
        assert_eq!(forecast.nap(us(290)), Some(us(0)));
    }
}
