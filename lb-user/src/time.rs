//! The one clock of the control plane, and the calendar.

use std::{
    ops::{Add, Sub},
    time::{Duration, SystemTime},
};

use nix::time::{ClockId, clock_gettime};

/// A moment on CLOCK_MONOTONIC, in nanoseconds: the clock that `bpf_ktime_get_ns` reads in the XDP program,
/// so that a lease written here means the same there. It does not count time the machine was suspended.
///
/// The cores take it as an argument (`now`) and never read a clock themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Reads the clock.
    pub fn now() -> Self {
        // Invariant: CLOCK_MONOTONIC exists on every Linux; the call has no other way to fail.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC is always there");
        // Invariant: it counts up from the start of the machine, so neither part is negative.
        Self(now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned())
    }

    /// How long ago `earlier` was; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A moment by the calendar, in nanoseconds since 1970: what other nodes can compare with their own clock. Nothing is
/// timed by it, since it may jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// Reads the clock; 1970 if it is set to a time before.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}
