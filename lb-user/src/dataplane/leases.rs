//! `LEASES` for those who write nothing else: one mapping each, whatever else holds the map.

use std::{io, os::fd::BorrowedFd, sync::atomic::Ordering};

use lb_common::{Lease, limits};

use super::mapped::Mapped;

/// Words of an element.
const STRIDE: usize = size_of::<Lease>() / size_of::<u64>();

/// The leases of a loaded program, by lease number.
#[derive(Debug)]
pub struct Leases {
    memory: Mapped,
}

impl Leases {
    /// Maps `LEASES`. The descriptor may be closed afterwards.
    pub fn map(map: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { memory: Mapped::new(map, limits::LEASES, size_of::<Lease>())? })
    }

    /// When a lease ends: nanoseconds of CLOCK_MONOTONIC, `LEASE_BACKUP` or `LEASE_FOREVER`. `None`: there is no such
    /// lease.
    pub fn expiry(&self, lease: u32) -> Option<u64> {
        let word = self.memory.words().get(lease as usize * STRIDE)?;
        Some(word.load(Ordering::Acquire))
    }

    /// Sets when a lease ends, in one store; whether there is such a lease.
    pub fn set(&self, lease: u32, expiry: u64) -> bool {
        let start = lease as usize * STRIDE;
        let Some([first, second]) = self.memory.words().get(start..start + STRIDE) else { return false };
        let Lease { expiry, owner_in } = Lease { expiry, owner_in: 0 };
        first.store(expiry, Ordering::Release);
        second.store(owner_in, Ordering::Release);
        true
    }
}
