//! One daemon per node.

use std::{
    io,
    os::linux::net::SocketAddrExt,
    os::unix::net::{SocketAddr, UnixListener, UnixStream},
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// The name of the abstract socket that stands for "lb runs on this node".
const NAME: &[u8] = b"lb-daemon";

/// Held by the daemon of a node for as long as it lives.
///
/// Abstract sockets belong to a network namespace, and so does everything two daemons would fight over
/// (addresses, XDP attachments, VRRP), whatever folders each was told to use. The kernel lets go of it when
/// the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct NodeLock {
    _listener: UnixListener,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NodeLockError {
    /// Somebody has it.
    #[error("another lb{} already runs on this node; it goes on undisturbed. Use `lb status` to see it, `lb reload` to give it a new configuration",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Taken {
        /// The process, if it can be named from here.
        pid: Option<i32>,
    },
    /// Something else is wrong.
    #[error("cannot take the lock of this node: {0}")]
    Io(#[from] io::Error),
}

impl NodeLock {
    /// Takes the lock of the network namespace this process is in.
    pub(crate) fn take() -> Result<Self, NodeLockError> {
        let address = SocketAddr::from_abstract_name(NAME)?;
        match UnixListener::bind_addr(&address) {
            Ok(listener) => Ok(Self { _listener: listener }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(NodeLockError::Taken { pid: holder(&address) })
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn holder(address: &SocketAddr) -> Option<i32> {
    let stream = UnixStream::connect_addr(address).ok()?;
    // 0 stands for a process outside our pid namespace.
    getsockopt(&stream, PeerCredentials).ok().map(|peer| peer.pid()).filter(|pid| *pid > 0)
}
