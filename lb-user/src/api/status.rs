//! The answer to `lb status`, as JSON and as text.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::explain::backend_name;
use crate::config::Ports;

/// A moment of a daemon's life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the daemon.
    pub version: String,
    /// Its process id, as it sees itself.
    pub pid: u32,
    /// The configuration file in force, or several with commas.
    pub config: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// How the thread that sends adverts and keeps the leases runs.
    #[serde(default)]
    pub protocol_thread: ThreadStatus,
    /// The process that gives the VIPs up in the daemon's place when it dies; absent where there is no data plane.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub guardian: Option<GuardianStatus>,
    /// Interfaces with the XDP program.
    pub interfaces: Vec<InterfaceStatus>,
    /// Virtual routers, in the order of the configuration.
    pub virtual_routers: Vec<RouterStatus>,
    /// Scripts, processes and files that are tracked.
    pub trackers: Vec<TrackerStatus>,
    /// Notify commands and lines of the FIFO that nobody took in time.
    #[serde(default)]
    pub notifications_dropped: u64,
    /// Services, in the order of the configuration.
    pub services: Vec<ServiceStatus>,
    /// Routes of the node's own.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub routes: Vec<RouteStatus>,
    /// Policy rules of the node's own.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub rules: Vec<RuleStatus>,
    /// Verdict name → packets since the program was loaded.
    pub verdicts: BTreeMap<String, u64>,
    /// What is wrong at the moment, in sentences; empty when all is well.
    pub problems: Vec<String>,
}

/// How the protocol thread runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStatus {
    /// Its scheduling class: `SCHED_RR 50` or `SCHED_OTHER`.
    pub scheduling: String,
    /// Whether the memory of the process is locked.
    pub memory_locked: bool,
    /// Why something was refused, in sentences.
    pub notes: Vec<String>,
}

/// The process that outlives the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardianStatus {
    /// Its process id, as the daemon sees it; absent while there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
    /// Guardians that died or could not be started, since the daemon started.
    pub lost: u64,
    /// How the last of them was lost.
    pub reason: String,
}

/// An interface with the XDP program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// `native`, `generic` or `detached`.
    pub xdp: String,
    /// Why.
    pub reason: String,
}

/// A virtual router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterStatus {
    /// Its name.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// VRID.
    pub router_id: u8,
    /// `init`, `backup`, `owner` or `fault`.
    pub state: String,
    /// Why it is in that state, in words.
    pub reason: String,
    /// The priority in force, tracking included.
    pub priority: u8,
    /// The priority without tracking.
    pub configured_priority: u8,
    /// Its sync group, if it is in one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sync_group: Option<String>,
    /// What it and its sync group watch.
    pub watched: Vec<WatchedStatus>,
    /// The VIPs.
    pub vips: Vec<String>,
    /// The MAC address they have, if it is not the interface's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub virtual_mac: Option<VirtualMacStatus>,
    /// The routes that follow the VIPs.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub routes: Vec<RouteStatus>,
    /// The policy rules that follow the VIPs.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub rules: Vec<RuleStatus>,
    /// Milliseconds until the lease runs out; absent unless owner.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lease_ms: Option<u64>,
    /// How often it changed between owner and not owner since the daemon started.
    pub transitions: u64,
    /// Whether its witness answers; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub witness: Option<WitnessStatus>,
    /// The BFD sessions with its peers.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub bfd: Vec<BfdStatus>,
    /// `adverts_sent`, `adverts_received` and, by reason, the adverts that were rejected.
    pub counters: BTreeMap<String, u64>,
}

/// Something that a virtual router watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedStatus {
    /// What it is and how, in words; empty until something is known of it.
    pub state: String,
    /// `no effect`, `waited for`, `fault` or, for instance, `priority -20`.
    pub effect: String,
}

/// An address that must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessStatus {
    /// The address.
    pub address: IpAddr,
    /// Whether it does.
    pub answers: bool,
}

/// A BFD session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdStatus {
    /// With whom.
    pub peer: IpAddr,
    /// `admin_down`, `down`, `init` or `up`.
    pub state: String,
    /// The state that the peer named last.
    pub remote_state: String,
    /// Why it last went down, RFC 5880's number: 1 nothing was received, 3 the peer said so.
    pub diagnostic: u8,
    /// Whether it is held down for a minute because it failed too often.
    pub damped: bool,
    /// After how many milliseconds without a packet the peer counts as gone.
    pub detection_ms: u64,
    /// `sent`, `received`, `send_errors`, `downs` and, by reason, the packets that were rejected.
    pub counters: BTreeMap<String, u64>,
}

/// The interface with a virtual router's MAC address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualMacStatus {
    /// The MAC address.
    pub mac: String,
    /// The interface's name.
    pub interface: String,
    /// `up` on the owner, `down` on a backup, `missing`.
    pub state: String,
}

/// A route of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// The route, in the words of `ip route`.
    pub route: String,
    /// `present` or `absent` in the kernel's tables.
    pub state: String,
}

/// A policy rule of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// The rule, in the words of `ip rule`.
    pub rule: String,
    /// `present` or `absent` in the kernel's list.
    pub state: String,
}

/// Something that is tracked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackerStatus {
    /// `script`, `process` or `file`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `checking`, `up` or `down`; the number of a file.
    pub state: String,
    /// What a script said last, or how it failed; how many processes run.
    pub detail: String,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// The VIP.
    pub vip: IpAddr,
    /// The port, or the ports as they are configured.
    pub port: PortStatus,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// What its present and former backends got.
    pub traffic: Traffic,
    /// Slots whose backend changed and whose flows are remembered until they are gone.
    #[serde(default)]
    pub unsettled_slots: usize,
    /// Flows remembered, as of a few seconds ago.
    #[serde(default)]
    pub remembered_flows: usize,
    /// Flows that were remembered when this node lost the VIP, all together: the most that a change of owner in the
    /// middle of a transition can have reset.
    #[serde(default)]
    pub flows_left_behind: u64,
    /// Its backends, in the order of the configuration.
    pub backends: Vec<BackendStatus>,
}

/// The port of a service: a number, or `"FIRST-LAST"` or `"any"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PortStatus {
    /// One.
    One(u16),
    /// Several.
    Several(String),
}

impl From<Ports> for PortStatus {
    fn from(ports: Ports) -> Self {
        ports.one().map_or_else(|| Self::Several(ports.to_string()), Self::One)
    }
}

impl fmt::Display for PortStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(port) => port.fmt(f),
            Self::Several(ports) => ports.fmt(f),
        }
    }
}

/// An address and its port as one writes them.
pub(super) fn endpoint(address: IpAddr, port: impl fmt::Display) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    }
}

/// A backend of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0: the one the client chose.
    pub port: u16,
    /// The forwarding mode in force: `local`, `dr`, `ipip`, `gue` or `nat`.
    pub mode: String,
    /// The configured weight.
    pub weight: u32,
    /// `checking`, `up` or `down`.
    pub state: String,
    /// Why.
    pub reason: String,
    /// The MAC address its packets go to; absent while unresolved, and for `local`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_hop: Option<String>,
    /// What it got.
    pub traffic: Traffic,
}

/// Counters since the program was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// TCP connections opened.
    pub connections: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes, Ethernet headers included.
    pub bytes: u64,
}

impl From<lb_common::BackendCounters> for Traffic {
    fn from(counters: lb_common::BackendCounters) -> Self {
        Self { connections: counters.connections, packets: counters.packets, bytes: counters.bytes }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "lb {} · pid {} · up {} · {}",
            self.version,
            self.pid,
            humantime::format_duration(std::time::Duration::from_secs(self.uptime_seconds)),
            self.config
        )?;
        if let Some(guardian) = &self.guardian {
            guardian.fmt(f)?;
        }
        for problem in &self.problems {
            writeln!(f, "PROBLEM  {problem}")?;
        }
        self.protocol_thread.fmt(f)?;
        for interface in &self.interfaces {
            writeln!(f, "\ninterface {} · XDP {} ({})", interface.name, interface.xdp, interface.reason)?;
        }
        for router in &self.virtual_routers {
            router.fmt(f)?;
        }
        for TrackerStatus { kind, name, state, detail } in &self.trackers {
            writeln!(f, "\ntrack {kind} {name} · {state} ({detail})")?;
        }
        if self.notifications_dropped > 0 {
            writeln!(f, "\nnotifications dropped · {}", self.notifications_dropped)?;
        }
        for service in &self.services {
            service.fmt(f)?;
        }
        if !self.routes.is_empty() {
            writeln!(f, "\nroutes")?;
        }
        for RouteStatus { route, state } in &self.routes {
            writeln!(f, "  {route} ({state})")?;
        }
        if !self.rules.is_empty() {
            writeln!(f, "\npolicy rules")?;
        }
        for RuleStatus { rule, state } in &self.rules {
            writeln!(f, "  {rule} ({state})")?;
        }
        writeln!(f, "\npackets by verdict")?;
        let mut silent = true;
        for (name, count) in self.verdicts.iter().filter(|(_, count)| **count > 0) {
            writeln!(f, "  {name:<18} {count:>12}")?;
            silent = false;
        }
        if silent {
            writeln!(f, "  none yet")?;
        }
        Ok(())
    }
}

impl fmt::Display for ThreadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let locked = if self.memory_locked { "memory locked" } else { "memory not locked" };
        writeln!(f, "protocol thread · {} · {locked}", self.scheduling)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))
    }
}

impl fmt::Display for GuardianStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "guardian · pid {pid} · watching")?,
            None => write!(f, "guardian · none")?,
        }
        if self.lost > 0 {
            write!(f, " · {} lost, the last: {}", self.lost, self.reason)?;
        }
        writeln!(f)
    }
}

impl fmt::Display for RouterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nvirtual router {} · {} ({}) · id {} on {} · priority {} · {}",
            self.name,
            self.state.to_uppercase(),
            self.reason,
            self.router_id,
            self.interface,
            self.priority,
            self.vips.join(", ")
        )?;
        if let Some(group) = &self.sync_group {
            writeln!(f, "  sync group {group}")?;
        }
        for WatchedStatus { state, effect } in self.watched.iter().filter(|one| !one.state.is_empty()) {
            writeln!(f, "  watches {state}: {effect}")?;
        }
        if let Some(VirtualMacStatus { mac, interface, state }) = &self.virtual_mac {
            writeln!(f, "  virtual MAC {mac} on {interface} ({state})")?;
        }
        for RouteStatus { route, state } in &self.routes {
            writeln!(f, "  route {route} ({state})")?;
        }
        for RuleStatus { rule, state } in &self.rules {
            writeln!(f, "  rule {rule} ({state})")?;
        }
        if let Some(lease) = self.lease_ms {
            writeln!(f, "  lease ends in {lease} ms unless renewed")?;
        }
        if let Some(WitnessStatus { address, answers }) = self.witness {
            writeln!(f, "  witness {address} {}", if answers { "answers" } else { "does not answer" })?;
        }
        self.bfd.iter().try_for_each(|session| session.fmt(f))?;
        for (name, count) in self.counters.iter().filter(|(_, count)| **count > 0) {
            writeln!(f, "  {name:<18} {count:>12}")?;
        }
        Ok(())
    }
}

impl fmt::Display for BfdStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let damped = if self.damped { ", held down because it failed too often" } else { "" };
        write!(f, "  BFD with {} · {} (peer {}{damped})", self.peer, self.state, self.remote_state)?;
        if self.state == "up" {
            write!(f, " · gone after {} ms of silence", self.detection_ms)?;
        }
        let counters = self.counters.iter().filter(|(_, count)| **count > 0);
        let counters: Vec<String> = counters.map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(f, " · {}", counters.join(", "))
    }
}

impl fmt::Display for ServiceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = endpoint(self.vip, &self.port);
        writeln!(f, "\nservice {} · {place}/{}", self.name, self.protocol)?;
        if self.unsettled_slots > 0 || self.remembered_flows > 0 {
            let (slots, flows) = (self.unsettled_slots, self.remembered_flows);
            writeln!(f, "  settling after a change: {slots} unsettled slots, {flows} remembered flows")?;
        }
        if self.flows_left_behind > 0 {
            writeln!(f, "  left behind when the VIP moved: {} remembered flows", self.flows_left_behind)?;
        }
        writeln!(
            f,
            "  {:<24} {:<6} {:>6} {:<9} {:<18} {:>11} {:>11}  reason",
            "backend", "mode", "weight", "state", "next hop", "connections", "packets"
        )?;
        for backend in &self.backends {
            writeln!(
                f,
                "  {:<24} {:<6} {:>6} {:<9} {:<18} {:>11} {:>11}  {}",
                backend_name(backend.address, backend.port),
                backend.mode,
                backend.weight,
                backend.state,
                backend.next_hop.as_deref().unwrap_or("-"),
                backend.traffic.connections,
                backend.traffic.packets,
                backend.reason
            )?;
        }
        Ok(())
    }
}
