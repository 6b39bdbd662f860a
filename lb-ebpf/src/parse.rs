//! What the packet is: Ethernet, IPv4 and the transport header behind it.

use lb_common::{Be16, Be32, Flow, Mac};

use crate::packet::{Header, Packet};

/// Length of an Ethernet header.
pub const ETHERNET: u32 = 14;
/// EtherType of IPv4, as it stands in the packet.
pub const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
/// EtherType of ARP, as it stands in the packet.
pub const ETHERTYPE_ARP: u16 = 0x0806_u16.to_be();
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// An Ethernet header and what it says.
#[derive(Clone, Copy)]
pub struct Ethernet(pub Header<14>);

impl Ethernet {
    /// The EtherType as it stands in the packet.
    #[inline(always)]
    pub fn kind(self) -> u16 {
        self.0.read::<u16, 12>()
    }

    /// The sender's address as a key of `DIRECTORS`.
    #[inline(always)]
    pub fn source_key(self) -> u64 {
        u64::from(self.0.read::<u32, 6>()) | u64::from(self.0.read::<u16, 10>()) << 32
    }

    /// Sets who the frame is for and who it is from.
    #[inline(always)]
    pub fn set_addresses(self, destination: Mac, source: Mac) {
        let (d, s) = (destination.0, source.0);
        self.0.write::<u32, 0>(u32::from_ne_bytes([d[0], d[1], d[2], d[3]]));
        self.0.write::<u16, 4>(u16::from_ne_bytes([d[4], d[5]]));
        self.0.write::<u32, 6>(u32::from_ne_bytes([s[0], s[1], s[2], s[3]]));
        self.0.write::<u16, 10>(u16::from_ne_bytes([s[4], s[5]]));
    }
}

/// An Ethernet and a fixed IPv4 header (RFC 791).
#[derive(Clone, Copy)]
pub struct Ipv4(pub Header<34>);

impl Ipv4 {
    /// Who sent it.
    #[inline(always)]
    pub fn source(self) -> Be32 {
        Be32(self.0.read::<u32, 26>())
    }

    /// Whom it is for.
    #[inline(always)]
    pub fn destination(self) -> Be32 {
        Be32(self.0.read::<u32, 30>())
    }

    /// The IP protocol number.
    #[inline(always)]
    pub fn protocol(self) -> u8 {
        self.0.read::<u8, 23>()
    }

    /// Header and payload in bytes; what follows in the frame is padding.
    #[inline(always)]
    pub fn total_length(self) -> u32 {
        u32::from(u16::from_be(self.0.read::<u16, 16>()))
    }

    /// Hops it may still make.
    #[inline(always)]
    pub fn ttl(self) -> u8 {
        self.0.read::<u8, 22>()
    }

    /// The type-of-service byte.
    #[inline(always)]
    pub fn tos(self) -> u8 {
        self.0.read::<u8, 15>()
    }

    /// The header with its options in bytes; 0 if it is not one of IPv4.
    #[inline(always)]
    fn header_length(self) -> u32 {
        let version_and_length = self.0.read::<u8, 14>();
        if version_and_length >> 4 != 4 || version_and_length & 0x0f < 5 {
            return 0;
        }
        u32::from(version_and_length & 0x0f) * 4
    }

    /// Whether it is a piece of a datagram: more of them follow or others were before.
    #[inline(always)]
    fn is_fragment(self) -> bool {
        const OFFSET_OR_MORE: u16 = 0x3fff_u16.to_be();
        self.0.read::<u16, 20>() & OFFSET_OR_MORE != 0
    }
}

/// What follows an IPv4 header.
#[derive(Clone, Copy)]
pub enum Payload {
    /// A whole TCP or UDP header.
    Segment(Segment),
    /// A piece of a datagram; even the first has not all of it.
    Fragment,
    /// A protocol without ports, ICMP for instance.
    Other,
    /// Lengths that contradict each other or the frame, or not version 4.
    Malformed,
}

/// A TCP or UDP header within an IPv4 packet.
#[derive(Clone, Copy)]
pub struct Segment {
    /// The IPv4 header before it.
    pub ip: Ipv4,
    /// Where it begins, in bytes from the start of the frame.
    pub offset: u32,
    /// Header and payload in bytes.
    pub length: u32,
    /// The header itself.
    pub transport: Transport,
}

/// The two headers that have ports.
#[derive(Clone, Copy)]
pub enum Transport {
    /// RFC 9293, without its options.
    Tcp(Header<20>),
    /// RFC 768.
    Udp(Header<8>),
}

/// Reads what follows the IPv4 header.
#[inline(always)]
pub fn payload(packet: Packet, ip: Ipv4) -> Payload {
    let header = ip.header_length();
    let total = ip.total_length();
    if header == 0 || total < header || !packet.holds(ETHERNET + total) {
        return Payload::Malformed;
    }
    if ip.is_fragment() {
        return Payload::Fragment;
    }
    let (offset, length) = (ETHERNET + header, total - header);
    let transport = match ip.protocol() {
        TCP if length >= 20 => packet.header_at(offset).map(Transport::Tcp),
        UDP if length >= 8 => packet.header_at(offset).map(Transport::Udp),
        TCP | UDP => None,
        _ => return Payload::Other,
    };
    match transport {
        Some(transport) => Payload::Segment(Segment { ip, offset, length, transport }),
        None => Payload::Malformed,
    }
}

impl Segment {
    /// The 5-tuple.
    #[inline(always)]
    pub fn flow(&self) -> Flow {
        let (source_port, destination_port, protocol) = match self.transport {
            Transport::Tcp(header) => (header.read::<u16, 0>(), header.read::<u16, 2>(), TCP),
            Transport::Udp(header) => (header.read::<u16, 0>(), header.read::<u16, 2>(), UDP),
        };
        Flow {
            source: self.ip.source().into(),
            destination: self.ip.destination().into(),
            source_port: Be16(source_port),
            destination_port: Be16(destination_port),
            protocol,
        }
    }

    /// Whether it opens a TCP connection: SYN without ACK.
    #[inline(always)]
    pub fn opens_connection(&self) -> bool {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        match self.transport {
            Transport::Tcp(header) => header.read::<u8, 13>() & (SYN | ACK) == SYN,
            Transport::Udp(_) => false,
        }
    }

    /// The frame up to the end of the IPv4 packet, in bytes: what was sent, without padding.
    #[inline(always)]
    pub fn frame_length(&self) -> u32 {
        self.offset + self.length
    }
}

impl Transport {
    /// The checksum field as it stands in the packet.
    #[inline(always)]
    pub fn checksum(self) -> u16 {
        match self {
            Self::Tcp(header) => header.read::<u16, 16>(),
            Self::Udp(header) => header.read::<u16, 6>(),
        }
    }

    /// Writes the checksum field.
    #[inline(always)]
    pub fn set_checksum(self, checksum: u16) {
        match self {
            Self::Tcp(header) => header.write::<u16, 16>(checksum),
            Self::Udp(header) => header.write::<u16, 6>(checksum),
        }
    }

    /// Whether it is UDP.
    #[inline(always)]
    pub fn is_udp(self) -> bool {
        matches!(self, Self::Udp(_))
    }

    /// Writes the source port.
    #[inline(always)]
    pub fn set_source_port(self, port: Be16) {
        match self {
            Self::Tcp(header) => header.write::<u16, 0>(port.0),
            Self::Udp(header) => header.write::<u16, 0>(port.0),
        }
    }

    /// Writes the destination port.
    #[inline(always)]
    pub fn set_destination_port(self, port: Be16) {
        match self {
            Self::Tcp(header) => header.write::<u16, 2>(port.0),
            Self::Udp(header) => header.write::<u16, 2>(port.0),
        }
    }
}

/// The target of an ARP request for an IPv4 address (RFC 826); `None` for anything else, replies included.
#[inline(always)]
pub fn arp_request_target(packet: Packet) -> Option<Be32> {
    const ETHERNET_FOR_IPV4: [u16; 2] = [1_u16.to_be(), 0x0800_u16.to_be()];
    const LENGTHS: u16 = 0x0604_u16.to_be();
    const REQUEST: u16 = 1_u16.to_be();
    let arp = packet.header::<42>()?;
    let is_request = arp.read::<u16, 14>() == ETHERNET_FOR_IPV4[0]
        && arp.read::<u16, 16>() == ETHERNET_FOR_IPV4[1]
        && arp.read::<u16, 18>() == LENGTHS
        && arp.read::<u16, 20>() == REQUEST;
    is_request.then(|| Be32(arp.read::<u32, 38>()))
}

/// Who talks to whom, in host order, for the log; zeros where the packet does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The sender's IPv4 address.
    pub source: u32,
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's IPv4 address.
    pub destination: u32,
    /// The receiver's port.
    pub destination_port: u16,
    /// The IP protocol number; 0 for ARP.
    pub protocol: u8,
}

/// Reads who talks to whom as the packet is now.
#[inline(always)]
pub fn ends(packet: Packet) -> Ends {
    let mut ends = Ends::default();
    let Some(ethernet) = packet.header::<14>() else { return ends };
    match Ethernet(ethernet).kind() {
        ETHERTYPE_ARP => {
            if let Some(arp) = packet.header::<42>() {
                ends.source = u32::from_be(arp.read::<u32, 28>());
                ends.destination = u32::from_be(arp.read::<u32, 38>());
            }
        }
        ETHERTYPE_IPV4 => {
            let Some(ip) = packet.header::<34>().map(Ipv4) else { return ends };
            ends.source = u32::from_be(ip.source().0);
            ends.destination = u32::from_be(ip.destination().0);
            ends.protocol = ip.protocol();
            if let Payload::Segment(segment) = payload(packet, ip) {
                let flow = segment.flow();
                ends.source_port = flow.source_port.get();
                ends.destination_port = flow.destination_port.get();
            }
        }
        _ => {}
    }
    ends
}
