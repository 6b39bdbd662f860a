//! keepalived's configuration.

mod address;
mod check;
mod global;
mod group;
mod instance;
mod lexer;
mod notify;
mod reader;
mod service;
mod track;
mod tree;
mod words;

use std::{collections::BTreeSet, net::IpAddr, ops::Range, path::Path, time::Duration};

use instance::Router;
use tree::{Node, Word};

use super::{
    Facts, Imported,
    document::{Document, Table, duration, quoted},
    report::{Directive as _, Findings},
    service::Services,
};
use crate::config::{Problem, Text};

/// Whether a configuration that begins with this word is keepalived's.
pub(super) fn begins_with(word: &str) -> bool {
    word.starts_with(['$', '@', '~']) || reader::INCLUDES.contains(&word) || words::TOP.contains(&word)
}

pub(super) fn translate(path: &Path, source: &str, facts: &Facts, text: &mut Text) -> Imported {
    let mut findings = Findings::default();
    let nodes = reader::read(path, source, &facts.id, text, &mut findings);
    if !findings.problems.is_empty() {
        // What the reader made of the rest is a guess, so nothing is said about its meaning.
        return Imported::new(Document::default(), findings, text);
    }
    let mut translator = Translator::new(facts, findings);
    translator.top(&nodes);
    let (document, findings) = translator.finish(path);
    Imported::new(document, findings, text)
}

/// What is known while the tree is translated.
struct Translator<'f> {
    facts: &'f Facts,
    findings: Findings,
    globals: global::Globals,
    daemon: Table,
    /// Scripts, processes and files.
    trackers: Vec<Table>,
    defined: track::Defined,
    routers: Vec<Router>,
    groups: Vec<Table>,
    server_groups: service::Groups,
    services: Services,
    /// `[[address]]` and `[[route]]`.
    node: Vec<Table>,
}

impl<'f> Translator<'f> {
    fn new(facts: &'f Facts, findings: Findings) -> Self {
        Self {
            facts,
            findings,
            globals: global::Globals::default(),
            daemon: Table::new("[daemon]", 0..0),
            trackers: Vec::new(),
            defined: track::Defined::default(),
            routers: Vec::new(),
            groups: Vec::new(),
            server_groups: service::Groups::default(),
            services: Services::default(),
            node: Vec::new(),
        }
    }

    /// What others depend on comes first, wherever it stands.
    fn top(&mut self, nodes: &[Node]) {
        let of = |key: &'static str| nodes.iter().filter(move |node| node.key() == key);
        // Of real servers keepalived sends mail unless it is told not to.
        self.globals.alerts = of("virtual_server").next().is_some();
        of("global_defs").for_each(|node| self.global_defs(node));
        self.defined.note(nodes);
        for node in nodes {
            self.top_level(node);
        }
        of("vrrp_sync_group").for_each(|node| self.sync_group(node));
        self.server_groups.note(nodes);
        of("virtual_server").for_each(|node| self.virtual_server(node));
        for node in nodes.iter().filter(|node| node.key() == "virtual_server_group") {
            self.virtual_server_group(node);
        }
    }

    fn top_level(&mut self, node: &Node) {
        match node.key() {
            "global_defs" | "vrrp_sync_group" | "virtual_server" | "virtual_server_group" => {}
            "vrrp_script" => self.track_script(node),
            "vrrp_track_process" | "track_process" => self.track_process(node),
            "vrrp_track_file" | "track_file" => self.track_file(node),
            "vrrp_instance" => self.instance(node),
            "bfd_instance" => self.bfd_instance(node),
            "static_ipaddress" => self.static_addresses(node),
            "static_routes" => self.static_routes(node),
            "static_rules" => self.static_rules(node),
            _ => self.other(node, words::TOP_OTHERS, words::TOP),
        }
    }

    fn finish(mut self, path: &Path) -> (Document, Findings) {
        self.replies();
        let preface = vec![
            format!("Translated by lb import keepalived from {}.", path.display()),
            "The comments name the lines it comes from.".to_owned(),
        ];
        let mut tables = Vec::new();
        if self.routers.is_empty() {
            tables.extend(self.interface());
        }
        if !self.daemon.is_empty() {
            tables.push(self.daemon);
        }
        tables.extend(self.trackers);
        tables.extend(self.routers.into_iter().map(|router| router.table));
        tables.extend(self.groups);
        tables.extend(self.services.tables);
        tables.extend(self.node);
        (Document { preface, tables }, self.findings)
    }

    /// Replies of `nat` backends come back by an interface with the program.
    fn replies(&mut self) {
        let interfaces: BTreeSet<&str> =
            self.routers.iter().filter_map(|router| Some(router.table.value("interface")?.0)).collect();
        if interfaces.len() < 2
            && let Some(at) = self.services.first_nat()
        {
            self.findings.differs(
                at,
                "replies of NAT backends must come in by an interface that lb knows",
                "if it is not the virtual router's, add [interface.eth1], by its name",
            );
        }
    }

    /// Where clients' packets come in, if no virtual router says so.
    fn interface(&mut self) -> Option<Table> {
        let given = self.globals.interface.as_ref().map(|word| word.text.clone());
        let name = given.clone().unwrap_or_else(|| "eth0".to_owned());
        let table = self.services.interface(&name, "Clients' packets come in here.".to_owned())?;
        if given.is_none() {
            let message = "the interface that clients' packets come in by is taken to be eth0";
            self.findings.differs(
                table.at(),
                message,
                "keepalived need not know it: say default_interface in global_defs",
            );
        }
        Some(table)
    }

    /// A directive without a rule of its own: one that needs none, one that is not supported, or an unknown word.
    fn other(&mut self, node: &Node, others: &[words::Other], known: &[&str]) {
        match others.iter().find(|other| other.words.contains(&node.key())) {
            Some(other) if other.is_default => {
                self.findings.by_default(node, other.why);
                self.inside(node, true);
            }
            Some(other) => {
                self.findings.unsupported(node, other.why);
                self.inside(node, false);
            }
            None if node.key().starts_with("~SEQ") || node.key().starts_with("~LST") => {
                self.findings
                    .unsupported(node, "lines are not repeated here; write them out, or they are left out");
                self.inside(node, false);
            }
            None => {
                let known: Vec<&str> =
                    known.iter().chain(others.iter().flat_map(|other| other.words)).copied().collect();
                self.findings.unknown(node, node.key(), &known);
                self.inside(node, false);
            }
        }
    }

    /// Notes what is in the block of a directive that has been dealt with.
    fn inside(&mut self, node: &Node, is_default: bool) {
        use super::Outcome::{Default, Unsupported};
        for child in node.children() {
            let outcome = if is_default { Default } else { Unsupported };
            self.findings.part(child, outcome, node.key());
            self.inside(child, is_default);
        }
    }

    /// The word after the key; it is an error if there is none.
    fn argument<'n>(&mut self, node: &'n Node) -> Option<&'n Word> {
        let argument = node.argument();
        if argument.is_none() {
            self.findings.problem(
                Problem::at(node.span(), format!("`{}` has no value", node.key()))
                    .expected("a value behind it"),
            );
        }
        argument
    }

    /// A whole number, as it is: our own reader knows its range.
    fn number(&mut self, node: &Node) -> Option<(String, Range<usize>)> {
        let word = self.argument(node)?;
        if let Ok(number) = word.text.parse::<i64>() {
            Some((number.to_string(), word.span.clone()))
        } else {
            self.findings.problem(
                Problem::at(word.span.clone(), format!("`{}` is {:?}", node.key(), word.text))
                    .expected("a whole number"),
            );
            None
        }
    }

    /// A time in seconds, which may have a fraction.
    fn seconds(&mut self, node: &Node) -> Option<(Duration, Range<usize>)> {
        let word = self.argument(node)?;
        let seconds = word.text.parse::<f64>().ok().filter(|seconds| (0.0..=1e7).contains(seconds));
        if let Some(seconds) = seconds {
            Some((Duration::from_secs_f64(seconds), word.span.clone()))
        } else {
            self.findings.problem(
                Problem::at(word.span.clone(), format!("`{}` is {:?}", node.key(), word.text))
                    .expected("a time in seconds"),
            );
            None
        }
    }

    /// An address; it is an error if it is none.
    fn address(&mut self, word: &Word, what: &str) -> Option<IpAddr> {
        let parsed = word.text.parse().ok();
        if parsed.is_none() {
            self.findings.problem(
                Problem::at(word.span.clone(), format!("`{what}` has {:?}", word.text))
                    .expected("an IP address"),
            );
        }
        parsed
    }

    /// A name of ours made of one of theirs, which may have spaces and any length.
    fn name(&mut self, word: &Word) -> String {
        let name = plain_name(&word.text);
        if name != word.text {
            let message = format!("the name {:?} becomes {name:?}", word.text);
            self.findings.differs(word.span.clone(), message, "names have 1 to 64 bytes and no spaces here");
        }
        name
    }

    /// `true`, `on` and `yes`, or nothing; keepalived's other words for no.
    fn is_on(node: &Node) -> bool {
        node.argument().is_none_or(|word| !["false", "off", "no", "0"].contains(&word.text.as_str()))
    }
}

/// The name as names are here.
fn plain_name(name: &str) -> String {
    let mut plain = name.replace(|c: char| c.is_whitespace() || c.is_control(), "_");
    plain.truncate(plain.floor_char_boundary(64));
    if plain.is_empty() { "_".to_owned() } else { plain }
}

/// The VIPs of all virtual routers.
fn vips(routers: &[Router]) -> BTreeSet<IpAddr> {
    routers.iter().flat_map(|router| &router.vips).copied().collect()
}
