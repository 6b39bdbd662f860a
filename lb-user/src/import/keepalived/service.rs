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
        document::{Table, command},
        report::Directive as _,
        service::{Backend, Endpoint, Extras, SPREADING, is_spreading, is_weighted},
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
    keep_connections: Option<Range<usize>>,
    sorry: Option<&'n Node>,
    sorry_method: Option<&'n Node>,
    sorry_inhibit: Option<&'n Node>,
    quorum: Option<&'n Node>,
    hysteresis: Option<&'n Node>,
    notify: Option<Table>,
}

impl Translator<'_> {
    pub(super) fn virtual_server(&mut self, node: &Node) {
        let Some(protocol) = self.protocol(node) else { return };
        let Some(endpoints) = self.endpoints(node, protocol) else { return };
        let mut server = Server {
            mode: Some("nat"),
            is_weighted: true,
            protocol,
            timing: Timing::default(),
            host: None,
            keep_connections: None,
            sorry: None,
            sorry_method: None,
            sorry_inhibit: None,
            quorum: None,
            hysteresis: None,
            notify: None,
        };
        self.findings.translated(node, "[[service]]");
        for child in node.children().iter().filter(|child| child.key() != "real_server") {
            self.of_server(child, &mut server);
        }
        let reals: Vec<&Node> = node.children().iter().filter(|child| child.key() == "real_server").collect();
        let mut backends = Vec::new();
        let mut nodes = Vec::new();
        for real in reals {
            if let Some(backend) = self.real_server(real, &server) {
                self.compare_port(&backend, &endpoints, real);
                backends.push(backend);
                nodes.push(real);
            }
        }
        let quorum = self.quorum(&server, &backends);
        if let Some(sorry) = server.sorry
            && let Some(backend) = self.sorry_server(sorry, &server)
        {
            backends.push(backend);
            nodes.push(sorry);
        }
        let extras = Extras { quorum, notify: server.notify.take() };
        let vips = vips(&self.routers);
        let mut left_out = BTreeMap::new();
        for endpoint in &endpoints {
            left_out.extend(self.services.add(endpoint, &backends, &extras, &vips));
        }
        for (place, real) in nodes.into_iter().enumerate() {
            match left_out.get(&place) {
                Some(why) => self.findings.unsupported(real, *why),
                None if real.key() == "sorry_server" => {
                    self.findings.translated(real, "[[service.backend]] that is a `backup`");
                }
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
            "quorum" => server.quorum = Some(node),
            "hysteresis" => server.hysteresis = Some(node),
            "quorum_up" | "quorum_down" => {
                self.told(server.notify.get_or_insert_with(|| Table::new("[service.notify]", node.span())), node);
            }
            "sorry_server" => server.sorry = Some(node),
            "sorry_server_lvs_method" => server.sorry_method = Some(node),
            "sorry_server_inhibit" => server.sorry_inhibit = Some(node),
            "inhibit_on_failure" => {
                server.keep_connections = Some(node.span());
                self.findings.translated(node, "keep_connections of each backend");
            }
            "alpha" => self.findings.by_default(node, "a backend gets connections once its first checks have passed"),
            _ => self.other(node, words::SERVER_OTHERS, words::SERVER),
        }
    }

    /// Who is told of health: `quorum_up`, `notify_down` and their like.
    fn told(&mut self, table: &mut Table, node: &Node) {
        let key = if node.key().ends_with("_up") { "up" } else { "down" };
        let (words, user) = match node.arguments() {
            [command, user @ ..] if command.is_quoted || user.len() <= 2 => {
                (std::slice::from_ref(command), user.first())
            }
            words => (words, None),
        };
        let Some(words) = self.command(node, words) else { return };
        table.set(key, command(&words), node.span());
        let before = table.value("user").map(|(user, _)| user.to_owned());
        let mut of_user = Table::new("", node.span());
        self.user(&mut of_user, user, &words, node);
        match (of_user.value("user"), before) {
            (Some((user, at)), None) => table.set("user", user, at),
            (Some((user, _)), Some(before)) if user != before => {
                let message = format!("runs as {before}, not as {user}");
                self.findings.differs(node.span(), message, "both commands have one `user`, the first's");
            }
            _ => {}
        }
        self.findings.translated(node, format!("notify.{key}"));
    }

    /// The quorum, as far as it decides anything here.
    fn quorum(&mut self, server: &Server<'_>, backends: &[Backend]) -> Option<(String, Range<usize>)> {
        let matters = server.sorry.is_some() || server.notify.is_some();
        if let Some(node) = server.hysteresis {
            match node.argument().map(|word| word.text.as_str()) {
                Some("0") => self.findings.by_default(node, "the quorum itself decides"),
                _ if !matters => self.findings.by_default(node, NO_QUORUM),
                _ => self.findings.unsupported(node, "the quorum itself decides, upwards and downwards"),
            }
        }
        let node = server.quorum?;
        let (number, span) = self.number(node)?;
        if !matters {
            self.findings.by_default(node, NO_QUORUM);
            return None;
        }
        self.findings.translated(node, "quorum");
        let weight = |backend: &Backend| backend.weight.as_ref().map_or(1, |(weight, _)| *weight);
        let all: u64 = backends.iter().map(weight).sum();
        if number.parse::<u64>().is_ok_and(|number| number > all.max(1)) {
            let message =
                format!("the quorum {number} is more than all weights together, {all}, so it is {all}");
            self.findings.differs(span.clone(), message, "keepalived lowers it as well");
            return Some((all.max(1).to_string(), span));
        }
        Some((number, span))
    }

    fn sorry_server(&mut self, node: &Node, server: &Server<'_>) -> Option<Backend> {
        let [address, rest @ ..] = node.arguments() else {
            self.argument(node);
            return None;
        };
        let address = self.address(address, "sorry_server")?;
        let port = match rest.first() {
            Some(port) => Some(self.port(port)?).filter(|port| *port > 0),
            None => None,
        };
        let mut mode = server.mode;
        if let Some(method) = server.sorry_method {
            mode = Self::method(method);
            match mode {
                Some(_) => self.findings.translated(method, "mode of the backup"),
                None => self.findings.unsupported(method, NO_METHOD),
            }
        }
        if let Some(inhibit) = server.sorry_inhibit {
            self.findings.by_default(inhibit, "a backup is not checked, so it is never down");
        }
        let Some(mode) = mode else {
            self.findings.unsupported(node, NO_METHOD);
            return None;
        };
        // IPVS delivers what goes to loopback itself, whatever the method.
        let mode = if address.is_loopback() { "local" } else { mode };
        Some(Backend {
            address,
            port,
            mode,
            weight: None,
            check: None,
            backup: true,
            keep_connections: None,
            notify: None,
            at: node.span(),
        })
    }

    /// Only NAT changes a port.
    fn compare_port(&mut self, backend: &Backend, endpoints: &[Endpoint], node: &Node) {
        let Some(port) = backend.port.filter(|_| backend.mode != "nat") else { return };
        let differs = |endpoint: &&Endpoint| {
            endpoint.ports.is_some_and(|(first, last)| !(first..=last).contains(&port))
        };
        if let Some(endpoint) = endpoints.iter().find(differs) {
            let (first, _) = endpoint.ports.unwrap_or_default();
            self.findings.differs(
                node.span(),
                format!("port {port} of the real server is left out"),
                format!("packets keep the port that the client chose, {first}; with keepalived too, for only NAT changes it"),
            );
        }
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
        server.is_weighted = is_weighted(&word.text);
        match word.text.as_str() {
            "mh" => self.findings.translated(node, "the ring, which is one of Maglev's"),
            name if is_spreading(name) => {
                self.findings.differs(node.span(), format!("{} becomes the ring", word.text), SPREADING);
                self.findings.translated(node, "the ring");
            }
            "sh" | "dh" | "lblc" | "lblcr" => self.findings.unsupported(
                node,
                "the ring goes by addresses and ports, so connections of one client may go to different backends",
            ),
            _ => self.findings.unsupported(node, "a ring has no preference but weights"),
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
        let mut keep_connections = server.keep_connections.clone();
        let mut notify: Option<Table> = None;
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
                "inhibit_on_failure" => {
                    keep_connections = Some(child.span());
                    self.findings.translated(child, "keep_connections");
                }
                "notify_up" | "notify_down" => {
                    let new = || Table::new("[service.backend.notify]", child.span());
                    self.told(notify.get_or_insert_with(new), child);
                }
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
        // What is not checked is never down.
        let keep_connections = keep_connections.filter(|_| check.is_some());
        let at = node.span();
        Some(Backend { address, port, mode, weight, check, backup: false, keep_connections, notify, at })
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

const NO_QUORUM: &str = "without a sorry server, quorum_up and quorum_down it decides nothing";
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
