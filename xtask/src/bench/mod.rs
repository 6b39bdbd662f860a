//! `cargo xtask bench`: what the XDP program costs, measured by `lb-bench` (`lb-user/src/bench`), which this builds and
//! starts as root; and what a failover costs, measured in a lab.

mod failover;

use std::{ffi::OsString, process::ExitCode};

use clap::{Args, Subcommand};

use crate::{
    Error,
    privilege::Privilege,
    process,
    setup::{self, Level},
    workspace::{self, Profile},
};

/// `cargo xtask bench`.
#[derive(Args, Debug)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The cost of one packet beside what the least program costs; docs/performance.md says how
    Packet(Passed),
    /// Time and memory that 1,000 services of 100 backends take
    Scale(Passed),
    /// How long clients go unanswered when something happens to the VIP's owner, with lb and with keepalived
    Failover(failover::Options),
}

#[derive(Args, Debug)]
struct Passed {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Passed on, for instance --rounds 31 or --services 100
    #[arg(last = true, value_name = "OPTION")]
    more: Vec<OsString>,
}

/// Carries the command out.
///
/// # Errors
/// The program does not build, there is no way to root's rights, or it fails to start.
pub fn execute(options: &Options) -> Result<ExitCode, Error> {
    let (what, passed, profile) = match &options.what {
        // What it measures runs in the kernel.
        What::Packet(passed) => ("packet", passed, Profile::Debug),
        What::Scale(passed) => ("scale", passed, Profile::Release),
        What::Failover(options) => return failover::execute(options),
    };
    setup::ensure(Level::Build)?;
    let privilege = Privilege::detect();
    if !privilege.available() {
        return Err(Error::Missing {
            what: "measuring loads programs into the kernel, which takes root or sudo".to_owned(),
            remedies: vec!["run this as root".to_owned()],
        });
    }
    let bench = workspace::build_bench(profile)?;
    privilege.acquire()?;
    let mut command = privilege.command(&bench.to_string_lossy());
    command.arg(what).args(passed.json.then_some("--json")).args(&passed.more);
    let status = process::status(&mut command)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
