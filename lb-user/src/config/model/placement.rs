//! What the daemon puts on the node besides the data plane: addresses, routes, virtual MAC addresses.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use ipnet::IpNet;
use lb_common::{Mac, VirtualMac};

use super::{Rule, VirtualRouter};

/// How the VIPs of a virtual router are on the node that owns them, and what follows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The VIPs are on an interface of this name that has the virtual router's own MAC address (RFC 9568 §7.3); `None`:
    /// they are on the virtual router's interface and have its address.
    pub virtual_mac: Option<String>,
    /// Whether the owner takes packets to a VIP that no service is for (Accept_Mode of RFC 9568 §6.1). Default true.
    pub accept: bool,
    /// VIPs that are not placed as the others.
    pub places: BTreeMap<IpAddr, Place>,
    /// Routes that the owner has.
    pub routes: Vec<Route>,
    /// Policy rules that the owner has.
    pub rules: Vec<Rule>,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            virtual_mac: None,
            accept: true,
            places: BTreeMap::new(),
            routes: Vec::new(),
            rules: Vec::new(),
        }
    }
}

/// What is special about an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The interface, if it is another one than that of the others.
    pub interface: Option<String>,
    /// Its label for `ip` and `ifconfig`, IPv4 only: the interface's name, or that, a colon and something.
    pub label: Option<String>,
    /// Its scope, default global.
    pub scope: Option<Scope>,
}

/// How far an address or a route is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// Within the site.
    Site,
    /// On the link.
    Link,
    /// On this node.
    Host,
}

impl Scope {
    /// The kernel's number for it.
    pub const fn number(self) -> u8 {
        match self {
            Self::Global => 0,
            Self::Site => 200,
            Self::Link => 253,
            Self::Host => 254,
        }
    }
}

/// An address that the node has while the daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    /// The interface.
    pub interface: String,
    /// The address with its prefix, to which it makes a route.
    pub address: IpNet,
    /// Its label, if it has one.
    pub label: Option<String>,
    /// Its scope, default global.
    pub scope: Option<Scope>,
}

/// A route of the kernel's. It has a gateway, an interface or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// Where it leads.
    pub to: IpNet,
    /// The gateway, of the same family.
    pub via: Option<IpAddr>,
    /// The source address of packets that have none yet, of the same family.
    pub source: Option<IpAddr>,
    /// The interface.
    pub interface: Option<String>,
    /// The routing table. Default 254, `main`.
    pub table: u32,
    /// Its metric: the lowest counts. `None`: the kernel's default.
    pub metric: Option<u32>,
    /// How far it is valid. `None`: everywhere with a gateway, on the link without.
    pub scope: Option<Scope>,
}

impl Route {
    /// The table `main`.
    pub const MAIN: u32 = 254;
}

/// In the words of `ip route`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(interface) = &self.interface {
            write!(f, " dev {interface}")?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if self.table != Self::MAIN {
            write!(f, " table {}", self.table)?;
        }
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        Ok(())
    }
}

impl VirtualRouter {
    /// All its VIPs, those that adverts do not name too.
    pub fn all_vips(&self) -> impl Iterator<Item = IpNet> {
        self.vips.iter().chain(&self.excluded_vips).copied()
    }

    /// The interface that the owner has a VIP on.
    pub fn interface_of(&self, vip: IpAddr) -> &str {
        let place = self.placement.places.get(&vip);
        let own = place.and_then(|place| place.interface.as_ref()).or(self.placement.virtual_mac.as_ref());
        own.unwrap_or(&self.interface)
    }

    /// The interface that neighbours ask for a VIP through: that of a virtual MAC address is no link of its own.
    pub fn link_of(&self, vip: IpAddr) -> &str {
        let place = self.placement.places.get(&vip);
        place.and_then(|place| place.interface.as_ref()).unwrap_or(&self.interface)
    }

    /// The MAC address of a VIP, if it is not the interface's own.
    pub fn mac_of(&self, vip: IpAddr) -> Option<Mac> {
        (self.interface_of(vip) != self.link_of(vip)).then(|| self.virtual_mac())
    }

    /// The virtual router's own MAC address (RFC 9568 §7.3).
    pub fn virtual_mac(&self) -> Mac {
        let family = if self.source().is_ipv4() { 1 } else { 2 };
        VirtualMac { end: [family, self.router_id], ..VirtualMac::default() }.mac()
    }

    /// Whether its owner takes packets to a VIP that no service is for. One whose addresses the VIPs are (priority 255)
    /// always does.
    pub fn accepts(&self) -> bool {
        self.placement.accept || self.priority == u8::MAX
    }
}
