//! What the packet is: Ethernet, IP and the transport header behind it.

use lb_common::{Address, Be16, Be32, Flow, Mac};

use crate::{
    extension::{self, Found},
    ip::{Ip, Ipv4, Ipv6},
    packet::{Header, Packet},
};

/// Length of an Ethernet header.
pub const ETHERNET: u32 = 14;
/// EtherType of IPv4, as it stands in the packet.
pub const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
/// EtherType of IPv6, as it stands in the packet.
pub const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();
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

    /// Whether it is for this address.
    #[inline(always)]
    pub fn is_for(self, mac: Mac) -> bool {
        self.destination_key() == mac.key()
    }

    /// The address it is for as `Mac::key` has it.
    #[inline(always)]
    pub fn destination_key(self) -> u64 {
        u64::from(self.0.read::<u32, 0>()) | u64::from(self.0.read::<u16, 4>()) << 32
    }

    /// Whether it is for several machines: multicast or broadcast.
    #[inline(always)]
    pub fn is_for_a_group(self) -> bool {
        self.0.read::<u8, 0>() & 1 != 0
    }

    /// The sender's address as a key of `DIRECTORS`.
    #[inline(always)]
    pub fn source_key(self) -> u64 {
        u64::from(self.0.read::<u32, 6>()) | u64::from(self.0.read::<u16, 10>()) << 32
    }

    /// Who the frame is for, and who it is from.
    #[inline(always)]
    pub fn addresses(self) -> (Mac, Mac) {
        let mac = |start: u32, rest: u16| {
            let (start, rest) = (start.to_ne_bytes(), rest.to_ne_bytes());
            Mac([start[0], start[1], start[2], start[3], rest[0], rest[1]])
        };
        (
            mac(self.0.read::<u32, 0>(), self.0.read::<u16, 4>()),
            mac(self.0.read::<u32, 6>(), self.0.read::<u16, 10>()),
        )
    }

    /// Whether it is from one station for one station.
    #[inline(always)]
    pub fn is_unicast(self) -> bool {
        (self.0.read::<u8, 0>() | self.0.read::<u8, 6>()) & 1 == 0
    }

    /// Sets who the frame is for and who it is from.
    #[inline(always)]
    pub fn set_addresses(self, destination: MacWords, source: MacWords) {
        self.0.write::<u32, 0>(destination.start);
        self.0.write::<u16, 4>(destination.rest);
        self.0.write::<u32, 6>(source.start);
        self.0.write::<u16, 10>(source.rest);
    }
}

/// A MAC address in the words that a frame is written by: of one value the optimiser would make a longer word and cut that
/// up again.
#[derive(Clone, Copy)]
pub struct MacWords {
    /// Its first four bytes.
    pub start: u32,
    /// The other two.
    pub rest: u16,
}

impl From<Mac> for MacWords {
    #[inline(always)]
    fn from(Mac(bytes): Mac) -> Self {
        Self {
            start: u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            rest: u16::from_ne_bytes([bytes[4], bytes[5]]),
        }
    }
}

/// What follows an IP header.
///
/// The segment is there whatever the kind is, and means something for [`Kind::Segment`] only: of a value that some ways do
/// not set, the compiler would save a register on those ways that the verifier has never seen written.
#[derive(Clone, Copy)]
pub struct Payload<I> {
    /// What it is.
    pub kind: Kind,
    /// The TCP or UDP header; its offset and length hold for all kinds but [`Kind::Malformed`]: those of
    /// what follows the IP headers.
    pub segment: Segment<I>,
}

/// What follows an IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole TCP or UDP header.
    Segment,
    /// A piece of a datagram; even the first has not all of it.
    Fragment,
    /// ICMP or ICMPv6, whichever belongs to the family.
    Icmp,
    /// Another IP packet.
    Packet,
    /// A protocol without ports.
    Other,
    /// Lengths that contradict each other or the frame, or not the version the EtherType says.
    Malformed,
}

impl<I: Ip> Payload<I> {
    #[inline(always)]
    fn of(ip: I, kind: Kind, offset: u32, length: u32) -> Self {
        let transport = Transport::Udp(ip.first());
        Self { kind, segment: Segment { ip, offset, length, opens_connection: false, transport } }
    }
}

/// A TCP or UDP header within an IP packet.
#[derive(Clone, Copy)]
pub struct Segment<I> {
    /// The IP header before it.
    pub ip: I,
    /// Where it begins, in bytes from the start of the frame.
    pub offset: u32,
    /// Header and payload in bytes.
    pub length: u32,
    /// Whether it opens a TCP connection: SYN without ACK.
    pub opens_connection: bool,
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

/// An IP header that knows how to read on.
pub trait Parse: Ip {
    /// Reads a whole TCP or UDP header behind it; `None` for all that [`Self::payload`] tells apart.
    ///
    /// Most packets have one, and this way of theirs prepares nothing for the others.
    fn segment(self, packet: Packet) -> Option<Segment<Self>>;
    /// Reads what follows the header.
    fn payload(self, packet: Packet) -> Payload<Self>;
}

/// The part of [`Ipv4::fragmentation`] that only pieces have: the offset, or that more follow.
const OFFSET_OR_MORE: u16 = 0x3fff;

impl Parse for Ipv4 {
    #[inline(always)]
    fn segment(self, packet: Packet) -> Option<Segment<Self>> {
        let header = self.header_length();
        let total = self.packet_length();
        if header == 0
            || total < header
            || !packet.holds(ETHERNET + total)
            || self.fragmentation() & OFFSET_OR_MORE != 0
        {
            return None;
        }
        segment(packet, self, self.protocol(), ETHERNET + header, total - header)
    }

    #[inline(always)]
    fn payload(self, packet: Packet) -> Payload<Self> {
        let header = self.header_length();
        let total = self.packet_length();
        if header == 0 || total < header || !packet.holds(ETHERNET + total) {
            return Payload::of(self, Kind::Malformed, 0, 0);
        }
        if self.fragmentation() & OFFSET_OR_MORE != 0 {
            return Payload::of(self, Kind::Fragment, ETHERNET + header, total - header);
        }
        upper(packet, self, self.protocol(), ETHERNET + header, total - header)
    }
}

impl Parse for Ipv6 {
    #[inline(always)]
    fn segment(self, packet: Packet) -> Option<Segment<Self>> {
        let total = self.packet_length();
        if !self.is_version_6() || !packet.holds(ETHERNET + total) {
            return None;
        }
        let next = self.next_header();
        let (protocol, offset) = if next == TCP || next == UDP {
            (next, ETHERNET + Self::LENGTH)
        } else {
            let found = extension::last(packet, next, self.0.read::<u32, 14>());
            if found.fragment || found.protocol == extension::BROKEN || found.offset > ETHERNET + total {
                return None;
            }
            (found.protocol, found.offset)
        };
        segment(packet, self, protocol, offset, ETHERNET + total - offset)
    }

    #[inline(always)]
    fn payload(self, packet: Packet) -> Payload<Self> {
        let total = self.packet_length();
        if !self.is_version_6() || !packet.holds(ETHERNET + total) {
            return Payload::of(self, Kind::Malformed, 0, 0);
        }
        let next = self.next_header();
        let Found { protocol, offset, fragment, .. } = if next == TCP || next == UDP {
            Found { protocol: next, offset: ETHERNET + Self::LENGTH, fragment: false, later: false }
        } else {
            extension::last(packet, next, self.0.read::<u32, 14>())
        };
        if protocol == extension::BROKEN || offset > ETHERNET + total {
            return Payload::of(self, Kind::Malformed, 0, 0);
        }
        if fragment {
            return Payload::of(self, Kind::Fragment, offset, ETHERNET + total - offset);
        }
        upper(packet, self, protocol, offset, ETHERNET + total - offset)
    }
}

/// Reads a TCP or UDP header, `offset` bytes from the start of the frame, in `length` bytes of payload.
#[inline(always)]
fn segment<I: Ip>(packet: Packet, ip: I, protocol: u8, offset: u32, length: u32) -> Option<Segment<I>> {
    let transport = match protocol {
        TCP if length >= 20 => Transport::Tcp(packet.header_at(offset)?),
        UDP if length >= 8 => Transport::Udp(packet.header_at(offset)?),
        _ => return None,
    };
    Some(Segment::new(ip, offset, length, transport))
}

/// Reads the header above IP, as [`segment`] does, or says what there is in its place.
#[inline(always)]
fn upper<I: Ip>(packet: Packet, ip: I, protocol: u8, offset: u32, length: u32) -> Payload<I> {
    match protocol {
        TCP | UDP => match segment(packet, ip, protocol, offset, length) {
            Some(segment) => Payload { kind: Kind::Segment, segment },
            None => Payload::of(ip, Kind::Malformed, 0, 0),
        },
        _ if protocol == I::ICMP => Payload::of(ip, Kind::Icmp, offset, length),
        Ipv4::CARRIED | Ipv6::CARRIED => Payload::of(ip, Kind::Packet, offset, length),
        _ => Payload::of(ip, Kind::Other, offset, length),
    }
}

impl<I: Ip> Segment<I> {
    /// A header at `offset` in the frame, of a segment of `length` bytes.
    #[inline(always)]
    pub fn new(ip: I, offset: u32, length: u32, transport: Transport) -> Self {
        Self { ip, offset, length, opens_connection: transport.opens_connection(), transport }
    }

    /// The 5-tuple.
    #[inline(always)]
    pub fn flow(&self) -> Flow {
        let (source_port, destination_port) = match self.transport {
            Transport::Tcp(header) => (header.read::<u16, 0>(), header.read::<u16, 2>()),
            Transport::Udp(header) => (header.read::<u16, 0>(), header.read::<u16, 2>()),
        };
        Flow {
            source: self.ip.source(),
            destination: self.ip.destination(),
            source_port: Be16(source_port),
            destination_port: Be16(destination_port),
            protocol: self.transport.protocol(),
        }
    }

    /// The frame up to the end of the IP packet, in bytes: what was sent, without padding.
    #[inline(always)]
    pub fn frame_length(&self) -> u32 {
        self.offset + self.length
    }
}

impl Transport {
    #[inline(always)]
    fn opens_connection(self) -> bool {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        match self {
            Self::Tcp(header) => header.read::<u8, 13>() & (SYN | ACK) == SYN,
            Self::Udp(_) => false,
        }
    }

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

    /// Whether the checksum is over all the `length` bytes behind the IP headers. UDP has a length of its own, behind which
    /// there may be more (RFC 9868).
    #[inline(always)]
    pub fn covers(self, length: u32) -> bool {
        match self {
            Self::Tcp(_) => true,
            Self::Udp(header) => u32::from(u16::from_be(header.read::<u16, 4>())) == length,
        }
    }

    /// Its IP protocol number.
    #[inline(always)]
    pub fn protocol(self) -> u8 {
        match self {
            Self::Tcp(_) => TCP,
            Self::Udp(_) => UDP,
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

/// Whether the ICMP message of `I`'s family that begins at `offset` is an error (which quotes the packet it is about).
#[inline(always)]
pub fn is_icmp_error<I: Ip>(packet: Packet, offset: u32) -> bool {
    packet.header_at::<8>(offset).is_some_and(|icmp| I::is_icmp_error(icmp.read::<u8, 0>()))
}

/// Whether the ICMPv6 message that begins at `offset` is a neighbour advertisement (RFC 4861 section 4.4).
#[inline(always)]
pub fn is_neighbour_advertisement(packet: Packet, offset: u32) -> bool {
    const ADVERTISEMENT: u8 = 136;
    packet.header_at::<8>(offset).is_some_and(|icmp| icmp.read::<u8, 0>() == ADVERTISEMENT)
}

/// The target of a neighbour solicitation (RFC 4861 section 4.3) whose ICMPv6 header begins at `offset`; `None` for any
/// other ICMPv6.
#[inline(always)]
pub fn solicitation_target(packet: Packet, offset: u32) -> Option<Address> {
    const SOLICITATION: u8 = 135;
    let icmp = packet.header_at::<24>(offset)?;
    (icmp.read::<u8, 0>() == SOLICITATION).then(|| {
        Address([
            Be32(icmp.read::<u32, 8>()),
            Be32(icmp.read::<u32, 12>()),
            Be32(icmp.read::<u32, 16>()),
            Be32(icmp.read::<u32, 20>()),
        ])
    })
}

/// Who talks to whom, for the log; zeros where the packet does not say.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The sender's address.
    pub source: Address,
    /// The sender's port, in host order.
    pub source_port: u16,
    /// The receiver's address.
    pub destination: Address,
    /// The receiver's port, in host order.
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
                ends.source = Be32(arp.read::<u32, 28>()).into();
                ends.destination = Be32(arp.read::<u32, 38>()).into();
            }
        }
        ETHERTYPE_IPV4 => {
            if let Some(ip) = Ipv4::new(packet) {
                ends.protocol = ip.protocol();
                ends_of_ip(packet, ip, &mut ends);
            }
        }
        ETHERTYPE_IPV6 => {
            if let Some(ip) = Ipv6::new(packet) {
                ends.protocol = ip.next_header();
                ends_of_ip(packet, ip, &mut ends);
            }
        }
        _ => {}
    }
    ends
}

#[inline(always)]
fn ends_of_ip<I: Parse>(packet: Packet, ip: I, ends: &mut Ends) {
    ends.source = ip.source();
    ends.destination = ip.destination();
    let payload = ip.payload(packet);
    if payload.kind == Kind::Segment {
        let flow = payload.segment.flow();
        ends.source_port = flow.source_port.get();
        ends.destination_port = flow.destination_port.get();
    }
}
