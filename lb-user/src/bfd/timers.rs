//! Every time that detection and the lease under it are made of.
//!
//! A peer takes this node for dead when it has received nothing for the *detection time*, by its own clock: this
//! node's multiplier × the interval both agreed on. The lease ends [`LEASE_THIRTIETHS`]/30 of that after the moment
//! *before* the last packet to that peer was sent: 145 of 150 ms. With each clock wrong by 1 % that is 146.5 ms of
//! true time at most, and the peer's patience 148.5 ms at least; the wait before the claim comes on top of it.

use std::time::Duration;

/// A session that is not up sends no more often than this (RFC 5880 §6.8.3).
pub const SLOW: Duration = Duration::from_secs(1);

/// The part of the detection time that a packet keeps the lease for, in thirtieths.
pub const LEASE_THIRTIETHS: u32 = 29;

/// Packets are sent after this many percent of the interval at least, so that many nodes do not keep in step
/// (RFC 5880 §6.8.7).
pub const JITTER_LEAST: u64 = 75;

/// A session that failed this often…
pub const DAMPING_FAILURES: usize = 5;
/// …within this time…
pub const DAMPING_WINDOW: Duration = Duration::from_secs(30);
/// …is held down for this long: adverts alone decide meanwhile, and both ends know it.
pub const DAMPING_HOLD: Duration = Duration::from_mins(1);

/// How long a packet to a peer keeps the lease, where that peer may take this node for dead after `detection_time`.
pub fn lease_term(detection_time: Duration) -> Duration {
    detection_time * LEASE_THIRTIETHS / 30
}

/// How long a backup waits between the end of the detection time and its claim: a fifth of an interval for the
/// answer of an owner that is alive after all, then the higher its priority, the shorter.
pub fn claim_delay(interval: Duration, priority: u8) -> Duration {
    interval / 5 + interval * (256 - u32::from(priority)) / 256
}

/// The longest time until the next packet, in percent of the interval: all of it, or 90 % if one lost packet
/// already takes the session down (RFC 5880 §6.8.7).
pub const fn jitter_most(multiplier: u8) -> u64 {
    if multiplier == 1 { 90 } else { 100 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vrrp::timers::CLOCK_DRIFT_PERMILLE;

    #[test]
    fn lease_ends_before_the_detection_time_with_clocks_apart() {
        for milliseconds in [20, 30, 150, 50_000] {
            let detection = Duration::from_millis(milliseconds);
            let slow = lease_term(detection) * 1000 / (1000 - CLOCK_DRIFT_PERMILLE);
            let fast = detection * 1000 / (1000 + CLOCK_DRIFT_PERMILLE);
            assert!(slow < fast, "{slow:?} {fast:?}");
        }
    }

    #[test]
    fn the_higher_the_priority_the_sooner_the_claim() {
        let interval = Duration::from_millis(50);
        for (priority, microseconds) in [(255, 10_195), (100, 40_468), (1, 59_804)] {
            assert_eq!(claim_delay(interval, priority).as_micros(), microseconds, "{priority}");
        }
    }
}
