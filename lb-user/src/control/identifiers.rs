//! Numbers handed out for map entries.

use std::{collections::VecDeque, time::Duration};

use lb_common::FRAGMENT_LIFETIME;

use crate::time::Timestamp;

/// How long a released identifier rests before it may name something else. A packet that read the old ring is gone
/// after microseconds; later pieces of one that came in pieces follow for [`FRAGMENT_LIFETIME`]; the rest is for counters
/// read by slow scrapers.
pub(super) const REST: Duration = Duration::from_nanos(FRAGMENT_LIFETIME + 10_000_000_000);

/// Hands out identifiers from 1 (or another first number) up to a limit. A released one rests for [`REST`]
/// before it is used again.
#[derive(Debug)]
pub(super) struct Identifiers {
    next: u32,
    limit: u32,
    resting: VecDeque<(Timestamp, u32)>,
    free: Vec<u32>,
}

impl Identifiers {
    /// Identifiers `first..limit`.
    pub(super) fn new(first: u32, limit: u32) -> Self {
        Self { next: first, limit, resting: VecDeque::new(), free: Vec::new() }
    }

    /// An identifier that nothing names; `None` when all are taken or resting.
    pub(super) fn allocate(&mut self) -> Option<u32> {
        if let Some(id) = self.free.pop() {
            return Some(id);
        }
        let id = self.next;
        (id < self.limit).then(|| {
            self.next += 1;
            id
        })
    }

    /// Gives an identifier back; it rests from `now`.
    pub(super) fn release(&mut self, id: u32, now: Timestamp) {
        self.resting.push_back((now + REST, id));
    }

    /// Takes one identifier whose rest is over by `now`; the caller cleans it up and then calls
    /// [`recycle`](Self::recycle).
    pub(super) fn rested(&mut self, now: Timestamp) -> Option<u32> {
        let (until, id) = *self.resting.front()?;
        (until <= now).then(|| {
            self.resting.pop_front();
            id
        })
    }

    /// Makes a rested identifier available again.
    pub(super) fn recycle(&mut self, id: u32) {
        self.free.push(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_identifier_rests_before_it_is_used_again() {
        let mut ids = Identifiers::new(1, 3);
        let start = Timestamp(0);
        assert_eq!((ids.allocate(), ids.allocate(), ids.allocate()), (Some(1), Some(2), None));
        ids.release(1, start);
        assert_eq!(ids.rested(start + REST - Duration::from_nanos(1)), None);
        assert_eq!(ids.allocate(), None);
        assert_eq!(ids.rested(start + REST), Some(1));
        ids.recycle(1);
        assert_eq!(ids.allocate(), Some(1));
    }
}
