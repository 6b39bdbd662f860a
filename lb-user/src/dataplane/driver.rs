//! What drives an interface, and whether native XDP works there.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// The index of an interface of this network namespace; `None` if there is none of that name.
pub(super) fn index(interface: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(interface).ok()
}

/// The name of an interface's driver, asked by ioctl because containers often hide sysfs. `None` for devices that
/// are no driver's, such as the loopback.
pub(super) fn name(interface: &str) -> io::Result<Option<String>> {
    const ETHTOOL_GDRVINFO: u32 = 3;
    const SIOCETHTOOL: libc::Ioctl = 0x8946;

    /// `struct ethtool_drvinfo` of linux/ethtool.h.
    #[repr(C)]
    struct DriverInfo {
        command: u32,
        driver: [u8; 32],
        unused: [u8; 160],
    }
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], unused: [0; 160] };

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
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    let socket: OwnedFd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: the request is initialised; its data points to a structure that has the size the command asks for and
    // outlives the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if answer < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::EOPNOTSUPP) { Ok(None) } else { Err(error) };
    }
    let length = info.driver.iter().position(|&byte| byte == 0).unwrap_or(info.driver.len());
    Ok(Some(String::from_utf8_lossy(&info.driver[..length]).into_owned()))
}

/// Why native mode, though the driver offers it, would lose packets; `None` where it is right.
pub(super) fn native_pitfall(driver: &str) -> Option<&'static str> {
    match driver {
        "veth" => Some("a veth loses what native mode sends back unless its peer has an XDP program too"),
        "tun" => Some("a tap device's reader may not take what native mode sends"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_no_driver() {
        assert_eq!(name("lo").expect("the loopback is always there"), None);
    }

    #[test]
    fn names_that_cannot_be() {
        assert!(index("no-such-interface-at-all").is_none());
        assert!(name("no-such-interface-at-all").is_err());
        assert!(name("nosuch0").is_err());
    }

    #[test]
    fn virtual_cables_are_pitfalls() {
        assert!(native_pitfall("veth").is_some());
        assert!(native_pitfall("mlx5_core").is_none());
    }
}
