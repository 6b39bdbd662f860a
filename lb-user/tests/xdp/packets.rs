//! Frames, described by what differs from the usual.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, TcpHeader, UdpHeader,
};
use lb_common::Mac;

/// The client that sends unless another is named.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
/// The client's MAC address.
pub(crate) const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);
/// The MAC address packets come to.
pub(crate) const OWN_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xa1]);

/// The client of IPv6.
pub(crate) const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);

/// A TCP or UDP packet over IP over Ethernet.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) destination_mac: Mac,
    pub(crate) source_mac: Mac,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    /// IPv4 options; a multiple of 4 bytes.
    pub(crate) options: Vec<u8>,
    /// IPv6 extension headers: number and bytes, the first of which is set to what follows.
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
    pub(crate) payload: Vec<u8>,
    pub(crate) checksum: Checksum,
    /// Bytes after the end of the IPv4 packet.
    pub(crate) padding: usize,
    pub(crate) more_fragments: bool,
    /// In units of 8 bytes.
    pub(crate) fragment_offset: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp { syn: bool, ack: bool },
    Udp,
}

/// What stands in the checksum field of the transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// The checksum.
    Whole,
    /// The folded sum of the pseudo header.
    Partial,
    /// This value, as a number in network order.
    Is(u16),
}

/// An established TCP connection's packet from the client.
pub(crate) fn tcp(destination: impl Into<IpAddr>, port: u16) -> Packet {
    let destination = destination.into();
    Packet {
        destination_mac: OWN_MAC,
        source_mac: CLIENT_MAC,
        source: if destination.is_ipv4() { CLIENT.into() } else { CLIENT6.into() },
        destination,
        source_port: 40_000,
        destination_port: port,
        protocol: Protocol::Tcp { syn: false, ack: true },
        ttl: 64,
        tos: 0,
        options: Vec::new(),
        extensions: Vec::new(),
        payload: b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        checksum: Checksum::Whole,
        padding: 0,
        more_fragments: false,
        fragment_offset: 0,
    }
}

/// A UDP datagram from the client.
pub(crate) fn udp(destination: impl Into<IpAddr>, port: u16) -> Packet {
    Packet { protocol: Protocol::Udp, payload: b"question".to_vec(), ..tcp(destination, port) }
}

macro_rules! setters {
    ($($name:ident: $kind:ty),+ $(,)?) => {
        impl Packet {
            $(pub(crate) fn $name(mut self, value: $kind) -> Self { self.$name = value; self })+
        }
    };
}

setters! {
    source_mac: Mac, destination_mac: Mac, source_port: u16, tos: u8,
    destination_port: u16, protocol: Protocol, ttl: u8, options: Vec<u8>, checksum: Checksum, padding: usize,
    more_fragments: bool, fragment_offset: u16,
}

impl Packet {
    pub(crate) fn source(mut self, address: impl Into<IpAddr>) -> Self {
        self.source = address.into();
        self
    }

    pub(crate) fn destination(mut self, address: impl Into<IpAddr>) -> Self {
        self.destination = address.into();
        self
    }

    /// Adds an IPv6 extension header of `words` times 8 bytes.
    pub(crate) fn extension(mut self, number: u8, words: u8) -> Self {
        let mut bytes = vec![0; usize::from(words) * 8];
        bytes[1] = words - 1;
        self.extensions.push((number, bytes));
        self
    }

    /// Opens a connection.
    pub(crate) fn syn(self) -> Self {
        self.protocol(Protocol::Tcp { syn: true, ack: false })
    }

    /// Sets the length of the payload; its bytes differ.
    pub(crate) fn payload(mut self, length: usize) -> Self {
        self.payload = (0..length).map(|n| (n * 7 + n / 256) as u8).collect();
        self
    }

    /// Forwarded: other Ethernet addresses and one hop fewer to make.
    pub(crate) fn hop(self, destination: Mac, source: Mac) -> Self {
        let ttl = self.ttl - 1;
        self.destination_mac(destination).source_mac(source).ttl(ttl)
    }

    /// The length of the IPv4 packet with its Ethernet header.
    pub(crate) fn unpadded_length(&self) -> usize {
        self.bytes().len() - self.padding
    }

    /// The frame.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (self.source, self.destination) else {
            return self.bytes6();
        };
        let mut ip = self.ip_header(source, destination);
        ip.header_checksum = ip.calc_header_checksum();
        let mut frame = Vec::new();
        Ethernet2Header {
            source: self.source_mac.0,
            destination: self.destination_mac.0,
            ether_type: EtherType::IPV4,
        }
        .write(&mut frame)
        .expect("a Vec takes everything");
        ip.write_raw(&mut frame).expect("a Vec takes everything");
        match self.protocol {
            Protocol::Tcp { syn, ack } => {
                let mut tcp = TcpHeader::new(self.source_port, self.destination_port, 0x0102_0304, 512);
                (tcp.syn, tcp.ack, tcp.psh) = (syn, ack, !syn);
                tcp.checksum = self.field(&ip, |ip| tcp.calc_checksum_ipv4(ip, &self.payload));
                tcp.write(&mut frame).expect("a Vec takes everything");
            }
            Protocol::Udp => {
                let mut udp = UdpHeader {
                    source_port: self.source_port,
                    destination_port: self.destination_port,
                    length: (8 + self.payload.len()) as u16,
                    checksum: 0,
                };
                udp.checksum = self.field(&ip, |ip| udp.calc_checksum_ipv4(ip, &self.payload));
                udp.write(&mut frame).expect("a Vec takes everything");
            }
        }
        frame.extend(&self.payload);
        frame.extend(std::iter::repeat_n(0xee, self.padding));
        frame
    }

    fn bytes6(&self) -> Vec<u8> {
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (self.source, self.destination) else {
            panic!("two families in one packet");
        };
        let (number, mut upper) = match self.protocol {
            Protocol::Tcp { syn, ack } => {
                let mut tcp = TcpHeader::new(self.source_port, self.destination_port, 0x0102_0304, 512);
                (tcp.syn, tcp.ack, tcp.psh) = (syn, ack, !syn);
                (6, tcp.to_bytes().to_vec())
            }
            Protocol::Udp => {
                let length = (8 + self.payload.len()) as u16;
                let udp = UdpHeader {
                    source_port: self.source_port,
                    destination_port: self.destination_port,
                    length,
                    checksum: 0,
                };
                (17, udp.to_bytes().to_vec())
            }
        };
        upper.extend(&self.payload);
        let mut pseudo = [source.octets(), destination.octets()].concat();
        pseudo.extend((upper.len() as u16).to_be_bytes());
        pseudo.extend([0, number]);
        let sum = |parts: &[&[u8]]| {
            ones_complement_sum(parts.iter().flat_map(|part| {
                part.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
            }))
        };
        let checksum = match self.checksum {
            Checksum::Is(value) => value,
            Checksum::Partial => sum(&[&pseudo]),
            Checksum::Whole => match !sum(&[&pseudo, &upper]) {
                0 if number == 17 => 0xffff,
                checksum => checksum,
            },
        };
        let field = if number == 6 { 16 } else { 6 };
        upper[field..field + 2].copy_from_slice(&checksum.to_be_bytes());

        let mut payload = Vec::new();
        let numbers: Vec<u8> =
            self.extensions.iter().map(|(number, _)| *number).chain(std::iter::once(number)).collect();
        for ((_, bytes), next) in self.extensions.iter().zip(&numbers[1..]) {
            payload.push(*next);
            payload.extend(&bytes[1..]);
        }
        payload.extend(upper);

        let mut frame = [self.destination_mac.0, self.source_mac.0].concat();
        frame.extend([0x86, 0xdd]);
        frame.extend((0x6000_0000_u32 | u32::from(self.tos) << 20 | 0x54321).to_be_bytes());
        frame.extend((payload.len() as u16).to_be_bytes());
        frame.extend([numbers[0], self.ttl]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        frame.extend(payload);
        frame.extend(std::iter::repeat_n(0xee, self.padding));
        frame
    }

    fn ip_header(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Ipv4Header {
        let (number, header) = match self.protocol {
            Protocol::Tcp { .. } => (IpNumber::TCP, 20),
            Protocol::Udp => (IpNumber::UDP, 8),
        };
        let mut options = Ipv4Options::new();
        if !self.options.is_empty() {
            options = self.options.as_slice().try_into().expect("a multiple of 4 bytes, at most 40");
        }
        let mut ip = Ipv4Header::new(
            (header + self.payload.len()) as u16,
            self.ttl,
            number,
            source.octets(),
            destination.octets(),
        )
        .expect("the payload fits");
        ip.options = options;
        ip.total_len = (20 + self.options.len() + header + self.payload.len()) as u16;
        ip.ecn = (self.tos & 3).try_into().expect("two bits");
        ip.dscp = (self.tos >> 2).try_into().expect("six bits");
        ip.dont_fragment = !self.more_fragments && self.fragment_offset == 0;
        ip.more_fragments = self.more_fragments;
        ip.fragment_offset = IpFragOffset::try_new(self.fragment_offset).expect("13 bits");
        ip
    }

    fn field<E: std::fmt::Debug>(
        &self,
        ip: &Ipv4Header,
        whole: impl FnOnce(&Ipv4Header) -> Result<u16, E>,
    ) -> u16 {
        match self.checksum {
            Checksum::Whole => whole(ip).expect("the payload fits"),
            Checksum::Is(value) => value,
            Checksum::Partial => {
                let length = ip.total_len - 20 - self.options.len() as u16;
                let words = [
                    u16::from_be_bytes([ip.source[0], ip.source[1]]),
                    u16::from_be_bytes([ip.source[2], ip.source[3]]),
                    u16::from_be_bytes([ip.destination[0], ip.destination[1]]),
                    u16::from_be_bytes([ip.destination[2], ip.destination[3]]),
                    u16::from(ip.protocol.0),
                    length,
                ];
                ones_complement_sum(words)
            }
        }
    }
}

/// The one's complement sum of 16-bit words (RFC 1071), in host order, the slow and plain way.
pub(crate) fn ones_complement_sum(words: impl IntoIterator<Item = u16>) -> u16 {
    words.into_iter().fold(0, |sum: u16, word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

/// The frame whose checksum at `field` is `wanted`, of those that `build` makes with any word that the checksum covers. One
/// word's value makes any sum, and need not be searched for.
pub(crate) fn with_checksum(build: impl Fn([u8; 2]) -> Vec<u8>, field: usize, wanted: u16) -> [u8; 2] {
    let checksum = |word| {
        let frame = build(word);
        u16::from_be_bytes([frame[field], frame[field + 1]])
    };
    let word = ones_complement_sum([!wanted, checksum([0; 2])]).to_be_bytes();
    assert_eq!(checksum(word), wanted);
    word
}

/// A neighbour solicitation for an address, sent to its solicited-node group.
pub(crate) fn solicitation(target: Ipv6Addr) -> Vec<u8> {
    let mut frame = vec![0x33, 0x33, 0xff, 0, 0, 4];
    frame.extend(CLIENT_MAC.0);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
    frame.extend(CLIENT6.octets());
    frame.extend(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 4).octets());
    frame.extend([135, 0, 0x12, 0x34, 0, 0, 0, 0]);
    frame.extend(target.octets());
    frame.extend([1, 1]);
    frame.extend(CLIENT_MAC.0);
    frame
}

/// A packet within another: Ethernet, the outer IP header without its checksum (IPv4) and, for GUE, a UDP header with that
/// source port.
pub(crate) fn within(inner: &Packet, source: IpAddr, destination: IpAddr, port: Option<u16>) -> Vec<u8> {
    within_bytes(&inner.bytes(), inner.padding, source, destination, port)
}

/// The same of a frame of IPv4 or IPv6 with so much padding.
pub(crate) fn within_bytes(
    bytes: &[u8],
    padding: usize,
    source: IpAddr,
    destination: IpAddr,
    port: Option<u16>,
) -> Vec<u8> {
    let is_v4 = bytes[14] >> 4 == 4;
    let tos = if is_v4 { bytes[15] } else { bytes[14] << 4 | bytes[15] >> 4 };
    let length = (bytes.len() - padding - 14) as u16 + if port.is_some() { 8 } else { 0 };
    let protocol = match (port, is_v4) {
        (Some(_), _) => 17,
        (None, true) => 4,
        (None, false) => 41,
    };
    let mut frame = bytes[..12].to_vec();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([8, 0, 0x45, tos]);
            frame.extend((length + 20).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
            fix_header_checksum(&mut frame);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend([0x86, 0xdd]);
            frame.extend((0x6000_0000_u32 | u32::from(tos) << 20).to_be_bytes());
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        _ => panic!("two families in one packet"),
    }
    if let Some(port) = port {
        frame.extend(port.to_be_bytes());
        frame.extend(6_080_u16.to_be_bytes());
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0]);
    }
    frame.extend(&bytes[14..]);
    frame
}

/// An ARP packet for IPv4 over Ethernet.
pub(crate) fn arp(opcode: u16, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(0x0806, &[]);
    frame[..6].fill(0xff);
    for word in [1_u16, 0x0800, 0x0604, opcode] {
        frame.extend(word.to_be_bytes());
    }
    frame.extend(CLIENT_MAC.0);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    // Ethernet's shortest frame without its checksum.
    frame.resize(60, 0);
    frame
}

/// An Ethernet frame of any type.
pub(crate) fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(OWN_MAC.0);
    frame.extend(CLIENT_MAC.0);
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The same frame with the IPv4 protocol replaced, its header's checksum right.
pub(crate) fn with_protocol(mut frame: Vec<u8>, protocol: u8) -> Vec<u8> {
    frame[23] = protocol;
    fix_header_checksum(&mut frame);
    frame
}

/// The same frame with the IPv4 total length replaced, its header's checksum right.
pub(crate) fn with_total_length(mut frame: Vec<u8>, length: u16) -> Vec<u8> {
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    fix_header_checksum(&mut frame);
    frame
}

/// The same frame with the first byte of the IPv4 header (version, header length) replaced.
pub(crate) fn with_version(mut frame: Vec<u8>, version_and_length: u8) -> Vec<u8> {
    frame[14] = version_and_length;
    frame
}

/// The same frame with other bits of ECN in its (outer) IP header, its checksum right.
pub(crate) fn with_ecn(mut frame: Vec<u8>, ecn: u8) -> Vec<u8> {
    if frame[14] >> 4 == 4 {
        frame[15] = frame[15] & !3 | ecn;
        fix_header_checksum(&mut frame);
    } else {
        frame[15] = frame[15] & 0xcf | ecn << 4;
    }
    frame
}

/// The first `length` bytes of a frame.
pub(crate) fn truncated(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.truncate(length);
    frame
}

pub(crate) fn fix_header_checksum(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let words = frame[14..34].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let checksum = !ones_complement_sum(words);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}
