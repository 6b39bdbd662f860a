//! Starting what keeps the VIP on a node.

use std::{
    fs::{self, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::unistd::{Pid, setsid};

use super::{
    error::LabError,
    namespace::spawn_in_node,
    spec::{Daemon, NodeSpec},
    web,
};

/// Where a node's processes find the configuration of its daemon.
pub(crate) fn config_path(daemon: &Daemon) -> Option<&'static str> {
    match daemon {
        Daemon::None => None,
        Daemon::Lb { .. } => Some("/run/lab/lb.toml"),
        Daemon::Keepalived { .. } => Some("/run/lab/keepalived.conf"),
    }
}

/// The name of the daemon's processes.
pub(crate) fn process_name(daemon: &Daemon) -> Option<String> {
    match daemon {
        Daemon::None => None,
        Daemon::Lb { binary, .. } => Some(binary.file_name()?.to_string_lossy().into_owned()),
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

/// Writes the configuration and starts the daemon; `None` if the node has none.
pub(crate) fn start(folder: &Path, init: Pid, node: &NodeSpec) -> Result<Option<Child>, LabError> {
    let (Some(path), config) = (
        config_path(&node.daemon),
        match &node.daemon {
            Daemon::None => return Ok(None),
            Daemon::Lb { config, .. } | Daemon::Keepalived { config } => config,
        },
    ) else {
        return Ok(None);
    };
    write_config(init, path, config)?;
    let command = match &node.daemon {
        Daemon::None => return Ok(None),
        Daemon::Lb { binary, .. } => {
            let mut command = Command::new(binary);
            command.args(["run", "--config", path]);
            command
        }
        Daemon::Keepalived { .. } => {
            let mut command = Command::new("keepalived");
            command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file", path]);
            command
        }
    };
    background(init, &node.name, command, &log_path(folder, &node.name)).map(Some)
}

/// Installs and starts nginx; `None` if the node has none.
pub(crate) fn start_web(folder: &Path, init: Pid, node: &NodeSpec) -> Result<Option<Child>, LabError> {
    let Some(web) = &node.web else { return Ok(None) };
    web::install(&root(init), &node.name, web)?;
    background(init, &node.name, web::command(), &folder.join(format!("{}.nginx.log", node.name))).map(Some)
}

fn write_config(init: Pid, path: &str, config: &str) -> Result<(), LabError> {
    let path = root(init).join(&path[1..]);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(LabError::io(format!("making {}", parent.display())))?;
    }
    // keepalived refuses a configuration that others may write or execute; the defaults are neither.
    fs::write(&path, config).map_err(LabError::io(format!("writing {}", path.display())))
}

/// Starts a command whose output goes to the end of `log`, out of reach of the terminal's Ctrl-C.
pub(crate) fn background(init: Pid, node: &str, mut command: Command, log: &Path) -> Result<Child, LabError> {
    let open = || OpenOptions::new().create(true).append(true).open(log);
    let (out, err) = open()
        .and_then(|out| Ok((out, open()?)))
        .map_err(LabError::io(format!("opening {}", log.display())))?;
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    // SAFETY: setsid is async-signal-safe.
    unsafe { command.pre_exec(|| Ok(setsid().map(drop)?)) };
    let program = command.get_program().to_string_lossy().into_owned();
    spawn_in_node(init, command).map_err(|source| LabError::Start { program, node: node.to_owned(), source })
}
