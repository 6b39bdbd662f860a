//! An IP header of this program's own, before a packet: of a tunnel, or of an answer.

use lb_common::{Address, Be32, OUTER_HOPS};

use crate::{
    checksum,
    ip::{Ip as _, Ipv6},
    packet::Header,
};

/// What the header says beside its addresses.
pub(crate) struct Outer {
    pub(crate) protocol: u8,
    pub(crate) traffic_class: u8,
    /// Of the packet with this header, in bytes.
    pub(crate) length: u32,
}

impl Outer {
    /// RFC 791; DF is set, so identification may be 0 (RFC 6864 section 4.1). `sum` is the [`outer_sum`](lb_common::outer_sum)
    /// of the addresses.
    #[inline(always)]
    pub(crate) fn write4(&self, header: Header<34>, (source, destination): (Be32, Be32), sum: u16) {
        const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();
        // A tunnel adds at most 48 bytes to what is from a 16-bit field: what does not fit is beyond every MTU.
        let length = (self.length as u16).to_be();
        let (class, protocol) = (u32::from(self.traffic_class) << 8, u32::from(self.protocol) << 8);
        header.write::<u16, 14>((0x45 | class) as u16);
        header.write::<u16, 16>(length);
        header.write::<u32, 18>(u32::from(DONT_FRAGMENT) << 16);
        header.write::<u16, 22>((u32::from(OUTER_HOPS) | protocol) as u16);
        header.write::<u16, 24>(!checksum::fold_few(u32::from(sum) + u32::from(length) + class + protocol));
        header.write::<u32, 26>(source.0);
        header.write::<u32, 30>(destination.0);
    }

    /// RFC 8200, without a flow label.
    #[inline(always)]
    pub(crate) fn write6(&self, header: Header<54>, (source, destination): (Address, Address)) {
        header.write::<u32, 14>((0x6000_0000 | u32::from(self.traffic_class) << 20).to_be());
        header.write::<u16, 18>(((self.length - Ipv6::LENGTH) as u16).to_be());
        header.write::<u8, 20>(self.protocol);
        header.write::<u8, 21>(OUTER_HOPS);
        let (source, destination) = (source.0, destination.0);
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
