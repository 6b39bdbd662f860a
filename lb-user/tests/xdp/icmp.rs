//! ICMP errors, described by what differs from the usual.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::Mac;

use crate::packets::{CLIENT_MAC, OWN_MAC, Packet, ones_complement_sum};

/// An ICMP or ICMPv6 error.
#[derive(Clone, Debug)]
pub(crate) struct Error {
    pub(crate) destination_mac: Mac,
    pub(crate) source_mac: Mac,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) ttl: u8,
    /// Options of IPv4; for IPv6 a destination options header of 8 bytes if there are any.
    pub(crate) options: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// What follows the checksum: an MTU, a pointer.
    pub(crate) rest: [u8; 4],
    pub(crate) quote: Vec<u8>,
    pub(crate) padding: usize,
    /// As this program says it: network control, DF, no identification.
    pub(crate) own: bool,
}

/// A router on the way to the clients.
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// "The packet `sent` is too big", said to its sender by a router. It quotes `length` bytes of what follows the IP header.
pub(crate) fn too_big(sent: &Packet, length: usize) -> Error {
    let bytes = sent.bytes();
    let is_v4 = sent.source.is_ipv4();
    let header = if is_v4 { 20 + sent.options.len() } else { 40 };
    let header = header + sent.extensions.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    let quote = bytes[14..].iter().take(header + length).copied().collect();
    Error {
        destination_mac: OWN_MAC,
        source_mac: CLIENT_MAC,
        source: if is_v4 { ROUTER.into() } else { ROUTER6.into() },
        destination: sent.source,
        ttl: 64,
        options: Vec::new(),
        kind: if is_v4 { 3 } else { 2 },
        code: if is_v4 { 4 } else { 0 },
        rest: [0, 0, 5, 0x14],
        quote,
        padding: 0,
        own: false,
    }
}

impl Error {
    pub(crate) fn kind(self, kind: u8, code: u8) -> Self {
        Self { kind, code, ..self }
    }

    pub(crate) fn source(self, source: impl Into<IpAddr>) -> Self {
        Self { source: source.into(), ..self }
    }

    pub(crate) fn to(self, destination: impl Into<IpAddr>) -> Self {
        Self { destination: destination.into(), ..self }
    }

    pub(crate) fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    pub(crate) fn source_mac(self, source_mac: Mac) -> Self {
        Self { source_mac, ..self }
    }

    pub(crate) fn options(self) -> Self {
        Self { options: vec![1; 8], ..self }
    }

    pub(crate) fn padding(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    pub(crate) fn hop(self, destination_mac: Mac, source_mac: Mac) -> Self {
        Self { destination_mac, source_mac, ttl: self.ttl - 1, ..self }
    }

    /// The same about another packet, as much of which is quoted.
    pub(crate) fn about(self, sent: &Packet) -> Self {
        let mut quote = sent.bytes()[14..].to_vec();
        quote.truncate(self.quote.len());
        Self { quote, ..self }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut icmp = vec![self.kind, self.code, 0, 0];
        icmp.extend(self.rest);
        icmp.extend(&self.quote);
        let mut frame = [self.destination_mac.0, self.source_mac.0].concat();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let checksum = !sum(&icmp);
                icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
                let header = 20 + self.options.len();
                let mut ip = vec![0x40 | (header / 4) as u8, if self.own { 0xc0 } else { 0 }];
                ip.extend(((header + icmp.len()) as u16).to_be_bytes());
                ip.extend(if self.own { [0, 0, 0x40, 0] } else { [0x12, 0x34, 0, 0] });
                ip.extend([self.ttl, 1, 0, 0]);
                ip.extend(source.octets());
                ip.extend(destination.octets());
                ip.extend(&self.options);
                let checksum = !sum(&ip);
                ip[10..12].copy_from_slice(&checksum.to_be_bytes());
                frame.extend([8, 0]);
                frame.extend(ip);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut pseudo = [source.octets(), destination.octets()].concat();
                pseudo.extend((icmp.len() as u32).to_be_bytes());
                pseudo.extend([0, 0, 0, 58]);
                let checksum = !ones_complement_sum([sum(&pseudo), sum(&icmp)]);
                icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
                let extension: &[u8] = if self.options.is_empty() { &[] } else { &[58, 0, 1, 4, 0, 0, 0, 0] };
                frame.extend([0x86, 0xdd, if self.own { 0x6c } else { 0x60 }, 0, 0, 0]);
                frame.extend(((extension.len() + icmp.len()) as u16).to_be_bytes());
                frame.extend([if extension.is_empty() { 58 } else { 60 }, self.ttl]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                frame.extend(extension);
            }
            _ => panic!("two families in one packet"),
        }
        frame.extend(icmp);
        frame.extend(std::iter::repeat_n(0xee, self.padding));
        frame
    }
}

fn sum(bytes: &[u8]) -> u16 {
    ones_complement_sum(
        bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])),
    )
}
