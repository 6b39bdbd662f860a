//! The answer to a packet that is too big for the way to its backend: "fragmentation needed" (RFC 792, RFC 1191) or
//! "packet too big" (RFC 4443 section 3.2), from the VIP, so that the sender learns the MTU of the path.
//!
//! A rare stage, and so a program of its own.

use lb_common::{Address, Mac, Verdict, outer_sum};

use crate::{
    checksum,
    decision::{Decision, Egress},
    forward::{self, Hop},
    ip::{Ipv4, Ipv6},
    kernel::Kernel,
    outer::Outer,
    packet::{Header, Packet},
    parse::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Kind, Parse, Segment},
    rewrite, service,
};

/// Bytes of an ICMP header, in either family.
const ICMP_LENGTH: u32 = 8;
/// Network control: what RFC 1812 section 4.3.2.5 wants of such messages (precedence 6).
const TRAFFIC_CLASS: u8 = 0xc0;

/// Answers a packet of a steered flow.
#[inline(always)]
pub(crate) fn run<K: Kernel, const GENERIC: bool>(kernel: &K, packet: Packet) -> Result<Decision, Verdict> {
    let ethernet = Ethernet(packet.header().ok_or(Verdict::Internal)?);
    match ethernet.kind() {
        ETHERTYPE_IPV4 => decide::<K, Ipv4, GENERIC>(kernel, packet, ethernet),
        ETHERTYPE_IPV6 => decide::<K, Ipv6, GENERIC>(kernel, packet, ethernet),
        _ => Err(Verdict::Internal),
    }
}

#[inline(always)]
fn decide<K: Kernel, I: Answer, const GENERIC: bool>(
    kernel: &K,
    packet: Packet,
    ethernet: Ethernet,
) -> Result<Decision, Verdict> {
    let payload = I::new(packet).ok_or(Verdict::Internal)?.payload(packet);
    let segment = payload.segment;
    // Only whole segments are steered: no fragment and no ICMP error gets here.
    if payload.kind != Kind::Segment {
        return Err(Verdict::Internal);
    }
    let length = segment.ip.packet_length();
    if GENERIC && kernel.interface_mtu(kernel.ingress()).is_some_and(|mtu| length > mtu) {
        return Err(Verdict::TooLong);
    }
    let mtu = longest::<K, I, GENERIC>(kernel, ethernet, &segment)?;
    // It may fit by now.
    if length <= mtu || mtu < I::LEAST_MTU || length <= I::QUOTED || !is_answered(ethernet, &segment) {
        return Err(Verdict::TooBigDropped);
    }
    if !kernel.may_answer() {
        return Err(Verdict::TooBigLimited);
    }
    answer::<K, I, GENERIC>(kernel, ethernet, &segment, mtu)
}

/// The longest packet that the way to the flow's backend takes.
#[inline(always)]
fn longest<K: Kernel, I: Answer, const GENERIC: bool>(
    kernel: &K,
    ethernet: Ethernet,
    segment: &Segment<I>,
) -> Result<u32, Verdict> {
    let flow = segment.flow();
    let service = service::look_up::<K, I>(kernel, &flow, ethernet)?.ok_or(Verdict::TooBigDropped)?;
    let opens = segment.opens_connection;
    let (_, backend) = service::backend_untraced(kernel, &service, &flow, flow.hash(), opens)?;
    let hop = Hop::resolve(kernel, backend.next_hop())?;
    Ok(forward::longest::<GENERIC>(backend, &hop))
}

/// Whether the sender is one host, and the packet was sent to this one (RFC 1122 section 3.2.2, RFC 4443 section
/// 2.4(e)).
#[inline(always)]
fn is_answered<I: Answer>(ethernet: Ethernet, segment: &Segment<I>) -> bool {
    ethernet.is_unicast() && I::is_host(segment.ip.source())
}

/// Turns the packet into the answer.
#[inline(always)]
fn answer<K: Kernel, I: Answer, const GENERIC: bool>(
    kernel: &K,
    ethernet: Ethernet,
    segment: &Segment<I>,
    mtu: u32,
) -> Result<Decision, Verdict> {
    let (to, from) = ethernet.addresses();
    let ends = (segment.ip.destination(), segment.ip.source());
    let outer = Outer {
        protocol: I::ICMP,
        traffic_class: TRAFFIC_CLASS,
        length: I::LENGTH + ICMP_LENGTH + I::QUOTED,
    };
    // Generic mode keeps the kernel's note that the checksum is partial: it finishes it, and so changes the quote.
    let unfinished = GENERIC && rewrite::stays_partial(kernel, segment);
    let field = segment.transport.checksum();
    let added = I::LENGTH + ICMP_LENGTH;
    // Where the transport header is quoted, in bytes from the start of the ICMP message.
    let transport = ICMP_LENGTH + segment.offset - ETHERNET;

    kernel.grow(added.cast_signed()).ok_or(Verdict::Internal)?;
    let packet = kernel.cut(ETHERNET + outer.length).ok_or(Verdict::Internal)?;
    let icmp = packet.header_at::<8>(ETHERNET + I::LENGTH).ok_or(Verdict::Internal)?;
    I::write(packet, from, to, &outer, ends).ok_or(Verdict::Internal)?;
    I::write_message(icmp, mtu);

    let at = ETHERNET + I::LENGTH;
    let sum = if unfinished {
        // The kernel replaces the field by the complement of the sum over the field itself and all that follows. What it
        // then adds up to is the complement of what is in the field now.
        u64::from(kernel.sum(at, transport).ok_or(Verdict::Internal)?) + u64::from(!field)
    } else {
        u64::from(kernel.sum(at, ICMP_LENGTH + I::QUOTED).ok_or(Verdict::Internal)?)
    };
    icmp.write::<u16, 2>(checksum::finish(sum + I::pseudo_header(&outer, ends)));
    Ok(Decision { verdict: Verdict::TooBigAnswered, egress: Egress::BACK })
}

/// How the two families answer.
trait Answer: Parse {
    /// Bytes of the packet that are quoted. What is too big is longer.
    const QUOTED: u32;
    /// The least MTU a path can have.
    const LEAST_MTU: u32;

    /// Whether an address can be that of one host.
    fn is_host(address: Address) -> bool;
    /// Writes the Ethernet and IP headers; `ends` are source and destination.
    fn write(
        packet: Packet,
        destination: Mac,
        source: Mac,
        outer: &Outer,
        ends: (Address, Address),
    ) -> Option<()>;
    /// Writes the ICMP header with a checksum of 0.
    fn write_message(icmp: Header<8>, mtu: u32);
    /// The sum of the pseudo header that the ICMP checksum covers.
    fn pseudo_header(outer: &Outer, ends: (Address, Address)) -> u64;
}

impl Answer for Ipv4 {
    /// With the headers it makes 576 bytes (RFC 1812 section 4.3.2.3).
    const QUOTED: u32 = 576 - 28;
    /// RFC 791.
    const LEAST_MTU: u32 = 68;

    #[inline(always)]
    fn is_host(address: Address) -> bool {
        let [first, ..] = address.0[3].octets();
        // This network, the loopback, multicast, reserved and broadcast.
        first != 0 && first != 127 && first < 224
    }

    #[inline(always)]
    fn write(
        packet: Packet,
        destination: Mac,
        source: Mac,
        outer: &Outer,
        ends: (Address, Address),
    ) -> Option<()> {
        let header = packet.header::<34>()?;
        forward::address(header, destination.into(), source.into(), ETHERTYPE_IPV4);
        let ends = (ends.0.0[3], ends.1.0[3]);
        outer.write4(header, ends, outer_sum(ends.0, ends.1));
        Some(())
    }

    #[inline(always)]
    fn write_message(icmp: Header<8>, mtu: u32) {
        icmp.write::<u32, 0>(0x0304_0000_u32.to_be());
        icmp.write::<u32, 4>((mtu & 0xffff).to_be());
    }

    #[inline(always)]
    fn pseudo_header(_: &Outer, _: (Address, Address)) -> u64 {
        0
    }
}

impl Answer for Ipv6 {
    /// With the headers it makes 1,280 bytes (RFC 4443 section 2.4(c)).
    const QUOTED: u32 = 1_280 - 48;
    /// RFC 8200 section 5.
    const LEAST_MTU: u32 = 1_280;

    #[inline(always)]
    fn is_host(address: Address) -> bool {
        let [first, second, third, fourth] = address.0;
        first.octets()[0] != 0xff && first.0 | second.0 | third.0 | fourth.0 != 0
    }

    #[inline(always)]
    fn write(
        packet: Packet,
        destination: Mac,
        source: Mac,
        outer: &Outer,
        ends: (Address, Address),
    ) -> Option<()> {
        let header = packet.header::<54>()?;
        forward::address(header, destination.into(), source.into(), ETHERTYPE_IPV6);
        outer.write6(header, ends);
        Some(())
    }

    #[inline(always)]
    fn write_message(icmp: Header<8>, mtu: u32) {
        icmp.write::<u32, 0>(0x0200_0000_u32.to_be());
        icmp.write::<u32, 4>(mtu.to_be());
    }

    #[inline(always)]
    fn pseudo_header(outer: &Outer, ends: (Address, Address)) -> u64 {
        use crate::ip::Ip as _;
        let addresses = Self::sum(ends.0) + Self::sum(ends.1);
        checksum::pseudo_header(addresses, Self::ICMP, (outer.length - Self::LENGTH) as u16)
    }
}
