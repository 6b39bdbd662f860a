//! What is tracked: `vrrp_script`, `vrrp_track_process`, `vrrp_track_file`, `bfd_instance`, and who tracks it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Translator, plain_name,
    tree::{Node, Word},
};
use crate::{
    config::Problem,
    import::{
        document::{Table, command, duration, quoted},
        report::Directive as _,
    },
};

/// The names of what can be tracked.
#[derive(Default)]
pub(super) struct Defined {
    scripts: BTreeSet<String>,
    processes: BTreeSet<String>,
    files: BTreeSet<String>,
    /// `bfd_instance`: the neighbour, and what becomes of it.
    pub(super) bfd: BTreeMap<String, BfdInstance>,
}

/// A `bfd_instance`, as far as lb has something for it.
#[derive(Clone, Debug)]
pub(super) struct BfdInstance {
    pub(super) neighbour: Option<Word>,
    /// Milliseconds and what was written.
    pub(super) interval: Option<(u64, Word)>,
    pub(super) multiplier: Option<Word>,
}

impl Defined {
    pub(super) fn note(&mut self, nodes: &[Node]) {
        for node in nodes {
            let names = match node.key() {
                "vrrp_script" => &mut self.scripts,
                "vrrp_track_process" | "track_process" => &mut self.processes,
                "vrrp_track_file" | "track_file" => &mut self.files,
                "bfd_instance" => {
                    self.note_bfd(node);
                    continue;
                }
                _ => continue,
            };
            names.extend(node.argument().map(|name| plain_name(&name.text)));
        }
    }

    fn note_bfd(&mut self, node: &Node) {
        let Some(name) = node.argument() else { return };
        let of = |key: &str| node.children().iter().rfind(|child| child.key() == key)?.argument();
        let milliseconds =
            |key| of(key).and_then(|word| Some((word.text.parse::<u64>().ok()?, word.clone())));
        let interval = [milliseconds("min_tx"), milliseconds("min_rx")].into_iter().flatten();
        let bfd = BfdInstance {
            neighbour: of("neighbor_ip").cloned(),
            interval: interval.max_by_key(|(milliseconds, _)| *milliseconds),
            multiplier: of("multiplier").cloned(),
        };
        self.bfd.insert(name.text.clone(), bfd);
    }
}

impl Translator<'_> {
    pub(super) fn track_script(&mut self, node: &Node) {
        let Some(name) = self.argument(node) else { return };
        let mut table = Table::new("[[track_script]]", node.span());
        table.set("name", quoted(&self.name(name)), name.span.clone());
        let (mut words, mut user, mut interval, mut timeout) = (Vec::new(), None, None, None);
        let mut script = node;
        for child in node.children() {
            match child.key() {
                "script" => {
                    if let Some(command_words) = self.command(child, child.arguments()) {
                        table.set("command", command(&command_words), child.span());
                        (words, script) = (command_words, child);
                        self.findings.translated(child, "command");
                    }
                }
                "interval" => {
                    if let Some((given, span)) = self.seconds(child) {
                        table.set("interval", duration(given), span);
                        interval = Some(given);
                        self.findings.translated(child, "interval");
                    }
                }
                "timeout" => {
                    timeout = self.seconds(child).map(|(timeout, span)| (timeout, span, child));
                }
                "rise" | "fall" => self.count(&mut table, child),
                "weight" => self.weight(&mut table, child),
                "user" => {
                    user = self.argument(child).cloned();
                    self.findings.translated(child, "user");
                }
                "init_fail" => {
                    table.set("initially", "\"down\"", child.span());
                    self.findings.translated(child, "initially");
                }
                _ => self.other(
                    child,
                    &[],
                    &["script", "interval", "timeout", "rise", "fall", "weight", "user", "init_fail"],
                ),
            }
        }
        if let Some((timeout, span, child)) = timeout {
            let interval = interval.unwrap_or(std::time::Duration::from_secs(1));
            if timeout.is_zero() {
                self.findings.by_default(child, "a script may take as long as its interval");
            } else if timeout > interval {
                self.findings.unsupported(
                    child,
                    "a script has ended when the next is started, so it is killed after the interval and has failed: \
                     a longer `interval` gives it longer",
                );
            } else {
                table.set("timeout", duration(timeout), span);
                self.findings.translated(child, "timeout");
            }
        }
        self.user(&mut table, user.as_ref(), &words, script);
        self.trackers.push(table);
        self.findings.translated(node, "[[track_script]]");
    }

    fn count(&mut self, table: &mut Table, node: &Node) {
        let key = if node.key() == "rise" { "rise" } else { "fall" };
        if let Some((number, span)) = self.number(node) {
            table.set(key, number, span);
            self.findings.translated(node, key);
        }
    }

    /// `weight NUMBER [reverse|noreverse]`.
    fn weight(&mut self, table: &mut Table, node: &Node) {
        let Some((number, span)) = self.number(node) else { return };
        table.set("weight", number, span);
        if let Some(word) = node.words.get(2).filter(|word| word.text == "reverse") {
            table.set("reverse", "true", word.span.clone());
        }
        self.findings.translated(node, "weight");
    }

    pub(super) fn track_process(&mut self, node: &Node) {
        let Some(name) = self.argument(node) else { return };
        let mut table = Table::new("[[track_process]]", node.span());
        table.set("name", quoted(&self.name(name)), name.span.clone());
        for child in node.children() {
            match child.key() {
                "process" => {
                    if let Some(words) = self.command(child, child.arguments()) {
                        // keepalived compares the first argument's last part, unless there are more.
                        table.set("command", command(&words), child.span());
                        self.findings.translated(child, "command");
                    }
                }
                "quorum" | "quorum_max" => {
                    let key = if child.key() == "quorum" { "quorum" } else { "quorum_max" };
                    if let Some((number, span)) = self.number(child) {
                        table.set(key, number, span);
                        self.findings.translated(child, key);
                    }
                }
                "delay" | "fork_delay" | "terminate_delay" => {
                    let Some((delay, span)) = self.seconds(child) else { continue };
                    if child.key() != "terminate_delay" {
                        table.set("fork_delay", duration(delay), span.clone());
                    }
                    if child.key() != "fork_delay" {
                        table.set("terminate_delay", duration(delay), span);
                    }
                    self.findings.translated(child, "fork_delay, terminate_delay");
                }
                "weight" => self.weight(&mut table, child),
                "full_command" => {
                    self.findings.by_default(child, "a command of several words is compared with all of them");
                }
                "param_match" => self.findings.unsupported(
                    child,
                    "arguments are compared as they are; a process is one by its name, its program or all its arguments",
                ),
                _ => self.other(
                    child,
                    &[],
                    &["process", "quorum", "quorum_max", "delay", "fork_delay", "terminate_delay", "weight"],
                ),
            }
        }
        self.trackers.push(table);
        self.findings.translated(node, "[[track_process]]");
    }

    pub(super) fn track_file(&mut self, node: &Node) {
        let Some(name) = self.argument(node) else { return };
        let mut table = Table::new("[[track_file]]", node.span());
        table.set("name", quoted(&self.name(name)), name.span.clone());
        for child in node.children() {
            match child.key() {
                "file" => {
                    if let Some(path) = self.argument(child) {
                        table.set("path", quoted(&path.text), path.span.clone());
                        self.findings.translated(child, "path");
                    }
                }
                "weight" => self.weight(&mut table, child),
                "init_file" => {
                    if let Some(value) =
                        child.arguments().iter().find(|word| word.text.parse::<i64>().is_ok())
                    {
                        table.set(
                            "initial",
                            value.text.parse::<i64>().unwrap_or(0).to_string(),
                            value.span.clone(),
                        );
                    }
                    let kept = "initial; the file itself is not made or overwritten";
                    self.findings.translated(child, kept);
                }
                _ => self.other(child, &[], &["file", "weight", "init_file"]),
            }
        }
        self.trackers.push(table);
        self.findings.translated(node, "[[track_file]]");
    }

    /// `track_script { NAME [weight NUMBER [reverse]] … }` and its like, into an array of `table`.
    pub(super) fn tracked(&mut self, table: &mut Table, node: &Node) {
        let (key, known) = match node.key() {
            "track_script" => ("track_scripts", Some(self.defined.scripts.clone())),
            "track_process" => ("track_processes", Some(self.defined.processes.clone())),
            "track_file" => ("track_files", Some(self.defined.files.clone())),
            _ => ("track_interfaces", None),
        };
        self.findings.translated(node, key);
        for child in node.children() {
            let name = plain_name(child.key());
            if known.as_ref().is_some_and(|known| !known.contains(&name)) {
                self.findings
                    .unsupported(child, "nothing is defined by that name; keepalived leaves it out too");
                continue;
            }
            let mut value = quoted(&name);
            let mut rest = child.arguments().iter();
            let (mut weight, mut is_reverse) = (None, false);
            while let Some(word) = rest.next() {
                match word.text.as_str() {
                    "weight" => match rest.next().map(|word| word.text.parse::<i64>()) {
                        Some(Ok(number)) => weight = Some(number),
                        _ => self.findings.problem(
                            Problem::at(word.span.clone(), "`weight` without a number")
                                .expected("a number from -254 to 254"),
                        ),
                    },
                    "reverse" => is_reverse = true,
                    "noreverse" => {}
                    other => self.findings.unknown(child, other, &["weight", "reverse", "noreverse"]),
                }
            }
            if weight.is_some() || is_reverse {
                let weight = weight.map(|weight| format!(", weight = {weight}")).unwrap_or_default();
                let reverse = if is_reverse { ", reverse = true" } else { "" };
                value = format!("{{ name = {value}{weight}{reverse} }}");
            }
            table.push(key, &name, value, child.span());
            self.findings.translated(child, key);
        }
    }

    /// Its times are used where a virtual router tracks it.
    pub(super) fn bfd_instance(&mut self, node: &Node) {
        self.findings
            .translated(node, "[virtual_router.bfd] of those that track it, if their peer is its neighbour");
        for child in node.children() {
            match child.key() {
                "neighbor_ip" | "min_tx" | "min_rx" | "multiplier" => {
                    self.findings.translated(child, "[virtual_router.bfd]");
                }
                "source_ip" => self.findings.by_default(child, "BFD comes from the unicast source"),
                "idle_tx" => self.findings.by_default(child, "an idle session sends every second"),
                "weight" => {
                    self.findings.unsupported(child, "BFD tells that an owner is gone; it has no weight");
                }
                "passive" | "ttl" | "hoplimit" | "max_hops" | "multihop" => {
                    self.findings
                        .unsupported(child, "sessions are between nodes of one link, and both begin");
                }
                _ => self.other(child, &[], &["neighbor_ip", "source_ip", "min_tx", "min_rx", "multiplier"]),
            }
        }
    }
}
