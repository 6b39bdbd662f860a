//! Elements of maps by system calls of our own: many at once, or of maps whose type hides them.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::maps::MapData;

/// `BPF_MAP_UPDATE_ELEM`
const UPDATE_ONE: libc::c_long = 2;
/// `BPF_MAP_LOOKUP_BATCH`
pub(super) const LOOKUP: libc::c_long = 24;
/// `BPF_MAP_UPDATE_BATCH`
pub(super) const UPDATE: libc::c_long = 26;
/// `BPF_MAP_DELETE_BATCH`
pub(super) const DELETE: libc::c_long = 27;

/// The `batch` part of the kernel's `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
pub(super) struct Batch {
    pub(super) from: u64,
    pub(super) next: u64,
    pub(super) keys: u64,
    pub(super) values: u64,
    /// How many elements there are or may be; afterwards, how many were done.
    pub(super) count: u32,
    pub(super) map: u32,
    pub(super) element_flags: u64,
    pub(super) flags: u64,
}

impl Batch {
    /// Has the kernel do it.
    ///
    /// # Safety
    ///
    /// The addresses must be 0 or of what `command` reads and writes there.
    pub(super) unsafe fn run(&mut self, command: libc::c_long, map: &MapData) -> io::Result<()> {
        self.map = map.fd().as_fd().as_raw_fd().cast_unsigned();
        // SAFETY: the attribute is a live structure of the given size; its addresses are the caller's promise.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *self, size_of::<Self>()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Replaces one element, which kernels also do that know no batches for the kind of map (before 5.19: of maps).
pub(super) fn replace_one(map: &MapData, key: u32, value: i32) -> io::Result<()> {
    /// The `element` part of the kernel's `union bpf_attr`.
    #[repr(C)]
    struct Element {
        map: u32,
        reserved: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let element = Element {
        map: map.fd().as_fd().as_raw_fd().cast_unsigned(),
        reserved: 0,
        key: &raw const key as u64,
        value: &raw const value as u64,
        flags: 0,
    };
    // SAFETY: the attribute is a live structure of the given size; its addresses are of a key and a value of four bytes
    // each, which the callers' maps have and the kernel only reads.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, UPDATE_ONE, &raw const element, size_of::<Element>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
