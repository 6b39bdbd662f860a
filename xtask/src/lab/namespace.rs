//! Entering the namespaces of a node.
//!
//! The namespaces have no names: they are reached through `/proc/PID/ns` of the node's first process and vanish with it.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Child, Command},
    thread,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::signal::SigSet,
    unistd::Pid,
};

/// Where the programs that labs start live, also for a user whose PATH lacks the administrators' folders.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn open(pid: Pid, namespace: &str) -> io::Result<File> {
    File::open(format!("/proc/{pid}/ns/{namespace}"))
}

/// Runs `work` in a thread of its own inside the network namespace of `pid`.
///
/// Sockets opened there stay in that namespace.
pub(crate) fn within_network<T: Send>(pid: Pid, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let network = open(pid, "net")?;
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            setns(network.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        });
        match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Starts `command` in the network namespace of `pid` and otherwise here.
pub(crate) fn spawn_in_network(pid: Pid, mut command: Command) -> io::Result<Child> {
    let network = open(pid, "net")?;
    command.env("PATH", SEARCH_PATH);
    // SAFETY: between fork and exec only setns and sigprocmask are called, both async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            setns(network.as_fd(), CloneFlags::CLONE_NEWNET)?;
            unblock_signals()
        })
    };
    command.spawn()
}

/// Starts `command` in all namespaces of the node whose first process is `pid`.
///
/// The child is this process's child like any other, its identifier is the one seen from here, and it dies with the node.
pub(crate) fn spawn_in_node(pid: Pid, mut command: Command) -> io::Result<Child> {
    let processes = open(pid, "pid")?;
    let others = [
        (open(pid, "uts")?, CloneFlags::CLONE_NEWUTS),
        (open(pid, "net")?, CloneFlags::CLONE_NEWNET),
        (open(pid, "mnt")?, CloneFlags::CLONE_NEWNS),
    ];
    command.env("PATH", SEARCH_PATH).current_dir("/");
    // SAFETY: between fork and exec only setns and sigprocmask are called, both async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            for (namespace, kind) in &others {
                setns(namespace.as_fd(), *kind)?;
            }
            unblock_signals()
        })
    };
    // A process joins a pid namespace only by being born into it, and which one that is belongs to the thread that forks:
    // hence a thread to throw away.
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            setns(processes.as_fd(), CloneFlags::CLONE_NEWPID)?;
            command.spawn()
        });
        match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Undoes in a new process what its parent blocked to receive signals in order: exec keeps the mask.
pub(crate) fn unblock_signals() -> io::Result<()> {
    Ok(SigSet::empty().thread_set_mask()?)
}
