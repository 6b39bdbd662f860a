//! The XDP program that the bridge's ends of links need when the nodes' ends use native mode.
//!
//! veth delivers what a native program sends back (`XDP_TX`) only if the other end has a native program of its own: without
//! one nobody wakes the receiver. On a real cable there is no such thing, so this belongs to the lab and not to `lb`.

use std::{
    ffi::{CString, c_int, c_long},
    io,
    os::fd::{FromRawFd, OwnedFd},
};

const BPF_PROG_LOAD: c_int = 5;
const BPF_LINK_CREATE: c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 4;

/// The part of `union bpf_attr` that loading a program needs; the kernel takes the rest as zeros.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// The part that attaching needs.
#[repr(C)]
struct Link {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches a program that lets everything pass to `interface` of the calling thread's network namespace, in native mode,
/// for as long as the result is held.
pub(crate) fn attach(interface: &str) -> io::Result<OwnedFd> {
    // mov r0, XDP_PASS; exit
    let instructions: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
    let load = Load {
        kind: BPF_PROG_TYPE_XDP,
        instruction_count: 2,
        instructions: instructions.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: the attribute's pointers are to live data of the lengths it states.
    let program = unsafe { bpf(BPF_PROG_LOAD, &load) }?;
    let name = CString::new(interface)?;
    // SAFETY: `name` is a valid C string for the duration of the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    let link = Link {
        program: std::os::fd::AsRawFd::as_raw_fd(&program).cast_unsigned(),
        interface: index,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    // SAFETY: this attribute has no pointers.
    unsafe { bpf(BPF_LINK_CREATE, &link) }
}

/// bpf(2) for the commands that give a descriptor.
///
/// # Safety
/// `attribute` must be what `command` expects, and its pointers must be valid.
unsafe fn bpf<T>(command: c_int, attribute: &T) -> io::Result<OwnedFd> {
    let size = c_long::try_from(size_of::<T>()).unwrap_or(c_long::MAX);
    // SAFETY: the kernel reads `size` bytes of `attribute`; the caller vouches for what is in them.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attribute), size) };
    match c_int::try_from(fd) {
        // SAFETY: the kernel just made this descriptor for us (close-on-exec, as all of bpf's are).
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
