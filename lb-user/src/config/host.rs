//! What a configuration assumes about the node it runs on.

use std::{net::Ipv4Addr, ops::Range};

use ipnet::Ipv4Net;

use super::{
    Parsed,
    report::{ConfigErrors, Problem, Severity},
};

/// The node as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Every interface, loopback too.
    pub interfaces: Vec<HostInterface>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInterface {
    /// For instance `eth0`.
    pub name: String,
    /// The kernel's index.
    pub index: u32,
    /// Its IPv4 addresses, each with its prefix. VIPs this node happens to own may be among them.
    pub addresses: Vec<Ipv4Net>,
}

/// Where the text says what the host must confirm; parallel to the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spans {
    /// The names of `[interface.NAME]` tables, in the order of the model.
    pub(super) interfaces: Vec<Range<usize>>,
    /// By virtual router.
    pub(super) routers: Vec<RouterSpans>,
    /// By service, then by backend: the address.
    pub(super) backends: Vec<Vec<Range<usize>>>,
}

/// Places in a `[[virtual_router]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RouterSpans {
    pub(super) interface: Range<usize>,
    pub(super) source: Range<usize>,
    pub(super) vips: Vec<Range<usize>>,
}

pub(super) fn check(parsed: &Parsed, facts: &HostFacts) -> Result<(), ConfigErrors> {
    let problems: Vec<Problem> = Vec::new();
    let _ = facts;
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ConfigErrors::new(&parsed.text, Severity::Error, problems))
    }
}

#[expect(dead_code, reason = "next commit")]
fn addresses(_: &HostFacts) -> Vec<Ipv4Addr> {
    Vec::new()
}
