//! The maps the fixtures run against, and what the program made of a frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb::{
    config::PacketLog,
    dataplane::{Dataplane as _, LoadOptions, Program, XdpDataplane},
};
use lb_common::{
    Address, Backend, BackendCounters, Be16, Device, Interface, LEASE_BACKUP, LEASE_FOREVER, MODE_DR,
    MODE_GUE, MODE_IPIP, MODE_LOCAL, MODE_NAT, Mac, NatReply, NatReplyKey6, NextHop, RangeKey, Service,
    ServiceKey6, Tag, Verdict, Vip, VirtualMac,
};

use crate::{
    namespace::{index, ip_batch},
    packets::OWN_MAC,
    pool::{self, Lent},
};

/// XDP actions.
pub(crate) const DROP: u32 = 1;
pub(crate) const PASS: u32 = 2;
pub(crate) const TX: u32 = 3;
pub(crate) const REDIRECT: u32 = 4;

/// This node owns it.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 4);
/// This node is backup of it.
pub(crate) const VIP_BACKUP: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 5);
/// Its lease ran out.
pub(crate) const VIP_EXPIRED: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 6);
/// Its lease does not exist: a fault of lb.
pub(crate) const VIP_NO_LEASE: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 7);
/// Its owner takes nothing for itself.
pub(crate) const VIP_REFUSING: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 64);
pub(crate) const VIP6_REFUSING: Ipv6Addr = ipv6(0x64);
/// Another node has just become owner, and this one has it as an address still.
pub(crate) const VIP_LEFT: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 65);
pub(crate) const VIP6_LEFT: Ipv6Addr = ipv6(0x65);
/// The same of IPv6.
pub(crate) const VIP6: Ipv6Addr = ipv6(4);
pub(crate) const VIP6_BACKUP: Ipv6Addr = ipv6(5);
pub(crate) const VIP6_EXPIRED: Ipv6Addr = ipv6(6);
pub(crate) const OTHER6: Ipv6Addr = ipv6(0x777);
/// Nobody's.
pub(crate) const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// Ports of the services, TCP unless told otherwise, on each of the VIPs.
pub(crate) const DR: u16 = 80;
pub(crate) const DR_FAR: u16 = 81;
pub(crate) const NAT: u16 = 82;
pub(crate) const LOCAL: u16 = 83;
pub(crate) const EMPTY: u16 = 84;
pub(crate) const HOLE: u16 = 85;
pub(crate) const UNRESOLVED: u16 = 86;
pub(crate) const NO_RING: u16 = 87;
pub(crate) const NO_SUCH_BACKEND: u16 = 88;
pub(crate) const UNUSED_BACKEND: u16 = 89;
pub(crate) const NAT_UNRESOLVED: u16 = 90;
pub(crate) const NO_INTERFACE: u16 = 91;
pub(crate) const NAT_FAR: u16 = 92;
/// By backends of IPv4 and IPv6.
pub(crate) const IPIP: u16 = 93;
pub(crate) const IPIP6: u16 = 94;
pub(crate) const GUE: u16 = 95;
pub(crate) const GUE6: u16 = 96;
/// `ipip` to IPv4 by a way that takes 1,400 bytes.
pub(crate) const NARROW: u16 = 97;
/// By backends behind a VLAN: through the interface packets come in by, through the other one, and the first by `ipip`.
pub(crate) const DR_VLAN: u16 = 70;
pub(crate) const DR_VLAN_FAR: u16 = 71;
pub(crate) const IPIP_VLAN: u16 = 72;
/// The same by a way that takes 1,290 bytes: less than IPv6 needs within.
pub(crate) const NARROWER: u16 = 98;
/// The first of 1,024 ports of one service.
pub(crate) const RANGE: u16 = 20_480;
/// The first of 16 ports of one service with a local backend.
pub(crate) const LOCAL_RANGE: u16 = 30_000;
/// UDP.
pub(crate) const NAT_UDP: u16 = 53;
pub(crate) const DR_UDP: u16 = 54;
/// A port of no service.
pub(crate) const CLOSED: u16 = 9_999;

/// The VLAN device on top of the interface packets come in by, a VLAN device on that, and one on the other interface.
pub(crate) const VLAN: Tag = Tag::new(Tag::PROTOCOL, 100);
pub(crate) const VLAN_INNER: Tag = Tag::new(Tag::PROTOCOL, 7);
pub(crate) const VLAN_FAR: Tag = Tag::new(Tag::PROTOCOL, 200);
/// A client behind [`VLAN`], and its MAC address.
pub(crate) const VLAN_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 100, 9);
pub(crate) const VLAN_CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x0c]);

/// The director that shares the services.
pub(crate) const DIRECTOR: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// The next hop of the backends reached through the interface packets come in by.
pub(crate) const NEAR: Mac = Mac([2, 0, 0, 0, 0, 0x20]);
/// The next hop of the others.
pub(crate) const FAR: Mac = Mac([2, 0, 0, 0, 0, 0x21]);
/// The interface packets come in by (the loopback, for the kernel's test runs).
pub(crate) const NEAR_MAC: Mac = OWN_MAC;
/// The other interface.
pub(crate) const FAR_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xa2]);

/// The backend behind [`NAT`] and [`NAT_UDP`].
pub(crate) const NAT_BACKEND: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 20);
/// Its TCP port.
pub(crate) const NAT_PORT: u16 = 8_080;
/// Its UDP port.
pub(crate) const NAT_UDP_PORT: u16 = 5_353;
/// An address of this node.
pub(crate) const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// What the interface takes that test runs come in by: what is longer was merged.
pub(crate) const INGRESS_MTU: usize = 2_000;
/// A client there is a route to but no neighbour entry.
pub(crate) const SILENT_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);

/// The same of IPv6.
pub(crate) const NAT_BACKEND6: Ipv6Addr = ipv6(0x20);
pub(crate) const OWN_ADDRESS6: Ipv6Addr = ipv6(1);
/// The ends of the outer packets.
pub(crate) const TUNNEL: (IpAddr, IpAddr) =
    (IpAddr::V4(OWN_ADDRESS), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 20)));
pub(crate) const TUNNEL6: (IpAddr, IpAddr) = (IpAddr::V6(OWN_ADDRESS6), IpAddr::V6(ipv6(0x20)));

const fn ipv6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

/// A loaded program with the maps of the fixtures.
pub(crate) struct World {
    pub(crate) dataplane: Lent,
    /// The identifiers of its backends, the only ones whose counters move.
    identifiers: Vec<u32>,
}

/// What a frame did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) action: u32,
    /// Every verdict counted, with how often.
    pub(crate) verdicts: Vec<(Verdict, u64)>,
    /// Every backend counted, with packets, bytes, connections.
    pub(crate) backends: Vec<(u32, u64, u64, u64)>,
    pub(crate) frame: Vec<u8>,
}

/// The identifier of the backend behind a service.
pub(crate) fn backend_of(port: u16) -> u32 {
    u32::from(port)
}

/// The same of an IPv6 VIP.
pub(crate) fn backend_of6(port: u16) -> u32 {
    u32::from(port) + 100
}

/// Makes the other interface, routes and neighbours in the thread's (fresh) network namespace.
pub(crate) fn build_network() {
    ip_batch(&[
        "link set lo up",
        &format!("link set lo mtu {INGRESS_MTU}"),
        "link add far type veth peer name far-peer",
        "link set far address 02:00:00:00:00:a2 up",
        "link set far-peer up",
        "address add 10.0.0.1/24 dev far",
        "neighbour add 10.0.0.9 lladdr 02:00:00:00:00:09 dev far nud permanent",
        "address add 2001:db8::1/64 dev far nodad",
        "neighbour add 2001:db8::9 lladdr 02:00:00:00:00:09 dev far nud permanent",
        // It plays a VLAN device on the interface packets come in by: this kernel may have none.
        "link add vlan100 type veth peer name vlan100-peer",
        "link set vlan100 address 02:00:00:00:00:a1 up",
        "link set vlan100-peer up",
        "address add 10.0.100.1/24 dev vlan100",
        "neighbour add 10.0.100.9 lladdr 02:00:00:00:00:0c dev vlan100 nud permanent",
        "route add unreachable 203.0.113.0/24",
    ]);
    forwarding(true);
}

/// Switches the kernel's IPv4 forwarding.
pub(crate) fn forwarding(on: bool) {
    std::fs::write("/proc/sys/net/ipv4/ip_forward", if on { "1" } else { "0" })
        .expect("/proc/sys is writable");
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", if on { "1" } else { "0" })
        .expect("/proc/sys is writable");
}

impl World {
    /// Fills the maps of a program.
    pub(crate) fn load() -> Self {
        Self::of(Lent::empty())
    }

    /// The same of programs that log.
    pub(crate) fn logging(packet_log: PacketLog, programs: &[Program]) -> Self {
        let programs = programs.to_vec();
        Self::of(Lent::loaded(LoadOptions { packet_log, programs, explain: false, ..pool::options() }))
    }

    /// The same without any program, so without that which explains.
    pub(crate) fn that_cannot_explain() -> Self {
        Self::of(Lent::loaded(LoadOptions { programs: Vec::new(), explain: false, ..pool::options() }))
    }

    fn of(mut dataplane: Lent) -> Self {
        put_interfaces(&mut dataplane);
        for (lease, expiry) in [(1, LEASE_FOREVER), (2, LEASE_BACKUP), (3, 1)] {
            dataplane.leases().set(lease, expiry).expect("the lease is there");
        }
        dataplane.put_director(DIRECTOR).expect("put_director");
        for network in ["0.0.0.0/0", "::/0"] {
            dataplane.put_tunnel_source(network.parse().expect("a network")).expect("put_tunnel_source");
        }
        let near = NextHop::new(NEAR, 1);
        let (near_vlan, far_vlan) = (NextHop::new(NEAR, 3), NextHop::new(FAR, 4));
        let far = NextHop::new(FAR, 2);
        let nowhere = NextHop::new(NEAR, 9);
        let mut identifiers = Vec::new();
        let unresolved = NextHop::UNRESOLVED;
        for (port, mode, next_hop) in [
            (DR, MODE_DR, near),
            (DR_FAR, MODE_DR, far),
            (DR_UDP, MODE_DR, near),
            (NAT, MODE_NAT, near),
            (NAT_FAR, MODE_NAT, far),
            (NAT_UDP, MODE_NAT, near),
            (LOCAL, MODE_LOCAL, unresolved),
            (UNRESOLVED, MODE_DR, unresolved),
            (NAT_UNRESOLVED, MODE_NAT, unresolved),
            (NO_INTERFACE, MODE_DR, nowhere),
            (IPIP, MODE_IPIP, near),
            (IPIP6, MODE_IPIP, far),
            (GUE, MODE_GUE, near),
            (GUE6, MODE_GUE, near),
            (NARROW, MODE_IPIP, near),
            (DR_VLAN, MODE_DR, near_vlan),
            (DR_VLAN_FAR, MODE_DR, far_vlan),
            (IPIP_VLAN, MODE_IPIP, near_vlan),
            (NARROWER, MODE_IPIP, near),
        ] {
            let port_there = if port == NAT_UDP { NAT_UDP_PORT } else { NAT_PORT };
            let port_there = Be16::new(port_there);
            let backend = Backend { next_hop, port: port_there, mode, ..Backend::default() };
            for (id, nat_backend) in
                [(backend_of(port), address(NAT_BACKEND)), (backend_of6(port), address(NAT_BACKEND6))]
            {
                let (ends, mtu) = match port {
                    IPIP6 | GUE6 => (TUNNEL6, 0),
                    NARROW => (TUNNEL, 1_400),
                    NARROWER => (TUNNEL, 1_290),
                    _ => (TUNNEL, 0),
                };
                let backend = match mode {
                    MODE_IPIP | MODE_GUE => {
                        Backend { source: address(ends.0), address: address(ends.1), mtu, ..backend }
                    }
                    _ => Backend { address: nat_backend, ..backend },
                };
                dataplane.put_backend(id, backend).expect("put_backend");
                identifiers.push(id);
            }
        }
        let ports = [
            DR,
            DR_FAR,
            DR_UDP,
            NAT,
            NAT_FAR,
            NAT_UDP,
            LOCAL,
            EMPTY,
            HOLE,
            UNRESOLVED,
            NO_RING,
            NO_SUCH_BACKEND,
            UNUSED_BACKEND,
            NAT_UNRESOLVED,
            NO_INTERFACE,
            IPIP,
            IPIP6,
            GUE,
            GUE6,
            NARROW,
            DR_VLAN,
            DR_VLAN_FAR,
            IPIP_VLAN,
            NARROWER,
        ];
        let rings = ports.iter().flat_map(|&port| {
            [backend_of(port), backend_of6(port)].map(|id| match port {
                HOLE => (id, [0]),
                NO_SUCH_BACKEND => (id, [1_000_000]),
                _ => (id, [id]),
            })
        });
        let rings: Vec<(u32, [u32; 1])> = rings.collect();
        let rings: Vec<(u32, &[u32])> = rings.iter().map(|(index, slots)| (*index, &slots[..])).collect();
        dataplane.put_rings(&rings).expect("put_rings");
        put_services(&mut dataplane, &ports);
        let mut world = Self { dataplane, identifiers };
        world.put_ranges();
        world
    }

    /// Every UDP port is steered by `dr`, 1,024 TCP ports by `nat`, 16 to this node itself.
    fn put_ranges(&mut self) {
        for (vip, id) in [(VIP.into(), backend_of as fn(u16) -> u32), (VIP6.into(), backend_of6)] {
            let vip: IpAddr = vip;
            for (protocol, port, bits, like) in
                [(6, RANGE, 6, NAT), (17, 0, 0, DR), (6, LOCAL_RANGE, 12, LOCAL)]
            {
                let key = RangeKey { address: address(vip), protocol, reserved: 0, port: Be16::new(port) };
                let flags = if like == LOCAL { Service::HAS_LOCAL } else { 0 };
                let service = Service { ring: id(like), ring_size: 1, lease: 1, flags, ..Service::default() };
                self.dataplane.put_service_range(key, bits, service).expect("put_service_range");
            }
        }
    }

    /// Tells the program about the replies of the `nat` backend.
    pub(crate) fn put_nat_replies(&mut self) {
        for (port, service, protocol) in [(NAT_PORT, NAT, 6), (NAT_UDP_PORT, NAT_UDP, 17)] {
            let ends: [(IpAddr, IpAddr); 2] =
                [(NAT_BACKEND.into(), VIP.into()), (NAT_BACKEND6.into(), VIP6.into())];
            for (backend, vip) in ends {
                let key =
                    NatReplyKey6 { address: address(backend), port: Be16::new(port), protocol, reserved: 0 };
                let reply = NatReply {
                    address: address(vip),
                    port: Be16::new(service),
                    reserved: 0,
                    backend: backend_of(service),
                };
                self.dataplane.put_nat_reply(key, reply).expect("put_nat_reply");
            }
        }
    }

    /// Runs the program on a frame.
    pub(crate) fn see(&mut self, program: Program, frame: &[u8]) -> Seen {
        let verdicts_before = self.dataplane.verdicts().expect("verdicts");
        let backends_before = self.counted();
        let outcome = self.dataplane.test_run(program, frame).expect("the kernel runs the program");
        let verdicts = Verdict::ALL
            .iter()
            .zip(self.dataplane.verdicts().expect("verdicts").iter().zip(verdicts_before))
            .map(|(verdict, (after, before))| (*verdict, after - before))
            .filter(|(_, times)| *times > 0)
            .collect();
        let backends = self
            .identifiers
            .iter()
            .zip(self.counted().iter().zip(backends_before))
            .filter(|(_, (after, before))| *after != before)
            .map(|(id, (after, before))| {
                (
                    *id,
                    after.packets - before.packets,
                    after.bytes - before.bytes,
                    after.connections - before.connections,
                )
            })
            .collect();
        Seen { action: outcome.action, verdicts, backends, frame: outcome.frame }
    }

    /// The counters of every identifier there is.
    pub(crate) fn backends(&self) -> Vec<BackendCounters> {
        (0..256).map(|id| self.counters(id)).collect()
    }

    /// Nothing is counted for what is no backend. To be asked now and then: reading every counter for every packet takes
    /// most of the time of a test.
    pub(crate) fn assert_nobody_else_counted(&self) {
        for id in (0..256).filter(|id| !self.identifiers.contains(id)) {
            assert_eq!(self.counters(id), BackendCounters::default(), "identifier {id}");
        }
    }

    fn counted(&self) -> Vec<BackendCounters> {
        self.identifiers.iter().map(|id| self.counters(*id)).collect()
    }

    fn counters(&self, id: u32) -> BackendCounters {
        self.dataplane.backend_counters(id).expect("backend_counters")
    }
}

/// The interfaces packets leave through, and this node's devices.
fn put_interfaces(dataplane: &mut XdpDataplane) {
    let far = index("far");
    for (slot, ifindex, mac, tag) in [
        (1, 1, NEAR_MAC, Tag::NONE),
        (2, far, FAR_MAC, Tag::NONE),
        (3, 1, NEAR_MAC, VLAN),
        (4, far, FAR_MAC, VLAN_FAR),
    ] {
        dataplane.put_interface(slot, Interface { ifindex, mac, mtu: 1500, tag }).expect("put_interface");
    }
    let vlan = index("vlan100");
    let device = Device::default();
    for device in [
        Device { ifindex: 1, mac: NEAR_MAC, ..device },
        Device { ifindex: far, mac: FAR_MAC, ..device },
        Device { ifindex: vlan, mac: OWN_MAC, parent: 1, tag: VLAN, ..device },
        Device { ifindex: 1_007, mac: OWN_MAC, parent: vlan, tag: VLAN_INNER, ..device },
    ] {
        dataplane.put_device(device).expect("put_device");
    }
    for (ifindex, end, lease) in
        [(1, [1, 1], 1), (1, [1, 2], 2), (1, [1, 3], 3), (1, [2, 1], 1), (vlan, [1, 1], 1)]
    {
        dataplane.put_virtual_mac(VirtualMac { ifindex, end, reserved: 0 }, lease).expect("put_virtual_mac");
    }
}

/// The MAC address of the virtual router with this number, which is also the number of its lease.
pub(crate) const fn virtual_mac(number: u8) -> Mac {
    Mac([0, 0, 0x5e, 0, 1, number])
}

fn put_services(dataplane: &mut XdpDataplane, ports: &[u16]) {
    let vips: [(IpAddr, u32); 11] = [
        (VIP.into(), 1),
        (VIP_BACKUP.into(), 2),
        (VIP_EXPIRED.into(), 3),
        (VIP_NO_LEASE.into(), 1_000),
        (VIP6.into(), 1),
        (VIP6_BACKUP.into(), 2),
        (VIP6_EXPIRED.into(), 3),
        (VIP_REFUSING.into(), 1),
        (VIP6_REFUSING.into(), 1),
        (VIP_LEFT.into(), 2),
        (VIP6_LEFT.into(), 2),
    ];
    for (vip, lease) in vips {
        let flags = match vip {
            _ if vip == VIP || vip == VIP6 => Vip::HAS_RANGES,
            _ if vip == VIP_REFUSING || vip == VIP6_REFUSING => Vip::NOT_ACCEPTED,
            _ if vip == VIP_LEFT || vip == VIP6_LEFT => Vip::HELD,
            _ => 0,
        };
        dataplane.put_vip(address(vip), Vip { lease, flags }).expect("put_vip");
        for &port in ports {
            let protocol = if port == NAT_UDP || port == DR_UDP { 17 } else { 6 };
            let key = ServiceKey6 { address: address(vip), port: Be16::new(port), protocol, reserved: 0 };
            let service = Service {
                ring: match port {
                    NO_RING => u32::MAX,
                    _ if vip.is_ipv4() => backend_of(port),
                    _ => backend_of6(port),
                },
                ring_size: u32::from(port != EMPTY),
                lease,
                flags: if port == LOCAL { Service::HAS_LOCAL } else { 0 },
                ..Service::default()
            };
            dataplane.put_service(key, service).expect("put_service");
        }
    }
}

/// An address as it stands in a packet.
pub(crate) fn address(address: impl Into<Address>) -> Address {
    address.into()
}
