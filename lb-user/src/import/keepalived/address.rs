//! Addresses and routes, in the words of `ip`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    Translator,
    tree::{Node, Word},
};
use crate::{
    config::Problem,
    import::{
        document::{Table, quoted},
        report::Directive as _,
    },
};

/// An address with what is said about it.
#[derive(Default)]
struct Address<'n> {
    net: Option<IpNet>,
    interface: Option<&'n Word>,
    label: Option<&'n Word>,
    scope: Option<&'n Word>,
}

impl Translator<'_> {
    /// `virtual_ipaddress` and `virtual_ipaddress_excluded`; returns the addresses.
    pub(super) fn vips(&mut self, table: &mut Table, node: &Node) -> Vec<IpAddr> {
        let key = if node.key() == "virtual_ipaddress" { "vips" } else { "excluded_vips" };
        self.findings.translated(node, key);
        let interface = table.value("interface").map(|(interface, _)| interface.to_owned());
        let mut vips = Vec::new();
        for child in node.children() {
            let Some(given) = self.address_line(child) else { continue };
            let Some(address) = given.net else { continue };
            let other = given
                .interface
                .map(|word| quoted(&word.text))
                .filter(|name| Some(name) != interface.as_ref());
            let mut value = quoted(&address.to_string());
            if other.is_some() || given.label.is_some() || given.scope.is_some() {
                value = format!("{{ address = {value}");
                let words = [
                    ("interface", other),
                    ("label", given.label.map(|word| quoted(&word.text))),
                    ("scope", given.scope.map(|word| quoted(&word.text))),
                ];
                for (key, word) in words {
                    if let Some(word) = word {
                        value = format!("{value}, {key} = {word}");
                    }
                }
                value.push_str(" }");
            }
            table.push(key, &format!("{} {}", address.addr(), vips.len()), value, child.span());
            self.findings.translated(child, key);
            vips.push(address.addr());
        }
        vips
    }

    pub(super) fn static_addresses(&mut self, node: &Node) {
        self.findings.translated(node, "[[address]]");
        for child in node.children() {
            let Some(given) = self.address_line(child) else { continue };
            let Some(address) = given.net else { continue };
            let mut table = Table::new("[[address]]", child.span());
            table.set("address", quoted(&address.to_string()), child.span());
            match given.interface.or(self.globals.interface.as_ref()) {
                Some(interface) => table.set("interface", quoted(&interface.text), interface.span.clone()),
                None => {
                    self.findings.problem(
                        Problem::at(child.span(), format!("{} is on no interface", address.addr()))
                            .expected("dev and the name of an interface"),
                    );
                }
            }
            if let Some(label) = given.label {
                table.set("label", quoted(&label.text), label.span.clone());
            }
            if let Some(scope) = given.scope {
                table.set("scope", quoted(&scope.text), scope.span.clone());
            }
            self.node.push(table);
            self.findings.translated(child, "[[address]]");
        }
    }

    /// `ADDRESS[/PREFIX] [dev IF] [label LABEL] [scope SCOPE] …`; what cannot be said here is noted.
    fn address_line<'n>(&mut self, node: &'n Node) -> Option<Address<'n>> {
        let mut given = Address::default();
        let mut words = node.words.iter();
        while let Some(word) = words.next() {
            match word.text.as_str() {
                "dev" => given.interface = words.next(),
                "label" => given.label = words.next(),
                "scope" => given.scope = words.next(),
                // lb's addresses have none, and no route of their own.
                "brd" | "broadcast" => drop(words.next()),
                "noprefixroute" | "no_track" | "-nodad" | "home" => {}
                "peer" | "metric" | "preferred_lft" | "track_group" => {
                    let value = words.next().map_or("", |word| &word.text);
                    self.part_left_out(node, &format!("{} {value}", word.text));
                }
                "mngtmpaddr" | "autojoin" | "use_vmac" => self.part_left_out(node, &word.text),
                text => {
                    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
                    match (net, given.net) {
                        (Ok(net), None) => given.net = Some(net),
                        (Ok(_) | Err(_), Some(_)) => self.part_left_out(node, text),
                        (Err(_), None) => {
                            self.findings.problem(
                                Problem::at(word.span.clone(), format!("{text:?} is no address"))
                                    .expected("an address with its prefix, such as 192.0.2.4/24"),
                            );
                            return None;
                        }
                    }
                }
            }
        }
        Some(given)
    }

    fn part_left_out(&mut self, node: &Node, part: &str) {
        let message = format!("`{}` of the address is left out", part.trim());
        self.findings.differs(node.span(), message, "lb adds it without");
    }

    /// `virtual_routes`.
    pub(super) fn routes(&mut self, table: &mut Table, node: &Node) {
        self.findings.translated(node, "[[virtual_router.route]]");
        for child in node.children() {
            if let Some(route) = self.route(child, "[[virtual_router.route]]") {
                table.add(route);
            }
        }
    }

    pub(super) fn static_routes(&mut self, node: &Node) {
        self.findings.translated(node, "[[route]]");
        for child in node.children() {
            let route = self.route(child, "[[route]]");
            self.node.extend(route);
        }
    }

    /// A route in the words of `ip route`. One that cannot be made as it is meant is left out whole.
    fn route(&mut self, node: &Node, header: &'static str) -> Option<Table> {
        let mut table = Table::new(header, node.span());
        let mut words = node.words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().map(|value| (value.text.as_str(), value.span.clone()));
            let (key, given) = match word.text.as_str() {
                "via" | "gw" => match value() {
                    Some(("inet" | "inet6", _)) => ("via", value()),
                    other => ("via", other),
                },
                "dev" | "oif" => ("interface", value()),
                "src" => ("source", value()),
                "to" => ("to", value()),
                "scope" => ("scope", value()),
                "table" => ("table", value()),
                "metric" | "priority" | "preference" => ("metric", value()),
                "no_track" | "unicast" => continue,
                "proto" | "protocol" => {
                    value();
                    self.part_left_out(node, "proto");
                    continue;
                }
                "track_group" => {
                    value();
                    self.part_left_out(node, "track_group");
                    continue;
                }
                text if !table.has("to") && (text == "default" || text == "0/0" || is_net(text)) => {
                    ("to", Some((text, word.span.clone())))
                }
                other => {
                    let why = format!(
                        "lb's routes have no `{}`, so it is left out; `ip route` can add it",
                        other.escape_debug()
                    );
                    self.findings.unsupported(node, why);
                    return None;
                }
            };
            let Some((value, span)) = given else {
                self.findings.problem(
                    Problem::at(word.span.clone(), format!("`{}` has no value", word.text))
                        .expected("a value behind it"),
                );
                return None;
            };
            let value = match (key, value) {
                ("to", value) => destination(value),
                ("table", "main") => Some("254".to_owned()),
                ("table", "default") => Some("253".to_owned()),
                ("scope", "0" | "universe") => Some(quoted("global")),
                ("table" | "metric", value) => value.parse::<u32>().ok().map(|number| number.to_string()),
                (_, value) => Some(quoted(value)),
            };
            let Some(value) = value else {
                let why =
                    format!("`{}` is not understood, so the route is left out", word.text.escape_debug());
                self.findings.unsupported(node, why);
                return None;
            };
            table.set(key, value, span);
        }
        if !table.has("via") && !table.has("interface") {
            self.findings
                .unsupported(node, "the route has neither a gateway nor an interface, so it is left out");
            return None;
        }
        self.findings.translated(node, header);
        Some(table)
    }
}

impl Translator<'_> {
    /// `virtual_rules`.
    pub(super) fn rules(&mut self, table: &mut Table, node: &Node) {
        self.findings.translated(node, "[[virtual_router.rule]]");
        for child in node.children() {
            if let Some(rule) = self.rule(child, "[[virtual_router.rule]]") {
                table.add(rule);
            }
        }
    }

    pub(super) fn static_rules(&mut self, node: &Node) {
        self.findings.translated(node, "[[rule]]");
        for child in node.children() {
            let rule = self.rule(child, "[[rule]]");
            self.node.extend(rule);
        }
    }

    /// A policy rule in the words of `ip rule`. One that cannot be made as it is meant is left out whole.
    fn rule(&mut self, node: &Node, header: &'static str) -> Option<Table> {
        let mut table = Table::new(header, node.span());
        let mut words = node.words.iter();
        while let Some(word) = words.next() {
            let (key, given) = match word.text.as_str() {
                "from" => ("from", words.next()),
                "to" | "dst" => ("to", words.next()),
                "iif" | "dev" => ("iif", words.next()),
                "oif" => ("oif", words.next()),
                "fwmark" => ("mark", words.next()),
                "table" | "lookup" => ("table", words.next()),
                "priority" | "preference" | "pref" | "order" => ("priority", words.next()),
                "no_track" | "inet" | "inet6" => continue,
                "proto" | "protocol" | "track_group" => {
                    words.next();
                    self.part_left_out(node, &word.text);
                    continue;
                }
                other => {
                    let why = format!(
                        "lb's policy rules have no `{}`, so it is left out; `ip rule` can add it",
                        other.escape_debug()
                    );
                    self.findings.unsupported(node, why);
                    return None;
                }
            };
            let Some(given) = given else {
                self.findings.problem(
                    Problem::at(word.span.clone(), format!("`{}` has no value", word.text))
                        .expected("a value behind it"),
                );
                return None;
            };
            let value = match (key, given.text.as_str()) {
                ("from" | "to", "all" | "any" | "default") => continue,
                ("from" | "to", value) => destination(value),
                ("table", "main") => Some("254".to_owned()),
                ("table", "default") => Some("253".to_owned()),
                ("table", "local") => Some("255".to_owned()),
                ("table" | "priority", value) => value.parse::<u32>().ok().map(|number| number.to_string()),
                (_, value) => Some(quoted(value)),
            };
            let Some(value) = value else {
                let why =
                    format!("`{}` is not understood, so the rule is left out", given.text.escape_debug());
                self.findings.unsupported(node, why);
                return None;
            };
            table.set(key, value, given.span.clone());
        }
        if !table.has("table") {
            self.findings.unsupported(node, "the rule names no table, so it is left out");
            return None;
        }
        if !table.has("priority") {
            table.explain("priority", "32765", node.span(), "the kernel would choose the next one free");
        }
        self.findings.translated(node, header);
        Some(table)
    }
}

fn is_net(text: &str) -> bool {
    text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok()
}

/// A destination as our own configuration has it: without bits beyond its prefix.
fn destination(text: &str) -> Option<String> {
    if ["default", "0/0", "0.0.0.0/0", "0.0.0.0"].contains(&text) {
        return Some(quoted("default"));
    }
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    Some(quoted(&net.trunc().to_string()))
}
