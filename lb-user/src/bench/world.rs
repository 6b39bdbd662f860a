//! The maps that measured packets meet.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use lb_common::{
    Backend, Be16, DEFAULT_RING_SIZE, Device, Interface, MODE_DR, MODE_GUE, MODE_IPIP, MODE_LOCAL, MODE_NAT,
    Mac, NextHop, Service, ServiceKey6, UNSETTLED, Verdict, Vip,
};

use super::{BenchError, frames::OWN_MAC};
use crate::{
    balance::{Member, MemberKey, NO_MEMBER, Ring},
    config::Protocol,
    dataplane::{Dataplane as _, LoadOptions, Program, XdpDataplane},
    time::Timestamp,
};

/// The interface test runs come in by: the loopback.
const LOOPBACK: u32 = 1;
const LEASE: u32 = 1;
/// The first port that services have.
const FIRST_PORT: u16 = 80;

/// How a packet gets to its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    Local,
    Dr,
    Nat,
    Ipip,
    Gue,
}

impl Mode {
    pub(super) const ALL: [Self; 5] = [Self::Local, Self::Dr, Self::Nat, Self::Ipip, Self::Gue];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Dr => "dr",
            Self::Nat => "nat",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Local => MODE_LOCAL,
            Self::Dr => MODE_DR,
            Self::Nat => MODE_NAT,
            Self::Ipip => MODE_IPIP,
            Self::Gue => MODE_GUE,
        }
    }

    /// What becomes of a packet to a service of it.
    pub(super) const fn verdict(self) -> Verdict {
        match self {
            Self::Local => Verdict::Local,
            Self::Dr => Verdict::Dr,
            Self::Nat => Verdict::Nat,
            Self::Ipip => Verdict::Ipip,
            Self::Gue => Verdict::Gue,
        }
    }
}

/// The family of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// The VIP of services of a mode, whose slots are all settled or all unsettled.
pub(super) fn vip(mode: Mode, family: Family, unsettled: bool) -> IpAddr {
    let last = mode.number() + if unsettled { 100 } else { 10 };
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(172, 20, 128, last)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last))),
    }
}

/// Somebody else.
pub(super) const fn other(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 7)),
    }
}

/// How large the configuration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Of each service.
    pub(super) backends: u32,
    /// Of each VIP and protocol.
    pub(super) services: u32,
}

impl Shape {
    /// How many services packets go to by turns: a power of two.
    pub(super) const fn visited(self) -> u32 {
        1 << self.services.ilog2()
    }
}

/// Loads the XDP program and fills its maps: for every mode and family a VIP with services over TCP and UDP whose slots
/// are settled, and one with a service whose slots are not. This node owns all of them by a running lease.
pub(super) fn dataplane(shape: Shape) -> Result<XdpDataplane, BenchError> {
    let modes = Mode::ALL.len() as u32;
    let mut dataplane = XdpDataplane::load(LoadOptions {
        programs: vec![Program::Native],
        backends: shape.backends * modes * 2 + 1,
        services: (shape.services * 2 + 1) * modes,
        ..LoadOptions::new("/nonexistent")
    })?;
    dataplane.leases().set(LEASE, (Timestamp::now() + Duration::from_hours(24)).0)?;
    let interface = Interface { ifindex: LOOPBACK, mac: OWN_MAC, mtu: 1_500, ..Interface::default() };
    dataplane.put_interface(1, interface)?;
    dataplane.put_device(Device { ifindex: LOOPBACK, mac: OWN_MAC, ..Device::default() })?;
    let shares = Ring::build(&members(shape.backends), DEFAULT_RING_SIZE);
    let all = Mode::ALL.into_iter().flat_map(|mode| Family::ALL.map(|family| (mode, family)));
    for (index, (mode, family)) in (0..).zip(all) {
        let first = index * shape.backends + 1;
        for number in 0..shape.backends {
            dataplane.put_backend(first + number, backend(mode, family, number))?;
        }
        fill(&mut dataplane, shape, mode, family, index * 3, &shares, first)?;
    }
    Ok(dataplane)
}

/// A mode's rings, from index `ring` on, and its services.
fn fill(
    dataplane: &mut XdpDataplane,
    shape: Shape,
    mode: Mode,
    family: Family,
    ring: u32,
    shares: &Ring,
    first: u32,
) -> Result<(), BenchError> {
    let settled = identifiers(shares, first, 0, shape.backends);
    let previous = identifiers(shares, first, 1, shape.backends);
    let unsettled: Vec<u32> = settled.iter().map(|id| id | UNSETTLED).collect();
    dataplane.put_rings(&[(ring, &settled), (ring + 1, &unsettled), (ring + 2, &previous)])?;
    for is_unsettled in [false, true] {
        let address = vip(mode, family, is_unsettled).into();
        dataplane.put_vip(address, Vip { lease: LEASE, ..Vip::default() })?;
        let service = Service {
            ring: ring + u32::from(is_unsettled),
            ring_size: DEFAULT_RING_SIZE,
            lease: LEASE,
            previous: if is_unsettled { ring + 2 } else { 0 },
            ..Service::default()
        };
        let (services, protocols) =
            if is_unsettled { (1, &[6_u8][..]) } else { (shape.services, &[6, 17][..]) };
        for &protocol in protocols {
            for port in (FIRST_PORT..).take(services as usize) {
                let key = ServiceKey6 { address, port: Be16::new(port), protocol, reserved: 0 };
                dataplane.put_service(key, service)?;
            }
        }
    }
    Ok(())
}

fn members(count: u32) -> Vec<Member> {
    let member = |number| Member {
        key: MemberKey { address: address(Family::V4, number), port: 8_080, protocol: Protocol::Tcp },
        id: 0,
        weight: 1,
    };
    (0..count).map(member).collect()
}

/// The identifiers in a ring's slots, of the backends from `first` on; each slot has the one `further` on.
fn identifiers(shares: &Ring, first: u32, further: u32, count: u32) -> Vec<u32> {
    // Invariant: there is a backend, so every slot is somebody's.
    debug_assert!(!shares.slots().contains(&NO_MEMBER), "every slot is somebody's");
    shares.slots().iter().map(|index| first + (index + further) % count).collect()
}

fn backend(mode: Mode, family: Family, number: u32) -> Backend {
    let [_, _, high, low] = number.to_be_bytes();
    Backend {
        next_hop: NextHop::new(Mac([2, 0, 0, 1, high, low]), 1),
        address: address(family, number).into(),
        source: address(family, u32::from(u16::MAX)).into(),
        mtu: 1_500,
        port: Be16::new(8_080),
        mode: mode.number(),
        ..Backend::default()
    }
}

fn address(family: Family, number: u32) -> IpAddr {
    let [_, _, high, low] = number.to_be_bytes();
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 0, high, low)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 10, 0, 0, 0, 0, number as u16)),
    }
}
