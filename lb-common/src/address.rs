//! Addresses of either family.

use crate::{keys::Be32, limits};

/// An IPv6 address, its bytes as they stand in the packet; an IPv4 address is v4-mapped (`::ffff:a.b.c.d`,
/// RFC 4291 section 2.5.5.2).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub [Be32; 4]);

impl Address {
    /// The third word of every v4-mapped address.
    const MAPPED: Be32 = Be32(0xffff_u32.to_be());

    /// An IPv4 address.
    #[inline(always)]
    pub const fn from_v4(address: Be32) -> Self {
        Self([Be32(0), Be32(0), Self::MAPPED, address])
    }

    /// From the bytes in the order of the packet, for instance `Ipv6Addr::octets`.
    #[inline(always)]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        Self([word(&octets, 0), word(&octets, 4), word(&octets, 8), word(&octets, 12)])
    }

    /// The bytes in the order of the packet.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        let mut at = 0;
        while at < 16 {
            octets[at] = self.0[at / 4].octets()[at % 4];
            at += 1;
        }
        octets
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.0[0].0 | self.0[1].0 == 0 && self.0[2].0 == Self::MAPPED.0
    }

    /// The bit of `VIP_FILTER` that says whether this may be a VIP.
    #[inline(always)]
    pub const fn filter_bit(self) -> u32 {
        // Of a v4-mapped address only the last word counts; a constant does no harm.
        let [a, b, c, d] = self.0;
        let folded = a.0 ^ b.0 ^ c.0 ^ Self::MAPPED.0 ^ d.0;
        folded.wrapping_mul(0x9e37_79b1) >> (32 - limits::FILTER_BITS.ilog2())
    }

    /// The IPv4 address it is, if it is one.
    #[inline(always)]
    pub const fn v4(self) -> Option<Be32> {
        if self.is_v4() { Some(self.0[3]) } else { None }
    }
}

#[inline(always)]
const fn word(octets: &[u8; 16], at: usize) -> Be32 {
    Be32::from_octets([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

impl From<Be32> for Address {
    #[inline(always)]
    fn from(address: Be32) -> Self {
        Self::from_v4(address)
    }
}

impl From<core::net::Ipv4Addr> for Address {
    fn from(address: core::net::Ipv4Addr) -> Self {
        Self::from_v4(Be32::from_octets(address.octets()))
    }
}

impl From<core::net::Ipv6Addr> for Address {
    fn from(address: core::net::Ipv6Addr) -> Self {
        Self::from_octets(address.octets())
    }
}

impl From<core::net::IpAddr> for Address {
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(address) => address.into(),
            core::net::IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<Address> for core::net::IpAddr {
    /// A v4-mapped address becomes the IPv4 address.
    fn from(address: Address) -> Self {
        core::net::Ipv6Addr::from(address.octets()).to_canonical()
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::Address;

    // SAFETY: sixteen bytes of integers without padding.
    unsafe impl aya::Pod for Address {}
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn ipv4_is_mapped() {
        let address = Address::from(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(address.octets(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
        assert_eq!(address.v4(), Some(Be32::from_octets([192, 0, 2, 1])));
        assert_eq!(IpAddr::from(address), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    }

    #[test]
    fn neighbouring_addresses_have_bits_of_their_own() {
        let bits = |addresses: &mut dyn Iterator<Item = Address>| {
            let bits: std::collections::BTreeSet<u32> = addresses.map(Address::filter_bit).collect();
            assert!(bits.iter().all(|&bit| bit < limits::FILTER_BITS));
            bits.len()
        };
        // 1,024 balls in 65,536 boxes: about 8 collisions expected of random ones.
        let v4 = (0..1_024_u32).map(|n| Be32::from_octets([10, 0, (n >> 8) as u8, n as u8]).into());
        assert!(bits(&mut v4.into_iter()) > 1_000);
        let v6 = (0..1_024).map(|n| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n).into());
        assert!(bits(&mut v6.into_iter()) > 1_000);
    }

    #[test]
    fn ipv6_is_itself() {
        for text in ["2001:db8::4", "::", "::1", "::fffe:192.0.2.1", "1::ffff:192.0.2.1"] {
            let ip: Ipv6Addr = text.parse().expect("an address");
            let address = Address::from(ip);
            assert_eq!(address.octets(), ip.octets());
            assert_eq!(address.v4(), None, "{text}");
            assert_eq!(IpAddr::from(address), IpAddr::V6(ip));
        }
    }
}
