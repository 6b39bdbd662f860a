//! The packets that are measured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, PacketBuilder};
use lb_common::Mac;

use super::program::{Frame, LENGTH, LONG};

/// Where frames come in.
pub(super) const OWN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);
const CLIENT: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0);
const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
const CLIENT_PORT: u16 = 40_000;
const ETHERNET: usize = 14;

/// What kind of packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A TCP segment with ACK.
    Established,
    /// A TCP segment with SYN, of a flow that was never seen.
    Syn,
    /// Established, to a service whose every slot is unsettled.
    Unsettled,
    /// A datagram.
    Udp,
    /// Host unreachable, about a segment of an established flow.
    IcmpError,
    /// The first fragment of a segment.
    Fragment,
    /// A TCP segment to nobody here.
    NotOurs,
}

/// A packet of a kind to an address and, as far as it has ports, to `services` ports from 80 on.
pub(super) fn frame(kind: Kind, to: IpAddr, services: u32) -> Frame {
    match kind {
        Kind::Established | Kind::Unsettled | Kind::NotOurs => plain(to, services, Some(false)),
        Kind::Syn => plain(to, services, Some(true)),
        Kind::Udp => plain(to, services, None),
        Kind::IcmpError => icmp_error(to),
        Kind::Fragment => fragment(to),
    }
}

/// TCP with SYN or ACK, or UDP; as long in either family.
fn plain(to: IpAddr, services: u32, syn: Option<bool>) -> Frame {
    let ethernet = PacketBuilder::ethernet2(CLIENT_MAC.0, OWN_MAC.0);
    let ip = match to {
        IpAddr::V4(to) => ethernet.ipv4(CLIENT.octets(), to.octets(), 64),
        IpAddr::V6(to) => ethernet.ipv6(CLIENT6.octets(), to.octets(), 64),
    };
    let mut bytes = Vec::with_capacity(LENGTH);
    // Invariant: a Vec takes everything, and the payload is what the headers leave of LENGTH.
    if let Some(syn) = syn {
        let builder = ip.tcp(CLIENT_PORT, 80, 1, 512);
        let builder = if syn { builder.syn() } else { builder.ack(1) };
        let payload = vec![b'x'; LENGTH - builder.size(0)];
        builder.write(&mut bytes, &payload).expect("a Vec takes everything");
    } else {
        let builder = ip.udp(CLIENT_PORT, 80);
        let payload = vec![b'x'; LENGTH - builder.size(0)];
        builder.write(&mut bytes, &payload).expect("a Vec takes everything");
    }
    Frame::Plain { packet: bytes.try_into().expect("LENGTH bytes"), services }
}

/// A TCP segment over IPv4, with SYN or ACK, as the generator of live frames takes it: with the checksums of client 0 and
/// port 0.
pub(super) fn live(mac: [u8; 6], to: Ipv4Addr, port: u16, syn: bool) -> [u8; LENGTH] {
    let builder = PacketBuilder::ethernet2(CLIENT_MAC.0, mac)
        .ipv4(CLIENT.octets(), to.octets(), 64)
        .tcp(0, port, 1, 512);
    let builder = if syn { builder.syn() } else { builder.ack(1) };
    let payload = vec![b'x'; LENGTH - builder.size(0)];
    let mut bytes = Vec::with_capacity(LENGTH);
    // Invariant: a Vec takes everything, and the payload is what the headers leave of LENGTH.
    builder.write(&mut bytes, &payload).expect("a Vec takes everything");
    bytes.try_into().expect("LENGTH bytes")
}

fn icmp_error(to: IpAddr) -> Frame {
    let mut icmp = match to {
        IpAddr::V4(_) => vec![3, 1, 0, 0, 0, 0, 0, 0],
        IpAddr::V6(_) => vec![1, 0, 0, 0, 0, 0, 0, 0],
    };
    let quoted = LONG - ETHERNET - header(to) - icmp.len();
    let client = if to.is_ipv4() { IpAddr::V4(CLIENT) } else { IpAddr::V6(CLIENT6) };
    let segment = tcp(80, CLIENT_PORT, quoted - header(to));
    icmp.extend(ip(to, client, IpNumber::TCP, &segment, false));
    let (router, number) = match to {
        IpAddr::V4(_) => (IpAddr::V4(ROUTER), IpNumber::ICMP),
        IpAddr::V6(_) => (IpAddr::V6(ROUTER6), IpNumber::IPV6_ICMP),
    };
    let quote_at = (ETHERNET + header(to) + 8) as u32;
    let (client_at, first_client) = match to {
        IpAddr::V4(_) => (quote_at + 16, CLIENT.to_bits()),
        IpAddr::V6(_) => (quote_at + 36, 0),
    };
    let port_at = quote_at + header(to) as u32 + 2;
    Frame::Rare { packet: ethernet(&ip(router, to, number, &icmp, false)), client_at, port_at, first_client }
}

fn fragment(to: IpAddr) -> Frame {
    match to {
        IpAddr::V4(_) => {
            // All fragments but the last have a multiple of 8 bytes.
            let segment = tcp(CLIENT_PORT, 80, 88);
            let packet = ethernet(&ip(IpAddr::V4(CLIENT), to, IpNumber::TCP, &segment, true));
            Frame::Rare { packet, client_at: 26, port_at: 34, first_client: CLIENT.to_bits() }
        }
        IpAddr::V6(_) => {
            let mut payload = vec![IpNumber::TCP.0, 0, 0, 1, 0, 0, 0x12, 0x34];
            payload.extend(tcp(CLIENT_PORT, 80, 64));
            let packet =
                ethernet(&ip(IpAddr::V6(CLIENT6), to, IpNumber::IPV6_FRAGMENTATION_HEADER, &payload, false));
            Frame::Rare { packet, client_at: 34, port_at: 62, first_client: 0 }
        }
    }
}

const fn header(family: IpAddr) -> usize {
    if family.is_ipv4() { 20 } else { 40 }
}

/// A TCP segment without a checksum; nobody looks at it.
fn tcp(source: u16, destination: u16, length: usize) -> Vec<u8> {
    let mut segment = vec![0; length];
    segment[..2].copy_from_slice(&source.to_be_bytes());
    segment[2..4].copy_from_slice(&destination.to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = 0x10;
    segment[16..18].copy_from_slice(&[0x12, 0x34]);
    segment
}

/// A packet, with "more fragments" if asked for (IPv4).
fn ip(from: IpAddr, to: IpAddr, protocol: IpNumber, payload: &[u8], more_fragments: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Invariant: payloads are much shorter than 64 KiB, and a Vec takes everything.
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = Ipv4Header::new(payload.len() as u16, 64, protocol, from.octets(), to.octets())
                .expect("it is short");
            header.identification = 0x1234;
            header.dont_fragment = false;
            header.more_fragments = more_fragments;
            header.header_checksum = header.calc_header_checksum();
            header.write(&mut bytes).expect("a Vec takes everything");
        }
        (from, to) => {
            let octets = |address| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let header = Ipv6Header {
                payload_length: payload.len() as u16,
                next_header: protocol,
                hop_limit: 64,
                source: octets(from),
                destination: octets(to),
                ..Ipv6Header::default()
            };
            header.write(&mut bytes).expect("a Vec takes everything");
        }
    }
    bytes.extend(payload);
    bytes
}

/// A frame of `LONG` bytes, padded behind the packet.
fn ethernet(packet: &[u8]) -> [u8; LONG] {
    let mut frame = [0; LONG];
    frame[..6].copy_from_slice(&OWN_MAC.0);
    frame[6..12].copy_from_slice(&CLIENT_MAC.0);
    frame[12..14].copy_from_slice(if packet[0] >> 4 == 4 { &[0x08, 0x00] } else { &[0x86, 0xdd] });
    frame[ETHERNET..ETHERNET + packet.len()].copy_from_slice(packet);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 20, 128, 4));
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 4));

    #[test]
    fn flows_differ_where_the_packet_names_the_client() {
        for (kind, to) in
            [(Kind::IcmpError, V4), (Kind::IcmpError, V6), (Kind::Fragment, V4), (Kind::Fragment, V6)]
        {
            let Frame::Rare { packet, client_at, port_at, .. } = frame(kind, to, 1) else {
                panic!("{kind:?} is rare");
            };
            let (client, port) = (client_at as usize, port_at as usize);
            let last = if to.is_ipv4() { CLIENT.octets() } else { [0; 4] };
            assert_eq!(packet[client..client + 4], last, "{kind:?} {to}");
            assert_eq!(packet[port..port + 2], CLIENT_PORT.to_be_bytes(), "{kind:?} {to}");
        }
    }

    #[test]
    fn packets_are_what_they_say() {
        let sliced = |frame: &Frame| {
            let bytes = match frame {
                Frame::Plain { packet, .. } => packet.to_vec(),
                Frame::Rare { packet, .. } => packet.to_vec(),
            };
            etherparse::PacketHeaders::from_ethernet_slice(&bytes).map(|headers| headers.transport.is_some())
        };
        for to in [V4, V6] {
            assert_eq!(sliced(&frame(Kind::Syn, to, 1)), Ok(true));
            assert_eq!(sliced(&frame(Kind::Udp, to, 1)), Ok(true));
            assert_eq!(sliced(&frame(Kind::IcmpError, to, 1)), Ok(true));
            assert_eq!(sliced(&frame(Kind::Fragment, to, 1)), Ok(false), "fragments are not looked into");
        }
    }
}
