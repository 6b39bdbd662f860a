//! (first cut) turns.
use super::{
    MemberKey, NO_MEMBER,
    hash::{mix, stable_hash},
};

pub(super) fn fill(keys: &[MemberKey], _weights: &[u32], quotas: &[u32], size: u32) -> Vec<u32> {
    let mut slots = vec![NO_MEMBER; size as usize];
    let mut state: Vec<(u32, u32, u32)> = keys
        .iter()
        .zip(quotas)
        .map(|(k, &q)| {
            let h = stable_hash(k.address, k.port, k.protocol.number());
            ((h % u64::from(size)) as u32, (mix(h) % u64::from(size - 1)) as u32 + 1, q)
        })
        .collect();
    let mut left = quotas.iter().sum::<u32>();
    while left > 0 {
        for (index, (at, skip, quota)) in state.iter_mut().enumerate() {
            if *quota == 0 {
                continue;
            }
            while slots[*at as usize] != NO_MEMBER {
                *at = (*at + *skip) % size;
            }
            slots[*at as usize] = index as u32;
            *quota -= 1;
            left -= 1;
        }
    }
    slots
}
