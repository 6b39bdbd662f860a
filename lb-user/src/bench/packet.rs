//! The cost of one packet: every row and every floor by turns, many rounds, ratios within a round.

use std::io::Write;

use aya::programs::ProgramFd;
use clap::Args;
use lb_common::Verdict;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde::Serialize;

use super::{
    BenchError,
    program::Programs,
    rows::{self, Goal, ROWS, Row, TRANSMIT, Target},
    statistics::Summary,
};
use crate::dataplane::{Dataplane as _, Program, XdpDataplane};

/// `cargo xtask bench packet`.
#[derive(Args, Debug)]
pub struct Options {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// How often everything is measured
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Packets per row and round
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    packets: u32,
    /// The processor to run on
    #[arg(long, default_value_t = 0)]
    cpu: usize,
}

/// One line of the result.
#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    /// Nanoseconds of a packet, the wrapper included.
    nanoseconds: Summary,
    /// Times the floor `return TX` of the same round.
    times_floor: Summary,
    /// What the anchors ask for, and what there is, as ratios.
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<Reached>,
}

#[derive(Debug, Serialize)]
struct Reached {
    /// The row it is compared with.
    compared_with: &'static str,
    at_most: f64,
    is: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    kernel: String,
    processor: String,
    rounds: u16,
    packets: u32,
    rows: Vec<Line>,
}

/// Carries the command out.
pub fn execute(options: &Options) -> Result<(), BenchError> {
    pin(options.cpu)?;
    let mut programs = Programs::load()?;
    let mut dataplane = rows::dataplane()?;
    let lb = dataplane.program_fd(Program::Native)?;
    let targets = ROWS
        .iter()
        .map(|row| match row.target {
            Target::Floor(floor) => programs.floor(floor),
            Target::Lb { .. } => lb.try_clone().map_err(|source| BenchError::Programs {
                what: "duplicate the program",
                source: source.into(),
            }),
        })
        .collect::<Result<Vec<ProgramFd>, _>>()?;
    // The first round warms caches and tables up, and shows that each row does what it says.
    for (row, target) in ROWS.iter().zip(&targets) {
        prove(row, target, &mut programs, &dataplane, options.packets)?;
    }
    let mut rounds = Vec::with_capacity(usize::from(options.rounds));
    for round in 1..=options.rounds {
        if !options.json {
            eprint!("\rround {round} of {} ", options.rounds);
        }
        let times: Result<Vec<f64>, BenchError> = ROWS
            .iter()
            .zip(&targets)
            .map(|(row, target)| {
                let run = programs.run(target, row.packet(), row.flows, options.packets)?;
                Ok(run.nanoseconds)
            })
            .collect();
        rounds.push(times?);
    }
    if !options.json {
        eprintln!();
    }
    let report = Report {
        kernel: kernel(),
        processor: processor(),
        rounds: options.rounds,
        packets: options.packets,
        rows: lines(&rounds),
    };
    show(&report, options.json)
}

fn pin(cpu: usize) -> Result<(), BenchError> {
    let error = |source| BenchError::Processor { cpu, source };
    let mut set = CpuSet::new();
    set.set(cpu).map_err(error)?;
    sched_setaffinity(Pid::from_raw(0), &set).map_err(error)
}

/// Runs a row once and compares the action of its last packet and the verdict of all with what it is there for.
fn prove(
    row: &Row,
    target: &ProgramFd,
    programs: &mut Programs,
    dataplane: &XdpDataplane,
    packets: u32,
) -> Result<(), BenchError> {
    let before = dataplane.verdicts()?;
    let run = programs.run(target, row.packet(), row.flows, packets)?;
    let Target::Lb { verdict, action, .. } = row.target else { return Ok(()) };
    let seen: Vec<(Verdict, u64)> = Verdict::ALL
        .iter()
        .copied()
        .zip(dataplane.verdicts()?.iter().zip(before).map(|(after, before)| after - before))
        .filter(|&(_, times)| times > 0)
        .collect();
    let expected = (action, vec![(verdict, u64::from(packets))]);
    let found = (run.action, seen);
    if found == expected {
        return Ok(());
    }
    Err(BenchError::Wrong { row: row.name, found: format!("{found:?}"), expected: format!("{expected:?}") })
}

/// Summaries of each row over all rounds.
fn lines(rounds: &[Vec<f64>]) -> Vec<Line> {
    ROWS.iter()
        .enumerate()
        .map(|(index, row)| {
            let ratio = |to: &str| {
                let to = position(to);
                Summary::of(rounds.iter().map(|times| times[index] / times[to]))
            };
            let goal = row.goal.map(|goal| {
                let (compared_with, at_most) = match goal {
                    Goal::Floor(at_most) => (TRANSMIT, at_most),
                    Goal::Row(name, at_most) => (name, at_most),
                };
                Reached { compared_with, at_most, is: ratio(compared_with).median }
            });
            Line {
                name: row.name,
                nanoseconds: Summary::of(rounds.iter().map(|times| times[index])),
                times_floor: ratio(TRANSMIT),
                goal,
            }
        })
        .collect()
}

fn position(name: &str) -> usize {
    // Invariant: the names that rows are compared with are rows; a test looks them all up.
    ROWS.iter().position(|row| row.name == name).expect("a row of that name")
}

fn show(report: &Report, json: bool) -> Result<(), BenchError> {
    let mut out = std::io::stdout().lock();
    if json {
        let text = serde_json::to_string_pretty(report).map_err(std::io::Error::from)?;
        return Ok(writeln!(out, "{text}")?);
    }
    writeln!(
        out,
        "Linux {}, {}; {} rounds of {} packets; ns with the wrapper, × within a round; median (least–most)",
        report.kernel, report.processor, report.rounds, report.packets
    )?;
    writeln!(out, "{:<26} {:>22} {:>24}   goal", "packet", "ns", "× return TX")?;
    for line in &report.rows {
        let goal = line.goal.as_ref().map_or(String::new(), |goal| {
            let verdict = if goal.is <= goal.at_most { "reached" } else { "MISSED" };
            format!("{verdict}: {:.2} of {:.2} × {}", goal.is, goal.at_most, goal.compared_with)
        });
        let text = format!(
            "{:<26} {:>22} {:>24}   {goal}",
            line.name,
            spread(line.nanoseconds, 1),
            spread(line.times_floor, 2)
        );
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

fn spread(summary: Summary, digits: usize) -> String {
    format!("{:.digits$} ({:.digits$}–{:.digits$})", summary.median, summary.least, summary.most)
}

fn kernel() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| "?".to_owned(), |name| name.release().to_string_lossy().into_owned())
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_compare_with_rows_that_are_there() {
        for goal in ROWS.iter().filter_map(|row| row.goal) {
            if let Goal::Row(name, _) = goal {
                assert_eq!(ROWS[position(name)].name, name);
            }
        }
        assert_eq!(ROWS[position(TRANSMIT)].name, TRANSMIT);
    }

    #[test]
    fn ratios_are_within_a_round() {
        let mut slow = vec![10.0; ROWS.len()];
        slow[position("dr, 1 flow")] = 20.0;
        let fast: Vec<f64> = slow.iter().map(|time| time / 5.0).collect();
        let lines = lines(&[slow, fast]);
        let dr = &lines[position("dr, 1 flow")];
        assert!((dr.times_floor.least - 2.0).abs() < 1e-9 && (dr.times_floor.most - 2.0).abs() < 1e-9);
        assert!((dr.nanoseconds.most - 20.0).abs() < 1e-9);
    }
}
