//! Network cards that take VLAN tags off what they receive, and keep them beside the packet: an XDP program sees no tag
//! then, and what it sends back gets the one that is kept beside it.

use std::io;

use super::ethtool::ethtool;

/// `ETHTOOL_GFLAGS`
const READ_FLAGS: u32 = 0x25;
/// `ETHTOOL_SFLAGS`
const WRITE_FLAGS: u32 = 0x26;
/// `ETH_FLAG_RXVLAN`
const TAKES_TAGS_OFF: u32 = 1 << 8;

/// Why an interface goes on taking tags off.
#[derive(Debug, thiserror::Error)]
#[error(
    "{interface} takes VLAN tags off before XDP sees them, and that cannot be changed ({error}): frames of its VLANs are \
     treated as untagged (`ethtool -K {interface} rx-vlan-offload off`)"
)]
pub struct TagOffloadError {
    interface: String,
    #[source]
    error: io::Error,
}

/// An interface that has been told to leave tags on. Nothing happens when it is dropped: a daemon that dies leaves the
/// setting as its successor needs it; one that stops cleanly calls [`restore`](Self::restore).
#[must_use = "a clean stop puts the old setting back"]
#[derive(Debug, PartialEq, Eq)]
pub struct TagOffload {
    interface: String,
}

impl TagOffload {
    /// Makes an interface leave the tags on; `None`: it did so before.
    pub fn switch_off(interface: &str) -> Result<Option<Self>, TagOffloadError> {
        let failed = |error| TagOffloadError { interface: interface.to_owned(), error };
        let flags = read(interface).map_err(failed)?;
        if flags & TAKES_TAGS_OFF == 0 {
            return Ok(None);
        }
        write(interface, flags & !TAKES_TAGS_OFF).map_err(failed)?;
        if read(interface).map_err(failed)? & TAKES_TAGS_OFF != 0 {
            return Err(failed(io::Error::from(io::ErrorKind::Unsupported)));
        }
        Ok(Some(Self { interface: interface.to_owned() }))
    }

    /// Puts the old setting back.
    pub fn restore(self) -> Result<(), TagOffloadError> {
        let restored = read(&self.interface).and_then(|flags| write(&self.interface, flags | TAKES_TAGS_OFF));
        match restored {
            // It is gone.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            result => result.map_err(|error| TagOffloadError { interface: self.interface, error }),
        }
    }
}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

fn read(interface: &str) -> io::Result<u32> {
    let mut value = Value { command: READ_FLAGS, data: 0 };
    // SAFETY: the structure that belongs to the command.
    match unsafe { ethtool(interface, &mut value) } {
        Ok(()) => Ok(value.data),
        // No driver, and so nobody who takes anything off.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(0),
        Err(error) => Err(error),
    }
}

fn write(interface: &str, flags: u32) -> io::Result<()> {
    let mut value = Value { command: WRITE_FLAGS, data: flags };
    // SAFETY: as above.
    unsafe { ethtool(interface, &mut value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_that_leaves_tags_on_is_left_alone() {
        assert_eq!(TagOffload::switch_off("lo").expect("the loopback can be asked"), None);
    }

    #[test]
    fn error_names_the_interface_and_the_remedy() {
        let error = TagOffload::switch_off("nosuch0").expect_err("there is no such interface");
        assert!(error.to_string().contains("ethtool -K nosuch0"), "{error}");
    }
}
