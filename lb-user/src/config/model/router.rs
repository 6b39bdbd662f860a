//! Virtual routers.

use std::{fmt, net::IpAddr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Placement;

use super::{Notify, Tracked};

/// A VRRP instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualRouter {
    /// The name in logs and status.
    pub name: String,
    /// The interface adverts are sent and VIPs are added on.
    pub interface: String,
    /// VRID, 1–255.
    pub router_id: u8,
    /// 1–255; 255 claims at once and yields to nobody (the address owner of RFC 9568).
    pub priority: u8,
    /// Whether a node of higher priority takes the VIP from a living owner. Default true.
    pub preempt: bool,
    /// How long it lets a living owner of lower priority be, after its start or a fault. Default 0.
    pub preempt_delay: Duration,
    /// Time between adverts; whole seconds 1–255 in version 2, hundredths of a second up to 40.95 s in version 3.
    /// Default 1 s.
    pub advert_interval: Duration,
    /// How often an owner announces the VIPs anew, in case clients believed another; `None`: never. Default 1 s.
    pub announce_refresh: Option<Duration>,
    /// Protocol version; only 2 is built yet.
    pub version: VrrpVersion,
    /// Where adverts go.
    pub transport: Transport,
    /// VRRPv2 simple password.
    pub authentication: Option<Password>,
    /// The VIPs, with the prefix they carry. At least one is IPv4: adverts name those, in this order. IPv6 VIPs
    /// follow the same lease without being named.
    pub vips: Vec<IpNet>,
    /// VIPs that follow the same lease and are not named in adverts (keepalived: virtual_ipaddress_excluded), of either family.
    pub excluded_vips: Vec<IpNet>,
    /// How the VIPs are on the node.
    pub placement: Placement,
    /// How the other nodes' death is noticed sooner than by their adverts; `None`: it is not.
    pub bfd: Option<Bfd>,
    /// What it watches, each thing with its effect; its group may add to that.
    pub tracking: Vec<Tracked>,
    /// Whom to tell when it changes its state.
    pub notify: Notify,
}

/// Bidirectional forwarding detection with each peer. The same for all virtual routers of an interface and source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bfd {
    /// Time between packets, 10 ms–1 s. Default 50 ms.
    pub interval: Duration,
    /// Of how many packets in a row the loss means that the sender is gone, 2–50. Default 3.
    pub multiplier: u8,
}

impl Default for Bfd {
    fn default() -> Self {
        Self { interval: Duration::from_millis(50), multiplier: 3 }
    }
}

impl Bfd {
    /// The shortest advert interval whose own patience is worth shortening: with faster adverts there is no BFD unless
    /// it is asked for.
    pub const WORTHWHILE: Duration = Duration::from_millis(200);

    /// After how long without a packet a node that agrees on the interval counts as gone.
    pub fn detection_time(&self) -> Duration {
        self.interval * u32::from(self.multiplier)
    }
}

/// The version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VrrpVersion {
    /// RFC 3768, IPv4 only.
    #[default]
    V2,
    /// RFC 9568 (which replaced RFC 5798), IPv4 and IPv6.
    V3,
}

/// How adverts travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// To each peer's address. `peers` is never empty and never holds `source`.
    Unicast {
        /// This node's address.
        source: IpAddr,
        /// The other nodes.
        peers: Vec<IpAddr>,
    },
}

/// A VRRPv2 simple text password (RFC 2338 §10.2): 1–8 bytes, padded with zeros. Never printed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Password(pub [u8; 8]);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl VirtualRouter {
    /// The VIPs that adverts name, in their order.
    pub fn advertised(&self) -> impl Iterator<Item = IpAddr> {
        let is_ipv4 = self.source().is_ipv4();
        self.vips.iter().map(IpNet::addr).filter(move |vip| vip.is_ipv4() == is_ipv4)
    }

    /// Whether both are the same to the protocol; what is tracked, and who is told, may differ.
    pub fn speaks_as(&self, other: &Self) -> bool {
        let Self { tracking, notify, .. } = other.clone();
        Self { tracking, notify, ..self.clone() } == *other
    }

    /// This node's address, which its adverts come from.
    pub fn source(&self) -> IpAddr {
        let Transport::Unicast { source, .. } = &self.transport;
        *source
    }

    /// The other nodes.
    pub fn peers(&self) -> &[IpAddr] {
        let Transport::Unicast { peers, .. } = &self.transport;
        peers
    }
}
