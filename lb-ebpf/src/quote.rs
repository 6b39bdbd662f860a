//! The packet that an ICMP error quotes: its IP header and, of the transport header, as little as 8 bytes (RFC 792).

use lb_common::{Address, Be16, Flow};

use crate::{
    checksum,
    extension::{self, BROKEN, Found},
    ip::{Ip, Ipv4, Ipv6},
    packet::{Header, Packet},
    parse::{ETHERNET, Parse, Segment, TCP, UDP},
    rewrite::Side,
};

/// Bytes of an ICMP header before the quoted packet, in either family.
const ICMP_LENGTH: u32 = 8;

/// A quoted TCP or UDP packet.
///
/// All fields are set whatever was quoted, for the reason [`crate::parse::Payload`] has.
#[derive(Clone, Copy)]
pub(crate) struct Quote<I> {
    /// Its IP header.
    pub(crate) ip: I,
    protocol: u8,
    /// The first bytes of its transport header.
    ports: Header<8>,
    /// The checksum of that header, if the quote reaches so far and there is one.
    checksum: Header<2>,
    has_checksum: bool,
}

/// IP headers as they are quoted and as ICMP covers them.
pub(crate) trait Quoted: Parse {
    /// Where the transport header of a quoted packet begins, in a frame with an imagined Ethernet header.
    fn transport(self, frame: Packet) -> Found;
    /// The header's checksum; 0 where it has none.
    fn header_checksum(self) -> u16;
    /// What the ICMP checksum covers of this header, when it is the one before the ICMP message.
    fn icmp_pseudo_header(self) -> u64;
}

impl Quoted for Ipv4 {
    #[inline(always)]
    fn transport(self, _: Packet) -> Found {
        const OFFSET: u16 = 0x1fff;
        let length = self.header_length();
        Found {
            protocol: if length == 0 { BROKEN } else { self.protocol() },
            offset: ETHERNET + length,
            fragment: false,
            later: self.fragmentation() & OFFSET != 0,
        }
    }

    #[inline(always)]
    fn header_checksum(self) -> u16 {
        self.0.read::<u16, 24>()
    }

    #[inline(always)]
    fn icmp_pseudo_header(self) -> u64 {
        0
    }
}

impl Quoted for Ipv6 {
    #[inline(always)]
    fn transport(self, frame: Packet) -> Found {
        if !self.is_version_6() {
            return Found { protocol: BROKEN, offset: 0, fragment: false, later: false };
        }
        extension::last(frame, self.next_header(), self.0.read::<u32, 14>())
    }

    #[inline(always)]
    fn header_checksum(self) -> u16 {
        0
    }

    /// The addresses (RFC 4443 section 2.3); the rest of it never changes.
    #[inline(always)]
    fn icmp_pseudo_header(self) -> u64 {
        Self::sum(self.source()) + Self::sum(self.destination())
    }
}

impl<I: Quoted> Quote<I> {
    /// Reads what the ICMP message `message` quotes; `None` if it has no ports: another protocol, a fragment other than
    /// the first, or too little of it.
    #[inline(always)]
    pub(crate) fn read(packet: Packet, message: &Segment<I>) -> Option<Self> {
        // Headers are read at their distance from an Ethernet header, of which there is none here. The mask changes
        // nothing but what the verifier knows.
        let frame = packet.behind((message.offset + ICMP_LENGTH - ETHERNET) & 0x3fff);
        let ip = I::new(frame)?;
        let Found { protocol, offset, later, .. } = ip.transport(frame);
        if later || (protocol != TCP && protocol != UDP) {
            return None;
        }
        // What follows the message in the frame is padding.
        let before = ICMP_LENGTH + offset - ETHERNET;
        if message.length < before + 8 {
            return None;
        }
        let ports = frame.header_at::<8>(offset)?;
        let field = if protocol == TCP { 16 } else { 6 };
        let checksum = frame.header_at::<2>(offset + field);
        let quote = Self { ip, protocol, ports, checksum: ports.first(), has_checksum: false };
        Some(match checksum {
            Some(checksum)
                if message.length >= before + field + 2
                    && (protocol == TCP || checksum.read::<u16, 0>() != 0) =>
            {
                Self { checksum, has_checksum: true, ..quote }
            }
            _ => quote,
        })
    }

    /// The flow of the packets that the quoted one answers.
    #[inline(always)]
    pub(crate) fn reversed(&self) -> Flow {
        Flow {
            source: self.ip.destination(),
            destination: self.ip.source(),
            source_port: Be16(self.ports.read::<u16, 2>()),
            destination_port: Be16(self.ports.read::<u16, 0>()),
            protocol: self.protocol,
        }
    }

    /// Replaces the address and the port of one end, with the checksums that cover them.
    #[inline(always)]
    pub(crate) fn replace(&self, side: Side, address: Address, port: Be16) {
        let flow = self.reversed();
        let (old_address, old_port) = match side {
            Side::Source => (flow.destination, flow.destination_port),
            Side::Destination => (flow.source, flow.source_port),
        };
        self.ip.replace_address(side, address);
        match side {
            Side::Source => self.ports.write::<u16, 0>(port.0),
            Side::Destination => self.ports.write::<u16, 2>(port.0),
        }
        if self.has_checksum {
            let old = I::sum(old_address) + u64::from(old_port.0);
            let new = I::sum(address) + u64::from(port.0);
            let checksum = checksum::replace(self.checksum.read::<u16, 0>(), old, new);
            let checksum = if self.protocol == UDP { checksum::udp(checksum) } else { checksum };
            self.checksum.write::<u16, 0>(checksum);
        }
    }

    /// The sum of everything [`Self::replace`] may change.
    #[inline(always)]
    pub(crate) fn sum(&self) -> u64 {
        let ports = u64::from(self.ports.read::<u32, 0>());
        let checksum = if self.has_checksum { u64::from(self.checksum.read::<u16, 0>()) } else { 0 };
        I::sum(self.ip.source())
            + I::sum(self.ip.destination())
            + u64::from(self.ip.header_checksum())
            + ports
            + checksum
    }
}
