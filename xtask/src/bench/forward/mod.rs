//! `cargo xtask bench forward`: what a packet costs from a generator through a node to a sink, with `lb` and with what the
//! kernel has, in one lab and by turns. `lb-bench` (`lb-user/src/bench/forward`) sends and counts.

mod machines;
mod proxies;
mod stage;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::{Args, ValueEnum};
use xtask_report::{Machine, Report, plan::Plan};

use self::stage::{REDIRECT, Stage};
use super::report::{self, Output};
use crate::{
    Error, lab,
    play::signals,
    privilege::Privilege,
    process,
    progress::Progress,
    setup::{self, Level},
    tools,
    vm::Choice,
    workspace::{self, Profile},
};

const TITLE: &str = "Whole forwarding";
/// Rounds unless said otherwise.
const ROUNDS: u32 = 9;
/// Frames of each row and round, of established flows and of new ones.
const PACKETS: [u32; 2] = [200_000, 20_000];
/// For how long wrk asks.
const SECONDS: u32 = 2;
/// The same as [`PACKETS`] where each instruction is counted, and each time is the same.
const PACKETS_COUNTED: [u32; 2] = [8_192, 4_096];

/// `cargo xtask bench forward`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask bench forward                                          with everything there is on this kernel
  cargo xtask bench forward --only frames --rounds 31 --html page.html --json all.json
  cargo xtask bench forward --vm 6.1 --count-instructions            in a virtual machine, where IPVS is")]
pub(super) struct Options {
    /// How often everything is measured
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Frames per row and round of established flows
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    packets: Option<u32>,
    /// Frames per row and round that are a new flow each
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    new_flows: Option<u32>,
    /// Seconds per row and round of connections
    #[arg(long, default_value_t = SECONDS, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// The processor that packets are measured on
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Only this part; may be repeated
    #[arg(long, value_enum)]
    only: Vec<Part>,
    #[command(flatten)]
    machine: MachineOptions,
    #[command(flatten)]
    output: Output,
    /// An lb executable to use instead of building one
    #[arg(long, value_name = "FILE")]
    lb: Option<PathBuf>,
    /// An lb-bench executable to use instead of building one
    #[arg(long, value_name = "FILE")]
    lb_bench: Option<PathBuf>,
    /// The report is of a machine whose nanoseconds are instructions
    #[arg(long, hide = true)]
    instructions: bool,
    /// Print the report as a line of JSON
    #[arg(long, hide = true)]
    print_json: bool,
}

/// Where it runs.
#[derive(Args, Clone, Copy, Debug)]
struct MachineOptions {
    /// Measure in virtual machines with these of Debian's kernels, which have IPVS and pktgen
    #[arg(long, value_enum, value_name = "KERNEL")]
    vm: Option<Choice>,
    /// Count the guest's instructions in there instead of time, which on an emulated processor says little
    #[arg(long, requires = "vm")]
    count_instructions: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Packets, by live frames
    Frames,
    /// Packets, by the kernel's packet generator too
    Pktgen,
    /// Connections, beside haproxy and nginx
    Proxies,
}

/// What is measured, and what measures.
struct Programs {
    lb: PathBuf,
    bench: PathBuf,
}

impl Options {
    /// Everything, with instructions counted, in both virtual machines.
    pub(super) fn in_machines(output: Output) -> Self {
        Self {
            rounds: None,
            packets: None,
            new_flows: None,
            seconds: SECONDS,
            cpu: 0,
            only: Vec::new(),
            machine: MachineOptions { vm: Some(Choice::All), count_instructions: true },
            output,
            lb: None,
            lb_bench: None,
            instructions: false,
            print_json: false,
        }
    }

    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn packets(&self) -> [u32; 2] {
        let [established, new] = if self.instructions { PACKETS_COUNTED } else { PACKETS };
        [self.packets.unwrap_or(established), self.new_flows.unwrap_or(new)]
    }

    fn programs(&self) -> Result<Programs, Error> {
        if self.lb.is_none() || self.lb_bench.is_none() {
            setup::ensure(Level::Bench)?;
        }
        let given =
            |path: &PathBuf| path.canonicalize().map_err(|source| Error::File { path: path.clone(), source });
        // What is measured runs in the kernel.
        let lb = self.lb.as_ref().map_or_else(|| workspace::build_lb(Profile::Debug), given)?;
        let bench = self.lb_bench.as_ref().map_or_else(|| workspace::build_bench(Profile::Debug), given)?;
        Ok(Programs { lb, bench })
    }
}

/// Carries the command out, as root where we are not.
pub(super) fn execute(options: &Options) -> Result<ExitCode, Error> {
    let programs = options.programs()?;
    if let Some(choice) = options.machine.vm {
        return machines::execute(options, &programs, choice.series());
    }
    let privilege = Privilege::detect();
    if privilege != Privilege::Root {
        let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
        if options.lb.is_none() {
            words.extend(["--lb".into(), programs.lb.into_os_string()]);
        }
        if options.lb_bench.is_none() {
            words.extend(["--lb-bench".into(), programs.bench.into_os_string()]);
        }
        return lab::become_root(privilege, &words);
    }
    // Ctrl-C ends the lab in order.
    signals::on_stop(lab::interrupt)?;
    let report = measure(options, &programs)?;
    if options.print_json {
        println!("{}", serde_json::json!(report));
    } else {
        options.output.publish(&report)?;
    }
    Ok(verdict(&report))
}

/// A failure if a row is an error.
fn verdict(report: &Report) -> ExitCode {
    let rows = report.groups.iter().flat_map(|group| &group.rows);
    let failed = rows.filter_map(|row| row.note.as_deref()).any(|note| note.starts_with("ERROR"));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// All parts that are wanted, in one report.
fn measure(options: &Options, programs: &Programs) -> Result<Report, Error> {
    let progress = Progress::detect();
    let rounds = options.rounds.unwrap_or(ROUNDS);
    let mut report = if options.wants(Part::Frames) || options.wants(Part::Pktgen) {
        packets(options, programs, rounds, &progress)?
    } else {
        Report {
            title: TITLE.to_owned(),
            machine: Machine::here(),
            rounds,
            notes: Vec::new(),
            groups: Vec::new(),
        }
    };
    let mut versions = vec!["nft", "ipvsadm"];
    if options.wants(Part::Proxies) {
        report.groups.extend(proxies::measure(&programs.lb, rounds, options.seconds, &progress)?);
        report.notes.extend(proxies::notes(options.seconds));
        report.machine.load_after = xtask_report::load();
        versions.extend(["haproxy", "nginx"]);
    }
    for name in versions {
        if let Some(version) = tools::version(name) {
            report.machine.versions.insert(name.to_owned(), version);
        }
    }
    Ok(report)
}

/// Packets, by live frames and by pktgen.
fn packets(
    options: &Options,
    programs: &Programs,
    rounds: u32,
    progress: &Progress,
) -> Result<Report, Error> {
    let step = progress.step("lab", "");
    // Before the lab: each of its nodes gets generators of its own.
    let no_pktgen = no_module("pktgen", &[], "/proc/net/pktgen");
    let name = format!("forward-{}", std::process::id());
    let stage = Stage::new(&name, &programs.lb, no_ipvs(), &|what| step.note(what))?;
    step.done("is up");
    let pktgen = no_pktgen.is_none() && options.wants(Part::Pktgen);
    let mut notes = notes(options);
    notes.push(match &no_pktgen {
        Some(why) => format!("pktgen: SKIPPED: {why}."),
        None => "pktgen sends packets of the stack, of which an XDP program's node has to make frames first: these numbers \
                 compare with others' reports, not with the limit."
            .to_owned(),
    });
    let [packets, new_flows] = options.packets();
    let plan = Plan {
        title: TITLE.to_owned(),
        notes,
        rounds,
        packets,
        new_flows,
        pktgen,
        cpu: options.cpu,
        unit: if options.instructions { "instructions" } else { "ns" }.to_owned(),
        reference: REDIRECT.to_owned(),
        ways: stage.ways()?,
    };
    let file = PlanFile::write(&plan)?;
    let mut command = Command::new(&programs.bench);
    command.arg("forward").arg(&file.0);
    let printed = process::capture_stdout(&mut command, "measuring")?;
    report::parse(&printed)
}

/// The plan, in a file that goes with this value.
struct PlanFile(PathBuf);

impl PlanFile {
    fn write(plan: &Plan) -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("lb-forward-{}.json", std::process::id()));
        let error = |source| Error::File { path: path.clone(), source };
        let text = serde_json::to_vec(plan).map_err(|source| error(source.into()))?;
        fs::write(&path, text).map_err(error)?;
        Ok(Self(path))
    }
}

impl Drop for PlanFile {
    fn drop(&mut self) {
        // Nothing depends on it.
        let _ = fs::remove_file(&self.0);
    }
}

fn notes(options: &Options) -> Vec<String> {
    let [packets, new_flows] = options.packets();
    let measured = if options.instructions {
        "Guest instructions from the generator to the sink, both included, as the machine's clock counts them"
    } else {
        "The kernel's own time from the generator to the sink, both included"
    };
    vec![
        format!(
            "Generator: the kernel's live frames (BPF_PROG_TEST_RUN), TCP over IPv4 in frames of 80 bytes, {packets} for each \
             row and round, or {new_flows} that are a new flow each, on processor {}.",
            options.cpu
        ),
        format!(
            "{measured}; everything happens on one processor. All frames arrived, in every round: a round in which one was \
             lost is measured again."
        ),
        "Each system is a node with a cable to the generator and one to the sink. What comes as an XDP frame is dropped by an \
         XDP program at the sink, what comes as a packet of the stack by the stack's first look."
            .to_owned(),
        "lb is the daemon, attached in native mode, owner of the VIP by a lease that runs, with a service for each mode and \
         two backends each."
            .to_owned(),
    ]
}

/// Why IPVS is not there, after a try to load it.
fn no_ipvs() -> Option<String> {
    // A table that holds the new flows of all rounds without long chains.
    no_module("ip_vs", &["conn_tab_bits=20"], "/proc/net/ip_vs")
        .or_else(|| tools::find("ipvsadm").is_none().then(|| "there is no ipvsadm".to_owned()))
}

/// Why a part of the kernel is not there, after a try to load it.
fn no_module(name: &str, settings: &[&str], proof: &str) -> Option<String> {
    if !Path::new(proof).exists() {
        // If it fails the proof is still missing.
        process::ask("modprobe", &[&[name], settings].concat());
    }
    (!Path::new(proof).exists()).then(|| format!("this kernel has no {name}"))
}
