//! When the next probe or run is due.

use std::time::Duration;

use crate::time::Timestamp;

/// A start every interval. A late start does not shift the ones after it, and missed ones are not made up
/// for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    next: Timestamp,
    interval: Duration,
}

impl Schedule {
    /// The first start is at `first`. An interval below 1 ms is taken as 1 ms.
    pub fn new(first: Timestamp, interval: Duration) -> Self {
        Self { next: first, interval: interval.max(Duration::from_millis(1)) }
    }

    /// When the next start is due.
    pub fn next(&self) -> Timestamp {
        self.next
    }

    /// Notes that the due start was made and what it started is over: the next is the first tick after `now`.
    pub fn advance(&mut self, now: Timestamp) {
        let ticks = now.since(self.next).as_nanos() / self.interval.as_nanos() + 1;
        let late = u64::try_from(ticks * self.interval.as_nanos()).unwrap_or(u64::MAX);
        self.next = self.next + Duration::from_nanos(late);
    }

    /// Lets the next start be at `at` already, unless it is earlier anyway; those after it follow from there.
    pub fn hurry(&mut self, at: Timestamp) {
        self.next = self.next.min(at);
    }
}

/// How long the first probe of one of `count` targets waits, so that they do not all start in the same
/// instant: at most 5 ms for each target there is, and never a whole interval. `key` is a hash of the
/// target's identity: the same target has the same place at every start.
pub fn first_delay(key: u64, count: usize, interval: Duration) -> Duration {
    let window =
        Duration::from_millis(5).saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)).min(interval);
    let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
    // The high half of the product is uniform below `window` without a division.
    Duration::from_nanos(((u128::from(key) * u128::from(window)) >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_late_start_does_not_shift_the_next() {
        let second = Duration::from_secs(1);
        let mut schedule = Schedule::new(Timestamp(0) + second, second);
        // (the work was over at, the next start in ms)
        for (over, next) in [(1_000, 2_000), (2_700, 3_000), (3_000, 4_000), (9_999, 10_000)] {
            schedule.advance(Timestamp(over * 1_000_000));
            assert_eq!(schedule.next(), Timestamp(next * 1_000_000), "after {over} ms");
        }
    }

    #[test]
    fn a_hurried_start_is_followed_by_the_interval() {
        let mut schedule = Schedule::new(Timestamp(0), Duration::from_secs(1));
        schedule.advance(Timestamp(5));
        schedule.hurry(Timestamp(2_000_000_000));
        assert_eq!(schedule.next(), Timestamp(1_000_000_000), "never later");
        schedule.hurry(Timestamp(20_000_000));
        assert_eq!(schedule.next(), Timestamp(20_000_000));
        schedule.advance(Timestamp(21_000_000));
        assert_eq!(schedule.next(), Timestamp(1_020_000_000));
    }

    #[test]
    fn a_zero_interval_does_not_spin() {
        let mut schedule = Schedule::new(Timestamp(0), Duration::ZERO);
        schedule.advance(Timestamp(0));
        assert_eq!(schedule.next(), Timestamp(1_000_000));
    }

    #[test]
    fn few_targets_start_soon_and_many_spread_over_the_interval() {
        let interval = Duration::from_secs(2);
        assert!(first_delay(u64::MAX, 2, interval) < Duration::from_millis(10));
        assert!(first_delay(u64::MAX, 10_000, interval) > Duration::from_millis(1_999));
        assert_eq!(first_delay(0, 10_000, interval), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn the_next_start_is_the_first_tick_after_now(
            first in 0u64..1 << 40, interval in 1_000_000u64..1 << 36, late in 0u64..1 << 40,
        ) {
            let mut schedule = Schedule::new(Timestamp(first), Duration::from_nanos(interval));
            schedule.advance(Timestamp(first + late));
            let next = schedule.next().0;
            prop_assert!(next > first + late && next <= first + late + interval);
            prop_assert_eq!((next - first) % interval, 0);
        }

        #[test]
        fn first_delays_are_below_the_interval(key: u64, count in 0usize..1 << 20, interval in 1u64..1 << 36) {
            prop_assert!(first_delay(key, count, Duration::from_nanos(interval)) < Duration::from_nanos(interval));
        }
    }
}
