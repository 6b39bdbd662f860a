//! One run of one command.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    pin::Pin,
    process::ExitStatus,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt;

use super::{
    process::{Ends, Process},
    spawner::Spawner,
};
use crate::time::Timestamp;

/// How much of the end of a script's output is kept.
const TAIL: usize = 512;

/// How much output is read after the script is over; the rest is not for us.
const MAX_REST: usize = 64 * 1024;

/// How a run went.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ended by itself, or could not be started. `code` is its exit status, if it has one.
    Ended { ok: bool, code: Option<i32>, detail: String },
    /// It was killed for taking too long; it is not over until [`Leftover::gone`].
    TimedOut { detail: String, leftover: Leftover },
    /// It was killed for taking too long, but it was this node that stood still meanwhile: nothing was
    /// learnt.
    Stalled { stood_still: Duration, leftover: Leftover },
}

/// A killed process on its way out.
#[derive(Debug)]
pub(crate) struct Leftover {
    process: Process,
    ends: Ends,
}

impl Leftover {
    /// Waits until it is gone. That takes long only if the kernel holds it (a dead NFS server, a broken
    /// disk).
    pub(crate) async fn gone(self) {
        // Whatever the status, it is over.
        let _ = self.process.collect(&self.ends).await;
    }
}

/// Waits until a killed process is `gone` (`None`), but no longer than until its next run would have been due (when that
/// was). Whoever asks reports a failure then: a process that the kernel does not let go must not leave anybody looking healthy.
pub(crate) async fn lasts_until_due(
    gone: Pin<&mut impl Future<Output = ()>>,
    due: Timestamp,
) -> Option<Timestamp> {
    tokio::select! {
        biased;
        () = gone => None,
        () = tokio::time::sleep(due.since(Timestamp::now())) => Some(Timestamp::now()),
    }
}

/// Runs `command` once as `user`, for `timeout` at most.
pub(crate) async fn run_once(
    spawner: &Spawner,
    command: &[String],
    user: Option<&str>,
    timeout: Duration,
) -> Outcome {
    let failed = |detail: String| Outcome::Ended { ok: false, code: None, detail };
    let start = spawner.start(command, user);
    let mut process = match tokio::time::timeout(timeout, start).await {
        Ok(Ok(process)) => process,
        Ok(Err(error)) => return failed(error.to_string()),
        Err(_) => {
            let timeout = humantime::format_duration(timeout);
            return failed(format!(
                "not started after {timeout}; is this node short of memory, or its user database slow?"
            ));
        }
    };
    let mut ends = match process.ends() {
        Ok(ends) => ends,
        Err(error) => return failed(format!("cannot watch the process: {error}")),
    };
    let mut tail = Tail::default();
    let started = Instant::now();
    match tokio::time::timeout(timeout, watch(&mut ends, &mut tail)).await {
        Ok(Ok(())) => match process.collect(&ends).await {
            Ok(status) => {
                let detail = tail.after(&describe(status));
                Outcome::Ended { ok: status.success(), code: status.code(), detail }
            }
            Err(error) => failed(format!("cannot wait for the process: {error}")),
        },
        Ok(Err(error)) => failed(format!("cannot watch the process: {error}")),
        Err(_) => {
            process.kill();
            let leftover = Leftover { process, ends };
            let late = started.elapsed().saturating_sub(timeout);
            // A timer that fires much too late means that we slept, not that the script did.
            if late > timeout.max(Duration::from_millis(100)) {
                return Outcome::Stalled { stood_still: late, leftover };
            }
            let timeout = humantime::format_duration(timeout);
            Outcome::TimedOut { detail: tail.after(&format!("timeout after {timeout}")), leftover }
        }
    }
}

/// Reads what the script prints until the script is over. Something it left running may hold the pipe open:
/// its end is not waited for.
async fn watch(ends: &mut Ends, tail: &mut Tail) -> io::Result<()> {
    let mut buffer = [0; 1024];
    let mut open = true;
    while open {
        tokio::select! {
            over = ends.over.readable() => {
                over?.retain_ready();
                break;
            }
            read = ends.output.read(&mut buffer) => match read? {
                0 => open = false,
                length => tail.push(&buffer[..length]),
            },
        }
    }
    ends.over().await?;
    let mut rest = 0;
    while let Ok(length @ 1..) = ends.output.try_read(&mut buffer) {
        tail.push(&buffer[..length]);
        rest += length;
        if rest > MAX_REST {
            break;
        }
    }
    Ok(())
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(name) => format!("killed by {name}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        (None, None) => status.to_string(),
    }
}

/// The last bytes of what was printed.
#[derive(Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if let Some(excess @ 1..) = self.bytes.len().checked_sub(TAIL) {
            self.bytes.drain(..excess);
            self.cut = true;
        }
    }

    /// `verdict`, followed by the output on one line without control characters.
    fn after(&self, verdict: &str) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let lines: Vec<&str> =
            text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return verdict.to_owned();
        }
        let mut detail = format!("{verdict}: {}", if self.cut { "…" } else { "" });
        for c in lines.join(" | ").chars() {
            if c.is_control() { detail.extend(c.escape_default()) } else { detail.push(c) }
        }
        detail
    }
}
