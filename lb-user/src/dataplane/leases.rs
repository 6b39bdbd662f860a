//! The leases: how long this node may answer for the VIPs of each virtual router.

use std::{
    fmt, io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use lb_common::{Lease, limits, names};

use super::{
    DataplaneError,
    mapped::Mapped,
    maps::{Words, failed},
};

/// Words of one lease.
const STRIDE: usize = size_of::<Lease>() / size_of::<u64>();

/// A handle on `LEASES`. Cheap to clone, and good on any thread: writing is two stores to memory that the XDP program
/// reads, no system call and no lock.
///
/// Each lease has one writer at a time.
#[derive(Clone)]
pub struct Leases(Arc<Memory>);

enum Memory {
    /// The map, by who loaded it.
    Kernel(Words),
    /// The map, by its descriptor.
    Shared(Mapped),
    /// No program reads it; for tests.
    Process(Box<[AtomicU64]>),
}

impl Leases {
    /// Maps `LEASES` by a descriptor, which may be closed afterwards: for another process than the one that loaded it.
    pub fn map(map: BorrowedFd<'_>) -> io::Result<Self> {
        let memory = Mapped::new(map, limits::LEASES, size_of::<Lease>())?;
        Ok(Self(Arc::new(Memory::Shared(memory))))
    }

    /// A descriptor of the map, for another process to map it by; fails where no program reads these leases.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        match &*self.0 {
            Memory::Kernel(words) => words.descriptor(),
            Memory::Shared(_) | Memory::Process(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Sets a lease's expiry (nanoseconds of CLOCK_MONOTONIC, `LEASE_BACKUP` or `LEASE_FOREVER`) in one store. What the
    /// program noted about the one before is void by a second.
    pub fn set(&self, lease: u32, expiry: u64) -> Result<(), DataplaneError> {
        let [to_expiry, to_owner_in] = self.lease(lease).ok_or_else(|| {
            failed(names::LEASES, "write", lease)(io::Error::other("there is no such lease"))
        })?;
        let Lease { expiry, owner_in } = Lease { expiry, owner_in: 0 };
        to_expiry.store(expiry, Ordering::Release);
        to_owner_in.store(owner_in, Ordering::Release);
        Ok(())
    }

    /// What a lease says; `None` if there is none of that number.
    pub fn expiry(&self, lease: u32) -> Option<u64> {
        self.lease(lease).map(|[expiry, _]| expiry.load(Ordering::Acquire))
    }

    /// Makes this node backup of everything.
    pub(super) fn clear(&self) {
        self.words().iter().for_each(|word| word.store(0, Ordering::Release));
    }

    fn lease(&self, lease: u32) -> Option<&[AtomicU64; STRIDE]> {
        let (leases, _) = self.words().as_chunks();
        leases.get(lease as usize)
    }

    fn words(&self) -> &[AtomicU64] {
        match &*self.0 {
            Memory::Kernel(words) => words.words(),
            Memory::Shared(memory) => memory.words(),
            Memory::Process(words) => words,
        }
    }
}

impl Default for Leases {
    /// Leases that no program reads.
    fn default() -> Self {
        let words = (0..limits::LEASES as usize * STRIDE).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Memory::Process(words)))
    }
}

impl From<Words> for Leases {
    fn from(words: Words) -> Self {
        Self(Arc::new(Memory::Kernel(words)))
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_write_the_same_memory_and_leases_do_not_overlap() {
        let leases = Leases::default();
        leases.clone().set(1, 7).expect("it exists");
        assert_eq!([0, 1, 2].map(|lease| leases.expiry(lease)), [Some(0), Some(7), Some(0)]);
        leases.set(limits::LEASES, 7).expect_err("there are fewer");
    }
}
