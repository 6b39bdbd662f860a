//! The command line.

mod check;
mod explain;
mod guardian;
mod import;
mod run;
mod status;
mod vip;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::Protocol;

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
    /// The daemon found a fault of its own and ended at once; its guardian gives the VIPs up.
    pub const PANIC: u8 = 5;
}

/// A highly available layer-4 load balancer: XDP steering and VRRP in one binary.
#[derive(Debug, Parser)]
#[command(name = "lb", version, about, long_about = None, propagate_version = true)]
#[command(
    after_help = "Examples:\n  lb check /etc/lb/lb.toml\n  lb run --config /etc/lb/lb.toml\n  lb import keepalived /etc/keepalived/keepalived.conf --output /etc/lb/lb.toml\n  lb status --json\n  lb explain --src 192.0.2.7:40000 --dst 198.51.100.4:80"
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
        after_help = "Examples:\n  lb run --config /etc/lb/lb.toml\n  lb run --config /etc/keepalived/keepalived.conf --config /etc/lb/services.toml\n\nFiles: --config may be given several times; the files are one configuration. One may be keepalived's: it is translated as by `lb import keepalived`, and what is not supported is a warning.\nSignals: SIGTERM and SIGINT hand the VIPs over and stop; SIGHUP reads the configuration again.\nLogging: LB_LOG=debug (or a tracing filter such as lb=info,lb::vrrp=trace)."
    )]
    Run(RunArgs),
    /// Check a configuration without applying it.
    #[command(
        after_help = "Examples:\n  lb check /etc/lb/lb.toml\n  lb check /etc/keepalived/keepalived.conf /etc/lb/services.toml\n\nExit code: 0 usable (warnings included), 2 not usable."
    )]
    Check(CheckArgs),
    /// Translate somebody else's configuration, and say what becomes of each directive.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Show what the daemon on this node does.
    #[command(after_help = "Example:\n  lb status --json | jq '.virtual_routers[].state'")]
    Status(StatusArgs),
    /// Ask the loaded program where a packet would go, and why; nothing is sent, counted or remembered.
    #[command(
        after_help = "Example:\n  lb explain --src 192.0.2.7:40000 --dst 198.51.100.4:80\n  lb explain --src '[2001:db8::7]:5353' --dst '[2001:db8::4]:53' --protocol udp --json | jq .backend\n\nExit code: 0 there is an answer, whatever becomes of the packet; 1 there is none; 2 the question is wrong."
    )]
    Explain(ExplainArgs),
    /// Move VIPs by hand.
    #[command(subcommand)]
    Vip(VipCommand),
    /// Make the daemon read its configuration again; it applies all of it or nothing.
    #[command(after_help = "Example:\n  lb reload")]
    Reload(SocketArgs),
    /// Watch over a daemon, and give its VIPs up in its place when it dies without stopping; `lb run` starts it.
    #[command(hide = true)]
    Guardian(GuardianArgs),
}

/// Arguments of `lb run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The configuration file, ours or keepalived's; given several times, the files together.
    #[arg(long, short, value_name = "FILE", required = true)]
    pub config: Vec<PathBuf>,
    /// Write logs as JSON, one object a line.
    #[arg(long)]
    pub json_log: bool,
}

/// Arguments of `lb check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The configuration file, ours or keepalived's; several are one configuration.
    #[arg(value_name = "FILE", required = true)]
    pub config: Vec<PathBuf>,
    /// Print findings as JSON.
    #[arg(long)]
    pub json: bool,
    /// Leave out what depends on this machine: interfaces and their addresses.
    #[arg(long)]
    pub no_host: bool,
}

/// Whose configuration is translated.
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// keepalived.conf, with what it includes.
    #[command(
        after_help = "Examples:\n  lb import keepalived /etc/keepalived/keepalived.conf > lb.toml\n  lb import keepalived keepalived.conf --output /etc/lb/lb.toml --report json 2> report.json\n\nThe report, a line for each directive, goes to standard error.\nExit code: 0 translated, whatever the report says; 1 the output cannot be written; 2 the configuration is wrong, or with --strict there is something that is not supported."
    )]
    Keepalived(KeepalivedArgs),
    /// The output of `ipvsadm -Sn`.
    #[command(
        after_help = "Examples:\n  ipvsadm -Sn | lb import ipvsadm - --interface eth0 > lb.toml\n  lb import ipvsadm rules.ipvs --output /etc/lb/lb.toml\n\nThe report, a line for each service and server, goes to standard error.\nExit code: as of `lb import keepalived`."
    )]
    Ipvsadm(IpvsadmArgs),
}

/// Arguments of `lb import keepalived`.
#[derive(Debug, clap::Args)]
pub struct KeepalivedArgs {
    /// What lines that begin with @ are compared with [default: the host's name].
    #[arg(long, value_name = "ID")]
    pub config_id: Option<String>,
    /// What to translate, and where to.
    #[command(flatten)]
    pub import: ImportArgs,
}

/// Arguments of `lb import ipvsadm`.
#[derive(Debug, clap::Args)]
pub struct IpvsadmArgs {
    /// The interface that clients' packets come in by.
    #[arg(long, value_name = "IF", default_value = "eth0")]
    pub interface: String,
    /// What to translate, and where to.
    #[command(flatten)]
    pub import: ImportArgs,
}

/// What is translated, and where the translation and its report go.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The file; - is standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Write the TOML to a new file, which its owner alone may read, instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How to write the report.
    #[arg(long, value_enum, default_value = "text")]
    pub report: ReportForm,
    /// Fail, and write no TOML, if something is not supported.
    #[arg(long)]
    pub strict: bool,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportForm {
    /// A line for each directive.
    Text,
    /// An object.
    Json,
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

/// Arguments of `lb explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// Who sends the packet: the client's address and port.
    #[arg(long, value_name = "IP:PORT", value_parser = explain::end)]
    pub src: SocketAddr,
    /// Whom it is for: a VIP and a port.
    #[arg(long, value_name = "VIP:PORT", value_parser = explain::end)]
    pub dst: SocketAddr,
    /// The transport protocol: tcp or udp.
    #[arg(long, value_name = "PROTOCOL", default_value = "tcp", value_parser = explain::protocol)]
    pub protocol: Protocol,
    /// The interface it comes in by [default: that of the VIP's virtual router, or the first with the program].
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,
    /// A packet of an established TCP connection (the default).
    #[arg(long, conflicts_with = "opening")]
    pub established: bool,
    /// A SYN, the first packet of a TCP connection.
    #[arg(long)]
    pub opening: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Where to ask.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// Arguments of `lb guardian`.
#[derive(Debug, clap::Args)]
pub struct GuardianArgs {
    /// The process number of the daemon.
    #[arg(long, value_name = "PID")]
    pub daemon: u32,
    /// Write logs as JSON, one object a line.
    #[arg(long)]
    pub json_log: bool,
}

/// What can be done with VIPs by hand.
#[derive(Debug, Subcommand)]
pub enum VipCommand {
    /// Hand VIPs over to another node; this one goes on answering until that has them.
    #[command(
        after_help = "Example:\n  lb vip release VI_1\n  lb vip release --all\n\nThis node does not take them back from a living owner until `lb vip claim`, a restart, or the other's end.\nExit code: 0 handed over, or not owner here; 1 nobody took over."
    )]
    Release(ReleaseArgs),
    /// Take VIPs over from another node, by priority 254 until they are released.
    #[command(
        after_help = "Example:\n  lb vip claim VI_1\n\nExit code: 0 owner now; 1 in fault, or a better owner keeps them."
    )]
    Claim(ClaimArgs),
}

/// Arguments of `lb vip release`.
#[derive(Debug, clap::Args)]
pub struct ReleaseArgs {
    /// The virtual router's name.
    #[arg(value_name = "ROUTER", required_unless_present = "all", conflicts_with = "all")]
    pub router: Option<String>,
    /// All virtual routers of this node.
    #[arg(long)]
    pub all: bool,
    /// Where to ask.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// Arguments of `lb vip claim`.
#[derive(Debug, clap::Args)]
pub struct ClaimArgs {
    /// The virtual router's name.
    #[arg(value_name = "ROUTER")]
    pub router: String,
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
        Command::Import(command) => import::import(&command),
        Command::Status(args) => status::status(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Vip(command) => vip::vip(&command),
        Command::Reload(args) => status::reload(&args),
        Command::Guardian(args) => guardian::guardian(&args),
    }
}
