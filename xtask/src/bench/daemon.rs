//! `cargo xtask bench daemon`: how long the daemon takes to start and to read its configuration anew, and what it holds and
//! spends at rest, by the size of the configuration. It runs in a lab, attached to an interface.

use std::{
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use nix::{sys::signal::Signal, unistd::Pid};
use xtask_report::{Bound, Goal, Group, Machine, Report, Row};

use super::report::Output;
use crate::{
    Error,
    lab::{
        self, Daemon, GUARDIAN, Lab, LabError, LabSpec, Node, NodeSpec, XdpMode, pause, processor_time,
        wait_until,
    },
    play::signals,
    privilege::Privilege,
    progress::Progress,
    setup::{self, Level},
    workspace::{self, Profile},
};

/// Services, and backends of each.
const SIZES: [(u32, u32); 4] = [(1, 2), (10, 10), (100, 100), (1_000, 100)];
/// What the daemon says when everything is applied for the first time.
const STARTED: &str = " running config=";
const START_WITHIN: Duration = Duration::from_mins(2);
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// How long it is left alone before: what it learns of the addresses that it has just added is work of the start.
const CALM_DOWN: Duration = Duration::from_secs(5);
/// For how long it is watched at rest.
const REST: Duration = Duration::from_secs(3);
/// MiB that the tutorial may take.
const TUTORIAL_MOST: f64 = 64.0;
const NODE: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 10);

/// `cargo xtask bench daemon`.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  cargo xtask bench daemon --rounds 3 --json daemon.json")]
pub(super) struct Options {
    /// How often everything is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    #[command(flatten)]
    output: Output,
    /// An lb executable to use instead of building one
    #[arg(long, value_name = "FILE")]
    lb: Option<PathBuf>,
}

/// Carries the command out, as root where we are not.
pub(super) fn execute(options: &Options) -> Result<ExitCode, Error> {
    setup::ensure(Level::Lab)?;
    let lb = match &options.lb {
        Some(path) => path.canonicalize().map_err(|source| Error::File { path: path.clone(), source })?,
        None => workspace::build_lb(Profile::Release)?,
    };
    let privilege = Privilege::detect();
    if privilege != Privilege::Root {
        let mut words: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
        if options.lb.is_none() {
            words.extend(["--lb".into(), lb.into_os_string()]);
        }
        return lab::become_root(privilege, &words);
    }
    signals::on_stop(lab::interrupt)?;
    let mut machine = Machine::here();
    let (tutorial, sizes) = measure(&lb, options.rounds)?;
    machine.load_after = xtask_report::load();
    options.output.publish(&report(machine, options.rounds, &tutorial, &sizes))?;
    Ok(ExitCode::SUCCESS)
}

/// What was measured of one configuration, a number for each round.
#[derive(Debug, Default)]
struct Measured {
    name: String,
    /// Milliseconds.
    start: Vec<f64>,
    reload_same: Vec<f64>,
    reload_changed: Vec<f64>,
    /// MiB.
    resident: Vec<f64>,
    guardian: Vec<f64>,
    maps: Vec<f64>,
    /// Milliseconds of processor time a second.
    rest: Vec<f64>,
}

fn measure(lb: &Path, rounds: u32) -> Result<(Measured, Vec<Measured>), Error> {
    let progress = Progress::detect();
    let step = progress.step("tutorial", "its pair, at rest");
    let mut tutorial = Measured { name: "the tutorial's owner".to_owned(), ..Measured::default() };
    let (id, xtask) = (std::process::id(), std::env::current_exe());
    let xtask = xtask.map_err(LabError::io("finding this program"))?;
    {
        let spec = LabSpec::tutorial(&format!("daemon-pair-{id}"), lb, XdpMode::Auto)?;
        let lab = Lab::start(&spec, &xtask, |what| step.note(what))?;
        let owner = lab.wait_until_ready()?;
        for _ in 0..rounds {
            at_rest(&owner, &mut tutorial)?;
        }
    }
    step.done("measured");
    let step = progress.step("sizes", "");
    let nodes = vec![
        NodeSpec::on_lan("gateway", GATEWAY),
        NodeSpec { default_route: Some(GATEWAY), ..NodeSpec::on_lan("lb", NODE) },
    ];
    let lab = Lab::start(&LabSpec { name: format!("daemon-{id}"), nodes }, &xtask, |what| step.note(what))?;
    let mut node = lab.node("lb")?;
    let mut sizes: Vec<Measured> =
        SIZES.iter().map(|size| Measured { name: named(*size), ..Measured::default() }).collect();
    for round in 1..=rounds {
        for (&size, measured) in SIZES.iter().zip(&mut sizes) {
            step.note(&format!("round {round} of {rounds}, {}", measured.name));
            let config = config(size, 1);
            node.spec.daemon = Daemon::Lb { binary: lb.to_owned(), config: config.clone() };
            measured.start.push(start(&node)?);
            at_rest(&node, measured)?;
            let timed = |config: &str| -> Result<f64, LabError> {
                node.write_config(config)?;
                let started = Instant::now();
                node.run(&[&lb.to_string_lossy(), "reload"])?;
                Ok(started.elapsed().as_secs_f64() * 1e3)
            };
            measured.reload_same.push(timed(&config)?);
            measured.reload_changed.push(timed(&self::config(size, 2))?);
            node.stop_daemon(Signal::SIGTERM, STOP_WITHIN)?;
        }
    }
    step.done("measured");
    Ok((tutorial, sizes))
}

fn named((services, backends): (u32, u32)) -> String {
    let plural = if services == 1 { "" } else { "s" };
    format!("{services} service{plural} of {backends} backends")
}

/// Starts the daemon; milliseconds until everything is applied.
fn start(node: &Node) -> Result<f64, Error> {
    let times = || node.log().matches(STARTED).count();
    let before = times();
    let started = Instant::now();
    node.start_daemon()?;
    let running = wait_until("lb has started", START_WITHIN, || {
        if times() > before {
            return Some(Ok(started.elapsed()));
        }
        let ended = || LabError::DaemonEnded { node: node.name().to_owned(), log: node.log_tail(20) };
        (started.elapsed() > Duration::from_secs(1) && !node.has_daemon()).then(|| Err(ended()))
    })??;
    Ok(running.as_secs_f64() * 1e3)
}

/// What the daemon holds and spends while nothing happens.
fn at_rest(node: &Node, measured: &mut Measured) -> Result<(), Error> {
    let daemon = node.daemon_processes();
    let guardian = node.processes(GUARDIAN);
    let Some(&process) = daemon.first() else {
        return Err(LabError::DaemonEnded { node: node.name().to_owned(), log: node.log_tail(20) }.into());
    };
    let pids: Vec<Pid> = daemon.iter().chain(&guardian).copied().map(Pid::from_raw).collect();
    pause(CALM_DOWN)?;
    let before = processor_time(&pids);
    pause(REST)?;
    let spent = processor_time(&pids).saturating_sub(before);
    measured.rest.push(spent.as_secs_f64() * 1e3 / REST.as_secs_f64());
    measured.maps.push(maps(process));
    measured.resident.push(resident(process));
    measured.guardian.push(guardian.iter().map(|process| resident(*process)).fold(0.0, f64::max));
    Ok(())
}

/// MiB of a process's memory.
fn resident(process: i32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    labelled(&text, "VmRSS:") / 1024.0
}

/// MiB of the kernel's memory that a process's open maps take; rings, which only the kernel knows, are not among them.
fn maps(process: i32) -> f64 {
    let entries = fs::read_dir(format!("/proc/{process}/fdinfo")).into_iter().flatten().flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let bytes: f64 =
        texts.filter(|text| text.contains("map_type:")).map(|text| labelled(&text, "memlock:")).sum();
    bytes / f64::from(1 << 20)
}

/// The number behind a label in the kernel's text, 0 if there is none.
fn labelled(text: &str, label: &str) -> f64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(label));
    rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

/// Services with a VIP each, whose backends are behind the gateway; the first backend of the first has a weight of its own.
fn config((services, backends): (u32, u32), weight: u32) -> String {
    let mut text = "[interface.eth0]\n".to_owned();
    for service in 0..services {
        let [_, _, high, low] = service.to_be_bytes();
        // Invariant: a String takes everything.
        let _ = write!(
            text,
            "[[service]]\nname = \"s{service}\"\nvip = \"192.168.{high}.{low}\"\nport = 80\nprotocol = \"tcp\"\nstandalone = true\n"
        );
        for backend in 0..backends {
            let [a, b, c, _] = ((service * backends + backend + 1) << 8).to_be_bytes();
            let weight = if (service, backend) == (0, 0) { weight } else { 1 };
            let _ = write!(
                text,
                "[[service.backend]]\naddress = \"10.{a}.{b}.{c}\"\nmode = \"gue\"\nweight = {weight}\n"
            );
        }
    }
    text
}

fn report(machine: Machine, rounds: u32, tutorial: &Measured, sizes: &[Measured]) -> Report {
    let sum =
        std::iter::zip(&tutorial.resident, &tutorial.guardian).map(|(one, other)| one + other).collect();
    let both = Row {
        goal: Some(Goal::new(Bound::AtMost(TUTORIAL_MOST), None)),
        ..Row::new("the tutorial's owner, both processes", sum)
    };
    let all = || std::iter::once(tutorial).chain(sizes);
    let rows = |of: fn(&Measured) -> &Vec<f64>, suffix: &str| -> Vec<Row> {
        let row = |measured: &Measured| Row::new(format!("{}{suffix}", measured.name), of(measured).clone());
        all().filter(|measured| !of(measured).is_empty()).map(row).collect()
    };
    let times = [
        rows(|measured| &measured.start, ": start"),
        rows(|measured| &measured.reload_same, ": reload, nothing changed"),
        rows(|measured| &measured.reload_changed, ": reload, a backend has another weight"),
    ];
    let memory = [
        vec![both],
        rows(|measured| &measured.resident, ": daemon"),
        rows(|measured| &measured.guardian, ": guardian"),
        rows(|measured| &measured.maps, ": maps in the kernel, without rings"),
    ];
    Report {
        title: "The daemon".to_owned(),
        machine,
        rounds,
        notes: vec![
            "Start: from the command to the line `running` in the log, everything being applied; the kernel's verifier has \
             most of it where there are few services."
                .to_owned(),
            "Reload: how long `lb reload` takes, which returns when the new configuration is in force.".to_owned(),
            "Services have a standalone VIP each and backends by `gue` behind one gateway, without checks; rings have 65,537 \
             slots."
                .to_owned(),
            "Memory: resident, shared libraries included; processor time: of daemon and guardian, while nothing happens \
             (the tutorial's owner sends adverts, BFD and checks)."
                .to_owned(),
        ],
        groups: vec![
            Group::new("Start and reload", "ms", None, times.concat()),
            Group::new("Memory", "MiB", None, memory.concat()),
            Group::new("Processor time at rest", "ms a second", None, rows(|measured| &measured.rest, "")),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_have_the_size_they_say_and_one_weight_that_changes() {
        let text = config((3, 5), 7);
        assert_eq!(text.matches("[[service]]").count(), 3);
        assert_eq!(text.matches("[[service.backend]]").count(), 15);
        assert_eq!(text.matches("weight = 7").count(), 1);
        let addresses: std::collections::BTreeSet<&str> =
            text.lines().filter(|line| line.starts_with("address")).collect();
        assert_eq!(addresses.len(), 15);
    }

    #[test]
    fn numbers_of_the_kernels_texts_are_found() {
        assert!((labelled("Name:\tlb\nVmRSS:\t  2048 kB\n", "VmRSS:") - 2048.0).abs() < f64::EPSILON);
        assert!(labelled("", "VmRSS:").abs() < f64::EPSILON);
    }

    #[test]
    fn the_report_adds_both_processes_of_the_tutorial() {
        let tutorial = Measured {
            name: "t".to_owned(),
            resident: vec![10.0],
            guardian: vec![2.0],
            maps: vec![1.0],
            rest: vec![1.0],
            ..Measured::default()
        };
        let report = report(Machine::here(), 1, &tutorial, &[]);
        let both = &report.groups[1].rows[0];
        assert_eq!((both.samples[0], both.goal.as_ref().and_then(Goal::reached)), (12.0, Some(true)));
        assert!(report.groups[0].rows.is_empty());
    }
}
