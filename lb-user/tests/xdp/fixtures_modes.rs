//! Every mode with every kind of packet, both families, as owner and as backup: what goes out, what is counted, and what each
//! mode does when it cannot send.

use std::net::IpAddr;

use lb::dataplane::{
    Dataplane as _,
    Program::{Generic, Native},
};
use lb_common::{
    Be16, Service, ServiceKey6,
    Verdict::{self, *},
};

use crate::{
    fixtures::{Row, check, drops, far, gue_port, near, passes, sends, wraps},
    namespace::isolated,
    packets::{Checksum, Packet, Protocol, tcp, udp, within},
    world::{
        DIRECTOR, DR, DR_FAR, GUE, GUE6, IPIP, IPIP6, LOCAL, NAT, NAT_BACKEND, NAT_BACKEND6, NAT_FAR,
        NAT_PORT, PASS, REDIRECT, TUNNEL, TUNNEL6, TX, VIP, VIP_BACKUP, VIP6, VIP6_BACKUP, World, address,
        backend_of, backend_of6, build_network,
    },
};

/// A way to a backend.
struct Way {
    what: &'static str,
    /// The service's port.
    port: u16,
    /// The port by whose number `world` knows the backend.
    backend: u16,
    action: u32,
    verdict: Verdict,
    /// What becomes of a packet.
    out: fn(Packet) -> Vec<u8>,
}

const WAYS: [Way; 10] = [
    way("local", LOCAL, PASS, Local, |p| p.bytes()),
    way("dr", DR, TX, Dr, |p| near(p).bytes()),
    way("dr, another interface", DR_FAR, REDIRECT, Dr, |p| far(p).bytes()),
    way("nat", NAT, TX, Nat, |p| near(to_nat_backend(p)).bytes()),
    way("nat, another interface", NAT_FAR, REDIRECT, Nat, |p| far(to_nat_backend(p)).bytes()),
    Way {
        port: NAT_PORT,
        ..way("nat, the service's own port", NAT, TX, Nat, |p| near(to_nat_backend(p)).bytes())
    },
    way("ipip over IPv4", IPIP, TX, Ipip, |p| within(&near(p), TUNNEL.0, TUNNEL.1, None)),
    way("ipip over IPv6", IPIP6, REDIRECT, Ipip, |p| within(&far(p), TUNNEL6.0, TUNNEL6.1, None)),
    way("gue over IPv4", GUE, TX, Gue, |p| within(&near(p.clone()), TUNNEL.0, TUNNEL.1, Some(gue_port(&p)))),
    way("gue over IPv6", GUE6, TX, Gue, |p| {
        within(&near(p.clone()), TUNNEL6.0, TUNNEL6.1, Some(gue_port(&p)))
    }),
];

const fn way(
    what: &'static str,
    port: u16,
    action: u32,
    verdict: Verdict,
    out: fn(Packet) -> Vec<u8>,
) -> Way {
    Way { what, port, backend: port, action, verdict, out }
}

fn to_nat_backend(packet: Packet) -> Packet {
    let backend: IpAddr = if packet.destination.is_ipv4() { NAT_BACKEND.into() } else { NAT_BACKEND6.into() };
    packet.destination(backend).destination_port(NAT_PORT)
}

/// What clients send to an address and a port.
const PACKETS: [fn(IpAddr, u16) -> Packet; 14] = [
    tcp,
    |vip, port| tcp(vip, port).syn(),
    |vip, port| tcp(vip, port).protocol(Protocol::Tcp { syn: true, ack: true }),
    |vip, port| tcp(vip, port).payload(0),
    |vip, port| tcp(vip, port).payload(0).padding(6),
    |vip, port| tcp(vip, port).payload(1_301),
    |vip, port| tcp(vip, port).tos(0xb9),
    |vip, port| tcp(vip, port).ttl(2),
    |vip, port| lengthened(tcp(vip, port)),
    udp,
    |vip, port| udp(vip, port).payload(0),
    |vip, port| udp(vip, port).checksum(Checksum::Is(0)),
    |vip, port| udp(vip, port).payload(7).padding(11),
    |vip, port| lengthened(udp(vip, port)),
];

/// With IPv4 options, or with IPv6 extension headers.
fn lengthened(packet: Packet) -> Packet {
    if packet.destination.is_ipv4() {
        packet.options(vec![1; 40])
    } else {
        packet.extension(0, 1).extension(60, 3)
    }
}

const VIPS: [IpAddr; 4] =
    [IpAddr::V4(VIP), IpAddr::V4(VIP_BACKUP), IpAddr::V6(VIP6), IpAddr::V6(VIP6_BACKUP)];

/// Each way, to each VIP, by both programs; `rows` has what is sent on it.
fn each_way(flags: u32, empty: bool, rows: fn(&Way, IpAddr) -> Vec<Row>) {
    isolated(|| {
        build_network();
        let mut world = World::load();
        for (way, vip) in WAYS.iter().flat_map(|way| VIPS.map(|vip| (way, vip))) {
            serve(&mut world, way, vip, flags, empty);
            for program in [Native, Generic] {
                check(&mut world, program, rows(way, vip));
            }
        }
    });
}

/// Makes the way's service one of TCP and UDP, with these flags and with or without backends.
fn serve(world: &mut World, way: &Way, vip: IpAddr, flags: u32, empty: bool) {
    let lease = if vip == VIP || vip == VIP6 { 1 } else { 2 };
    let ring = if vip.is_ipv4() { backend_of(way.backend) } else { backend_of6(way.backend) };
    let service = Service { ring, ring_size: u32::from(!empty), lease, flags, ..Service::default() };
    for protocol in [6, 17] {
        let key = ServiceKey6 { address: address(vip), port: Be16::new(way.port), protocol, reserved: 0 };
        world.dataplane.put_service(key, service).expect("put_service");
    }
}

fn sent(way: &Way, packet: Packet) -> Row {
    wraps(way.what, packet, way.action, way.verdict, way.backend, way.out)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_mode_sends_every_kind_of_packet() {
    each_way(0, false, |way, vip| PACKETS.iter().map(|packet| sent(way, packet(vip, way.port))).collect());
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn packet_at_the_end_of_its_hops_goes_nowhere_but_to_this_node() {
    each_way(0, false, |way, vip| {
        let at_its_end = [0, 1].into_iter().flat_map(|ttl| [tcp, udp].map(|of| of(vip, way.port).ttl(ttl)));
        at_its_end
            .map(|packet| match way.verdict {
                Local => sends(way.what, packet, PASS, Local, way.backend, |p| p),
                _ => drops(way.what, packet, TtlExpired),
            })
            .collect()
    });
}

/// Two nodes that are each other's backends, and steer by rings that differ for a moment, must not send a packet to and fro.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_another_director_steered_goes_no_further_in_any_mode() {
    each_way(Service::HAS_LOCAL, false, |way, vip| {
        let packets = || PACKETS.iter().map(|packet| packet(vip, way.port));
        packets()
            .map(|packet| passes(way.what, packet.source_mac(DIRECTOR), Delivered))
            .chain(packets().map(|packet| sent(way, packet)))
            .collect()
    });
}

/// What a director sent by `nat` is for the backend's own address.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_another_director_rewrote_is_not_ours() {
    each_way(Service::HAS_LOCAL, false, |way, vip| {
        let rewritten =
            |of: fn(IpAddr, u16) -> Packet| to_nat_backend(of(vip, way.port)).source_mac(DIRECTOR);
        vec![passes(way.what, rewritten(tcp), NotOurs), passes(way.what, rewritten(udp), NotOurs)]
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn service_without_a_healthy_backend_drops_every_kind_of_packet() {
    each_way(0, true, |way, vip| {
        PACKETS.iter().map(|packet| drops(way.what, packet(vip, way.port), NoBackend)).collect()
    });
}
