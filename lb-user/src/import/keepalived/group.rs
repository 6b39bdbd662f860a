//! `vrrp_sync_group`.

use super::{
    Translator, plain_name, quoted,
    tree::{Node, Word},
    words,
};
use crate::import::{document::Table, report::Directive as _};

const NOTIFY: &str = "[sync_group.notify]";
const OWN_NOTIFY: &str = "[virtual_router.notify]";

impl Translator<'_> {
    pub(super) fn sync_group(&mut self, node: &Node) {
        let Some(name) = self.argument(node) else { return };
        let mut table = Table::new("[[sync_group]]", node.span());
        table.set("name", quoted(&self.name(name)), name.span.clone());
        let mut members = Vec::new();
        for child in node.children() {
            match child.key() {
                "group" => members.extend(self.members(&mut table, child)),
                "track_interface" | "track_script" | "track_process" | "track_file" => {
                    self.tracked(&mut table, child);
                }
                "notify" | "notify_master" | "notify_backup" | "notify_fault" | "notify_stop" => {
                    self.notify(&mut table, NOTIFY, child);
                }
                "smtp_alert" => self.alert(child),
                "global_tracking" => {
                    self.findings.by_default(child, "what one member tracks, all do");
                }
                _ => self.other(child, words::GROUP_OTHERS, words::GROUP),
            }
        }
        match members[..] {
            [] => {
                self.findings.unsupported(
                    node,
                    "none of its virtual routers is defined, so there is nothing to group",
                );
            }
            [alone] => self.alone(node, alone, table),
            _ => {
                self.findings.translated(node, "[[sync_group]]");
                self.same_rank(&members);
                self.groups.push(table);
            }
        }
    }

    /// The places of the members among the virtual routers.
    fn members(&mut self, table: &mut Table, node: &Node) -> Vec<usize> {
        self.findings.translated(node, "routers");
        let mut members = Vec::new();
        for child in node.children() {
            for word in &child.words {
                if let Some(place) = self.routers.iter().position(|router| router.name == word.text) {
                    if !members.contains(&place) {
                        members.push(place);
                    }
                    let name = plain_name(&word.text);
                    table.push("routers", &name, quoted(&name), word.span.clone());
                    self.findings.translated(&single(word), "routers");
                } else {
                    let why = "no vrrp_instance has that name; keepalived leaves it out too";
                    self.findings.unsupported(&single(word), why);
                }
            }
        }
        members
    }

    /// What one virtual router tracks and tells stands in its own table.
    fn alone(&mut self, node: &Node, member: usize, mut group: Table) {
        let own = &mut self.routers[member].table;
        group.remove("routers");
        own.join_arrays(&group);
        self.findings.translated(node, "its only member has what it says");
        for notify in group.take_children(NOTIFY) {
            if own.has_child(OWN_NOTIFY) {
                let why = "its only member has commands of its own, which are run; call both from one script";
                self.findings.differs(notify.at(), "the commands of the group are left out", why);
            } else {
                if notify.has("any") {
                    let why = "a group of one is no group, so `notify` is called with INSTANCE and the instance's name";
                    self.findings.differs(notify.at(), "`notify` of the group is its only member's", why);
                }
                own.add(notify.renamed(OWN_NOTIFY));
            }
        }
    }

    /// Members are owners together, so they have one priority and one mind about preemption.
    fn same_rank(&mut self, members: &[usize]) {
        let value = |routers: &[super::Router], member: usize, key: &str| {
            routers[member].table.value(key).map(|(value, at)| (value.to_owned(), at))
        };
        let first = value(&self.routers, members[0], "priority");
        for &member in &members[1..] {
            let own = value(&self.routers, member, "priority");
            if let (Some((first, _)), Some((own, at))) = (&first, own)
                && *first != own
            {
                self.routers[member].table.set("priority", first, at.clone());
                self.findings.differs(
                    at,
                    format!("the priority {own} becomes {first}, that of the group's first"),
                    "virtual routers of a group are owner or backup together, so they have one rank",
                );
            }
        }
        let keeps = members.iter().find_map(|&member| value(&self.routers, member, "preempt"));
        if let Some((_, at)) = keeps {
            for &member in members {
                let table = &mut self.routers[member].table;
                if !table.has("preempt") {
                    table.set("preempt", "false", at.clone());
                    self.findings.differs(
                        table.at(),
                        "it gets `nopreempt`, which another of its group has",
                        "virtual routers of a group are owner or backup together",
                    );
                }
            }
        }
    }
}

fn single(word: &Word) -> Node {
    Node { words: vec![word.clone()], block: None }
}
