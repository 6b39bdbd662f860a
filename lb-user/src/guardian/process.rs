//! The process: it sleeps until the daemon is dead.

use std::{
    future::pending,
    io,
    os::fd::{AsFd as _, OwnedFd},
    os::unix::net::UnixStream as StdStream,
    time::Duration,
};

use nix::unistd::getppid;
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::UnixStream,
    time::timeout,
};
use tracing::{debug, info, warn};

use super::{
    leave::{Router, leave},
    orders::{Inbox, Message},
    presence::Presence,
    survival,
};
use crate::{dataplane::Leases, pidfd::pidfd_open};

/// Once the daemon is known to be dead, what it said last is read for so long at most: a process that it forked may hold
/// the other end open.
const LAST_WORDS: Duration = Duration::from_millis(5);

/// Once the daemon's end is closed its death follows in so long, or else it lives and has let go of this guardian.
const DEATH: Duration = Duration::from_secs(1);

/// Why a guardian cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum GuardianError {
    /// Somebody started it by hand.
    #[error("`lb guardian` is started by `lb run`, which gives it a socket and a map: {0}")]
    NotStartedByDaemon(#[source] io::Error),
    /// The process cannot be set up.
    #[error("the guardian cannot wait for events: {0}")]
    Process(#[source] io::Error),
    /// What the daemon says makes no sense.
    #[error("the daemon's orders cannot be read: {0}")]
    Orders(#[source] io::Error),
}

/// How the daemon's orders ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It has stopped and there is nothing left to do.
    CleanStop,
    /// Its end of the socket is closed, or nothing more is to come.
    Silence,
}

/// Watches over the daemon of process number `daemon`, and leaves in its place when it has died.
///
/// Standard input is the socket that orders come by, standard output the descriptor of `LEASES`: so `std` starts the
/// process without copying the page tables of a large daemon.
pub fn run(daemon: u32) -> Result<(), GuardianError> {
    let orders = io::stdin().as_fd().try_clone_to_owned().map_err(GuardianError::NotStartedByDaemon)?;
    let leases = Leases::map(io::stdout().as_fd()).map_err(GuardianError::NotStartedByDaemon)?;
    survival::prepare();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(GuardianError::Process)?.block_on(watch(daemon, orders, &leases))
}

async fn watch(daemon: u32, orders: OwnedFd, leases: &Leases) -> Result<(), GuardianError> {
    let orders = StdStream::from(orders);
    orders.set_nonblocking(true).map_err(GuardianError::NotStartedByDaemon)?;
    let mut inbox = Inbox::new(UnixStream::from_std(orders).map_err(GuardianError::NotStartedByDaemon)?);
    let _presence = Presence::announce()
        .inspect_err(|error| warn!("a new lb will not wait until this guardian has finished: {error}"));
    let death = Death::of(daemon);
    let mut routers = Vec::new();
    let heard = tokio::select! {
        biased;
        end = listen(&mut inbox, &mut routers) => Some(end),
        () = death.comes() => None,
    };
    let end = match heard {
        Some(end) => end?,
        None => timeout(LAST_WORDS, listen(&mut inbox, &mut routers)).await.unwrap_or(Ok(End::Silence))?,
    };
    if end == End::CleanStop {
        return Ok(());
    }
    if death.can_be_seen() && timeout(DEATH, death.comes()).await.is_err() {
        info!("lb (pid {daemon}) lives and has let go of this guardian");
        return Ok(());
    }
    leave(daemon, routers, leases).await;
    Ok(())
}

/// Takes orders until there will be none. Cancel safe.
async fn listen(inbox: &mut Inbox, routers: &mut Vec<Router>) -> Result<End, GuardianError> {
    loop {
        match inbox.next().await.map_err(GuardianError::Orders)? {
            Some(Message::Orders(orders)) => *routers = orders.into_iter().map(Router::new).collect(),
            Some(Message::CleanStop) => return Ok(End::CleanStop),
            None => return Ok(End::Silence),
        }
    }
}

/// The daemon's death, which the end of the socket cannot tell where the daemon has forked.
#[derive(Debug)]
enum Death {
    /// Readable when it comes.
    Seen(AsyncFd<OwnedFd>),
    /// It has come.
    Over,
    /// The kernel does not say: the socket has to do.
    Unseen,
}

impl Death {
    fn of(daemon: u32) -> Self {
        let pidfd = pidfd_open(daemon);
        // Asked afterwards: only as long as it is the parent the number is certainly its own.
        if getppid().as_raw().cast_unsigned() != daemon {
            return Self::Over;
        }
        // SAFETY: an `OwnedFd` names the same open file until it is dropped, and nothing else closes it.
        let seen = pidfd.and_then(|pidfd| unsafe {
            AsyncFd::register_with_interest(pidfd, Interest::READABLE).map_err(Into::into)
        });
        seen.map_or_else(
            |error| {
                debug!("the guardian goes without a descriptor of the daemon's process: {error}");
                Self::Unseen
            },
            Self::Seen,
        )
    }

    fn can_be_seen(&self) -> bool {
        !matches!(self, Self::Unseen)
    }

    async fn comes(&self) {
        match self {
            Self::Seen(pidfd) => drop(pidfd.readable().await),
            Self::Over => {}
            Self::Unseen => pending().await,
        }
    }
}
