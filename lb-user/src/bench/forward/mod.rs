//! The cost of whole forwarding: frames of a generator go through a node of a lab to a sink, every way by turns, many
//! rounds, ratios within a round. `cargo xtask bench forward` builds the lab and writes the plan.

mod conntrack;
mod counters;
mod live;
mod pktgen;

use std::{fs, path::PathBuf};

use clap::Args;
use xtask_report::{
    Group, Machine, Report, Row,
    plan::{Plan, Route, Sink, Way},
};

use self::live::{Live, Traffic};
use super::{BenchError, packet::pin};

/// Flows of the rows whose frames belong to few.
const FEW: u32 = 64;
/// Unmeasured frames of each of those flows before they are measured.
const WARM_UP: u32 = 4;
/// How often a round of a row is repeated because frames were lost or somebody else did part of the work.
const TRIES: u32 = 6;
/// The part of the time that the kernel's softirq daemon may have worked in addition: it is not in the kernel's duration.
const FOREIGN: f64 = 0.02;

/// `lb-bench forward`.
#[derive(Args, Debug)]
pub struct Options {
    /// What to measure, as `cargo xtask bench forward` writes it
    plan: PathBuf,
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generator {
    Live,
    Pktgen,
}

/// What is sent: by whom, and whether each packet is a new flow.
const KINDS: [(Generator, bool); 4] = [
    (Generator::Live, false),
    (Generator::Live, true),
    (Generator::Pktgen, false),
    (Generator::Pktgen, true),
];

/// A way, and what it took in each round of each kind of traffic.
struct Measured<'a> {
    way: &'a Way,
    samples: [Vec<f64>; KINDS.len()],
    failed: [Option<String>; KINDS.len()],
    /// How many frames of new flows were sent: none of them comes twice.
    used: u32,
}

/// Carries the command out.
pub fn execute(options: &Options) -> Result<Report, BenchError> {
    let plan = read(&options.plan)?;
    // A thread that is pinned sees one processor.
    let mut machine = Machine::here();
    pin(plan.cpu)?;
    let mut live = Live::load(plan.cpu)?;
    let routes = plan.ways.iter().filter_map(|way| way.route.as_ref().ok());
    for route in routes {
        live.prepare(route)?;
    }
    let mut all: Vec<Measured<'_>> = plan
        .ways
        .iter()
        .map(|way| Measured { way, samples: KINDS.map(|_| Vec::new()), failed: KINDS.map(|_| None), used: 0 })
        .collect();
    for measured in &mut all {
        if let Ok(route) = &measured.way.route {
            let failed = prove(&mut live, route)?;
            measured.failed = KINDS.map(|_| failed.clone());
        }
    }
    for round in 1..=plan.rounds {
        eprint!("\rround {round} of {} ", plan.rounds);
        for kind in kinds(&plan) {
            for measured in &mut all {
                measured.round(&mut live, &plan, kind)?;
            }
        }
    }
    eprintln!();
    machine.load_after = xtask_report::load();
    let group = |kind: usize| {
        let rows = all.iter().map(|measured| measured.row(kind)).collect();
        Group::new(title(kind), &plan.unit, Some(&plan.reference), rows)
    };
    let groups = kinds(&plan).map(group).collect();
    let Plan { title, rounds, notes, .. } = plan.clone();
    Ok(Report { title, machine, rounds, notes, groups })
}

/// The kinds that are measured, by their places in [`KINDS`].
fn kinds(plan: &Plan) -> impl Iterator<Item = usize> + use<> {
    let pktgen = plan.pktgen;
    (0..KINDS.len()).filter(move |kind| pktgen || KINDS[*kind].0 == Generator::Live)
}

fn title(kind: usize) -> String {
    match KINDS[kind] {
        (Generator::Live, false) => format!("Live frames, established: {FEW} flows"),
        (Generator::Live, true) => "Live frames, every one a new flow".to_owned(),
        (Generator::Pktgen, false) => format!("pktgen, UDP: {FEW} flows"),
        (Generator::Pktgen, true) => "pktgen, UDP, every packet a new flow".to_owned(),
    }
}

fn read(path: &PathBuf) -> Result<Plan, BenchError> {
    let error = |source| BenchError::Plan { path: path.clone(), source };
    let text = fs::read(path).map_err(error)?;
    serde_json::from_slice(&text).map_err(|source| error(source.into()))
}

/// Sends some frames and looks whether they arrive with the destination they should have; else the reason.
fn prove(live: &mut Live, route: &Route) -> Result<Option<String>, BenchError> {
    warm_up(live, route)?;
    let proof = live.prove(route, ESTABLISHED, 16 * FEW)?;
    Ok(proof.err())
}

const ESTABLISHED: Traffic = Traffic { flows: FEW, from: 0, syn: false };

/// Makes the few flows known.
fn warm_up(live: &mut Live, route: &Route) -> Result<(), BenchError> {
    if route.syn_first {
        live.send(route, Traffic { syn: true, ..ESTABLISHED }, FEW)?;
    }
    live.send(route, ESTABLISHED, WARM_UP * FEW)?;
    Ok(())
}

impl Measured<'_> {
    /// Measures one kind of traffic once.
    fn round(&mut self, live: &mut Live, plan: &Plan, kind: usize) -> Result<(), BenchError> {
        let (Ok(route), None) = (&self.way.route, &self.failed[kind]) else { return Ok(()) };
        let (generator, new) = KINDS[kind];
        let packets = if new { plan.new_flows } else { plan.packets };
        let traffic = |used| if new { Traffic { flows: 0, from: used, syn: true } } else { ESTABLISHED };
        let mut why = String::new();
        for _ in 0..TRIES {
            let sent = match generator {
                Generator::Live => {
                    if !new {
                        warm_up(live, route)?;
                    }
                    live.send(route, traffic(self.used), packets)?
                }
                Generator::Pktgen => {
                    let warmed = if new {
                        Ok(())
                    } else {
                        live.send_by_pktgen(route, ESTABLISHED, WARM_UP * FEW, plan.cpu).map(drop)
                    };
                    let sent = warmed
                        .and_then(|()| live.send_by_pktgen(route, traffic(self.used), packets, plan.cpu));
                    match sent {
                        Ok(sent) => sent,
                        // A generator that does not begin is no reason to throw everything else away.
                        Err(error) => {
                            why = error.to_string();
                            continue;
                        }
                    }
                }
            };
            if new {
                self.used = self.used.wrapping_add(packets);
                if let Some(process) = route.forget {
                    conntrack::forget(process)?;
                }
            }
            if sent.arrived != u64::from(packets) {
                why = format!("{} of {packets} frames arrived", sent.arrived);
            } else if sent.foreign > FOREIGN {
                why = format!("the softirq daemon worked for {:.0} % of the time", sent.foreign * 100.0);
            } else {
                self.samples[kind].push(sent.nanoseconds);
                return Ok(());
            }
        }
        self.failed[kind] = Some(format!("{why}, {TRIES} times ({})", title(kind)));
        Ok(())
    }

    fn row(&self, kind: usize) -> Row {
        let name = &self.way.name;
        match (&self.way.route, &self.failed[kind]) {
            (Err(why), _) => Row::skipped(name, format!("SKIPPED: {why}")),
            (_, Some(why)) => Row::skipped(name, format!("ERROR: {why}")),
            (Ok(_), None) => {
                Row { goal: self.way.goal.clone(), ..Row::new(name, self.samples[kind].clone()) }
            }
        }
    }
}

/// The process in whose namespace a sink is.
fn home(sink: &Sink) -> i32 {
    match sink {
        Sink::Program(port) | Sink::Interface(port) => port.process,
        Sink::Stack(process) => *process,
    }
}
