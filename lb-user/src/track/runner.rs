//! Runs the track scripts and sends what they said to the control task.

use std::{collections::HashMap, pin::pin, time::Duration};

use nix::unistd::geteuid;
use tokio::{sync::mpsc, task::AbortHandle};

use super::{
    command::{self, Outcome, lasts_until_due},
    spawner::Spawner,
};
use crate::{config::TrackScript, health::Schedule, time::Timestamp};

/// One run of a script is over, or it could not be started. The last result of a script that was replaced
/// by another of the same name may still be on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackEvent {
    /// The script's name.
    pub script: String,
    /// When the run was over.
    pub at: Timestamp,
    /// Whether it ended with exit status 0 in time.
    pub ok: bool,
    /// How it ended and the end of what it printed, or why it could not be started and what to do about it.
    pub detail: String,
}

/// Runs one task per script, so that a script never runs twice at once. Dropping it kills what runs.
#[derive(Debug)]
pub struct Runner {
    events: mpsc::Sender<TrackEvent>,
    spawner: Spawner,
    running: HashMap<String, Running>,
}

#[derive(Debug)]
struct Running {
    script: TrackScript,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Runner {
    /// Events go to `events`; when nobody receives them any more the scripts end by themselves. Fails when
    /// the thread that starts processes cannot be made.
    pub fn new(events: mpsc::Sender<TrackEvent>) -> std::io::Result<Self> {
        Ok(Self { events, spawner: Spawner::new()?, running: HashMap::new() })
    }

    /// Makes `scripts` the ones that run. Those that run the same command at the same times are not
    /// disturbed; the others start (at once), restart or are killed. Call it inside a tokio runtime.
    pub fn set(&mut self, scripts: &[TrackScript]) {
        let wanted: HashMap<&str, &TrackScript> = scripts.iter().map(|s| (s.name.as_str(), s)).collect();
        self.running.retain(|name, running| {
            wanted.get(name.as_str()).is_some_and(|script| same_runs(&running.script, script))
        });
        for (name, script) in wanted {
            if self.running.contains_key(name) {
                continue;
            }
            if script.user.is_none() && !geteuid().is_root() {
                tracing::info!(script = name, "lb is not root: the script runs as lb's own user");
            }
            let task = tokio::spawn(run(script.clone(), self.spawner.clone(), self.events.clone()));
            let running = Running { script: script.clone(), task: task.abort_handle() };
            self.running.insert(name.to_owned(), running);
        }
    }
}

/// `rise`, `fall` and `initially_up` are the control task's business.
fn same_runs(a: &TrackScript, b: &TrackScript) -> bool {
    a.command == b.command && a.user == b.user && (a.interval, a.timeout) == (b.interval, b.timeout)
}

async fn run(script: TrackScript, spawner: Spawner, events: mpsc::Sender<TrackEvent>) {
    let mut schedule = Schedule::new(Timestamp::now(), script.interval);
    let mut stalled = false;
    loop {
        tokio::time::sleep(schedule.next().since(Timestamp::now())).await;
        let outcome =
            command::run_once(&spawner, &script.command, script.user.as_deref(), script.timeout).await;
        let at = Timestamp::now();
        let (ok, detail, leftover) = match outcome {
            Outcome::Ended { ok, detail, .. } => (ok, detail, None),
            Outcome::TimedOut { detail, leftover } => (false, detail, Some(leftover)),
            // Once in a row: a node that cannot keep up at all must not look healthy for ever.
            Outcome::Stalled { leftover, .. } if !stalled => {
                stalled = true;
                let mut patience = Schedule::new(at + script.interval, script.interval);
                outlast(leftover.gone(), &script, &mut patience, &events).await;
                // The start that told nothing is still due.
                continue;
            }
            Outcome::Stalled { stood_still, leftover } => {
                let stood_still =
                    humantime::format_duration(Duration::from_millis(stood_still.as_millis() as u64));
                (
                    false,
                    format!("timeout: this node stood still for {stood_still} during the run"),
                    Some(leftover),
                )
            }
        };
        stalled = false;
        let event = TrackEvent { script: script.name.clone(), at, ok, detail };
        if events.send(event).await.is_err() {
            return;
        }
        schedule.advance(at);
        if let Some(leftover) = leftover {
            outlast(leftover.gone(), &script, &mut schedule, &events).await;
        }
    }
}

/// Waits until a killed run is `gone` before the next may start, and reports a failure whenever that would have been due.
async fn outlast(
    gone: impl Future<Output = ()>,
    script: &TrackScript,
    schedule: &mut Schedule,
    events: &mpsc::Sender<TrackEvent>,
) {
    let mut gone = pin!(gone);
    while let Some(at) = lasts_until_due(gone.as_mut(), schedule.next()).await {
        let detail = "the run before was killed and has not ended; look for a process in state D".to_owned();
        let event = TrackEvent { script: script.name.clone(), at, ok: false, detail };
        // If nobody receives it, the caller finds out.
        let _ = events.send(event).await;
        schedule.advance(at);
    }
}

#[cfg(test)]
mod tests;
