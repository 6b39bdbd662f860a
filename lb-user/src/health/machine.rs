//! The health of one backend. Sans-IO: results and *now* go in, transitions come out.

use super::{Level, ProbeError, RiseFall};
use crate::{config::Check, time::Timestamp};

/// What is known about a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No result yet; the first one decides at once.
    Checking,
    /// Fit for traffic.
    Up,
    /// Not fit.
    Down {
        /// Why, for instance `connection refused`. The reason of the result that brought it down; a later
        /// failure with another reason replaces it.
        reason: String,
    },
}

/// A change between [`State`]s; a new reason for being down is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
}

/// What happened since the machine was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Probes that succeeded.
    pub successes: u64,
    /// Probes that failed.
    pub failures: u64,
    /// Probes that told nothing about the backend because this node was at fault.
    pub inconclusive: u64,
    /// Changes of state.
    pub transitions: u64,
}

/// The health of one backend.
#[derive(Clone, Debug)]
pub struct Machine {
    rise_fall: RiseFall,
    state: State,
    since: Timestamp,
    last_error: Option<String>,
    counts: Counts,
    /// How many more times a MAC that is not known is no failure.
    patience: u32,
}

impl Machine {
    /// Starts in [`State::Checking`].
    pub fn new(check: &Check, now: Timestamp) -> Self {
        Self {
            rise_fall: RiseFall::new(check.rise, check.fall),
            state: State::Checking,
            since: now,
            last_error: None,
            counts: Counts::default(),
            patience: check.fall.max(1),
        }
    }

    /// What is known.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Since when.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Why the last probe failed, inconclusive ones included; `None` if it succeeded.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes new thresholds and keeps the state. For another kind of check or another address make a new
    /// machine.
    pub fn reconfigure(&mut self, check: &Check) {
        self.rise_fall.set_thresholds(check.rise, check.fall);
    }

    /// Takes the result of a probe.
    ///
    /// The first result decides at once, and a backend's MAC may become known a moment after that. So as long
    /// as no result has decided, the first `fall` results that only miss the MAC are inconclusive.
    pub fn probe_result(&mut self, now: Timestamp, result: Result<(), &ProbeError>) -> Option<Transition> {
        self.last_error = result.err().map(ToString::to_string);
        match result {
            Ok(()) => {
                self.counts.successes += 1;
                self.rise_fall.record(true)?;
                Some(self.enter(now, State::Up))
            }
            Err(error) if error.is_inconclusive() || self.is_excused(error) => {
                self.counts.inconclusive += 1;
                None
            }
            Err(error) => {
                self.counts.failures += 1;
                let down = State::Down { reason: error.to_string() };
                match self.rise_fall.record(false) {
                    Some(_) => Some(self.enter(now, down)),
                    None if self.rise_fall.level() == Level::Down => {
                        self.state = down;
                        None
                    }
                    None => None,
                }
            }
        }
    }

    /// Something better informed than a probe says that the backend is gone: the VRRP peer with its address
    /// fell silent. It is down at once, until `rise` successes follow.
    pub fn peer_lost(&mut self, now: Timestamp, reason: &str) -> Option<Transition> {
        let down = State::Down { reason: reason.to_owned() };
        if self.rise_fall.force_down() {
            return Some(self.enter(now, down));
        }
        self.state = down;
        None
    }

    fn is_excused(&mut self, error: &ProbeError) -> bool {
        let excused = *error == ProbeError::Unresolved && self.state == State::Checking && self.patience > 0;
        self.patience -= u32::from(excused);
        excused
    }

    fn enter(&mut self, now: Timestamp, to: State) -> Transition {
        self.since = now;
        self.counts.transitions += 1;
        Transition { from: std::mem::replace(&mut self.state, to.clone()), to }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::CheckKind;

    const REFUSED: ProbeError = ProbeError::Refused;

    fn machine(rise: u32, fall: u32) -> Machine {
        let check = Check {
            kind: CheckKind::Tcp,
            interval: Duration::from_secs(2),
            fast_interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise,
            fall,
            port: None,
        };
        Machine::new(&check, Timestamp(0))
    }

    fn down(reason: &str) -> State {
        State::Down { reason: reason.to_owned() }
    }

    #[test]
    fn the_first_result_decides() {
        let mut up = machine(5, 5);
        assert_eq!(*up.state(), State::Checking);
        assert_eq!(
            up.probe_result(Timestamp(1), Ok(())),
            Some(Transition { from: State::Checking, to: State::Up })
        );
        assert_eq!(up.since(), Timestamp(1));

        let mut refused = machine(5, 5);
        refused.probe_result(Timestamp(1), Err(&REFUSED));
        assert_eq!(*refused.state(), down("connection refused"));
    }

    #[test]
    fn falls_after_fall_failures_and_rises_after_rise_successes() {
        let mut machine = machine(2, 3);
        machine.probe_result(Timestamp(1), Ok(()));
        assert_eq!(machine.probe_result(Timestamp(2), Err(&REFUSED)), None);
        assert_eq!(machine.last_error(), Some("connection refused"));
        assert_eq!(machine.probe_result(Timestamp(3), Err(&REFUSED)), None);
        assert_eq!(
            machine.probe_result(Timestamp(4), Err(&REFUSED)),
            Some(Transition { from: State::Up, to: down("connection refused") })
        );
        assert_eq!(machine.since(), Timestamp(4));
        assert_eq!(machine.probe_result(Timestamp(5), Ok(())), None);
        assert!(machine.probe_result(Timestamp(6), Ok(())).is_some());
        assert_eq!(machine.last_error(), None);
        assert_eq!(machine.counts(), Counts { successes: 3, failures: 3, inconclusive: 0, transitions: 3 });
    }

    #[test]
    fn while_down_the_newest_reason_is_told_without_a_transition() {
        let mut machine = machine(2, 1);
        machine.probe_result(Timestamp(1), Err(&REFUSED));
        let status = ProbeError::Status { status: 503, expected: "200–399".into() };
        assert_eq!(machine.probe_result(Timestamp(2), Err(&status)), None);
        assert_eq!(*machine.state(), down("HTTP 503, expected 200–399"));
        assert_eq!(machine.since(), Timestamp(1));
    }

    #[test]
    fn a_lost_peer_is_down_at_once_until_rise_successes() {
        let mut machine = machine(2, 3);
        machine.probe_result(Timestamp(1), Ok(()));
        assert_eq!(
            machine.peer_lost(Timestamp(2), "peer silent"),
            Some(Transition { from: State::Up, to: down("peer silent") })
        );
        assert_eq!(machine.peer_lost(Timestamp(3), "peer silent"), None);
        assert_eq!(machine.probe_result(Timestamp(4), Ok(())), None);
        assert!(machine.probe_result(Timestamp(5), Ok(())).is_some());
    }

    #[test]
    fn a_mac_not_known_yet_decides_nothing_at_first() {
        let mut machine = machine(2, 2);
        for at in 1..=2 {
            assert_eq!(machine.probe_result(Timestamp(at), Err(&ProbeError::Unresolved)), None);
            assert_eq!(*machine.state(), State::Checking, "after {at}");
        }
        machine.probe_result(Timestamp(3), Err(&ProbeError::Unresolved));
        assert_eq!(*machine.state(), down(&ProbeError::Unresolved.to_string()));

        let mut resolved = self::machine(2, 2);
        resolved.probe_result(Timestamp(1), Err(&ProbeError::Unresolved));
        assert!(resolved.probe_result(Timestamp(2), Ok(())).is_some(), "the first that decides is enough");
        assert_eq!(resolved.probe_result(Timestamp(3), Err(&ProbeError::Unresolved)), None);
        assert!(resolved.probe_result(Timestamp(4), Err(&ProbeError::Unresolved)).is_some());
    }

    #[test]
    fn this_nodes_own_faults_change_nothing() {
        let mut machine = machine(1, 1);
        let full = ProbeError::Socket("too many open files".into());
        assert_eq!(machine.probe_result(Timestamp(1), Err(&full)), None);
        assert_eq!(*machine.state(), State::Checking);
        assert_eq!(machine.last_error(), Some("this node cannot open a socket: too many open files"));
        machine.probe_result(Timestamp(2), Ok(()));
        assert_eq!(machine.probe_result(Timestamp(3), Err(&full)), None);
        assert_eq!(*machine.state(), State::Up);
        assert_eq!(machine.counts().inconclusive, 2);
    }
}
