//! The packet that is asked about, made up, and what leaves instead of it, read.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpHeaders, Ipv4Header, Ipv6Header, LinkSlice, NetSlice, PacketBuilder, SlicedPacket, TransportSlice,
    ip_number,
};
use lb_common::Mac;

use crate::{api::ExplainRequest, config::Protocol};

const TTL: u8 = 64;
const WINDOW: u16 = 64_240;

/// What an Ethernet header says.
pub(super) struct Ends {
    pub(super) source_mac: Mac,
    pub(super) destination_mac: Mac,
}

/// The frame, with right checksums and no payload.
pub(super) fn build(request: &ExplainRequest, ends: &Ends) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(ends.source_mac.0, ends.destination_mac.0);
    let ip = ip(request.source.ip(), request.destination.ip());
    let with_ip = ethernet.ip(ip);
    let (source, destination) = (request.source.port(), request.destination.port());
    let mut frame = Vec::new();
    let written = match (request.protocol, request.opening) {
        (Protocol::Tcp, true) => with_ip.tcp(source, destination, 0, WINDOW).syn().write(&mut frame, &[]),
        (Protocol::Tcp, false) => with_ip.tcp(source, destination, 0, WINDOW).ack(0).write(&mut frame, &[]),
        (Protocol::Udp, _) => with_ip.udp(source, destination).write(&mut frame, &[]),
    };
    // Invariant: headers without payload have no length that could be too long for a field, and a vector takes them.
    written.expect("headers fit a vector");
    frame
}

/// An IP header; the builder fills in lengths, protocol and checksum. The addresses are of one family, as
/// [`ExplainRequest::check`] has seen to.
fn ip(source: IpAddr, destination: IpAddr) -> IpHeaders {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4Header {
                time_to_live: TTL,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv4Header::default()
            };
            IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default())
        }
        (source, destination) => {
            let octets = |address| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            let header = Ipv6Header {
                next_header: ip_number::TCP,
                hop_limit: TTL,
                source: octets(source),
                destination: octets(destination),
                ..Ipv6Header::default()
            };
            IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default())
        }
    }
}

/// What leaves.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) destination_mac: Mac,
    /// The outermost source and destination, with ports if there are any.
    pub(super) addresses: [String; 2],
}

/// Reads a frame; `None` if it is not of IP.
pub(super) fn read(frame: &[u8]) -> Option<Seen> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link else { return None };
    let (source, destination) = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            (IpAddr::V4(header.source_addr()), IpAddr::V4(header.destination_addr()))
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (IpAddr::V6(header.source_addr()), IpAddr::V6(header.destination_addr()))
        }
        NetSlice::Arp(_) => return None,
    };
    let ports = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => Some((tcp.source_port(), tcp.destination_port())),
        Some(TransportSlice::Udp(udp)) => Some((udp.source_port(), udp.destination_port())),
        _ => None,
    };
    let addresses = match ports {
        Some((from, to)) => {
            [SocketAddr::new(source, from), SocketAddr::new(destination, to)].map(|end| end.to_string())
        }
        None => [source, destination].map(|address| address.to_string()),
    };
    Some(Seen { destination_mac: Mac(ethernet.destination()), addresses })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: Ends = Ends { source_mac: Mac([2, 0, 0, 0, 0, 9]), destination_mac: Mac([2, 0, 0, 0, 0, 1]) };

    fn request(source: &str, destination: &str, protocol: Protocol, opening: bool) -> ExplainRequest {
        ExplainRequest {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol,
            opening,
            interface: None,
        }
    }

    #[test]
    fn frame_is_the_packet_that_was_asked_about() {
        for (source, destination) in
            [("10.0.0.9:40000", "172.20.128.4:80"), ("[2001:db8::9]:40000", "[2001:db8::4]:80")]
        {
            for (protocol, opening) in [(Protocol::Tcp, true), (Protocol::Tcp, false), (Protocol::Udp, false)]
            {
                let frame = build(&request(source, destination, protocol, opening), &ENDS);
                let seen = read(&frame).expect("an IP packet");
                assert_eq!(seen.addresses, [source, destination]);
                assert_eq!(seen.destination_mac, ENDS.destination_mac);
                let packet = SlicedPacket::from_ethernet(&frame).unwrap();
                match packet.transport {
                    Some(TransportSlice::Tcp(tcp)) => {
                        assert_eq!(protocol, Protocol::Tcp);
                        assert_eq!((tcp.syn(), tcp.ack()), (opening, !opening));
                    }
                    Some(TransportSlice::Udp(_)) => assert_eq!(protocol, Protocol::Udp),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}
