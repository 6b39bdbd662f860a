//! Commands that run one after the other.

use std::time::Duration;

use tokio::{sync::mpsc, task::JoinHandle};
use tracing::{debug, warn};

use crate::track::{Outcome, Spawner, run_once};

/// So many may wait. A virtual router that changes its state more often than its commands can be run needs help.
const MOST_WAITING: usize = 64;

/// A command to be run.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) command: Vec<String>,
    pub(super) user: Option<String>,
    pub(super) timeout: Duration,
}

/// The commands of one virtual router or group.
#[derive(Debug)]
pub(super) struct Queue {
    name: String,
    jobs: mpsc::Sender<Job>,
    task: Option<JoinHandle<()>>,
    dropped: u64,
}

impl Queue {
    /// An empty queue; `name` is for the log. Call it inside a tokio runtime.
    pub(super) fn start(name: String, spawner: Spawner) -> Self {
        let (jobs, mut waiting) = mpsc::channel::<Job>(MOST_WAITING);
        let owner = name.clone();
        let task = tokio::spawn(async move {
            while let Some(job) = waiting.recv().await {
                run(&owner, &job, &spawner).await;
            }
        });
        Self { name, jobs, task: Some(task), dropped: 0 }
    }

    /// Adds a command. Never waits.
    pub(super) fn push(&mut self, job: Job) {
        if let Err(error) = self.jobs.try_send(job) {
            self.dropped += 1;
            warn!(name = %self.name, command = ?error.into_inner().command, "too many notify commands wait: dropped");
        }
    }

    /// Commands that were not run.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Waits until all have run.
    pub(super) async fn finish(mut self) {
        let (nobody, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.jobs, nobody));
        if let Some(task) = &mut self.task {
            // A panic of the task has been reported.
            let _ = task.await;
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

async fn run(name: &str, job: &Job, spawner: &Spawner) {
    let command = shlex::try_join(job.command.iter().map(String::as_str)).unwrap_or_default();
    match run_once(spawner, &job.command, job.user.as_deref(), job.timeout).await {
        Outcome::Ended { ok: true, detail, .. } => debug!(%name, %command, %detail, "notify command"),
        Outcome::Ended { ok: false, detail, .. } => warn!(%name, %command, %detail, "notify command fails"),
        Outcome::TimedOut { detail, leftover } => {
            warn!(%name, %command, %detail, "notify command killed");
            leftover.gone().await;
        }
        Outcome::Stalled { leftover, .. } => {
            warn!(%name, %command, "notify command killed: this node stood still for longer than its timeout");
            leftover.gone().await;
        }
    }
}
