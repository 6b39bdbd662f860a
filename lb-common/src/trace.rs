//! What the program that explains writes down while it decides about a packet.

use crate::keys::Service;

/// The one value of `TRACE`. User space sets it to [`Trace::EMPTY`] before a run and reads it afterwards.
///
/// Backend identifiers are 0 where there is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The [`Verdict`](crate::Verdict) as a number; [`Trace::NO_VERDICT`] before there is one.
    pub verdict: u32,
    /// A combination of the `Trace::FOUND_*` flags: which of the fields below mean anything.
    pub found: u32,
    /// The service, with [`Trace::FOUND_SERVICE`].
    pub service: Service,
    /// Index into `LEASES`, with [`Trace::FOUND_LEASE`].
    pub lease: u32,
    /// The slot of the service's ring, with [`Trace::FOUND_SLOT`].
    pub slot: u32,
    /// What stands in that slot: the current backend, and whether it is unsettled.
    pub current: u32,
    /// The previous backend of an unsettled slot.
    pub previous: u32,
    /// The backend that `FLOWS` has for the flow; it is looked up for unsettled slots only.
    pub remembered: u32,
    /// The backend that the running program would write to `FLOWS` now.
    pub would_remember: u32,
    /// The backend that was looked up last.
    pub backend: u32,
    /// One of the `Trace::OUT_*` constants: where the packet leaves.
    pub out: u32,
    /// A slot of `INTERFACES`, the index of an interface or a rare stage, as `out` says.
    pub out_through: u32,
}

impl Trace {
    /// No verdict yet.
    pub const NO_VERDICT: u32 = u32::MAX;
    /// Before a run.
    pub const EMPTY: Self = Self {
        verdict: Self::NO_VERDICT,
        found: 0,
        service: Service { ring: 0, ring_size: 0, lease: 0, flags: 0, previous: 0, reserved: 0 },
        lease: 0,
        slot: 0,
        current: 0,
        previous: 0,
        remembered: 0,
        would_remember: 0,
        backend: 0,
        out: Self::OUT_NOWHERE,
        out_through: 0,
    };

    /// The packet is for a VIP.
    pub const FOUND_VIP: u32 = 1;
    /// It is for a service.
    pub const FOUND_SERVICE: u32 = 2;
    /// A lease was read.
    pub const FOUND_LEASE: u32 = 4;
    /// A slot was read.
    pub const FOUND_SLOT: u32 = 8;
    /// This node's sockets were asked, and one is an end of the flow.
    pub const FOUND_SOCKET: u32 = 16;
    /// This node's sockets were asked, and none is an end of the flow.
    pub const FOUND_NO_SOCKET: u32 = 32;

    /// It does not leave.
    pub const OUT_NOWHERE: u32 = 0;
    /// Through the interface it came in.
    pub const OUT_BACK: u32 = 1;
    /// Through an interface by its slot.
    pub const OUT_SLOT: u32 = 2;
    /// Through an interface by its index.
    pub const OUT_INTERFACE: u32 = 3;
    /// By way of this node's stack.
    pub const OUT_STACK: u32 = 4;
    /// It is not decided: a rare stage, by its number, would have taken the packet over.
    pub const OUT_STAGE: u32 = 5;
}

#[cfg(feature = "user")]
mod pod {
    use super::Trace;

    // SAFETY: `repr(C)` integers without padding; any bit pattern is valid.
    unsafe impl aya::Pod for Trace {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_has_no_padding() {
        assert_eq!(size_of::<Trace>(), 11 * size_of::<u32>() + size_of::<Service>());
    }
}
