//! The flow hash: from a 5-tuple to a slot of a ring, the same on every node and every kernel.

use crate::{
    address::Address,
    keys::{Be16, FlowKey},
};

/// A flow (5-tuple), addresses and ports as they stand in the packet. Both addresses are of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Who sends.
    pub source: Address,
    /// The VIP.
    pub destination: Address,
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
    /// Each 64-bit part of the flow is multiplied by an odd constant of its own, so that no two flows that differ in one
    /// part only can fall together; the products don't wait for each other. What differs between clients stands low in its
    /// part: a product spreads upwards only, and two differences in the topmost byte alone would make 256 sums. The upper half
    /// of the sum is added to the lower one, where one more product spreads it over the bits that are taken. Everything else
    /// on the way to a slot waits for this, so it is no longer than it must be.
    #[inline(always)]
    pub const fn hash(&self) -> u32 {
        let addresses = if let (Some(source), Some(destination)) = (self.source.v4(), self.destination.v4()) {
            (source.0 as u64 | (destination.0 as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        } else {
            let (source, destination) = (halves(self.source), halves(self.destination));
            (source.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
                .wrapping_add(source.1.wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
                .wrapping_add(destination.0.wrapping_mul(0x1656_67b1_9e37_79f9))
                .wrapping_add(destination.1.wrapping_mul(0x27d4_eb2f_1656_67c5))
        };
        let ports =
            self.source_port.0 as u64 | (self.destination_port.0 as u64) << 16 | (self.protocol as u64) << 32;
        let h = mix(addresses.wrapping_add(ports.wrapping_mul(0x94d0_49bb_1331_11eb)));
        (h >> 32) as u32
    }

    /// The key of `FLOWS`.
    #[inline(always)]
    pub const fn key(&self) -> FlowKey {
        FlowKey {
            source: self.source,
            destination: self.destination,
            source_port: self.source_port,
            destination_port: self.destination_port,
            protocol: self.protocol,
            reserved: [0; 3],
        }
    }
}

#[inline(always)]
const fn halves(address: Address) -> (u64, u64) {
    let [a, b, c, d] = address.0;
    ((a.0 as u64) << 32 | b.0 as u64, (c.0 as u64) << 32 | d.0 as u64)
}

#[inline(always)]
const fn mix(mut h: u64) -> u64 {
    h ^= h >> 33;
    h.wrapping_mul(0xff51_afd7_ed55_8ccd)
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
    use crate::keys::Be32;

    fn flow(client: u32, port: u16) -> Flow {
        Flow {
            source: Be32::from_octets(client.to_be_bytes()).into(),
            destination: Be32::from_octets([172, 20, 128, 4]).into(),
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

    const HASH_OF_REFERENCE_FLOW: u32 = 0x1a0a_b8ff;

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
    fn slots_are_evenly_used_by_clients_that_differ_in_a_few_bits() {
        // 256 addresses that differ in one byte, each with 200 ports a step apart: 512 a slot expected, five sigma 113.
        for shift in [0, 8, 16, 24] {
            for step in [1, 2, 16, 128, 256] {
                let mut used = [0_u32; 100];
                for client in 0..256_u32 {
                    for port in 0..200_u16 {
                        let flow =
                            flow(0x0a00_0000 ^ client << shift, port.wrapping_mul(step).wrapping_add(1_024));
                        used[slot(flow.hash(), 100) as usize] += 1;
                    }
                }
                assert!(used.iter().all(|&n| (399..=625).contains(&n)), "{shift} {step}: {used:?}");
            }
        }
    }

    #[test]
    fn slots_are_evenly_used_by_ipv6_clients() {
        // Where clients differ: in the interface identifier, the prefix, the port.
        for differ in [15, 8, 7, 3] {
            let mut used = [0_u32; 100];
            for client in 0..50_000_u32 {
                let mut octets = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
                octets[differ] = client as u8;
                octets[differ - 1] = (client >> 8) as u8;
                let flow = Flow { source: Address::from_octets(octets), ..flow(0, 40_000) };
                used[slot(flow.hash(), 100) as usize] += 1;
            }
            assert!(used.iter().all(|&n| (388..=612).contains(&n)), "{differ}: {used:?}");
        }
    }

    #[test]
    fn slot_is_below_the_ring_size() {
        for size in [1, 2, 65_537, u32::MAX] {
            assert!(slot(u32::MAX, size) < size);
            assert_eq!(slot(0, size), 0);
        }
    }
}
