//! The thread itself, and the control task's end of what it tells and hears.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    sync::mpsc::{TryRecvError, sync_channel},
    task::Poll,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::runtime::{self, EnterGuard, Handle};

use super::{
    engine::Engine,
    messages::{Command, Event, Report},
    queue::{Mailbox, Receiver, Sender, queue},
    realtime::{Grant, Scheduling, enter_realtime, lock_memory},
    timer::Timer,
};
use crate::{dataplane::Leases, time::Timestamp};

/// The longest the thread goes on without waiting, and how long it then waits at least: a flood of packets is not taken for
/// a thread that runs away, and leaves other work a part of the processor.
const MOST_BUSY: Duration = Duration::from_millis(100);
const BREATH: Duration = Duration::from_millis(1);
/// What takes less was no wait.
const WAITED: Duration = Duration::from_micros(50);

/// Starts the thread, punctual if the system grants it. To be called in the runtime of the task that is to hear its events.
pub fn start(leases: Leases, realtime: bool) -> io::Result<Link> {
    let memory = if realtime { lock_memory() } else { Grant::NotWanted };
    let (commands, to_thread) = queue()?;
    let (to_control, events) = queue()?;
    let (sender, started) = sync_channel(1);
    let thread = thread::Builder::new().name("lb-protocol".to_owned()).spawn(move || {
        let parts = set_up(to_thread);
        match parts {
            Ok((runtime, commands, timer)) => {
                // The receiver waits for it.
                let granted = if realtime { enter_realtime() } else { Grant::NotWanted };
                let _told = sender.send(Ok((runtime.handle().clone(), granted)));
                let engine = Engine::new(leases, to_control, Timestamp::now);
                runtime.block_on(run(engine, commands, timer));
            }
            Err(error) => drop(sender.send(Err(error))),
        }
    })?;
    let (runtime, realtime) =
        started.recv().unwrap_or_else(|_| Err(io::Error::other("the thread has ended")))?;
    Ok(Link {
        commands: Some(commands),
        events: events.open()?,
        heard: VecDeque::new(),
        runtime,
        scheduling: Scheduling { realtime, memory },
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
    let mut waited = Timestamp::now();
    loop {
        // Setting it fails for no moment there is; without it packets and commands still make turns.
        let _set = timer.set(engine.next_due());
        let before = Timestamp::now();
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
        let now = Timestamp::now();
        if now.since(before) > WAITED {
            waited = now;
        } else if now.since(waited) > MOST_BUSY {
            thread::sleep(BREATH);
            waited = Timestamp::now();
        }
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
    scheduling: Scheduling,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Tells the thread something.
    pub fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            commands.send(command);
        }
    }

    /// What the thread was granted.
    pub fn scheduling(&self) -> &Scheduling {
        &self.scheduling
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        protocol::engine::tests::{Cable, config, configure, tell},
        vrrp::Input,
    };

    #[tokio::test]
    async fn adverts_and_lease_go_on_while_the_control_task_is_stuck() {
        let leases = Leases::default();
        let mut link = start(leases.clone(), false).unwrap();
        let cable = Cable::default();
        link.send(configure(&cable, Some(Timestamp::now)));
        link.send(tell(Input::Start));
        while !matches!(link.event().await, Some(Event::BecameOwner { .. })) {}
        // Its only thread hears and says nothing for more than a lease.
        let (stuck, mut late) = (Timestamp::now() + Duration::from_secs(4), Vec::new());
        while Timestamp::now() < stuck {
            if leases.expiry(1) <= Some(Timestamp::now().0) {
                late.push(Timestamp::now());
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(late.is_empty(), "the lease ran out: {late:?}");
        let sent: Vec<Timestamp> = cable.from_node.lock().unwrap().iter().map(|(at, ..)| *at).collect();
        assert!(sent.len() >= 4, "{sent:?}");
        assert!(link.report().await.unwrap().routers[0].adverts_sent >= 4);
        assert_eq!(link.waiting().map(|event| format!("{event:?}")), None, "nothing has happened");
    }

    #[tokio::test]
    async fn link_that_is_dropped_hands_over_and_ends_the_thread() {
        let leases = Leases::default();
        let link = start(leases.clone(), false).unwrap();
        let cable = Cable::default();
        link.send(configure(&cable, Some(Timestamp::now)));
        link.send(tell(Input::Start));
        let deadline = Timestamp::now() + Duration::from_secs(30);
        while leases.expiry(1) == Some(0) {
            assert!(Timestamp::now() < deadline, "no owner");
            thread::sleep(Duration::from_millis(10));
        }
        drop(link);
        let last = cable.from_node.lock().unwrap().last().map(|(.., priority)| *priority);
        assert_eq!((last, leases.expiry(1)), (Some(0), Some(0)), "{}", config().name);
    }

    #[tokio::test]
    async fn thread_says_what_it_was_granted() {
        let link = start(Leases::default(), false).unwrap();
        let nothing = Scheduling { realtime: Grant::NotWanted, memory: Grant::NotWanted };
        assert_eq!(*link.scheduling(), nothing);
    }
}
