//! `vrrp_instance`.

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use sha2::{Digest as _, Sha256};

use super::{
    Translator, duration, quoted,
    tree::{Node, Word},
    words,
};
use crate::{
    config::Problem,
    import::{
        document::Table,
        report::{Directive as _, Outcome},
    },
};

/// VRRPv2 has room for so many bytes of a password.
const PASSWORD_BYTES: usize = 8;
const NOTIFY: &str = "[virtual_router.notify]";
const AUTHENTICATION: &str = "[virtual_router.authentication]";
const UNICAST: &str = "[virtual_router.unicast]";
const MULTICAST: &str = "[virtual_router.multicast]";

/// A virtual router under construction.
pub(super) struct Router {
    /// Its name in keepalived's words.
    pub(super) name: String,
    pub(super) table: Table,
    pub(super) vips: Vec<IpAddr>,
}

/// What must be known as a whole before it can be said.
#[derive(Default)]
struct Parts<'n> {
    version: Option<&'n Node>,
    password: Option<&'n Node>,
    /// A password that is a key.
    key: Option<&'n Node>,
    source: Option<&'n Word>,
    multicast_source: Option<&'n Node>,
    group: Option<&'n Node>,
    peers: Vec<&'n Word>,
    unicast: Option<&'n Node>,
    min_ttl: Option<&'n Word>,
    is_master: bool,
    nopreempt: Option<&'n Node>,
    refresh: Option<&'n Node>,
    checksum: Option<&'n Node>,
    bfd: Vec<&'n Node>,
}

impl Translator<'_> {
    pub(super) fn instance(&mut self, node: &Node) {
        let Some(name) = self.argument(node) else { return };
        let mut router = Router {
            name: name.text.clone(),
            table: Table::new("[[virtual_router]]", node.span()),
            vips: Vec::new(),
        };
        router.table.set("name", quoted(&self.name(name)), name.span.clone());
        self.findings.translated(node, "[[virtual_router]]");
        // VIPs are compared with the interface, wherever it stands.
        let interface = node.children().iter().rfind(|child| child.key() == "interface");
        let interface = interface.and_then(Node::argument).or(self.globals.interface.as_ref()).cloned();
        if let Some(interface) = &interface {
            router.table.set("interface", quoted(&interface.text), interface.span.clone());
        }
        router.table.set("priority", "100", node.span());
        let mut parts = Parts::default();
        for child in node.children() {
            self.in_instance(&mut router, child, &mut parts);
        }
        self.put_together(&mut router, &parts, interface.as_ref());
        self.routers.push(router);
    }

    fn in_instance<'n>(&mut self, router: &mut Router, node: &'n Node, parts: &mut Parts<'n>) {
        let table = &mut router.table;
        match node.key() {
            "interface" => {
                if self.argument(node).is_some() {
                    self.findings.translated(node, "interface");
                }
            }
            "state" => {
                parts.is_master = node.argument().is_some_and(|state| state.text == "MASTER");
                self.findings.by_default(node, "every node starts as backup and asks the network first");
            }
            "virtual_router_id" => self.own_number(table, node, "router_id"),
            "priority" => self.own_number(table, node, "priority"),
            "advert_int" => {
                if let Some((interval, span)) = self.seconds(node) {
                    table.set("advert_interval", duration(interval), span);
                    self.findings.translated(node, "advert_interval");
                }
            }
            "authentication" => self.authentication(node, parts),
            "version" => parts.version = Some(node),
            "native_ipv6" => self.findings.by_default(node, "adverts are of their source's family"),
            "unicast_src_ip" => {
                parts.source = self.argument(node);
                self.findings.translated(node, "unicast.source");
            }
            "mcast_src_ip" => parts.multicast_source = Some(node),
            "mcast_dst_ip" => parts.group = Some(node),
            "unicast_peer" => self.unicast_peers(node, parts),
            "virtual_ipaddress" | "virtual_ipaddress_excluded" => {
                let vips = self.vips(table, node);
                router.vips.extend(vips);
            }
            "virtual_routes" => self.routes(table, node),
            "virtual_rules" => self.rules(table, node),
            "track_interface" | "track_script" | "track_process" | "track_file" => self.tracked(table, node),
            "track_bfd" => parts.bfd.push(node),
            "nopreempt" => parts.nopreempt = Some(node),
            "preempt" => {
                parts.nopreempt = None;
                self.findings.by_default(node, "preempt");
            }
            "preempt_delay" => {
                if let Some((delay, span)) = self.seconds(node) {
                    table.set("preempt_delay", duration(delay), span);
                    self.findings.translated(node, "preempt_delay");
                }
            }
            "use_vmac" => self.virtual_mac(table, node),
            "accept" => {
                table.set("accept", "true", node.span());
                self.findings.translated(node, "accept");
            }
            "no_accept" => {
                table.set("accept", "false", node.span());
                self.findings.translated(node, "accept");
            }
            "garp_master_refresh" => parts.refresh = Some(node),
            "v3_checksum_as_v2" => parts.checksum = Some(node),
            "notify" | "notify_master" | "notify_backup" | "notify_fault" | "notify_stop" => {
                self.notify(table, NOTIFY, node);
            }
            "smtp_alert" => self.alert(node),
            _ => self.other(node, words::INSTANCE_OTHERS, words::INSTANCE),
        }
    }

    pub(super) fn alert(&mut self, node: &Node) {
        if Self::is_on(node) {
            self.findings.unsupported(node, "lb sends no mail: a `notify` command or the FIFO can");
        } else {
            self.findings.by_default(node, "lb sends no mail");
        }
    }

    fn own_number(&mut self, table: &mut Table, node: &Node, key: &'static str) {
        if let Some((number, span)) = self.number(node) {
            table.set(key, number, span);
            self.findings.translated(node, key);
        }
    }

    fn authentication<'n>(&mut self, node: &'n Node, parts: &mut Parts<'n>) {
        let of = |key: &str| node.children().iter().rfind(|child| child.key() == key);
        let kind = of("auth_type").and_then(Node::argument).map_or("PASS", |kind| kind.text.as_str());
        let is_header = kind.eq_ignore_ascii_case("AH") && of("auth_pass").is_some();
        let is_password = kind.eq_ignore_ascii_case("PASS") || is_header;
        if is_header {
            parts.key = of("auth_pass");
            self.findings.translated(node, "[virtual_router.authentication], with which lb signs adverts");
        } else if is_password {
            parts.password = of("auth_pass");
            self.findings.translated(node, "password");
        } else {
            self.findings.unsupported(
                node,
                format!(
                    "{} is not there (RFC 5798 took it out of VRRP), and nodes that expect it reject this one's adverts; \
                     [virtual_router.authentication] signs them between nodes of lb",
                    kind.escape_debug()
                ),
            );
        }
        for child in node.children() {
            match child.key() {
                "auth_type" if is_header => self.findings.translated(child, "authentication"),
                "auth_type" if is_password => self.findings.translated(child, "password"),
                "auth_pass" if is_password => {
                    self.argument(child);
                }
                "auth_type" | "auth_pass" => self.findings.part(child, Outcome::Unsupported, node.key()),
                _ => self.other(child, words::INSTANCE_OTHERS, &["auth_type", "auth_pass"]),
            }
        }
    }

    fn unicast_peers<'n>(&mut self, node: &'n Node, parts: &mut Parts<'n>) {
        parts.unicast = Some(node);
        self.findings.translated(node, "unicast.peers");
        for child in node.children() {
            let (Some(peer), rest) = (child.words.first(), child.arguments()) else { continue };
            parts.peers.push(peer);
            let ttl =
                rest.iter().position(|word| word.text == "min_ttl").and_then(|place| rest.get(place + 1));
            parts.min_ttl = ttl.or(parts.min_ttl);
            self.findings.translated(child, "unicast.peers");
            if rest.iter().any(|word| word.text == "max_ttl") {
                self.findings.differs(
                    child.span(),
                    "`max_ttl` is left out",
                    "only the lowest TTL counts: `min_ttl`",
                );
            }
        }
    }

    fn virtual_mac(&mut self, table: &mut Table, node: &Node) {
        let name = node.arguments().iter().find(|word| {
            word.text.parse::<u8>().is_err()
                && !word.text.contains(':')
                && word.text != "netlink_notify_msg"
                && word.text != "group"
        });
        match name {
            Some(name) => table.set("virtual_mac", quoted(&name.text), name.span.clone()),
            None => table.set("virtual_mac", "true", node.span()),
        }
        if let Some(mac) = node.arguments().iter().find(|word| word.text.contains(':')) {
            self.findings.differs(
                mac.span.clone(),
                "the MAC address is left out",
                "the virtual router has the one of RFC 9568, 00:00:5e:00:01:VRID",
            );
        }
        self.findings.translated(node, "virtual_mac");
    }

    /// What follows from several directives together.
    fn put_together(&mut self, router: &mut Router, parts: &Parts<'_>, interface: Option<&Word>) {
        let is_ipv4 = self.transport(router, parts, interface);
        let is_v3 = self.version(router, parts, is_ipv4);
        if let Some(password) = parts.password {
            self.password(router, password, is_v3);
        }
        if let Some(key) = parts.key {
            self.header(router, key, is_v3);
        }
        if let Some(nopreempt) = parts.nopreempt {
            if parts.is_master {
                // keepalived says so in its log, and goes on as without it.
                let why = "with `state MASTER` keepalived ignores it, and so does lb; `state BACKUP` makes it count";
                self.findings.unsupported(nopreempt, why);
            } else {
                router.table.set("preempt", "false", nopreempt.span());
                self.findings.translated(nopreempt, "preempt");
            }
        }
        self.refresh(router, parts);
        if let Some(checksum) = parts.checksum {
            if is_v3 && is_ipv4 {
                router.table.set("checksum", "\"rfc9568\"", checksum.span());
                self.findings.translated(checksum, "checksum");
            } else {
                self.findings.by_default(checksum, "means nothing to version 2 and IPv6");
            }
        }
        for node in &parts.bfd {
            self.track_bfd(router, node, parts);
        }
    }

    /// Where adverts go; returns whether over IPv4.
    fn transport(&mut self, router: &mut Router, parts: &Parts<'_>, interface: Option<&Word>) -> bool {
        let table = &mut router.table;
        let peer = parts.peers.first().and_then(|peer| peer.text.parse::<IpAddr>().ok());
        let source = parts.source.and_then(|source| source.text.parse::<IpAddr>().ok());
        let first = peer.or(source).or_else(|| router.vips.first().copied());
        let is_ipv4 = first.is_none_or(|address| address.is_ipv4());
        let (Some(unicast), false) = (parts.unicast, parts.peers.is_empty()) else {
            self.multicast(table, parts, is_ipv4);
            return is_ipv4;
        };
        // It is the older name of `unicast_src_ip`, too.
        let older = parts.multicast_source.and_then(Node::argument);
        let child = table.child(UNICAST, unicast.span());
        if let Some(source) = parts.source.or(older) {
            child.set("source", quoted(&source.text), source.span.clone());
        } else {
            let own = self.facts.addresses.iter().find(|(name, address)| {
                interface.is_some_and(|interface| interface.text == *name)
                    && address.is_ipv4() == is_ipv4
                    && !router.vips.contains(address)
            });
            match own {
                Some((_, address)) => {
                    let comment = "the interface's, on the node where this was translated";
                    child.explain("source", quoted(&address.to_string()), unicast.span(), comment);
                }
                None => self.findings.problem(
                    Problem::at(
                        unicast.span(),
                        "`unicast_src_ip` is not given, and the interface's address is not known here",
                    )
                    .help("add unicast_src_ip and this node's address, or translate it on the node itself"),
                ),
            }
        }
        for (place, peer) in parts.peers.iter().enumerate() {
            child.push("peers", &place.to_string(), quoted(&peer.text), peer.span.clone());
        }
        match parts.min_ttl {
            Some(ttl) => {
                child.set("min_ttl", ttl.text.parse::<i64>().unwrap_or(-1).to_string(), ttl.span.clone());
            }
            None if !is_ipv4 => {
                let comment = "keepalived sends with 64; remove this once all nodes run lb";
                child.explain("min_ttl", "64", unicast.span(), comment);
            }
            None => {}
        }
        if let Some(node) = parts.multicast_source {
            self.findings.translated(node, "unicast.source");
        }
        if let Some(node) = parts.group {
            self.findings.by_default(node, "adverts go to the peers");
        }
        is_ipv4
    }

    fn multicast(&mut self, table: &mut Table, parts: &Parts<'_>, is_ipv4: bool) {
        if let Some(node) = parts.multicast_source
            && let Some(source) = self.argument(node)
        {
            table.child(MULTICAST, node.span()).set("source", quoted(&source.text), source.span.clone());
            self.findings.translated(node, "multicast.source");
        } else if let Some(source) = parts.source {
            // keepalived takes it for the source of multicast as well.
            table.child(MULTICAST, source.span.clone()).set(
                "source",
                quoted(&source.text),
                source.span.clone(),
            );
        }
        let of_all = if is_ipv4 { &self.globals.group4 } else { &self.globals.group6 };
        let of_all = of_all.as_ref().map(|(group, span)| (group.to_string(), span.clone()));
        let own = parts.group.and_then(|node| {
            self.findings.translated(node, "multicast.group");
            node.argument().map(|group| (group.text.clone(), group.span.clone()))
        });
        if let Some((group, span)) = own.or(of_all) {
            table.child(MULTICAST, span.clone()).set("group", quoted(&group), span);
        }
    }

    /// Returns whether it is version 3.
    fn version(&mut self, router: &mut Router, parts: &Parts<'_>, is_ipv4: bool) -> bool {
        let own = parts.version.and_then(|node| {
            let (number, span) = self.number(node)?;
            self.findings.translated(node, "version");
            Some((number, span))
        });
        let given = own.or_else(|| {
            let (number, span) = self.globals.version.clone()?;
            Some((number.to_string(), span))
        });
        match given {
            // keepalived takes 3 over IPv6 whatever is said.
            Some(_) | None if !is_ipv4 => true,
            Some((number, span)) => {
                let is_v3 = number == "3";
                router.table.set("version", number, span);
                is_v3
            }
            None => false,
        }
    }

    fn password(&mut self, router: &mut Router, node: &Node, is_v3: bool) {
        let Some(word) = node.argument() else { return };
        if is_v3 {
            self.findings.by_default(node, "version 3 has no password, with keepalived neither");
            return;
        }
        let mut text = word.text.as_str();
        if text.len() > PASSWORD_BYTES {
            text = &text[..text.floor_char_boundary(PASSWORD_BYTES)];
            self.findings.differs(
                word.span.clone(),
                format!("`auth_pass` has {} bytes, of which the first {} count", word.text.len(), text.len()),
                "VRRPv2 has room for 8, and keepalived sends the first 8 as well; shorten it on all nodes",
            );
        }
        router.table.set("password", quoted(text), word.span.clone());
        self.findings.translated(node, "password");
    }

    /// `auth_type AH` signs adverts with a password as the key. So does lb, in its own format.
    fn header(&mut self, router: &mut Router, node: &Node, is_v3: bool) {
        let Some(word) = node.argument() else { return };
        if is_v3 {
            self.findings.by_default(node, "version 3 has no authentication, with keepalived neither");
            return;
        }
        // As long as a key must be, and the same on every node.
        let digest = Sha256::digest(word.text.as_bytes());
        let mut key = "{ id = 1, secret = \"hex:".to_owned();
        for byte in digest {
            // Invariant: a String takes everything.
            let _ = write!(key, "{byte:02x}");
        }
        key.push_str("\" }");
        router.table.child(AUTHENTICATION, node.span()).push("keys", "1", key, word.span.clone());
        self.findings.differs(
            word.span.clone(),
            "the signature of `auth_type AH` becomes lb's own, with a key made of the password",
            "keepalived and lb do not understand each other then, as little as without: move all nodes at once, and better \
             make a key that cannot be guessed (openssl rand -hex 32)",
        );
        self.findings.translated(node, "authentication");
    }

    fn refresh(&mut self, router: &mut Router, parts: &Parts<'_>) {
        let own = parts.refresh.and_then(|node| {
            let refresh = self.seconds(node)?;
            self.findings.translated(node, "announce_refresh");
            Some(refresh)
        });
        let given = own.or_else(|| self.globals.refresh.clone());
        if let Some((refresh, span)) = given.filter(|(refresh, _)| *refresh > Duration::ZERO) {
            router.table.set("announce_refresh", duration(refresh), span);
        }
    }

    fn track_bfd(&mut self, router: &mut Router, node: &Node, parts: &Parts<'_>) {
        self.findings.translated(node, "[virtual_router.bfd]");
        for child in node.children() {
            let bfd = self.defined.bfd.get(child.key()).cloned();
            let is_peer = |neighbour: &Word| parts.peers.iter().any(|peer| peer.text == neighbour.text);
            let Some(bfd) = bfd.filter(|bfd| bfd.neighbour.as_ref().is_some_and(is_peer)) else {
                self.findings.unsupported(
                    child,
                    "BFD is with the unicast peers of a virtual router, and with nobody else",
                );
                continue;
            };
            let table = router.table.child("[virtual_router.bfd]", child.span());
            if let Some((milliseconds, word)) = bfd.interval {
                table.set("interval", quoted(&format!("{milliseconds}ms")), word.span);
            }
            if let Some(word) = bfd.multiplier {
                table.set("multiplier", word.text.parse::<i64>().unwrap_or(-1).to_string(), word.span);
            }
            self.findings.translated(child, "[virtual_router.bfd]");
        }
    }
}
