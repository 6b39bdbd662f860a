//! What the track scripts of a virtual router amount to.

use crate::health::Level;

/// What the scripts of a virtual router ask of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effects {
    /// A script of weight 0 has not given its first result: the virtual router stays in its initial state, it
    /// neither sends adverts nor takes a VIP. Nobody knows yet whether this node is fit, and a VIP taken for
    /// one interval and given back would cost two moves.
    pub pending: bool,
    /// A script of weight 0 is down.
    pub fault: bool,
    /// The priority after the other scripts' weights, 1–254.
    pub priority: u8,
}

/// Adds up `scripts` (level and weight of each) on top of the configured `priority`.
///
/// A positive weight is added while its script is up, a negative one while it is down; a script that has not
/// run yet adds nothing. The sum is limited to 1–254: 0 and 255 mean something else (RFC 3768 §5.3.4).
pub fn effects(priority: u8, scripts: impl IntoIterator<Item = (Level, i32)>) -> Effects {
    let mut effects = Effects { pending: false, fault: false, priority };
    let mut sum = i64::from(priority);
    for (level, weight) in scripts {
        match (level, weight) {
            (Level::Unknown, 0) => effects.pending = true,
            (Level::Down, 0) => effects.fault = true,
            (Level::Up, 1..) | (Level::Down, ..0) => sum += i64::from(weight),
            _ => {}
        }
    }
    // Invariant: the clamped sum fits; the default is never used.
    effects.priority = u8::try_from(sum.clamp(1, 254)).unwrap_or(254);
    effects
}

#[cfg(test)]
mod tests {
    use super::{Level::*, *};

    #[test]
    fn weights_add_up() {
        // (priority, scripts, pending, fault, priority after)
        type Case<'a> = (u8, &'a [(Level, i32)], bool, bool, u8);
        let cases: &[Case<'_>] = &[
            (100, &[], false, false, 100),
            (100, &[(Up, 0)], false, false, 100),
            (100, &[(Down, 0)], false, true, 100),
            (100, &[(Unknown, 0)], true, false, 100),
            (100, &[(Unknown, 0), (Down, 0), (Up, 0)], true, true, 100),
            (100, &[(Up, 20)], false, false, 120),
            (100, &[(Down, 20)], false, false, 100),
            (100, &[(Up, -20)], false, false, 100),
            (100, &[(Down, -20)], false, false, 80),
            (100, &[(Unknown, 20), (Unknown, -20)], false, false, 100),
            (100, &[(Up, 20), (Down, -50), (Up, 5)], false, false, 75),
            (200, &[(Up, 253)], false, false, 254),
            (10, &[(Down, -253)], false, false, 1),
            // The sum is limited, not its steps.
            (250, &[(Up, 100), (Down, -100)], false, false, 250),
        ];
        for &(base, scripts, pending, fault, priority) in cases {
            let expected = Effects { pending, fault, priority };
            assert_eq!(effects(base, scripts.iter().copied()), expected, "{base} {scripts:?}");
        }
    }
}
