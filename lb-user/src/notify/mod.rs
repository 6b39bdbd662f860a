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
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tracing::warn;

use self::{
    fifo::Fifo,
    queue::{Job, Queue},
};
use crate::{
    config::{HealthNotify, Notify},
    track::Spawner,
};

/// Whose state changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The virtual router of that name.
    Router(String),
    /// The group of that name.
    Group(String),
    /// The service of that name.
    Service(String),
    /// A backend of the service of that name.
    Backend(String, SocketAddr),
}

impl Subject {
    /// Keepalived's word for what it is, and its name.
    fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Router(name) => ("INSTANCE", name),
            Self::Group(name) => ("GROUP", name),
            Self::Service(name) => ("VS", name),
            Self::Backend(name, _) => ("RS", name),
        }
    }

    /// As logs name it.
    fn title(&self) -> String {
        match self {
            Self::Router(name) | Self::Group(name) | Self::Service(name) => name.clone(),
            Self::Backend(name, endpoint) => format!("{name} {endpoint}"),
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
    /// Healthy.
    Up,
    /// Not healthy.
    Down,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "MASTER",
            Self::Backup => "BACKUP",
            Self::Fault => "FAULT",
            Self::Stop => "STOP",
            Self::Up => "UP",
            Self::Down => "DOWN",
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
            // Of those `tell_health` tells.
            State::Up | State::Down => return,
        };
        let mut commands = vec![own.clone()];
        if !notify.any.is_empty() {
            let more = [kind.to_owned(), name.to_owned(), state.to_string(), priority.to_string()];
            commands.push(notify.any.iter().cloned().chain(more).collect());
        }
        for command in commands.into_iter().filter(|command| !command.is_empty()) {
            self.run(subject, Job { command, user: notify.user.clone(), timeout: notify.timeout });
        }
    }

    /// Tells of a service's or a backend's health, unless that was the last that was told of it. The FIFO, which virtual
    /// routers share, gets nothing. Call it inside a tokio runtime.
    pub fn tell_health(&mut self, subject: &Subject, is_up: bool, notify: &HealthNotify) {
        let state = if is_up { State::Up } else { State::Down };
        if self.told.insert(subject.clone(), state) == Some(state) {
            return;
        }
        let command = if is_up { &notify.up } else { &notify.down };
        if !command.is_empty() {
            let (command, user) = (command.clone(), notify.user.clone());
            self.run(subject, Job { command, user, timeout: notify.timeout });
        }
    }

    /// Forgets the health of all for which `keep` says no.
    pub fn retain_health(&mut self, keep: impl Fn(&Subject) -> bool) {
        let is_health = |state: &State| matches!(state, State::Up | State::Down);
        self.told.retain(|subject, state| !is_health(state) || keep(subject));
    }

    fn run(&mut self, subject: &Subject, job: Job) {
        let new = || Queue::start(subject.title(), self.spawner.clone());
        self.queues.entry(subject.clone()).or_insert_with(new).push(job);
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
