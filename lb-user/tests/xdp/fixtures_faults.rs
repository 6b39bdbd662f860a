//! Faults that other balancers were found to have: answers in the name of others, traffic of others dropped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb::dataplane::Program::{Generic, Native};
use lb_common::Verdict::*;

use crate::{
    fixtures::{drops, far, near, passes, run, sends, table, wraps},
    packets::{
        CLIENT, CLIENT6, Packet, arp, ones_complement_sum, solicitation, tcp, truncated, udp, with_protocol,
        with_total_length, with_version, within,
    },
    world::{
        CLOSED, DIRECTOR, DR, DR_FAR, DR_UDP, IPIP, LOCAL, NAT_BACKEND, NAT_BACKEND6, OTHER, OTHER6,
        OWN_ADDRESS, OWN_ADDRESS6, PASS, REDIRECT, SILENT_CLIENT, TUNNEL, TX, VIP, VIP_BACKUP, VIP_EXPIRED,
        VIP_LEFT, VIP_REFUSING, VIP6, VIP6_BACKUP, VIP6_EXPIRED, VIP6_LEFT, VIP6_REFUSING,
    },
};

/// An ICMP or ICMPv6 message of a type, 64 bytes of it.
fn icmp(kind: u8, to: impl Into<IpAddr>) -> Vec<u8> {
    let to = to.into();
    let mut packet = udp(to, 7).payload(56).bytes();
    let (protocol, start) = if to.is_ipv4() { (23, 34) } else { (20, 54) };
    packet[start..start + 8].copy_from_slice(&[kind, 0, 0, 0, 0x12, 0x34, 0, 1]);
    let mut pseudo = Vec::new();
    if to.is_ipv6() {
        pseudo.extend(&packet[22..54]);
        pseudo.extend([0, 64, 0, 58]);
    }
    packet[protocol] = if to.is_ipv4() { 1 } else { 58 };
    let words = [&pseudo[..], &packet[start..]].concat();
    let checksum = !ones_complement_sum(words.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])));
    packet[start + 2..start + 4].copy_from_slice(&checksum.to_be_bytes());
    if to.is_ipv4() { with_protocol(packet, 1) } else { packet }
}

/// A request for an answer.
fn echo(to: impl Into<IpAddr>) -> Vec<u8> {
    let to = to.into();
    icmp(if to.is_ipv4() { 8 } else { 128 }, to)
}

fn echo_reply(to: impl Into<IpAddr>) -> Vec<u8> {
    let to = to.into();
    icmp(if to.is_ipv4() { 0 } else { 129 }, to)
}

/// The first, a middle and the last piece of a datagram.
fn pieces(packet: &Packet) -> [Packet; 3] {
    [
        packet.clone().more_fragments(true),
        packet.clone().more_fragments(true).fragment_offset(185),
        packet.clone().fragment_offset(370),
    ]
}

fn first(packet: &Packet) -> Packet {
    let [first, _, _] = pieces(packet);
    first
}

fn middle(packet: &Packet) -> Packet {
    let [_, middle, _] = pieces(packet);
    middle
}

fn last(packet: &Packet) -> Packet {
    let [_, _, last] = pieces(packet);
    last
}

/// The same of IPv6, by an extension header.
fn piece6(mut packet: Packet, offset_and_more: u16) -> Packet {
    let [high, low] = offset_and_more.to_be_bytes();
    packet.extensions.push((44, vec![0, 0, high, low, 0, 0, 0, 1]));
    packet
}

const MULTICAST: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const BROADCAST: Ipv4Addr = Ipv4Addr::BROADCAST;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

table! {
    /// Accept_Mode of RFC 9568, section 6.1.
    owner_that_accepts_nothing_drops_what_no_service_is_for = [
        drops("echo", echo(VIP_REFUSING), NotAccepted),
        drops("echo, 6", echo(VIP6_REFUSING), NotAccepted),
        drops("no service", tcp(VIP_REFUSING, CLOSED), NotAccepted),
        drops("no service, 6", tcp(VIP6_REFUSING, CLOSED), NotAccepted),
        drops("another protocol", with_protocol(tcp(VIP_REFUSING, DR).bytes(), 132), NotAccepted),
        drops("a fragment", tcp(VIP_REFUSING, CLOSED).payload(12).more_fragments(true), NotAccepted),
        passes("ARP", arp(1, CLIENT, VIP_REFUSING), ArpOwner),
        passes("solicitation", solicitation(VIP6_REFUSING), ArpOwner),
        passes("advertisement", icmp(136, VIP6_REFUSING), VipStack),
        sends("a service", tcp(VIP_REFUSING, DR), TX, Dr, DR, near),
        sends("a service, 6", tcp(VIP6_REFUSING, DR), TX, Dr, DR, near),
        sends("a local service", tcp(VIP_REFUSING, LOCAL), PASS, Local, LOCAL, |p| p),
    ];

    /// Nothing is lost at a handover: clients hear of the new owner a little later than the old one.
    node_that_has_just_handed_over_takes_what_still_comes_and_answers_no_question = [
        passes("echo", echo(VIP_LEFT), VipStack),
        passes("echo, 6", echo(VIP6_LEFT), VipStack),
        passes("no service", tcp(VIP_LEFT, CLOSED), VipStack),
        sends("a service", tcp(VIP_LEFT, DR), TX, Dr, DR, near),
        drops("ARP", arp(1, CLIENT, VIP_LEFT), ArpNotOwner),
        drops("solicitation", solicitation(VIP6_LEFT), ArpNotOwner),
    ];

    /// Katran answers an echo request for any address that it is sent.
    echo_is_answered_by_the_stack_of_the_owner_and_by_nobody_for_others = [
        passes("to a VIP of ours", echo(VIP), VipStack),
        passes("to a VIP of ours, 6", echo(VIP6), VipStack),
        drops("to the VIP of another node", echo(VIP_BACKUP), VipNotOwner),
        drops("to the VIP of another node, 6", echo(VIP6_BACKUP), VipNotOwner),
        drops("to a VIP whose lease ran out", echo(VIP_EXPIRED), LeaseExpired),
        drops("to a VIP whose lease ran out, 6", echo(VIP6_EXPIRED), LeaseExpired),
        passes("to another address", echo(OTHER), NotOurs),
        passes("to another address, 6", echo(OTHER6), NotOurs),
        passes("to this node", echo(OWN_ADDRESS), NotOurs),
        passes("to this node, 6", echo(OWN_ADDRESS6), NotOurs),
        passes("to a backend", echo(NAT_BACKEND), NotOurs),
        passes("to a backend, 6", echo(NAT_BACKEND6), NotOurs),
        passes("to a client", echo(SILENT_CLIENT), NotOurs),
        passes("to everybody", echo(BROADCAST), NotOurs),
        passes("to a group", echo(MULTICAST), NotOurs),
        passes("to all nodes, 6", echo(ALL_NODES), NotOurs),
        passes("a reply to another address", echo_reply(OTHER), NotOurs),
        passes("a reply to another address, 6", echo_reply(OTHER6), NotOurs),
        passes("a reply to a VIP of ours", echo_reply(VIP), VipStack),
        passes("a reply to a VIP of ours, 6", echo_reply(VIP6), VipStack),
        passes("cut short", truncated(echo(OTHER), 36), NotOurs),
        passes("cut short, 6", truncated(echo(OTHER6), 56), NotOurs),
    ];

    /// Katran drops every IPv4 packet with options.
    options_of_others_are_left_alone_and_those_to_a_vip_are_carried = [
        passes("one word", tcp(OTHER, 80).options(vec![1; 4]), NotOurs),
        passes("the most", tcp(OTHER, 80).options(vec![1; 40]), NotOurs),
        passes("UDP", udp(OTHER, 53).options(vec![1; 8]), NotOurs),
        passes("UDP, the most", udp(OTHER, 53).options(vec![1; 40]), NotOurs),
        passes("record route", tcp(OTHER, 80).options(vec![7, 7, 4, 0, 0, 0, 0, 0]), NotOurs),
        passes("source route", tcp(OTHER, 80).options(vec![131, 7, 4, 10, 0, 0, 1, 0]), NotOurs),
        passes("router alert", tcp(OTHER, 80).options(vec![148, 4, 0, 0]), NotOurs),
        passes("end of options first", tcp(OTHER, 80).options(vec![0, 7, 7, 7]), NotOurs),
        passes("an option longer than its header", tcp(OTHER, 80).options(vec![7, 200, 4, 0]), NotOurs),
        passes("with another protocol", with_protocol(tcp(OTHER, 80).options(vec![1; 8]).bytes(), 47), NotOurs),
        passes("IGMP", with_protocol(tcp(MULTICAST, 80).options(vec![148, 4, 0, 0]).bytes(), 2), NotOurs),
        sends("to a VIP", tcp(VIP, DR).options(vec![7, 7, 4, 0, 0, 0, 0, 0]), TX, Dr, DR, near),
        sends("to a VIP, source route", tcp(VIP, DR).options(vec![131, 7, 4, 10, 0, 0, 1, 0]), TX, Dr, DR, near),
        sends("to a VIP, router alert", tcp(VIP, DR_FAR).options(vec![148, 4, 0, 0]), REDIRECT, Dr, DR_FAR, far),
        sends("to a VIP, UDP", udp(VIP, DR_UDP).options(vec![1; 36]), TX, Dr, DR_UDP, near),
        wraps("to a VIP, ipip", tcp(VIP, IPIP).options(vec![1; 36]), TX, Ipip, IPIP, |p| within(&near(p), TUNNEL.0, TUNNEL.1, None)),
        passes("to a VIP, no service", tcp(VIP, CLOSED).options(vec![1; 8]), VipStack),
        drops("to the VIP of another node, no service", tcp(VIP_BACKUP, CLOSED).options(vec![1; 8]), VipNotOwner),
    ];

    /// Katran drops every fragment.
    fragments_of_others_are_left_alone = [
        passes("the first", first(&tcp(OTHER, 80)), NotOurs),
        passes("the middle one", middle(&tcp(OTHER, 80)), NotOurs),
        passes("the last", last(&tcp(OTHER, 80)), NotOurs),
        passes("the first, UDP", first(&udp(OTHER, 53)), NotOurs),
        passes("the middle one, UDP", middle(&udp(OTHER, 53)), NotOurs),
        passes("the last, UDP", last(&udp(OTHER, 53)), NotOurs),
        passes("with options", first(&udp(OTHER, 53).options(vec![1; 8])), NotOurs),
        passes("to this node", first(&udp(OWN_ADDRESS, 53)), NotOurs),
        passes("to a backend", last(&udp(NAT_BACKEND, 53)), NotOurs),
        passes("from a director", last(&udp(OTHER, 53).source_mac(DIRECTOR)), NotOurs),
        passes("to a group", first(&udp(MULTICAST, 53)), NotOurs),
        passes("from a nat backend", first(&udp(CLIENT, 53).source(NAT_BACKEND).source_port(22)), NotOurs),
        passes("of ICMP", with_protocol(first(&udp(OTHER, 53)).bytes(), 1), NotOurs),
        passes("empty", last(&udp(OTHER, 53).payload(0)), NotOurs),
        passes("the first, 6", piece6(udp(OTHER6, 53), 1), NotOurs),
        passes("the middle one, 6", piece6(udp(OTHER6, 53), 8 * 185 + 1), NotOurs),
        passes("the last, 6", piece6(udp(OTHER6, 53), 8 * 185), NotOurs),
        passes("atomic, 6", piece6(udp(OTHER6, 53), 0), NotOurs),
        passes("behind other headers, 6", piece6(udp(OTHER6, 53).extension(0, 1), 1), NotOurs),
        passes("from a nat backend, 6", piece6(tcp(CLIENT6, 80).source(NAT_BACKEND6).source_port(22), 1), NotOurs),
    ];

    /// What cannot be read is somebody else's business too, if it is for somebody else.
    malformed_packets_of_others_are_left_alone = [
        passes("total length beyond the frame", with_total_length(tcp(OTHER, 80).bytes(), 1_400), NotOurs),
        passes("total length within the header", with_total_length(tcp(OTHER, 80).bytes(), 19), NotOurs),
        passes("total length within TCP", with_total_length(tcp(OTHER, 80).bytes(), 39), NotOurs),
        passes("total length within UDP", with_total_length(udp(OTHER, 53).bytes(), 27), NotOurs),
        passes("total length 0", with_total_length(tcp(OTHER, 80).bytes(), 0), NotOurs),
        passes("total length 65,535", with_total_length(tcp(OTHER, 80).bytes(), 65_535), NotOurs),
        passes("version 0", with_version(tcp(OTHER, 80).bytes(), 0x05), NotOurs),
        passes("version 6", with_version(tcp(OTHER, 80).bytes(), 0x65), NotOurs),
        passes("no header", with_version(tcp(OTHER, 80).bytes(), 0x40), NotOurs),
        passes("header longer than the packet", with_version(udp(OTHER, 53).payload(0).bytes(), 0x4f), NotOurs),
        passes("version 4 in IPv6", with_version(tcp(OTHER6, 80).bytes(), 0x45), NotOurs),
        passes("version 15 in IPv6", with_version(tcp(OTHER6, 80).bytes(), 0xf0), NotOurs),
        passes("cut in the ports", truncated(tcp(OTHER, 80).bytes(), 35), NotOurs),
        passes("cut in the ports, 6", truncated(tcp(OTHER6, 80).bytes(), 55), NotOurs),
        passes("cut in an extension header", truncated(tcp(OTHER6, 80).extension(0, 4).bytes(), 60), NotOurs),
        passes("more than six extension headers", (0..7).fold(tcp(OTHER6, 80), |p, _| p.extension(60, 1)), NotOurs),
        passes("the least frame", truncated(tcp(OTHER, 80).bytes(), 15), NotOurs),
        passes("the least frame, 6", truncated(tcp(OTHER6, 80).bytes(), 15), NotOurs),
        passes("source and destination the same", tcp(OTHER, 80).source(OTHER), NotOurs),
        passes("from nobody", tcp(OTHER, 80).source([0, 0, 0, 0]), NotOurs),
        passes("to nobody", tcp([0, 0, 0, 0], 80), NotOurs),
        passes("port 0", tcp(OTHER, 0).source_port(0), NotOurs),
    ];

    /// A service is an address, a port and a protocol: all of them, exactly.
    neighbours_of_a_service_are_not_the_service = [
        passes("the port before", tcp(VIP, DR - 1), VipStack),
        drops("the port with its bytes exchanged", tcp(VIP_BACKUP, DR.swap_bytes()), VipNotOwner),
        passes("the address before", tcp([172, 20, 128, 3], DR), NotOurs),
        passes("an address of four VIPs on", tcp([172, 20, 128, 8], DR), NotOurs),
        passes("the address with its bytes exchanged", tcp([4, 128, 20, 172], DR), NotOurs),
        passes("another family's address with the same end", tcp(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xac14, 0x8004), DR), NotOurs),
        passes("the address before, 6", tcp(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 3), DR), NotOurs),
        passes("another prefix, 6", tcp(Ipv6Addr::new(0x2001, 0xdb9, 0, 0, 0, 0, 0, 4), DR), NotOurs),
        passes("the port before, 6", tcp(VIP6, DR - 1), VipStack),
        passes("SCTP", with_protocol(tcp(VIP, DR).bytes(), 132), VipStack),
        passes("UDP-Lite", with_protocol(udp(VIP, DR_UDP).bytes(), 136), VipStack),
        passes("GRE", with_protocol(tcp(VIP, DR).bytes(), 47), VipStack),
        passes("protocol 0", with_protocol(tcp(VIP, DR).bytes(), 0), VipStack),
        passes("protocol 255", with_protocol(tcp(VIP, DR).bytes(), 255), VipStack),
        drops("SCTP to the VIP of another node", with_protocol(tcp(VIP_BACKUP, DR).bytes(), 132), VipNotOwner),
        drops("SCTP where the lease ran out", with_protocol(tcp(VIP_EXPIRED, DR).bytes(), 132), LeaseExpired),
        passes("the service's address as the source", tcp(CLIENT, 40_000).source(VIP).source_port(DR), NotOurs),
        passes("the same, 6", tcp(CLIENT6, 40_000).source(VIP6).source_port(DR), NotOurs),
    ];
}

#[test]
fn echo_requests_are_well_formed() {
    let sum = |bytes: &[u8]| {
        ones_complement_sum(bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])))
    };
    assert_eq!(sum(&echo(VIP)[34..]), 0xffff);
    let frame = echo(VIP6);
    assert_eq!(sum(&[&frame[22..54], &[0, 64, 0, 58], &frame[54..]].concat()), 0xffff);
}
