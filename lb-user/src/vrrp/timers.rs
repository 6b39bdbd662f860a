//! Every time the protocol and the lease are made of.
//!
//! Why a lease cannot outlive a backup's patience: it ends [`LEASE_TENTHS`]/10 = 2.9 advert intervals after
//! the moment *before* the advert was sent, measured by the owner's clock. A backup waits at least
//! [`DOWN_INTERVALS`] = 3 intervals from the moment it *received* that advert, measured by its own. With
//! each clock wrong by at most [`CLOCK_DRIFT_PERMILLE`]/1000 the lease ends after at most 2.9 ÷ 0.99 = 2.930
//! intervals of true time, the wait after at least 3 ÷ 1.01 = 2.970.

use std::time::Duration;

use crate::config::VrrpVersion;

/// How long an advert keeps the owner's lease, in tenths of the advert interval.
pub const LEASE_TENTHS: u32 = 29;

/// How many advert intervals a backup waits, beside the skew (RFC 3768 §6.1, Master_Down_Interval).
pub const DOWN_INTERVALS: u32 = 3;

/// How wrong a node's clock may run, in thousandths, for the lease to keep its promise.
pub const CLOCK_DRIFT_PERMILLE: u32 = 10;

/// How old the decision to claim may be when the claim is sent, in tenths of the advert interval. A claim
/// that was held up longer (the node was frozen or starved) is decided anew, after the packets that arrived
/// meanwhile.
pub const CLAIM_TENTHS: u32 = 1;

/// An owner sends adverts out of turn (it heard a lower one, or its priority changed) at most once per this
/// many tenths of the advert interval, so that a flood is not answered by a flood. One that comes too early
/// is put off, never left out.
pub const ANSWER_TENTHS: u32 = 1;

/// The shortest time between two repetitions of the gratuitous ARP that conflicts cause. One that comes too
/// early is put off, never left out.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(200);

/// How long one advert keeps the lease.
pub fn lease_term(advert_interval: Duration) -> Duration {
    advert_interval * LEASE_TENTHS / 10
}

/// Skew_Time: the higher the priority, the sooner a backup claims (v2: RFC 3768 §6.1).
pub fn skew(version: VrrpVersion, priority: u8) -> Duration {
    match version {
        VrrpVersion::V2 | VrrpVersion::V3 => Duration::from_secs(1) * (256 - u32::from(priority)) / 256,
    }
}

/// Master_Down_Interval: how long a backup waits for an advert before it claims.
pub fn master_down(version: VrrpVersion, priority: u8, advert_interval: Duration) -> Duration {
    advert_interval * DOWN_INTERVALS + skew(version, priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_of_version_2_is_a_part_of_a_second_whatever_the_interval() {
        for (priority, nanoseconds) in
            [(254, 7_812_500), (200, 218_750_000), (100, 609_375_000), (1, 996_093_750)]
        {
            assert_eq!(skew(VrrpVersion::V2, priority), Duration::from_nanos(nanoseconds), "{priority}");
        }
    }

    #[test]
    fn master_down_is_three_intervals_and_the_skew() {
        let down = master_down(VrrpVersion::V2, 100, Duration::from_secs(2));
        assert_eq!(down, Duration::from_micros(6_609_375));
    }

    #[test]
    fn lease_ends_before_the_most_impatient_backup_with_clocks_apart() {
        for seconds in [1, 2, 255] {
            let interval = Duration::from_secs(seconds);
            let slow = lease_term(interval) * 1000 / (1000 - CLOCK_DRIFT_PERMILLE);
            let fast = interval * DOWN_INTERVALS * 1000 / (1000 + CLOCK_DRIFT_PERMILLE);
            assert!(slow < fast, "{slow:?} {fast:?}");
        }
    }
}
