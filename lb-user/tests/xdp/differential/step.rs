//! What happens to a configuration: random packets, and what the control plane does between them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::{Mac, NextHop};
use proptest::{collection::vec, prelude::*, sample::select};

use super::configuration::{self, BACKENDS, PORTS, VIPS};
use crate::{
    model::LeaseModel,
    packets::{
        CLIENT, CLIENT_MAC, CLIENT6, Checksum, OWN_MAC, Packet, Protocol, arp, fix_header_checksum,
        ones_complement_sum, solicitation, tcp, with_ecn, within,
    },
    world::{
        DIRECTOR, NAT_BACKEND, NAT_BACKEND6, NAT_PORT, OTHER, OTHER6, OWN_ADDRESS, OWN_ADDRESS6,
        SILENT_CLIENT, VIP_BACKUP,
    },
};

/// One step.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Packet(Box<Sent>),
    /// A backend fails or recovers.
    Failed(u32, bool),
    /// A neighbour moves.
    NextHop(u32, NextHop),
    /// A VIP changes hands.
    Lease(u32, LeaseModel),
    /// One service becomes what another is, or goes.
    Service(prop::sample::Index, Option<prop::sample::Index>),
}

/// A frame, described.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    what: What,
    /// The transport's checksum adds up to 0.
    balanced: bool,
    damage: Damage,
}

#[derive(Clone, Debug)]
enum What {
    Packet(Packet),
    /// In an IP packet or, with a port, in a UDP datagram from that port; that header has these bits of ECN.
    Within(Packet, (IpAddr, IpAddr), Option<u16>, u8),
    /// An ICMP error in an IP packet like the first, of a type and code, that quotes so many bytes of the answer to the
    /// second.
    Error(Packet, Packet, (u8, u8), usize),
    Arp(u16, Ipv4Addr),
    Solicitation(Ipv6Addr),
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug)]
enum Damage {
    None,
    /// The frame ends earlier.
    Cut(prop::sample::Index),
    /// A byte of the headers is another.
    Byte(prop::sample::Index, u8),
    /// The IP header names another protocol, its checksum right.
    Protocol(u8),
    /// The IP header's length is so many bytes more or less, its checksum right.
    Length(i16),
}

impl Sent {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut frame = match &self.what {
            What::Packet(packet) if self.balanced => balanced(packet.clone()).bytes(),
            What::Packet(packet) => packet.bytes(),
            What::Error(outer, about, kind, length) => error(outer, about, *kind, *length),
            What::Within(inner, (source, destination), port, ecn) => {
                with_ecn(within(inner, *source, *destination, *port), *ecn)
            }
            What::Arp(opcode, target) => arp(*opcode, CLIENT, *target),
            What::Solicitation(target) => solicitation(*target),
            What::Bytes(bytes) => bytes.clone(),
        };
        let is_v4 = frame[12..14] == [8, 0] && frame.len() >= 34;
        let is_v6 = frame[12..14] == [0x86, 0xdd] && frame.len() >= 54;
        match self.damage {
            // The kernel takes no frame shorter than an Ethernet header.
            Damage::Cut(length) => frame.truncate(14 + length.index(frame.len() - 13)),
            Damage::Byte(at, value) => {
                let at = at.index(frame.len().min(110));
                frame[at] = value;
            }
            Damage::Protocol(number) if is_v4 => frame[23] = number,
            Damage::Protocol(number) if is_v6 => frame[20] = number,
            Damage::Length(more) if is_v4 || is_v6 => {
                let at = if is_v4 { 16 } else { 18 };
                let length = i16::from_be_bytes([frame[at], frame[at + 1]]).wrapping_add(more);
                frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
            }
            Damage::None | Damage::Protocol(_) | Damage::Length(_) => {}
        }
        if is_v4 && matches!(self.damage, Damage::Protocol(_) | Damage::Length(_)) {
            fix_header_checksum(&mut frame);
        }
        frame
    }
}

/// The packet with a payload that makes its checksum 0, which UDP does not send.
fn balanced(mut packet: Packet) -> Packet {
    packet.padding = 0;
    let length = packet.payload.len() & !1;
    packet.payload.truncate(length);
    if length > 0 {
        packet.payload[length - 2..].fill(0);
        let bytes = packet.clone().checksum(Checksum::Whole).bytes();
        let field = bytes.len() - length - if packet.protocol == Protocol::Udp { 2 } else { 4 };
        packet.payload[length - 2..].copy_from_slice(&bytes[field..field + 2]);
    }
    packet
}

/// An ICMP error about the answer to `about`.
fn error(outer: &Packet, about: &Packet, (kind, code): (u8, u8), length: usize) -> Vec<u8> {
    let answer = Packet {
        source: about.destination,
        destination: about.source,
        source_port: about.destination_port,
        destination_port: about.source_port,
        ..about.clone()
    };
    let mut quote = answer.bytes().split_off(14);
    quote.truncate(length);
    let is_v4 = answer.source.is_ipv4();
    let other_family = outer.source.is_ipv4() != is_v4;
    let router: IpAddr = if is_v4 { CLIENT.into() } else { CLIENT6.into() };
    let outer = Packet {
        source: if other_family { router } else { outer.source },
        destination: answer.source,
        protocol: Protocol::Udp,
        options: if is_v4 { outer.options.clone() } else { Vec::new() },
        extensions: Vec::new(),
        payload: quote,
        ..outer.clone()
    };
    let mut frame = outer.bytes();
    let start = frame.len() - outer.padding - outer.payload.len() - 8;
    frame[start..start + 8].copy_from_slice(&[kind, code, 0, 0, 0, 0, 5, 120]);
    let end = frame.len() - outer.padding;
    let mut words = frame[start..end].to_vec();
    words.resize(words.len().next_multiple_of(2), 0);
    if is_v4 {
        frame[23] = 1;
        fix_header_checksum(&mut frame);
    } else {
        frame[20] = 58;
        words.extend(&frame[22..54]);
        words.extend(((end - start) as u16).to_be_bytes());
        words.extend([0, 58]);
    }
    // The UDP packet's field says whether the checksum is right.
    if outer.checksum == Checksum::Whole {
        let sum = ones_complement_sum(words.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])));
        frame[start + 2..start + 4].copy_from_slice(&(!sum).to_be_bytes());
    }
    frame
}

/// A step.
pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => sent().prop_map(|sent| Step::Packet(Box::new(sent))),
        1 => (1..=BACKENDS, proptest::bool::ANY).prop_map(|(id, failed)| Step::Failed(id, failed)),
        1 => (1..=BACKENDS, configuration::next_hop()).prop_map(|(id, hop)| Step::NextHop(id, hop)),
        1 => (1_u32..=3, configuration::lease()).prop_map(|(lease, state)| Step::Lease(lease, state)),
        1 => (any::<prop::sample::Index>(), proptest::option::of(any::<prop::sample::Index>()))
            .prop_map(|(which, becomes)| Step::Service(which, becomes)),
    ]
}

fn sent() -> BoxedStrategy<Sent> {
    let outer = prop_oneof![
        4 => Just((IpAddr::from(CLIENT), IpAddr::from(OWN_ADDRESS))),
        4 => Just((CLIENT6.into(), OWN_ADDRESS6.into())),
        1 => Just((CLIENT.into(), SILENT_CLIENT.into())),
        1 => Just((CLIENT.into(), VIPS[0])),
        1 => Just((CLIENT6.into(), OTHER6.into())),
        1 => Just((CLIENT6.into(), VIPS[3])),
    ];
    let targets4 = vec![VIPS[0], VIPS[1], VIPS[2], OTHER.into()];
    let targets6 = vec![VIPS[3], VIPS[4], VIPS[5], OTHER6.into()];
    let what = prop_oneof![
        40 => packet().prop_map(What::Packet),
        6 => (packet(), packet(), error_kind(), 20_usize..200)
            .prop_map(|(outer, about, kind, length)| What::Error(outer, about, kind, length)),
        6 => (packet(), outer, proptest::option::of(any::<u16>()), 0_u8..4)
            .prop_map(|(inner, outer, port, ecn)| What::Within(inner, outer, port, ecn)),
        1 => (1_u16..4, select(targets4)).prop_map(|(opcode, target)| {
            What::Arp(opcode, if let IpAddr::V4(target) = target { target } else { VIP_BACKUP })
        }),
        1 => select(targets6).prop_map(|target| {
            What::Solicitation(if let IpAddr::V6(target) = target { target } else { OTHER6 })
        }),
        1 => vec(any::<u8>(), 14..200).prop_map(What::Bytes),
    ];
    let damage = prop_oneof![
        14 => Just(Damage::None),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        3 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, value)| Damage::Byte(at, value)),
        1 => select(vec![0_u8, 1, 4, 6, 17, 41, 43, 44, 47, 58, 59, 60, 112]).prop_map(Damage::Protocol),
        1 => prop_oneof![-40_i16..40, any::<i16>()].prop_map(Damage::Length),
    ];
    (what, proptest::bool::weighted(0.1), damage)
        .prop_map(|(what, balanced, damage)| Sent { what, balanced, damage })
        .boxed()
}

/// Types and codes of ICMP errors of both families, and of other messages.
fn error_kind() -> impl Strategy<Value = (u8, u8)> {
    let kind =
        prop_oneof![8 => select(vec![1_u8, 2, 3, 4, 11, 12]), 1 => select(vec![0_u8, 5, 8, 128, 129, 135])];
    (kind, 0_u8..5)
}

/// The two ends' addresses and the sender's port, if it is a certain one.
fn ends() -> impl Strategy<Value = (IpAddr, IpAddr, Option<u16>)> {
    let vip = || select(VIPS.to_vec());
    // Few clients, so that some come again and are remembered.
    let few = vip().prop_flat_map(|vip| {
        (0_u8..4, 0_u16..3)
            .prop_map(move |(client, port)| (nth_client(vip, client), vip, Some(40_000 + port)))
    });
    let many = (vip(), any::<[u8; 4]>()).prop_map(|(vip, octets)| match vip {
        IpAddr::V4(_) => (Ipv4Addr::from(octets).into(), vip, None),
        IpAddr::V6(_) => {
            let [a, b, c, d] = octets.map(u16::from);
            (Ipv6Addr::new(0x2001, a, b, 0, c, 0, 0, d).into(), vip, None)
        }
    });
    let to4 = select(vec![
        CLIENT,
        OWN_ADDRESS,
        SILENT_CLIENT,
        OTHER,
        [203, 0, 113, 1].into(),
        [10, 0, 0, 255].into(),
    ]);
    let replies4 = to4.prop_map(|to| (NAT_BACKEND.into(), to.into(), Some(NAT_PORT)));
    let to6 = select(vec![CLIENT6, OWN_ADDRESS6, OTHER6, Ipv6Addr::new(0x2001, 0xdb8, 9, 9, 0, 0, 0, 9)]);
    let replies6 = to6.prop_map(|to| (NAT_BACKEND6.into(), to.into(), Some(NAT_PORT)));
    let foreign = select(vec![(IpAddr::from(CLIENT), IpAddr::from(OTHER)), (CLIENT6.into(), OTHER6.into())])
        .prop_map(|(from, to)| (from, to, None));
    prop_oneof![8 => few, 6 => many, 2 => replies4, 2 => replies6, 1 => foreign]
}

fn nth_client(vip: IpAddr, number: u8) -> IpAddr {
    match vip {
        IpAddr::V4(_) => Ipv4Addr::new(100, 64, 0, number).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number.into()).into(),
    }
}

/// A packet; boxed, as proptest keeps several of them on the stack.
fn packet() -> BoxedStrategy<Packet> {
    let protocol = prop_oneof![
        3 => (any::<bool>(), any::<bool>()).prop_map(|(syn, ack)| Protocol::Tcp { syn, ack }),
        2 => Just(Protocol::Udp),
    ];
    let checksum = prop_oneof![
        4 => Just(Checksum::Whole),
        3 => Just(Checksum::Partial),
        1 => Just(Checksum::Is(0)),
        1 => any::<u16>().prop_map(Checksum::Is),
    ];
    let port = prop_oneof![8 => select(PORTS.to_vec()), 3 => 0x4fff_u16..0x5802, 1 => any::<u16>()];
    let payload = prop_oneof![
        6 => 0_usize..80, 1 => 480_usize..560, 1 => 1_300_usize..1_480, 1 => 1_480_usize..2_200
    ];
    let ttl = prop_oneof![8 => Just(64_u8), 1 => any::<u8>(), 1 => 0_u8..3];
    let fragment = prop_oneof![8 => Just((false, 0_u16)), 1 => (any::<bool>(), 0_u16..0x1fff)];
    let macs = select(vec![CLIENT_MAC, CLIENT_MAC, CLIENT_MAC, DIRECTOR]);
    let to_mac = prop_oneof![
        20 => Just(OWN_MAC), 1 => Just(Mac([2, 0, 0, 0, 0, 0x77])), 1 => Just(Mac([0xff; 6]))
    ];
    let padding = prop_oneof![4 => Just(0_usize), 1 => 0_usize..60];
    let traffic_class = prop_oneof![2 => Just(0_u8), 1 => any::<u8>()];
    // Most packets have no options.
    let option_words = prop_oneof![6 => Just(0_usize), 1 => 1_usize..=10];
    (
        (ends(), any::<u16>(), port, protocol, checksum),
        (payload, option_words, extensions()),
        (ttl, fragment, (macs, to_mac), padding, traffic_class),
    )
        .prop_map(
            |(
                ((source, destination, fixed_port), source_port, port, protocol, checksum),
                (payload, option_words, extensions),
                (ttl, (more_fragments, fragment_offset), (source_mac, destination_mac), padding, tos),
            )| {
                Packet {
                    source_mac,
                    destination_mac,
                    source,
                    source_port: fixed_port.unwrap_or(source_port),
                    protocol,
                    checksum,
                    ttl,
                    tos,
                    more_fragments,
                    fragment_offset,
                    padding,
                    options: vec![1; 4 * option_words],
                    extensions: if destination.is_ipv6() { extensions } else { Vec::new() },
                    ..tcp(destination, port)
                }
                .payload(payload)
            },
        )
        .boxed()
}

/// IPv6 extension headers, the first byte of each still to be set.
fn extensions() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let options = (select(vec![0_u8, 43, 60]), 1_u8..4).prop_map(|(number, words)| {
        let mut bytes = vec![0; usize::from(words) * 8];
        bytes[1] = words - 1;
        (number, bytes)
    });
    // An atomic one, or one of several.
    let fragment = prop_oneof![2 => Just(0_u16), 1 => any::<u16>()].prop_map(|offset_and_more| {
        let [high, low] = offset_and_more.to_be_bytes();
        (44_u8, vec![0, 0, high, low, 1, 2, 3, 4])
    });
    let other = Just((135_u8, vec![0; 8]));
    let one = prop_oneof![12 => options, 4 => fragment, 1 => other];
    prop_oneof![6 => Just(Vec::new()), 2 => vec(one.clone(), 1..3), 1 => vec(one, 3..8)]
}
