//! What drives an interface, and whether native XDP works there.

use std::io;

use crate::net::ethtool;

/// The index of an interface of this network namespace; `None` if there is none of that name.
pub(super) fn index(interface: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(interface).ok()
}

/// The name of an interface's driver. `None` for devices that
/// are no driver's, such as the loopback.
pub(super) fn name(interface: &str) -> io::Result<Option<String>> {
    const ETHTOOL_GDRVINFO: u32 = 3;

    /// `struct ethtool_drvinfo` of linux/ethtool.h.
    #[repr(C)]
    struct DriverInfo {
        command: u32,
        driver: [u8; 32],
        unused: [u8; 160],
    }
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], unused: [0; 160] };

    // SAFETY: the structure that belongs to the command.
    match unsafe { ethtool(interface, &mut info) } {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(None),
        Err(error) => return Err(error),
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
