//! One row per line of the tables in ARCHITECTURE.md, and per verdict: packet in → verdict, action, packet out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb::dataplane::Program::{self, Generic, Native};
use lb_common::{
    Be16, Flow, Mac,
    Verdict::{self, *},
};

use crate::{
    namespace::isolated,
    packets::{
        CLIENT, CLIENT6, Checksum, Packet, Protocol, arp, ethernet, solicitation, tcp, truncated, udp,
        with_checksum, with_protocol, with_total_length, with_version, within,
    },
    world::{
        CLOSED, DIRECTOR, DR, DR_FAR, DR_UDP, DROP, EMPTY, FAR, FAR_MAC, GUE, GUE6, HOLE, IPIP, IPIP6, LOCAL,
        LOCAL_RANGE, NARROW, NAT, NAT_BACKEND, NAT_BACKEND6, NAT_FAR, NAT_PORT, NAT_UDP, NAT_UDP_PORT,
        NAT_UNRESOLVED, NEAR, NEAR_MAC, NO_INTERFACE, NO_RING, NO_SUCH_BACKEND, OTHER, OTHER6, OWN_ADDRESS,
        OWN_ADDRESS6, PASS, RANGE, REDIRECT, SILENT_CLIENT, Seen, TUNNEL, TUNNEL6, TX, UNRESOLVED,
        UNUSED_BACKEND, VIP, VIP_BACKUP, VIP_EXPIRED, VIP_NO_LEASE, VIP6, VIP6_BACKUP, VIP6_EXPIRED, World,
        address, backend_of, backend_of6, build_network, forwarding,
    },
};

/// A frame and what must become of it.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) frame: Vec<u8>,
    pub(crate) action: u32,
    pub(crate) verdict: Verdict,
    /// `None`: as it came.
    pub(crate) out: Option<Vec<u8>>,
    /// Identifier, bytes, and whether a connection is opened.
    pub(crate) counted: Option<(u32, usize, bool)>,
}

/// The frame goes on as it came, and no backend is counted.
pub(crate) fn passes(what: &'static str, frame: impl Into<Frame>, verdict: Verdict) -> Row {
    Row { what, frame: frame.into().0, action: PASS, verdict, out: None, counted: None }
}

/// The frame is dropped; what it looks like then is nobody's business.
pub(crate) fn drops(what: &'static str, frame: impl Into<Frame>, verdict: Verdict) -> Row {
    Row { what, frame: frame.into().0, action: DROP, verdict, out: None, counted: None }
}

/// The packet is sent on, changed by `change`, and counted for the backend behind `port`.
pub(crate) fn sends(
    what: &'static str,
    packet: Packet,
    action: u32,
    verdict: Verdict,
    port: u16,
    change: impl FnOnce(Packet) -> Packet,
) -> Row {
    let opens = packet.protocol == Protocol::Tcp { syn: true, ack: false };
    let id = if packet.destination.is_ipv4() { backend_of(port) } else { backend_of6(port) };
    let counted = Some((id, packet.unpadded_length(), opens));
    Row { what, frame: packet.bytes(), action, verdict, out: Some(change(packet).bytes()), counted }
}

/// The packet is sent on within another one.
pub(crate) fn wraps(
    what: &'static str,
    packet: Packet,
    action: u32,
    verdict: Verdict,
    port: u16,
    change: impl FnOnce(Packet) -> Vec<u8>,
) -> Row {
    let row = sends(what, packet.clone(), action, verdict, port, |p| p);
    Row { out: Some(change(packet)), ..row }
}

/// Within IPv4 to the near backend.
pub(crate) fn in4(packet: Packet) -> Vec<u8> {
    within(&near(packet), TUNNEL.0, TUNNEL.1, None)
}

/// Within IPv6 to the far one.
pub(crate) fn in6(packet: Packet) -> Vec<u8> {
    within(&far(packet), TUNNEL6.0, TUNNEL6.1, None)
}

/// The source port of GUE: of the dynamic ones, by the flow's hash.
pub(crate) fn gue_port(packet: &Packet) -> u16 {
    let flow = Flow {
        source: address(packet.source),
        destination: address(packet.destination),
        source_port: Be16::new(packet.source_port),
        destination_port: Be16::new(packet.destination_port),
        protocol: if packet.protocol == Protocol::Udp { 17 } else { 6 },
    };
    0xc000 | flow.hash() as u16 & 0x3fff
}

pub(crate) fn gue4(packet: Packet) -> Vec<u8> {
    let port = gue_port(&packet);
    within(&near(packet), TUNNEL.0, TUNNEL.1, Some(port))
}

pub(crate) fn gue6(packet: Packet) -> Vec<u8> {
    let port = gue_port(&packet);
    within(&near(packet), TUNNEL6.0, TUNNEL6.1, Some(port))
}

/// To the `nat` backend of IPv6.
pub(crate) fn nat6(packet: Packet) -> Packet {
    let port = if packet.protocol == Protocol::Udp { NAT_UDP_PORT } else { NAT_PORT };
    near(packet.destination(NAT_BACKEND6).destination_port(port))
}

pub(crate) fn answer6() -> Packet {
    tcp(CLIENT6, 40_000).source(NAT_BACKEND6).source_port(NAT_PORT).source_mac(NEAR)
}

pub(crate) fn replies6(what: &'static str, packet: Packet) -> Row {
    let port = if packet.protocol == Protocol::Udp { NAT_UDP } else { NAT };
    let frame = packet.bytes();
    let out = packet.source(VIP6).source_port(port).hop(Mac([2, 0, 0, 0, 0, 9]), FAR_MAC);
    let out = Some(out.bytes());
    Row { what, frame, action: REDIRECT, verdict: NatReply, out, counted: None }
}

/// A packet or the bytes of a frame.
pub(crate) struct Frame(pub(crate) Vec<u8>);

impl From<Packet> for Frame {
    fn from(packet: Packet) -> Self {
        Self(packet.bytes())
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

pub(crate) fn near(packet: Packet) -> Packet {
    packet.hop(NEAR, NEAR_MAC)
}

pub(crate) fn far(packet: Packet) -> Packet {
    packet.hop(FAR, FAR_MAC)
}

/// To the `nat` backend.
pub(crate) fn nat(packet: Packet) -> Packet {
    let port = if packet.protocol == Protocol::Udp { NAT_UDP_PORT } else { NAT_PORT };
    near(packet.destination(NAT_BACKEND).destination_port(port))
}

/// The `nat` backend's answer to the client, as it leaves the backend.
pub(crate) fn answer() -> Packet {
    tcp(CLIENT, 40_000).source(NAT_BACKEND).source_port(NAT_PORT).source_mac(NEAR)
}

pub(crate) fn udp_answer() -> Packet {
    udp(CLIENT, 40_000).source(NAT_BACKEND).source_port(NAT_UDP_PORT).source_mac(NEAR)
}

/// The answer as the client gets it.
pub(crate) fn answered(packet: Packet) -> Packet {
    let port = if packet.protocol == Protocol::Udp { NAT_UDP } else { NAT };
    packet.source(VIP).source_port(port).hop(Mac([2, 0, 0, 0, 0, 9]), FAR_MAC)
}

pub(crate) fn run(program: Program, rows: impl IntoIterator<Item = Row> + Send) {
    isolated(|| {
        build_network();
        let mut world = World::load();
        world.put_nat_replies();
        check(&mut world, program, rows);
    });
}

pub(crate) fn check(world: &mut World, program: Program, rows: impl IntoIterator<Item = Row>) {
    for row in rows {
        let seen = world.see(program, &row.frame);
        let frame = if row.action == DROP { seen.frame.clone() } else { row.out.unwrap_or(row.frame) };
        let backends = row
            .counted
            .map(|(id, bytes, opens)| (id, 1, bytes as u64, u64::from(opens)))
            .into_iter()
            .collect();
        let expected = Seen { action: row.action, verdicts: vec![(row.verdict, 1)], backends, frame };
        assert_eq!(seen, expected, "{} ({})", row.what, program.name());
    }
    world.assert_nobody_else_counted();
}

/// Declares a test of both programs.
macro_rules! table {
    ($($(#[$doc:meta])* $name:ident = [$($row:expr),+ $(,)?];)+) => {$(
        $(#[$doc])*
        #[test]
        #[ignore = "needs root and BPF: cargo xtask test"]
        fn $name() {
            for program in [Native, Generic] {
                run(program, [$($row),+]);
            }
        }
    )+};
}
pub(crate) use table;

table! {
    /// "What has nothing to do with a VIP is XDP_PASS, untouched."
    foreign_traffic_passes_untouched = [
        passes("tcp to another address", tcp(OTHER, 80), NotOurs),
        passes("udp to another address", udp(OTHER, 53), NotOurs),
        passes("with a wrong checksum", tcp(OTHER, 80).checksum(Checksum::Is(0x1234)), NotOurs),
        passes("with a partial checksum", tcp(OTHER, 80).checksum(Checksum::Partial), NotOurs),
        passes("with padding", tcp(OTHER, 80).padding(13), NotOurs),
        passes("with options", tcp(OTHER, 80).options(vec![1; 8]), NotOurs),
        passes("TTL 1", tcp(OTHER, 80).ttl(1), NotOurs),
        passes("a first fragment", tcp(OTHER, 80).more_fragments(true), NotOurs),
        passes("a last fragment", tcp(OTHER, 80).fragment_offset(100), NotOurs),
        passes("ICMP", with_protocol(tcp(OTHER, 80).bytes(), 1), NotOurs),
        passes("VRRP", with_protocol(tcp(OTHER, 80).bytes(), 112), NotOurs),
        passes("a VIP as the source", tcp(OTHER, 80).source(VIP), NotOurs),
        passes("cut within the TCP header", truncated(tcp(OTHER, 80).bytes(), 40), NotOurs),
        passes("cut within the IPv4 header", truncated(tcp(VIP, DR).bytes(), 33), NotOurs),
        passes("Ethernet header only", truncated(tcp(VIP, DR).bytes(), 14), NotOurs),
        passes("version 7", with_version(tcp(OTHER, 80).bytes(), 0x75), NotOurs),
        passes("header length 4 words", with_version(tcp(OTHER, 80).bytes(), 0x44), NotOurs),
        passes("total length too long", with_total_length(tcp(OTHER, 80).bytes(), 1_400), NotOurs),
        passes("IPv6", ethernet(0x86dd, &[0x60; 80]), NotOurs),
        passes("ICMPv6", solicitation(OTHER6), NotOurs),
        passes("a VLAN tag", ethernet(0x8100, &[0; 80]), NotOurs),
        passes("two VLAN tags", ethernet(0x88a8, &[0; 80]), NotOurs),
        passes("an unknown EtherType", ethernet(0x1234, &[0xab; 46]), NotOurs),
        passes("LLC", ethernet(46, &[0x42; 46]), NotOurs),
        passes("a large frame", tcp(OTHER, 80).payload(1_446), NotOurs),
    ];

    arp_for_a_vip_is_answered_by_its_owner_only = [
        passes("request for a VIP of ours", arp(1, CLIENT, VIP), ArpOwner),
        drops("request for the VIP of another node", arp(1, CLIENT, VIP_BACKUP), ArpNotOwner),
        drops("request for a VIP whose lease ran out", arp(1, CLIENT, VIP_EXPIRED), ArpLeaseExpired),
        drops("request for a VIP whose lease does not exist", arp(1, CLIENT, VIP_NO_LEASE), Internal),
        drops("a probe (RFC 5227) for the VIP of another node", arp(1, [0; 4].into(), VIP_BACKUP), ArpNotOwner),
        drops("the owner's announcement", arp(1, VIP_BACKUP, VIP_BACKUP), ArpNotOwner),
        passes("request for another address", arp(1, CLIENT, OTHER), NotOurs),
        passes("request by the VIP for another address", arp(1, VIP_BACKUP, OTHER), NotOurs),
        passes("reply about a VIP", arp(2, VIP_BACKUP, CLIENT), NotOurs),
        passes("reply to a VIP", arp(2, CLIENT, VIP_BACKUP), NotOurs),
        passes("without padding", truncated(arp(1, CLIENT, VIP), 42), ArpOwner),
        passes("cut short", truncated(arp(1, CLIENT, VIP_BACKUP), 41), NotOurs),
    ];

    lease_decides_who_speaks_for_a_vip = [
        sends("steered by the owner", tcp(VIP, DR), TX, Dr, DR, near),
        sends("steered by a live backup", tcp(VIP_BACKUP, DR), TX, Dr, DR, near),
        drops("not by a node whose lease ran out", tcp(VIP_EXPIRED, DR), LeaseExpired),
        drops("nor delivered by it", tcp(VIP_EXPIRED, LOCAL), LeaseExpired),
        drops("a lease that does not exist", tcp(VIP_NO_LEASE, DR), Internal),
        passes("no service, owner", tcp(VIP, CLOSED), VipStack),
        drops("no service, backup", tcp(VIP_BACKUP, CLOSED), VipNotOwner),
        drops("no service, lease ran out", tcp(VIP_EXPIRED, CLOSED), LeaseExpired),
        drops("no service, a lease that does not exist", tcp(VIP_NO_LEASE, CLOSED), Internal),
        passes("the port of a UDP service by TCP", tcp(VIP, NAT_UDP), VipStack),
        drops("the port of a TCP service by UDP", udp(VIP_BACKUP, DR), VipNotOwner),
        passes("ICMP, owner", with_protocol(tcp(VIP, DR).bytes(), 1), VipStack),
        drops("ICMP, backup", with_protocol(tcp(VIP_BACKUP, DR).bytes(), 1), VipNotOwner),
        drops("ICMP, lease ran out", with_protocol(tcp(VIP_EXPIRED, DR).bytes(), 1), LeaseExpired),
    ];

    what_another_director_steered_is_delivered = [
        passes("owner", tcp(VIP, LOCAL).source_mac(DIRECTOR), Delivered),
        passes("backup", tcp(VIP_BACKUP, LOCAL).source_mac(DIRECTOR), Delivered),
        passes("lease ran out", tcp(VIP_EXPIRED, LOCAL).source_mac(DIRECTOR), Delivered),
        sends("a service without a local backend", tcp(VIP, DR).source_mac(DIRECTOR), TX, Dr, DR, near),
        passes("no service", tcp(VIP, CLOSED).source_mac(DIRECTOR), VipStack),
    ];

    local_backends_get_packets_untouched = [
        sends("established", tcp(VIP, LOCAL), PASS, Local, LOCAL, |p| p),
        sends("SYN", tcp(VIP, LOCAL).syn(), PASS, Local, LOCAL, |p| p),
        sends("TTL 1", tcp(VIP, LOCAL).ttl(1), PASS, Local, LOCAL, |p| p),
        sends("backup", tcp(VIP_BACKUP, LOCAL), PASS, Local, LOCAL, |p| p),
        sends("partial", tcp(VIP, LOCAL).checksum(Checksum::Partial), PASS, Local, LOCAL, |p| p),
    ];

    dr_changes_ethernet_addresses_and_ttl = [
        sends("out where it came in", tcp(VIP, DR), TX, Dr, DR, near),
        sends("out another interface", tcp(VIP, DR_FAR), REDIRECT, Dr, DR_FAR, far),
        sends("SYN opens a connection", tcp(VIP, DR).syn(), TX, Dr, DR, near),
        sends(
            "SYN and ACK opens none",
            tcp(VIP, DR).protocol(Protocol::Tcp { syn: true, ack: true }), TX, Dr, DR, near
        ),
        sends("UDP", udp(VIP, DR_UDP), TX, Dr, DR_UDP, near),
        sends("UDP without a checksum", udp(VIP, DR_UDP).checksum(Checksum::Is(0)), TX, Dr, DR_UDP, near),
        sends("options", tcp(VIP, DR).options(vec![1; 4]), TX, Dr, DR, near),
        sends("the longest options", tcp(VIP, DR).options(vec![1; 40]), TX, Dr, DR, near),
        sends("UDP with the longest options", udp(VIP, DR_UDP).options(vec![1; 40]), TX, Dr, DR_UDP, near),
        sends("padding is not counted", tcp(VIP, DR).payload(0).padding(6), TX, Dr, DR, near),
        sends("no payload", udp(VIP, DR_UDP).payload(0), TX, Dr, DR_UDP, near),
        sends("1500 bytes", tcp(VIP, DR).payload(1_460), TX, Dr, DR, near),
        sends("a wrong checksum stays wrong", tcp(VIP, DR).checksum(Checksum::Is(0x1234)), TX, Dr, DR, near),
        sends("TTL 2", tcp(VIP, DR).ttl(2), TX, Dr, DR, near),
        sends("TTL 255", tcp(VIP, DR).ttl(255), TX, Dr, DR, near),
        drops("TTL 1", tcp(VIP, DR).ttl(1), TtlExpired),
        drops("TTL 0", tcp(VIP, DR).ttl(0), TtlExpired),
    ];

    nat_rewrites_the_destination = [
        sends("TCP", tcp(VIP, NAT), TX, Nat, NAT, nat),
        sends("out another interface", tcp(VIP, NAT_FAR), REDIRECT, Nat, NAT_FAR, |p| {
            far(p.destination(NAT_BACKEND).destination_port(NAT_PORT))
        }),
        sends("SYN", tcp(VIP, NAT).syn(), TX, Nat, NAT, nat),
        sends("UDP", udp(VIP, NAT_UDP), TX, Nat, NAT_UDP, nat),
        sends("UDP without a checksum", udp(VIP, NAT_UDP).checksum(Checksum::Is(0)), TX, Nat, NAT_UDP, nat),
        sends("options", tcp(VIP, NAT).options(vec![1; 12]), TX, Nat, NAT, nat),
        sends("UDP with options", udp(VIP, NAT_UDP).options(vec![1; 40]), TX, Nat, NAT_UDP, nat),
        sends("an odd length", tcp(VIP, NAT).payload(7), TX, Nat, NAT, nat),
        sends("padding", udp(VIP, NAT_UDP).payload(1).padding(17), TX, Nat, NAT_UDP, nat),
        drops("TTL 1", tcp(VIP, NAT).ttl(1), TtlExpired),
    ];

    replies_of_nat_backends_come_from_the_vip = [
        replies("TCP", answer()),
        replies("UDP", udp_answer()),
        replies("UDP without a checksum", udp_answer().checksum(Checksum::Is(0))),
        replies("options", answer().options(vec![1; 20])),
        replies("an odd length and padding", answer().payload(3).padding(3)),
        passes("an answer to this node's own probe", answer().destination(OWN_ADDRESS), NotOurs),
        passes("no route", answer().destination(OTHER), NotOurs),
        passes("another port of the backend", answer().source_port(22), NotOurs),
        passes("another protocol", udp_answer().source_port(NAT_PORT), NotOurs),
        drops("a client nobody knows the MAC address of", answer().destination(SILENT_CLIENT), NoRoute),
        drops("an unreachable route", answer().destination([203, 0, 113, 1]), NoRoute),
        drops("TTL 1", answer().ttl(1), TtlExpired),
    ];

    packets_that_cannot_be_steered_are_dropped = [
        drops("a service without a ring", tcp(VIP, EMPTY), NoBackend),
        drops("a slot without a backend", tcp(VIP, HOLE), NoBackend),
        drops("dr, next hop not resolved", tcp(VIP, UNRESOLVED), NoNeighbour),
        drops("nat, next hop not resolved", tcp(VIP, NAT_UNRESOLVED), NoNeighbour),
        drops("a ring that does not exist", tcp(VIP, NO_RING), Internal),
        drops("a backend that does not exist", tcp(VIP, NO_SUCH_BACKEND), Internal),
        drops("a backend that is not in use", tcp(VIP, UNUSED_BACKEND), Internal),
        drops("an interface that does not exist", tcp(VIP, NO_INTERFACE), Internal),
    ];

    malformed_packets_to_a_vip_are_dropped = [
        drops("cut within the ports", truncated(tcp(VIP, DR).bytes(), 36), Malformed),
        drops("cut within the payload", truncated(tcp(VIP, DR).bytes(), 60), Malformed),
        drops("total length beyond the frame", with_total_length(tcp(VIP, DR).bytes(), 1_400), Malformed),
        drops("total length within the header", with_total_length(tcp(VIP, DR).bytes(), 19), Malformed),
        drops("total length within the TCP header", with_total_length(tcp(VIP, DR).bytes(), 39), Malformed),
        drops("total length within the UDP header", with_total_length(udp(VIP, DR_UDP).bytes(), 27), Malformed),
        drops("total length 0", with_total_length(tcp(VIP, DR).bytes(), 0), Malformed),
        drops("version 6", with_version(tcp(VIP, DR).bytes(), 0x65), Malformed),
        drops("header length 4 words", with_version(tcp(VIP, DR).bytes(), 0x44), Malformed),
        drops("header longer than the packet", with_version(udp(VIP, DR_UDP).payload(0).bytes(), 0x4f), Malformed),
        drops("no service either", truncated(tcp(VIP, CLOSED).bytes(), 36), Malformed),
        drops("whatever the lease says", truncated(tcp(VIP_EXPIRED, DR).bytes(), 36), Malformed),
    ];

    ipv6_is_steered_as_ipv4_is = [
        passes("another address", tcp(OTHER6, 80), NotOurs),
        passes("cut within the header", truncated(tcp(VIP6, DR).bytes(), 53), NotOurs),
        sends("dr", tcp(VIP6, DR), TX, Dr, DR, near),
        sends("dr, SYN", tcp(VIP6, DR).syn(), TX, Dr, DR, near),
        sends("dr, another interface", tcp(VIP6, DR_FAR), REDIRECT, Dr, DR_FAR, far),
        sends("dr, backup", tcp(VIP6_BACKUP, DR), TX, Dr, DR, near),
        sends("dr, UDP", udp(VIP6, DR_UDP), TX, Dr, DR_UDP, near),
        sends("dr, padding", tcp(VIP6, DR).padding(7), TX, Dr, DR, near),
        sends("nat", tcp(VIP6, NAT), TX, Nat, NAT, nat6),
        sends("nat, UDP", udp(VIP6, NAT_UDP), TX, Nat, NAT_UDP, nat6),
        sends("nat, an odd length", tcp(VIP6, NAT).payload(7), TX, Nat, NAT, nat6),
        sends("local", tcp(VIP6, LOCAL), PASS, Local, LOCAL, |p| p),
        passes("from another director", tcp(VIP6, LOCAL).source_mac(DIRECTOR), Delivered),
        replies6("nat reply", answer6()),
        replies6("nat reply, odd", answer6().payload(3)),
        passes("an answer to this node", answer6().destination(OWN_ADDRESS6), NotOurs),
        passes("no service, owner", tcp(VIP6, CLOSED), VipStack),
        drops("no service, backup", tcp(VIP6_BACKUP, CLOSED), VipNotOwner),
        drops("lease ran out", tcp(VIP6_EXPIRED, DR), LeaseExpired),
        drops("hop limit 1", tcp(VIP6, DR).ttl(1), TtlExpired),
        drops("no backend", tcp(VIP6, EMPTY), NoBackend),
        drops("next hop not resolved", tcp(VIP6, UNRESOLVED), NoNeighbour),
        drops("cut within the payload", truncated(tcp(VIP6, DR).bytes(), 80), Malformed),
        drops("version 4", with_version(tcp(VIP6, DR).bytes(), 0x45), Malformed),
    ];

    ipv6_extension_headers_are_read = [
        sends("hop by hop", tcp(VIP6, DR).extension(0, 1), TX, Dr, DR, near),
        sends("routing", tcp(VIP6, DR).extension(43, 3), TX, Dr, DR, near),
        sends("destination options", udp(VIP6, DR_UDP).extension(60, 2), TX, Dr, DR_UDP, near),
        sends("three", tcp(VIP6, NAT).extension(0, 1).extension(60, 2).extension(43, 1), TX, Nat, NAT, nat6),
        sends("an atomic fragment", tcp(VIP6, DR).extension(44, 1), TX, Dr, DR, near),
        passes("of nobody", tcp(OTHER6, DR).extension(0, 1), NotOurs),
        passes("no service", tcp(VIP6, CLOSED).extension(0, 1), VipStack),
        sends(
            "six",
            (0..6).fold(tcp(VIP6, DR), |packet, _| packet.extension(60, 1)),
            TX, Dr, DR, near
        ),
        drops(
            "more than six",
            (0..7).fold(tcp(VIP6, DR), |packet, _| packet.extension(60, 1)),
            Malformed
        ),
        drops("longer than the packet", truncated(tcp(VIP6, DR).extension(60, 4).bytes(), 70), Malformed),
        passes("an unknown one", tcp(VIP6, DR).extension(99, 1), VipStack),
    ];

    neighbour_solicitations_for_a_vip_are_answered_by_its_owner_only = [
        passes("for a VIP of ours", solicitation(VIP6), ArpOwner),
        drops("for the VIP of another node", solicitation(VIP6_BACKUP), ArpNotOwner),
        drops("for a VIP whose lease ran out", solicitation(VIP6_EXPIRED), ArpLeaseExpired),
        passes("for another address", solicitation(OTHER6), NotOurs),
        passes("cut short", truncated(solicitation(VIP6_BACKUP), 70), NotOurs),
    ];

    services_have_ranges_of_ports = [
        sends("the first", tcp(VIP, RANGE), TX, Nat, NAT, nat),
        sends("the last", tcp(VIP, RANGE + 1_023), TX, Nat, NAT, nat),
        passes("one before", tcp(VIP, RANGE - 1), VipStack),
        passes("one behind", tcp(VIP, RANGE + 1_024), VipStack),
        drops("of a VIP without ranges", tcp(VIP_BACKUP, RANGE), VipNotOwner),
        sends("every port", udp(VIP, 9), TX, Dr, DR, near),
        sends("port 65535", udp(VIP, 65_535), TX, Dr, DR, near),
        sends("a service of its own comes first", udp(VIP, NAT_UDP), TX, Nat, NAT_UDP, nat),
        sends("IPv6", tcp(VIP6, RANGE + 5), TX, Nat, NAT, nat6),
        sends("IPv6, every port", udp(VIP6, 9), TX, Dr, DR, near),
        passes("IPv6, one behind", tcp(VIP6, RANGE + 1_024), VipStack),
        passes("of another address", udp(OTHER, 9), NotOurs),
    ];

    encapsulated_packets_for_a_local_backend_are_delivered = [
        delivers("4 in 4", tcp(VIP, LOCAL), OUTER, None),
        delivers("6 in 4", tcp(VIP6, LOCAL), OUTER, None),
        delivers("4 in 6", tcp(VIP, LOCAL), OUTER6, None),
        delivers("6 in 6", tcp(VIP6, LOCAL), OUTER6, None),
        delivers("4 in a datagram over 4", tcp(VIP, LOCAL), OUTER, Some(50_000)),
        delivers("6 in a datagram over 4", tcp(VIP6, LOCAL), OUTER, Some(50_000)),
        delivers("4 in a datagram over 6", tcp(VIP, LOCAL), OUTER6, Some(50_000)),
        delivers("6 in a datagram over 6", tcp(VIP6, LOCAL), OUTER6, Some(50_000)),
        delivers("backup", tcp(VIP_BACKUP, LOCAL), OUTER, None),
        delivers("lease ran out", tcp(VIP_EXPIRED, LOCAL), OUTER, None),
        delivers("options", tcp(VIP, LOCAL).options(vec![1; 8]), OUTER, None),
        delivers("a service of a range of ports", tcp(VIP, LOCAL_RANGE + 3), OUTER, None),
        delivers("a service of a range of ports, 6", tcp(VIP6, LOCAL_RANGE), OUTER6, Some(50_000)),
        delivers("extension headers", tcp(VIP6, LOCAL).extension(0, 2), OUTER, None),
        passes("no local backend", within(&tcp(VIP, DR), OUTER.0, OUTER.1, None), NotOurs),
        passes("no service", within(&tcp(VIP, CLOSED), OUTER.0, OUTER.1, None), NotOurs),
        passes("no VIP", within(&tcp(OTHER, 80), OUTER.0, OUTER.1, None), NotOurs),
        passes("no VIP, in a datagram", within(&tcp(OTHER, 80), OUTER.0, OUTER.1, Some(1)), NotOurs),
        passes("for another node", within(&tcp(VIP, LOCAL), OUTER.0, CLIENT.into(), None), NotOurs),
        passes("for another node, 6", within(&tcp(VIP, LOCAL), OUTER6.0, CLIENT6.into(), None), NotOurs),
        passes("cut short", truncated(within(&tcp(VIP, LOCAL), OUTER.0, OUTER.1, None), 60), NotOurs),
        passes("another port", gue_to_another_port(), NotOurs),
    ];

    ipip_puts_a_packet_into_another = [
        wraps("4 in 4", tcp(VIP, IPIP), TX, Ipip, IPIP, in4),
        wraps("4 in 6, another interface", tcp(VIP, IPIP6), REDIRECT, Ipip, IPIP6, in6),
        wraps("6 in 4", tcp(VIP6, IPIP), TX, Ipip, IPIP, in4),
        wraps("6 in 6, another interface", tcp(VIP6, IPIP6), REDIRECT, Ipip, IPIP6, in6),
        wraps("SYN", tcp(VIP, IPIP).syn(), TX, Ipip, IPIP, in4),
        wraps("DSCP and ECN", tcp(VIP, IPIP).tos(0xb9), TX, Ipip, IPIP, in4),
        wraps("traffic class", tcp(VIP6, IPIP).tos(0xb9), TX, Ipip, IPIP, in4),
        wraps("type of service in 6", tcp(VIP, IPIP6).tos(0xb9), REDIRECT, Ipip, IPIP6, in6),
        wraps("options", tcp(VIP, IPIP).options(vec![1; 8]), TX, Ipip, IPIP, in4),
        wraps("extension headers", tcp(VIP6, IPIP).extension(60, 1), TX, Ipip, IPIP, in4),
        wraps("padding", tcp(VIP, IPIP).padding(5), TX, Ipip, IPIP, in4),
        wraps("a wrong checksum", tcp(VIP, IPIP).checksum(Checksum::Is(0x1234)), TX, Ipip, IPIP, in4),
        wraps("as big as the way takes", tcp(VIP, NARROW).payload(1_340), TX, Ipip, NARROW, in4),
        drops("TTL 1", tcp(VIP, IPIP).ttl(1), TtlExpired),
        drops("hop limit 1", tcp(VIP6, IPIP).ttl(1), TtlExpired),
    ];

    gue_puts_a_packet_into_a_datagram = [
        wraps("4 in 4", tcp(VIP, GUE), TX, Gue, GUE, gue4),
        wraps("4 in 6", tcp(VIP, GUE6), TX, Gue, GUE6, gue6),
        wraps("6 in 4", tcp(VIP6, GUE), TX, Gue, GUE, gue4),
        wraps("6 in 6", tcp(VIP6, GUE6), TX, Gue, GUE6, gue6),
        wraps("another flow has another port", tcp(VIP, GUE).source_port(41_000), TX, Gue, GUE, gue4),
        wraps("DSCP and ECN", tcp(VIP, GUE).tos(0xb9), TX, Gue, GUE, gue4),
        wraps("options", tcp(VIP, GUE).options(vec![1; 40]), TX, Gue, GUE, gue4),
        drops("TTL 1", tcp(VIP, GUE).ttl(1), TtlExpired),
    ];
}

/// The ends of what another director encapsulated for this node.
const OUTER: (IpAddr, IpAddr) = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), IpAddr::V4(OWN_ADDRESS));
const OUTER6: (IpAddr, IpAddr) =
    (IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)), IpAddr::V6(OWN_ADDRESS6));

#[expect(clippy::needless_pass_by_value, reason = "rows build their packets in place")]
pub(crate) fn delivers(
    what: &'static str,
    packet: Packet,
    outer: (IpAddr, IpAddr),
    port: Option<u16>,
) -> Row {
    let frame = within(&packet, outer.0, outer.1, port);
    let out = Some(packet.bytes());
    Row { what, frame, action: PASS, verdict: Decapsulated, out, counted: None }
}

fn gue_to_another_port() -> Vec<u8> {
    let mut frame = within(&tcp(VIP, LOCAL), OUTER.0, OUTER.1, Some(50_000));
    frame[36..38].copy_from_slice(&6_081_u16.to_be_bytes());
    frame
}

pub(crate) fn replies(what: &'static str, packet: Packet) -> Row {
    let frame = packet.bytes();
    Row {
        what,
        frame,
        action: REDIRECT,
        verdict: NatReply,
        out: Some(answered(packet).bytes()),
        counted: None,
    }
}

/// The payload lengths at which summing up takes another path: words, chunks of 512, odd ends.
const LENGTHS: [usize; 12] = [0, 1, 2, 3, 4, 5, 491, 492, 493, 494, 1_000, 1_460];

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn native_mode_finishes_partial_checksums() {
    let whole = |packet: Packet| packet.checksum(Checksum::Whole);
    let rows = LENGTHS.into_iter().flat_map(|length| {
        let partial = |packet: Packet| packet.payload(length).checksum(Checksum::Partial);
        let reply = partial(answer());
        let reply_frame = reply.bytes();
        [
            sends("dr", partial(tcp(VIP, DR)), TX, Dr, DR, |p| near(whole(p))),
            sends("dr, UDP", partial(udp(VIP, DR_UDP)), TX, Dr, DR_UDP, |p| near(whole(p))),
            sends("dr, options", partial(tcp(VIP, DR)).options(vec![1; 40]), TX, Dr, DR, |p| near(whole(p))),
            sends("dr, padding", partial(tcp(VIP, DR)).padding(9), TX, Dr, DR, |p| near(whole(p))),
            sends("nat", partial(tcp(VIP, NAT)), TX, Nat, NAT, |p| nat(whole(p))),
            sends("nat, UDP", partial(udp(VIP, NAT_UDP)), TX, Nat, NAT_UDP, |p| nat(whole(p))),
            Row {
                what: "nat reply",
                frame: reply_frame,
                action: REDIRECT,
                verdict: NatReply,
                out: Some(answered(whole(reply)).bytes()),
                counted: None,
            },
        ]
    });
    run(Native, rows.collect::<Vec<_>>());
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn generic_mode_keeps_partial_checksums_partial() {
    let rows = LENGTHS.into_iter().flat_map(|length| {
        let partial = |packet: Packet| packet.payload(length).checksum(Checksum::Partial);
        [
            sends("dr", partial(tcp(VIP, DR)), TX, Dr, DR, near),
            sends("dr, UDP", partial(udp(VIP, DR_UDP)), TX, Dr, DR_UDP, near),
            sends("nat", partial(tcp(VIP, NAT)), TX, Nat, NAT, nat),
            sends("nat, UDP", partial(udp(VIP, NAT_UDP)), TX, Nat, NAT_UDP, nat),
            sends("nat, options", partial(tcp(VIP, NAT)).options(vec![1; 8]), TX, Nat, NAT, nat),
            replies("nat reply", partial(answer())),
            replies("nat reply, UDP", partial(udp_answer())),
        ]
    });
    run(Generic, rows.collect::<Vec<_>>());
}

/// One packet in 65,536 has a finished checksum that equals the sum of its pseudo header.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn finished_checksum_that_looks_partial_stays_right() {
    let coincidence = |packet: Packet| {
        let of = |word: [u8; 2]| Packet { payload: word.to_vec(), ..packet.clone() };
        let field = if packet.protocol == Protocol::Udp { 40 } else { 50 };
        let partial = of([0; 2]).checksum(Checksum::Partial).bytes();
        let wanted = u16::from_be_bytes([partial[field], partial[field + 1]]);
        of(with_checksum(|word| of(word).bytes(), field, wanted))
    };
    for program in [Native, Generic] {
        run(
            program,
            [
                sends("dr", coincidence(tcp(VIP, DR)), TX, Dr, DR, near),
                sends("nat", coincidence(tcp(VIP, NAT)), TX, Nat, NAT, nat),
                sends("nat, UDP", coincidence(udp(VIP, NAT_UDP)), TX, Nat, NAT_UDP, nat),
                replies("nat reply", coincidence(answer())),
            ],
        );
    }
}

/// UDP has no checksum 0; a sum that comes out so is sent as ffff.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn udp_checksum_never_becomes_none() {
    let of = |word: [u8; 2]| Packet { payload: word.to_vec(), ..udp(VIP, NAT_UDP) };
    let zero_after_nat = of(with_checksum(|word| nat(of(word)).bytes(), 40, 0xffff));
    for program in [Native, Generic] {
        run(program, [sends("nat", zero_after_nat.clone(), TX, Nat, NAT_UDP, nat)]);
    }
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn nat_replies_without_forwarding_pass_untouched() {
    isolated(|| {
        build_network();
        forwarding(false);
        let mut world = World::load();
        world.put_nat_replies();
        for program in [Native, Generic] {
            check(
                &mut world,
                program,
                [
                    passes("to a client", answer(), ForwardingOff),
                    passes("to this node", answer().destination(OWN_ADDRESS), ForwardingOff),
                    passes("other traffic", answer().source_port(22), NotOurs),
                ],
            );
        }
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn nat_replies_are_known_while_any_are() {
    use lb::dataplane::Dataplane as _;
    use lb_common::NatReplyKey6;

    isolated(|| {
        build_network();
        let mut world = World::load();
        check(&mut world, Native, [passes("none yet", answer(), NotOurs)]);
        world.put_nat_replies();
        check(&mut world, Native, [replies("two", answer())]);
        for (port, protocol) in [(NAT_UDP_PORT, 17), (NAT_PORT, 6)] {
            check(&mut world, Native, [replies("still there", answer())]);
            let key =
                NatReplyKey6 { address: address(NAT_BACKEND), port: Be16::new(port), protocol, reserved: 0 };
            for _ in 0..2 {
                world.dataplane.delete_nat_reply(key).expect("deleting twice is a success");
            }
        }
        check(&mut world, Native, [passes("none any more", answer(), NotOurs)]);
    });
}
