//! The daemon's side: it starts the guardian, gives it its orders, and starts another when it dies.

use std::{io, os::fd::OwnedFd, os::unix::net::UnixStream as StdStream, process::Stdio, time::Duration};

use tokio::{
    io::AsyncWriteExt as _,
    net::UnixStream,
    process::{Child, Command},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, warn};

use super::orders::{Message, RouterOrders};

/// This executable, also when the file it was started from has been replaced.
const EXECUTABLE: &str = "/proc/self/exe";

/// From one start to the next at least.
const BETWEEN_STARTS: Duration = Duration::from_secs(1);

/// How long a guardian may take to end that has nothing left to do.
const END: Duration = Duration::from_millis(500);

/// What the operator sees.
#[derive(Clone, Debug, Default)]
pub(crate) struct GuardianState {
    /// Its process, if there is one.
    pub(crate) pid: Option<u32>,
    /// Guardians that died, or could not be started.
    pub(crate) lost: u64,
    /// How the last one was lost.
    pub(crate) reason: String,
}

/// A handle on the task that keeps a guardian.
#[derive(Debug)]
pub(crate) struct Keeper {
    orders: watch::Sender<Vec<RouterOrders>>,
    state: watch::Receiver<GuardianState>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Starts a guardian of the leases behind a descriptor of `LEASES`; within a tokio runtime. `json_log`: it logs as JSON.
    pub(crate) fn start(leases: OwnedFd, json_log: bool) -> Self {
        let (orders, receiver) = watch::channel(Vec::new());
        let (sender, state) = watch::channel(GuardianState::default());
        let (stop, stopped) = oneshot::channel();
        let task = Task { leases, json_log, orders: receiver, state: sender };
        Self { orders, state, stop, task: tokio::spawn(task.keep(stopped)) }
    }

    /// Tells it what it would have to do from now on.
    pub(crate) fn order(&self, orders: Vec<RouterOrders>) {
        self.orders.send_replace(orders);
    }

    /// How it is.
    pub(crate) fn state(&self) -> GuardianState {
        self.state.borrow().clone()
    }

    /// Says that everything is handed over and cleaned up, and waits until the guardian has ended.
    pub(crate) async fn stop(self) {
        // Neither fails but for a task that has panicked, and then the process has ended.
        let _heard = self.stop.send(());
        let _ended = self.task.await;
    }
}

#[derive(Debug)]
struct Task {
    leases: OwnedFd,
    json_log: bool,
    orders: watch::Receiver<Vec<RouterOrders>>,
    state: watch::Sender<GuardianState>,
}

impl Task {
    async fn keep(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let started = Instant::now();
            let loss = match self.start() {
                Ok(mut guardian) => {
                    self.state.send_modify(|state| state.pid = guardian.child.id());
                    tokio::select! {
                        loss = guardian.serve(&mut self.orders) => loss,
                        stop = &mut stopped => {
                            if stop.is_ok() {
                                guardian.end().await;
                            }
                            return;
                        }
                    }
                }
                Err(error) => format!("it cannot be started: {error}"),
            };
            self.lost(loss);
            tokio::select! {
                () = sleep_until(started + BETWEEN_STARTS) => {}
                _ = &mut stopped => return,
            }
        }
    }

    fn lost(&self, reason: String) {
        self.state.send_modify(|state| {
            state.lost += 1;
            if state.lost.is_power_of_two() {
                warn!(
                    lost = state.lost,
                    "no guardian watches over this daemon, another is started: {reason}"
                );
            }
            (state.pid, state.reason) = (None, reason);
        });
    }

    fn start(&self) -> io::Result<Guardian> {
        let (near, far) = StdStream::pair()?;
        near.set_nonblocking(true)?;
        let mut command = Command::new(EXECUTABLE);
        command.arg0("lb-guardian").args(["guardian", "--daemon", &std::process::id().to_string()]);
        if self.json_log {
            command.arg("--json-log");
        }
        command.stdin(OwnedFd::from(far)).stdout(Stdio::from(self.leases.try_clone()?)).current_dir("/");
        Ok(Guardian { child: command.spawn()?, orders: UnixStream::from_std(near)? })
    }
}

#[derive(Debug)]
struct Guardian {
    child: Child,
    orders: UnixStream,
}

impl Guardian {
    /// Passes orders on until it dies; how it died.
    async fn serve(&mut self, orders: &mut watch::Receiver<Vec<RouterOrders>>) -> String {
        orders.mark_changed();
        loop {
            tokio::select! {
                status = self.child.wait() => return match status {
                    Ok(status) => format!("it ended: {status}"),
                    Err(error) => error.to_string(),
                },
                sent = pass_on(&mut self.orders, orders) => if let Err(error) = sent {
                    // It is about to end, or will be without orders.
                    debug!("orders for the guardian: {error}");
                    return match self.child.wait().await {
                        Ok(status) => format!("it ended: {status}"),
                        Err(error) => error.to_string(),
                    };
                }
            }
        }
    }

    async fn end(mut self) {
        let ended = async {
            self.orders.write_all(&Message::CleanStop.line()).await?;
            self.child.wait().await
        };
        match timeout(END, ended).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => debug!("the guardian was gone before the end: {error}"),
            Err(_) => warn!("the guardian does not end"),
        }
    }
}

/// Waits for new orders and passes them on. Not cancel safe: who stops it half way has a guardian that is dead.
async fn pass_on(stream: &mut UnixStream, orders: &mut watch::Receiver<Vec<RouterOrders>>) -> io::Result<()> {
    // Fails when nobody will give orders any more.
    if orders.changed().await.is_err() {
        return std::future::pending().await;
    }
    let message = Message::Orders(orders.borrow_and_update().clone());
    stream.write_all(&message.line()).await
}
