//! What a lab is made of: nodes, the segments that join them, and what runs on each.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::error::LabError;

/// The VIP of the tutorial.
pub const VIP: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 4);
/// The tutorial's master.
pub const NODE_A: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 2);
/// The tutorial's slave.
pub const NODE_B: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 3);
/// Somebody else on the same network.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 10);

/// Everything needed to build a lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabSpec {
    /// Names the lab's folder; several labs stand side by side by name.
    pub name: String,
    /// The nodes, in the order they are started.
    pub nodes: Vec<NodeSpec>,
}

/// One machine of the lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its host name.
    pub name: String,
    /// Its network interfaces.
    pub links: Vec<Link>,
    /// Where packets to other networks go.
    pub default_route: Option<Ipv4Addr>,
    /// Whether it forwards packets.
    pub forwarding: bool,
    /// Whether it has IPv6, with an address for every IPv4 address (see [`v6`]).
    pub ipv6: bool,
    /// The VLAN (802.1Q) that its addresses are in: they are on an interface `eth0.100` on `eth0`. The kernel must have
    /// 802.1Q.
    pub vlan: Option<u16>,
    /// The nginx on it.
    pub web: Option<Web>,
    /// Where a process of its own answers UDP datagrams; the address need not be the node's yet.
    pub echo: Option<SocketAddrV4>,
    /// What keeps the VIP.
    pub daemon: Daemon,
}

/// One interface of a node, its other end plugged into a segment's bridge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Link {
    /// The bridge, by name; all links of one segment see each other.
    pub segment: String,
    /// The interface's name in the node.
    pub interface: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Bits of the address that name the network.
    pub prefix: u8,
    /// Whether the bridge's end of the link has a native XDP program (one that lets everything pass). Native XDP in the
    /// node needs it for packets that it sends back: veth delivers them only to a peer with a program.
    pub peer_xdp: bool,
}

impl Link {
    /// The interface's MAC address, made from its IPv4 address so that a capture can be read by eye.
    pub fn mac(&self) -> MacAddress {
        let [a, b, c, d] = self.address.octets();
        MacAddress([0x02, 0x00, a, b, c, d])
    }

    /// Its IPv6 address, made from its IPv4 address by [`v6`].
    pub fn address_v6(&self) -> Ipv6Addr {
        v6(self.address)
    }

    /// Bits of the IPv6 address that name the network: as many follow as in the IPv4 address.
    pub fn prefix_v6(&self) -> u8 {
        96 + self.prefix
    }

    /// The name of the bridge's end. Linux allows 15 characters.
    pub(crate) fn port(&self, node: &str) -> String {
        let mut name = format!("{node}-{}", self.interface);
        name.truncate(15);
        name
    }
}

/// The IPv6 address that goes with an IPv4 address: fd77:: with that in its last four bytes.
pub fn v6(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = address.octets();
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, word(a, b), word(c, d))
}

/// An nginx and its page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Web {
    /// The page's title.
    pub title: String,
    /// Where it listens.
    pub port: u16,
}

/// What keeps the VIP on a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Daemon {
    /// Nothing.
    None,
    /// This project's daemon.
    Lb {
        /// The executable.
        binary: PathBuf,
        /// The text of its TOML configuration.
        config: String,
    },
    /// keepalived, as a peer or a stand-in.
    Keepalived {
        /// The text of its configuration.
        config: String,
    },
}

/// How `lb` is told to attach its XDP program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum XdpMode {
    /// As `lb` finds right.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the stack.
    Generic,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MacAddress(
    /// In the order of transmission.
    pub [u8; 6],
);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

impl LabSpec {
    /// The tutorial's network: client, node-a and node-b on one segment, an nginx with its own page on both nodes.
    pub fn pair(name: &str, daemon_a: Daemon, daemon_b: Daemon) -> Self {
        let nodes = vec![
            NodeSpec::on_lan("client", CLIENT),
            NodeSpec { daemon: daemon_a, ..NodeSpec::on_lan("node-a", NODE_A).with_web("主机", 80) },
            NodeSpec { daemon: daemon_b, ..NodeSpec::on_lan("node-b", NODE_B).with_web("从机", 80) },
        ];
        Self { name: name.to_owned(), nodes }
    }

    /// The tutorial's pair under `lb`, with the configurations of the repository.
    pub fn tutorial(name: &str, lb: &Path, xdp: XdpMode) -> Result<Self, LabError> {
        let daemon = |file: &str| -> Result<Daemon, LabError> {
            let config = with_xdp(&shipped_config(file)?, xdp, &["eth0"]);
            Ok(Daemon::Lb { binary: lb.to_owned(), config })
        };
        Ok(Self::pair(name, daemon("tutorial-a.toml")?, daemon("tutorial-b.toml")?).with_peer_xdp(xdp))
    }

    /// Puts a program on the bridge's ends if `xdp` is native (see [`Link::peer_xdp`]).
    #[must_use]
    pub fn with_peer_xdp(mut self, xdp: XdpMode) -> Self {
        for link in self.nodes.iter_mut().flat_map(|node| &mut node.links) {
            link.peer_xdp = xdp == XdpMode::Native;
        }
        self
    }

    /// Puts every node's addresses into a VLAN.
    #[must_use]
    pub fn in_vlan(mut self, vlan: u16) -> Self {
        for node in &mut self.nodes {
            node.vlan = Some(vlan);
        }
        self
    }

    /// Gives every node IPv6.
    #[must_use]
    pub fn with_ipv6(mut self) -> Self {
        for node in &mut self.nodes {
            node.ipv6 = true;
        }
        self
    }

    /// The segments that links name, without repeats.
    pub(crate) fn segments(&self) -> Vec<&str> {
        let mut segments: Vec<&str> =
            self.nodes.iter().flat_map(|node| &node.links).map(|link| link.segment.as_str()).collect();
        segments.sort_unstable();
        segments.dedup();
        segments
    }

    /// The node that `mac` belongs to.
    pub fn node_of(&self, mac: MacAddress) -> Option<&str> {
        let node = self.nodes.iter().find(|node| node.links.iter().any(|link| link.mac() == mac))?;
        Some(&node.name)
    }
}

impl NodeSpec {
    /// A node with `eth0` on the tutorial's network and nothing running on it.
    pub fn on_lan(name: &str, address: Ipv4Addr) -> Self {
        Self {
            name: name.to_owned(),
            links: vec![Link {
                segment: "lan".to_owned(),
                interface: "eth0".to_owned(),
                address,
                prefix: 16,
                peer_xdp: false,
            }],
            default_route: None,
            forwarding: false,
            ipv6: false,
            vlan: None,
            web: None,
            echo: None,
            daemon: Daemon::None,
        }
    }

    /// Adds an nginx.
    #[must_use]
    pub fn with_web(mut self, title: &str, port: u16) -> Self {
        self.web = Some(Web { title: title.to_owned(), port });
        self
    }
}

/// The text of a configuration in the repository's `configs` folder.
pub fn shipped_config(file: &str) -> Result<String, LabError> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(file);
    std::fs::read_to_string(&path).map_err(|source| LabError::Config { path, source })
}

/// `config` with the XDP mode of `interfaces` said, or as it is if the mode is [`XdpMode::Auto`].
pub fn with_xdp(config: &str, xdp: XdpMode, interfaces: &[&str]) -> String {
    let mut parts = vec![config.to_owned()];
    if xdp != XdpMode::Auto {
        let section = |interface: &&str| format!("\n[interface.{interface}]\nxdp = \"{xdp}\"\n");
        parts.extend(interfaces.iter().map(section));
    }
    parts.concat()
}

/// Checks that `name` can name a lab.
pub(crate) fn check_name(name: &str) -> Result<(), LabError> {
    let good = (1..=32).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good { Ok(()) } else { Err(LabError::BadName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        for bad in ["", ".", "..", "a/b", "A", "a b", "ä", &"x".repeat(33)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        for good in ["lab", "t-1", &"x".repeat(32)] {
            check_name(good).unwrap();
        }
    }

    #[test]
    fn a_mac_address_names_its_node() {
        let lab = LabSpec::pair("x", Daemon::None, Daemon::None);
        assert_eq!(lab.node_of(MacAddress([2, 0, 172, 20, 128, 3])), Some("node-b"));
        assert_eq!(lab.node_of(MacAddress([2, 0, 172, 20, 128, 4])), None);
        assert_eq!(lab.nodes[1].links[0].mac().to_string(), "02:00:ac:14:80:02");
    }

    #[test]
    fn the_xdp_mode_is_said_only_when_it_was_chosen() {
        assert_eq!(with_xdp("a = 1\n", XdpMode::Auto, &["eth0"]), "a = 1\n");
        assert_eq!(
            with_xdp("a = 1\n", XdpMode::Native, &["eth0"]),
            "a = 1\n\n[interface.eth0]\nxdp = \"native\"\n"
        );
    }
}
