//! What a driver tells and does by ioctl: containers often hide sysfs, and netlink has not all of it in old kernels.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Passes an ethtool structure to an interface's driver.
///
/// # Safety
///
/// `value` must be the structure of linux/ethtool.h that belongs to the command in its first field.
pub(crate) unsafe fn ethtool<T>(interface: &str, value: &mut T) -> io::Result<()> {
    const SIOCETHTOOL: libc::Ioctl = 0x8946;

    let name = CString::new(interface)?;
    let name = name.as_bytes_with_nul();
    // SAFETY: a C structure of integers, addresses and unions of them; all zeros is a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() > request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(value).cast();
    let socket: OwnedFd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: the request is initialised; its data points to a structure that has the size the command asks for, by the
    // caller's contract, and outlives the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
