//! From rounds to tables.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    fault::{Fault, Yardstick},
    stage::{Round, Seen},
    system::System,
};
use crate::lab::probe::standing::Tally;

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
        match self.fault.yardstick() {
            Yardstick::Vip => times(self.rounds.iter().map(|round| round.known)),
            Yardstick::Web => times(self.rounds.iter().map(|round| round.web)),
        }
    }

    fn details(&self) -> [String; 13] {
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
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().filter(|row| row.system == system).map(|row| row.details().to_vec()));
    table(&lines)
}

/// The same width for every cell of a column, so that it can be read as it is and as Markdown.
fn table(lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            let _ = write!(text, "| {cell:<width$} ", width = width(column));
        }
        text.push_str("|\n");
        if at == 0 {
            for column in 0..line.len() {
                let _ = write!(text, "|{}", "-".repeat(width(column) + 2));
            }
            text.push_str("|\n");
        }
    }
    text
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
    let opened = range(tallies.clone().map(|tally| tally.opened));
    format!("{} of {opened}", range(tallies.map(|tally| tally.alive)))
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

    #[test]
    fn a_table_is_markdown() {
        let lines = [vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), "d".to_owned()]];
        assert_eq!(table(&lines), "| a   | bb |\n|-----|----|\n| ccc | d  |\n");
    }
}
