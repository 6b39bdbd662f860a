//! `cargo xtask bench`: what `lb` costs. `lb-bench` (`lb-user/src/bench`), which this builds and starts as root, measures;
//! reports of all benchmarks are shown by `report`. What a failover costs is measured in a lab.

mod baseline;
mod daemon;
mod failover;
mod forward;
mod machine;
mod report;

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::{Args, Subcommand};

use self::report::Output;
use crate::{
    Error,
    privilege::Privilege,
    process,
    setup::{self, Level},
    workspace::{self, Profile},
};

/// `cargo xtask bench`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct Options {
    #[command(subcommand)]
    what: Option<What>,
    /// Whole forwarding in virtual machines with Linux 6.1 and 6.12, instructions counted: `forward --vm all --count-instructions`
    #[arg(long, required = true)]
    vm: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The cost of one packet beside what the least program costs; docs/performance.md says how
    Packet(Packet),
    /// What a packet costs from a generator through a node to a sink: lb beside kernel forwarding, nftables and IPVS
    Forward(forward::Options),
    /// Building rings, how many slots a change moves, and time and memory that 1,000 services of 100 backends take
    Scale(Passed),
    /// How long the daemon takes to start and to reload, by the size of its configuration, and what it holds at rest
    Daemon(daemon::Options),
    /// What the checks of backends cost, and how many a core can make
    Checks(Passed),
    /// Program sizes and packets counted in instructions, beside xtask/baseline.json; fails where they grew
    Baseline(baseline::Options),
    /// How long clients go unanswered when something happens to the VIP's owner, with lb and with keepalived
    Failover(failover::Options),
}

#[derive(Args, Debug)]
struct Packet {
    /// Everything with everything: half an hour. Without it, a selection of a minute or two
    #[arg(long)]
    all: bool,
    /// Measure a pinned XDP program beside ours; may be repeated
    #[arg(long, value_name = "PATH")]
    pinned: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
    /// Passed on, for instance --rounds 31 or --only dr; `-- --help` names them
    #[arg(last = true, value_name = "OPTION")]
    more: Vec<OsString>,
}

/// What is `lb-bench`'s own business but for where the report goes.
#[derive(Args, Debug)]
struct Passed {
    #[command(flatten)]
    output: Output,
    /// Passed on, for instance --rounds 31; `-- --help` names them
    #[arg(last = true, value_name = "OPTION")]
    more: Vec<OsString>,
}

impl Passed {
    fn words(&self, command: &str) -> Vec<OsString> {
        std::iter::once(command.into()).chain(self.more.iter().cloned()).collect()
    }
}

/// Carries the command out.
///
/// # Errors
/// The program does not build, there is no way to root's rights, or it fails to start.
pub fn execute(options: &Options) -> Result<ExitCode, Error> {
    let Some(what) = &options.what else {
        return forward::execute(&forward::Options::in_machines(options.output.clone()));
    };
    match what {
        What::Packet(Packet { all, pinned, output, more }) => {
            let mut words: Vec<OsString> = vec!["packet".into()];
            words.extend(all.then(|| "--all".into()));
            words.extend(pinned.iter().flat_map(|path| ["--pinned".into(), path.into()]));
            words.extend(more.iter().cloned());
            // What it measures runs in the kernel.
            measure(&words, Profile::Debug, output)
        }
        What::Scale(passed) => measure(&passed.words("scale"), Profile::Release, &passed.output),
        What::Forward(options) => forward::execute(options),
        What::Checks(passed) => measure_alone(&passed.words("checks"), &passed.output),
        What::Daemon(options) => daemon::execute(options),
        What::Baseline(options) => baseline::execute(options),
        What::Failover(options) => failover::execute(options),
    }
}

/// Runs `lb-bench` and publishes its report.
fn measure(words: &[OsString], profile: Profile, output: &Output) -> Result<ExitCode, Error> {
    let privilege = ready(Level::Build)?;
    let bench = workspace::build_bench(profile)?;
    privilege.acquire()?;
    let mut command = privilege.command(&bench.to_string_lossy());
    command.args(words);
    publish(command, words, output)
}

/// The same in a network of its own, which has a loopback only.
fn measure_alone(words: &[OsString], output: &Output) -> Result<ExitCode, Error> {
    let privilege = ready(Level::Lab)?;
    let bench = workspace::build_bench(Profile::Release)?;
    privilege.acquire()?;
    let mut command = privilege.command("unshare");
    command.args(["--net", "sh", "-e", "-c", "ip link set lo up; exec \"$@\"", "sh"]).arg(bench).args(words);
    publish(command, words, output)
}

fn publish(mut command: Command, words: &[OsString], output: &Output) -> Result<ExitCode, Error> {
    let printed = process::capture_stdout(&mut command, "measuring")?;
    if words.iter().any(|word| word == "--help") {
        print!("{printed}");
        return Ok(ExitCode::SUCCESS);
    }
    output.publish(&report::parse(&printed)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Sees to it that everything is there, and says how to become root.
fn ready(level: Level) -> Result<Privilege, Error> {
    setup::ensure(level)?;
    let privilege = Privilege::detect();
    if privilege.available() {
        return Ok(privilege);
    }
    Err(Error::Missing {
        what: "measuring loads programs into the kernel, which takes root or sudo".to_owned(),
        remedies: vec!["run this as root".to_owned()],
    })
}
