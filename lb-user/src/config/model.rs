//! The validated model of a configuration. Whoever holds a [`Config`] need not check it again.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::ports::Ports;

/// Everything a node is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the daemon keeps its socket, lock and pins.
    pub daemon: Daemon,
    /// Interfaces that need other than default settings, by name.
    pub interfaces: BTreeMap<String, InterfaceSettings>,
    /// Virtual routers; names, and (interface, router id) pairs, are unique.
    pub virtual_routers: Vec<VirtualRouter>,
    /// Track scripts that virtual routers name; names are unique.
    pub track_scripts: Vec<TrackScript>,
    /// Services; names, and (vip, ports, protocol) triples, are unique.
    pub services: Vec<Service>,
}

/// Settings of the process itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Folder of the control socket `lb.sock` and the lock `lb.lock`. Default `/run/lb`.
    pub runtime_dir: PathBuf,
    /// Folder on a bpffs for pinned links. Default `/sys/fs/bpf/lb`.
    pub pin_dir: PathBuf,
    /// Packet-level debugging in the XDP program; off costs nothing. Default off.
    pub packet_log: PacketLog,
}

/// The level of aya-log in the XDP program, in the order of verbosity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PacketLog {
    /// Compiled out by the verifier.
    #[default]
    Off,
    /// Drops that hint at a fault (no neighbour, no backend, internal).
    Warn,
    /// ARP and lease decisions too.
    Info,
    /// Every packet to a VIP.
    Debug,
}

/// How the XDP program is attached to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum XdpMode {
    /// Native where the driver does it right, generic otherwise.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the stack.
    Generic,
}

/// What may be said about an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceSettings {
    /// How to attach.
    pub xdp: XdpMode,
}

/// A VRRP instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualRouter {
    /// The name in logs and status.
    pub name: String,
    /// The interface adverts are sent and VIPs are added on.
    pub interface: String,
    /// VRID, 1–255.
    pub router_id: u8,
    /// 1–254 (255 is for the owner of the addresses in the RFC's sense).
    pub priority: u8,
    /// Whether a node of higher priority takes the VIP from a living owner. Default true.
    pub preempt: bool,
    /// Time between adverts; whole seconds 1–255 in version 2. Default 1 s.
    pub advert_interval: Duration,
    /// Protocol version; only 2 is built yet.
    pub version: VrrpVersion,
    /// Where adverts go.
    pub transport: Transport,
    /// VRRPv2 simple password.
    pub authentication: Option<Password>,
    /// The VIPs, with the prefix they carry. At least one is IPv4: adverts name those, in this order. IPv6 VIPs
    /// follow the same lease without being named.
    pub vips: Vec<IpNet>,
    /// Track scripts that take part, by name, each with its effect.
    pub track_scripts: Vec<String>,
}

/// The version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VrrpVersion {
    /// RFC 3768.
    #[default]
    V2,
}

/// How adverts travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// To each peer's address. `peers` is never empty and never holds `source`.
    Unicast {
        /// This node's address.
        source: Ipv4Addr,
        /// The other nodes.
        peers: Vec<Ipv4Addr>,
    },
}

/// A VRRPv2 simple text password (RFC 2338 §10.2): 1–8 bytes, padded with zeros. Never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password(pub [u8; 8]);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A command whose exit status tells whether this node may own a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackScript {
    /// The name virtual routers use.
    pub name: String,
    /// Program and arguments, run as written: no shell, no resolving of symbolic links.
    pub command: Vec<String>,
    /// Time from one start to the next. Default 1 s.
    pub interval: Duration,
    /// When to kill it and call it failed. Default: the interval.
    pub timeout: Duration,
    /// Successes in a row until it counts as up. Default 1.
    pub rise: u32,
    /// Failures in a row until it counts as down. Default 1.
    pub fall: u32,
    /// 0: a failure puts the virtual router in FAULT. Positive: added to the priority while up. Negative:
    /// added (so subtracted) while down. −253 to 253.
    pub weight: i32,
    /// Whom to run it as; `None`: the unprivileged default (`lb_script` if it exists, else `nobody`).
    pub user: Option<String>,
}

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
    /// When an unanswered probe counts as failed; at most the interval. Default 1 s.
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

impl VirtualRouter {
    /// The VIPs that adverts name, in their order.
    pub fn advertised(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.vips.iter().filter_map(|vip| match vip {
            IpNet::V4(vip) => Some(vip.addr()),
            IpNet::V6(_) => None,
        })
    }
}

impl Config {
    /// The virtual router that owns `vip`, if any.
    pub fn router_of(&self, vip: IpAddr) -> Option<&VirtualRouter> {
        self.virtual_routers.iter().find(|r| r.vips.iter().any(|v| v.addr() == vip))
    }

    /// Every interface the XDP program must be attached to, in order of name, without repeats: those of the
    /// virtual routers and those listed under `interface`.
    pub fn attached_interfaces(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .virtual_routers
            .iter()
            .map(|r| r.interface.as_str())
            .chain(self.interfaces.keys().map(String::as_str))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
