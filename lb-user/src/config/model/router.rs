//! Virtual routers.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Placement;

use super::{Authentication, Notify, Password, Tracked};

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
    /// How often an owner announces the VIPs anew, in case clients believed another; `None`: never. Default 1 s.
    pub announce_refresh: Option<Duration>,
    /// Time between adverts: whole seconds 1–255 in version 2, hundredths of a second 0.01–40.95 s in version 3.
    /// Default 1 s.
    pub advert_interval: Duration,
    /// Protocol version. Default 2 where adverts go over IPv4, 3 (which is all there is) over IPv6.
    pub version: VrrpVersion,
    /// Where adverts go, and over which family.
    pub transport: Transport,
    /// VRRPv2 simple password.
    pub password: Option<Password>,
    /// Keys that adverts are signed with; only between nodes of this program.
    pub authentication: Option<Authentication>,
    /// What the checksum of a version-3 advert over IPv4 covers.
    pub checksum: ChecksumForm,
    /// The VIPs, with the prefix they carry. At least one is of the family of the adverts, which name those, in this
    /// order. Those of the other family follow the same lease without being named.
    pub vips: Vec<IpNet>,
    /// VIPs that follow the same lease and are not named in adverts (keepalived: virtual_ipaddress_excluded), of either family.
    pub excluded_vips: Vec<IpNet>,
    /// How the VIPs are on the node.
    pub placement: Placement,
    /// How the other nodes' death is noticed sooner than by their adverts; `None`: it is not.
    pub bfd: Option<Bfd>,
    /// An address that must answer: a node that reaches neither it nor a peer claims nothing.
    pub witness: Option<IpAddr>,
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
    /// To each peer's address. `peers` is never empty, of one family with `source`, and never holds it.
    Unicast {
        /// This node's address.
        source: IpAddr,
        /// The other nodes.
        peers: Vec<IpAddr>,
        /// The lowest TTL or hop limit an advert may arrive with. Default 255: it has crossed no router.
        min_ttl: u8,
    },
    /// To everybody on the link who listens to the group.
    Multicast {
        /// This node's address; `None`: the interface's own, which only the running node knows.
        source: Option<IpAddr>,
        /// 224.0.0.18 or ff02::12, if not another of the same scope.
        group: IpAddr,
    },
}

/// What the checksum of a version-3 advert over IPv4 covers. Both are accepted; over IPv6 there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChecksumForm {
    /// The message and a pseudo header, as keepalived and FRR have it.
    #[default]
    PseudoHeader,
    /// The message alone (RFC 9568 §5.2.8).
    MessageOnly,
}

impl Transport {
    /// The group of RFC 3768 §5.2.2 and RFC 9568 §5.1.1.2.
    pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
    /// The group of RFC 9568 §5.1.2.2.
    pub const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

    /// Whether adverts go over IPv4.
    pub fn is_ipv4(&self) -> bool {
        match self {
            Self::Unicast { source, .. } => source.is_ipv4(),
            Self::Multicast { group, .. } => group.is_ipv4(),
        }
    }

    /// The lowest TTL or hop limit an advert may arrive with.
    pub fn min_ttl(&self) -> u8 {
        match self {
            Self::Unicast { min_ttl, .. } => *min_ttl,
            Self::Multicast { .. } => u8::MAX,
        }
    }
}

impl VirtualRouter {
    /// The VIPs that adverts name, in their order.
    pub fn advertised(&self) -> impl Iterator<Item = IpAddr> {
        let is_ipv4 = self.transport.is_ipv4();
        self.vips.iter().map(IpNet::addr).filter(move |vip| vip.is_ipv4() == is_ipv4)
    }

    /// Whether both are the same to the protocol; what is tracked, and who is told, may differ.
    pub fn speaks_as(&self, other: &Self) -> bool {
        let Self { witness, tracking, notify, .. } = other.clone();
        Self { witness, tracking, notify, ..self.clone() } == *other
    }

    /// This node's address, which its adverts come from; the unspecified one while only the interface knows it.
    pub fn source(&self) -> IpAddr {
        match self.transport {
            Transport::Unicast { source, .. } | Transport::Multicast { source: Some(source), .. } => source,
            Transport::Multicast { source: None, group: IpAddr::V4(_) } => Ipv4Addr::UNSPECIFIED.into(),
            Transport::Multicast { source: None, group: IpAddr::V6(_) } => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// The other nodes; none where adverts are multicast, and whoever sends them is one.
    pub fn peers(&self) -> &[IpAddr] {
        match &self.transport {
            Transport::Unicast { peers, .. } => peers,
            Transport::Multicast { .. } => &[],
        }
    }

    /// Which of the interface's addresses, in the kernel's order, adverts come from if the configuration does not
    /// say: the first IPv4 one (its primary address), or the first link-local one of IPv6 (RFC 9568 §5.1.2.1). One of
    /// this virtual router's own VIPs never does.
    pub fn choose_source(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Option<IpAddr> {
        let is_ipv4 = self.transport.is_ipv4();
        addresses.into_iter().find(|address| {
            let suits = match address {
                IpAddr::V4(_) => is_ipv4,
                IpAddr::V6(address) => !is_ipv4 && address.is_unicast_link_local(),
            };
            suits && !self.all_vips().any(|vip| vip.addr() == *address)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(group: IpAddr, vips: &[&str]) -> VirtualRouter {
        VirtualRouter {
            name: "VI_1".to_owned(),
            interface: "eth0".to_owned(),
            router_id: 1,
            priority: 100,
            preempt: true,
            preempt_delay: Duration::ZERO,
            announce_refresh: None,
            witness: None,
            advert_interval: Duration::from_secs(1),
            version: VrrpVersion::V3,
            transport: Transport::Multicast { source: None, group },
            password: None,
            authentication: None,
            checksum: ChecksumForm::default(),
            vips: vips.iter().map(|vip| vip.parse().expect("a VIP")).collect(),
            excluded_vips: Vec::new(),
            placement: Placement::default(),
            bfd: None,
            tracking: Vec::new(),
            notify: Notify::default(),
        }
    }

    fn addresses(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|address| address.parse().expect("an address")).collect()
    }

    #[test]
    fn source_of_multicast_is_the_interfaces_own_address_of_the_family_and_never_a_vip() {
        let own = addresses(&["2001:db8::2", "192.0.2.4", "192.0.2.2", "fe80::4", "fe80::2", "192.0.2.3"]);
        let four = router(Transport::GROUP.into(), &["192.0.2.4/24", "2001:db8::4/64"]);
        assert_eq!(four.choose_source(own.clone()), Some(own[2]));
        let six = router(Transport::GROUP6.into(), &["fe80::4/64", "2001:db8::4/64", "192.0.2.4/24"]);
        assert_eq!(six.choose_source(own.clone()), Some(own[4]));
        assert_eq!(six.choose_source(addresses(&["192.0.2.2", "2001:db8::2"])), None);
        assert!(six.source().is_unspecified() && six.source().is_ipv6());
    }

    #[test]
    fn adverts_name_the_vips_of_their_own_family() {
        let vips = ["192.0.2.4/24", "fe80::4/64", "2001:db8::4/64", "192.0.2.5/24"];
        let named = |group| router(group, &vips).advertised().collect::<Vec<_>>();
        assert_eq!(named(Transport::GROUP.into()), addresses(&["192.0.2.4", "192.0.2.5"]));
        assert_eq!(named(Transport::GROUP6.into()), addresses(&["fe80::4", "2001:db8::4"]));
    }
}
