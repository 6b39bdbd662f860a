//! How often this node answers: a token bucket for each CPU (RFC 4443 section 2.4(f)).

/// Nanoseconds in which a token comes: 1,000 a second.
const INTERVAL: u64 = 1_000_000;
/// Tokens that are there after a rest.
const BURST: u64 = 50;

/// Takes a token at `now` (nanoseconds). The state is one number, 0 at first: when the bucket will be full again. `Some`
/// is the state afterwards, `None`: there is no token.
#[inline(always)]
#[must_use]
pub const fn take(full: u64, now: u64) -> Option<u64> {
    let full = if full < now { now } else { full };
    if full - now > (BURST - 1) * INTERVAL { None } else { Some(full + INTERVAL) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `tries` at the same moment are granted.
    fn granted(state: &mut u64, now: u64, tries: u32) -> u32 {
        (0..tries).filter(|_| take(*state, now).map(|after| *state = after).is_some()).count() as u32
    }

    #[test]
    fn bursts_are_bounded_and_tokens_come_back_one_by_one() {
        let (mut state, start) = (0, 7_000_000_000);
        assert_eq!(granted(&mut state, start, 1_000), 50);
        assert_eq!(granted(&mut state, start + INTERVAL - 1, 10), 0);
        assert_eq!(granted(&mut state, start + INTERVAL, 10), 1);
        assert_eq!(granted(&mut state, start + 11 * INTERVAL, 100), 10);
        assert_eq!(granted(&mut state, start + 1_000 * INTERVAL, 1_000), 50, "a rest fills it, and no more");
    }

    #[test]
    fn a_thousand_a_second_in_the_long_run() {
        let mut state = 0;
        let granted: u32 = (0..100_000).map(|n| granted(&mut state, n * 100_000, 1)).sum();
        assert_eq!(granted, 10_000 + 49);
    }
}
