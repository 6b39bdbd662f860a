//! The cost of one packet: every row and every floor by turns, many rounds, ratios within a round.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use aya::programs::{ProgramFd, Xdp};
use aya_obj::programs::XdpAttachType;
use clap::Args;
use lb_common::Verdict;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use xtask_report::{Group, LOADED, Machine, Report, Row as Line, VERIFIED};

use super::{
    BenchError, failed,
    frames::Kind,
    program::{Floor, Programs},
    rows::{self, Row, TRANSMIT, Target},
    world::{self, Mode, Shape},
};
use crate::dataplane::{Dataplane as _, Program, ProgramSize, XdpDataplane};

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
/// The configuration that everything is measured in.
const USUAL: Shape = Shape { backends: 100, services: 100 };
/// Others of the selection.
const OTHERS: [Shape; 3] = [
    Shape { backends: 1, services: 1 },
    Shape { backends: 4_000, services: 100 },
    Shape { backends: 100, services: 10_000 },
];
/// All numbers of backends and services.
const BACKENDS: [u32; 3] = [100, 1, 4_000];
const SERVICES: [u32; 3] = [100, 1, 10_000];

/// `cargo xtask bench packet`.
#[derive(Args, Debug)]
pub struct Options {
    /// How often everything is measured
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Packets per row and round
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1..))]
    packets: u32,
    /// The processor to run on
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Every mode, family, kind of packet and number of flows with every number of backends and services: half an hour
    #[arg(long)]
    all: bool,
    /// Only rows whose name contains this, and the floors; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Only the configuration with 100 backends and 100 services
    #[arg(long)]
    usual: bool,
    /// Measure a pinned XDP program beside ours; may be repeated
    #[arg(long, value_name = "PATH")]
    pinned: Vec<PathBuf>,
    /// Where the packets for pinned programs go, at port 80
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::new(172, 20, 128, 12)))]
    pinned_to: IpAddr,
}

/// Rows that meet the same maps.
struct Section {
    title: String,
    dataplane: Option<XdpDataplane>,
    rows: Vec<Measured>,
}

impl Section {
    fn group(&self) -> Group {
        Group::new(&self.title, "ns", Some(TRANSMIT), self.rows.iter().map(Measured::line).collect())
    }
}

/// A row, what runs, and what it took in each round.
struct Measured {
    row: Row,
    target: ProgramFd,
    grown: u32,
    action: u32,
    nanoseconds: Vec<f64>,
}

/// Carries the command out.
pub fn execute(options: &Options) -> Result<Report, BenchError> {
    // A thread that is pinned sees one processor.
    let mut machine = Machine::here();
    pin(options.cpu)?;
    let mut programs = Programs::load()?;
    let mut sections = sections(options, &mut programs)?;
    // The first round warms caches and tables up, and shows that each row does what it says.
    for Section { dataplane, rows, .. } in &mut sections {
        for measured in rows {
            measured.prove(&mut programs, dataplane.as_ref(), options.packets)?;
        }
    }
    for round in 1..=options.rounds {
        eprint!("\rround {round} of {} ", options.rounds);
        for measured in sections.iter_mut().flat_map(|section| &mut section.rows) {
            let Measured { row, target, grown, nanoseconds, .. } = measured;
            let run = programs.run(target, &row.frame, row.flows, options.packets, *grown)?;
            nanoseconds.push(run.nanoseconds);
        }
    }
    eprintln!();
    machine.load_after = xtask_report::load();
    let mut groups: Vec<Group> = sections.iter().map(Section::group).collect();
    if let Some(dataplane) = sections.iter().find_map(|section| section.dataplane.as_ref()) {
        groups.extend(sizes(&dataplane.sizes()?));
    }
    Ok(Report {
        title: "What a packet costs in the XDP program".to_owned(),
        machine,
        rounds: u32::from(options.rounds),
        notes: notes(options),
        groups,
    })
}

/// How large the programs are that were measured, and those they call.
fn sizes(programs: &[ProgramSize]) -> [Group; 3] {
    let group = |title: &str, unit: &str, size: fn(&ProgramSize) -> u32| {
        let row = |program: &ProgramSize| Line::new(&program.name, vec![f64::from(size(program))]);
        Group::new(title, unit, None, programs.iter().map(row).collect())
    };
    [
        group(VERIFIED, "instructions", |program| program.verified),
        group(LOADED, "instructions", |program| program.instructions),
        group("Machine code", "bytes", |program| program.machine_code),
    ]
}

fn notes(options: &Options) -> Vec<String> {
    vec![
        format!(
            "{} packets for each row and round, on processor {}; every round measures every row once.",
            options.packets, options.cpu
        ),
        "Nanoseconds of processor time for a packet, the test run's and the wrapper's own cost included: that is what \
         the floor `return TX` shows. Ratios are of numbers of the same round."
            .to_owned(),
        "Rows of one configuration share its maps; of n services on a VIP the greatest power of two up to n get packets \
         by turns."
            .to_owned(),
        "ICMP errors and fragments are of 114 bytes, the others of 66; the wrapper of long packets has a floor of its own."
            .to_owned(),
    ]
}

/// Keeps this thread on a processor.
pub(super) fn pin(cpu: usize) -> Result<(), BenchError> {
    let error = |source| BenchError::Processor { cpu, source };
    let mut set = CpuSet::new();
    set.set(cpu).map_err(error)?;
    sched_setaffinity(Pid::from_raw(0), &set).map_err(error)
}

fn shapes(options: &Options) -> Vec<(Shape, Vec<Row>)> {
    if options.usual && options.all {
        return vec![(USUAL, rows::all(USUAL))];
    }
    if options.usual {
        return vec![(USUAL, rows::representative(USUAL))];
    }
    if options.all {
        let every =
            BACKENDS.into_iter().flat_map(|backends| SERVICES.map(|services| Shape { backends, services }));
        return every.map(|shape| (shape, rows::all(shape))).collect();
    }
    let others = OTHERS.map(|shape| (shape, rows::of_other_sizes(shape)));
    std::iter::once((USUAL, rows::representative(USUAL))).chain(others).collect()
}

/// Loads what is measured. Each section has floors of its own, so that what is compared is measured close together.
fn sections(options: &Options, programs: &mut Programs) -> Result<Vec<Section>, BenchError> {
    let wanted =
        |row: &Row| options.only.is_empty() || options.only.iter().any(|text| row.name.contains(text));
    let shapes = shapes(options);
    let named = |text: &str| shapes.iter().flat_map(|(_, rows)| rows).any(|row| row.name.contains(text));
    if let Some(text) = options.only.iter().find(|text| !named(text)) {
        let example = shapes.iter().flat_map(|(_, rows)| rows).map(|row| row.name.clone()).next();
        return Err(BenchError::NoRow { text: text.clone(), example: example.unwrap_or_default() });
    }
    let mut sections = Vec::new();
    for (number, path) in options.pinned.iter().enumerate() {
        let program =
            Xdp::from_pin(path, XdpAttachType::Interface).map_err(failed("open the pinned program"))?;
        let fd = program.fd().map_err(failed("open the pinned program"))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut measured = floors(programs)?;
        for row in rows::pinned(number, &name, options.pinned_to) {
            let target = fd.try_clone().map_err(failed("duplicate the pinned program"))?;
            measured.push(Measured::new(row, target, programs)?);
        }
        let title = format!("Pinned: {}", path.display());
        sections.push(Section { title, dataplane: None, rows: measured });
    }
    for (shape, rows) in shapes {
        let rows: Vec<Row> = rows.into_iter().filter(wanted).collect();
        if rows.is_empty() {
            continue;
        }
        let title = format!("{}, {}", counted(shape.backends, "backend"), counted(shape.services, "service"));
        eprintln!("loading: {title}");
        let mut dataplane = world::dataplane(shape)?;
        let mut measured = floors(programs)?;
        for row in rows {
            let target = dataplane.program_fd(Program::Native)?;
            measured.push(Measured::new(row, target, programs)?);
        }
        sections.push(Section { title, dataplane: Some(dataplane), rows: measured });
    }
    Ok(sections)
}

fn floors(programs: &mut Programs) -> Result<Vec<Measured>, BenchError> {
    let mut measured = Vec::new();
    for (floor, row) in rows::floors() {
        let target = programs.floor(floor)?;
        measured.push(Measured::new(row, target, programs)?);
    }
    Ok(measured)
}

fn counted(count: u32, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

impl Measured {
    fn new(row: Row, target: ProgramFd, programs: &mut Programs) -> Result<Self, BenchError> {
        let grown = programs.growth(&target, &row.frame)?;
        Ok(Self { row, target, grown, action: 0, nanoseconds: Vec::new() })
    }

    /// Runs it once and compares the action of its last packet and the verdict of all with what it is there for.
    fn prove(
        &mut self,
        programs: &mut Programs,
        dataplane: Option<&XdpDataplane>,
        packets: u32,
    ) -> Result<(), BenchError> {
        let verdicts = || dataplane.map_or_else(|| Ok(Vec::new()), XdpDataplane::verdicts);
        let before = verdicts()?;
        let run = programs.run(&self.target, &self.row.frame, self.row.flows, packets, self.grown)?;
        self.action = run.action;
        let (verdict, action) = match self.row.target {
            Target::Floor(Floor::Pass) => return self.proved(&(run.action, vec![]), &(XDP_PASS, vec![])),
            Target::Floor(_) => return self.proved(&(run.action, vec![]), &(XDP_TX, vec![])),
            Target::Pinned(_) => return Ok(()),
            Target::Lb(None, _) => (Verdict::NotOurs, XDP_PASS),
            Target::Lb(Some(Mode::Local), Kind::IcmpError) => (Verdict::IcmpErrorLocal, XDP_PASS),
            Target::Lb(Some(_), Kind::IcmpError) => (Verdict::IcmpError, XDP_TX),
            Target::Lb(Some(Mode::Local), _) => (Verdict::Local, XDP_PASS),
            Target::Lb(Some(mode), _) => (mode.verdict(), XDP_TX),
        };
        let seen: Vec<(Verdict, u64)> = Verdict::ALL
            .iter()
            .copied()
            .zip(verdicts()?.iter().zip(before).map(|(after, before)| after - before))
            .filter(|&(_, times)| times > 0)
            .collect();
        self.proved(&(run.action, seen), &(action, vec![(verdict, u64::from(packets))]))
    }

    fn proved(&self, found: &Seen, expected: &Seen) -> Result<(), BenchError> {
        if found == expected {
            return Ok(());
        }
        let row = self.row.name.clone();
        Err(BenchError::Wrong { row, found: format!("{found:?}"), expected: format!("{expected:?}") })
    }

    fn line(&self) -> Line {
        let note = matches!(self.row.target, Target::Pinned(_)).then(|| {
            const ACTIONS: [&str; 5] = ["ABORTED", "DROP", "PASS", "TX", "REDIRECT"];
            format!("last action: {}", ACTIONS.get(self.action as usize).unwrap_or(&"unknown"))
        });
        Line { goal: self.row.goal.clone(), note, ..Line::new(&self.row.name, self.nanoseconds.clone()) }
    }
}

/// An XDP action, and how often there was which verdict.
type Seen = (u32, Vec<(Verdict, u64)>);
