//! How many results in a row it takes to change one's mind; shared by health checks and track scripts.

/// What a sequence of results amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Level {
    /// No result yet.
    #[default]
    Unknown,
    /// The last change was upwards.
    Up,
    /// The last change was downwards.
    Down,
}

/// The rise/fall rule: the first result decides at once; after that `rise` successes in a row lead up and
/// `fall` failures in a row lead down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RiseFall {
    rise: u32,
    fall: u32,
    level: Level,
    /// Results in a row that speak against `level`.
    contrary: u32,
}

impl RiseFall {
    /// Thresholds of 0 mean 1: a change needs a result.
    pub fn new(rise: u32, fall: u32) -> Self {
        Self { rise: rise.max(1), fall: fall.max(1), level: Level::Unknown, contrary: 0 }
    }

    /// As [`new`](Self::new), but with a level before the first result: that one does not decide at once then.
    pub fn starting(rise: u32, fall: u32, level: Level) -> Self {
        Self { level, ..Self::new(rise, fall) }
    }

    /// Where it stands.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Results in a row that speak against [`level`](Self::level), always fewer than it takes to change it.
    pub fn contrary(&self) -> u32 {
        self.contrary
    }

    /// Takes one result and returns the new level if it changed.
    pub fn record(&mut self, success: bool) -> Option<Level> {
        let (verdict, threshold) = if success { (Level::Up, self.rise) } else { (Level::Down, self.fall) };
        if self.level == verdict {
            self.contrary = 0;
            return None;
        }
        self.contrary += 1;
        (self.level == Level::Unknown || self.contrary >= threshold).then(|| self.settle(verdict))
    }

    /// Goes down at once, whatever the thresholds, and forgets successes counted so far. Returns whether the
    /// level changed.
    pub fn force_down(&mut self) -> bool {
        let changed = self.level != Level::Down;
        self.settle(Level::Down);
        changed
    }

    /// Changes the thresholds and keeps the level. The results in a row that were counted against the old
    /// thresholds are forgotten.
    pub fn set_thresholds(&mut self, rise: u32, fall: u32) {
        *self = Self::starting(rise, fall, self.level);
    }

    fn settle(&mut self, level: Level) -> Level {
        self.level = level;
        self.contrary = 0;
        level
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(rise_fall: &mut RiseFall, results: &str) -> String {
        results
            .chars()
            .map(|c| match rise_fall.record(c == '+') {
                None => '.',
                Some(Level::Up) => 'U',
                Some(Level::Down) => 'D',
                Some(Level::Unknown) => '?',
            })
            .collect()
    }

    #[test]
    fn results_in_a_row_change_the_level() {
        // (rise, fall, results, what each returned)
        let cases = [
            (2, 3, "+", "U"),
            (2, 3, "-", "D"),
            (2, 3, "+--+---", "U.....D"),
            (2, 3, "-+-++", "D...U"),
            (1, 1, "+-+-", "UDUD"),
            (0, 0, "+-+-", "UDUD"),
            (3, 1, "+-++-+++", "UD.....U"),
        ];
        for (rise, fall, results, expected) in cases {
            assert_eq!(run(&mut RiseFall::new(rise, fall), results), expected, "{rise}/{fall} {results}");
        }
    }

    #[test]
    fn forced_down_needs_the_full_rise() {
        let mut rise_fall = RiseFall::new(2, 3);
        run(&mut rise_fall, "+");
        assert!(rise_fall.force_down());
        assert_eq!(run(&mut rise_fall, "+"), ".");
        assert!(!rise_fall.force_down(), "it is down already");
        assert_eq!(run(&mut rise_fall, "++"), ".U", "the success before the second force does not count");
    }

    #[test]
    fn new_thresholds_keep_the_level() {
        let mut rise_fall = RiseFall::new(2, 3);
        run(&mut rise_fall, "+--");
        rise_fall.set_thresholds(2, 2);
        assert_eq!(rise_fall.level(), Level::Up);
        assert_eq!(run(&mut rise_fall, "--"), ".D");
    }

    proptest! {
        #[test]
        fn never_flips_without_enough_results_in_a_row(
            rise in 1u32..6, fall in 1u32..6, results in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let mut rise_fall = RiseFall::new(rise, fall);
            for (index, &success) in results.iter().enumerate() {
                let before = rise_fall.level();
                let changed = rise_fall.record(success);
                prop_assert_eq!(changed.is_some(), rise_fall.level() != before);
                let in_a_row = results[..=index].iter().rev().take_while(|&&r| r == success).count();
                let (target, threshold) = if success { (Level::Up, rise) } else { (Level::Down, fall) };
                let expected = match before {
                    Level::Unknown => target,
                    level if level != target && in_a_row >= threshold as usize => target,
                    level => level,
                };
                prop_assert_eq!(rise_fall.level(), expected, "after result {}", index);
            }
        }
    }
}
