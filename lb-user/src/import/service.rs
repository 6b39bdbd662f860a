//! Services of IPVS, as far as the data plane has something for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Range,
};

use super::document::{Table, quoted};

/// What clients connect to.
pub(super) struct Endpoint {
    pub(super) vip: IpAddr,
    /// First and last port; `None`: all.
    pub(super) ports: Option<(u16, u16)>,
    /// `tcp` or `udp`.
    pub(super) protocol: &'static str,
    pub(super) at: Range<usize>,
}

/// A real server.
pub(super) struct Backend {
    pub(super) address: IpAddr,
    /// `None`: the one of the service.
    pub(super) port: Option<u16>,
    /// In our words.
    pub(super) mode: &'static str,
    pub(super) weight: Option<(u64, Range<usize>)>,
    /// An inline table.
    pub(super) check: Option<(String, Range<usize>)>,
    /// Serves only while the others miss the quorum.
    pub(super) backup: bool,
    /// Keeps its connections while it is down: where that is said.
    pub(super) keep_connections: Option<Range<usize>>,
    /// `[service.backend.notify]`.
    pub(super) notify: Option<Table>,
    pub(super) at: Range<usize>,
}

/// What a service has beside its backends.
#[derive(Default)]
pub(super) struct Extras {
    /// A number.
    pub(super) quorum: Option<(String, Range<usize>)>,
    /// `[service.notify]`.
    pub(super) notify: Option<Table>,
}

/// Schedulers that spread connections, each in its way. A ring does so, too.
pub(super) fn is_spreading(scheduler: &str) -> bool {
    ["rr", "wrr", "lc", "wlc", "sed", "nq", "twos"].contains(&scheduler)
}

/// Whether weights count with a scheduler, beside 0.
pub(super) fn is_weighted(scheduler: &str) -> bool {
    !["rr", "lc"].contains(&scheduler)
}

/// What is different.
pub(super) const SPREADING: &str = "it spreads connections by a hash of addresses and ports, in shares by weight: evenly \
     over many, but not in turn, nor by how many a backend has";

/// Why a backend is left out.
pub(super) const NAT_ANY_PORT: &str = "with `nat` a service has one port: replies of several could not be told apart without state for every flow";
pub(super) const NAT_TWICE: &str = "with `nat` an address and port serve one service: its replies could belong to either; \
     let it listen on another port for one of them";

/// Services so far.
#[derive(Default)]
pub(super) struct Services {
    pub(super) tables: Vec<Table>,
    /// `nat` backends, each with the service it serves.
    nat: BTreeMap<(IpAddr, u16, &'static str), usize>,
    /// The first backend of mode `nat`.
    first_nat: Option<Range<usize>>,
}

impl Services {
    /// Adds a service. Returns, for each backend that is left out, its place and why.
    pub(super) fn add(
        &mut self,
        endpoint: &Endpoint,
        backends: &[Backend],
        extras: &Extras,
        vips: &BTreeSet<IpAddr>,
    ) -> Vec<(usize, &'static str)> {
        let mut table = Table::new("[[service]]", endpoint.at.clone());
        let set = |table: &mut Table, key, value: String| table.set(key, value, endpoint.at.clone());
        let ports = match endpoint.ports {
            None => quoted("any"),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => quoted(&format!("{first}-{last}")),
        };
        let address =
            if endpoint.vip.is_ipv6() { format!("[{}]", endpoint.vip) } else { endpoint.vip.to_string() };
        let name = format!("{address}:{}/{}", ports.trim_matches('"'), endpoint.protocol);
        set(&mut table, "name", quoted(&name));
        set(&mut table, "vip", quoted(&endpoint.vip.to_string()));
        set(&mut table, "port", ports);
        set(&mut table, "protocol", quoted(endpoint.protocol));
        if !vips.contains(&endpoint.vip) {
            let comment = "no virtual router owns the VIP, so this node always answers for it";
            table.explain("standalone", "true", endpoint.at.clone(), comment);
        }
        if let Some((quorum, at)) = &extras.quorum {
            table.set("quorum", quorum.clone(), at.clone());
        }
        table.children(extras.notify.clone());
        let one = endpoint.ports.filter(|(first, last)| first == last).map(|(port, _)| port);
        let mut left_out = Vec::new();
        for (place, backend) in backends.iter().enumerate() {
            match self.backend(backend, one, endpoint.protocol) {
                Ok(backend) => table.add(backend),
                Err(why) => left_out.push((place, why)),
            }
        }
        if left_out.len() < backends.len() || backends.is_empty() {
            self.tables.push(table);
        }
        left_out
    }

    fn backend(
        &mut self,
        backend: &Backend,
        service_port: Option<u16>,
        protocol: &'static str,
    ) -> Result<Table, &'static str> {
        let mut table = Table::new("[[service.backend]]", backend.at.clone());
        table.set("address", quoted(&backend.address.to_string()), backend.at.clone());
        table.set("mode", quoted(backend.mode), backend.at.clone());
        if backend.mode == "nat" {
            let service_port = service_port.ok_or(NAT_ANY_PORT)?;
            let port = backend.port.unwrap_or(service_port);
            let service = self.tables.len();
            if *self.nat.entry((backend.address, port, protocol)).or_insert(service) != service {
                return Err(NAT_TWICE);
            }
            self.first_nat.get_or_insert_with(|| backend.at.clone());
            if port != service_port {
                table.set("port", port.to_string(), backend.at.clone());
            }
        }
        if let Some((weight, at)) = &backend.weight {
            table.set("weight", weight.to_string(), at.clone());
        }
        if backend.backup {
            table.set("backup", "true", backend.at.clone());
        }
        if let Some(at) = &backend.keep_connections {
            table.set("keep_connections", "true", at.clone());
        }
        if let Some((check, at)) = &backend.check {
            table.set("check", check.clone(), at.clone());
        }
        table.children(backend.notify.clone());
        Ok(table)
    }

    /// The first backend whose replies must come back through this node.
    pub(super) fn first_nat(&self) -> Option<Range<usize>> {
        self.first_nat.clone()
    }

    /// The interface that clients' packets come in by, where no virtual router names one.
    pub(super) fn interface(&self, name: &str, comment: String) -> Option<Table> {
        let first = self.tables.first()?;
        let key = if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
            name.to_owned()
        } else {
            quoted(name)
        };
        let mut table = Table::new(format!("[interface.{key}]"), first.at());
        table.comment(comment);
        Some(table)
    }
}
