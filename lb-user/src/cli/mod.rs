//! The command line.

mod check;
mod run;
mod status;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Exit codes beyond success.
pub mod exit {
    /// Something failed at run time.
    pub const FAILURE: u8 = 1;
    /// The configuration (or the command line, as clap has it) is wrong.
    pub const USAGE: u8 = 2;
    /// A right is missing.
    pub const RIGHTS: u8 = 3;
    /// Another daemon runs on this node.
    pub const ALREADY_RUNNING: u8 = 4;
}

/// A highly available layer-4 load balancer: XDP steering and VRRP in one binary.
#[derive(Debug, Parser)]
#[command(name = "lb", version, about, long_about = None, propagate_version = true)]
#[command(
    after_help = "Examples:\n  lb check /etc/lb/lb.toml\n  lb run --config /etc/lb/lb.toml\n  lb status --json"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground.
    #[command(
        after_help = "Example:\n  lb run --config /etc/lb/lb.toml\n\nSignals: SIGTERM and SIGINT hand the VIPs over and stop; SIGHUP reads the configuration again.\nLogging: LB_LOG=debug (or a tracing filter such as lb=info,lb::vrrp=trace)."
    )]
    Run(RunArgs),
    /// Check a configuration without applying it.
    #[command(
        after_help = "Example:\n  lb check /etc/lb/lb.toml\n\nExit code: 0 usable (warnings included), 2 not usable."
    )]
    Check(CheckArgs),
    /// Show what the daemon on this node does.
    #[command(after_help = "Example:\n  lb status --json | jq '.virtual_routers[].state'")]
    Status(StatusArgs),
    /// Make the daemon read its configuration again; it applies all of it or nothing.
    #[command(after_help = "Example:\n  lb reload")]
    Reload(SocketArgs),
}

/// Arguments of `lb run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
    /// Write logs as JSON, one object a line.
    #[arg(long)]
    pub json_log: bool,
}

/// Arguments of `lb check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The configuration file.
    #[arg(value_name = "FILE")]
    pub config: PathBuf,
    /// Print findings as JSON.
    #[arg(long)]
    pub json: bool,
    /// Leave out what depends on this machine: interfaces and their addresses.
    #[arg(long)]
    pub no_host: bool,
}

/// Arguments of `lb status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Where to ask.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// Where the daemon listens.
#[derive(Debug, clap::Args)]
pub struct SocketArgs {
    /// The daemon's runtime folder, if its configuration names another.
    #[arg(long, value_name = "DIR", default_value = "/run/lb")]
    pub runtime_dir: PathBuf,
}

/// Carries out a command.
pub fn dispatch(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Status(args) => status::status(&args),
        Command::Reload(args) => status::reload(&args),
    }
}
