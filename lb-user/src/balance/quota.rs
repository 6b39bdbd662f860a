//! How many slots each member is due.

/// Shares `slots` in proportion to `weights`, exactly: each gets its share rounded down, and the slots that
/// are left go to the largest remainders (of equal ones, to the first). The sum is `slots`, unless all
/// weights are 0.
pub(super) fn quotas(weights: &[u32], slots: u32) -> Vec<u32> {
    let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    if total == 0 {
        return vec![0; weights.len()];
    }
    let exact = |weight: u32| u128::from(weight) * u128::from(slots);
    // Invariant: a share is at most `slots`, a remainder less than `total`; both fit.
    let mut quotas: Vec<u32> = weights.iter().map(|&w| (exact(w) / u128::from(total)) as u32).collect();
    let remainder = |index: usize| (exact(weights[index]) % u128::from(total)) as u64;
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|&index| std::cmp::Reverse(remainder(index)));
    let left = slots - quotas.iter().sum::<u32>();
    for &index in by_remainder.iter().take(left as usize) {
        quotas[index] += 1;
    }
    quotas
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_are_exact() {
        let cases: &[(&[u32], u32, &[u32])] = &[
            (&[], 7, &[]),
            (&[0, 0], 7, &[0, 0]),
            (&[1, 10], 11, &[1, 10]),
            (&[1, 10], 65_537, &[5_958, 59_579]),
            (&[1, 1, 1], 7, &[3, 2, 2]),
            (&[0, 5, 0], 7, &[0, 7, 0]),
            (&[1, 1, 1], 2, &[1, 1, 0]),
            (&[u32::MAX, u32::MAX], 7, &[4, 3]),
        ];
        for &(weights, slots, expected) in cases {
            assert_eq!(quotas(weights, slots), expected, "{weights:?} over {slots}");
        }
    }

    proptest! {
        #[test]
        fn every_slot_is_given_and_nobody_is_off_by_one(
            weights in prop::collection::vec(0u32..70_000, 1..100), slots in 1u32..100_000,
        ) {
            let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
            prop_assume!(total > 0);
            let quotas = quotas(&weights, slots);
            prop_assert_eq!(quotas.iter().sum::<u32>(), slots);
            for (&weight, &quota) in weights.iter().zip(&quotas) {
                let share = u64::from(weight) * u64::from(slots);
                prop_assert!(u64::from(quota) == share / total || u64::from(quota) == share / total + 1);
                prop_assert!(share % total != 0 || u64::from(quota) == share / total);
            }
        }
    }
}
