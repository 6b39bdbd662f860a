//! The flow hash: from a 5-tuple to a slot of a ring, the same on every node and every kernel.

use crate::keys::{Be16, Be32};

/// A flow (5-tuple), addresses and ports as they stand in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Who sends.
    pub source: Be32,
    /// The VIP.
    pub destination: Be32,
    /// The sender's port.
    pub source_port: Be16,
    /// The service's port.
    pub destination_port: Be16,
    /// The IP protocol number.
    pub protocol: u8,
}

impl Flow {
    /// A 32-bit hash of the flow; all bits are equally good.
    ///
    /// Two rounds of multiply and xor-shift (the finaliser of MurmurHash3 with its 64-bit constants) over the
    /// two 64-bit halves: six instructions a round, which is less than one hash-map look-up costs.
    #[inline(always)]
    pub const fn hash(&self) -> u32 {
        let addresses = (self.source.0 as u64) << 32 | self.destination.0 as u64;
        let ports =
            (self.source_port.0 as u64) << 48 | (self.destination_port.0 as u64) << 32 | self.protocol as u64;
        let h = mix(mix(addresses) ^ ports);
        (h >> 32) as u32
    }
}

#[inline(always)]
const fn mix(mut h: u64) -> u64 {
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

/// The slot of a ring of `ring_size` slots that `hash` falls into: always below `ring_size`, without a
/// division.
#[inline(always)]
pub const fn slot(hash: u32, ring_size: u32) -> u32 {
    ((hash as u64 * ring_size as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(client: u32, port: u16) -> Flow {
        Flow {
            source: Be32::from_octets(client.to_be_bytes()),
            destination: Be32::from_octets([172, 20, 128, 4]),
            source_port: Be16::new(port),
            destination_port: Be16::new(80),
            protocol: 6,
        }
    }

    #[test]
    fn hash_is_part_of_the_contract() {
        // Two nodes of different builds must agree, so the value itself is fixed; it is given for
        // little-endian machines, the only ones the program runs on.
        assert_eq!(flow(0x0a00_0001, 40_000).hash(), HASH_OF_REFERENCE_FLOW);
    }

    const HASH_OF_REFERENCE_FLOW: u32 = 0x96c1_eb9e;

    #[test]
    fn slots_are_evenly_used() {
        // One client, 50,000 ports over 100 slots: 500 a slot expected; five sigma is about 112.
        let mut used = [0_u32; 100];
        for port in 10_000..60_000 {
            used[slot(flow(0x0a00_0001, port).hash(), 100) as usize] += 1;
        }
        assert!(used.iter().all(|&n| (388..=612).contains(&n)), "{used:?}");
    }

    #[test]
    fn slot_is_below_the_ring_size() {
        for size in [1, 2, 65_537, u32::MAX] {
            assert!(slot(u32::MAX, size) < size);
            assert_eq!(slot(0, size), 0);
        }
    }
}
