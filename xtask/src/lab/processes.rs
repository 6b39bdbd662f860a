//! The processes of a node, found by their pid namespace.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{error::LabError, wait::wait_until};

const FREEZE_WITHIN: Duration = Duration::from_secs(5);

/// Every process whose pid namespace is that of `init`, `init` included; empty when the node is gone.
pub(crate) fn in_namespace_of(init: Pid) -> Vec<Pid> {
    let Ok(namespace) = namespace(init) else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
        .filter(|pid| self::namespace(*pid).is_ok_and(|other| other == namespace))
        .collect()
}

fn namespace(pid: Pid) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid"))
}

/// The name of a process's executable as the kernel knows it, up to 15 bytes.
pub(crate) fn name(pid: Pid) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

/// Processor time of some processes' threads so far, by the scheduler's count: to the nanosecond, and with the softirq work that
/// the kernel did in their place unless it keeps apart what interrupts take.
pub(crate) fn processor_time(processes: &[Pid]) -> Duration {
    let threads =
        processes.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten());
    let time = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    threads.flatten().filter_map(time).sum()
}

/// The kernel's softirq daemons, one for each processor.
pub(crate) fn softirq_daemons() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
        .filter(|pid| name(*pid).is_some_and(|name| name.starts_with("ksoftirqd/")))
        .collect()
}

/// Stops every process of the namespace, as `docker pause` does: on return none of them runs.
///
/// By SIGSTOP and not by a cgroup freezer: it works the same on every machine and leaves nothing to remove.
pub(crate) fn freeze(init: Pid, node: &str) -> Result<(), LabError> {
    settle(init, Signal::SIGSTOP, &format!("every process of {node} is stopped"), |state| {
        matches!(state, Some('T' | 't' | 'Z' | 'X') | None)
    })
}

/// Undoes [`freeze`].
pub(crate) fn thaw(init: Pid, node: &str) -> Result<(), LabError> {
    settle(init, Signal::SIGCONT, &format!("every process of {node} runs again"), |state| state != Some('T'))
}

/// Sends `signal` to every thread group that is not yet `settled`, until a whole look at the namespace finds all settled:
/// a process may fork while its turn has not come.
fn settle(
    init: Pid,
    signal: Signal,
    what: &str,
    settled: impl Fn(Option<char>) -> bool,
) -> Result<(), LabError> {
    wait_until(what, FREEZE_WITHIN, || {
        let mut all = true;
        for pid in in_namespace_of(init) {
            if !threads(pid).all(|thread| settled(state(&thread))) {
                all = false;
                // It may have ended since.
                let sent = kill(pid, signal);
                debug_assert!(matches!(sent, Ok(()) | Err(Errno::ESRCH)), "{sent:?}");
            }
        }
        all.then_some(())
    })
}

/// Whether a process is stopped by a signal.
pub(crate) fn is_stopped(pid: Pid) -> bool {
    state(Path::new(&format!("/proc/{pid}"))) == Some('T')
}

/// Whether a process exists and a thread of it is more than a zombie. A leader is a zombie before its other threads have
/// ended, and they hold its sockets.
pub(crate) fn is_running(pid: Pid) -> bool {
    threads(pid).any(|thread| !matches!(state(&thread), None | Some('Z' | 'X')))
}

fn threads(pid: Pid) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The state letter of proc(5) of a process or thread; `None` if it is gone.
fn state(thread: &Path) -> Option<char> {
    let stat = fs::read_to_string(thread.join("stat")).ok()?;
    // The name before it is in parentheses and may itself hold some.
    stat[stat.rfind(')')? + 1..].trim_start().chars().next()
}
