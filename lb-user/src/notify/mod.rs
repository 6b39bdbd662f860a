//! Telling others of changes of state: commands and a FIFO, with keepalived's words, so that what was written for it goes on
//! working.
//!
//! The commands of one virtual router (or group) run one after the other, in the order of the changes. The control task
//! waits for none of them.

mod fifo;
mod queue;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tracing::warn;

use self::{
    fifo::Fifo,
    queue::{Job, Queue},
};
use crate::{config::Notify, track::Spawner};

/// Whose state changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The virtual router of that name.
    Router(String),
    /// The group of that name.
    Group(String),
}

impl Subject {
    /// Keepalived's word for what it is, and its name.
    fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Router(name) => ("INSTANCE", name),
            Self::Group(name) => ("GROUP", name),
        }
    }
}

/// A state, as those who are told see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Owner of the VIPs.
    Master,
    /// Not owner.
    Backup,
    /// Unfit to be owner.
    Fault,
    /// Takes part no more.
    Stop,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "MASTER",
            Self::Backup => "BACKUP",
            Self::Fault => "FAULT",
            Self::Stop => "STOP",
        })
    }
}

/// Runs the commands and writes to the FIFO. Dropping it kills what runs.
#[derive(Debug)]
pub struct Notifier {
    spawner: Spawner,
    fifo: Option<Fifo>,
    queues: BTreeMap<Subject, Queue>,
    told: BTreeMap<Subject, State>,
}

impl Notifier {
    /// A notifier that has told nobody anything. Fails when the thread that starts processes cannot be made. A FIFO that
    /// cannot be made or opened is tried again with each change; until then its lines are dropped.
    pub fn new(fifo: Option<&Path>) -> io::Result<Self> {
        Ok(Self {
            spawner: Spawner::new()?,
            fifo: fifo.map(|path| Fifo::new(PathBuf::from(path))),
            queues: BTreeMap::new(),
            told: BTreeMap::new(),
        })
    }

    /// Tells of a state, unless it was the last that was told of this subject. Call it inside a tokio runtime.
    pub fn tell(&mut self, subject: &Subject, state: State, priority: u8, notify: &Notify) {
        if self.told.insert(subject.clone(), state) == Some(state) {
            return;
        }
        let (kind, name) = subject.words();
        if let Some(fifo) = &mut self.fifo {
            fifo.write(&format!("{kind} \"{name}\" {state} {priority}\n"));
        }
        let own = match state {
            State::Master => &notify.owner,
            State::Backup => &notify.backup,
            State::Fault => &notify.fault,
            State::Stop => &notify.stop,
        };
        let mut commands = vec![own.clone()];
        if !notify.any.is_empty() {
            let more = [kind.to_owned(), name.to_owned(), state.to_string(), priority.to_string()];
            commands.push(notify.any.iter().cloned().chain(more).collect());
        }
        for command in commands.into_iter().filter(|command| !command.is_empty()) {
            let job = Job { command, user: notify.user.clone(), timeout: notify.timeout };
            let new = || Queue::start(subject.words().1.to_owned(), self.spawner.clone());
            self.queues.entry(subject.clone()).or_insert_with(new).push(job);
        }
    }

    /// Forgets a subject that is no more; the commands that wait are still run.
    pub fn forget(&mut self, subject: &Subject) {
        self.told.remove(subject);
    }

    /// Lines and commands that were dropped because nobody took them.
    pub fn dropped(&self) -> u64 {
        let fifo = self.fifo.as_ref().map_or(0, Fifo::dropped);
        fifo + self.queues.values().map(Queue::dropped).sum::<u64>()
    }

    /// Why lines are not written to the FIFO at the moment.
    pub fn problem(&self) -> Option<&str> {
        self.fifo.as_ref().and_then(Fifo::problem)
    }

    /// Waits until all commands have run, for so long at most; what runs then is killed.
    pub async fn finish(&mut self, limit: Duration) {
        let queues = std::mem::take(&mut self.queues);
        let all = async {
            for queue in queues.into_values() {
                queue.finish().await;
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            warn!("notify commands were still running and have been killed");
        }
    }
}

#[cfg(test)]
mod tests;
