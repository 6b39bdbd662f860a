//! What is measured: packets, the maps they meet, and what should become of them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use etherparse::PacketBuilder;
use lb_common::{
    Address, Backend, Be16, Be32, DEFAULT_RING_SIZE, Device, Interface, MODE_DR, MODE_IPIP, MODE_LOCAL,
    MODE_NAT, Mac, NextHop, Service, ServiceKey6, Verdict, Vip,
};

use super::{
    BenchError,
    program::{Floor, LENGTH},
};
use crate::{
    balance::{Member, MemberKey, Ring},
    config::Protocol,
    dataplane::{Dataplane as _, LoadOptions, XdpDataplane},
    time::Timestamp,
};

const VIP: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 4);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 4);
const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const CLIENT: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0);
const OWN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);
/// Backends of each service.
const BACKENDS: u8 = 100;
/// The interface test runs come in by: the loopback.
const LOOPBACK: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

const ONE: u64 = 1;
const SOME: u64 = 1 << 16;
const MANY: u64 = 1 << 20;
/// No flow comes twice.
const NEW: u64 = 1 << 32;

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) target: Target,
    pub(super) flows: u64,
    pub(super) goal: Option<Goal>,
}

/// Which program runs on which packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Floor(Floor),
    Lb { destination: IpAddr, port: u16, syn: bool, verdict: Verdict, action: u32 },
}

/// What a row should reach.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// At most so many times the floor `return TX`.
    Floor(f64),
    /// At most so many times the row of this name.
    Row(&'static str, f64),
}

const fn steered(name: &'static str, port: u16, flows: u64, syn: bool, goal: Option<Goal>) -> Row {
    let (verdict, action) = match port {
        80 => (Verdict::Dr, XDP_TX),
        81 => (Verdict::Nat, XDP_TX),
        83 => (Verdict::Ipip, XDP_TX),
        _ => (Verdict::Local, XDP_PASS),
    };
    Row { name, target: Target::Lb { destination: IpAddr::V4(VIP), port, syn, verdict, action }, flows, goal }
}

const fn floor(name: &'static str, floor: Floor) -> Row {
    Row { name, target: Target::Floor(floor), flows: ONE, goal: None }
}

/// The floor that ratios are to.
pub(super) const TRANSMIT: &str = "floor: return TX";

/// The one that `ipip` is measured by.
const ENCAPSULATE: &str = "floor: encapsulate";

/// All, in the order they are measured in each round.
pub(super) const ROWS: [Row; 22] = [
    floor("floor: return PASS", Floor::Pass),
    floor(TRANSMIT, Floor::Transmit),
    floor("floor: swap MACs", Floor::Swap),
    floor(ENCAPSULATE, Floor::Encapsulate),
    Row {
        name: "not for a VIP",
        target: Target::Lb {
            destination: IpAddr::V4(OTHER),
            port: 80,
            syn: false,
            verdict: Verdict::NotOurs,
            action: XDP_PASS,
        },
        flows: ONE,
        goal: Some(Goal::Floor(1.7)),
    },
    steered("local, 1 flow", 82, ONE, false, None),
    steered("local, 64k flows", 82, SOME, false, Some(Goal::Row("local, 1 flow", 1.1))),
    steered("local, 1M flows", 82, MANY, false, Some(Goal::Row("local, 1 flow", 1.1))),
    steered("local, SYN of new flows", 82, NEW, true, Some(Goal::Row("local, 1 flow", 1.15))),
    steered("dr, 1 flow", 80, ONE, false, Some(Goal::Floor(2.4))),
    steered("dr, 64k flows", 80, SOME, false, Some(Goal::Row("dr, 1 flow", 1.1))),
    steered("dr, 1M flows", 80, MANY, false, Some(Goal::Row("dr, 1 flow", 1.1))),
    steered("dr, SYN of new flows", 80, NEW, true, Some(Goal::Row("dr, 1 flow", 1.15))),
    Row {
        name: "dr, IPv6, 1 flow",
        target: Target::Lb {
            destination: IpAddr::V6(VIP6),
            port: 80,
            syn: false,
            verdict: Verdict::Dr,
            action: XDP_TX,
        },
        flows: ONE,
        goal: Some(Goal::Row("dr, 1 flow", 1.25)),
    },
    steered("ipip, 1 flow", 83, ONE, false, Some(Goal::Row(ENCAPSULATE, 1.9))),
    steered("ipip, 64k flows", 83, SOME, false, Some(Goal::Row("ipip, 1 flow", 1.1))),
    steered("ipip, 1M flows", 83, MANY, false, Some(Goal::Row("ipip, 1 flow", 1.1))),
    steered("ipip, SYN of new flows", 83, NEW, true, Some(Goal::Row("ipip, 1 flow", 1.15))),
    steered("nat, 1 flow", 81, ONE, false, None),
    steered("nat, 64k flows", 81, SOME, false, Some(Goal::Row("nat, 1 flow", 1.1))),
    steered("nat, 1M flows", 81, MANY, false, Some(Goal::Row("nat, 1 flow", 1.1))),
    steered("nat, SYN of new flows", 81, NEW, true, Some(Goal::Row("nat, 1 flow", 1.15))),
];

impl Row {
    /// The packet: TCP, as long in either family.
    pub(super) fn packet(&self) -> [u8; LENGTH] {
        let (destination, port, syn) = match self.target {
            Target::Floor(_) => (IpAddr::V4(OTHER), 80, false),
            Target::Lb { destination, port, syn, .. } => (destination, port, syn),
        };
        let ethernet = PacketBuilder::ethernet2(CLIENT_MAC.0, OWN_MAC.0);
        let ip = match destination {
            IpAddr::V4(to) => ethernet.ipv4(CLIENT.octets(), to.octets(), 64),
            IpAddr::V6(to) => ethernet.ipv6(CLIENT6.octets(), to.octets(), 64),
        };
        let builder = ip.tcp(40_000, port, 1, 512);
        let builder = if syn { builder.syn() } else { builder.ack(1) };
        let payload = vec![b'x'; LENGTH - builder.size(0)];
        let mut bytes = Vec::with_capacity(LENGTH);
        // Invariant: a Vec takes everything, and the payload is what the headers leave of LENGTH.
        builder.write(&mut bytes, &payload).expect("a Vec takes everything");
        bytes.try_into().expect("LENGTH bytes")
    }
}

/// Loads the XDP program with two VIPs that this node owns by a running lease, and services of 100 backends each.
pub(super) fn dataplane() -> Result<XdpDataplane, BenchError> {
    let mut dataplane = XdpDataplane::load(LoadOptions::new("/nonexistent"))?;
    let lease = 1;
    dataplane.leases().set(lease, (Timestamp::now() + Duration::from_hours(24)).0)?;
    dataplane.put_interface(
        1,
        Interface { ifindex: LOOPBACK, mac: OWN_MAC, mtu: 1_500, ..Interface::default() },
    )?;
    dataplane.put_device(Device { ifindex: LOOPBACK, mac: OWN_MAC, ..Device::default() })?;
    for vip in [address(VIP), VIP6.into()] {
        dataplane.put_vip(vip, Vip { lease, ..Vip::default() })?;
    }
    let modes = [(80, MODE_DR), (81, MODE_NAT), (82, MODE_LOCAL), (83, MODE_IPIP)];
    for (index, (port, mode)) in (0..).zip(modes) {
        let mut members = Vec::new();
        for number in 1..=BACKENDS {
            let id = index * 1_000 + u32::from(number);
            let backend = Backend {
                next_hop: NextHop::new(Mac([2, 0, 0, 0, 1, number]), 1),
                address: address(Ipv4Addr::new(10, 0, 0, number)),
                source: address(Ipv4Addr::new(10, 0, 1, 1)),
                mtu: 1_500,
                port: Be16::new(8_080),
                mode,
                ..Backend::default()
            };
            dataplane.put_backend(id, backend)?;
            members.push(Member {
                key: MemberKey {
                    address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)),
                    port: 8_080,
                    protocol: Protocol::Tcp,
                },
                id,
                weight: 1,
            });
        }
        let ring = Ring::build(&members, DEFAULT_RING_SIZE).ids(&members);
        dataplane.put_ring(index, &ring)?;
        let service = Service { ring: index, ring_size: DEFAULT_RING_SIZE, lease, ..Service::default() };
        // The backends of `dr` serve both VIPs: what it sends on does not depend on the family.
        for vip in [Some(address(VIP)), (mode == MODE_DR).then(|| VIP6.into())].into_iter().flatten() {
            let key = ServiceKey6 { address: vip, port: Be16::new(port), protocol: 6, reserved: 0 };
            dataplane.put_service(key, service)?;
        }
    }
    Ok(dataplane)
}

fn address(address: Ipv4Addr) -> Address {
    Address::from_v4(Be32::from_octets(address.octets()))
}
