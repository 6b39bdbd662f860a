//! A hash of a backend's identity that is the same on every platform and in every version of `lb`: rings
//! depend on it.

use std::net::IpAddr;

/// FNV-1a (64 bits) over the address (16 bytes, IPv4 as IPv4-mapped IPv6), the port (2 bytes, network order)
/// and `salt`, finished with MurmurHash3's `fmix64`, because FNV alone leaves the high bits of short inputs
/// alike.
///
/// Not for untrusted input: whoever may choose the addresses can make them collide.
pub fn stable_hash(address: IpAddr, port: u16, salt: u8) -> u64 {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let bytes = octets.into_iter().chain(port.to_be_bytes()).chain([salt]);
    let fnv = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv)
}

/// MurmurHash3's `fmix64`: a bijection in which every input bit reaches every output bit.
pub(super) fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fmix64_has_its_published_values() {
        assert_eq!(mix(0), 0);
        assert_eq!(mix(1), 0xb456_bcfc_34c2_cb2c);
    }

    #[test]
    fn an_ipv4_address_hashes_as_its_mapped_form() {
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        let v6: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(stable_hash(v4, 80, 6), stable_hash(v6, 80, 6));
        assert_ne!(stable_hash(v4, 80, 6), stable_hash(v4, 80, 17));
        assert_ne!(stable_hash(v4, 80, 6), stable_hash(v4, 81, 6));
    }
}
