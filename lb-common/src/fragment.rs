//! What is remembered of a packet that comes in pieces.

use crate::address::Address;

/// How long a packet's later pieces may follow the first, in nanoseconds: within what RFC 791 and RFC 8200 leave to
/// receivers (15 s and 60 s), and shorter than a backend's identifier rests before it means another.
pub const FRAGMENT_LIFETIME: u64 = 30_000_000_000;

/// [`FragmentState::kind`]: to a backend.
pub const FRAGMENT_TO_BACKEND: u32 = 1;
/// [`FragmentState::kind`]: to a VIP but to no service of it.
pub const FRAGMENT_TO_STACK: u32 = 2;
/// [`FragmentState::kind`]: a `nat` backend's reply.
pub const FRAGMENT_OF_REPLY: u32 = 3;

/// The key of `FRAGMENTS`: what all pieces of a packet have in common.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Who sends.
    pub source: Address,
    /// Whom it is for.
    pub destination: Address,
    /// The identification, as it stands in the packet.
    pub id: u32,
    /// The IP protocol number; 0 in IPv6, where the identification alone tells packets apart.
    pub protocol: u8,
    /// Always zero.
    pub reserved: [u8; 3],
}

/// The value of `FRAGMENTS`: what the first piece of a packet told.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentState {
    /// When it came: nanoseconds of CLOCK_MONOTONIC, up to a tick behind.
    pub since: u64,
    /// One of the `FRAGMENT_*` constants.
    pub kind: u32,
    /// The backend's identifier, if it goes to one.
    pub backend: u32,
    /// The hash of the flow.
    pub hash: u32,
    /// Always zero.
    pub reserved: u32,
    /// The VIP that a reply is to come from.
    pub address: Address,
}

#[cfg(feature = "user")]
mod pod {
    use super::{FragmentKey, FragmentState};

    // SAFETY: `repr(C)` with explicit padding fields, no pointers, any bit pattern is valid.
    unsafe impl aya::Pod for FragmentKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FragmentState {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_value_have_no_padding() {
        assert_eq!(size_of::<FragmentKey>(), 40);
        assert_eq!(size_of::<FragmentState>(), 40);
    }
}
