//! The question and the answer of `lb explain`, as JSON and as text.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use lb_common::Verdict;
use serde::{Deserialize, Serialize};

use super::{
    status::{PortStatus, endpoint},
    words::words,
};
use crate::config::Protocol;

/// The packet in question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// Who sends it.
    pub source: SocketAddr,
    /// Whom it is for, an address of the same family.
    pub destination: SocketAddr,
    /// `tcp` or `udp`.
    pub protocol: Protocol,
    /// Whether it is the first packet of a TCP connection.
    pub opening: bool,
    /// The interface it comes in by; without it that of the VIP's virtual router, or the first with the program.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interface: Option<String>,
}

impl ExplainRequest {
    /// Whether there can be such a packet; the error says why not.
    pub fn check(&self) -> Result<(), String> {
        let family = |end: SocketAddr| if end.is_ipv4() { "IPv4" } else { "IPv6" };
        let Self { source, destination, .. } = *self;
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(format!(
                "the source {source} is {}, the destination {destination} is {}: a packet has two addresses of one \
                 family",
                family(source),
                family(destination)
            ));
        }
        if self.opening && self.protocol == Protocol::Udp {
            return Err(
                "only a TCP SYN opens a connection: leave --opening out for a UDP datagram".to_owned()
            );
        }
        Ok(())
    }
}

/// Where a packet would go, and why, as the loaded program says. What was not reached on its way is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The packet that was asked about.
    pub packet: ExplainedPacket,
    /// The VIP it is for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub vip: Option<ExplainedVip>,
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<ExplainedService>,
    /// The slot of the service's ring.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slot: Option<ExplainedSlot>,
    /// The backend.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backend: Option<ExplainedBackend>,
    /// The way from here to the backend, or to the client for a backend's reply.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_hop: Option<ExplainedHop>,
    /// The verdict's name, as in `lb status`.
    pub verdict: String,
    /// `pass` (up this node's stack), `drop` or `send`.
    pub action: String,
    /// What the verdict means for this packet.
    pub meaning: String,
    /// What to do about it, if it is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
}

/// The packet that was asked about, with what was not said filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedPacket {
    /// Who sends it.
    pub source: SocketAddr,
    /// Whom it is for.
    pub destination: SocketAddr,
    /// `tcp` or `udp`.
    pub protocol: Protocol,
    /// Whether it is the first packet of a TCP connection.
    pub opening: bool,
    /// The interface it comes in by.
    pub interface: String,
    /// How the program is attached there: `native` or `generic`.
    pub xdp: String,
}

/// The VIP and who owns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedVip {
    /// The address.
    pub address: IpAddr,
    /// The virtual router it belongs to, if it belongs to one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub virtual_router: Option<String>,
    /// `init`, `backup`, `owner` or `fault`, as of that virtual router; `standalone` or `backend_only` without one.
    pub state: String,
    /// Why, in words.
    pub reason: String,
    /// Milliseconds until the lease runs out; absent unless owner.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lease_ms: Option<u64>,
}

/// The service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedService {
    /// Its name.
    pub name: String,
    /// Its VIP.
    pub vip: IpAddr,
    /// Its port, or its ports as they are configured.
    pub port: PortStatus,
    /// `tcp` or `udp`.
    pub protocol: Protocol,
}

/// The slot. Backends are written as `lb status` does: address and port, or the address alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedSlot {
    /// Its number, from 0 on.
    pub number: u32,
    /// How many slots the ring has.
    pub of: u32,
    /// Whether the slot alone decides. Otherwise it has changed hands not long ago.
    pub settled: bool,
    /// Whom it belongs to; absent for nobody.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub current: Option<String>,
    /// Whom an unsettled slot belonged to; the current one again once its learning window is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous: Option<String>,
    /// The backend this flow is remembered to be with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remembered: Option<String>,
    /// How an unsettled slot decided, in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// The backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedBackend {
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0: the one the client chose.
    pub port: u16,
    /// How packets get there: `local`, `dr`, `ipip`, `gue` or `nat`.
    pub mode: String,
    /// The configured weight; 0 if it has left the configuration.
    pub weight: u32,
    /// `checking`, `up` or `down`; `leaving` if it has left the configuration.
    pub state: String,
    /// Why.
    pub reason: String,
}

/// The way on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedHop {
    /// The interface it leaves through.
    pub interface: String,
    /// The address of the neighbour it is sent to: the backend, or the router on the way there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub neighbour: Option<IpAddr>,
    /// That neighbour's MAC address; absent while nobody knows it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mac: Option<String>,
    /// The outermost source and destination of what leaves, where they are not those of the packet that came.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub addresses: Option<[String; 2]>,
}

impl Explanation {
    /// Puts what was found and the verdict into words.
    pub fn put_into_words(&mut self, verdict: Verdict) {
        verdict.name().clone_into(&mut self.verdict);
        let words = words(verdict, self);
        self.meaning = words.meaning;
        self.remedy = words.remedy;
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.packet.fmt(f)?;
        if let Some(vip) = &self.vip {
            writeln!(f, "  VIP       {vip}")?;
        }
        if let Some(ExplainedService { name, vip, port, protocol }) = &self.service {
            writeln!(f, "  service   {name} · {}/{protocol}", endpoint(*vip, port))?;
        }
        if let Some(slot) = &self.slot {
            writeln!(f, "  slot      {slot}")?;
        }
        if let Some(backend) = &self.backend {
            writeln!(f, "  backend   {backend}")?;
        }
        if let Some(hop) = &self.next_hop {
            writeln!(f, "  next hop  {hop}")?;
        }
        writeln!(f, "  verdict   {} ({}) · {}", self.verdict, self.action, self.meaning)?;
        if let Some(remedy) = &self.remedy {
            writeln!(f, "  remedy    {remedy}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ExplainedPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, destination, protocol, opening, interface, xdp } = self;
        let part = match (protocol, opening) {
            (Protocol::Tcp, true) => "opens a connection",
            (Protocol::Tcp, false) => "of an established connection",
            (Protocol::Udp, _) => "a datagram",
        };
        writeln!(f, "{protocol} {source} → {destination} · {part} · in by {interface} ({xdp} XDP)")
    }
}

impl fmt::Display for ExplainedVip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, virtual_router, state, reason, lease_ms } = self;
        write!(f, "{address} · ")?;
        match virtual_router {
            Some(router) => write!(f, "{} of {router} ({reason})", state.to_uppercase())?,
            None => f.write_str(reason)?,
        }
        match lease_ms {
            Some(lease) => write!(f, " · lease ends in {lease} ms unless renewed"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ExplainedSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} · ", self.number, self.of)?;
        if self.settled {
            return f.write_str("settled");
        }
        let name = |backend: &Option<String>| backend.clone().unwrap_or_else(|| "nobody".to_owned());
        write!(f, "unsettled: from {} to {}", name(&self.previous), name(&self.current))?;
        match &self.remembered {
            Some(backend) => write!(f, ", this flow remembered with {backend}")?,
            None => f.write_str(", this flow not remembered")?,
        }
        match &self.reason {
            Some(reason) => write!(f, "; {reason}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ExplainedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, port, mode, weight, state, reason } = self;
        write!(f, "{} by {mode} · weight {weight} · {state} ({reason})", backend_name(*address, *port))
    }
}

impl fmt::Display for ExplainedHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mac.as_deref().unwrap_or("MAC address unknown"))?;
        if let Some(neighbour) = self.neighbour {
            write!(f, " ({neighbour})")?;
        }
        write!(f, " · out by {}", self.interface)?;
        match &self.addresses {
            Some([source, destination]) => write!(f, " · as {source} → {destination}"),
            None => Ok(()),
        }
    }
}

/// A backend as `lb status` writes it.
pub(crate) fn backend_name(address: IpAddr, port: u16) -> String {
    match port {
        0 => address.to_string(),
        port => endpoint(address, port),
    }
}
