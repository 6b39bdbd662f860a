//! Watches processes and files, in a thread of its own: looking through `/proc` takes milliseconds.

use std::{
    io,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use tokio::sync::mpsc;

use super::{
    files::{self, Content, Folders},
    presence::Presence,
    processes::{self, Found},
};
use crate::{
    config::{TrackFile, TrackProcess},
    health::Level,
    time::Timestamp,
};

/// While enough processes run, their ends are noticed; others are looked for this often.
const LOOK: Duration = Duration::from_secs(1);
/// While too few run (or too many), they are looked for this often.
const LOOK_WHILE_DOWN: Duration = Duration::from_millis(50);
/// Files whose folder cannot be watched are read this often.
const READ: Duration = Duration::from_secs(1);

/// Something that is watched changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Enough processes run, or no longer enough.
    Process {
        /// The [`TrackProcess`]'s name.
        name: String,
        /// What it amounts to.
        level: Level,
        /// How many run.
        count: usize,
    },
    /// A file has another number.
    File {
        /// The [`TrackFile`]'s name.
        name: String,
        /// The number that counts.
        value: i64,
        /// The same in words.
        detail: String,
    },
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    wake: EventFd,
    orders: Mutex<Orders>,
}

#[derive(Debug, Default)]
struct Orders {
    /// What to watch from now on.
    new: Option<(Vec<TrackProcess>, Vec<TrackFile>)>,
    stop: bool,
}

impl Watcher {
    /// Events go to `events`. Fails when the thread or its descriptors cannot be made.
    pub fn new(events: mpsc::Sender<WatchEvent>) -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_value_and_flags(0, flags)?;
        let shared = Arc::new(Shared { wake, orders: Mutex::default() });
        let mut thread = Thread {
            shared: Arc::clone(&shared),
            events,
            folders: Folders::new()?,
            processes: Vec::new(),
            files: Vec::new(),
        };
        thread::Builder::new().name("lb-watch".into()).spawn(move || thread.run())?;
        Ok(Self { shared })
    }

    /// Makes these the ones that are watched. What is watched as before keeps its state; the others tell it at once.
    pub fn set(&self, processes: &[TrackProcess], files: &[TrackFile]) {
        self.shared.orders().new = Some((processes.to_vec(), files.to_vec()));
        self.shared.wake();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.orders().stop = true;
        self.shared.wake();
    }
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Fails only when it would wait, and then there is a wake-up already.
        let _ = self.wake.write(1);
    }
}

struct Thread {
    shared: Arc<Shared>,
    events: mpsc::Sender<WatchEvent>,
    folders: Folders,
    processes: Vec<Process>,
    files: Vec<File>,
}

struct Process {
    wanted: TrackProcess,
    found: Found,
    presence: Presence,
}

struct File {
    file: TrackFile,
    content: Option<Content>,
}

impl Thread {
    fn run(&mut self) {
        let mut broken = false;
        loop {
            let _ = self.shared.wake.read();
            let (new, stop) = {
                let mut orders = self.shared.orders();
                (orders.new.take(), orders.stop)
            };
            if stop {
                return;
            }
            if let Some((processes, files)) = new {
                self.configure(processes, files);
            }
            if let Err(error) = self.look() {
                if !std::mem::replace(&mut broken, true) {
                    tracing::warn!(%error, "/proc cannot be read: track processes are not followed");
                }
            } else {
                broken = false;
            }
            self.folders.drain();
            self.read();
            if self.events.is_closed() {
                return;
            }
            self.wait();
        }
    }

    fn configure(&mut self, processes: Vec<TrackProcess>, files: Vec<TrackFile>) {
        let mut old = std::mem::take(&mut self.processes);
        for wanted in processes {
            let known = old.iter().position(|known| known.wanted == wanted);
            self.processes.push(match known {
                Some(index) => old.swap_remove(index),
                None => Process { wanted, found: Found::default(), presence: Presence::default() },
            });
        }
        let mut old = std::mem::take(&mut self.files);
        for file in files {
            let known = old.iter().position(|known| known.file == file);
            self.files.push(match known {
                Some(index) => old.swap_remove(index),
                None => File { file, content: None },
            });
        }
    }

    /// Looks which processes run, and tells of what that changed.
    fn look(&mut self) -> io::Result<()> {
        if self.processes.is_empty() {
            return Ok(());
        }
        let mut wanted: Vec<_> =
            self.processes.iter_mut().map(|p| (&p.wanted.command, &mut p.found)).collect();
        processes::look(&mut wanted)?;
        let now = Timestamp::now();
        for process in &mut self.processes {
            let count = process.found.count();
            if process.presence.count(now, count, &process.wanted) {
                let name = process.wanted.name.clone();
                let event = WatchEvent::Process { name, level: process.presence.level(), count };
                // When nobody listens any more, the thread ends.
                let _ = self.events.blocking_send(event);
            }
        }
        Ok(())
    }

    fn read(&mut self) {
        self.folders.watch(self.files.iter().map(|file| &file.file));
        for File { file, content } in &mut self.files {
            let new = files::read(file);
            if content.as_ref() == Some(&new) {
                continue;
            }
            *content = Some(new.clone());
            let event = WatchEvent::File { name: file.name.clone(), value: new.value, detail: new.detail };
            let _ = self.events.blocking_send(event);
        }
    }

    /// Waits until something may have changed.
    fn wait(&self) {
        let now = Timestamp::now();
        let looks = self.processes.iter().map(|process| match process.presence.level() {
            Level::Up => LOOK,
            Level::Down | Level::Unknown => LOOK_WHILE_DOWN,
        });
        let due = self.processes.iter().filter_map(|process| process.presence.due()).map(|at| at.since(now));
        let reads = self.files.first().map(|_| READ);
        let timeout = looks.chain(due).chain(reads).min().map_or(PollTimeout::NONE, |timeout| {
            // Rounded up: woken too early it would look in vain.
            PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let folders = self.folders.as_fd();
        let ends = self.processes.iter().flat_map(|process| process.found.ends());
        let mut fds: Vec<_> = ends.map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN)).collect();
        fds.push(PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN));
        fds.push(PollFd::new(folders.as_fd(), PollFlags::POLLIN));
        // Interrupted or not: everything is looked at.
        let _ = poll(&mut fds, timeout);
    }
}

#[cfg(test)]
mod tests;
