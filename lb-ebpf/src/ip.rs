//! The two families: what IPv4 and IPv6 headers say, where they are looked up, and how they change.

use lb_common::{
    Address, Be32, Flow, NatReply, NatReplyKey, NatReplyKey6, Service, ServiceKey, ServiceKey6, Vip,
};

use crate::{
    checksum,
    kernel::{Kept, Kernel},
    packet::{Header, from_be16},
    parse,
    rewrite::Side,
};

/// The bits of the traffic class that say how it fared with congestion (RFC 3168); and, if both are set, that there was some.
pub(crate) const ECN_CONGESTED: u8 = 3;

/// What the stages need of an IP header. Each family is a pipeline of its own, so that IPv4 pays nothing for IPv6.
pub trait Ip: Copy {
    /// Its EtherType, as it stands in the packet.
    const ETHERTYPE: u16;
    /// Bytes of the header without options or extension headers.
    const LENGTH: u32;
    /// The protocol number of its control messages.
    const ICMP: u8;
    /// The protocol number by which another IP packet carries one of these.
    const CARRIED: u8;

    /// The header in bytes it is read from.
    fn new(packet: crate::packet::Packet) -> Option<Self>;
    /// Its first bytes, or those before it.
    fn first(self) -> Header<8>;
    /// Who sent it.
    fn source(self) -> Address;
    /// Whom it is for.
    fn destination(self) -> Address;
    /// Header and payload in bytes; what follows in the frame is padding.
    fn packet_length(self) -> u32;
    /// Hops it may still make.
    fn hops(self) -> u8;
    /// Takes one off them, of which there must be one.
    fn spend_hop(self);
    /// Type of service or traffic class: DSCP and ECN.
    fn traffic_class(self) -> u8;
    /// Says that a router on its way was congested (RFC 3168).
    fn mark_congestion(self);
    /// Whether routers may not cut it in pieces.
    fn dont_fragment(self) -> bool;
    /// Whether a type of its control messages is an error about another packet.
    fn is_icmp_error(kind: u8) -> bool;
    /// Replaces one of the addresses.
    fn replace_address(self, side: Side, address: Address);
    /// The sum of an address's words, for checksums.
    fn sum(address: Address) -> u64;

    /// Looks up the VIP it is for.
    fn vip<K: Kernel>(kernel: &K, address: Address) -> Option<Vip>;
    /// Looks up the service a flow is addressed to.
    fn service<K: Kernel>(kernel: &K, flow: &Flow) -> Option<Service>;
    /// What is kept of that service.
    fn kept<'k, K: Kernel>(kernel: &'k K, flow: &Flow) -> Kept<'k>;
    /// Keeps it.
    fn keep<K: Kernel>(kernel: &K, flow: &Flow, service: &Service, version: u32);
    /// Looks up whose reply a packet of a flow is.
    fn nat_reply<K: Kernel>(kernel: &K, flow: &Flow) -> Option<NatReply>;
}

/// A fixed IPv4 header (RFC 791) behind an Ethernet header.
#[derive(Clone, Copy)]
pub struct Ipv4(pub Header<34>);

impl Ipv4 {
    /// The IP protocol number.
    #[inline(always)]
    pub fn protocol(self) -> u8 {
        self.0.read::<u8, 23>()
    }

    /// The header with its options in bytes; 0 if it is not one of IPv4.
    #[inline(always)]
    pub fn header_length(self) -> u32 {
        // Version 4 and five words or more: one comparison.
        let words_of_options = u32::from(self.0.read::<u8, 14>()).wrapping_sub(0x45);
        if words_of_options > 10 { 0 } else { Self::LENGTH + words_of_options * 4 }
    }

    /// Flags and fragment offset, as a number.
    #[inline(always)]
    pub fn fragmentation(self) -> u16 {
        u16::from_be(self.0.read::<u16, 20>())
    }

    /// The identification, as it stands in the packet.
    #[inline(always)]
    pub fn id(self) -> u16 {
        self.0.read::<u16, 18>()
    }
}

impl Ip for Ipv4 {
    const ETHERTYPE: u16 = parse::ETHERTYPE_IPV4;
    const LENGTH: u32 = 20;
    const ICMP: u8 = 1;
    const CARRIED: u8 = 4;

    #[inline(always)]
    fn new(packet: crate::packet::Packet) -> Option<Self> {
        packet.header().map(Self)
    }

    #[inline(always)]
    fn first(self) -> Header<8> {
        self.0.first()
    }

    #[inline(always)]
    fn source(self) -> Address {
        Address::from_v4(Be32(self.0.read::<u32, 26>()))
    }

    #[inline(always)]
    fn destination(self) -> Address {
        Address::from_v4(Be32(self.0.read::<u32, 30>()))
    }

    #[inline(always)]
    fn packet_length(self) -> u32 {
        from_be16(self.0.read::<u16, 16>())
    }

    #[inline(always)]
    fn hops(self) -> u8 {
        self.0.read::<u8, 22>()
    }

    /// Updates the header's checksum too (RFC 1141).
    #[inline(always)]
    fn spend_hop(self) {
        self.0.write::<u8, 22>(self.hops() - 1);
        let checksum = u32::from(self.0.read::<u16, 24>()) + u32::from(0x0100_u16.to_be());
        self.0.write::<u16, 24>((checksum + u32::from(checksum >= 0xffff)) as u16);
    }

    #[inline(always)]
    fn traffic_class(self) -> u8 {
        self.0.read::<u8, 15>()
    }

    /// Updates the header's checksum too.
    #[inline(always)]
    fn mark_congestion(self) {
        let old = self.0.read::<u16, 14>();
        let new = old | u16::from(ECN_CONGESTED).to_be();
        let checksum = self.0.read::<u16, 24>();
        self.0.write::<u16, 24>(checksum::replace(checksum, u64::from(old), u64::from(new)));
        self.0.write::<u16, 14>(new);
    }

    #[inline(always)]
    fn dont_fragment(self) -> bool {
        self.fragmentation() & 0x4000 != 0
    }

    /// Destination unreachable, time exceeded, parameter problem (RFC 792); source quench is obsolete (RFC 6633).
    #[inline(always)]
    fn is_icmp_error(kind: u8) -> bool {
        kind == 3 || kind == 11 || kind == 12
    }

    /// Updates the header's checksum too.
    #[inline(always)]
    fn replace_address(self, side: Side, address: Address) {
        let old = match side {
            Side::Source => self.source(),
            Side::Destination => self.destination(),
        };
        let checksum = self.0.read::<u16, 24>();
        self.0.write::<u16, 24>(checksum::replace(checksum, Self::sum(old), Self::sum(address)));
        match side {
            Side::Source => self.0.write::<u32, 26>(address.0[3].0),
            Side::Destination => self.0.write::<u32, 30>(address.0[3].0),
        }
    }

    #[inline(always)]
    fn sum(address: Address) -> u64 {
        u64::from(address.0[3].0)
    }

    #[inline(always)]
    fn vip<K: Kernel>(kernel: &K, address: Address) -> Option<Vip> {
        kernel.vip(address.0[3])
    }

    #[inline(always)]
    fn service<K: Kernel>(kernel: &K, flow: &Flow) -> Option<Service> {
        kernel.service(&service_key(flow))
    }

    #[inline(always)]
    fn kept<'k, K: Kernel>(kernel: &'k K, flow: &Flow) -> Kept<'k> {
        kernel.kept(&service_key(flow))
    }

    #[inline(always)]
    fn keep<K: Kernel>(kernel: &K, flow: &Flow, service: &Service, version: u32) {
        kernel.keep(&service_key(flow), service, version);
    }

    #[inline(always)]
    fn nat_reply<K: Kernel>(kernel: &K, flow: &Flow) -> Option<NatReply> {
        let (address, port) = (flow.source.0[3], flow.source_port);
        kernel.nat_reply(&NatReplyKey { address, port, protocol: flow.protocol, reserved: 0 })
    }
}

/// A fixed IPv6 header (RFC 8200) behind an Ethernet header.
#[derive(Clone, Copy)]
pub struct Ipv6(pub Header<54>);

impl Ipv6 {
    /// The number of what follows: a protocol or an extension header.
    #[inline(always)]
    pub fn next_header(self) -> u8 {
        self.0.read::<u8, 20>()
    }

    /// Whether the version is 6.
    #[inline(always)]
    pub fn is_version_6(self) -> bool {
        self.0.read::<u8, 14>() >> 4 == 6
    }
}

impl Ip for Ipv6 {
    const ETHERTYPE: u16 = parse::ETHERTYPE_IPV6;
    const LENGTH: u32 = 40;
    const ICMP: u8 = 58;
    const CARRIED: u8 = 41;

    #[inline(always)]
    fn new(packet: crate::packet::Packet) -> Option<Self> {
        packet.header().map(Self)
    }

    #[inline(always)]
    fn first(self) -> Header<8> {
        self.0.first()
    }

    #[inline(always)]
    fn source(self) -> Address {
        Address([
            Be32(self.0.read::<u32, 22>()),
            Be32(self.0.read::<u32, 26>()),
            Be32(self.0.read::<u32, 30>()),
            Be32(self.0.read::<u32, 34>()),
        ])
    }

    #[inline(always)]
    fn destination(self) -> Address {
        Address([
            Be32(self.0.read::<u32, 38>()),
            Be32(self.0.read::<u32, 42>()),
            Be32(self.0.read::<u32, 46>()),
            Be32(self.0.read::<u32, 50>()),
        ])
    }

    #[inline(always)]
    fn packet_length(self) -> u32 {
        40 + from_be16(self.0.read::<u16, 18>())
    }

    #[inline(always)]
    fn hops(self) -> u8 {
        self.0.read::<u8, 21>()
    }

    #[inline(always)]
    fn spend_hop(self) {
        self.0.write::<u8, 21>(self.hops() - 1);
    }

    #[inline(always)]
    fn traffic_class(self) -> u8 {
        (u16::from_be(self.0.read::<u16, 14>()) >> 4) as u8
    }

    #[inline(always)]
    fn mark_congestion(self) {
        let word = self.0.read::<u16, 14>();
        self.0.write::<u16, 14>(word | (u16::from(ECN_CONGESTED) << 4).to_be());
    }

    #[inline(always)]
    fn dont_fragment(self) -> bool {
        true
    }

    /// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443 section 2.1).
    #[inline(always)]
    fn is_icmp_error(kind: u8) -> bool {
        (1..=4).contains(&kind)
    }

    #[inline(always)]
    fn replace_address(self, side: Side, address: Address) {
        let [a, b, c, d] = address.0;
        match side {
            Side::Source => {
                self.0.write::<u32, 22>(a.0);
                self.0.write::<u32, 26>(b.0);
                self.0.write::<u32, 30>(c.0);
                self.0.write::<u32, 34>(d.0);
            }
            Side::Destination => {
                self.0.write::<u32, 38>(a.0);
                self.0.write::<u32, 42>(b.0);
                self.0.write::<u32, 46>(c.0);
                self.0.write::<u32, 50>(d.0);
            }
        }
    }

    #[inline(always)]
    fn sum(address: Address) -> u64 {
        let [a, b, c, d] = address.0;
        u64::from(a.0) + u64::from(b.0) + u64::from(c.0) + u64::from(d.0)
    }

    #[inline(always)]
    fn vip<K: Kernel>(kernel: &K, address: Address) -> Option<Vip> {
        kernel.vip6(&address)
    }

    #[inline(always)]
    fn service<K: Kernel>(kernel: &K, flow: &Flow) -> Option<Service> {
        kernel.service6(&service_key6(flow))
    }

    #[inline(always)]
    fn kept<'k, K: Kernel>(kernel: &'k K, flow: &Flow) -> Kept<'k> {
        kernel.kept6(&service_key6(flow))
    }

    #[inline(always)]
    fn keep<K: Kernel>(kernel: &K, flow: &Flow, service: &Service, version: u32) {
        kernel.keep6(&service_key6(flow), service, version);
    }

    #[inline(always)]
    fn nat_reply<K: Kernel>(kernel: &K, flow: &Flow) -> Option<NatReply> {
        let (address, port) = (flow.source, flow.source_port);
        kernel.nat_reply6(&NatReplyKey6 { address, port, protocol: flow.protocol, reserved: 0 })
    }
}

#[inline(always)]
fn service_key(flow: &Flow) -> ServiceKey {
    let (address, port) = (flow.destination.0[3], flow.destination_port);
    ServiceKey { address, port, protocol: flow.protocol, reserved: 0 }
}

#[inline(always)]
fn service_key6(flow: &Flow) -> ServiceKey6 {
    let (address, port) = (flow.destination, flow.destination_port);
    ServiceKey6 { address, port, protocol: flow.protocol, reserved: 0 }
}
