//! Who gets which slot.
//!
//! As in Maglev (Eisenbud et al., NSDI 2016, §3.4) every member has its own permutation of the slots, given
//! by an offset and a skip, and claims slots in that order. Two things differ, both for the sake of exact
//! weights and of fewer slots that change hands when the members change:
//!
//! * A member has a quota and leaves when it has reached it.
//! * A turn ends after a number of slots *looked at*, not after a slot claimed. So a slot goes to whoever has
//!   it earliest in its permutation, however lucky the others were before; with turns by claims one more
//!   member shifts everybody's turns. This halves the slots that move needlessly.
//!
//! How many slots a member looks at in one turn is in proportion to its weight and to the part of its
//! permutation it has not seen. Then the moments at which members reach a given slot are distributed
//! exponentially with their weights as rates, so each is first with a probability of its share, and the
//! quotas have little left to correct. Without the second factor the heavy members would reach their quotas
//! far too early.
//!
//! The last slots would cost the most looks. They go, one by one, to the member with the highest hash of
//! (member, slot) among those with quota left.
//!
//! Nothing but IEEE 754 multiplication, subtraction and division of doubles is used, in a fixed order: the
//! result is the same on every platform.

use super::{
    MemberKey, NO_MEMBER,
    hash::{mix, stable_hash},
};

/// Slots that the fastest member looks at in one turn. Larger is faster and coarser.
const LOOKS_PER_TURN: f64 = 4.0;

/// Walking ends when at most one slot of this many is free (of fewer, when there are more members).
const WALKED_SHARE: u32 = 128;

/// A member that still wants slots.
pub(super) struct Claimant {
    /// Written into its slots.
    index: u32,
    /// Slots it still wants.
    quota: u32,
    weight: f64,
    /// The next slot of its permutation.
    at: u32,
    /// From one slot to the next; coprime to the ring's size, so that all slots are met.
    skip: u32,
    /// Slots of its permutation already looked at.
    seen: u32,
    /// The rest, as a continuous quantity.
    unseen: f64,
    /// For the last slots.
    hash: u32,
}

impl Claimant {
    pub(super) fn new(index: u32, key: &MemberKey, weight: u32, quota: u32, size: u32) -> Self {
        let hash = stable_hash(key.address, key.port, key.protocol.number());
        let second = mix(!hash);
        let mut skip = (second % u64::from(size.max(2) - 1)) as u32 + 1;
        while gcd(skip, size) != 1 {
            skip = skip % size + 1; // Never needed with a prime size.
        }
        Self {
            index,
            quota,
            weight: f64::from(weight),
            at: (hash % u64::from(size)) as u32,
            skip,
            seen: 0,
            unseen: f64::from(size),
            hash: mix(second) as u32,
        }
    }

    /// How fast it would look if it set the pace.
    fn pace(&self) -> f64 {
        if self.quota == 0 { 0.0 } else { self.weight * self.unseen }
    }

    /// Looks at its share of a turn of `length` and claims what is free there; returns how much.
    #[expect(clippy::cast_sign_loss, reason = "`unseen` is never more than the size")]
    fn take_turn(&mut self, length: f64, slots: &mut [u32], free: &mut Free) -> u32 {
        let size = slots.len() as u32;
        let quota = self.quota;
        self.unseen -= self.unseen * (self.weight * length).min(1.0);
        // Invariant: `unseen` never grows, so neither difference is negative.
        let looks = (f64::from(size) - self.unseen) as u32 - self.seen;
        self.seen += looks;
        let wrap = size - self.skip;
        for _ in 0..looks {
            let slot = self.at;
            self.at = if slot >= wrap { slot - wrap } else { slot + self.skip };
            // Without a branch, which the processor would have to guess: a slot that is somebody's stays so, and one that is
            // nobody's has all bits set.
            let is_free = free.take(slot);
            slots[slot as usize] &= self.index | is_free.wrapping_sub(1);
            self.quota -= is_free;
            if self.quota == 0 {
                break;
            }
        }
        quota - self.quota
    }
}

/// Fills `size` slots; `claimants` are in an order that does not depend on the configuration's, and their
/// quotas sum up to `size`, or there are none.
pub(super) fn fill(mut claimants: Vec<Claimant>, size: u32) -> Vec<u32> {
    let mut slots = vec![NO_MEMBER; size as usize];
    let mut free = Free::new(size);
    let mut left = size;
    let mut pace = claimants.iter().map(Claimant::pace).fold(0.0, f64::max);
    while !claimants.is_empty() && left > size / WALKED_SHARE.max(claimants.len() as u32) {
        // Invariant: somebody with quota left has not seen every slot, or no slot would be left; so the pace
        // is not 0.
        let length = LOOKS_PER_TURN / pace;
        pace = 0.0;
        let mut all_want = true;
        for claimant in &mut claimants {
            left -= claimant.take_turn(length, &mut slots, &mut free);
            pace = pace.max(claimant.pace());
            all_want &= claimant.quota > 0;
        }
        if !all_want {
            claimants.retain(|claimant| claimant.quota > 0);
        }
    }
    for slot in free.iter() {
        let Some(best) = (0..claimants.len()).max_by_key(|&i| score(claimants[i].hash, slot)) else { break };
        slots[slot as usize] = claimants[best].index;
        claimants[best].quota -= 1;
        if claimants[best].quota == 0 {
            claimants.remove(best);
        }
    }
    slots
}

/// A short hash of (member, slot): xor, then MurmurHash3's `fmix32` constants.
fn score(member: u32, slot: u32) -> u32 {
    let hash = (member ^ slot.wrapping_mul(0x9e37_79b1)).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ (hash >> 15)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The free slots, one bit each: small enough for the first-level cache.
struct Free {
    words: Vec<u64>,
}

impl Free {
    fn new(size: u32) -> Self {
        let mut words = vec![u64::MAX; size.div_ceil(64) as usize];
        if let (Some(last), 1..) = (words.last_mut(), size % 64) {
            *last >>= 64 - size % 64;
        }
        Self { words }
    }

    /// 1 if `slot` was free, else 0; it is not any more.
    fn take(&mut self, slot: u32) -> u32 {
        let word = &mut self.words[(slot / 64) as usize];
        let free = *word >> (slot % 64) & 1;
        *word &= !(1 << (slot % 64));
        free as u32
    }

    /// Those that are left, in order.
    fn iter(&self) -> impl Iterator<Item = u32> {
        self.words.iter().zip((0..).step_by(64)).flat_map(|(&word, first)| {
            std::iter::successors((word != 0).then_some(word), |&rest| {
                let rest = rest & (rest - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |rest| first + rest.trailing_zeros())
        })
    }
}
