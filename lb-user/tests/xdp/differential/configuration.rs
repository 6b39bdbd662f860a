//! Random configurations, as the model has them and as the maps do.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use lb::dataplane::{Dataplane as _, XdpDataplane};
use lb_common::{
    Backend, Be16, Device, Interface, LEASE_BACKUP, LEASE_FOREVER, MODE_DR, MODE_GUE, MODE_IPIP, MODE_LOCAL,
    MODE_NAT, MODE_NONE, NatReply, NatReplyKey6, NextHop, RangeKey, Service, ServiceKey6, UNSETTLED, Vip,
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    model::{LeaseModel, Model, RangeModel, ServiceModel, SlotModel, VipModel, When},
    namespace::index,
    packets::OWN_MAC,
    world::{
        DIRECTOR, FAR, FAR_MAC, NAT_BACKEND, NAT_BACKEND6, NAT_PORT, NEAR, NEAR_MAC, TUNNEL, TUNNEL6, VIP,
        VIP_BACKUP, VIP_EXPIRED, VIP6, VIP6_BACKUP, VIP6_EXPIRED, address,
    },
};

pub(super) const VIPS: [IpAddr; 6] = [
    IpAddr::V4(VIP),
    IpAddr::V4(VIP_BACKUP),
    IpAddr::V4(VIP_EXPIRED),
    IpAddr::V6(VIP6),
    IpAddr::V6(VIP6_BACKUP),
    IpAddr::V6(VIP6_EXPIRED),
];
/// Of services; the last is that of encapsulated packets.
pub(super) const PORTS: [u16; 4] = [80, 443, 53, 6_080];
/// The most services of one port.
const SERVICES: u32 = (VIPS.len() * PORTS.len() * 2) as u32;
/// First port and compared bits of services of ranges.
const RANGES: [(u16, u8); 4] = [(0, 0), (0x5000, 4), (0x5400, 6), (443, 16)];
/// The first half may take `nat` packets of IPv4, the second of IPv6.
pub(super) const BACKENDS: u32 = 16;
/// A lease that does not exist.
const NO_LEASE: u32 = 100_000;
/// A backend that does not exist.
const NO_BACKEND: u32 = 100_000;

/// A configuration.
pub(super) fn model() -> impl Strategy<Value = Model> {
    let lease_of = prop_oneof![15 => 1_u32..=3, 1 => Just(NO_LEASE)];
    let vips = vec((lease_of.clone(), proptest::bool::ANY), VIPS.len());
    let services = vec(proptest::option::weighted(0.6, service(lease_of.clone())), SERVICES as usize);
    let ranges = vec(proptest::option::weighted(0.3, service(lease_of)), VIPS.len() * RANGES.len() * 2);
    let leases = vec(lease(), 3);
    let backends = vec(backend(), BACKENDS as usize);
    (vips, services, ranges, leases, backends, switches()).prop_map(
        |(vips, services, ranges, leases, backends, (director, replies, own_mac, tunnel_sources))| Model {
            vips: VIPS
                .into_iter()
                .zip(vips)
                .map(|(vip, (lease, has_ranges))| (vip, VipModel { lease, has_ranges }))
                .collect(),
            services: (0..)
                .zip(keys(&PORTS).zip(services))
                .filter_map(|(index, ((vip, port, protocol), service))| {
                    Some(((vip, port, protocol), finished_service(vip, index, service?)))
                })
                .collect(),
            ranges: (0..)
                .zip(keys(&RANGES).zip(ranges))
                .filter_map(|(index, ((vip, (first, bits), protocol), service))| {
                    let index = index + SERVICES;
                    Some((RangeModel { vip, protocol, first, bits }, finished_service(vip, index, service?)))
                })
                .collect(),
            leases: (1..).zip(leases).collect(),
            backends: (1..).zip(backends).map(|(id, backend)| (id, finished(id, backend))).collect(),
            interfaces: BTreeMap::from([(1, (1, NEAR_MAC, 1_500)), (2, (index("far"), FAR_MAC, 1_400))]),
            own_mac: own_mac.then_some(OWN_MAC),
            directors: director.then_some(DIRECTOR).into_iter().collect(),
            tunnel_sources,
            nat_replies: if replies { nat_replies() } else { BTreeMap::new() },
            flows: HashMap::new(),
            when: When::default(),
            doubted: None,
        },
    )
}

fn switches() -> impl Strategy<Value = (bool, bool, bool, Vec<IpNet>)> {
    (proptest::bool::ANY, proptest::bool::ANY, proptest::bool::weighted(0.7), tunnel_sources())
}

/// Who may encapsulate: everybody, the clients by network and by address, one family, nobody.
fn tunnel_sources() -> impl Strategy<Value = Vec<IpNet>> {
    let networks = |texts: &[&str]| -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a network")).collect()
    };
    prop_oneof![
        5 => Just(networks(&["0.0.0.0/0", "::/0"])),
        2 => Just(networks(&["10.0.0.0/24", "2001:db8::9/128", "10.0.0.8/32"])),
        1 => Just(networks(&["::/0", "10.0.0.8/32"])),
        1 => Just(networks(&[])),
    ]
}

/// Every VIP with every port and protocol.
fn keys<P: Copy>(ports: &[P]) -> impl Iterator<Item = (IpAddr, P, u8)> {
    VIPS.into_iter()
        .flat_map(move |vip| ports.iter().flat_map(move |&port| [(vip, port, 6), (vip, port, 17)]))
}

fn service(lease: impl Strategy<Value = u32>) -> impl Strategy<Value = ServiceModel> {
    let id = || prop_oneof![1 => Just(0_u32), 40 => 1..=BACKENDS / 2, 1 => Just(NO_BACKEND)];
    let slot = (id(), id(), proptest::bool::weighted(0.4))
        .prop_map(|(current, previous, unsettled)| SlotModel { current, previous, unsettled });
    (vec(slot, 0..24), lease, proptest::bool::weighted(0.3))
        .prop_map(|(ring, lease, has_local)| ServiceModel { index: 0, ring, lease, has_local })
}

/// The service with its ring's index and with backends of the VIP's family.
fn finished_service(vip: IpAddr, index: u32, mut service: ServiceModel) -> ServiceModel {
    service.index = 2 * index;
    if vip.is_ipv6() {
        for id in service.ring.iter_mut().flat_map(|slot| [&mut slot.current, &mut slot.previous]) {
            if (1..=BACKENDS / 2).contains(id) {
                *id += BACKENDS / 2;
            }
        }
    }
    service
}

pub(super) fn lease() -> impl Strategy<Value = LeaseModel> {
    select(vec![LeaseModel::Owner, LeaseModel::Owner, LeaseModel::Backup, LeaseModel::Expired])
}

pub(super) fn next_hop() -> impl Strategy<Value = NextHop> {
    prop_oneof![
        4 => Just(NextHop::new(NEAR, 1)),
        3 => Just(NextHop::new(FAR, 2)),
        1 => Just(NextHop::UNRESOLVED),
        // A slot without an interface, and one beyond all.
        1 => select(vec![NextHop::new(FAR, 9), NextHop::new(FAR, 9_999)]),
    ]
}

fn backend() -> impl Strategy<Value = Backend> {
    let mode = prop_oneof![
        10 => select(vec![MODE_DR, MODE_NAT, MODE_IPIP, MODE_GUE, MODE_LOCAL]),
        1 => select(vec![MODE_NONE, 77]),
    ];
    let mtu = prop_oneof![3 => Just(0_u16), 1 => 60_u16..1_600];
    (next_hop(), mode, any::<u16>(), mtu, proptest::bool::ANY, any::<[u8; 4]>()).prop_map(
        |(next_hop, mode, port, mtu, to_v6, octets)| Backend {
            next_hop,
            // Its end of a tunnel; `nat` wants the family of its clients.
            address: if to_v6 { address(TUNNEL6.1) } else { address(Ipv4Addr::from(octets)) },
            source: address(if to_v6 { TUNNEL6.0 } else { TUNNEL.0 }),
            port: Be16::new(port),
            mode,
            mtu,
            ..Backend::default()
        },
    )
}

fn finished(id: u32, backend: Backend) -> Backend {
    match backend.mode {
        MODE_NAT if id <= BACKENDS / 2 => Backend { address: address(NAT_BACKEND), ..backend },
        MODE_NAT => Backend { address: address(NAT_BACKEND6), ..backend },
        _ => backend,
    }
}

fn nat_replies() -> BTreeMap<(IpAddr, u16, u8), (IpAddr, u16)> {
    let ends: [(IpAddr, IpAddr); 2] = [(NAT_BACKEND.into(), VIP.into()), (NAT_BACKEND6.into(), VIP6.into())];
    ends.into_iter()
        .flat_map(|(from, vip)| [6, 17].map(|protocol| ((from, NAT_PORT, protocol), (vip, 80))))
        .collect()
}

pub(super) fn expiry(state: LeaseModel) -> u64 {
    match state {
        LeaseModel::Owner => LEASE_FOREVER,
        LeaseModel::Backup => LEASE_BACKUP,
        LeaseModel::Expired => 1,
    }
}

/// The configuration in a few lines, without backends that no slot names.
pub(super) fn text(model: &Model) -> String {
    let mut lines = vec![
        format!("leases {:?}", model.leases),
        format!("directors {:?}, tunnel sources {:?}", model.directors, model.tunnel_sources),
    ];
    lines.extend(model.vips.iter().map(|(vip, value)| format!("{vip}: {value:?}")));
    lines.extend(model.services.iter().map(|(key, service)| format!("{key:?}: {service:?}")));
    lines.extend(model.ranges.iter().map(|(range, service)| format!("{range:?}: {service:?}")));
    let slots = model.services.values().chain(model.ranges.values()).flat_map(|service| &service.ring);
    let named: BTreeSet<u32> = slots.flat_map(|slot| [slot.current, slot.previous]).collect();
    lines.extend(model.backends.iter().filter(|(id, _)| named.contains(id)).map(|(id, backend)| {
        let Backend { next_hop, mode, port, mtu, flags, .. } = backend;
        let (address, source) = (IpAddr::from(backend.address), IpAddr::from(backend.source));
        format!(
            "backend {id}: mode {mode}, flags {flags}, {address}:{} from {source}, mtu {mtu}, by {} at {}",
            port.get(),
            next_hop.mac(),
            next_hop.slot()
        )
    }));
    lines.push(format!("replies {:?}", model.nat_replies));
    lines.join("\n")
}

/// Writes the configuration into empty maps.
pub(super) fn fill(dataplane: &mut XdpDataplane, model: &Model) {
    dataplane.reset("/nonexistent").expect("every map can be emptied");
    for (&slot, &(ifindex, mac, mtu)) in &model.interfaces {
        let interface = Interface { ifindex, mac, mtu, ..Interface::default() };
        dataplane.put_interface(slot, interface).expect("put_interface");
    }
    if let Some(mac) = model.own_mac {
        dataplane.put_device(Device { ifindex: 1, mac, ..Device::default() }).expect("put_device");
    }
    for (&lease, &state) in &model.leases {
        dataplane.leases().set(lease, expiry(state)).expect("the lease is there");
    }
    for (&vip, value) in &model.vips {
        let flags = if value.has_ranges { Vip::HAS_RANGES } else { 0 };
        dataplane.put_vip(address(vip), Vip { lease: value.lease, flags }).expect("put_vip");
    }
    for mac in &model.directors {
        dataplane.put_director(*mac).expect("put_director");
    }
    for network in &model.tunnel_sources {
        dataplane.put_tunnel_source(*network).expect("put_tunnel_source");
    }
    for (&id, backend) in &model.backends {
        dataplane.put_backend(id, *backend).expect("put_backend");
    }
    for (&(from, port, protocol), &(vip, vip_port)) in &model.nat_replies {
        let key = NatReplyKey6 { address: address(from), port: Be16::new(port), protocol, reserved: 0 };
        let reply = NatReply { address: address(vip), port: Be16::new(vip_port), reserved: 0, backend: 0 };
        dataplane.put_nat_reply(key, reply).expect("put_nat_reply");
    }
    fill_services(dataplane, model);
}

fn fill_services(dataplane: &mut XdpDataplane, model: &Model) {
    let all: Vec<&ServiceModel> = model.services.values().chain(model.ranges.values()).collect();
    let rings: Vec<(u32, Vec<u32>)> = all
        .iter()
        .filter(|service| !service.ring.is_empty())
        .flat_map(|service| {
            let mark = |slot: &SlotModel| slot.current | if slot.unsettled { UNSETTLED } else { 0 };
            [
                (service.index, service.ring.iter().map(mark).collect()),
                (service.index + 1, service.ring.iter().map(|slot| slot.previous).collect()),
            ]
        })
        .collect();
    let rings: Vec<(u32, &[u32])> = rings.iter().map(|(index, ring)| (*index, &ring[..])).collect();
    dataplane.put_rings(&rings).expect("put_rings");
    for (&key, service) in &model.services {
        put_service(dataplane, key, service);
    }
    for (range, service) in &model.ranges {
        let (protocol, port) = (range.protocol, Be16::new(range.first));
        let key = RangeKey { address: address(range.vip), protocol, reserved: 0, port };
        dataplane.put_service_range(key, range.bits, value(service)).expect("put_service_range");
    }
}

pub(super) fn put_service(dataplane: &mut XdpDataplane, key: (IpAddr, u16, u8), service: &ServiceModel) {
    dataplane.put_service(service_key(key), value(service)).expect("put_service");
}

pub(super) fn service_key((vip, port, protocol): (IpAddr, u16, u8)) -> ServiceKey6 {
    ServiceKey6 { address: address(vip), port: Be16::new(port), protocol, reserved: 0 }
}

fn value(service: &ServiceModel) -> Service {
    Service {
        ring: service.index,
        previous: service.index + 1,
        ring_size: service.ring.len() as u32,
        lease: service.lease,
        flags: if service.has_local { Service::HAS_LOCAL } else { 0 },
        ..Service::default()
    }
}
