//! Tables, readable on a terminal and as Markdown.

use std::fmt::Write as _;

use xtask_report::{Bound, Goal, Group, Machine, Report, Row, Summary};

/// Everything, as text.
pub(super) fn text(report: &Report) -> String {
    let mut text = format!("{}\n{}\n", report.title, machine(&report.machine));
    // Invariant: a String takes everything.
    let _ = writeln!(text, "{} rounds; median (least–most)", report.rounds);
    for note in &report.notes {
        let _ = writeln!(text, "* {note}");
    }
    for group in &report.groups {
        let _ = write!(text, "\n{}\n\n{}", group.title, table(&lines(group)));
    }
    text
}

/// One line about the machine, one about its programs.
pub(in super::super) fn machine(machine: &Machine) -> String {
    let Machine { kernel, processor, processors, virtual_machine, load_before, load_after, versions } =
        machine;
    let kind = if *virtual_machine { "a virtual machine" } else { "hardware" };
    let mut text = format!(
        "Linux {kernel}, {processors} × {processor} ({kind}), load {load_before} before, {load_after} after"
    );
    let versions: Vec<String> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    if !versions.is_empty() {
        let _ = write!(text, "\n{}", versions.join(", "));
    }
    text
}

/// A heading and a line for each row; columns that nothing fills are left out.
pub(super) fn lines(group: &Group) -> Vec<Vec<String>> {
    let any = |has: fn(&Row) -> bool| group.rows.iter().any(has);
    let (ratios, goals, notes) = (
        any(|row| row.times_reference.is_some()),
        any(|row| row.goal.is_some()),
        any(|row| row.note.is_some()),
    );
    let mut head = vec![String::new(), group.unit.clone()];
    if ratios {
        head.push(format!("× {}", group.reference.as_deref().unwrap_or_default()));
    }
    head.extend(goals.then(|| "goal".to_owned()));
    head.extend(notes.then(|| "note".to_owned()));
    let line = |row: &Row| {
        let mut line = vec![row.name.clone(), spread(row.summary)];
        if ratios {
            line.push(spread(row.times_reference));
        }
        line.extend(goals.then(|| row.goal.as_ref().map_or_else(String::new, goal)));
        line.extend(notes.then(|| row.note.clone().unwrap_or_default()));
        line
    };
    std::iter::once(head).chain(group.rows.iter().map(line)).collect()
}

fn goal(goal: &Goal) -> String {
    let to = goal.compared_with.as_ref().map_or_else(String::new, |name| format!(" × {name}"));
    let bound = match goal.bound {
        Bound::AtMost(most) => format!("≤ {most}{to}"),
        Bound::AtLeast(least) => format!("≥ {least}{to}"),
        Bound::Cheaper(least) => {
            format!("≥ {least} × cheaper than {}", goal.compared_with.as_deref().unwrap_or_default())
        }
    };
    match (goal.is, goal.reached()) {
        (Some(is), Some(reached)) => {
            format!("{bound}: {} {}", number(is), if reached { "reached" } else { "MISSED" })
        }
        _ => format!("{bound}: not compared"),
    }
}

fn spread(summary: Option<Summary>) -> String {
    let Some(Summary { median, least, most }) = summary else { return "–".to_owned() };
    if (most - least).abs() < f64::EPSILON {
        return number(median);
    }
    format!("{} ({}–{})", number(median), number(least), number(most))
}

/// Three or more digits.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The same width for every cell of a column, so that it can be read as it is and as Markdown.
pub(in super::super) fn table(lines: &[Vec<String>]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown() {
        let lines = [vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), "d".to_owned()]];
        assert_eq!(table(&lines), "| a   | bb |\n|-----|----|\n| ccc | d  |\n");
    }

    #[test]
    fn a_row_says_its_spread_its_ratio_and_its_goal() {
        let goal = Some(Goal::new(Bound::Cheaper(5.0), Some("slow")));
        let rows = vec![
            Row { goal, ..Row::new("fast", vec![10.0, 12.0, 11.0]) },
            Row::new("slow", vec![110.0, 132.0, 121.0]),
            Row::skipped("none", "the kernel has it not"),
        ];
        let lines = lines(&Group::new("t", "ns", Some("slow"), rows));
        assert_eq!(lines[0], ["", "ns", "× slow", "goal", "note"]);
        assert_eq!(
            lines[1],
            ["fast", "11.0 (10.0–12.0)", "0.09", "≥ 5 × cheaper than slow: 11.0 reached", ""]
        );
        assert_eq!(lines[3], ["none", "–", "–", "", "the kernel has it not"]);
    }
}
