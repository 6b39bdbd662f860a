//! What another director put into a packet for this node's own backend is taken out and delivered.
//!
//! A program of its own, for its need of stack.

use lb_common::{Address, Service, Verdict};

use crate::{
    guard,
    ip::{ECN_CONGESTED, Ip, Ipv4, Ipv6},
    kernel::{Kernel, Question, Route},
    packet::{Header, Packet},
    parse::{self, ETHERNET, Ethernet, Kind, Parse, Payload},
    service, tunnel,
};

/// Strips the outer headers, but for what they say about congestion (RFC 6040), if the packet within is for a service with a local backend, or an ICMP error to a VIP, and the
/// outer one is for this node. Anything else is not ours.
#[inline(always)]
pub(crate) fn run<K: Kernel>(kernel: &K, packet: Packet) -> Verdict {
    let Some(ethernet) = packet.header().map(Ethernet) else { return Verdict::Internal };
    let offset = if ethernet.kind() == Ipv4::ETHERTYPE {
        offset_within::<Ipv4>(packet)
    } else {
        offset_within::<Ipv6>(packet)
    };
    // Headers are read at their distance from an Ethernet header, of which there is none here.
    // The mask changes nothing but what the verifier knows.
    let spare = offset.wrapping_sub(ETHERNET) & 0x3fff;
    let within = packet.behind(spare);
    let Some(first) = within.header::<16>() else { return Verdict::NotOurs };
    let ethertype = if first.read::<u8, 14>() >> 4 == 4 {
        if !is_for_local_backend::<K, Ipv4>(kernel, within, ethernet) {
            return Verdict::NotOurs;
        }
        Ipv4::ETHERTYPE
    } else {
        if !is_for_local_backend::<K, Ipv6>(kernel, within, ethernet) {
            return Verdict::NotOurs;
        }
        Ipv6::ETHERTYPE
    };
    let Some(frame) = packet.header().map(Ethernet) else { return Verdict::Internal };
    if let Err(verdict) = guard::mac_in_stage(kernel, frame) {
        return verdict;
    }
    // Where the kernel does not forward it does not tell, and what is not for this node would be dropped anyway.
    let is_elsewhere = if frame.kind() == Ipv4::ETHERTYPE {
        is_elsewhere::<K, Ipv4>(kernel, packet)
    } else {
        is_elsewhere::<K, Ipv6>(kernel, packet)
    };
    if is_elsewhere {
        return Verdict::NotOurs;
    }
    let source =
        if frame.kind() == Ipv4::ETHERTYPE { source::<Ipv4>(packet) } else { source::<Ipv6>(packet) };
    if !kernel.is_tunnel_source(source) {
        return Verdict::TunnelStranger;
    }
    let mark_within = congestion_within(first);
    let takes_mark = congestion(packet) == ECN_CONGESTED && mark_within != ECN_CONGESTED;
    // Who does not understand the mark must not be spared the loss that it stands for (RFC 6040 section 4.2).
    if takes_mark && mark_within == 0 {
        return Verdict::Malformed;
    }
    let Some(frame) = packet.header::<12>() else { return Verdict::Internal };
    let addresses = (frame.read::<u32, 0>(), frame.read::<u32, 4>(), frame.read::<u32, 8>());
    let Some(packet) = kernel.grow(-spare.cast_signed()) else { return Verdict::Internal };
    let Some(frame) = packet.header::<14>() else { return Verdict::Internal };
    frame.write::<u32, 0>(addresses.0);
    frame.write::<u32, 4>(addresses.1);
    frame.write::<u32, 8>(addresses.2);
    frame.write::<u16, 12>(ethertype);
    if takes_mark {
        if ethertype == Ipv4::ETHERTYPE {
            mark::<Ipv4>(packet);
        } else {
            mark::<Ipv6>(packet);
        }
    }
    Verdict::Decapsulated
}

/// What the outer header says about congestion on the way here.
#[inline(always)]
fn congestion(packet: Packet) -> u8 {
    packet
        .header::<16>()
        .map_or(0, |frame| congestion_of(frame, Ethernet(frame.first()).kind() == Ipv4::ETHERTYPE))
}

/// What the packet within says about it, whose first two bytes are the last ones of `first`.
#[inline(always)]
fn congestion_within(first: Header<16>) -> u8 {
    congestion_of(first, first.read::<u8, 14>() >> 4 == 4)
}

#[inline(always)]
fn congestion_of(header: Header<16>, is_v4: bool) -> u8 {
    let class = if is_v4 { header.read::<u8, 15>() } else { header.read::<u8, 15>() >> 4 };
    class & ECN_CONGESTED
}

#[inline(always)]
fn mark<I: Ip>(packet: Packet) {
    if let Some(ip) = I::new(packet) {
        ip.mark_congestion();
    }
}

/// Where the packet within begins, in bytes from the start of the frame.
#[inline(always)]
fn offset_within<I: Parse>(packet: Packet) -> u32 {
    let Some(ip) = I::new(packet) else { return 0 };
    let Payload { kind, segment } = ip.payload(packet);
    if kind == Kind::Segment { segment.offset + tunnel::UDP_LENGTH } else { segment.offset }
}

/// Who sent the packet.
#[inline(always)]
fn source<I: Ip>(packet: Packet) -> Address {
    I::new(packet).map_or_else(Address::default, I::source)
}

/// Whether the routing table sends the packet on.
#[inline(always)]
fn is_elsewhere<K: Kernel, I: Ip>(kernel: &K, packet: Packet) -> bool {
    let Some(ip) = I::new(packet) else { return true };
    let route = kernel.route(&Question {
        source: ip.source(),
        destination: ip.destination(),
        protocol: I::CARRIED,
        ..Question::default()
    });
    !matches!(route, Route::NotForwarded | Route::ForwardingOff)
}

#[inline(always)]
fn is_for_local_backend<K: Kernel, I: Parse>(kernel: &K, packet: Packet, ethernet: Ethernet) -> bool {
    let Some(ip) = I::new(packet) else { return false };
    let payload = ip.payload(packet);
    if payload.kind == Kind::Icmp && parse::is_icmp_error::<I>(packet, payload.segment.offset) {
        // About a packet of a local backend, or else the stack sees to it.
        return I::vip(kernel, ip.destination()).is_some();
    }
    // Whoever put a piece into a packet has seen the ports, which only the first one has.
    if payload.kind == Kind::Fragment {
        return I::vip(kernel, ip.destination()).is_some();
    }
    if payload.kind != Kind::Segment {
        return false;
    }
    let flow = payload.segment.flow();
    matches!(
        service::look_up::<K, I>(kernel, &flow, ethernet),
        Ok(Some(service)) if service.flags & Service::HAS_LOCAL != 0
    )
}
