//! Slots that change hands under live connections: each keeps its previous backend beside its current one until nothing
//! needs it any more. Sans-IO; ARCHITECTURE.md ("Unsettled slots") has the whole idea.
//!
//! What is known of an unsettled slot is three things: where a new connection goes (its *current* backend), where a
//! connection goes that nobody remembers (its *previous* backend), and that remembered flows go where they went before.
//! Once the learning window is over, every connection that spoke is remembered, and previous becomes the same as
//! current. When no remembered flow goes elsewhere, the slot is settled.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::time::Timestamp;

/// The slots of one service: backend identifiers as the data plane was told them, 0 for nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    current: Vec<u32>,
    unsettled: BTreeMap<u32, Unsettled>,
}

/// What an unsettled slot has beside its current backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unsettled {
    /// Where a connection goes that is not remembered; the current backend once the window is closed.
    previous: u32,
    /// When the learning window ends.
    closes: Timestamp,
    /// When it was last told the data plane what to do with a flow that is not remembered: flows remembered before
    /// may be of any backend.
    since: Timestamp,
}

impl Slots {
    /// Slots with nothing to remember.
    pub fn settled(current: Vec<u32>) -> Self {
        Self { current, unsettled: BTreeMap::new() }
    }

    /// The slots after a graceful change to `ring` (of the same length), made at `now`.
    ///
    /// A slot that changes hands becomes unsettled for at least the learning window. One whose window is still open
    /// keeps its oldest previous backend, because a connection that is not remembered can only be with that one; the
    /// window is not made longer. Backends in `failed` have nothing to preserve: they are replaced at once.
    ///
    /// While this node is not `steering`, because another owns the VIP, it remembers no flow, and the oldest previous
    /// backend means nothing: what is under way when the VIP comes here is most likely with the backend before the last
    /// change.
    #[must_use]
    pub fn change(
        &self,
        ring: Vec<u32>,
        failed: &BTreeSet<u32>,
        now: Timestamp,
        window: Duration,
        steering: bool,
    ) -> Self {
        let mut unsettled = BTreeMap::new();
        for (slot, (&old, &new)) in (0_u32..).zip(std::iter::zip(&self.current, &ring)) {
            let opened = |previous| Unsettled { previous, closes: now + window, since: now };
            let closed = Unsettled { previous: new, closes: now, since: now };
            let next = match self.unsettled.get(&slot).filter(|_| steering || old == new) {
                None if old == new || old == 0 || failed.contains(&old) => continue,
                None => opened(old),
                Some(known) if known.previous == old && old == new => *known,
                Some(known) if [0, new].contains(&known.previous) || failed.contains(&known.previous) => {
                    closed
                }
                Some(known) if known.previous == old => opened(old),
                Some(known) => *known,
            };
            unsettled.insert(slot, next);
        }
        Self { current: ring, unsettled }
    }

    /// Closes the learning windows that are over: from now on what is not remembered goes to the current backend.
    /// Says whether anything changed.
    pub fn close(&mut self, now: Timestamp) -> bool {
        let mut changed = false;
        for (slot, unsettled) in &mut self.unsettled {
            let current = self.current[*slot as usize];
            if unsettled.previous != current && unsettled.closes <= now {
                *unsettled = Unsettled { previous: current, since: now, ..*unsettled };
                changed = true;
            }
        }
        changed
    }

    /// When the next learning window ends.
    pub fn next_close(&self) -> Option<Timestamp> {
        let open =
            self.unsettled.iter().filter(|(slot, known)| known.previous != self.current[**slot as usize]);
        open.map(|(_, known)| known.closes).min()
    }

    /// Settles what needs no memory any more. `held` are the slots for which a look through all remembered flows, begun
    /// at `looked`, found one that goes elsewhere than the current backend. Says whether anything changed.
    pub fn settle(&mut self, held: &BTreeSet<u32>, looked: Timestamp) -> bool {
        let before = self.unsettled.len();
        let current = &self.current;
        self.unsettled.retain(|slot, known| {
            known.previous != current[*slot as usize] || known.since >= looked || held.contains(slot)
        });
        self.unsettled.len() != before
    }

    /// Whether a slot's previous backend is one of these.
    pub fn previous_is_any(&self, backends: &BTreeSet<u32>) -> bool {
        !backends.is_empty() && self.unsettled.values().any(|known| backends.contains(&known.previous))
    }

    /// How many slots are unsettled.
    pub fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    /// Whether this slot is.
    pub fn is_unsettled(&self, slot: u32) -> bool {
        self.unsettled.contains_key(&slot)
    }

    /// The backend of each slot, for new connections.
    pub fn current(&self) -> &[u32] {
        &self.current
    }

    /// The backend of each slot for connections that are not remembered.
    pub fn previous(&self) -> Vec<u32> {
        let mut previous = self.current.clone();
        for (slot, known) in &self.unsettled {
            previous[*slot as usize] = known.previous;
        }
        previous
    }

    /// The backends that any slot names.
    pub fn named(&self) -> BTreeSet<u32> {
        // Rings are long and backends few: neighbours in the sorted ring are mostly equal.
        let mut named: Vec<u32> = self.current.clone();
        named.extend(self.unsettled.values().map(|known| known.previous));
        named.sort_unstable();
        named.dedup();
        named.into_iter().filter(|id| *id != 0).collect()
    }

    /// The ring as the data plane takes it: the current backends, those of unsettled slots with `mark` applied.
    pub fn marked(&self, mark: impl Fn(u32) -> u32) -> Vec<u32> {
        let mut ring = self.current.clone();
        for slot in self.unsettled.keys() {
            ring[*slot as usize] = mark(ring[*slot as usize]);
        }
        ring
    }
}

#[cfg(test)]
mod tests;
