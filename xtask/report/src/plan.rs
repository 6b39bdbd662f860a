//! What the benchmark of whole forwarding is to measure: `xtask`, which builds the lab, writes it; `lb-bench` carries it out.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::Goal;

/// Ways through the lab, measured by turns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The report's.
    pub title: String,
    /// The report's.
    pub notes: Vec<String>,
    /// How often everything is measured.
    pub rounds: u32,
    /// Frames of each way and round that belong to few flows.
    pub packets: u32,
    /// Frames of each way and round that are a new flow each.
    pub new_flows: u32,
    /// Whether the kernel's packet generator sends too, the same numbers.
    pub pktgen: bool,
    /// The processor that everything happens on.
    pub cpu: usize,
    /// What the kernel's nanoseconds are: `ns`, or `instructions` where a machine counts them.
    pub unit: String,
    /// The name of the way that the others are given as multiples of.
    pub reference: String,
    /// In the order of the report.
    pub ways: Vec<Way>,
}

/// One way from a generator to a sink, or why it is not measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// The row's.
    pub name: String,
    /// What it should reach.
    pub goal: Option<Goal>,
    /// How it goes.
    pub route: Result<Route, String>,
}

/// How frames are sent, and where they have to arrive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Frames leave by this interface.
    pub generator: Port,
    /// Whose they are: the MAC address of the interface at the other end.
    pub mac: [u8; 6],
    /// The destination of their packets.
    pub to: Ipv4Addr,
    /// Its TCP port.
    pub port: u16,
    /// Where they end.
    pub sink: Sink,
    /// Whether another destination stands in the packets by then.
    pub rewritten: bool,
    /// Whether an established flow must have begun with a SYN.
    pub syn_first: bool,
    /// The node whose connection tracking forgets everything after each round, by a process of it.
    pub forget: Option<i32>,
    /// Puts the least program that redirects between these interfaces of a node.
    pub redirect: Option<(Port, Port)>,
}

/// An interface of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// A process in the namespace.
    pub process: i32,
    /// The interface's name.
    pub interface: String,
}

/// Where frames end and are counted, at the least cost for the way they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sink {
    /// An XDP program drops them.
    Program(Port),
    /// They are for another MAC address, so the stack drops them at once; the interface has counted them.
    Interface(Port),
    /// They are for the node of this process: its IP layer has counted them, and a rule drops them.
    Stack(i32),
}
