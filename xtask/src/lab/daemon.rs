//! Starting what keeps the VIP on a node.

use std::{
    fs::{self, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::unistd::{ForkResult, Pid, fork, setsid};

use super::{
    error::LabError,
    namespace::spawn_in_node,
    spec::{Daemon, NodeSpec},
    web,
};

/// Where a node's processes find the configuration of `lb`.
pub(crate) const LB_CONFIG: &str = "/run/lab/lb.toml";
/// Where they find that of keepalived.
pub(crate) const KEEPALIVED_CONFIG: &str = "/run/lab/keepalived.conf";

/// The name of the process that watches over `lb`.
pub(crate) const GUARDIAN: &str = "lb-guardian";

/// The name of the daemon's processes; the kernel keeps 15 bytes of it.
pub(crate) fn process_name(daemon: &Daemon) -> Option<String> {
    match daemon {
        Daemon::None => None,
        Daemon::Lb { binary, .. } => Some(binary.file_name()?.to_string_lossy().chars().take(15).collect()),
        Daemon::Keepalived { .. } => Some("keepalived".to_owned()),
    }
}

/// Where the output of the daemon of `node` goes; `folder` is the lab's.
pub(crate) fn log_path(folder: &Path, node: &str) -> PathBuf {
    folder.join(format!("{node}.log"))
}

/// A node's root folder as seen from the host.
pub(crate) fn root(init: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{init}/root"))
}

/// Writes the configuration and starts the daemon, if the node has one.
pub(crate) fn start(folder: &Path, init: Pid, node: &NodeSpec) -> Result<(), LabError> {
    let (command, path, config) = match &node.daemon {
        Daemon::None => return Ok(()),
        Daemon::Lb { binary, config } => {
            let mut command = Command::new(binary);
            command.args(["run", "--config", LB_CONFIG]);
            (command, LB_CONFIG, config)
        }
        Daemon::Keepalived { config } => {
            let mut command = Command::new("keepalived");
            command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file", KEEPALIVED_CONFIG]);
            // Where it writes what it is asked for by SIGUSR1 and SIGUSR2: a place of the node's own.
            command.env("TMPDIR", "/run/lab");
            (command, KEEPALIVED_CONFIG, config)
        }
    };
    write_config(init, path, config)?;
    background(init, &node.name, command, &log_path(folder, &node.name))
}

/// Installs and starts nginx, if the node has one.
pub(crate) fn start_web(folder: &Path, init: Pid, node: &NodeSpec) -> Result<(), LabError> {
    let Some(web) = &node.web else { return Ok(()) };
    web::install(&root(init), &node.name, web)?;
    background(init, &node.name, web::command(), &folder.join(format!("{}.nginx.log", node.name)))
}

/// Starts what answers UDP datagrams, if the node has it.
pub(crate) fn start_echo(folder: &Path, init: Pid, node: &NodeSpec) -> Result<(), LabError> {
    let Some(at) = node.echo else { return Ok(()) };
    let xtask = std::env::current_exe().map_err(LabError::io("finding this program"))?;
    let mut command = Command::new(xtask);
    command.args(["lab", "echo", &at.to_string()]);
    background(init, &node.name, command, &folder.join(format!("{}.echo.log", node.name)))
}

/// Writes a configuration file of a node.
pub(crate) fn write_config(init: Pid, path: &str, config: &str) -> Result<(), LabError> {
    let path = root(init).join(&path[1..]);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(LabError::io(format!("making {}", parent.display())))?;
    }
    // keepalived refuses a configuration that others may write or execute; the defaults are neither.
    fs::write(&path, config).map_err(LabError::io(format!("writing {}", path.display())))
}

/// Starts a command whose output goes to the end of `log`, out of reach of the terminal's Ctrl-C, as a child of the node's
/// first process.
///
/// Not as a child of this one: a pid namespace ends only when all its dead have been reaped, and if this process were
/// killed that would be up to the host's first process, which in a container may never do it.
fn background(init: Pid, node: &str, mut command: Command, log: &Path) -> Result<(), LabError> {
    let open = || OpenOptions::new().create(true).append(true).open(log);
    let (out, err) = open()
        .and_then(|out| Ok((out, open()?)))
        .map_err(LabError::io(format!("opening {}", log.display())))?;
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    // SAFETY: setsid, fork and _exit are async-signal-safe; the process that forks has one thread.
    unsafe {
        command.pre_exec(|| {
            setsid()?;
            match fork()? {
                ForkResult::Parent { .. } => libc::_exit(0),
                ForkResult::Child => Ok(()),
            }
        })
    };
    let program = command.get_program().to_string_lossy().into_owned();
    // Until exec has succeeded `spawn` listens to the grandchild, so a program that is missing is an error here.
    let started = spawn_in_node(init, command).and_then(|mut between| between.wait());
    started.map(drop).map_err(|source| LabError::Start { program, node: node.to_owned(), source })
}
