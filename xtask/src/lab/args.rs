//! `cargo xtask lab …`.

use std::{
    ffi::OsString,
    net::SocketAddrV4,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::{Args, Subcommand};

use super::{
    Daemon, Lab, LabError, Node, VIP, XdpMode, init, interrupt,
    probe::{arp::ask_once, udp},
    state, supervisor,
};
use crate::{
    Error,
    play::{self, PlayOptions, signals},
    privilege::Privilege,
    process,
    setup::{self, Level},
    workspace::{self, Profile},
};

/// Builds, inspects and removes labs: a client and two nodes with nginx and `lb` in network namespaces.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Bring a lab up and leave it running
    Up(Daemons),
    /// Play the tutorial in a lab, as `cargo xtask run` does
    Play {
        #[command(flatten)]
        daemons: Daemons,
        /// End after the play instead of staying until Ctrl-C
        #[arg(long)]
        once: bool,
    },
    /// Show what is where and who owns the VIP
    Status {
        #[command(flatten)]
        name: Name,
    },
    /// Run a command on a node: `cargo xtask lab exec client -- curl http://172.20.128.4/`
    Exec {
        #[command(flatten)]
        name: Name,
        /// client, node-a or node-b
        node: String,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Stop every process of a node as `docker pause` does; its kernel goes on
    Freeze {
        #[command(flatten)]
        name: Name,
        /// client, node-a or node-b
        node: String,
    },
    /// Undo freeze
    Thaw {
        #[command(flatten)]
        name: Name,
        /// client, node-a or node-b
        node: String,
    },
    /// Show what the daemons wrote
    Logs {
        #[command(flatten)]
        name: Name,
        /// How many lines of each
        #[arg(long, default_value_t = 40)]
        lines: usize,
    },
    /// Remove a lab; nothing is left of it
    Down {
        #[command(flatten)]
        name: Name,
        /// Remove all labs
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    #[command(hide = true)]
    Supervise,
    #[command(hide = true)]
    Init,
    #[command(hide = true)]
    Echo { at: SocketAddrV4 },
}

#[derive(Debug, Args)]
struct Name {
    /// Which lab; several can stand side by side
    #[arg(long, default_value = "lab")]
    name: String,
}

#[derive(Debug, Args)]
struct Daemons {
    #[command(flatten)]
    name: Name,
    /// How lb attaches its XDP program
    #[arg(long, value_enum, default_value_t)]
    xdp: XdpMode,
    /// An lb executable to use instead of building one
    #[arg(long, value_name = "FILE")]
    lb: Option<PathBuf>,
}

impl Daemons {
    /// The executable, built if none was named.
    fn lb(&self) -> Result<PathBuf, Error> {
        if let Some(lb) = &self.lb {
            return lb.canonicalize().map_err(|source| Error::File { path: lb.clone(), source });
        }
        setup::ensure(Level::Lab)?;
        workspace::build_lb(Profile::Debug)
    }
}

/// Carries the command out, as root where we are not.
pub fn execute(options: Options) -> Result<ExitCode, Error> {
    let privilege = Privilege::detect();
    if privilege != Privilege::Root {
        let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
        if let LabCommand::Up(daemons) | LabCommand::Play { daemons, .. } = &options.command
            && daemons.lb.is_none()
        {
            // Built as the user, so that root owns nothing in `target`.
            words.extend(["--lb".into(), daemons.lb()?.into_os_string()]);
        }
        return become_root(privilege, &words);
    }
    match options.command {
        LabCommand::Up(daemons) => up(&daemons.name.name, &daemons.lb()?, daemons.xdp)?,
        LabCommand::Play { daemons, once } => {
            let lb = daemons.lb()?;
            let options = PlayOptions { once, name: daemons.name.name, xdp: daemons.xdp, xtask: None };
            play::run(&options, &lb)?;
        }
        LabCommand::Status { name } => print_status(&Lab::open(&name.name)?),
        LabCommand::Exec { name, node, command } => {
            return Ok(exec(&Lab::open(&name.name)?.node(&node)?, &command)?);
        }
        LabCommand::Freeze { name, node } => Lab::open(&name.name)?.node(&node)?.freeze()?,
        LabCommand::Thaw { name, node } => Lab::open(&name.name)?.node(&node)?.thaw()?,
        LabCommand::Logs { name, lines } => println!("{}", Lab::open(&name.name)?.log_tails(lines)),
        LabCommand::Down { name, all } => down(name.name, all)?,
        // Whoever started it is told why by other means.
        LabCommand::Supervise if supervisor::run().is_err() => return Ok(ExitCode::FAILURE),
        LabCommand::Supervise => (),
        LabCommand::Init => init::run()?,
        LabCommand::Echo { at } => udp::run(at)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Replaces this process by one of root's, with other arguments.
pub(crate) fn become_root(privilege: Privilege, words: &[OsString]) -> Result<ExitCode, Error> {
    if !privilege.available() {
        return Err(LabError::NotRoot.into());
    }
    privilege.acquire()?;
    let program = std::env::current_exe().map_err(LabError::io("finding this program"))?;
    let mut command = privilege.command(&program.to_string_lossy());
    command.args(words);
    let source = command.exec();
    Err(Error::Start { program: process::describe(&command), source })
}

fn up(name: &str, lb: &Path, xdp: XdpMode) -> Result<(), LabError> {
    let xtask = std::env::current_exe().map_err(LabError::io("finding this program"))?;
    // Ctrl-C while it comes up takes it down again.
    signals::on_stop(interrupt)?;
    let lab = Lab::start_tutorial(name, lb, xdp, &xtask, |what| println!("  … {what}"))?;
    print_status(&lab);
    lab.detach()?;
    let option = if name == "lab" { String::new() } else { format!(" --name {name}") };
    println!("\nTry   cargo xtask lab exec{option} client -- curl -s http://{VIP}/");
    println!("End   cargo xtask lab down{option}");
    Ok(())
}

fn down(name: String, all: bool) -> Result<(), LabError> {
    let names = if all { state::sweep()? } else { vec![name] };
    for name in &names {
        let was_up = Lab::down(name)?;
        println!("lab `{name}` {}", if was_up { "is gone" } else { "was not up" });
    }
    if names.is_empty() {
        println!("no lab was up");
    }
    Ok(())
}

/// One line a node, and who answers for the VIP.
fn print_status(lab: &Lab) {
    println!("lab `{}` (supervisor: process {})", lab.state().spec.name, lab.state().supervisor);
    for node in lab.nodes() {
        let addresses = node
            .spec
            .links
            .iter()
            .map(|link| format!("{} {}/{} {}", link.interface, link.address, link.prefix, link.mac()))
            .collect::<Vec<_>>()
            .join(", ");
        println!("  {:<8} {addresses}  {}", node.name(), describe(&node));
    }
    match lab.node("client").and_then(|client| ask_once(&client, VIP)) {
        Ok(answers) => {
            let names: Vec<String> = answers
                .iter()
                .map(|mac| lab.state().spec.node_of(*mac).map_or_else(|| mac.to_string(), str::to_owned))
                .collect();
            let names = if names.is_empty() { "nobody".to_owned() } else { names.join(" and ") };
            println!("  {VIP} is answered for by {names}");
        }
        Err(error) => println!("  {VIP}: {error}"),
    }
}

fn describe(node: &Node) -> String {
    let mut parts = Vec::new();
    if let Some(web) = &node.spec.web {
        let running = !node.processes("nginx").is_empty();
        parts.push(format!("nginx “{}”{}", web.title, if running { "" } else { " (not running)" }));
    }
    match &node.spec.daemon {
        Daemon::None => (),
        Daemon::Keepalived { .. } => parts.push("keepalived".to_owned()),
        // A frozen daemon would never answer.
        Daemon::Lb { .. } if node.is_frozen() => parts.push("lb (frozen)".to_owned()),
        Daemon::Lb { .. } => match node.status() {
            Ok(status) => parts
                .extend(status.virtual_routers().iter().map(|(name, state)| format!("lb: {name} {state}"))),
            Err(error) => parts.push(format!("lb: {error}")),
        },
    }
    parts.join(", ")
}

fn exec(node: &Node, words: &[String]) -> Result<ExitCode, LabError> {
    let Some((program, arguments)) = words.split_first() else { return Ok(ExitCode::SUCCESS) };
    let mut command = Command::new(program);
    command.args(arguments);
    let status = node.spawn(command)?.wait().map_err(LabError::io(format!("waiting for {program}")))?;
    // As shells do for a command that a signal ended.
    let signal = status.signal().map(|signal| 128 + signal);
    let code = status.code().or(signal).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
