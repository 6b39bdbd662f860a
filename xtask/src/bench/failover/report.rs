//! From rounds to tables.

use serde::Serialize;
use xtask_report::{Bound, Goal, Group, Row as Line};

use super::{
    fault::{Fault, Yardstick},
    stage::{Round, Seen},
    system::System,
};
use crate::{
    bench::report::table,
    lab::probe::{download::Downloaded, standing::Tally},
};

/// All rounds of one fault with one daemon.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) system: System,
    pub(super) fault: Fault,
    pub(super) rounds: Vec<Round>,
    /// Why there are fewer rounds than asked for.
    pub(super) error: Option<String>,
}

impl Row {
    /// What goes into the table of all daemons.
    pub(super) fn cell(&self) -> String {
        times(self.seen())
    }

    /// What the row's yardstick showed in each round.
    fn seen(&self) -> impl Iterator<Item = Seen> + Clone {
        let yardstick = self.fault.yardstick();
        self.rounds.iter().map(move |round| match yardstick {
            Yardstick::Vip => round.known,
            Yardstick::Web => round.web,
            Yardstick::Download => Seen {
                milliseconds: round.downloads.longest_silence,
                to_the_end: round.downloads.going < round.downloads.begun,
                asked: round.downloads.begun,
                lost: round.downloads.begun - round.downloads.going,
            },
        })
    }

    fn details(&self) -> [String; 16] {
        let counts = |count: fn(&Round) -> usize| range(self.rounds.iter().map(count));
        [
            self.fault.title().to_owned(),
            times(self.rounds.iter().map(|round| round.known)),
            counts(|round| round.known.lost),
            times(self.rounds.iter().map(|round| round.newcomer)),
            counts(|round| round.newcomer.lost),
            counts(|round| round.most_claimants),
            counts(|round| round.claimed_twice),
            counts(|round| round.claimants_after.len()),
            counts(|round| round.moves),
            times(self.rounds.iter().map(|round| round.web)),
            counts(|round| round.web.lost),
            alive(self.rounds.iter().map(|round| &round.survivors.idle)),
            alive(self.rounds.iter().map(|round| &round.survivors.talking)),
            part(self.rounds.iter().map(|round| (round.downloads.going, round.downloads.begun))),
            times(self.rounds.iter().map(|round| pause(&round.downloads))),
            counts(|round| usize::try_from(round.refused).unwrap_or(usize::MAX)),
        ]
    }
}

/// One line a fault, one column a daemon.
pub(super) fn overview(rows: &[Row], systems: &[System], faults: &[Fault]) -> String {
    let mut lines = vec![
        std::iter::once("fault on the owner")
            .chain(systems.iter().map(|system| system.title()))
            .map(str::to_owned)
            .collect::<Vec<_>>(),
    ];
    for fault in faults {
        let cell = |system: &System| {
            let row = rows.iter().find(|row| row.fault == *fault && row.system == *system);
            row.map_or_else(String::new, Row::cell)
        };
        lines.push(std::iter::once(fault.title().to_owned()).chain(systems.iter().map(cell)).collect());
    }
    table(&lines)
}

/// Everything about one daemon.
pub(super) fn details(rows: &[Row], system: System) -> String {
    let head = [
        "fault on the owner",
        "client that knows, ms",
        "lost",
        "new client, ms",
        "lost",
        "MACs per ARP request",
        "requests with more than 1",
        "MACs at the end",
        "moves",
        "HTTP failing for, ms",
        "failed",
        "idle connections alive",
        "talking ones",
        "downloads going on",
        "their longest pause, ms",
        "adverts refused",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().filter(|row| row.system == system).map(|row| row.details().to_vec()));
    table(&lines)
}

/// The figures of the table of all daemons as groups of a report: one for each fault.
pub(super) fn groups(rows: &[Row], systems: &[System], faults: &[Fault]) -> Vec<Group> {
    let line = |row: &Row| {
        let seen: Vec<Seen> = row.seen().collect();
        let lasting = seen.iter().filter(|seen| seen.to_the_end).count();
        let lasting =
            (lasting > 0).then(|| format!("not over when the round ended: {lasting} of {}", seen.len()));
        let mut line = Line::new(row.system.title(), seen.iter().map(|seen| seen.milliseconds).collect());
        line.note = row.error.clone().or(lasting);
        line.goal = row.fault.goal(row.system).map(|most| Goal::new(Bound::AtMost(most), None));
        line
    };
    let group = |fault: &Fault| {
        let of = |system: &System| rows.iter().find(|row| row.fault == *fault && row.system == *system);
        let lines = systems.iter().filter_map(of).map(line).collect();
        Group::new(format!("{}: longest time without an answer", fault.title()), "ms", None, lines)
    };
    faults.iter().map(group).filter(|group| !group.rows.is_empty()).collect()
}

/// `616 [613–620]`; what was not over at the end has a `>`.
fn times(seen: impl Iterator<Item = Seen>) -> String {
    let mut all: Vec<Seen> = seen.collect();
    all.sort_by(|one, other| one.milliseconds.total_cmp(&other.milliseconds));
    let (Some(least), Some(most), Some(median)) = (all.first(), all.last(), all.get(all.len() / 2)) else {
        return "–".to_owned();
    };
    let text = |seen: &Seen| {
        let more = if seen.to_the_end { ">" } else { "" };
        let digits = usize::from(seen.milliseconds < 10.0);
        format!("{more}{:.digits$}", seen.milliseconds)
    };
    if all.len() == 1 { text(median) } else { format!("{} [{}–{}]", text(median), text(least), text(most)) }
}

/// `199 [198–200] of 200`.
fn alive<'a>(tallies: impl Iterator<Item = &'a Tally> + Clone) -> String {
    part(tallies.map(|tally| (tally.alive, tally.opened)))
}

fn part(counts: impl Iterator<Item = (usize, usize)> + Clone) -> String {
    format!("{} of {}", range(counts.clone().map(|(part, _)| part)), range(counts.map(|(_, whole)| whole)))
}

/// Of those that went on.
fn pause(downloads: &Downloaded) -> Seen {
    let milliseconds = downloads.longest_pause;
    Seen { milliseconds, to_the_end: false, asked: downloads.begun, lost: 0 }
}

/// `3 [0–7]`, or one number where all are the same.
fn range(counts: impl Iterator<Item = usize>) -> String {
    let mut all: Vec<usize> = counts.collect();
    all.sort_unstable();
    match all[..] {
        [] => "–".to_owned(),
        [least, .., most] if least != most => format!("{} [{least}–{most}]", all[all.len() / 2]),
        [only, ..] => only.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(milliseconds: f64, to_the_end: bool) -> Seen {
        Seen { milliseconds, to_the_end, asked: 1, lost: 0 }
    }

    #[test]
    fn times_have_a_median_and_a_range_and_say_what_was_not_over() {
        let text = |all: &[Seen]| times(all.iter().copied());
        assert_eq!(text(&[seen(613.4, false), seen(620.0, false), seen(616.2, false)]), "616 [613–620]");
        assert_eq!(
            text(&[seen(0.44, false), seen(10_000.0, true), seen(20_000.0, true)]),
            ">10000 [0.4–>20000]"
        );
        assert_eq!(text(&[seen(3.0, false)]), "3.0");
        assert_eq!(text(&[]), "–");
    }

    #[test]
    fn counts_have_a_range_only_where_they_differ() {
        assert_eq!(range([2, 2, 2].into_iter()), "2");
        assert_eq!(range([9, 1, 2].into_iter()), "2 [1–9]");
        assert_eq!(range(std::iter::empty()), "–");
    }
}
