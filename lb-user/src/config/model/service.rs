//! Services, their backends and checks.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::config::ports::Ports;

/// The transport protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
}

impl Protocol {
    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl Protocol {
    /// The protocol of an IP protocol number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// VIP address + ports + protocol, and who serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The name in logs and status.
    pub name: String,
    /// Usually a VIP of a virtual router; if not, this node always answers for it.
    pub vip: IpAddr,
    /// What clients connect to.
    pub ports: Ports,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// This node serves the VIP for directors elsewhere: it has the VIP, but never answers for it. Never set where a
    /// virtual router owns the VIP; all services of a VIP agree.
    pub backend_only: bool,
    /// Slots of the Maglev ring; a prime. Default 65,537.
    pub ring_size: u32,
    /// For how long a packet of an unknown flow in a slot that changed hands is taken for one of an old connection.
    /// Default 60 s.
    pub learning_window: Duration,
    /// How long a remembered flow may be silent until it is forgotten; at least the learning window. Default 15 min for
    /// TCP, 1 min (or the learning window, if that is longer) for UDP.
    pub flow_timeout: Duration,
    /// The check every backend gets unless it has its own; `None`: always up.
    pub check: Option<Check>,
    /// The sum of weights that healthy backends must have; while it is missed, those marked `backup` serve. Default 1.
    pub quorum: u32,
    /// Whom to tell when it reaches its quorum and when it misses it.
    pub notify: HealthNotify,
    /// Never empty; (address, port) pairs are unique.
    pub backends: Vec<Backend>,
}

/// A backend of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Of the VIP's family, except with `ipip`, `gue` and `local`.
    pub address: IpAddr,
    /// The port it listens on: the service's port, except with `nat`; 0: the one the client chose, where the service
    /// has several.
    pub port: u16,
    /// How packets get there. An address of this node itself is always served by [`Mode::Local`].
    pub mode: Mode,
    /// Share of the ring, 0–65,535; 0: no new flows. Default 1.
    pub weight: u32,
    /// How its health is known; `None`: always up.
    pub check: Option<Check>,
    /// It serves only while the others miss the quorum.
    pub backup: bool,
    /// While it is down it keeps the connections that it has.
    pub keep_connections: bool,
    /// Whom to tell when it goes up and down.
    pub notify: HealthNotify,
}

/// Commands that are told of health. Each is a program and its arguments; empty: none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthNotify {
    /// Run when it goes up, and when it is known to be up for the first time.
    pub up: Vec<String>,
    /// Run when it goes down, and when it is known to be down for the first time.
    pub down: Vec<String>,
    /// Whom to run them as; `None`: as track scripts.
    pub user: Option<String>,
    /// When to kill one. Default 30 s.
    pub timeout: Duration,
}

impl Default for HealthNotify {
    fn default() -> Self {
        Self { up: Vec::new(), down: Vec::new(), user: None, timeout: Duration::from_secs(30) }
    }
}

/// Forwarding modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// This node's own stack.
    Local,
    /// L2 direct routing.
    Dr,
    /// The packet as the payload of another IP packet to the backend (RFC 2003, RFC 2473).
    Ipip,
    /// The packet as the payload of UDP port 6080 (draft-ietf-intarea-gue).
    Gue,
    /// Destination NAT; replies must come back through this node.
    Nat,
}

impl Mode {
    /// Whether the packet travels inside another one, so that the families may differ.
    pub const fn encapsulates(self) -> bool {
        matches!(self, Self::Ipip | Self::Gue)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Dr => "dr",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Nat => "nat",
        })
    }
}

/// An active health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is asked.
    pub kind: CheckKind,
    /// Time from one start to the next. Default 2 s.
    pub interval: Duration,
    /// The same while results contradict the backend's state and do not suffice to change it. Default: the interval.
    pub fast_interval: Duration,
    /// When an unanswered probe counts as failed. The next one waits for that, however short the interval. Default 1 s.
    pub timeout: Duration,
    /// Successes in a row until up. Default 2.
    pub rise: u32,
    /// Failures in a row until down. Default 3.
    pub fall: u32,
    /// Port to connect to, when it is not the backend's. Always there where the service has [`Ports::Any`], except for
    /// commands that do not name it.
    pub port: Option<u16>,
}

/// The kinds of checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A TCP connection is accepted.
    Tcp,
    /// An HTTP/1.1 GET is answered as expected.
    Http(HttpCheck),
    /// A command ends with an expected status.
    Command(CommandCheck),
}

/// An HTTP/1.1 GET and what it should bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    /// Absolute path, with query if any. Default `/`.
    pub path: String,
    /// The Host header; `None`: the VIP.
    pub host: Option<String>,
    /// Accepted status codes, inclusive ranges. Default 200–399.
    pub statuses: Vec<(u16, u16)>,
    /// The MD5 digest of the body; `None`: the body is not read.
    pub md5: Option<[u8; 16]>,
    /// Inside TLS 1.2 or 1.3; `None`: in clear.
    pub tls: Option<Tls>,
}

/// How a check speaks TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The name asked for (SNI), and the one that the certificate must have. `None`: `host`, where that is a name; the
    /// certificate is then compared with `host`, or the backend's address.
    pub name: Option<String>,
    /// Who may have signed the certificate; `None`: any certificate will do.
    pub authorities: Option<Authorities>,
}

/// Certificate authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// The file they stand in, which [`load`](crate::config::load) reads.
    File(PathBuf),
    /// The certificates in DER; never empty.
    Known(Vec<Vec<u8>>),
}

/// A program that tells a backend's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandCheck {
    /// The program and its arguments; `{address}`, `{port}` and `{vip}` in them stand for those of the backend.
    pub command: Vec<String>,
    /// Whom to run it as; `None`: `lb_script` if it exists, else `nobody`.
    pub user: Option<String>,
    /// Exit statuses that are a success, inclusive ranges. Default 0.
    pub exits: Vec<(u16, u16)>,
}

impl CommandCheck {
    /// What stands for a backend in the words of the command.
    pub(crate) const PLACEHOLDERS: [&str; 3] = ["{address}", "{port}", "{vip}"];

    /// Whether the command names the backend's port.
    pub(crate) fn names_port(&self) -> bool {
        self.command.iter().any(|word| word.contains("{port}"))
    }

    /// The command for a backend at `endpoint`, behind `vip`.
    pub(crate) fn words(&self, endpoint: SocketAddr, vip: IpAddr) -> Vec<String> {
        let values = [endpoint.ip().to_string(), endpoint.port().to_string(), vip.to_string()];
        let fill = |word: &String| {
            let parts = Self::PLACEHOLDERS.iter().zip(&values);
            parts.fold(word.clone(), |word, (placeholder, value)| word.replace(placeholder, value))
        };
        self.command.iter().map(fill).collect()
    }
}
