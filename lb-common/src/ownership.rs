//! The lease that makes a frozen owner silent (brief: fail-silent ownership).
//!
//! The control plane writes one [`Lease`] per virtual router; the XDP program compares it with the clock. No
//! system call and no lock is involved, so nothing that stops the control plane can prolong a lease.

/// The lease of a virtual router this node is backup of.
pub const LEASE_BACKUP: u64 = 0;
/// The lease of a VIP that no virtual router guards: this node always answers for it.
pub const LEASE_FOREVER: u64 = u64::MAX;

/// The value of `LEASES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// When it ends: nanoseconds of CLOCK_MONOTONIC, or [`LEASE_BACKUP`].
    pub expiry: u64,
    /// The tick (of the kernel's count) in which the program last found that it runs. User space writes 0 behind `expiry`.
    pub owner_in: u64,
}

/// What a lease says at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This node owns the VIP.
    Owner,
    /// This node knows that it does not own the VIP.
    Backup,
    /// This node owned the VIP and its control plane has not renewed the lease in time: it is frozen, starved
    /// or dead, and another node may be owner by now.
    Expired,
}

/// Reads a lease: `expiry` and `now` are nanoseconds of CLOCK_MONOTONIC.
#[inline(always)]
pub const fn ownership(expiry: u64, now: u64) -> Ownership {
    if now < expiry {
        Ownership::Owner
    } else if expiry == LEASE_BACKUP {
        Ownership::Backup
    } else {
        Ownership::Expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_ends_at_its_expiry() {
        assert_eq!(ownership(1_000, 999), Ownership::Owner);
        assert_eq!(ownership(1_000, 1_000), Ownership::Expired);
        assert_eq!(ownership(LEASE_BACKUP, 1_000), Ownership::Backup);
        assert_eq!(ownership(LEASE_FOREVER, u64::MAX - 1), Ownership::Owner);
    }
}
