//! What the trackers of a virtual router amount to.

use std::fmt;

use crate::{config::Weight, health::Level};

/// The priority of the owner of the addresses in the RFC's sense, which no weight changes.
const ADDRESS_OWNER: u8 = 255;
/// What a file's value, times its weight, must reach to be no fault.
const LEAST_VALUE: i64 = -253;

/// What is known of a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Up, down or a number.
    pub value: Value,
    /// That in words, for instance `track script chk fails (exit status 1)`.
    pub words: String,
    /// Whether a node may hand its VIPs over before it gives them up, should this be a fault. Not where it cannot be
    /// reached any more, nor send.
    pub hand_over: bool,
}

/// The state of a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of all but files.
    Level(Level),
    /// Of files.
    Number(i64),
}

impl Default for Value {
    fn default() -> Self {
        Self::Level(Level::Unknown)
    }
}

/// What trackers ask of a virtual router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effects {
    /// A tracker of weight 0 has not given its first result: the virtual router stays in its initial state, it
    /// neither sends adverts nor takes a VIP. Nobody knows yet whether this node is fit, and a VIP taken for
    /// one interval and given back would cost two moves.
    pub pending: bool,
    /// What forbids this node to own the VIPs, in words.
    pub faults: Vec<String>,
    /// Whether all of these leave it able to hand over.
    pub hand_over: bool,
    /// The priority after the weights: 1–254, or 255 as configured.
    pub priority: u8,
    /// Each tracker in words, and what it asks for.
    pub watched: Vec<(String, Effect)>,
}

/// What one tracker asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// To wait for its first result.
    Wait,
    /// To own nothing.
    Fault,
    /// To add this to the priority.
    Add(i64),
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no effect"),
            Self::Wait => f.write_str("waited for"),
            Self::Fault => f.write_str("fault"),
            Self::Add(amount) => write!(f, "priority {amount:+}"),
        }
    }
}

/// Adds up the trackers on top of the configured `priority`.
///
/// A positive weight is added while its tracker is up, a negative one while it is down; one that is not known yet adds
/// nothing. The sum is limited to 1–254: 0 and 255 mean something else (RFC 3768 §5.3.4). The priority 255 stays.
pub fn effects(priority: u8, trackers: impl IntoIterator<Item = (Weight, Reading)>) -> Effects {
    let mut effects =
        Effects { pending: false, faults: Vec::new(), hand_over: true, priority, watched: Vec::new() };
    let mut sum = i64::from(priority);
    for (weight, reading) in trackers {
        let effect = effect(weight, reading.value);
        match effect {
            Effect::Nothing => {}
            Effect::Wait => effects.pending = true,
            Effect::Fault => {
                effects.faults.push(reading.words.clone());
                effects.hand_over &= reading.hand_over;
            }
            Effect::Add(amount) => sum += amount,
        }
        effects.watched.push((reading.words, effect));
    }
    if priority != ADDRESS_OWNER {
        // Invariant: the clamped sum fits; the default is never used.
        effects.priority = u8::try_from(sum.clamp(1, 254)).unwrap_or(254);
    }
    effects
}

fn effect(weight: Weight, value: Value) -> Effect {
    let amount = i64::from(if weight.reverse { -weight.value } else { weight.value });
    match (value, weight.value) {
        (Value::Level(Level::Unknown), 0) => Effect::Wait,
        (Value::Level(level), 0) if (level == Level::Down) != weight.reverse => Effect::Fault,
        (Value::Level(Level::Up), 1..) | (Value::Level(Level::Down), ..0) => Effect::Add(amount),
        (Value::Number(number), 0) if (number != 0) != weight.reverse => Effect::Fault,
        (Value::Level(_), _) | (Value::Number(_), 0) => Effect::Nothing,
        (Value::Number(number), _) => match number.saturating_mul(amount) {
            sum if sum < LEAST_VALUE => Effect::Fault,
            sum => Effect::Add(sum.min(-LEAST_VALUE)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{Level::*, *};

    const fn weight(value: i32) -> Weight {
        Weight { value, reverse: false }
    }

    const fn reverse(value: i32) -> Weight {
        Weight { value, reverse: true }
    }

    fn of(priority: u8, trackers: &[(Weight, Value)]) -> Effects {
        let reading = |(index, (weight, value)): (usize, &(Weight, Value))| {
            (*weight, Reading { value: *value, words: index.to_string(), hand_over: true })
        };
        effects(priority, trackers.iter().enumerate().map(reading))
    }

    #[test]
    fn weights_add_up() {
        // (priority, scripts, pending, faults, priority after)
        type Case<'a> = (u8, &'a [(Level, Weight)], bool, &'a [&'a str], u8);
        let cases: &[Case<'_>] = &[
            (100, &[], false, &[], 100),
            (100, &[(Up, weight(0))], false, &[], 100),
            (100, &[(Down, weight(0))], false, &["0"], 100),
            (100, &[(Unknown, weight(0))], true, &[], 100),
            (100, &[(Unknown, weight(0)), (Down, weight(0)), (Up, weight(0))], true, &["1"], 100),
            (100, &[(Down, weight(0)), (Up, weight(0)), (Down, weight(0))], false, &["0", "2"], 100),
            (100, &[(Up, weight(20))], false, &[], 120),
            (100, &[(Down, weight(20))], false, &[], 100),
            (100, &[(Up, weight(-20))], false, &[], 100),
            (100, &[(Down, weight(-20))], false, &[], 80),
            (100, &[(Unknown, weight(20)), (Unknown, weight(-20))], false, &[], 100),
            (100, &[(Up, weight(20)), (Down, weight(-50)), (Up, weight(5))], false, &[], 75),
            (200, &[(Up, weight(253))], false, &[], 254),
            (10, &[(Down, weight(-253))], false, &[], 1),
            // The sum is limited, not its steps.
            (250, &[(Up, weight(100)), (Down, weight(-100))], false, &[], 250),
            // The other way round.
            (100, &[(Up, reverse(20))], false, &[], 80),
            (100, &[(Down, reverse(20))], false, &[], 100),
            (100, &[(Up, reverse(-20))], false, &[], 100),
            (100, &[(Down, reverse(-20))], false, &[], 120),
            (100, &[(Up, reverse(0))], false, &["0"], 100),
            (100, &[(Down, reverse(0))], false, &[], 100),
            (100, &[(Unknown, reverse(0))], true, &[], 100),
            // The owner of the addresses.
            (255, &[(Down, weight(-20)), (Up, weight(20))], false, &[], 255),
            (255, &[(Down, weight(0))], false, &["0"], 255),
        ];
        for &(base, scripts, pending, faults, priority) in cases {
            let trackers: Vec<_> =
                scripts.iter().map(|(level, weight)| (*weight, Value::Level(*level))).collect();
            let faults = faults.iter().map(ToString::to_string).collect();
            let effects = of(base, &trackers);
            let watched = effects.watched.clone();
            let expected = Effects { pending, faults, hand_over: true, priority, watched };
            assert_eq!(effects, expected, "{base} {scripts:?}");
        }
    }

    #[test]
    fn each_tracker_says_what_it_asks_for() {
        let trackers = [
            (weight(20), Value::Level(Up)),
            (weight(-20), Value::Level(Down)),
            (weight(20), Value::Level(Down)),
            (weight(0), Value::Level(Down)),
            (weight(0), Value::Level(Unknown)),
            (weight(2), Value::Number(-3)),
        ];
        let watched = of(100, &trackers).watched;
        let words: Vec<String> = watched.iter().map(|(what, effect)| format!("{what}: {effect}")).collect();
        let expected = [
            "0: priority +20",
            "1: priority -20",
            "2: no effect",
            "3: fault",
            "4: waited for",
            "5: priority -6",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn numbers_are_multiplied_and_added() {
        // (weight, number, fault, priority after 100)
        let cases = [
            (weight(1), 0, false, 100),
            (weight(1), 20, false, 120),
            (weight(1), -20, false, 80),
            (weight(-1), 20, false, 80),
            (reverse(1), 20, false, 80),
            (weight(10), 3, false, 130),
            (weight(1), 1_000, false, 254),
            (weight(1), -253, false, 1),
            (weight(1), -254, true, 100),
            (reverse(2), 127, true, 100),
            (weight(254), i64::MIN, true, 100),
            (weight(254), i64::MAX, false, 254),
            (weight(0), 0, false, 100),
            (weight(0), 1, true, 100),
            (weight(0), -1, true, 100),
            (reverse(0), 0, true, 100),
            (reverse(0), 7, false, 100),
        ];
        for (weight, number, fault, priority) in cases {
            let effects = of(100, &[(weight, Value::Number(number))]);
            assert_eq!(
                (!effects.faults.is_empty(), effects.priority),
                (fault, priority),
                "{weight:?} {number}"
            );
        }
    }

    #[test]
    fn one_that_cannot_hand_over_is_enough() {
        let down =
            |hand_over| (weight(0), Reading { value: Value::Level(Down), words: String::new(), hand_over });
        assert!(effects(100, [down(true), down(true)]).hand_over);
        assert!(!effects(100, [down(true), down(false)]).hand_over);
        // What is no fault does not count.
        let up = (weight(0), Reading { value: Value::Level(Up), words: String::new(), hand_over: false });
        assert!(effects(100, [down(true), up]).hand_over);
    }
}
