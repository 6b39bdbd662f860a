use std::{collections::BTreeMap, net::Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::balance::{hash::mix, quota::quotas};

const SIZE: u32 = 65_537;

fn member(number: u32, weight: u32) -> Member {
    let address = Ipv4Addr::from(0x0a00_0000 + number).into();
    Member { key: MemberKey { address, port: 80, protocol: Protocol::Tcp }, weight, id: number + 1 }
}

fn members(weights: &[u32]) -> Vec<Member> {
    (0..).zip(weights).map(|(number, &weight)| member(number, weight)).collect()
}

/// The ring as (slot → key), comparable between member lists.
fn keys(members: &[Member], size: u32) -> Vec<Option<MemberKey>> {
    let ring = Ring::build(members, size);
    ring.slots().iter().map(|&index| members.get(index as usize).map(|member| member.key)).collect()
}

/// A fingerprint of the ring's identifiers.
fn fingerprint(members: &[Member], size: u32) -> u64 {
    Ring::build(members, size).ids(members).iter().fold(0, |hash, &id| mix(hash ^ u64::from(id)))
}

/// Slots that change hands, and how many must because quotas shrink.
fn moves(before: &[Member], after: &[Member], size: u32) -> (u32, u32) {
    let moved = std::iter::zip(keys(before, size), keys(after, size)).filter(|(a, b)| a != b).count() as u32;
    let quotas_of = |members: &[Member]| -> BTreeMap<MemberKey, u32> {
        let mut sorted = members.to_vec();
        sorted.sort_by_key(|member| member.key);
        let weights: Vec<u32> = sorted.iter().map(|member| member.weight).collect();
        std::iter::zip(sorted.iter().map(|member| member.key), quotas(&weights, size)).collect()
    };
    let (old, new) = (quotas_of(before), quotas_of(after));
    let needed = old.iter().map(|(key, &quota)| quota.saturating_sub(*new.get(key).unwrap_or(&0))).sum();
    (moved, needed)
}

#[test]
fn a_weight_of_one_to_ten_is_exactly_that() {
    let members = members(&[1, 10]);
    assert_eq!(Ring::build(&members, 11).shares(2), [1, 10]);
    assert_eq!(Ring::build(&members, SIZE).shares(2), [5_958, 59_579]);
}

#[test]
fn nobody_with_weight_means_empty_slots() {
    for weights in [&[][..], &[0], &[0, 0, 0]] {
        let members = members(weights);
        let ring = Ring::build(&members, 7);
        assert_eq!(ring.slots(), [NO_MEMBER; 7]);
        assert_eq!(ring.ids(&members), [0; 7]);
    }
}

#[test]
fn degenerate_sizes_are_filled() {
    let members = members(&[1, 2, 3, 0]);
    for size in [0, 1, 2, 3, 4, 6, 63, 64, 65, 100, 128, 1_024] {
        let ring = Ring::build(&members, size);
        assert_eq!(ring.slots().len(), size as usize);
        assert!(ring.slots().iter().all(|&index| index < 3), "size {size}");
    }
}

/// Another value means that two nodes with different versions of `lb` disagree about where connections go,
/// and that an upgrade moves them. Change it only on purpose, and say so in the changelog.
#[test]
fn the_algorithm_has_not_changed() {
    let six: IpAddr = "2001:db8::1".parse().unwrap();
    let mut small = members(&[1, 2, 3]);
    small.push(Member {
        key: MemberKey { address: six, port: 443, protocol: Protocol::Udp },
        weight: 1,
        id: 4,
    });
    let ids: String = Ring::build(&small, 31).ids(&small).iter().map(ToString::to_string).collect();
    assert_eq!(ids, "3233113111322332224334233422334");
    assert_eq!(fingerprint(&members(&[1; 100]), SIZE), 4_621_744_910_269_490_285);
    let mixed: Vec<u32> = (0..300).map(|number| number % 17).collect();
    assert_eq!(fingerprint(&members(&mixed), SIZE), 13_008_019_078_120_810_438);
}

/// The bounds are what was measured (`cargo xtask bench scale -- --rings-only`) with a little room; plain Maglev with turns by claims
/// moves about twice as many needlessly.
#[test]
fn few_slots_move_needlessly() {
    // (weights, member that changes, its new weight or None to remove it, allowed needless moves in slots of
    // 1,000)
    let cases: &[(Vec<u32>, usize, Option<u32>, u32)] = &[
        (vec![1; 2], 0, None, 0),
        (vec![1; 3], 2, None, 4),
        (vec![1; 10], 5, None, 5),
        (vec![1; 100], 50, None, 5),
        (vec![1; 1_000], 500, None, 5),
        (vec![1, 10, 1], 2, None, 2),
        (vec![1, 2, 3, 4], 3, None, 5),
        ((1..=10).collect(), 9, None, 6),
        (vec![100; 10], 0, Some(50), 4),
        (vec![100; 100], 0, Some(99), 1),
    ];
    for (weights, index, weight, allowed) in cases {
        let before = members(weights);
        let mut after = before.clone();
        match weight {
            Some(weight) => after[*index].weight = *weight,
            None => drop(after.remove(*index)),
        }
        let (moved, needed) = moves(&before, &after, SIZE);
        assert_eq!(moves(&after, &before, SIZE).0, moved, "back again is the same distance");
        assert!(
            moved - needed <= allowed * SIZE / 1_000,
            "{weights:?}, member {index} → {weight:?}: {moved} slots move, {needed} must"
        );
    }
}

fn weights() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        prop::collection::vec(0u32..5, 1..60),
        prop::collection::vec(prop_oneof![Just(0), Just(1), Just(65_535)], 1..20),
        prop::collection::vec(0u32..=65_535, 1..20),
    ]
}

fn size() -> impl Strategy<Value = u32> {
    prop_oneof![Just(7), Just(251), Just(4_093), Just(65_537), 1u32..2_000]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_slot_is_filled_and_quotas_are_exact(weights in weights(), size in size()) {
        let members = members(&weights);
        let ring = Ring::build(&members, size);
        let total: u64 = weights.iter().copied().map(u64::from).sum();
        prop_assert_eq!(ring.slots().len(), size as usize);
        prop_assert!(total == 0 || !ring.slots().contains(&NO_MEMBER));
        // Members are in the order of their keys here, as the quotas want it.
        prop_assert_eq!(ring.shares(weights.len()), quotas(&weights, size));
    }

    #[test]
    fn the_order_and_the_identifiers_do_not_matter(
        (mut members, shuffled) in weights()
            .prop_map(|weights| members(&weights))
            .prop_flat_map(|members| (Just(members.clone()), Just(members).prop_shuffle())),
        size in size(),
    ) {
        prop_assert_eq!(keys(&members, size), keys(&shuffled, size));
        for member in &mut members {
            member.id = 9_999 - member.id;
        }
        prop_assert_eq!(keys(&members, size), keys(&shuffled, size));
    }

    #[test]
    fn a_member_of_weight_zero_is_as_good_as_none(weights in weights(), size in size()) {
        let members = members(&weights);
        let weighty: Vec<Member> = members.iter().copied().filter(|member| member.weight > 0).collect();
        prop_assert_eq!(keys(&members, size), keys(&weighty, size));
    }

    #[test]
    fn removing_a_member_moves_little_else(weights in prop::collection::vec(1u32..6, 2..40), at: prop::sample::Index) {
        let before = members(&weights);
        let mut after = before.clone();
        after.remove(at.index(before.len()));
        let (moved, needed) = moves(&before, &after, 4_093);
        // A small ring moves more, in proportion, than a large one.
        prop_assert!(moved - needed <= 4_093 * 4 / 100, "{} moved, {} needed", moved, needed);
    }
}
