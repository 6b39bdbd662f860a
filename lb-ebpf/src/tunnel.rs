//! `ipip` and `gue`: the packet travels within another one, of either family.

use lb_common::{Address, MODE_GUE, Verdict};

use crate::{
    backend::BackendEntry,
    checksum,
    decision::Decision,
    forward::Hop,
    ip::{Ip, Ipv4, Ipv6},
    kernel::Kernel,
    packet::{Header, Packet},
    parse::{ETHERNET, UDP},
};

/// The port Generic UDP Encapsulation is received at (IANA), as it stands in the packet.
pub(crate) const GUE_PORT: u16 = 6_080_u16.to_be();
/// Hops the outer packet may make.
const HOPS: u8 = 64;
/// Bytes of a UDP header. Variant 1 of GUE, in which an IP packet follows it directly, adds nothing else.
pub(crate) const UDP_LENGTH: u32 = 8;

/// Bytes that the mode puts before a packet's IP header.
#[inline(always)]
fn overhead(backend: BackendEntry<'_>) -> u32 {
    let ip = if backend.address().is_v4() { Ipv4::LENGTH } else { Ipv6::LENGTH };
    if backend.mode() == MODE_GUE { ip + UDP_LENGTH } else { ip }
}

/// Whether a packet can be encapsulated and sent on in one piece.
#[inline(always)]
pub(crate) fn fits<I: Ip, const GENERIC: bool>(
    ip: I,
    backend: BackendEntry<'_>,
    hop: &Hop,
) -> Result<(), Verdict> {
    let length = ip.packet_length();
    // GRO or TSO: the kernel would cut it without knowing of the outer header.
    if GENERIC && length > u32::from(hop.mtu) {
        return Err(Verdict::TooLong);
    }
    if backend.mtu() != 0 && length + overhead(backend) > u32::from(backend.mtu()) {
        return Err(Verdict::TooBigDropped);
    }
    Ok(())
}

/// Puts the outer headers before a packet.
#[inline(always)]
pub(crate) fn encapsulate<K: Kernel, I: Ip>(
    kernel: &K,
    ip: I,
    backend: BackendEntry<'_>,
    hop: &Hop,
    hash: u32,
) -> Result<Decision, Verdict> {
    let overhead = overhead(backend);
    let is_gue = backend.mode() == MODE_GUE;
    let outer = Outer {
        source: backend.source(),
        destination: backend.address(),
        protocol: if is_gue { UDP } else { I::CARRIED },
        traffic_class: ip.traffic_class(),
        length: ip.packet_length() + overhead,
    };
    let packet = kernel.grow(overhead.cast_signed()).ok_or(Verdict::Internal)?;
    // The room was made a line above: a frame without it is a fault.
    if backend.address().is_v4() {
        let header = packet.header::<34>().ok_or(Verdict::Internal)?;
        hop.address(header, Ipv4::ETHERTYPE);
        outer.write4(header);
        if is_gue {
            udp(packet, ETHERNET + Ipv4::LENGTH, outer.length - Ipv4::LENGTH, hash)?;
        }
    } else {
        let header = packet.header::<54>().ok_or(Verdict::Internal)?;
        hop.address(header, Ipv6::ETHERTYPE);
        outer.write6(header);
        if is_gue {
            udp(packet, ETHERNET + Ipv6::LENGTH, outer.length - Ipv6::LENGTH, hash)?;
        }
    }
    Ok(Decision { verdict: if is_gue { Verdict::Gue } else { Verdict::Ipip }, egress: hop.egress })
}

/// What the outer IP header says.
struct Outer {
    source: Address,
    destination: Address,
    protocol: u8,
    traffic_class: u8,
    /// Of the outer packet with its header.
    length: u32,
}

impl Outer {
    /// RFC 791; DF is set, so identification may be 0 (RFC 6864 section 4.1).
    #[inline(always)]
    fn write4(&self, header: Header<34>) {
        const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();
        // An IPv4 packet's length is from a 16-bit field and the outer packet at most 48 bytes longer: what does not
        // fit is beyond every MTU.
        let length = (self.length as u16).to_be();
        let first = u16::from_ne_bytes([0x45, self.traffic_class]);
        let life = u16::from_ne_bytes([HOPS, self.protocol]);
        let (source, destination) = (self.source.0[3].0, self.destination.0[3].0);
        let sum = u64::from(first)
            + u64::from(length)
            + u64::from(DONT_FRAGMENT)
            + u64::from(life)
            + u64::from(source)
            + u64::from(destination);
        header.write::<u16, 14>(first);
        header.write::<u16, 16>(length);
        header.write::<u16, 18>(0);
        header.write::<u16, 20>(DONT_FRAGMENT);
        header.write::<u16, 22>(life);
        header.write::<u16, 24>(checksum::finish(sum));
        header.write::<u32, 26>(source);
        header.write::<u32, 30>(destination);
    }

    /// RFC 8200, without a flow label.
    #[inline(always)]
    fn write6(&self, header: Header<54>) {
        header.write::<u32, 14>((0x6000_0000 | u32::from(self.traffic_class) << 20).to_be());
        header.write::<u16, 18>(((self.length - Ipv6::LENGTH) as u16).to_be());
        header.write::<u8, 20>(self.protocol);
        header.write::<u8, 21>(HOPS);
        let (source, destination) = (self.source.0, self.destination.0);
        header.write::<u32, 22>(source[0].0);
        header.write::<u32, 26>(source[1].0);
        header.write::<u32, 30>(source[2].0);
        header.write::<u32, 34>(source[3].0);
        header.write::<u32, 38>(destination[0].0);
        header.write::<u32, 42>(destination[1].0);
        header.write::<u32, 46>(destination[2].0);
        header.write::<u32, 50>(destination[3].0);
    }
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
