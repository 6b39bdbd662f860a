//! Whether enough processes run, and for long enough. Sans-IO: a number and *now* go in, the level comes out.

use crate::{config::TrackProcess, health::Level, time::Timestamp};

/// What the number of processes amounts to: unknown until the first, which decides at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Presence {
    level: Level,
    /// What it will be, and when, unless the number changes before.
    coming: Option<(Level, Timestamp)>,
}

impl Presence {
    /// Where it stands.
    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// When the number must be looked at again, though nothing changed.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.coming.map(|(_, at)| at)
    }

    /// Takes the number of processes that run; says whether the level changed.
    pub(super) fn count(&mut self, now: Timestamp, count: usize, wanted: &TrackProcess) -> bool {
        let enough = (wanted.quorum as usize..=wanted.quorum_max as usize).contains(&count);
        let (level, delay) =
            if enough { (Level::Up, wanted.fork_delay) } else { (Level::Down, wanted.terminate_delay) };
        if level == self.level {
            self.coming = None;
            return false;
        }
        let at = match self.coming {
            Some((coming, at)) if coming == level => at,
            _ => now + delay,
        };
        if self.level != Level::Unknown && now < at {
            self.coming = Some((level, at));
            return false;
        }
        *self = Self { level, coming: None };
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Level::*, *};
    use crate::config::ProcessMatch;

    fn wanted(quorum: u32, quorum_max: u32, fork: u64, terminate: u64) -> TrackProcess {
        TrackProcess {
            name: "nginx".to_owned(),
            command: ProcessMatch::Name("nginx".to_owned()),
            quorum,
            quorum_max,
            fork_delay: Duration::from_nanos(fork),
            terminate_delay: Duration::from_nanos(terminate),
        }
    }

    #[test]
    fn levels_follow_the_number() {
        // (wanted, (now, number, level after, due)…)
        type Step = (u64, usize, Level, Option<u64>);
        let cases: &[(TrackProcess, &[Step])] = &[
            (
                wanted(1, u32::MAX, 0, 0),
                &[(1, 0, Down, None), (2, 1, Up, None), (3, 9, Up, None), (4, 0, Down, None)],
            ),
            (
                wanted(2, 3, 0, 0),
                &[(1, 1, Down, None), (2, 2, Up, None), (3, 3, Up, None), (4, 4, Down, None)],
            ),
            (wanted(0, 0, 0, 0), &[(1, 0, Up, None), (2, 1, Down, None)]),
            // The first number decides at once.
            (wanted(1, 1, 10, 10), &[(1, 1, Up, None)]),
            // A short absence is none, and each begins anew.
            (
                wanted(1, 1, 0, 10),
                &[
                    (1, 1, Up, None),
                    (2, 0, Up, Some(12)),
                    (5, 1, Up, None),
                    (6, 0, Up, Some(16)),
                    (16, 0, Down, None),
                ],
            ),
            // More of the same does not begin anew.
            (
                wanted(1, 2, 10, 0),
                &[(1, 0, Down, None), (2, 1, Down, Some(12)), (7, 2, Down, Some(12)), (13, 1, Up, None)],
            ),
        ];
        for (wanted, steps) in cases {
            let mut presence = Presence::default();
            for &(now, count, level, due) in *steps {
                let before = presence.level();
                let changed = presence.count(Timestamp(now), count, wanted);
                assert_eq!(changed, before != level, "{wanted:?} at {now}");
                assert_eq!(
                    (presence.level(), presence.due()),
                    (level, due.map(Timestamp)),
                    "{wanted:?} at {now}"
                );
            }
        }
    }
}
