//! Where packets go.

use crate::{
    address::Address,
    device::Tag,
    keys::{Be16, Be32, Mac},
};

/// [`Backend::mode`]: the entry is not in use.
pub const MODE_NONE: u8 = 0;
/// [`Backend::mode`]: up this node's own stack.
pub const MODE_LOCAL: u8 = 1;
/// [`Backend::mode`]: L2 direct routing; only the Ethernet addresses (and the TTL) change.
pub const MODE_DR: u8 = 2;
/// [`Backend::mode`]: destination address and port are rewritten, replies pass this node.
pub const MODE_NAT: u8 = 3;
/// [`Backend::mode`]: the IP packet travels within another one (IP in IP, RFC 2003, 2473, 4213).
pub const MODE_IPIP: u8 = 4;
/// [`Backend::mode`]: the IP packet travels within a UDP datagram (Generic UDP Encapsulation, variant 1).
pub const MODE_GUE: u8 = 5;

/// The Ethernet next hop of a backend: its MAC address and the interface it is reached through, packed into
/// one word so that user space replaces both in one atomic store.
///
/// Bytes 0–5 in memory are the MAC, bytes 6–7 the interface slot (host order). Zero: not resolved.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NextHop(pub u64);

impl NextHop {
    /// Nobody knows the MAC yet.
    pub const UNRESOLVED: Self = Self(0);

    /// Packs a MAC address and an interface slot.
    #[inline(always)]
    pub const fn new(mac: Mac, slot: u16) -> Self {
        let (m, s) = (mac.0, slot.to_ne_bytes());
        Self(u64::from_ne_bytes([m[0], m[1], m[2], m[3], m[4], m[5], s[0], s[1]]))
    }

    /// The MAC address.
    #[inline(always)]
    pub const fn mac(self) -> Mac {
        let b = self.0.to_ne_bytes();
        Mac([b[0], b[1], b[2], b[3], b[4], b[5]])
    }

    /// The index into `INTERFACES` and `EGRESS`.
    #[inline(always)]
    pub const fn slot(self) -> u16 {
        let b = self.0.to_ne_bytes();
        u16::from_ne_bytes([b[6], b[7]])
    }
}

/// The value of `BACKENDS`. An identifier belongs to one backend of one service.
///
/// While anything can name the identifier only `next_hop` and `flags` may change, each by one store; anything else
/// is a new identifier.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Backend {
    /// The Ethernet next hop; unused by `local`.
    pub next_hop: NextHop,
    /// The backend's address: written into the packet by `nat`, the outer destination of `ipip` and `gue`.
    pub address: Address,
    /// The outer source of `ipip` and `gue`, of the same family as `address`.
    pub source: Address,
    /// The backend's port; written into the packet by `nat`.
    pub port: Be16,
    /// One of the `MODE_*` constants.
    pub mode: u8,
    /// A combination of the `Backend::*` flags.
    pub flags: u8,
    /// The longest IP packet on the way there, outer headers included, in bytes; 0: no limit.
    pub mtu: u16,
    /// Bytes of the outer headers, which say the family too: [`Backend::outer_length`]; 0 for modes without them. This and
    /// the next two follow from the others ([`Backend::complete`]).
    pub overhead: u16,
    /// The longest IP packet that fits into the outer headers on the way there, in bytes; `u32::MAX`: no limit.
    pub room: u32,
    /// [`outer_sum`] of an outer IPv4 header, else 0.
    pub outer_sum: u16,
    /// Always zero; fills a cache line.
    pub reserved: [u16; 5],
}

/// Hops that an outer header allows: those of packets that a node sends itself.
pub const OUTER_HOPS: u8 = 64;

/// The one's complement sum of all words of an outer IPv4 header that are the same for every packet: version and length,
/// "don't fragment", hops and addresses, without DSCP and ECN, length and protocol.
#[inline(always)]
pub const fn outer_sum(source: Be32, destination: Be32) -> u16 {
    let sum = u16::from_ne_bytes([0x45, 0]) as u64
        + 0x4000_u16.to_be() as u64
        + u16::from_ne_bytes([OUTER_HOPS, 0]) as u64
        + source.0 as u64
        + destination.0 as u64;
    // 35 bits at most, then 20, then 17.
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

impl Backend {
    /// The outer headers that its mode puts before a packet's IP header, in bytes: an IP header without options, for `gue` a
    /// UDP header too (variant 1 of GUE has none of its own).
    pub const fn outer_length(&self) -> u16 {
        let ip = if self.address.is_v4() { 20 } else { 40 };
        match self.mode {
            MODE_IPIP => ip,
            MODE_GUE => ip + 8,
            _ => 0,
        }
    }

    /// The same with what follows from the other fields filled in.
    #[must_use]
    pub const fn complete(self) -> Self {
        let overhead = self.outer_length();
        let room = match self.mtu {
            0 => u32::MAX,
            mtu => mtu.saturating_sub(overhead) as u32,
        };
        let outer_sum = match (overhead, self.source.v4(), self.address.v4()) {
            (0, ..) => 0,
            (_, Some(source), Some(destination)) => outer_sum(source, destination),
            _ => 0,
        };
        Self { overhead, room, outer_sum, ..self }
    }

    /// It failed: flows remembered for it are forgotten.
    pub const FAILED: u8 = 1;
}

/// The value of `BACKEND_COUNTERS`, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendCounters {
    /// Packets steered to the backend.
    pub packets: u64,
    /// Their bytes, Ethernet header included.
    pub bytes: u64,
    /// Those of them that open a TCP connection (SYN without ACK).
    pub connections: u64,
    /// Always zero; fills half a cache line.
    pub reserved: u64,
}

/// The value of `INTERFACES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interface {
    /// The kernel's index; 0 for a slot that is not in use.
    pub ifindex: u32,
    /// The interface's own address: the source of what leaves through it.
    pub mac: Mac,
    /// The longest IP packet it sends, in bytes; 65,535 also for anything longer.
    pub mtu: u16,
    /// The tag of what leaves through it, if it is a VLAN device; then `ifindex` is that of the device below.
    pub tag: Tag,
}

#[cfg(feature = "user")]
mod pod {
    use super::{Backend, BackendCounters, Interface};

    // SAFETY: `repr(C)` with explicit padding fields, no pointers, any bit pattern is valid.
    unsafe impl aya::Pod for Backend {}
    // SAFETY: as above.
    unsafe impl aya::Pod for BackendCounters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Interface {}
}
