//! How a new daemon finds the guardian of its predecessor, and waits until it has finished: what the guardian takes off the
//! node must not be what the new daemon has just put there.

use std::{
    io,
    os::linux::net::SocketAddrExt,
    os::unix::net::{SocketAddr, UnixListener, UnixStream as StdStream},
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{getsockopt, sockopt::PeerCredentials},
    },
    unistd::Pid,
};
use tokio::{io::AsyncReadExt as _, net::UnixStream, time::timeout};
use tracing::{info, warn};

/// The abstract socket of the guardian of a network namespace.
const NAME: &[u8] = b"lb-guardian";

/// How long a predecessor's guardian may still be at work.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a process may take to end that was killed.
const END: Duration = Duration::from_millis(500);

/// Held by a guardian for as long as it lives. Nobody is ever accepted: who connects learns of its end.
#[derive(Debug)]
pub(super) struct Presence {
    _listener: UnixListener,
}

impl Presence {
    pub(super) fn announce() -> io::Result<Self> {
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(NAME)?)?;
        Ok(Self { _listener: listener })
    }
}

/// A guardian that was there before this daemon.
#[derive(Debug)]
pub(crate) struct Predecessor {
    stream: Option<StdStream>,
}

impl Predecessor {
    /// Looks for one. The caller holds the lock of the node, so that it is not a living daemon's.
    pub(crate) fn find() -> Self {
        let stream = SocketAddr::from_abstract_name(NAME).and_then(|name| StdStream::connect_addr(&name));
        Self { stream: stream.ok() }
    }

    /// Waits until it has ended. One that takes too long (somebody stopped it) is killed.
    pub(crate) async fn ended(self) {
        let Some(stream) = self.stream else { return };
        // 0 stands for a process outside our pid namespace.
        let pid = getsockopt(&stream, PeerCredentials).map_or(0, |peer| peer.pid());
        let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
        let Ok(mut stream) = stream else { return };
        info!(pid, "the guardian of an earlier lb is at work");
        // End of file or a reset: either way it is gone.
        let mut nothing = [0];
        if timeout(PATIENCE, stream.read(&mut nothing)).await.is_ok() {
            return;
        }
        warn!(pid, "the guardian of an earlier lb does not end and is killed");
        if pid > 0 {
            // It lives, or the stream had ended: the number is still its own.
            let _fails_if_it_ended_just_now = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ended = timeout(END, stream.read(&mut nothing)).await;
    }
}
