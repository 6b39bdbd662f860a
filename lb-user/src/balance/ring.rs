//! The Maglev ring.

use std::net::IpAddr;

use super::{
    fill::{Claimant, fill},
    quota::quotas,
};
use crate::config::Protocol;

/// An entry of [`Ring::slots`] that belongs to nobody.
pub const NO_MEMBER: u32 = u32::MAX;

/// What makes a backend the same backend on every node and after every restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberKey {
    /// The backend's address.
    pub address: IpAddr,
    /// The backend's port.
    pub port: u16,
    /// The service's protocol.
    pub protocol: Protocol,
}

/// A backend that takes part in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its identity; the ring depends on it. Keys should be unique.
    pub key: MemberKey,
    /// Its share is `weight` of the sum of weights; 0: no slots.
    pub weight: u32,
    /// Its identifier in the data plane (never 0); the ring's shape does not depend on it.
    pub id: u32,
}

/// Which member each slot belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    slots: Vec<u32>,
}

impl Ring {
    /// Shares `size` slots (a prime, so that permutations are as different as can be) among `members`. Every
    /// member gets its exact share, rounded by largest remainder. The order of `members` and their
    /// identifiers do not matter.
    pub fn build(members: &[Member], size: u32) -> Self {
        let mut order: Vec<u32> = (0..).take(members.len()).collect();
        order.sort_unstable_by_key(|&index| (members[index as usize].key, index));
        let weights: Vec<u32> = order.iter().map(|&index| members[index as usize].weight).collect();
        let claimants = std::iter::zip(order, quotas(&weights, size))
            .filter(|&(_, quota)| quota > 0)
            .map(|(index, quota)| {
                let Member { key, weight, .. } = &members[index as usize];
                Claimant::new(index, key, *weight, quota, size)
            })
            .collect();
        Self { slots: fill(claimants, size) }
    }

    /// Slot → index into the members it was built from, or [`NO_MEMBER`].
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// Slot → [`Member::id`], 0 for nobody: what the data plane is given. `members` are those it was built
    /// from.
    pub fn ids(&self, members: &[Member]) -> Vec<u32> {
        self.slots.iter().map(|&index| members.get(index as usize).map_or(0, |member| member.id)).collect()
    }

    /// Slots of each of `count` members, by index.
    pub fn shares(&self, count: usize) -> Vec<u32> {
        let mut shares = vec![0; count];
        for &index in &self.slots {
            if let Some(share) = shares.get_mut(index as usize) {
                *share += 1;
            }
        }
        shares
    }
}

#[cfg(test)]
mod tests;
