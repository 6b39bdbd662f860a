//! Frames with VLAN tags, and what leaves with them.

use lb::dataplane::Program::{Generic, Native};
use lb_common::{Mac, Tag, Verdict::*};

use crate::{
    fixtures::{
        Row, answer, answered, drops, far, in4, nat, near, passes, run, sends, table, udp_answer, wraps,
    },
    packets::{
        CLIENT, OWN_MAC, Packet, arp, ethernet, solicitation, tcp, truncated, udp, with_protocol, within,
    },
    world::{
        CLOSED, DIRECTOR, DR, DR_FAR, DR_VLAN, DR_VLAN_FAR, IPIP, IPIP_VLAN, LOCAL, NAT, NAT_UDP, OTHER,
        OWN_ADDRESS, PASS, REDIRECT, TX, UNRESOLVED, VIP, VIP_BACKUP, VIP_EXPIRED, VIP6, VIP6_BACKUP, VLAN,
        VLAN_CLIENT, VLAN_CLIENT_MAC, VLAN_FAR, VLAN_INNER,
    },
};

/// Priority 5, eligible to be dropped.
const PRIORITY: Tag = Tag(u32::from_ne_bytes([0, 0, 0xb0, 0]));
const URGENT: Tag = VLAN.with_priority_of(PRIORITY);
const URGENT_INNER: Tag = VLAN_INNER.with_priority_of(PRIORITY);

/// The frame with tags, the outer one first.
fn tagged(frame: &[u8], tags: &[Tag]) -> Vec<u8> {
    let tags: Vec<u8> = tags.iter().flat_map(|tag| tag.0.to_ne_bytes()).collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

/// What becomes of the packet when it comes with tags and, if it is sent, leaves with others.
fn vlan(row: Row, came: &[Tag], left: &[Tag]) -> Row {
    let out = row.out.map(|out| tagged(&out, left));
    Row { frame: tagged(&row.frame, came), out, ..row }
}

/// It passes with the tags it came with.
fn with(row: Row, tags: &[Tag]) -> Row {
    vlan(row, tags, tags)
}

fn one(row: Row) -> Row {
    with(row, &[URGENT])
}

fn dr(packet: Packet) -> Row {
    sends("dr", packet, TX, Dr, DR_VLAN, near)
}

fn dr_far(packet: Packet) -> Row {
    sends("dr, another interface", packet, REDIRECT, Dr, DR_VLAN_FAR, far)
}

fn reply(packet: Packet) -> Row {
    let row = sends("reply", packet, REDIRECT, NatReply, NAT, answered);
    Row { counted: None, ..row }
}

/// The reply to the client in the VLAN.
fn vlan_reply() -> Row {
    let packet = answer().destination(VLAN_CLIENT);
    let row = sends("reply", packet, TX, NatReply, NAT, |packet| {
        packet.source(VIP).source_port(NAT).hop(VLAN_CLIENT_MAC, OWN_MAC)
    });
    Row { counted: None, ..row }
}

table! {
    tagged_frames_pass_as_they_came = [
        one(passes("to another address", tcp(OTHER, 80), NotOurs)),
        one(passes("no IP", ethernet(0x1234, &[0xab; 46]), NotOurs)),
        with(passes("two tags", tcp(OTHER, 80), NotOurs), &[URGENT, URGENT_INNER]),
        one(passes("no service", tcp(VIP, CLOSED), VipStack)),
        one(drops("no service, backup", tcp(VIP_BACKUP, CLOSED), VipNotOwner)),
        one(drops("lease ran out", tcp(VIP_EXPIRED, LOCAL), LeaseExpired)),
        one(drops("next hop not resolved", tcp(VIP, UNRESOLVED), NoNeighbour)),
        one(sends("local", tcp(VIP, LOCAL), PASS, Local, LOCAL, |p| p)),
        one(sends("local, IPv6", tcp(VIP6, LOCAL), PASS, Local, LOCAL, |p| p)),
        with(sends("local, two tags", tcp(VIP, LOCAL), PASS, Local, LOCAL, |p| p), &[URGENT, URGENT_INNER]),
        one(passes("from a director", tcp(VIP, LOCAL).source_mac(DIRECTOR), Delivered)),
        one(passes("for another machine", tcp(VIP, DR).destination_mac(Mac([2, 0, 0, 0, 0, 0x55])), OtherMac)),
        one(passes("ICMP", with_protocol(tcp(VIP, DR).bytes(), 1), VipStack)),
        with(sends("a priority only", tcp(VIP, LOCAL), PASS, Local, LOCAL, |p| p), &[
            Tag::new(Tag::PROTOCOL, 0).with_priority_of(PRIORITY)
        ]),
    ];

    frames_of_vlans_of_nobody_pass_as_they_came = [
        with(passes("another VLAN", tcp(VIP, DR), NotOurs), &[Tag::new(Tag::PROTOCOL, 101)]),
        with(passes("the same of a provider", tcp(VIP, DR), NotOurs), &[Tag::new(Tag::PROTOCOL_PROVIDER, 100)]),
        with(passes("that of another interface", tcp(VIP, DR), NotOurs), &[VLAN_FAR]),
        with(passes("another within", tcp(VIP, DR), NotOurs), &[VLAN, Tag::new(Tag::PROTOCOL, 8)]),
        with(passes("the inner one alone", tcp(VIP, DR), NotOurs), &[VLAN_INNER]),
        with(passes("three", tcp(VIP, DR), NotOurs), &[VLAN, VLAN_INNER, VLAN_INNER]),
        with(passes("ARP in another", arp(1, CLIENT, VIP_BACKUP), NotOurs), &[Tag::new(Tag::PROTOCOL, 101)]),
        passes("cut within the tag", truncated(tagged(&tcp(VIP, DR).bytes(), &[VLAN]), 17), NotOurs),
        passes("cut behind the tag", truncated(tagged(&tcp(VIP, DR).bytes(), &[VLAN]), 18), NotOurs),
        passes("cut within the second", truncated(tagged(&tcp(VIP, DR).bytes(), &[VLAN, VLAN_INNER]), 21), NotOurs),
    ];

    questions_in_a_vlan_are_answered_by_the_owner_only = [
        one(passes("ARP", arp(1, CLIENT, VIP), ArpOwner)),
        one(drops("ARP, backup", arp(1, CLIENT, VIP_BACKUP), ArpNotOwner)),
        one(passes("solicitation", solicitation(VIP6), ArpOwner)),
        one(drops("solicitation, backup", solicitation(VIP6_BACKUP), ArpNotOwner)),
    ];

    what_leaves_through_a_vlan_is_tagged = [
        vlan(dr(tcp(VIP, DR_VLAN)), &[], &[VLAN]),
        vlan(dr(tcp(VIP, DR_VLAN).syn()), &[], &[VLAN]),
        vlan(dr(tcp(VIP6, DR_VLAN)), &[], &[VLAN]),
        vlan(dr_far(tcp(VIP, DR_VLAN_FAR)), &[], &[VLAN_FAR]),
        vlan(dr(tcp(VIP, DR_VLAN)), &[URGENT], &[URGENT]),
        vlan(dr(tcp(VIP, DR_VLAN)), &[VLAN, URGENT_INNER], &[VLAN]),
        vlan(dr(tcp(VIP, DR_VLAN)), &[URGENT, VLAN_INNER], &[URGENT]),
        vlan(dr_far(tcp(VIP6, DR_VLAN_FAR)), &[URGENT], &[VLAN_FAR.with_priority_of(PRIORITY)]),
        vlan(sends("to no VLAN", tcp(VIP, DR), TX, Dr, DR, near), &[URGENT], &[]),
        vlan(sends("to no VLAN elsewhere", tcp(VIP, DR_FAR), REDIRECT, Dr, DR_FAR, far), &[URGENT], &[]),
        vlan(sends("nat", tcp(VIP, NAT), TX, Nat, NAT, nat), &[URGENT], &[]),
        vlan(sends("nat, UDP", udp(VIP, NAT_UDP), TX, Nat, NAT_UDP, nat), &[URGENT], &[]),
        vlan(wraps("ipip", tcp(VIP, IPIP), TX, Ipip, IPIP, in4), &[URGENT], &[]),
        vlan(wraps("ipip", tcp(VIP, IPIP_VLAN), TX, Ipip, IPIP_VLAN, in4), &[URGENT], &[URGENT]),
        vlan(wraps("ipip", tcp(VIP, IPIP_VLAN), TX, Ipip, IPIP_VLAN, in4), &[], &[VLAN]),
    ];

    replies_leave_by_the_vlan_of_the_client = [
        vlan(reply(answer()), &[URGENT], &[]),
        vlan(Row { counted: None, ..sends("UDP", udp_answer(), REDIRECT, NatReply, NAT_UDP, answered) }, &[URGENT], &[]),
        vlan(vlan_reply(), &[], &[VLAN]),
        vlan(vlan_reply(), &[URGENT], &[URGENT]),
        one(passes("an answer to this node's own probe", answer().destination(OWN_ADDRESS), NotOurs)),
    ];

    encapsulated_packets_within_a_vlan_are_delivered_in_it = [
        one(Row {
            out: Some(tcp(VIP, LOCAL).bytes()),
            ..passes(
                "4 in 4",
                within(&tcp(VIP, LOCAL), [10, 0, 0, 2].into(), OWN_ADDRESS.into(), None),
                Decapsulated
            )
        }),
    ];
}
