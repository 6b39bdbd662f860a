//! Packets that nobody sends on purpose, or nobody honest: impossible senders, headers that lie, marks of congestion,
//! questions in somebody else's name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb::dataplane::{
    Dataplane as _,
    Program::{Generic, Native},
};
use lb_common::{Mac, Verdict::*};

use crate::{
    fixtures::{
        Row, check, drops, in4, nat, nat6, near, passes, replies, run, sends, table, udp_answer, wraps,
    },
    namespace::isolated,
    packets::{
        CLIENT, Checksum, OWN_MAC, Packet, arp, ethernet, fix_header_checksum, ones_complement_sum,
        solicitation, tcp, udp, with_checksum, with_ecn, with_protocol, within, within_bytes,
    },
    world::{
        CLOSED, DIRECTOR, DR, DR_UDP, IPIP, LOCAL, NAT, NAT_BACKEND, NAT_BACKEND6, NAT_UDP, OTHER, OTHER6,
        OWN_ADDRESS, OWN_ADDRESS6, PASS, TX, VIP, VIP_BACKUP, VIP_EXPIRED, VIP6, VIP6_BACKUP, VIP6_EXPIRED,
        World, build_network,
    },
};

/// Where the header behind an IP header without options or extension headers begins.
const UPPER4: usize = 14 + 20;
const UPPER6: usize = 14 + 40;
/// Of TCP's header: its length, and its flags.
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 5);
const EVERYBODY: Mac = Mac([0xff; 6]);

/// The ends of what a director sent to this node, or somebody else.
const OUTER: (IpAddr, IpAddr) = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), IpAddr::V4(OWN_ADDRESS));
const OUTER6: (IpAddr, IpAddr) =
    (IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)), IpAddr::V6(OWN_ADDRESS6));

/// The frame with other bytes: where and what.
fn with(mut frame: Vec<u8>, bytes: &[(usize, u8)]) -> Vec<u8> {
    for (at, value) in bytes {
        frame[*at] = *value;
    }
    frame
}

/// The row of a packet with other bytes, which nobody rewrites.
fn patched(row: Row, bytes: &[(usize, u8)]) -> Row {
    Row { frame: with(row.frame, bytes), out: row.out.map(|out| with(out, bytes)), ..row }
}

/// The same of the IPv4 header, with its checksum right.
fn patched4(row: Row, bytes: &[(usize, u8)]) -> Row {
    let fixed = |mut frame: Vec<u8>| {
        fix_header_checksum(&mut frame);
        frame
    };
    let row = patched(row, bytes);
    Row { frame: fixed(row.frame), out: row.out.map(fixed), ..row }
}

fn dr(what: &'static str, packet: Packet) -> Row {
    sends(what, packet, TX, Dr, DR, near)
}

/// Its IPv4 header's checksum is wrong by 1, and stays so.
fn with_wrong_header_checksum(row: Row) -> Row {
    let wrong = |mut frame: Vec<u8>| {
        let checksum = u16::from_be_bytes([frame[24], frame[25]]);
        frame[24..26].copy_from_slice(&ones_complement_sum([checksum, 1]).to_be_bytes());
        frame
    };
    Row { frame: wrong(row.frame), out: row.out.map(wrong), ..row }
}

/// What came with one mark of congestion outside and another inside, and the one it is delivered with.
#[expect(clippy::needless_pass_by_value, reason = "rows build their packets in place")]
fn delivers_mark(packet: Packet, outer: (IpAddr, IpAddr), port: Option<u16>, ecn: (u8, u8), left: u8) -> Row {
    let tos = |ecn| packet.clone().tos(0xb8 | ecn);
    let frame = with_ecn(within(&tos(ecn.1), outer.0, outer.1, port), ecn.0);
    let out = Some(tos(left).bytes());
    Row { what: "marks", frame, action: PASS, verdict: Decapsulated, out, counted: None }
}

#[expect(clippy::needless_pass_by_value, reason = "rows build their packets in place")]
fn drops_mark(packet: Packet, outer: (IpAddr, IpAddr), port: Option<u16>) -> Row {
    drops("a mark nobody within understands", with_ecn(within(&packet, outer.0, outer.1, port), 3), Malformed)
}

/// The solicitation of somebody who asks whether anybody has the address already (RFC 4862 section 5.4.2).
fn duplicate_address_detection(target: Ipv6Addr) -> Vec<u8> {
    let mut frame = solicitation(target);
    frame[22..38].fill(0);
    // Without the option that names the sender's MAC address.
    frame.truncate(78);
    frame[19] = 24;
    frame
}

/// An unsolicited advertisement by somebody who says that the address is his.
fn advertisement(target: Ipv6Addr) -> Vec<u8> {
    let mut frame = solicitation(target);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame[38..54].copy_from_slice(&Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets());
    frame[54] = 136;
    frame[58] = 0x20;
    frame[78] = 2;
    frame
}

table! {
    /// A balancer is no filter: the backend's stack knows better what to do with them.
    impossible_senders_are_steered_as_anybody = [
        dr("the VIP and the port themselves", tcp(VIP, DR).source(VIP).source_port(DR)),
        dr("another VIP", tcp(VIP, DR).source(VIP_BACKUP)),
        dr("this node", tcp(VIP, DR).source(OWN_ADDRESS)),
        dr("the backend", tcp(VIP, DR).source(NAT_BACKEND)),
        dr("nobody", tcp(VIP, DR).source([0; 4])),
        dr("everybody", tcp(VIP, DR).source([255; 4])),
        dr("a group", tcp(VIP, DR).source(GROUP)),
        dr("the loopback", tcp(VIP, DR).source(LOOPBACK)),
        dr("port 0", tcp(VIP, DR).source_port(0)),
        dr("the VIP itself, 6", tcp(VIP6, DR).source(VIP6).source_port(DR)),
        dr("nobody, 6", tcp(VIP6, DR).source([0_u16; 8])),
        dr("a group, 6", tcp(VIP6, DR).source(GROUP6)),
        dr("the loopback, 6", tcp(VIP6, DR).source(Ipv6Addr::LOCALHOST)),
        dr("a group's MAC address", tcp(VIP, DR).source_mac(EVERYBODY)),
        dr("this node's MAC address", tcp(VIP, DR).source_mac(OWN_MAC)),
        sends("the VIP itself, nat", tcp(VIP, NAT).source(VIP).source_port(NAT), TX, Nat, NAT, nat),
        sends("the backend, nat", tcp(VIP, NAT).source(NAT_BACKEND), TX, Nat, NAT, nat),
        sends("the backend, nat, 6", tcp(VIP6, NAT).source(NAT_BACKEND6), TX, Nat, NAT, nat6),
        wraps("the VIP itself, ipip", tcp(VIP, IPIP).source(VIP).source_port(IPIP), TX, Ipip, IPIP, in4),
        sends("the VIP itself, local", tcp(VIP, LOCAL).source(VIP), PASS, Local, LOCAL, |p| p),
    ];

    ports_at_their_ends = [
        sends("UDP port 0 of every port", udp(VIP, 0), TX, Dr, DR, near),
        sends("UDP port 0 of every port, 6", udp(VIP6, 0), TX, Dr, DR, near),
        passes("TCP port 0", tcp(VIP, 0), VipStack),
        drops("TCP port 0, backup", tcp(VIP_BACKUP, 0), VipNotOwner),
    ];

    /// What TCP says beyond its ports is between the ends.
    tcp_headers_that_lie_are_steered_by_their_ports = [
        patched(dr("no header at all", tcp(VIP, DR)), &[(UPPER4 + DATA_OFFSET, 0)]),
        patched(dr("a header of 4 words", tcp(VIP, DR)), &[(UPPER4 + DATA_OFFSET, 0x40)]),
        patched(dr("a header longer than the packet", tcp(VIP, DR).payload(3)), &[(UPPER4 + DATA_OFFSET, 0xf0)]),
        patched(dr("no flags", tcp(VIP, DR)), &[(UPPER4 + FLAGS, 0)]),
        patched(dr("all flags", tcp(VIP, DR)), &[(UPPER4 + FLAGS, 0xff)]),
        patched(dr("RST", tcp(VIP, DR)), &[(UPPER4 + FLAGS, 0x04)]),
        patched(dr("FIN", tcp(VIP, DR)), &[(UPPER4 + FLAGS, 0x11)]),
        patched(dr("SYN and FIN, which open", tcp(VIP, DR).syn()), &[(UPPER4 + FLAGS, 0x03)]),
        patched(dr("no header at all, 6", tcp(VIP6, DR)), &[(UPPER6 + DATA_OFFSET, 0)]),
        patched(sends("no header at all, nat", tcp(VIP, NAT).checksum(Checksum::Is(0x1111)), TX, Nat, NAT, |p| {
            let sum = ones_complement_sum_of_ends(&tcp(VIP, NAT), &nat(tcp(VIP, NAT)), 0x1111);
            nat(p).checksum(Checksum::Is(sum))
        }), &[(UPPER4 + DATA_OFFSET, 0)]),
    ];

    /// The IP packet's length is what counts; of UDP's the receiver makes what it likes (RFC 9868 hides options behind it).
    udp_lengths_that_lie_are_steered_by_their_ports = [
        patched(sends("shorter", udp(VIP, DR_UDP), TX, Dr, DR_UDP, near), &[(UPPER4 + 5, 9)]),
        patched(sends("longer", udp(VIP, DR_UDP), TX, Dr, DR_UDP, near), &[(UPPER4 + 4, 1)]),
        patched(sends("0", udp(VIP, DR_UDP), TX, Dr, DR_UDP, near), &[(UPPER4 + 5, 0)]),
        patched(sends("0, 6", udp(VIP6, DR_UDP), TX, Dr, DR_UDP, near), &[(UPPER6 + 5, 0)]),
    ];

    ip_headers_of_every_kind = [
        patched4(dr("may be cut in pieces", tcp(VIP, DR)), &[(20, 0)]),
        patched4(dr("the reserved flag (RFC 3514)", tcp(VIP, DR)), &[(20, 0x80)]),
        patched4(dr("an identification", tcp(VIP, DR)), &[(18, 0xbe), (19, 0xef)]),
        with_wrong_header_checksum(dr("a wrong checksum stays wrong", tcp(VIP, DR))),
        with_wrong_header_checksum(sends("nat, a wrong checksum", tcp(VIP, NAT), TX, Nat, NAT, nat)),
        with_wrong_header_checksum(sends("local, a wrong checksum", tcp(VIP, LOCAL), PASS, Local, LOCAL, |p| p)),
        with_wrong_header_checksum(passes("a wrong checksum, not for a VIP", tcp(OTHER, 80), NotOurs)),
        patched(dr("a flow label", tcp(VIP6, DR)), &[(15, 0x0f), (16, 0xff), (17, 0xff)]),
        passes("no next header, 6", tcp(VIP6, DR).extension(59, 1), VipStack),
        passes("AH", with_protocol(tcp(VIP, DR).bytes(), 51), VipStack),
        passes("ESP", with_protocol(tcp(VIP, DR).bytes(), 50), VipStack),
        passes("AH, 6", tcp(VIP6, DR).extension(51, 2), VipStack),
        drops("ESP, 6, backup", tcp(VIP6_BACKUP, DR).extension(50, 2), VipNotOwner),
        passes("fragmented ICMP", with_protocol(tcp(VIP, DR).payload(20).more_fragments(true).bytes(), 1), Fragment),
    ];

    /// RFC 2675. Linux itself makes such packets only where `gso_max_size` or `gro_max_size` is raised beyond 65,536
    /// ("BIG TCP"), which generic mode does not go with.
    jumbograms_to_a_vip_are_dropped_and_others_left_alone = [
        drops("no length", with(tcp(VIP6, DR).bytes(), &[(18, 0), (19, 0)]), Malformed),
        drops("no length, UDP", with(udp(VIP6, DR_UDP).bytes(), &[(18, 0), (19, 0)]), Malformed),
        drops(
            "no length, and the jumbo option",
            with(tcp(VIP6, DR).extension(0, 1).bytes(), &[(18, 0), (19, 0), (56, 0xc2), (57, 4), (59, 1)]), Malformed
        ),
        drops("no length, IPv4", with(tcp(VIP, DR).bytes(), &[(16, 0), (17, 0)]), Malformed),
        passes("no length, not for a VIP", with(tcp(OTHER6, 80).bytes(), &[(18, 0), (19, 0)]), NotOurs),
        passes(
            "the jumbo option, not for a VIP",
            with(tcp(OTHER6, 80).extension(0, 1).bytes(), &[(18, 0), (19, 0), (56, 0xc2), (57, 4), (59, 1)]), NotOurs
        ),
    ];

    /// RFC 6040: what a router between director and backend noticed must reach the backend.
    marks_of_congestion_outlive_the_tunnel = [
        delivers_mark(tcp(VIP, LOCAL), OUTER, None, (3, 1), 3),
        delivers_mark(tcp(VIP, LOCAL), OUTER, None, (3, 2), 3),
        delivers_mark(tcp(VIP, LOCAL), OUTER, None, (3, 3), 3),
        delivers_mark(tcp(VIP, LOCAL), OUTER, None, (2, 3), 3),
        delivers_mark(tcp(VIP, LOCAL), OUTER, None, (0, 2), 2),
        delivers_mark(tcp(VIP, LOCAL), OUTER, None, (2, 0), 0),
        delivers_mark(tcp(VIP, LOCAL), OUTER, Some(50_000), (3, 2), 3),
        delivers_mark(tcp(VIP, LOCAL), OUTER6, None, (3, 2), 3),
        delivers_mark(tcp(VIP6, LOCAL), OUTER, None, (3, 2), 3),
        delivers_mark(tcp(VIP6, LOCAL), OUTER6, Some(50_000), (3, 1), 3),
        delivers_mark(tcp(VIP6, LOCAL), OUTER6, None, (1, 2), 2),
        delivers_mark(tcp(VIP, LOCAL).options(vec![1; 40]), OUTER, None, (3, 2), 3),
        drops_mark(tcp(VIP, LOCAL), OUTER, None),
        drops_mark(tcp(VIP6, LOCAL), OUTER6, Some(50_000)),
        passes("no local backend", with_ecn(within(&tcp(VIP, DR), OUTER.0, OUTER.1, None), 3), NotOurs),
    ];

    what_else_comes_in_packets_is_the_stacks = [
        passes(
            "a packet in a packet in a packet",
            within_bytes(&within(&tcp(VIP, LOCAL), OUTER.0, OUTER.1, None), 0, OUTER.0, OUTER.1, None), NotOurs
        ),
        passes("a piece of one", piece_of(within(&tcp(VIP, LOCAL), OUTER.0, OUTER.1, None)), NotOurs),
        passes(
            "GUE with a header of its own",
            with(within(&tcp(VIP, LOCAL), OUTER.0, OUTER.1, Some(50_000)), &[(42, 0)]), NotOurs
        ),
        passes("for the VIP", within(&tcp(VIP, LOCAL), OUTER.0, VIP.into(), None), VipStack),
        drops("for the VIP, backup", within(&tcp(VIP, LOCAL), OUTER.0, VIP_BACKUP.into(), None), VipNotOwner),
        passes("for no service", within(&tcp(VIP, CLOSED), OUTER.0, OUTER.1, None), NotOurs),
    ];

    /// A tunnel's own header may say what it likes but whom it is for.
    encapsulated_packets_are_delivered_whatever_is_around_them = [
        around("the last hop", |frame| with(frame, &[(22, 1)])),
        around("options", |frame| {
            let mut long = frame[..34].to_vec();
            long[14] = 0x47;
            let length = u16::from_be_bytes([frame[16], frame[17]]) + 8;
            long[16..18].copy_from_slice(&length.to_be_bytes());
            long.extend([1; 8]);
            long.extend(&frame[34..]);
            long
        }),
        around("from a director's MAC address", |frame| {
            let mut frame = frame;
            frame[6..12].copy_from_slice(&DIRECTOR.0);
            frame
        }),
    ];

    questions_in_other_words = [
        passes("a probe (RFC 5227) for a VIP of ours", arp(1, [0; 4].into(), VIP), ArpOwner),
        drops("a probe where the lease ran out", arp(1, [0; 4].into(), VIP_EXPIRED), ArpLeaseExpired),
        passes("somebody's announcement of our VIP, as a request", arp(1, VIP, VIP), ArpOwner),
        passes("the same as a reply", arp(2, VIP, VIP), NotOurs),
        passes("RARP", with(arp(3, VIP_BACKUP, VIP_BACKUP), &[(12, 0x80), (13, 0x35)]), NotOurs),
        passes("a RARP request as ARP", arp(3, CLIENT, VIP_BACKUP), NotOurs),
        passes("inverse ARP", arp(8, CLIENT, VIP_BACKUP), NotOurs),
        passes("another hardware", with(arp(1, CLIENT, VIP_BACKUP), &[(15, 6)]), NotOurs),
        passes("another protocol", with(arp(1, CLIENT, VIP_BACKUP), &[(16, 0x86), (17, 0xdd)]), NotOurs),
        passes("longer addresses", with(arp(1, CLIENT, VIP_BACKUP), &[(18, 8)]), NotOurs),
        passes("whether anybody has it, 6", duplicate_address_detection(VIP6), ArpOwner),
        drops("the same, backup", duplicate_address_detection(VIP6_BACKUP), ArpNotOwner),
        drops("the same, lease ran out", duplicate_address_detection(VIP6_EXPIRED), ArpLeaseExpired),
        passes("the same, another address", duplicate_address_detection(OTHER6), NotOurs),
        passes("somebody's advertisement of our VIP", advertisement(VIP6), NotOurs),
        passes("the owner's advertisement", advertisement(VIP6_BACKUP), NotOurs),
        passes("LLDP", ethernet(0x88cc, &[2; 46]), NotOurs),
        passes("PPPoE", ethernet(0x8864, &[0x11; 60]), NotOurs),
        passes("MPLS", ethernet(0x8847, &[0x45; 60]), NotOurs),
    ];
}

/// What a director sent, with another header around it.
fn around(what: &'static str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Row {
    let packet = tcp(VIP, LOCAL);
    let frame = change(within(&packet, OUTER.0, OUTER.1, None));
    let mut out = packet.bytes();
    // The MAC addresses stay.
    out[..12].copy_from_slice(&frame[..12]);
    Row { what, frame, action: PASS, verdict: Decapsulated, out: Some(out), counted: None }
}

/// The first of several pieces of what is in the frame.
fn piece_of(mut frame: Vec<u8>) -> Vec<u8> {
    frame[20] = 0x20;
    fix_header_checksum(&mut frame);
    frame
}

/// What a wrong checksum becomes when a packet gets other ends.
fn ones_complement_sum_of_ends(came: &Packet, left: &Packet, checksum: u16) -> u16 {
    let field = |packet: &Packet| {
        let bytes = packet.bytes();
        u16::from_be_bytes([bytes[UPPER4 + 16], bytes[UPPER4 + 17]])
    };
    ones_complement_sum([checksum, !field(came), field(left)])
}

/// A datagram whose own length leaves out its last `more` bytes, with a right checksum (RFC 9868).
fn with_surplus(packet: &Packet, more: usize) -> Vec<u8> {
    let mut frame = packet.bytes();
    let length = (frame.len() - UPPER4 - more) as u16;
    frame[UPPER4 + 4..UPPER4 + 6].copy_from_slice(&length.to_be_bytes());
    frame[UPPER4 + 6..UPPER4 + 8].fill(0);
    let covered =
        [&frame[26..34], &[0, 17], &length.to_be_bytes(), &frame[UPPER4..frame.len() - more]].concat();
    let checksum = match !sum(&covered) {
        0 => 0xffff,
        checksum => checksum,
    };
    frame[UPPER4 + 6..UPPER4 + 8].copy_from_slice(&checksum.to_be_bytes());
    frame
}

fn sum(bytes: &[u8]) -> u16 {
    ones_complement_sum(
        bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])),
    )
}

/// One of them in 65,536 has a checksum that equals the sum of the pseudo header that its IP header speaks of.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn finished_checksum_of_less_than_the_packet_that_looks_partial_stays_right() {
    let coincidence = |packet: Packet| {
        let of = |word: [u8; 2]| Packet { payload: [&word[..], &[7; 8]].concat(), ..packet.clone() };
        let frame = with_surplus(&of([0; 2]), 8);
        let length = (frame.len() - UPPER4) as u16;
        let pseudo_header = sum(&[&frame[26..34], &[0, 17], &length.to_be_bytes()].concat());
        of(with_checksum(|word| with_surplus(&of(word), 8), UPPER4 + 6, pseudo_header))
    };
    let row = |row: Row, came: &Packet, left: &Packet| Row {
        frame: with_surplus(came, 8),
        out: Some(with_surplus(left, 8)),
        ..row
    };
    let (dr, to_nat) = (coincidence(udp(VIP, DR_UDP)), coincidence(udp(VIP, NAT_UDP)));
    for program in [Native, Generic] {
        run(
            program,
            [
                row(sends("dr", dr.clone(), TX, Dr, DR_UDP, near), &dr, &near(dr.clone())),
                row(sends("nat", to_nat.clone(), TX, Nat, NAT_UDP, nat), &to_nat, &nat(to_nat.clone())),
            ],
        );
    }
}

/// UDP has no checksum 0, whoever computes it and whichever way the datagram goes.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn udp_checksum_that_comes_out_as_0_is_sent_as_ffff() {
    let all_ones = |change: &dyn Fn(Packet) -> Packet, packet: Packet, field: usize| {
        let of = |word: [u8; 2]| Packet { payload: word.to_vec(), ..packet.clone() };
        of(with_checksum(|word| change(of(word)).bytes(), field, 0xffff))
    };
    let (field4, field6) = (UPPER4 + 6, UPPER6 + 6);
    let reply = all_ones(&|packet| packet.source(VIP).source_port(NAT_UDP), udp_answer(), field4);
    let nat_6 = all_ones(&nat6, udp(VIP6, NAT_UDP), field6);
    for program in [Native, Generic] {
        run(
            program,
            [replies("reply", reply.clone()), sends("nat, 6", nat_6.clone(), TX, Nat, NAT_UDP, nat6)],
        );
    }
    let partial = |packet: Packet| packet.checksum(Checksum::Partial);
    let whole = |packet: Packet| packet.checksum(Checksum::Whole);
    let finished = all_ones(&near, udp(VIP, DR_UDP), field4);
    let nat_finished = all_ones(&nat, udp(VIP, NAT_UDP), field4);
    run(
        Native,
        [
            sends("finished", partial(finished), TX, Dr, DR_UDP, |p| near(whole(p))),
            sends("finished, nat", partial(nat_finished), TX, Nat, NAT_UDP, |p| nat(whole(p))),
        ],
    );
}

/// A packet that spares its sender the filters on the way (BCP 38) must not come from anybody.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn encapsulated_packets_of_strangers_pass_untouched() {
    let from = |outer: (IpAddr, IpAddr), port| within(&tcp(VIP, LOCAL), outer.0, outer.1, port);
    let stranger = (IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2)), IpAddr::V4(OWN_ADDRESS));
    let stranger6 = (IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, 2)), IpAddr::V6(OWN_ADDRESS6));
    isolated(|| {
        build_network();
        let mut world = World::load();
        let everybody = ["0.0.0.0/0", "::/0"];
        for network in everybody {
            world.dataplane.delete_tunnel_source(network.parse().expect("a network")).expect("it is there");
        }
        let refuses = |what, frame: Vec<u8>| passes(what, frame, TunnelStranger);
        for program in [Native, Generic] {
            check(&mut world, program, [refuses("nobody may", from(OUTER, None))]);
        }
        for network in ["10.0.0.0/24", "2001:db8::2/128"] {
            world
                .dataplane
                .put_tunnel_source(network.parse().expect("a network"))
                .expect("put_tunnel_source");
        }
        for program in [Native, Generic] {
            let rows = [
                delivers_from("a director", OUTER, None),
                delivers_from("a director, gue", OUTER, Some(50_000)),
                delivers_from("a director, 6", OUTER6, None),
                delivers_from("a director, gue, 6", OUTER6, Some(50_000)),
                refuses("a stranger", from(stranger, None)),
                refuses("a stranger, gue", from(stranger, Some(50_000))),
                refuses("a stranger, 6", from(stranger6, None)),
                refuses("a stranger, gue, 6", from(stranger6, Some(50_000))),
                passes(
                    "a stranger to nobody here",
                    within(&tcp(OTHER, 80), stranger.0, stranger.1, None),
                    NotOurs,
                ),
                passes(
                    "a stranger, no local backend",
                    within(&tcp(VIP, DR), stranger.0, stranger.1, None),
                    NotOurs,
                ),
            ];
            check(&mut world, program, rows);
        }
        // No IPv4 address is in an IPv6 network, though it is written as one.
        for network in ["10.0.0.0/24", "2001:db8::2/128"] {
            world.dataplane.delete_tunnel_source(network.parse().expect("a network")).expect("it is there");
        }
        world.dataplane.put_tunnel_source("::/0".parse().expect("a network")).expect("put_tunnel_source");
        let rows = [delivers_from("6", OUTER6, None), refuses("4", from(OUTER, None))];
        check(&mut world, Native, rows);
    });
}

fn delivers_from(what: &'static str, outer: (IpAddr, IpAddr), port: Option<u16>) -> Row {
    let packet = tcp(VIP, LOCAL);
    let frame = within(&packet, outer.0, outer.1, port);
    Row { what, frame, action: PASS, verdict: Decapsulated, out: Some(packet.bytes()), counted: None }
}
