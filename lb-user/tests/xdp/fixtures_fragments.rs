//! Packets in pieces: each piece in → what the same piece of the forwarded packet is.

use std::net::IpAddr;

use lb::dataplane::Program::{Generic, Native};
use lb_common::{
    Mac,
    Verdict::{self, *},
    limits,
};

use crate::{
    fixtures::{Row, answer, answer6, answered, check, far, gue_port, nat, nat6, near, run, udp_answer},
    namespace::isolated,
    packets::{Checksum, Packet, Protocol, fix_header_checksum, tcp, udp, with_protocol, within_bytes},
    world::{
        CLOSED, DIRECTOR, DR, DR_FAR, DR_UDP, DROP, EMPTY, GUE, IPIP, IPIP6, LOCAL, NARROW, NAT, NAT_UDP,
        OTHER, OTHER6, OWN_ADDRESS, OWN_ADDRESS6, PASS, RANGE, REDIRECT, SILENT_CLIENT, TUNNEL, TUNNEL6, TX,
        UNRESOLVED, VIP, VIP_BACKUP, VIP_EXPIRED, VIP6, VIP6_EXPIRED, World, backend_of, backend_of6,
        build_network,
    },
};

/// Where the packets of the tables are cut, in bytes of the IP payload.
const CUTS: [usize; 2] = [1_432, 2_864];

/// The pieces of a frame's packet.
fn cut(frame: &[u8], id: u16, cuts: &[usize]) -> Vec<Vec<u8>> {
    let is_v4 = frame[12..14] == [8, 0];
    let header = if is_v4 { usize::from(frame[14] & 15) * 4 } else { 40 };
    let payload = &frame[14 + header..];
    let ends: Vec<usize> =
        cuts.iter().copied().filter(|at| *at < payload.len()).chain([payload.len()]).collect();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts
        .zip(&ends)
        .map(|(from, &to)| {
            let more = to < payload.len();
            piece(frame, header, id, (from, more), &payload[from..to])
        })
        .collect()
}

/// A piece with any bytes: it begins at `place.0`, and `place.1` says that it is not the last.
fn piece(frame: &[u8], header: usize, id: u16, place: (usize, bool), payload: &[u8]) -> Vec<u8> {
    let (from, more) = place;
    let mut piece = frame[..14 + header].to_vec();
    if frame[12..14] == [8, 0] {
        let field = u16::from(more) << 13 | (from / 8) as u16;
        piece[16..18].copy_from_slice(&((header + payload.len()) as u16).to_be_bytes());
        piece[18..20].copy_from_slice(&id.to_be_bytes());
        piece[20..22].copy_from_slice(&field.to_be_bytes());
        fix_header_checksum(&mut piece);
    } else {
        piece[18..20].copy_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
        let next = std::mem::replace(&mut piece[20], 44);
        piece.extend([next, 0]);
        piece.extend((from as u16 | u16::from(more)).to_be_bytes());
        piece.extend([0xbe, 0xef]);
        piece.extend(id.to_be_bytes());
    }
    piece.extend(payload);
    piece
}

/// What becomes of the pieces of a packet; `out` says what a piece of `change`d looks like when it leaves.
struct Steps {
    what: &'static str,
    packet: Packet,
    action: u32,
    verdict: Verdict,
    /// The service's port.
    counted: Option<u16>,
    out: Vec<Vec<u8>>,
}

/// All pieces meet the same fate.
fn all(what: &'static str, packet: Packet, action: u32, verdict: Verdict) -> Steps {
    let packet = packet.payload(4_000);
    Steps { what, out: cut(&packet.bytes(), 0, &CUTS), packet, action, verdict, counted: None }
}

/// They are sent on, as pieces of what `change` makes of the packet.
fn sent(
    what: &'static str,
    packet: Packet,
    action: u32,
    verdict: Verdict,
    port: u16,
    change: impl Fn(Packet) -> Packet,
) -> Steps {
    let steps = all(what, packet, action, verdict);
    let out = cut(&change(steps.packet.clone()).bytes(), 0, &CUTS);
    Steps { out, counted: Some(port), ..steps }
}

/// They are sent on within others.
fn wrapped(
    what: &'static str,
    packet: Packet,
    (action, verdict): (u32, Verdict),
    port: u16,
    change: fn(Packet) -> Packet,
    (ends, gue): ((IpAddr, IpAddr), bool),
) -> Steps {
    let source_port = gue.then(|| gue_port(&packet));
    let steps = sent(what, packet, action, verdict, port, change);
    let out = steps.out.iter().map(|piece| within_bytes(piece, 0, ends.0, ends.1, source_port)).collect();
    Steps { out, ..steps }
}

fn reply(what: &'static str, packet: Packet, change: fn(Packet) -> Packet) -> Steps {
    Steps { counted: None, ..sent(what, packet, REDIRECT, NatReply, NAT, change) }
}

fn answered6(packet: Packet) -> Packet {
    packet.source(VIP6).source_port(NAT).hop(Mac([2, 0, 0, 0, 0, 9]), crate::world::FAR_MAC)
}

impl Steps {
    /// Its rows; no two packets have the same identification.
    fn rows(self, id: u16) -> Vec<Row> {
        let v4 = self.packet.destination.is_ipv4();
        let opens = self.packet.protocol == Protocol::Tcp { syn: true, ack: false };
        cut(&self.packet.bytes(), id, &CUTS)
            .into_iter()
            .zip(self.out)
            .enumerate()
            .map(|(number, (frame, mut out))| {
                set_id(&mut out, id);
                let backend = |port| if v4 { backend_of(port) } else { backend_of6(port) };
                let counted = self.counted.map(|port| (backend(port), frame.len(), opens && number == 0));
                let (what, action, verdict) = (self.what, self.action, self.verdict);
                Row { what, frame, action, verdict, out: Some(out), counted }
            })
            .collect()
    }
}

/// Gives the piece, or the one within the packet, an identification.
fn set_id(frame: &mut [u8], id: u16) {
    // Those of the tables were cut with 0 in its place, and the outer packet has it 0 and may not be cut.
    let at = (14..60).find(|&at| {
        let is_piece4 = frame[at] >> 4 == 4 && frame[at + 6] & 0x40 == 0 && frame[at + 6..at + 8] != [0, 0];
        let is_piece6 = frame[at] >> 4 == 6 && frame[at + 6] == 44;
        (at == 14 || at == 34 || at == 42 || at == 54) && (is_piece4 || is_piece6)
    });
    let at = at.expect("a piece");
    if frame[at] >> 4 == 4 {
        frame[at + 4..at + 6].copy_from_slice(&id.to_be_bytes());
        let mut inner = vec![0; 14];
        inner.extend(&frame[at..]);
        fix_header_checksum(&mut inner);
        frame[at..].copy_from_slice(&inner[14..]);
    } else {
        frame[at + 46..at + 48].copy_from_slice(&id.to_be_bytes());
    }
}

/// Declares a test of both programs.
macro_rules! pieces {
    ($($name:ident = [$($steps:expr),+ $(,)?];)+) => {$(
        #[test]
        #[ignore = "needs root and BPF: cargo xtask test"]
        fn $name() {
            for program in [Native, Generic] {
                // Each meets a world where no piece has come before.
                run(program, [$($steps),+].into_iter().zip(1..).flat_map(|(steps, id)| steps.rows(id)));
            }
        }
    )+};
}

pieces! {
    pieces_go_where_the_first_one_does = [
        sent("dr", udp(VIP, DR_UDP), TX, Dr, DR_UDP, near),
        sent("dr, SYN", tcp(VIP, DR).syn(), TX, Dr, DR, near),
        sent("dr, another interface", tcp(VIP, DR_FAR), REDIRECT, Dr, DR_FAR, far),
        sent("dr, backup", tcp(VIP_BACKUP, DR), TX, Dr, DR, near),
        sent("dr, options", udp(VIP, DR_UDP).options(vec![1; 8]), TX, Dr, DR_UDP, near),
        sent("dr, a checksum that looks partial", udp(VIP, DR_UDP).checksum(Checksum::Partial), TX, Dr, DR_UDP, near),
        sent("dr, IPv6", udp(VIP6, DR_UDP), TX, Dr, DR_UDP, near),
        sent("nat", udp(VIP, NAT_UDP), TX, Nat, NAT_UDP, nat),
        sent("nat, TCP", tcp(VIP, NAT), TX, Nat, NAT, nat),
        sent("nat, no checksum", udp(VIP, NAT_UDP).checksum(Checksum::Is(0)), TX, Nat, NAT_UDP, nat),
        sent("nat, IPv6", udp(VIP6, NAT_UDP), TX, Nat, NAT_UDP, nat6),
        sent("nat, a range", tcp(VIP, RANGE + 3), TX, Nat, NAT, nat),
        sent("local", tcp(VIP, LOCAL), PASS, Local, LOCAL, |p| p),
        sent("local, IPv6", tcp(VIP6, LOCAL), PASS, Local, LOCAL, |p| p),
        wrapped("ipip", tcp(VIP, IPIP), (TX, Ipip), IPIP, near, (TUNNEL, false)),
        wrapped("ipip, 4 in 6", tcp(VIP, IPIP6), (REDIRECT, Ipip), IPIP6, far, (TUNNEL6, false)),
        wrapped("ipip, 6 in 4", tcp(VIP6, IPIP), (TX, Ipip), IPIP, near, (TUNNEL, false)),
        wrapped("gue", tcp(VIP, GUE), (TX, Gue), GUE, near, (TUNNEL, true)),
        wrapped("gue, 6 in 4", tcp(VIP6, GUE), (TX, Gue), GUE, near, (TUNNEL, true)),
    ];

    pieces_that_cannot_be_steered_share_their_fate = [
        all("from a director", tcp(VIP, LOCAL).source_mac(DIRECTOR), PASS, Delivered),
        all("from a director, IPv6", tcp(VIP6, LOCAL).source_mac(DIRECTOR), PASS, Delivered),
        all("no service", tcp(VIP, CLOSED), PASS, Fragment),
        all("no service, backup", tcp(VIP_BACKUP, CLOSED), PASS, Fragment),
        all("no service, IPv6", tcp(VIP6, CLOSED), PASS, Fragment),
        all("lease ran out", udp(VIP_EXPIRED, DR_UDP), DROP, LeaseExpired),
        all("lease ran out, IPv6", udp(VIP6_EXPIRED, DR_UDP), DROP, LeaseExpired),
        all("TTL 1", tcp(VIP, DR).ttl(1), DROP, TtlExpired),
        all("for another machine", tcp(VIP, DR).destination_mac(Mac([2, 0, 0, 0, 0, 0x55])), PASS, OtherMac),
        all("not for a VIP", udp(OTHER, DR_UDP), PASS, NotOurs),
        all("not for a VIP, IPv6", udp(OTHER6, DR_UDP), PASS, NotOurs),
    ];

    replies_in_pieces_come_from_the_vip = [
        reply("TCP", answer(), answered),
        reply("UDP", udp_answer(), answered),
        reply("no checksum", udp_answer().checksum(Checksum::Is(0)), answered),
        reply("IPv6", answer6(), answered6),
        all("to this node", udp_answer().destination(OWN_ADDRESS), PASS, NotOurs),
        all("to this node, IPv6", answer6().destination(OWN_ADDRESS6), PASS, NotOurs),
        all("another port", answer().source_port(22), PASS, NotOurs),
    ];
}

fn row(what: &'static str, frame: Vec<u8>, action: u32, verdict: Verdict) -> Row {
    Row { what, frame, action, verdict, out: None, counted: None }
}

/// A piece of `length` bytes of the packet, at `place`.
fn made(packet: Packet, id: u16, place: (usize, bool), length: usize) -> Vec<u8> {
    let frame = packet.payload(4_000).bytes();
    let header = if frame[12..14] == [8, 0] { 20 } else { 40 };
    let payload = frame[14 + header..][..length].to_vec();
    piece(&frame, header, id, place, &payload)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn first_piece_decides_what_becomes_of_later_ones() {
    for program in [Native, Generic] {
        let pieces = cut(&udp(VIP, DR_UDP).payload(4_000).bytes(), 1, &CUTS);
        let [first, middle, last] = pieces.try_into().expect("three pieces");
        let out = |frame: &[u8]| {
            let mut out = frame.to_vec();
            out[..6].copy_from_slice(&crate::world::NEAR.0);
            out[6..12].copy_from_slice(&crate::world::NEAR_MAC.0);
            out[22] -= 1;
            fix_header_checksum(&mut out);
            Some(out)
        };
        let dr = |what, frame: &Vec<u8>| Row {
            out: out(frame),
            counted: Some((backend_of(DR_UDP), frame.len(), false)),
            ..row(what, frame.clone(), TX, Dr)
        };
        run(program, {
            [
                row("before the first", middle.clone(), PASS, FragmentUnknown),
                dr("the first", &first),
                dr("out of order", &last),
                dr("the middle", &middle),
                dr("the first once more", &first),
                row("another packet", made(udp(VIP, DR_UDP), 2, (1_480, true), 1_480), PASS, FragmentUnknown),
                row(
                    "another sender",
                    made(udp(VIP, DR_UDP).source([10, 0, 0, 8]), 1, (1_480, true), 1_480),
                    PASS,
                    FragmentUnknown,
                ),
                row("another protocol", with_protocol(middle.clone(), 6), PASS, FragmentUnknown),
                row(
                    "another VIP",
                    made(udp(VIP_BACKUP, DR_UDP), 1, (1_480, true), 1_480),
                    PASS,
                    FragmentUnknown,
                ),
                row("lease ran out", made(udp(VIP_EXPIRED, DR_UDP), 1, (1_480, true), 8), DROP, LeaseExpired),
                row("IPv6", made(udp(VIP6, DR_UDP), 9, (1_480, true), 1_480), PASS, FragmentUnknown),
                row("a reply nobody knows", made(udp_answer(), 9, (1_480, true), 1_480), PASS, NotOurs),
                row("no backend", made(tcp(VIP, EMPTY), 10, (0, true), 1_480), DROP, NoBackend),
                row(
                    "and its later ones",
                    made(tcp(VIP, EMPTY), 10, (1_480, true), 1_480),
                    PASS,
                    FragmentUnknown,
                ),
                row("no neighbour", made(tcp(VIP, UNRESOLVED), 11, (0, true), 1_480), DROP, NoNeighbour),
                row(
                    "no way to the client",
                    made(answer().destination(SILENT_CLIENT), 12, (0, true), 1_480),
                    DROP,
                    NoRoute,
                ),
                row("too big", made(tcp(VIP, NARROW), 13, (0, true), 1_400), DROP, TooBigDropped),
                row("no ports", with_protocol(made(tcp(VIP, DR), 14, (0, true), 800), 1), PASS, Fragment),
                row(
                    "and its later ones",
                    with_protocol(made(tcp(VIP, DR), 14, (800, false), 80), 1),
                    PASS,
                    Fragment,
                ),
            ]
        });
    }
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn malformed_pieces_to_a_vip_are_dropped() {
    for program in [Native, Generic] {
        let drop = |what, frame| row(what, frame, DROP, Malformed);
        run(program, {
            [
                drop("TCP cut within its header", made(tcp(VIP, DR), 1, (0, true), 16)),
                drop("UDP cut within its header", made(udp(VIP, DR_UDP), 2, (0, true), 0)),
                drop("TCP of IPv6 cut within its header", made(tcp(VIP6, DR), 3, (0, true), 16)),
                drop("over the flags of TCP", made(tcp(VIP, DR), 4, (8, true), 80)),
                drop("over the flags of TCP of IPv6", made(tcp(VIP6, DR), 5, (8, true), 80)),
                drop("not the last and not of 8 bytes", made(udp(VIP, DR_UDP), 6, (0, true), 1_481)),
                drop("the same later", made(udp(VIP, DR_UDP), 7, (1_480, true), 81)),
                drop("beyond the longest packet", made(udp(VIP, DR_UDP), 8, (65_528, false), 8)),
                drop("beyond it, IPv6", made(udp(VIP6, DR_UDP), 9, (65_528, false), 8)),
                drop("nothing", made(udp(VIP, DR_UDP), 10, (1_480, false), 0)),
                row(
                    "up to the longest packet",
                    made(udp(VIP, DR_UDP), 11, (65_528, false), 7),
                    PASS,
                    FragmentUnknown,
                ),
                row(
                    "UDP goes on behind its header",
                    made(udp(VIP, DR_UDP), 12, (8, true), 80),
                    PASS,
                    FragmentUnknown,
                ),
                row("not for a VIP", made(tcp(OTHER, DR), 13, (0, true), 16), PASS, NotOurs),
                row("a reply", made(udp_answer(), 14, (0, true), 1_481), PASS, NotOurs),
            ]
        });
    }
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn pieces_that_a_director_encapsulated_are_delivered() {
    let outer = ([10, 0, 0, 2].into(), OWN_ADDRESS.into());
    for program in [Native, Generic] {
        let rows = || {
            [tcp(VIP, LOCAL), tcp(VIP6, LOCAL)].into_iter().zip(1..).flat_map(|(packet, id)| {
                let pieces = cut(&packet.payload(4_000).bytes(), id, &CUTS);
                pieces.into_iter().flat_map(|piece| {
                    [None, Some(50_000)].map(|port| Row {
                        out: Some(piece.clone()),
                        ..row(
                            "encapsulated",
                            within_bytes(&piece, 0, outer.0, outer.1, port),
                            PASS,
                            Decapsulated,
                        )
                    })
                })
            })
        };
        run(program, rows().collect::<Vec<_>>());
        let foreign = made(tcp(OTHER, LOCAL), 3, (0, true), 80);
        run(program, {
            [row("for nobody", within_bytes(&foreign, 0, outer.0, outer.1, None), PASS, NotOurs)]
        });
    }
}

/// However many first pieces come, as many as there is room for are remembered.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn flood_of_first_pieces_costs_bounded_memory() {
    isolated(|| {
        build_network();
        let mut world = World::load();
        let from = |client: u16| {
            let [high, low] = client.to_be_bytes();
            udp(VIP, DR_UDP).source([100, 64, high, low])
        };
        let frame = made(from(0), 1, (0, true), 8);
        for client in 0..3 * limits::FRAGMENTS as u16 {
            let mut frame = frame.clone();
            frame[28..30].copy_from_slice(&client.to_be_bytes());
            world.dataplane.test_run(Native, &frame).expect("the kernel runs the program");
        }
        let later = made(from(0), 1, (8, false), 80);
        check(&mut world, Native, [row("the first of the flood", later, PASS, FragmentUnknown)]);
        check(&mut world, Native, sent("after it", udp(VIP, DR_UDP), TX, Dr, DR_UDP, near).rows(1));
    });
}
