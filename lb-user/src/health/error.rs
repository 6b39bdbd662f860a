//! Why a probe failed, in words for a log line and for `lb status`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    time::Duration,
};

/// Why a probe failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The backend's host answered, but nobody listens.
    #[error("connection refused")]
    Refused,
    /// The network gave an answer other than a connection.
    #[error("{stage}: {error}")]
    Network {
        /// What was being done.
        stage: ProbeStage,
        /// The kernel's words.
        error: String,
    },
    /// No answer in time.
    #[error("timeout after {} while {stage}", humantime::format_duration(*after))]
    Timeout {
        /// The configured timeout.
        after: Duration,
        /// What was being done.
        stage: ProbeStage,
    },
    /// The connection was closed before a whole response header came, or a whole body that was wanted.
    #[error("connection closed before the HTTP response was complete")]
    Closed,
    /// What came is not an HTTP response.
    #[error("not an HTTP/1.1 response: {0}")]
    NotHttp(String),
    /// Another status than asked for.
    #[error("HTTP {status}, expected {expected}")]
    Status {
        /// What came.
        status: u16,
        /// The accepted ranges, readable.
        expected: String,
    },
    /// Another body than asked for.
    #[error("the MD5 digest of the page is {found}, expected {expected}")]
    Body {
        /// Of what came, in hexadecimal digits.
        found: String,
        /// The configured one.
        expected: String,
    },
    /// The body is too long to be compared.
    #[error("the page has more than {} MB", .0 / 1_000_000)]
    LongBody(usize),
    /// No TLS session could be made.
    #[error("TLS: {0}")]
    Tls(String),
    /// The command ended with another exit status than asked for, was killed or could not be started.
    #[error("check command: {0}")]
    Command(String),
    /// A run of the command that was killed is still there.
    #[error("check command: the run before was killed and has not ended; look for a process in state D")]
    CommandStuck,
    /// The configured path or host cannot be sent.
    #[error("cannot ask for it: {0}; correct the check's `http` path or `host`")]
    Request(String),
    /// The check passes, but nobody took what was sent to the VIP at the backend's MAC.
    #[error("no answer for the VIP {vip} at {backend}: does the backend have the VIP on lo?")]
    VipSilent {
        /// The VIP and the service's port.
        vip: SocketAddrV4,
        /// The backend's address.
        backend: Ipv4Addr,
    },
    /// The check passes and the backend has the VIP, but nobody listens there.
    #[error("connection to the VIP {vip} refused at {backend}: does the server listen on the VIP?")]
    VipRefused {
        /// The VIP and the service's port.
        vip: SocketAddrV4,
        /// The backend's address.
        backend: Ipv4Addr,
    },
    /// The check passes, but the data plane has no MAC to send to. The [`Machine`](super::Machine) has some
    /// patience with it at first.
    #[error("its MAC address is not known, so nothing can be sent to it under the VIP")]
    Unresolved,
    /// This node's fault: the VIP could not be asked for. Says nothing about the backend.
    #[error("this node cannot ask for the VIP: {0}")]
    Packet(String),
    /// This node's fault: no socket to be had. Says nothing about the backend.
    #[error("this node cannot open a socket: {0}")]
    Socket(String),
    /// This node's fault: the source address is not usable. Says nothing about the backend.
    #[error("this node cannot send from {address}: {error}")]
    Source {
        /// The address asked for.
        address: IpAddr,
        /// The kernel's words.
        error: String,
    },
    /// This node's fault: it stood still (frozen, starved, suspended) while the probe was under way. Says
    /// nothing about the backend.
    #[error("this node stood still for {} during the probe", humantime::format_duration(*.0))]
    Stalled(Duration),
}

/// What a probe was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeStage {
    /// Waiting for the TCP connection.
    Connecting,
    /// Agreeing on TLS.
    Handshaking,
    /// The request is out, or on its way.
    AwaitingResponse,
}

impl std::fmt::Display for ProbeStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Handshaking => "making a TLS session",
            Self::AwaitingResponse => "waiting for the HTTP response",
        })
    }
}

impl ProbeError {
    /// Whether the failure is this node's own, so that nothing was learnt about the backend.
    pub fn is_inconclusive(&self) -> bool {
        matches!(self, Self::Packet(_) | Self::Socket(_) | Self::Source { .. } | Self::Stalled(_))
    }
}

/// An error of the kernel while connecting or talking.
pub(super) fn from_io(stage: ProbeStage, error: &io::Error) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => ProbeError::Refused,
        // What these have in common: this node is out of something.
        Some(
            libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN | libc::EADDRNOTAVAIL,
        ) => ProbeError::Socket(words(error)),
        _ => ProbeError::Network { stage, error: words(error) },
    }
}

/// The kernel's words without Rust's `(os error N)`.
pub(super) fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}
