//! `ipip` and `gue`: the packet travels within another one, of either family.

use lb_common::{MODE_GUE, Verdict};

use crate::{
    backend::BackendEntry,
    decision::Decision,
    forward::Hop,
    ip::{Ip, Ipv4, Ipv6},
    kernel::Kernel,
    outer::Outer,
    packet::Packet,
    parse::{ETHERNET, UDP},
};

/// The port Generic UDP Encapsulation is received at (IANA), as it stands in the packet.
pub(crate) const GUE_PORT: u16 = 6_080_u16.to_be();
/// Bytes of a UDP header. Variant 1 of GUE, in which an IP packet follows it directly, adds nothing else.
pub(crate) const UDP_LENGTH: u32 = 8;

/// Puts the outer headers before a packet of `length` bytes.
#[inline(always)]
pub(crate) fn encapsulate<K: Kernel, I: Ip>(
    kernel: &K,
    ip: I,
    length: u32,
    backend: BackendEntry<'_>,
    hop: &Hop,
    hash: u32,
) -> Result<Decision, Verdict> {
    let overhead = u32::from(backend.overhead());
    let is_gue = backend.mode() == MODE_GUE;
    let outer = Outer {
        protocol: if is_gue { UDP } else { I::CARRIED },
        traffic_class: ip.traffic_class(),
        length: length + overhead,
    };
    let packet = kernel.grow(overhead.cast_signed()).ok_or(Verdict::Internal)?;
    // The room was made a line above: a frame without it is a fault.
    if overhead < Ipv6::LENGTH {
        let header = packet.header::<34>().ok_or(Verdict::Internal)?;
        hop.address(header, Ipv4::ETHERTYPE);
        outer.write4(header, backend.ends4(), backend.outer_sum());
        if is_gue {
            udp(packet, ETHERNET + Ipv4::LENGTH, outer.length - Ipv4::LENGTH, hash)?;
        }
    } else {
        let header = packet.header::<54>().ok_or(Verdict::Internal)?;
        hop.address(header, Ipv6::ETHERTYPE);
        outer.write6(header, (backend.source(), backend.address()));
        if is_gue {
            udp(packet, ETHERNET + Ipv6::LENGTH, outer.length - Ipv6::LENGTH, hash)?;
        }
    }
    Ok(Decision { verdict: if is_gue { Verdict::Gue } else { Verdict::Ipip }, egress: hop.egress })
}

/// The UDP header of GUE: a source port that spreads flows, no checksum (RFC 6935 allows that to tunnels over IPv6).
#[inline(always)]
fn udp(packet: Packet, offset: u32, length: u32, hash: u32) -> Result<(), Verdict> {
    let header = packet.header_at::<8>(offset).ok_or(Verdict::Internal)?;
    // The dynamic ports (RFC 6335).
    header.write::<u16, 0>((0xc000 | hash as u16 & 0x3fff).to_be());
    header.write::<u16, 2>(GUE_PORT);
    header.write::<u16, 4>((length as u16).to_be());
    header.write::<u16, 6>(0);
    Ok(())
}
