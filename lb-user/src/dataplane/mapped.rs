//! The memory of BPF arrays, shared with the kernel: one store, and every packet after it sees the new value.

use std::{
    io,
    num::NonZeroUsize,
    os::fd::BorrowedFd,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU8, AtomicU64},
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A memory-mapped array map.
///
/// The kernel rounds the size of an element up to 8 bytes, so any such array is a run of 64-bit words.
#[derive(Debug)]
pub(super) struct Mapped {
    start: NonNull<u64>,
    words: usize,
}

impl Mapped {
    /// Maps `elements` elements of `element_size` bytes of a map created with `BPF_F_MMAPABLE`.
    pub(super) fn new(map: BorrowedFd<'_>, elements: u32, element_size: usize) -> io::Result<Self> {
        let words = elements as usize * element_size.div_ceil(size_of::<u64>());
        let bytes = NonZeroUsize::new(words * size_of::<u64>())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the map has no elements"))?;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no other memory.
        let start = unsafe {
            mmap(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, map, 0)?
        };
        Ok(Self { start: start.cast(), words })
    }

    /// The elements as words, those of element 0 first.
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, `words` long and lives as long as `self`; the kernel and other
        // processes write it too, which is what atomics are for.
        unsafe { slice::from_raw_parts(self.start.cast().as_ptr(), self.words) }
    }
}

impl Mapped {
    /// The same memory as bytes, in the order of memory.
    pub(super) fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: as in `words`.
        unsafe { slice::from_raw_parts(self.start.cast().as_ptr(), self.words * size_of::<u64>()) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this length and nobody can hold a borrow of it any more.
        let unmapped = unsafe { munmap(self.start.cast(), self.words * size_of::<u64>()) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

// SAFETY: the memory belongs to the process, not to a thread, and is only reached through atomics.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}
