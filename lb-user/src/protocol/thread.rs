//! The thread itself, and the control task's end of what it tells and hears.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    sync::mpsc::{TryRecvError, sync_channel},
    task::Poll,
    thread::{self, JoinHandle},
};

use tokio::runtime::{self, EnterGuard, Handle};

use super::{
    engine::Engine,
    messages::{Command, Event, Report},
    queue::{Mailbox, Receiver, Sender, queue},
    timer::Timer,
};
use crate::{dataplane::Leases, time::Timestamp};

/// Starts the thread. To be called in the runtime of the task that is to hear its events.
pub fn start(leases: Leases) -> io::Result<Link> {
    let (commands, to_thread) = queue()?;
    let (to_control, events) = queue()?;
    let (sender, started) = sync_channel(1);
    let thread = thread::Builder::new().name("lb-protocol".to_owned()).spawn(move || {
        let parts = set_up(to_thread);
        match parts {
            Ok((runtime, commands, timer)) => {
                // The receiver waits for it.
                let _told = sender.send(Ok(runtime.handle().clone()));
                let engine = Engine::new(leases, to_control, Timestamp::now);
                runtime.block_on(run(engine, commands, timer));
            }
            Err(error) => drop(sender.send(Err(error))),
        }
    })?;
    let runtime = started.recv().unwrap_or_else(|_| Err(io::Error::other("the thread has ended")))?;
    Ok(Link {
        commands: Some(commands),
        events: events.open()?,
        heard: VecDeque::new(),
        runtime,
        thread: Some(thread),
    })
}

fn set_up(commands: Mailbox<Command>) -> io::Result<(runtime::Runtime, Receiver<Command>, Timer)> {
    // No timers of tokio's: they count milliseconds.
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let inside = runtime.enter();
    let (commands, timer) = (commands.open()?, Timer::new()?);
    drop(inside);
    Ok((runtime, commands, timer))
}

/// Waits, and does what is due, until everything is handed over. When the control task is gone without having said stop,
/// it has panicked: its VIPs are handed over just the same.
async fn run(mut engine: Engine, mut commands: Receiver<Command>, mut timer: Timer) {
    loop {
        // Setting it fails for no moment there is; without it packets and commands still make turns.
        let _set = timer.set(engine.next_due());
        poll_fn(|context| {
            // Each is asked, so that each wakes.
            let ready = [
                commands.poll_rung(context).is_ready(),
                timer.poll_expired(context).is_ready(),
                engine.poll_readable(context).is_ready(),
            ];
            if ready.contains(&true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        loop {
            match commands.try_recv() {
                Ok(command) => engine.command(command),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    engine.command(Command::Stop);
                    break;
                }
            }
        }
        engine.turn();
        if engine.has_ended() {
            return;
        }
    }
}

/// The control task's end. Dropped, it hands the VIPs over and waits until the thread has ended.
#[derive(Debug)]
pub struct Link {
    /// There until it is dropped.
    commands: Option<Sender<Command>>,
    events: Receiver<Event>,
    /// Events that came while a report was waited for.
    heard: VecDeque<Event>,
    runtime: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Tells the thread something.
    pub fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            commands.send(command);
        }
    }

    /// Sockets opened while this is held belong to the thread's runtime, which hears of their packets.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Waits for an event; `None` when the thread is gone. Cancel safe.
    pub async fn event(&mut self) -> Option<Event> {
        match self.heard.pop_front() {
            Some(event) => Some(event),
            None => self.events.recv().await,
        }
    }

    /// Asks how things stand; `None` when the thread is gone. Events that came before the answer are the next that
    /// [`event`](Self::event) returns.
    pub async fn report(&mut self) -> Option<Report> {
        self.send(Command::Report);
        loop {
            match self.events.recv().await? {
                Event::Report(report) => return Some(report),
                event => self.heard.push_back(event),
            }
        }
    }

    /// An event that has come already.
    pub fn waiting(&mut self) -> Option<Event> {
        self.heard.pop_front()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.commands = None;
        // A panic there was logged as it happened.
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}
