//! `global_defs`.

use std::{net::IpAddr, ops::Range};

use super::{
    Translator,
    notify::set_fifo,
    tree::{Node, Word},
    words,
};

/// What is the same for all virtual routers.
#[derive(Default)]
pub(super) struct Globals {
    pub(super) version: Option<(u8, Range<usize>)>,
    /// The user of scripts.
    pub(super) script_user: Option<Word>,
    /// Whether root's scripts must be out of others' reach.
    pub(super) security: bool,
    pub(super) group4: Option<(IpAddr, Range<usize>)>,
    pub(super) group6: Option<(IpAddr, Range<usize>)>,
    /// What `announce_refresh` becomes.
    pub(super) refresh: Option<(std::time::Duration, Range<usize>)>,
    pub(super) interface: Option<Word>,
    /// Whether mails were to be sent of changes of state.
    pub(super) alerts: bool,
}

impl Translator<'_> {
    pub(super) fn global_defs(&mut self, node: &Node) {
        self.findings.translated(node, "what is in it");
        self.globals.alerts |= node
            .children()
            .iter()
            .any(|child| ["smtp_alert", "smtp_alert_vrrp"].contains(&child.key()) && Self::is_on(child));
        for child in node.children() {
            self.global(child);
        }
    }

    fn global(&mut self, node: &Node) {
        match node.key() {
            "vrrp_version" => {
                if let Some((number, span)) = self.number(node) {
                    self.globals.version = number.parse().ok().map(|number| (number, span));
                    self.findings.translated(node, "`version` of each virtual router");
                }
            }
            "script_user" => {
                if let Some(user) = self.argument(node) {
                    self.globals.script_user = Some(user.clone());
                    self.findings.translated(node, "`user` of each script");
                }
            }
            "enable_script_security" => {
                self.globals.security = true;
                self.findings
                    .translated(node, "root's scripts are compared with it when they are translated");
            }
            "vrrp_mcast_group4" | "vrrp_mcast_group6" => self.multicast_group(node),
            "vrrp_garp_master_refresh" => {
                if let Some((refresh, span)) = self.seconds(node) {
                    self.globals.refresh = (!refresh.is_zero()).then_some((refresh, span));
                    self.findings.translated(node, "`announce_refresh` of each virtual router");
                }
            }
            "default_interface" => {
                if let Some(interface) = self.argument(node) {
                    self.globals.interface = Some(interface.clone());
                    self.findings.translated(node, "`interface` where none is named");
                }
            }
            "notify_fifo" | "vrrp_notify_fifo" => self.fifo(node),
            key if words::MAIL.contains(&key) => self.mail(node),
            _ => self.other(node, words::GLOBAL_OTHERS, words::GLOBAL),
        }
    }

    fn multicast_group(&mut self, node: &Node) {
        let Some(word) = self.argument(node) else { return };
        let Some(group) = self.address(word, node.key()) else { return };
        let group = Some((group, word.span.clone()));
        match node.key() {
            "vrrp_mcast_group4" => self.globals.group4 = group,
            _ => self.globals.group6 = group,
        }
        self.findings.translated(node, "`multicast.group` of each virtual router that has no unicast peers");
    }

    fn fifo(&mut self, node: &Node) {
        let Some(path) = self.argument(node) else { return };
        if self.daemon.has("notify_fifo") {
            self.findings.unsupported(node, "there is one FIFO, which gets everything that VRRP tells");
            return;
        }
        set_fifo(&mut self.daemon, path);
        self.findings.translated(node, "[daemon] notify_fifo");
    }

    /// keepalived sends mails about VRRP only where `smtp_alert` says so.
    fn mail(&mut self, node: &Node) {
        if self.globals.alerts {
            self.findings.unsupported(node, "lb sends no mail: a `notify` command or the FIFO can");
            self.inside(node, false);
        } else {
            self.findings.by_default(node, "without `smtp_alert` keepalived sends no mail about VRRP either");
            self.inside(node, true);
        }
    }
}
