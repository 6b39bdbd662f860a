//! Services, their backends and checks.

use std::{fmt, net::IpAddr, time::Duration};

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
    /// Port to connect to, when it is not the backend's. Always there where the service has [`Ports::Any`].
    pub port: Option<u16>,
}

/// The kinds of checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A TCP connection is accepted.
    Tcp,
    /// An HTTP/1.1 GET is answered with an expected status.
    Http {
        /// Absolute path, with query if any. Default `/`.
        path: String,
        /// The Host header; `None`: the VIP.
        host: Option<String>,
        /// Accepted status codes, inclusive ranges. Default 200–399.
        statuses: Vec<(u16, u16)>,
    },
}
