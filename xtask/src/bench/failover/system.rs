//! What keeps the VIP in the lab: keepalived or `lb`, with adverts at different intervals.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    time::Duration,
};

use clap::ValueEnum;
use serde::{Serialize, Serializer};

use crate::lab::{Daemon, LabError, LabSpec, NODE_A, NODE_B, NodeSpec, VIP, shipped_config};

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
        }
    }

    /// Whether it is this project's.
    pub(super) fn is_lb(self) -> bool {
        matches!(self, Self::Lb1s)
    }

    /// Time between two adverts.
    pub(super) fn interval(self) -> Duration {
        match self {
            Self::Keepalived1s | Self::Lb1s => Duration::from_secs(1),
            Self::Keepalived100ms => Duration::from_millis(100),
            Self::Keepalived10ms => Duration::from_millis(10),
        }
    }

    /// The tutorial's pair under this daemon, and a second client.
    pub(super) fn lab(self, name: &str, lb: Option<&Path>) -> Result<LabSpec, LabError> {
        let (a, b) = match lb {
            Some(binary) if self.is_lb() => {
                let daemon = |file| -> Result<Daemon, LabError> {
                    Ok(Daemon::Lb { binary: binary.to_owned(), config: shipped_config(file)? })
                };
                (daemon("tutorial-a.toml")?, daemon("tutorial-b.toml")?)
            }
            _ => {
                let daemon = |state, priority, source, peer| Daemon::Keepalived {
                    config: self.keepalived(state, priority, source, peer),
                };
                (daemon("MASTER", 200, NODE_A, NODE_B), daemon("BACKUP", 100, NODE_B, NODE_A))
            }
        };
        let mut spec = LabSpec::pair(name, a, b);
        for node in spec.nodes.iter_mut().filter(|node| node.web.is_some()) {
            node.echo = Some(ECHO);
        }
        spec.nodes.push(NodeSpec::on_lan("newcomer", NEWCOMER));
        Ok(spec)
    }

    /// The tutorial's keepalived.conf, or the same with VRRPv3.
    ///
    /// keepalived 2.2.7 would run `pidof` as the program that the symbolic link names, which is another one: hence `env`.
    fn keepalived(self, state: &str, priority: u8, source: Ipv4Addr, peer: Ipv4Addr) -> String {
        let (version, interval, script, password) = match self {
            Self::Keepalived100ms => (3, "0.1", "0.5", None),
            Self::Keepalived10ms => (3, "0.01", "0.1", None),
            Self::Keepalived1s | Self::Lb1s => (2, "1", "2", Some("letmein")),
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
