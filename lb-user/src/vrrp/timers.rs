//! Every time the protocol and the lease are made of.
//!
//! Why a lease cannot outlive a backup's patience: it ends [`LEASE_TENTHS`]/10 = 2.9 advert intervals after
//! the moment *before* the advert was sent, measured by the owner's clock. A backup waits at least
//! [`DOWN_INTERVALS`] = 3 intervals from the moment it *received* that advert, measured by its own. With
//! each clock wrong by at most [`CLOCK_DRIFT_PERMILLE`]/1000 the lease ends after at most 2.9 ÷ 0.99 = 2.930
//! intervals of true time, the wait after at least 3 ÷ 1.01 = 2.970.
//!
//! The interval in question is the one that the advert names. Version 2 wants the same one on all nodes and drops
//! other adverts. In version 3 a backup learns the owner's, so the argument holds for every backup that has heard
//! the owner it respects (and a late advert of another with a shorter interval does not shorten the wait for those
//! it heard before). A node that has heard nobody since its start waits by its own interval, as the RFC wants
//! it. Where the owner advertises more slowly than that, the newcomer may claim between two adverts: a living
//! owner answers at once, and one of the two yields within a round trip. But an owner that froze before it could be
//! heard still has a lease, of at most 2.9 × its interval − 3 × the newcomer's from that claim on. So nodes of a
//! virtual router should have the same interval, and then there is no such case.
//!
//! Who takes the VIP from a living owner (it preempts, or was ordered to) claims while that one has a lease: if the
//! owner freezes before it hears the claim, its lease runs out by itself.

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

/// What a claim may take in any case: a timer that is a millisecond late and some work must not void it at the
/// shortest intervals.
pub const CLAIM_MIN: Duration = Duration::from_millis(2);

/// An owner sends adverts out of turn (it heard a lower one, or its priority changed; farewells it heard are
/// counted apart) at most once per this many tenths of the advert interval, so that a flood is not answered by a
/// flood. One that comes too early is put off, never left out.
pub const ANSWER_TENTHS: u32 = 1;

/// The shortest time between two repetitions of the gratuitous ARP that conflicts cause. One that comes too
/// early is put off, never left out.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(200);

/// How long a leaving owner's lease reaches ahead at most. It is renewed in steps of half of it while nobody else
/// was heard, so this is what a freeze in the middle of a hand-over costs.
pub const LEAVING_LEASE: Duration = Duration::from_millis(100);

/// What a leaving owner waits beyond the longest skew of its backups: a round trip, and the work of a new owner.
pub const LEAVING_MARGIN: Duration = Duration::from_millis(200);

/// The shortest interval that version 3 can name; what is heard is never believed to be shorter.
pub const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// How long one advert keeps the lease. The interval is the one that advert names.
pub fn lease_term(advert_interval: Duration) -> Duration {
    advert_interval * LEASE_TENTHS / 10
}

/// How old the decision to claim may be when the claim is sent.
pub fn claim_term(advert_interval: Duration) -> Duration {
    (advert_interval * CLAIM_TENTHS / 10).max(CLAIM_MIN)
}

/// The shortest time between two adverts out of turn.
pub fn answer_pause(advert_interval: Duration) -> Duration {
    advert_interval * ANSWER_TENTHS / 10
}

/// How far ahead the lease of a leaving owner reaches: no farther than an advert's would.
pub fn leaving_lease(advert_interval: Duration) -> Duration {
    lease_term(advert_interval).min(LEAVING_LEASE)
}

/// How long a leaving owner waits for another: the longest skew of its backups, who have learnt its interval, and
/// a margin.
pub fn leaving_bound(version: VrrpVersion, advert_interval: Duration) -> Duration {
    skew_unit(version, advert_interval) + LEAVING_MARGIN
}

/// How long a backup that hears nobody waits, beside its skew.
pub fn patience(advert_interval: Duration) -> Duration {
    advert_interval * DOWN_INTERVALS
}

/// `Skew_Time`: the higher the priority, the sooner a backup claims. A part of a second in version 2 (RFC 3768
/// §6.1), of the owner's interval in version 3 (RFC 9568 §6.1), there exact to the nanosecond.
pub fn skew(version: VrrpVersion, priority: u8, interval: Duration) -> Duration {
    skew_unit(version, interval) * (256 - u32::from(priority)) / 256
}

fn skew_unit(version: VrrpVersion, interval: Duration) -> Duration {
    match version {
        VrrpVersion::V2 => Duration::from_secs(1),
        VrrpVersion::V3 => interval,
    }
}

/// How long a backup waits for an advert before it claims: `Master_Down_Interval` (RFC 3768), later called
/// `Active_Down_Interval` (RFC 9568), for an owner that advertises every `interval`.
pub fn down(version: VrrpVersion, priority: u8, interval: Duration) -> Duration {
    interval * DOWN_INTERVALS + skew(version, priority, interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_of_version_2_is_a_part_of_a_second_whatever_the_interval() {
        for (priority, nanoseconds) in
            [(254, 7_812_500), (200, 218_750_000), (100, 609_375_000), (1, 996_093_750)]
        {
            for interval in [1, 255].map(Duration::from_secs) {
                let skew = skew(VrrpVersion::V2, priority, interval);
                assert_eq!(skew, Duration::from_nanos(nanoseconds), "{priority}");
            }
        }
    }

    #[test]
    fn skew_of_version_3_is_a_part_of_the_interval_to_the_nanosecond() {
        for (milliseconds, priority, nanoseconds) in [
            (10, 255, 39_062),
            (10, 100, 6_093_750),
            (1000, 100, 609_375_000),
            (1000, 1, 996_093_750),
            (40_950, 1, 40_790_039_062),
        ] {
            let skew = skew(VrrpVersion::V3, priority, Duration::from_millis(milliseconds));
            assert_eq!(skew, Duration::from_nanos(nanoseconds), "{milliseconds} {priority}");
        }
    }

    #[test]
    fn a_backup_waits_three_intervals_and_the_skew() {
        let down_2 = down(VrrpVersion::V2, 100, Duration::from_secs(2));
        assert_eq!(down_2, Duration::from_micros(6_609_375));
        let down_3 = down(VrrpVersion::V3, 100, Duration::from_millis(10));
        assert_eq!(down_3, Duration::from_nanos(36_093_750));
    }

    #[test]
    fn lease_ends_before_the_most_impatient_backup_with_clocks_apart() {
        for milliseconds in [10, 20, 1000, 2000, 40_950, 255_000] {
            let interval = Duration::from_millis(milliseconds);
            let slow = lease_term(interval) * 1000 / (1000 - CLOCK_DRIFT_PERMILLE);
            let fast = interval * DOWN_INTERVALS * 1000 / (1000 + CLOCK_DRIFT_PERMILLE);
            assert!(slow < fast, "{slow:?} {fast:?}");
            // An owner leaves a round trip's time to whoever heard its farewell last.
            let bound = leaving_bound(VrrpVersion::V3, interval);
            assert!(bound > skew(VrrpVersion::V3, 1, interval) + Duration::from_millis(100));
            assert!(leaving_lease(interval) <= LEAVING_LEASE);
        }
    }
}
