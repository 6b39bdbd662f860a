//! The leases: how long this node may answer for the VIPs of each virtual router.

use std::{
    io,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use lb_common::{Lease, limits};

use super::mapped::Mapped;

/// Words of an element.
const STRIDE: usize = size_of::<Lease>() / size_of::<u64>();

/// The leases, by number. Cheap to clone, and good on any thread: writing is two stores to memory that the XDP program
/// reads, no system call and no lock. Each lease has one writer at a time.
#[derive(Clone, Debug)]
pub struct Leases(Arc<Memory>);

#[derive(Debug)]
enum Memory {
    /// `LEASES` of a loaded program.
    Kernel(Mapped),
    /// No program reads it; for tests.
    Process(Box<[AtomicU64]>),
}

impl Leases {
    /// Maps `LEASES`. The descriptor may be closed afterwards.
    pub fn map(map: BorrowedFd<'_>) -> io::Result<Self> {
        let memory = Mapped::new(map, limits::LEASES, size_of::<Lease>())?;
        Ok(Self(Arc::new(Memory::Kernel(memory))))
    }

    /// When a lease ends: nanoseconds of CLOCK_MONOTONIC, `LEASE_BACKUP` or `LEASE_FOREVER`. `None`: there is no such
    /// lease.
    pub fn expiry(&self, lease: u32) -> Option<u64> {
        self.lease(lease).map(|[expiry, _]| expiry.load(Ordering::Acquire))
    }

    /// Sets when a lease ends, in one store; whether there is such a lease. By a second store what the program noted about
    /// the time before is void.
    #[must_use = "a lease that is not written leaves the VIP to the one before"]
    pub fn set(&self, lease: u32, expiry: u64) -> bool {
        let Some([to_expiry, to_owner_in]) = self.lease(lease) else { return false };
        let Lease { expiry, owner_in } = Lease { expiry, owner_in: 0 };
        to_expiry.store(expiry, Ordering::Release);
        to_owner_in.store(owner_in, Ordering::Release);
        true
    }

    fn lease(&self, lease: u32) -> Option<&[AtomicU64; STRIDE]> {
        let words = match &*self.0 {
            Memory::Kernel(mapped) => mapped.words(),
            Memory::Process(words) => words,
        };
        let (leases, _) = words.as_chunks();
        leases.get(lease as usize)
    }
}

impl Default for Leases {
    /// Leases that no program reads.
    fn default() -> Self {
        let words = (0..limits::LEASES as usize * STRIDE).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Memory::Process(words)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_write_the_same_memory_and_leases_do_not_overlap() {
        let leases = Leases::default();
        assert!(leases.clone().set(1, 7));
        assert_eq!([0, 1, 2].map(|lease| leases.expiry(lease)), [Some(0), Some(7), Some(0)]);
        assert!(!leases.set(limits::LEASES, 7), "there are fewer");
    }
}
