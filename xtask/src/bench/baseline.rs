//! `cargo xtask bench baseline`: how large the XDP programs are and what packets cost in them, counted in instructions, beside
//! what was committed. On a kernel of Debian's in a virtual machine whose clock counts instructions, so the numbers are the
//! same on every host, and a program that got dearer shows.

use std::{collections::BTreeMap, fs, path::Path, process::ExitCode, time::Duration};

use clap::Args;
use serde::{Deserialize, Serialize};
use xtask_report::{LOADED, Report, VERIFIED};
use xtask_toolchain::Toolchain;

use super::{machine, report};
use crate::{
    Error,
    setup::{self, Level},
    vm::{Errand, Series},
    workspace::{self, Profile},
};

/// Whose kernel: the oldest, whose verifier follows the most ways.
const SERIES: Series = Series::V6_1;
/// What the machine may take: emulated, the verifier alone takes a minute.
const TIMEOUT: Duration = Duration::from_mins(20);
/// Packets of each row and round: the timer's interrupts are among the instructions, a few for each millisecond of them.
const PACKETS: &str = "16384";
/// Of these the least counts.
const ROUNDS: &str = "3";
/// One row of each way through the program.
const ROWS: [&str; 6] = [
    "established, 1 flow",
    "IPv4, SYN",
    "IPv4, UDP, 1 flow",
    "dr, IPv4, unsettled slot, 1 flow",
    "IPv4, ICMP error",
    "not for us, 1 flow",
];
/// How much a number may grow, in percent: packets by what interrupts add, sizes by nothing.
const NOISE: u64 = 1;
/// The same where another compiler, linker or kernel has a part in the difference.
const NOISE_OF_OTHERS: u64 = 5;

/// `cargo xtask bench baseline`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask bench baseline            fails if a program grew or a packet got dearer, as in CI
  cargo xtask bench baseline --write    what is there now is the baseline from now on; commit xtask/baseline.json")]
pub(super) struct Options {
    /// Write what was measured into xtask/baseline.json
    #[arg(long)]
    write: bool,
}

/// What is committed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    /// What compiled and linked the programs.
    built_by: String,
    /// The kernel it was measured on.
    kernel: String,
    /// Program → instructions that the verifier followed.
    verified: BTreeMap<String, u32>,
    /// Program → its instructions.
    loaded: BTreeMap<String, u32>,
    /// Row of `bench packet` → the guest's instructions for a packet, the wrapper's and the test run's included.
    packet: BTreeMap<String, u32>,
    /// The same rows as multiples of the floor `return TX`.
    floors: BTreeMap<String, f64>,
}

/// Carries the command out.
pub(super) fn execute(options: &Options) -> Result<ExitCode, Error> {
    setup::ensure(Level::Build)?;
    // What is measured runs in the kernel.
    let bench = workspace::build_bench(Profile::Debug)?;
    let Toolchain { compiler, linker, .. } = Toolchain::find()?;
    let built_by = format!("rustc {}, bpf-linker {}", compiler.version, linker.version);
    let now = Baseline::of(built_by, &measure(&bench)?);
    let path = workspace::root().join("xtask/baseline.json");
    if options.write {
        let text = serde_json::to_string_pretty(&now).map_err(at(&path))?;
        fs::write(&path, text + "\n").map_err(|source| Error::File { path: path.clone(), source })?;
        eprintln!("written to {}", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    let text = fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    let before: Baseline = serde_json::from_str(&text).map_err(at(&path))?;
    let compared = before.compare(&now);
    print!("{}", report::table(&lines(&compared)));
    println!(
        "baseline: {}, Linux {}; now: {}, Linux {}",
        before.built_by, before.kernel, now.built_by, now.kernel
    );
    let worse = compared.iter().filter(|line| line.change.is_worse()).count();
    if worse == 0 {
        println!("nothing grew by more than {} %", before.noise(&now));
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{worse} of {} grew, or have no baseline: make it cheaper, or, if it is worth that, \
         `cargo xtask bench baseline --write` and say in the commit why",
        compared.len()
    );
    Ok(ExitCode::FAILURE)
}

fn at(path: &Path) -> impl Fn(serde_json::Error) -> Error {
    move |source| Error::File { path: path.to_owned(), source: source.into() }
}

/// `lb-bench packet` in a virtual machine.
fn measure(bench: &Path) -> Result<Report, Error> {
    let mut words = vec![bench.to_string_lossy().into_owned()];
    words.extend(["packet", "--usual", "--rounds", ROUNDS, "--packets", PACKETS].map(str::to_owned));
    words.extend(ROWS.into_iter().flat_map(|row| ["--only".to_owned(), row.to_owned()]));
    machine::measure(SERIES, Errand { command: &words, timeout: TIMEOUT, instruction_counting: true })
}

impl Baseline {
    /// What a report of `bench packet` has, each row's least.
    fn of(built_by: String, report: &Report) -> Self {
        let mut baseline = Self { built_by, kernel: report.machine.kernel.clone(), ..Self::default() };
        for group in &report.groups {
            let into = match group.title.as_str() {
                VERIFIED => &mut baseline.verified,
                LOADED => &mut baseline.loaded,
                _ if group.reference.is_some() => &mut baseline.packet,
                _ => continue,
            };
            for row in &group.rows {
                if let Some(summary) = row.summary {
                    into.insert(row.name.clone(), whole(summary.least));
                }
            }
            let floor = group.reference.as_ref().and_then(|name| baseline.packet.get(name)).copied();
            if let Some(floor) = floor {
                let hundredths = |cost: f64| (cost / f64::from(floor) * 100.0).round() / 100.0;
                let rows = group.rows.iter().filter_map(|row| Some((row.name.clone(), row.summary?.least)));
                baseline.floors.extend(rows.map(|(name, cost)| (name, hundredths(cost))));
            }
        }
        baseline
    }

    /// By how many percent a number may grow.
    fn noise(&self, now: &Self) -> u64 {
        if (&self.built_by, &self.kernel) == (&now.built_by, &now.kernel) { NOISE } else { NOISE_OF_OTHERS }
    }

    /// Line by line. Ratios to the floor follow from the rest.
    fn compare(&self, now: &Self) -> Vec<Line> {
        let noise = self.noise(now);
        let parts = [
            ("verified", &self.verified, &now.verified),
            ("instructions", &self.loaded, &now.loaded),
            ("packet", &self.packet, &now.packet),
        ];
        let mut lines = Vec::new();
        for (part, before, now) in parts {
            let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
            names.sort_unstable();
            names.dedup();
            lines.extend(names.into_iter().map(|name| {
                let (before, now) = (before.get(name).copied(), now.get(name).copied());
                Line { what: format!("{part}: {name}"), before, now, change: Change::of(before, now, noise) }
            }));
        }
        lines
    }
}

/// A number and what it was.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    what: String,
    before: Option<u32>,
    now: Option<u32>,
    change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Same,
    Less,
    More,
    /// There is no baseline.
    New,
    /// It is not measured any more.
    Gone,
}

impl Change {
    fn of(before: Option<u32>, now: Option<u32>, noise: u64) -> Self {
        match (before, now) {
            (Some(before), Some(now)) if u64::from(now) * 100 > u64::from(before) * (100 + noise) => {
                Self::More
            }
            (Some(before), Some(now)) if u64::from(now) * 100 < u64::from(before) * (100 - noise) => {
                Self::Less
            }
            (Some(_), Some(_)) => Self::Same,
            (None, _) => Self::New,
            (_, None) => Self::Gone,
        }
    }

    const fn is_worse(self) -> bool {
        matches!(self, Self::More | Self::New | Self::Gone)
    }
}

/// A number of instructions.
#[expect(clippy::cast_sign_loss, reason = "there are none below 0")]
fn whole(instructions: f64) -> u32 {
    instructions.round() as u32
}

/// A heading and a line for each number.
fn lines(compared: &[Line]) -> Vec<Vec<String>> {
    let number = |value: Option<u32>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
    let line = |line: &Line| {
        let percent = match (line.before, line.now) {
            (Some(before), Some(now)) if before > 0 => {
                format!("{:+.1} %", (f64::from(now) / f64::from(before) - 1.0) * 100.0)
            }
            _ => String::new(),
        };
        let verdict = match line.change {
            Change::Same => "",
            Change::Less => "less",
            Change::More => "MORE",
            Change::New => "NO BASELINE",
            Change::Gone => "NOT MEASURED",
        };
        vec![line.what.clone(), number(line.before), number(line.now), percent, verdict.to_owned()]
    };
    let head = ["", "baseline", "now", "change", ""].map(str::to_owned).to_vec();
    std::iter::once(head).chain(compared.iter().map(line)).collect()
}

#[cfg(test)]
mod tests {
    use xtask_report::{Group, Machine, Row};

    use super::*;

    fn report(verified: f64, dr: [f64; 2]) -> Report {
        let packet = vec![Row::new("floor", vec![100.0, 101.0]), Row::new("dr", dr.to_vec())];
        Report {
            title: String::new(),
            machine: Machine { kernel: "6.1.0".to_owned(), ..Machine::here() },
            rounds: 2,
            notes: Vec::new(),
            groups: vec![
                Group::new("100 backends", "ns", Some("floor"), packet),
                Group::new(VERIFIED, "instructions", None, vec![Row::new("lb_xdp", vec![verified])]),
                Group::new(LOADED, "instructions", None, vec![Row::new("lb_xdp", vec![500.0])]),
                Group::new("Machine code", "bytes", None, vec![Row::new("lb_xdp", vec![3_000.0])]),
            ],
        }
    }

    fn changes(before: &Baseline, now: &Baseline) -> Vec<(String, Change)> {
        before.compare(now).into_iter().map(|line| (line.what, line.change)).collect()
    }

    #[test]
    fn the_least_of_all_rounds_is_what_a_packet_costs() {
        let baseline = Baseline::of(String::new(), &report(1_000.0, [260.0, 250.0]));
        assert_eq!(baseline.kernel, "6.1.0");
        assert_eq!(baseline.packet, BTreeMap::from([("floor".into(), 100), ("dr".into(), 250)]));
        assert!((baseline.floors["dr"] - 2.5).abs() < f64::EPSILON);
        assert_eq!((baseline.verified["lb_xdp"], baseline.loaded["lb_xdp"]), (1_000, 500));
    }

    #[test]
    fn what_grows_beyond_the_noise_is_worse_and_what_shrinks_is_not() {
        let before = Baseline::of(String::new(), &report(1_000.0, [250.0; 2]));
        let same = Baseline::of(String::new(), &report(1_009.0, [252.0; 2]));
        assert!(before.compare(&same).iter().all(|line| line.change == Change::Same));

        let dearer = Baseline::of(String::new(), &report(1_000.0, [253.0; 2]));
        let more = before.compare(&dearer);
        let worse: Vec<&str> =
            more.iter().filter(|line| line.change.is_worse()).map(|line| line.what.as_str()).collect();
        assert_eq!(worse, ["packet: dr"]);

        let larger = Baseline::of(String::new(), &report(1_011.0, [200.0; 2]));
        let all = changes(&before, &larger);
        assert!(all.contains(&("verified: lb_xdp".into(), Change::More)), "{all:?}");
        assert!(all.contains(&("packet: dr".into(), Change::Less)), "{all:?}");
    }

    #[test]
    fn another_compiler_may_have_made_some_of_the_difference() {
        let before = Baseline::of("rustc 1".to_owned(), &report(1_000.0, [250.0; 2]));
        let grown = |verified| Baseline::of("rustc 2".to_owned(), &report(verified, [250.0; 2]));
        assert!(before.compare(&grown(1_050.0)).iter().all(|line| line.change == Change::Same));
        assert!(before.compare(&grown(1_051.0)).iter().any(|line| line.change == Change::More));
    }

    #[test]
    fn what_is_on_one_side_only_is_worse() {
        let full = Baseline::of(String::new(), &report(1_000.0, [250.0; 2]));
        let mut less = full.clone();
        less.packet.remove("dr");
        assert!(changes(&less, &full).contains(&("packet: dr".into(), Change::New)));
        assert!(changes(&full, &less).contains(&("packet: dr".into(), Change::Gone)));
        assert!(Change::New.is_worse() && Change::Gone.is_worse() && !Change::Less.is_worse());
    }

    #[test]
    fn the_committed_baseline_can_be_read_and_has_every_kind() {
        let text = include_str!("../../baseline.json");
        let baseline: Baseline = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}"));
        assert!(baseline.verified.len() > 3 && baseline.loaded.len() == baseline.verified.len());
        for row in ["floor: return TX", "dr, IPv4, established, 1 flow", "IPv4, not for us, 1 flow"] {
            assert!(baseline.packet.contains_key(row) && baseline.floors.contains_key(row), "{row}");
        }
    }
}
