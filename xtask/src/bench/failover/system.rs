//! What keeps the VIP in the lab: keepalived or `lb`, with adverts at different intervals.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    time::Duration,
};

use clap::ValueEnum;
use serde::{Serialize, Serializer};

use crate::lab::{
    Daemon, LabError, LabSpec, NODE_A, NODE_B, NodeSpec, VIP, probe::advert::Advert, shipped_config,
};

/// Where every node's own process answers UDP datagrams to the VIP. No service is there: only the owner answers.
pub(super) const ECHO: SocketAddrV4 = SocketAddrV4::new(VIP, 7_007);
/// A client that has not asked before.
const NEWCOMER: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 21);

/// A daemon and its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum System {
    /// keepalived, VRRPv2, adverts every second: the tutorial's configuration
    #[value(name = "keepalived-1s")]
    Keepalived1s,
    /// keepalived, VRRPv3, adverts every 0.1 s
    #[value(name = "keepalived-100ms")]
    Keepalived100ms,
    /// keepalived, VRRPv3, adverts every 0.01 s
    #[value(name = "keepalived-10ms")]
    Keepalived10ms,
    /// lb with the tutorial's configuration: VRRPv2, adverts every second
    #[value(name = "lb-1s")]
    Lb1s,
    /// The same, but for the backup, which is under keepalived; only the owner's nginx is a backend
    #[value(name = "lb-keepalived")]
    LbKeepalived,
    /// lb, VRRPv3, adverts every 0.1 s
    #[value(name = "lb-100ms")]
    Lb100ms,
    /// lb, VRRPv3, adverts every 0.01 s
    #[value(name = "lb-10ms")]
    Lb10ms,
}

impl Serialize for System {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

impl System {
    /// As on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The head of its column.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Keepalived1s => "keepalived, v2, 1 s",
            Self::Keepalived100ms => "keepalived, v3, 0.1 s",
            Self::Keepalived10ms => "keepalived, v3, 0.01 s",
            Self::Lb1s => "`lb`, tutorial's, v2, 1 s",
            Self::LbKeepalived => "`lb`, keepalived the backup, v2, 1 s",
            Self::Lb100ms => "`lb`, v3, 0.1 s",
            Self::Lb10ms => "`lb`, v3, 0.01 s",
        }
    }

    /// Whether the owner's is this project's.
    pub(super) fn is_lb(self) -> bool {
        matches!(self, Self::Lb1s | Self::LbKeepalived | Self::Lb100ms | Self::Lb10ms)
    }

    /// Time between two adverts.
    pub(super) fn interval(self) -> Duration {
        match self {
            Self::Keepalived1s | Self::Lb1s | Self::LbKeepalived => Duration::from_secs(1),
            Self::Keepalived100ms | Self::Lb100ms => Duration::from_millis(100),
            Self::Keepalived10ms | Self::Lb10ms => Duration::from_millis(10),
        }
    }

    /// The tutorial's pair under this daemon, and a second client.
    pub(super) fn lab(self, name: &str, lb: Option<&Path>) -> Result<LabSpec, LabError> {
        let keepalived = |state, priority, source, peer| Daemon::Keepalived {
            config: self.keepalived(state, priority, source, peer),
        };
        let backup = || keepalived("BACKUP", 100, NODE_B, NODE_A);
        let (a, b) = match lb {
            Some(binary) if self.is_lb() => {
                let daemon = |file| -> Result<Daemon, LabError> {
                    Ok(Daemon::Lb { binary: binary.to_owned(), config: self.lb(&shipped_config(file)?) })
                };
                let backup = if self == Self::LbKeepalived { backup() } else { daemon("tutorial-b.toml")? };
                (daemon("tutorial-a.toml")?, backup)
            }
            _ => (keepalived("MASTER", 200, NODE_A, NODE_B), backup()),
        };
        let mut spec = LabSpec::pair(name, a, b);
        for node in spec.nodes.iter_mut().filter(|node| node.web.is_some()) {
            node.echo = Some(ECHO);
        }
        spec.nodes.push(NodeSpec::on_lan("newcomer", NEWCOMER));
        Ok(spec)
    }

    /// An advert as this daemon's pair would take it, of the tutorial's virtual router.
    pub(super) fn advert(self, priority: u8) -> Advert {
        let (version, interval) = match self {
            Self::Keepalived1s | Self::Lb1s | Self::LbKeepalived => (2, 1),
            Self::Keepalived100ms | Self::Lb100ms => (3, 10),
            Self::Keepalived10ms | Self::Lb10ms => (3, 1),
        };
        Advert { version, priority, interval, ..Advert::default() }
    }

    /// The tutorial's configuration, or the same with VRRPv3, which has no passwords; or without the other node's nginx,
    /// which does not take packets for the VIP while keepalived is a backup.
    fn lb(self, tutorial: &str) -> String {
        let (advert, script) = match self {
            Self::LbKeepalived => return without_last_backend(tutorial),
            Self::Lb100ms => ("100ms", "500ms"),
            Self::Lb10ms => ("10ms", "100ms"),
            _ => return tutorial.to_owned(),
        };
        tutorial
            .replace("advert_interval = \"1s\"\n", &format!("advert_interval = \"{advert}\"\nversion = 3\n"))
            .replace("interval = \"2s\"\n", &format!("interval = \"{script}\"\n"))
            .replace("password = \"letmein\"\n", "")
    }

    /// The tutorial's keepalived.conf, or the same with VRRPv3.
    ///
    /// keepalived 2.2.7 would run `pidof` as the program that the symbolic link names, which is another one: hence `env`.
    fn keepalived(self, state: &str, priority: u8, source: Ipv4Addr, peer: Ipv4Addr) -> String {
        let (version, interval, script, password) = match self {
            Self::Keepalived100ms | Self::Lb100ms => (3, "0.1", "0.5", None),
            Self::Keepalived10ms | Self::Lb10ms => (3, "0.01", "0.1", None),
            Self::Keepalived1s | Self::Lb1s | Self::LbKeepalived => (2, "1", "2", Some("letmein")),
        };
        let mut text = format!(
            "global_defs {{\n  script_user root\n  vrrp_version {version}\n}}\n\
             vrrp_script chk_nginx {{\n  script \"/usr/bin/env pidof nginx\"\n  interval {script}\n}}\n\
             vrrp_instance VI_1 {{\n  state {state}\n  interface eth0\n  virtual_router_id 33\n  priority {priority}\n\
             \x20 advert_int {interval}\n  unicast_src_ip {source}\n  unicast_peer {{\n    {peer}\n  }}\n\
             \x20 virtual_ipaddress {{\n    {VIP}/24 dev eth0\n  }}\n  track_script {{\n    chk_nginx\n  }}\n"
        );
        if let Some(password) = password {
            let _ = writeln!(text, "  authentication {{\n    auth_type PASS\n    auth_pass {password}\n  }}");
        }
        text + "}\n"
    }
}

/// The configuration of either daemon with another priority.
pub(super) fn with_priority(config: &str, priority: u8) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix("priority ") {
        Some(rest) if rest.starts_with('=') => format!("priority = {priority}\n"),
        Some(_) => format!("  priority {priority}\n"),
        None => format!("{line}\n"),
    };
    config.lines().map(line).collect()
}

fn without_last_backend(config: &str) -> String {
    config.rfind("[[service.backend]]").map_or(config, |at| &config[..at]).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_another_one_in_both_languages() {
        let tutorial = shipped_config("tutorial-a.toml").expect("it is in the repository");
        let keepalived = System::Keepalived1s.keepalived("MASTER", 200, NODE_A, NODE_B);
        for (text, before, after) in [
            (tutorial, "\npriority = 200\n", "\npriority = 50\n"),
            (keepalived, "  priority 200\n", "  priority 50\n"),
        ] {
            assert!(text.contains(before), "{text}");
            assert_eq!(with_priority(&text, 50), text.replace(before, after));
        }
    }

    #[test]
    fn beside_keepalived_the_owners_nginx_is_the_only_backend() {
        let tutorial = shipped_config("tutorial-a.toml").expect("it is in the repository");
        let text = System::LbKeepalived.lb(&tutorial);
        assert!(text.contains("address = \"172.20.128.2\"") && !text.contains("address = \"172.20.128.3\""));
        assert!(text.contains("peers = [\"172.20.128.3\"]"), "{text}");
    }

    #[test]
    fn the_faster_configurations_differ_from_the_tutorials_in_their_times() {
        let tutorial = shipped_config("tutorial-a.toml").expect("it is in the repository");
        assert_eq!(System::Lb1s.lb(&tutorial), tutorial);
        for (system, advert, script) in
            [(System::Lb100ms, "100ms", "500ms"), (System::Lb10ms, "10ms", "100ms")]
        {
            let text = system.lb(&tutorial);
            assert!(text.contains(&format!("advert_interval = \"{advert}\"\nversion = 3\n")), "{text}");
            assert!(text.contains(&format!("\ninterval = \"{script}\"\n")), "{text}");
            assert!(!text.contains("\npassword"), "{text}");
        }
    }
}
