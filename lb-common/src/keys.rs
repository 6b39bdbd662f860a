//! What a packet is looked up by, and what the look-ups find.

use crate::address::Address;

/// Sixteen bits exactly as they stand in a packet.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Be16(pub u16);

impl Be16 {
    /// From host order.
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// To host order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// Thirty-two bits exactly as they stand in a packet; usually an IPv4 address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Be32(pub u32);

impl Be32 {
    /// From the bytes in the order of the packet, for instance `Ipv4Addr::octets`.
    #[inline(always)]
    pub const fn from_octets(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }

    /// The bytes in the order of the packet.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

/// An Ethernet address, bytes in the order of the packet.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address as a map key: its bytes in memory order, then two zero bytes.
    #[inline(always)]
    pub const fn key(self) -> u64 {
        let b = self.0;
        u64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], 0, 0])
    }
}

impl core::fmt::Display for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// The key of `SERVICES`: what a client connects to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The VIP.
    pub address: Be32,
    /// The destination port.
    pub port: Be16,
    /// The IP protocol number: 6 (TCP) or 17 (UDP).
    pub protocol: u8,
    /// Always zero: the kernel compares every byte of a key.
    pub reserved: u8,
}

/// The key of `SERVICES6`. In user space also that of `SERVICES`, the address v4-mapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey6 {
    /// The VIP.
    pub address: Address,
    /// The destination port.
    pub port: Be16,
    /// The IP protocol number: 6 (TCP) or 17 (UDP).
    pub protocol: u8,
    /// Always zero: the kernel compares every byte of a key.
    pub reserved: u8,
}

impl ServiceKey6 {
    /// The key of `SERVICES`, if the address is an IPv4 one.
    pub fn v4(self) -> Option<ServiceKey> {
        let Self { address, port, protocol, reserved } = self;
        address.v4().map(|address| ServiceKey { address, port, protocol, reserved })
    }
}

impl From<ServiceKey> for ServiceKey6 {
    fn from(key: ServiceKey) -> Self {
        let ServiceKey { address, port, protocol, reserved } = key;
        Self { address: address.into(), port, protocol, reserved }
    }
}

/// The key of `SERVICE_RANGES` without the length of its prefix. The port comes last, so that a prefix of
/// [`RangeKey::prefix`] bits names a power of two of ports, or all.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RangeKey {
    /// The VIP, v4-mapped if it is an IPv4 one.
    pub address: Address,
    /// The IP protocol number: 6 (TCP) or 17 (UDP).
    pub protocol: u8,
    /// Always zero.
    pub reserved: u8,
    /// The first port; the bits behind the prefix are zero.
    pub port: Be16,
}

impl RangeKey {
    /// The length of the prefix, in bits, that compares `port_bits` (at most 16) bits of the port.
    #[inline(always)]
    pub const fn prefix(port_bits: u8) -> u32 {
        128 + 8 + 8 + port_bits as u32
    }
}

/// The key of `TUNNEL_SOURCES` without the length of its prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelSource {
    /// 4 or 6, so that no IPv6 network has IPv4 ones within.
    pub version: u32,
    /// An address, v4-mapped if it is an IPv4 one; in the map the bits behind the prefix are zero.
    pub address: Address,
}

impl TunnelSource {
    /// The length of the prefix, in bits, that compares all of it.
    pub const WHOLE: u32 = 32 + 128;

    /// Of an address.
    #[inline(always)]
    pub const fn new(address: Address) -> Self {
        Self { version: if address.is_v4() { 4 } else { 6 }, address }
    }

    /// The length of the prefix, in bits, that does not compare the last `host_bits` (at most 128) bits of the address.
    #[inline(always)]
    pub const fn prefix(host_bits: u8) -> u32 {
        Self::WHOLE - host_bits as u32
    }
}

/// The value of `SERVICES`, `SERVICES6` and `SERVICE_RANGES`.
///
/// `ring` and `ring_size` belong together: a ring index keeps its size as long as any service names it, so
/// that a packet never meets a ring of one size with the length of another.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Service {
    /// Index into `RINGS`.
    pub ring: u32,
    /// Slots in that ring; 0 means the service has no usable backend.
    pub ring_size: u32,
    /// Index into `LEASES`: the lease of the VIP.
    pub lease: u32,
    /// A combination of the `Service::*` flags.
    pub flags: u32,
    /// Index into `RINGS` of a ring of the same size: the previous backend of each unsettled slot.
    pub previous: u32,
    /// Always zero for now.
    pub reserved: u32,
}

impl Service {
    /// One of the backends is this node: packets that another director steered here are delivered, not
    /// steered again.
    pub const HAS_LOCAL: u32 = 1;
}

/// A slot of a ring: a backend identifier (0 = none), and whether flows of a previous backend may be left.
pub const UNSETTLED: u32 = 1 << 31;

/// An element of a ring's array: two neighbouring slots, because the kernel keeps nothing smaller than 8 bytes there.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotPair(pub u64);

impl SlotPair {
    /// From the slot with an even number and the next one.
    #[inline(always)]
    pub const fn new(even: u32, odd: u32) -> Self {
        Self(even as u64 | (odd as u64) << 32)
    }

    /// The one of the two that has this number.
    #[inline(always)]
    pub const fn slot(self, number: u32) -> u32 {
        (self.0 >> (32 * (number % 2))) as u32
    }
}

/// The backend identifier in a slot of a ring.
#[inline(always)]
pub const fn slot_backend(slot: u32) -> u32 {
    slot & !UNSETTLED
}

/// Whether a slot of a ring is unsettled.
#[inline(always)]
pub const fn slot_is_unsettled(slot: u32) -> bool {
    slot & UNSETTLED != 0
}

/// The value of `VIPS` and `VIPS6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vip {
    /// Index into `LEASES`.
    pub lease: u32,
    /// A combination of the `Vip::*` flags.
    pub flags: u32,
}

impl Vip {
    /// Some services of it are port ranges: `SERVICE_RANGES` is asked for what `SERVICES` does not know.
    pub const HAS_RANGES: u32 = 1;
    /// Its owner does not take what no service is for (Accept_Mode of RFC 9568 is false).
    pub const NOT_ACCEPTED: u32 = 2;
    /// This node has it as an address and would take what comes to it. For a moment after it ceased to be owner it does:
    /// clients hear of the new owner a little later than this node.
    pub const HELD: u32 = 4;
}

/// The key of `NAT_REPLIES`: the source of a reply.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NatReplyKey {
    /// The backend's address.
    pub address: Be32,
    /// The backend's port.
    pub port: Be16,
    /// The IP protocol number.
    pub protocol: u8,
    /// Always zero.
    pub reserved: u8,
}

/// The key of `NAT_REPLIES6`. In user space also that of `NAT_REPLIES`, the address v4-mapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NatReplyKey6 {
    /// The backend's address.
    pub address: Address,
    /// The backend's port.
    pub port: Be16,
    /// The IP protocol number.
    pub protocol: u8,
    /// Always zero.
    pub reserved: u8,
}

impl NatReplyKey6 {
    /// The key of `NAT_REPLIES`, if the address is an IPv4 one.
    pub fn v4(self) -> Option<NatReplyKey> {
        let Self { address, port, protocol, reserved } = self;
        address.v4().map(|address| NatReplyKey { address, port, protocol, reserved })
    }
}

impl From<NatReplyKey> for NatReplyKey6 {
    fn from(key: NatReplyKey) -> Self {
        let NatReplyKey { address, port, protocol, reserved } = key;
        Self { address: address.into(), port, protocol, reserved }
    }
}

/// The value of `NAT_REPLIES` and `NAT_REPLIES6`: what the reply's source becomes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NatReply {
    /// The VIP, of the backend's family.
    pub address: Address,
    /// The service's port.
    pub port: Be16,
    /// Always zero.
    pub reserved: u16,
    /// The backend identifier the reply is counted for.
    pub backend: u32,
}

/// The key of `FLOWS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
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
    /// Always zero.
    pub reserved: [u8; 3],
}

/// The value of `FLOWS`: the backend of a flow of an unsettled slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowState {
    /// The backend identifier.
    pub backend: u32,
    /// Always zero for now.
    pub reserved: u32,
    /// When its latest packet came: nanoseconds of CLOCK_MONOTONIC, up to a tick behind.
    pub last_seen: u64,
}

/// The one value of `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Entries in `NAT_REPLIES` and `NAT_REPLIES6`. While it is 0, traffic that is not for a VIP is spared the
    /// look-up there. It is raised after an entry is written and lowered before one goes.
    pub nat_replies: u32,
    /// Services with a local backend. While it is 0, nothing is decapsulated.
    pub local_services: u32,
    /// Raised after every change of `SERVICES`, `SERVICES6` and `SERVICE_RANGES`: what the program has kept of them for
    /// itself is out of date.
    pub services_version: u32,
}

#[cfg(feature = "user")]
mod pod {
    use super::{
        Be32, FlowKey, FlowState, NatReply, NatReplyKey, NatReplyKey6, RangeKey, Service, ServiceKey,
        ServiceKey6, Settings, TunnelSource, Vip,
    };

    // SAFETY: `repr(C)` with explicit padding fields, no pointers, any bit pattern is valid.
    unsafe impl aya::Pod for ServiceKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Service {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Settings {}
    // SAFETY: an integer.
    unsafe impl aya::Pod for Be32 {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Vip {}
    // SAFETY: as above.
    unsafe impl aya::Pod for NatReplyKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for NatReply {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ServiceKey6 {}
    // SAFETY: as above.
    unsafe impl aya::Pod for RangeKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for TunnelSource {}
    // SAFETY: as above.
    unsafe impl aya::Pod for NatReplyKey6 {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FlowState {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_have_no_padding() {
        assert_eq!(size_of::<ServiceKey>(), 8);
        assert_eq!(size_of::<ServiceKey6>(), 20);
        assert_eq!(size_of::<RangeKey>(), 20);
        assert_eq!(size_of::<NatReplyKey6>(), 20);
        assert_eq!(size_of::<FlowKey>(), 40);
        assert_eq!(size_of::<crate::Backend>(), 64);
        assert_eq!(size_of::<crate::Interface>(), 16);
    }

    #[test]
    fn pair_holds_two_slots() {
        let pair = SlotPair::new(7 | UNSETTLED, 9);
        assert_eq!((pair.slot(0), pair.slot(1)), (7 | UNSETTLED, 9));
        assert_eq!((pair.slot(4), pair.slot(5)), (7 | UNSETTLED, 9));
    }

    #[test]
    fn slot_holds_identifier_and_mark() {
        assert_eq!(slot_backend(7 | UNSETTLED), 7);
        assert!(slot_is_unsettled(7 | UNSETTLED));
        assert!(!slot_is_unsettled(7));
    }
}
