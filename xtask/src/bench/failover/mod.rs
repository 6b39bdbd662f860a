//! `cargo xtask bench failover`: how long clients go unanswered when something happens to the owner of the VIP, with `lb`
//! and with keepalived, in the same lab and by the same clients.

mod fault;
mod report;
mod stage;
mod system;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum as _};
use xtask_report::{Machine, Report};

use self::{fault::Fault, report::Row, stage::Stage, system::System};
use super::report::{Output, machine};
use crate::{
    Error, lab,
    lab::LabError,
    play::signals,
    privilege::Privilege,
    progress::Progress,
    setup::{self, Level},
    tools,
    workspace::{self, Profile},
};

/// Rounds unless said otherwise.
const ROUNDS: u16 = 5;

/// `cargo xtask bench failover`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask bench failover                                        everything; takes two hours
  cargo xtask bench failover --system lb-1s --fault freeze --fault stop
  cargo xtask bench failover --system keepalived-10ms --rounds 1 --json failover.json

The clients send a datagram to the VIP every 2 ms and open an HTTP connection every 5 ms. Each figure is the longest time without
an answer in milliseconds, median [least–most] of the rounds; `>` says that it was not over when the round ended.")]
pub(super) struct Options {
    /// A daemon to measure, by default all; may be repeated
    #[arg(long, value_enum)]
    system: Vec<System>,
    /// A fault to measure, by default all; may be repeated
    #[arg(long, value_enum)]
    fault: Vec<Fault>,
    /// How often each fault strikes
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    #[command(flatten)]
    output: Output,
    /// An lb executable to use instead of building one
    #[arg(long, value_name = "FILE")]
    lb: Option<PathBuf>,
}

impl Options {
    fn systems(&self) -> Vec<System> {
        if self.system.is_empty() { System::value_variants().to_vec() } else { self.system.clone() }
    }

    fn faults(&self) -> Vec<Fault> {
        if self.fault.is_empty() { Fault::value_variants().to_vec() } else { self.fault.clone() }
    }

    /// The executable, built if none was named; none if none is measured.
    fn lb(&self) -> Result<Option<PathBuf>, Error> {
        if let Some(lb) = &self.lb {
            let lb = lb.canonicalize().map_err(|source| Error::File { path: lb.clone(), source })?;
            return Ok(Some(lb));
        }
        if !self.systems().iter().any(|system| system.is_lb()) {
            return Ok(None);
        }
        workspace::build_lb(Profile::Release).map(Some)
    }
}

/// Carries the command out, as root where we are not.
pub(super) fn execute(options: &Options) -> Result<ExitCode, Error> {
    let privilege = Privilege::detect();
    if privilege != Privilege::Root {
        setup::ensure(Level::Lab)?;
        let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
        if options.lb.is_none()
            && let Some(lb) = options.lb()?
        {
            // Built as the user, so that root owns nothing in `target`.
            words.extend(["--lb".into(), lb.into_os_string()]);
        }
        return lab::become_root(privilege, &words);
    }
    if options.lb.is_none() {
        setup::ensure(Level::Lab)?;
    }
    let lb = options.lb()?;
    // Ctrl-C ends the lab in order.
    signals::on_stop(lab::interrupt)?;
    measure(options, lb.as_deref())
}

fn measure(options: &Options, lb: Option<&Path>) -> Result<ExitCode, Error> {
    let (systems, faults) = (options.systems(), options.faults());
    let progress = Progress::detect();
    let mut rows = Vec::new();
    let mut report = Report {
        title: "How long clients go unanswered".to_owned(),
        machine: Machine::here(),
        rounds: u32::from(options.rounds),
        notes: vec![
            "A client sends a datagram to the VIP every 2 ms, another opens an HTTP connection every 5 ms; what is shown is \
             the longest time without an answer of the one that the fault concerns."
                .to_owned(),
        ],
        groups: Vec::new(),
    };
    if let Some(version) = tools::version("keepalived") {
        report.machine.versions.insert("keepalived".to_owned(), version);
    }
    for system in &systems {
        eprintln!("── {} ──", system.name());
        let mut stage = None;
        for fault in faults.iter().filter(|fault| fault.befalls(*system)) {
            let row = measure_one(&mut stage, *system, *fault, options.rounds, lb, &progress);
            let interrupted = lab::interrupted();
            rows.push(row);
            // After each one: what took an hour is not lost to the last.
            report.machine.load_after = xtask_report::load();
            report.groups = report::groups(&rows, &systems, &faults);
            options.output.write(&report, &serde_json::json!(rows))?;
            if interrupted {
                return Err(LabError::Interrupted.into());
            }
        }
    }
    println!("{}\n", machine(&report.machine));
    println!("{}", report::overview(&rows, &systems, &faults));
    for system in &systems {
        println!("{}\n\n{}", system.title(), report::details(&rows, *system));
    }
    let failed = rows.iter().any(|row| row.error.is_some());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// All rounds of one fault, in the lab of the system, which is built if there is none.
fn measure_one(
    stage: &mut Option<Stage>,
    system: System,
    fault: Fault,
    rounds: u16,
    lb: Option<&Path>,
    progress: &Progress,
) -> Row {
    let step = progress.step(&fault.name(), "");
    let mut row = Row { system, fault, rounds: Vec::new(), error: None };
    let outcome = Stage::provide(stage, system, lb).and_then(|stage| {
        for number in 1..=rounds {
            row.rounds.push(stage.round(fault, &|what| step.note(&format!("round {number}: {what}")))?);
        }
        Ok(())
    });
    step.done(&row.cell());
    if let Err(error) = outcome {
        // Whatever it is like now: the next fault gets another one.
        *stage = None;
        eprintln!("  {} of {rounds} rounds, then: {error}", row.rounds.len());
        row.error = Some(error.to_string());
    }
    row
}
