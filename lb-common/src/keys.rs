//! What a packet is looked up by, and what the look-ups find.

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

/// The value of `SERVICES`.
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
}

impl Service {
    /// One of the backends is this node: packets that another director steered here are delivered, not
    /// steered again.
    pub const HAS_LOCAL: u32 = 1;
}

/// The value of `VIPS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vip {
    /// Index into `LEASES`.
    pub lease: u32,
    /// Always zero for now.
    pub reserved: u32,
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

/// The value of `NAT_REPLIES`: what the reply's source becomes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NatReply {
    /// The VIP.
    pub address: Be32,
    /// The service's port.
    pub port: Be16,
    /// Always zero.
    pub reserved: u16,
    /// The backend identifier the reply is counted for.
    pub backend: u32,
}

/// The one value of `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Entries in `NAT_REPLIES`. While it is 0, traffic that is not for a VIP is spared the look-up there. It
    /// is raised after an entry is written and lowered before one goes.
    pub nat_replies: u32,
    /// Always zero for now.
    pub reserved: u32,
}

#[cfg(feature = "user")]
mod pod {
    use super::{Be32, NatReply, NatReplyKey, Service, ServiceKey, Settings, Vip};

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
}
