//! The state of one track script. Sans-IO: results and *now* go in, transitions come out.

use crate::{
    config::TrackScript,
    health::{Level, RiseFall},
    time::Timestamp,
};

/// A change of level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The level before.
    pub from: Level,
    /// The level now.
    pub to: Level,
}

/// The state of one track script: unknown until the first result, which decides at once, unless it is to count as up or
/// down before.
#[derive(Clone, Debug)]
pub struct Machine {
    rise_fall: RiseFall,
    since: Timestamp,
    detail: String,
}

impl Machine {
    /// Starts at [`Level::Unknown`], or as the script is to count before its first result.
    pub fn new(script: &TrackScript, now: Timestamp) -> Self {
        let level = match script.initially_up {
            None => Level::Unknown,
            Some(true) => Level::Up,
            Some(false) => Level::Down,
        };
        Self {
            rise_fall: RiseFall::starting(script.rise, script.fall, level),
            since: now,
            detail: "not run yet".to_owned(),
        }
    }

    /// What the results so far amount to.
    pub fn level(&self) -> Level {
        self.rise_fall.level()
    }

    /// Since when.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// What the last run said, for instance `exit status 1`.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Takes new thresholds and keeps the level. For another command make a new machine.
    pub fn reconfigure(&mut self, script: &TrackScript) {
        self.rise_fall.set_thresholds(script.rise, script.fall);
    }

    /// Takes the result of a run.
    pub fn result(&mut self, now: Timestamp, ok: bool, detail: &str) -> Option<Transition> {
        detail.clone_into(&mut self.detail);
        let from = self.rise_fall.level();
        let to = self.rise_fall.record(ok)?;
        self.since = now;
        Some(Transition { from, to })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn script(initially_up: Option<bool>) -> TrackScript {
        TrackScript {
            name: "chk".into(),
            command: vec!["true".into()],
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 2,
            initially_up,
            user: None,
        }
    }

    #[test]
    fn one_that_has_an_initial_level_needs_as_many_results_as_later() {
        let mut machine = Machine::new(&script(Some(false)), Timestamp(0));
        assert_eq!(machine.level(), Level::Down);
        assert_eq!(machine.result(Timestamp(1), true, "exit status 0"), None);
        assert_eq!(
            machine.result(Timestamp(2), true, "exit status 0"),
            Some(Transition { from: Level::Down, to: Level::Up })
        );
        let mut machine = Machine::new(&script(Some(true)), Timestamp(0));
        assert_eq!(machine.level(), Level::Up);
        assert_eq!(machine.result(Timestamp(1), false, "exit status 1"), None);
    }

    #[test]
    fn unknown_until_the_first_result_then_rise_and_fall() {
        let script = script(None);
        let mut machine = Machine::new(&script, Timestamp(0));
        assert_eq!((machine.level(), machine.detail()), (Level::Unknown, "not run yet"));
        let up = Transition { from: Level::Unknown, to: Level::Up };
        assert_eq!(machine.result(Timestamp(1), true, "exit status 0"), Some(up));
        assert_eq!(machine.result(Timestamp(2), false, "exit status 1"), None);
        assert_eq!((machine.level(), machine.detail()), (Level::Up, "exit status 1"));
        let down = Transition { from: Level::Up, to: Level::Down };
        assert_eq!(machine.result(Timestamp(3), false, "exit status 1"), Some(down));
        assert_eq!(machine.since(), Timestamp(3));
    }
}
