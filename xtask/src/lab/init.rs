//! The first process of a node: prepares its namespaces, then reaps. When it dies, the kernel ends the node.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::error::LabError;

/// What the supervisor tells a node's first process, on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// The host name.
    pub(crate) name: String,
    /// Whether it forwards IPv4 packets.
    pub(crate) forwarding: bool,
    /// Whether it has IPv6.
    pub(crate) ipv6: bool,
}

/// Written to standard output when the node is ready for its network.
pub(crate) const READY: &str = "ready";

/// How long processes that were asked to end may take.
const GRACE: Duration = Duration::from_millis(1500);

/// Runs as process 1 of new network, mount, pid and uts namespaces.
pub(crate) fn run() -> Result<(), LabError> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(LabError::io("reading orders"))?;
    // No orders at all: the supervisor died before it could give them.
    let orders: Orders = serde_json::from_str(&text)
        .map_err(|error| LabError::Unexpected { what: "an order".to_owned(), detail: error.to_string() })?;

    // Blocked before anything is started: a signal nobody handles never reaches process 1 of a namespace, a blocked one does.
    let signals = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM]);
    signals.thread_block().map_err(LabError::sys("blocking signals"))?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)
        .map_err(LabError::sys("opening a signal descriptor"))?;

    let prepared = prepare(&orders);
    let mut out = io::stdout();
    if let Err(error) = prepared {
        // The supervisor listens to this line; nobody need listen to standard error.
        let _ = writeln!(out, "{}", error.to_string().replace('\n', " "));
        return Err(error);
    }
    writeln!(out, "{READY}").and_then(|()| out.flush()).map_err(LabError::io("reporting"))?;

    loop {
        let signal = signals.read_signal().map_err(LabError::sys("waiting for signals"))?;
        reap();
        if signal.is_some_and(|info| info.ssi_signo == Signal::SIGTERM as u32) {
            end_everything();
            return Ok(());
        }
    }
}

fn prepare(orders: &Orders) -> Result<(), LabError> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(LabError::sys(
        "making mounts private (the root folder must be a mount point, which it is not in a chroot)",
    ))?;
    // /proc for this pid namespace, /sys for this network namespace; /run and the bpffs so that two nodes' daemons can use
    // the same paths.
    mount_new("proc", "/proc", None)?;
    fs::write("/proc/sys/kernel/hostname", &orders.name).map_err(LabError::io("setting the host name"))?;
    mount_new("sysfs", "/sys", None)?;
    mount_new("bpf", "/sys/fs/bpf", Some("mode=700"))?;
    mount_new("tmpfs", "/run", Some("mode=755"))?;
    fs::create_dir("/run/lock").map_err(LabError::io("making /run/lock"))?;
    // Unless asked for IPv4 only: no router solicitations among the measured packets.
    let ipv6_off = if orders.ipv6 { "0" } else { "1" };
    for scope in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
        if Path::new(&path).exists() {
            fs::write(&path, ipv6_off).map_err(LabError::io(format!("writing {path}")))?;
        }
    }
    if orders.ipv6 && orders.forwarding {
        let path = "/proc/sys/net/ipv6/conf/all/forwarding";
        fs::write(path, "1").map_err(LabError::io(format!("writing {path}")))?;
    }
    let path = "/proc/sys/net/ipv4/ip_forward";
    fs::write(path, if orders.forwarding { "1" } else { "0" })
        .map_err(LabError::io(format!("writing {path}")))
}

fn mount_new(kind: &str, at: &str, options: Option<&str>) -> Result<(), LabError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(kind), at, Some(kind), flags, options)
        .map_err(LabError::sys(format!("mounting {kind} at {at}")))
}

fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

/// Asks all other processes to end and returns when they have, or when they take too long: what is left then ends with
/// this process.
fn end_everything() {
    let start = Instant::now();
    let mut answer = kill(Pid::from_raw(-1), Signal::SIGTERM);
    while answer != Err(Errno::ESRCH) && start.elapsed() < GRACE {
        std::thread::sleep(Duration::from_millis(10));
        reap();
        answer = kill(Pid::from_raw(-1), None);
    }
}
