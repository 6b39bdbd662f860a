//! `virtual_server` and `virtual_server_group`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    ops::Range,
};

use super::{
    Translator,
    check::Timing,
    tree::{Node, Word},
    vips, words,
};
use crate::{
    config::Problem,
    import::{
        report::Directive as _,
        service::{Backend, Endpoint},
    },
};

/// An address range in a group makes a service of each address.
const MOST_ADDRESSES: u32 = 256;

/// Groups that virtual servers name.
#[derive(Default)]
pub(super) struct Groups {
    groups: BTreeMap<String, Node>,
    used: BTreeSet<String>,
}

impl Groups {
    pub(super) fn note(&mut self, nodes: &[Node]) {
        for node in nodes.iter().filter(|node| node.key() == "virtual_server_group") {
            if let Some(name) = node.argument() {
                self.groups.insert(name.text.clone(), node.clone());
            }
        }
    }
}

/// What a virtual server says for all its real servers.
struct Server<'n> {
    mode: Option<&'static str>,
    /// Whether weights count with its scheduler.
    is_weighted: bool,
    protocol: &'static str,
    timing: Timing,
    host: Option<&'n Word>,
}

impl Translator<'_> {
    pub(super) fn virtual_server(&mut self, node: &Node) {
        let Some(protocol) = self.protocol(node) else { return };
        let Some(endpoints) = self.endpoints(node, protocol) else { return };
        let mut server =
            Server { mode: Some("nat"), is_weighted: true, protocol, timing: Timing::default(), host: None };
        self.findings.translated(node, "[[service]]");
        for child in node.children().iter().filter(|child| child.key() != "real_server") {
            self.of_server(child, &mut server);
        }
        let reals: Vec<&Node> = node.children().iter().filter(|child| child.key() == "real_server").collect();
        let mut backends = Vec::new();
        let mut nodes = Vec::new();
        for real in reals {
            if let Some(backend) = self.real_server(real, &server) {
                backends.push(backend);
                nodes.push(real);
            }
        }
        let vips = vips(&self.routers);
        let mut left_out = BTreeMap::new();
        for endpoint in &endpoints {
            left_out.extend(self.services.add(endpoint, &backends, &vips));
        }
        for (place, real) in nodes.into_iter().enumerate() {
            match left_out.get(&place) {
                Some(why) => self.findings.unsupported(real, *why),
                None => self.findings.translated(real, "[[service.backend]]"),
            }
        }
    }

    /// The protocol, unless there is none such here: then the whole virtual server is left out.
    fn protocol(&mut self, node: &Node) -> Option<&'static str> {
        let given = node.children().iter().rfind(|child| child.key() == "protocol");
        let word = given.and_then(Node::argument).map_or("TCP", |word| word.text.as_str());
        match word.to_ascii_uppercase().as_str() {
            "TCP" => Some("tcp"),
            "UDP" => Some("udp"),
            other => {
                let why =
                    format!("services are of TCP or UDP, not of {}; it is left out", other.escape_debug());
                self.findings.unsupported(node, why);
                self.inside(node, false);
                None
            }
        }
    }

    /// What clients connect to; `None` where that cannot be said here.
    fn endpoints(&mut self, node: &Node, protocol: &'static str) -> Option<Vec<Endpoint>> {
        match node.arguments() {
            [kind, ..] if kind.text == "fwmark" => {
                self.findings.unsupported(
                    node,
                    "packets are told by address, port and protocol, not by firewall marks; it is left out",
                );
                self.inside(node, false);
                None
            }
            [kind, name, ..] if kind.text == "group" => {
                let Some(group) = self.server_groups.groups.get(&name.text).cloned() else {
                    self.findings.problem(Problem::at(
                        name.span.clone(),
                        format!("no virtual_server_group is named {:?}", name.text),
                    ));
                    return None;
                };
                self.server_groups.used.insert(name.text.clone());
                let endpoints: Vec<Endpoint> =
                    group.children().iter().flat_map(|line| group_line(line, protocol)).collect();
                if endpoints.is_empty() {
                    self.findings.unsupported(node, "its group has no address, so it is left out");
                    self.inside(node, false);
                    return None;
                }
                Some(endpoints)
            }
            [address, rest @ ..] => {
                let vip = self.address(address, "virtual_server")?;
                let ports = match rest.first() {
                    Some(port) => Some(self.port(port)?).filter(|port| *port > 0),
                    None => None,
                };
                let end = rest.first().unwrap_or(address).span.end.max(address.span.end);
                let at = address.span.start..end;
                Some(vec![Endpoint { vip, ports: ports.map(|port| (port, port)), protocol, at }])
            }
            [] => {
                self.argument(node);
                None
            }
        }
    }

    fn port(&mut self, word: &Word) -> Option<u16> {
        let port = word.text.parse().ok();
        if port.is_none() {
            self.findings.problem(
                Problem::at(word.span.clone(), format!("{:?} is no port", word.text))
                    .expected("a number from 0 to 65535"),
            );
        }
        port
    }

    fn of_server<'n>(&mut self, node: &'n Node, server: &mut Server<'n>) {
        if self.timing(node, &mut server.timing) {
            return;
        }
        match node.key() {
            "protocol" => self.findings.translated(node, "protocol"),
            "ip_family" => self.findings.by_default(node, "the VIP's"),
            "lb_kind" | "lvs_method" => {
                server.mode = Self::method(node);
                match server.mode {
                    Some(_) => self.findings.translated(node, "mode of each backend"),
                    None => self.findings.unsupported(node, NO_METHOD),
                }
            }
            "lb_algo" | "lvs_sched" => self.scheduler(node, server),
            "persistence_timeout" => self.findings.unsupported(
                node,
                "connections are spread by addresses and ports, so those of one client may go to different backends; one \
                 connection always stays with its backend",
            ),
            "virtualhost" => {
                server.host = self.argument(node);
                self.findings.translated(node, "host of HTTP checks");
            }
            "quorum" => match node.argument().map(|word| word.text.as_str()) {
                Some("1") => self.findings.by_default(node, "a service is served while it has a backend"),
                _ => self.findings.unsupported(
                    node,
                    "a service is served while it has a backend; `track_services` of a virtual router has a `minimum`",
                ),
            },
            "sorry_server" => self.findings.unsupported(
                node,
                "without a healthy backend new connections are dropped; another node may take the VIP (`track_services`)",
            ),
            "inhibit_on_failure" => self.inhibit(node),
            "alpha" => self.findings.by_default(node, "a backend gets connections once its first checks have passed"),
            _ => self.other(node, words::SERVER_OTHERS, words::SERVER),
        }
    }

    fn inhibit(&mut self, node: &Node) {
        self.findings.unsupported(node, "the connections of a backend that fails go to others at once");
    }

    fn method(node: &Node) -> Option<&'static str> {
        let words: Vec<&str> = node.arguments().iter().map(|word| word.text.as_str()).collect();
        match words[..] {
            ["NAT", ..] => Some("nat"),
            ["DR", ..] => Some("dr"),
            ["TUN", "type", "gue", "port", "6080", ..] => Some("gue"),
            ["TUN", "type", "ipip", ..] | ["TUN"] => Some("ipip"),
            _ => None,
        }
    }

    fn scheduler(&mut self, node: &Node, server: &mut Server<'_>) {
        let Some(word) = self.argument(node) else { return };
        server.is_weighted = !matches!(word.text.as_str(), "rr" | "lc");
        match word.text.as_str() {
            "mh" => self.findings.translated(node, "the ring, which is one of Maglev's"),
            "sh" | "dh" | "lblc" | "lblcr" => self.findings.unsupported(
                node,
                "the ring goes by addresses and ports, so connections of one client may go to different backends",
            ),
            _ => self.findings.unsupported(
                node,
                "a ring spreads connections by a hash of addresses and ports, in shares by `weight`: evenly over many, \
                 but not in turn, nor by how many a backend has",
            ),
        }
    }

    fn real_server(&mut self, node: &Node, server: &Server<'_>) -> Option<Backend> {
        let (address, port) = if let [address, rest @ ..] = node.arguments() {
            (self.address(address, "real_server")?, rest.first().map(|port| self.port(port)))
        } else {
            self.argument(node);
            return None;
        };
        let port = match port {
            Some(None) => return None,
            Some(port) => port.filter(|port| *port > 0),
            None => None,
        };
        let (mut mode, mut timing, mut host) = (server.mode, server.timing.clone(), server.host);
        let mut weight: Option<(u64, Range<usize>)> = None;
        let mut checks = Vec::new();
        for child in node.children() {
            if self.timing(child, &mut timing) {
                continue;
            }
            match child.key() {
                "weight" => {
                    if let Some((number, span)) = self.number(child) {
                        // A negative one is beyond what our own reader takes, too.
                        weight = Some((number.parse().unwrap_or(u64::from(u32::MAX)), span));
                        self.weight_note(child, server);
                    }
                }
                "lvs_method" => {
                    mode = Self::method(child);
                    match mode {
                        Some(_) => self.findings.translated(child, "mode"),
                        None => self.findings.unsupported(child, NO_METHOD),
                    }
                }
                "virtualhost" => {
                    host = self.argument(child);
                    self.findings.translated(child, "host of HTTP checks");
                }
                "inhibit_on_failure" => self.inhibit(child),
                "alpha" => self
                    .findings
                    .by_default(child, "a backend gets connections once its first checks have passed"),
                key if key.ends_with("_CHECK") || key.ends_with("_GET") => checks.push(child),
                _ => self.other(child, words::SERVER_OTHERS, words::REAL_SERVER),
            }
        }
        let check = self.check(&checks, &timing, host, address, server.protocol);
        let Some(mode) = mode else {
            self.findings.unsupported(node, NO_METHOD);
            return None;
        };
        // With equal shares only 0, which means no new connections, counts.
        let weight = weight.filter(|(weight, _)| server.is_weighted || *weight == 0);
        Some(Backend { address, port, mode, weight, check, at: node.span() })
    }

    fn weight_note(&mut self, node: &Node, server: &Server<'_>) {
        if server.is_weighted {
            self.findings.translated(node, "weight");
        } else {
            self.findings.by_default(node, "means nothing to this scheduler, but for 0");
        }
    }

    /// The lines of groups are noted once, however many virtual servers name the group.
    pub(super) fn virtual_server_group(&mut self, node: &Node) {
        let Some(name) = self.argument(node) else { return };
        if !self.server_groups.used.contains(&name.text) {
            self.findings.by_default(node, "no virtual server names it");
            self.inside(node, true);
            return;
        }
        self.findings.translated(node, "a [[service]] for each address");
        for child in node.children() {
            if child.key() == "fwmark" {
                self.findings.unsupported(
                    child,
                    "packets are told by address, port and protocol, not by firewall marks",
                );
            } else if group_line(child, "tcp").is_empty() {
                self.findings.problem(
                    Problem::at(child.span(), "no address and port").expected("for instance 192.0.2.4 80"),
                );
            } else {
                self.findings.translated(child, "[[service]]");
            }
        }
    }
}

const NO_METHOD: &str = "packets travel by nat, dr, ipip or gue to port 6080; it is left out";

/// `ADDRESS[-LAST] [PORT[-LAST]]`, as endpoints.
fn group_line(node: &Node, protocol: &'static str) -> Vec<Endpoint> {
    let ports = match node.argument().map(|port| range::<u16>(&port.text)) {
        Some(None) => return Vec::new(),
        Some(Some((0, _))) | None => None,
        Some(ports) => ports,
    };
    let at = node.span();
    let endpoint = |vip: IpAddr| Endpoint { vip, ports, protocol, at: at.clone() };
    let Some((first, last)) = node.key().split_once('-') else {
        return node.key().parse().map(|vip| vec![endpoint(vip)]).unwrap_or_default();
    };
    // The last byte of an IPv4 address.
    let (Ok(first), Ok(last)) = (first.parse::<Ipv4Addr>(), last.parse::<u8>()) else { return Vec::new() };
    let start = u32::from(first);
    let end = (start & !0xff) | u32::from(last);
    if end < start || end - start >= MOST_ADDRESSES {
        return Vec::new();
    }
    (start..=end).map(|address| endpoint(Ipv4Addr::from(address).into())).collect()
}

fn range<T: std::str::FromStr + Copy>(text: &str) -> Option<(T, T)> {
    match text.split_once('-') {
        Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)),
        None => text.parse().ok().map(|one| (one, one)),
    }
}
