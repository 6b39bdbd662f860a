//! Settings of an interface under `/proc/sys/net/ipv4/conf`, and how they were before.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Why a setting could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// It could not be read.
    #[error("reading {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// What was read is no number.
    #[error("{} holds {text:?} instead of a number", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Its content.
        text: String,
    },
    /// It could not be changed.
    #[error("writing {value} to {}: {error} (it must be set from outside: `sysctl -w net.ipv4.conf.all.{key}={value}` on the host, or `--sysctl net.ipv4.conf.all.{key}={value}` when the container is started)", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The name of the setting.
        key: &'static str,
        /// The value wanted.
        value: u32,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
}

/// A setting of IPv4 interfaces, where the larger of `all` and the interface's own counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceSysctl {
    /// Which address ARP requests are sent from; 2: the best for the target, so never a VIP that this node
    /// only serves.
    ArpAnnounce,
    /// Whether deleting an address of a network leaves the other addresses of that network alone.
    PromoteSecondaries,
    /// Whether packets from others that carry an address of this node as their source are taken: `nat` replies
    /// that generic mode leaves to the stack.
    AcceptLocal,
    /// Which addresses ARP requests are answered for; 1: those of the interface the request came in by.
    ArpIgnore,
    /// Whether a packet's source must be reached by the interface it came in by; 1: it must, 2: by any.
    RpFilter,
}

impl InterfaceSysctl {
    /// The name of the setting.
    pub const fn key(self) -> &'static str {
        match self {
            Self::ArpAnnounce => "arp_announce",
            Self::PromoteSecondaries => "promote_secondaries",
            Self::AcceptLocal => "accept_local",
            Self::ArpIgnore => "arp_ignore",
            Self::RpFilter => "rp_filter",
        }
    }

    /// The value that counts: the larger of the interface's and `all`'s.
    pub fn effective(self, interface: &str) -> Result<u32, SysctlError> {
        self.effective_in(Path::new(ROOT), interface)
    }

    /// Makes the effective value at least `value`. The guard puts the old value back when asked to; `None`:
    /// nothing had to be changed.
    pub fn raise(self, interface: &str, value: u32) -> Result<Option<SysctlGuard>, SysctlError> {
        self.raise_in(Path::new(ROOT), interface, value)
    }

    fn effective_in(self, root: &Path, interface: &str) -> Result<u32, SysctlError> {
        Ok(read(&self.path(root, "all"))?.max(read(&self.path(root, interface))?))
    }

    fn raise_in(self, root: &Path, interface: &str, value: u32) -> Result<Option<SysctlGuard>, SysctlError> {
        if self.effective_in(root, interface)? >= value {
            return Ok(None);
        }
        let path = self.path(root, interface);
        let before = read(&path)?;
        write(&path, self.key(), value)?;
        Ok(Some(SysctlGuard { path, key: self.key(), before, written: value }))
    }

    fn path(self, root: &Path, interface: &str) -> PathBuf {
        root.join(interface).join(self.key())
    }
}

/// A changed setting. Nothing happens when it is dropped: a daemon that dies leaves the setting as its
/// successor needs it; one that stops cleanly calls [`restore`](Self::restore).
#[must_use = "a clean stop puts the old value back"]
#[derive(Debug, PartialEq, Eq)]
pub struct SysctlGuard {
    path: PathBuf,
    key: &'static str,
    before: u32,
    written: u32,
}

impl SysctlGuard {
    /// Puts the old value back, unless somebody has changed it meanwhile or the interface is gone.
    pub fn restore(self) -> Result<(), SysctlError> {
        match read(&self.path) {
            Ok(value) if value == self.written => write(&self.path, self.key, self.before),
            Ok(_) => Ok(()),
            Err(SysctlError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

const ROOT: &str = "/proc/sys/net/ipv4/conf";

fn read(path: &Path) -> Result<u32, SysctlError> {
    let text =
        fs::read_to_string(path).map_err(|error| SysctlError::Read { path: path.to_owned(), error })?;
    text.trim().parse().map_err(|_| SysctlError::Value { path: path.to_owned(), text: text.clone() })
}

pub(super) fn write(path: &Path, key: &'static str, value: u32) -> Result<(), SysctlError> {
    fs::write(path, format!("{value}\n")).map_err(|error| SysctlError::Write {
        path: path.to_owned(),
        key,
        value,
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: InterfaceSysctl = InterfaceSysctl::ArpAnnounce;

    /// A `/proc/sys/net/ipv4/conf` with these values of `arp_announce`.
    fn root(all: &str, interface: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (name, value) in [("all", all), ("eth0", interface)] {
            fs::create_dir(root.path().join(name)).expect("a folder");
            fs::write(root.path().join(name).join("arp_announce"), format!("{value}\n")).expect("written");
        }
        root
    }

    #[test]
    fn the_larger_of_all_and_the_interfaces_own_counts() {
        for (all, interface, effective) in [("0", "2", 2), ("2", "0", 2), ("1", "0", 1), ("0", "0", 0)] {
            let root = root(all, interface);
            assert_eq!(KEY.effective_in(root.path(), "eth0").expect("readable"), effective);
        }
    }

    #[test]
    fn what_is_high_enough_is_left_alone() {
        for (all, interface) in [("2", "0"), ("0", "2"), ("0", "3")] {
            let root = root(all, interface);
            assert_eq!(KEY.raise_in(root.path(), "eth0", 2).expect("readable"), None, "{all} {interface}");
        }
    }

    #[test]
    fn a_raised_value_is_put_back_unless_somebody_changed_it() {
        for (changed, expected) in [(None, 1), (Some("0"), 0)] {
            let root = root("0", "1");
            let guard = KEY.raise_in(root.path(), "eth0", 2).expect("writable").expect("changed");
            let path = KEY.path(root.path(), "eth0");
            assert_eq!(read(&path).expect("readable"), 2);
            if let Some(value) = changed {
                fs::write(&path, value).expect("written");
            }
            guard.restore().expect("restored");
            assert_eq!(read(&path).expect("readable"), expected);
        }
    }

    #[test]
    fn an_interface_that_is_gone_needs_no_restoring() {
        let root = root("0", "0");
        let guard = KEY.raise_in(root.path(), "eth0", 2).expect("writable").expect("changed");
        fs::remove_dir_all(root.path().join("eth0")).expect("removed");
        guard.restore().expect("nothing to do");
    }

    #[test]
    fn errors_name_the_file_and_the_remedy() {
        let root = root("0", "many");
        let error = KEY.effective_in(root.path(), "eth0").expect_err("no number");
        assert!(
            error.to_string().contains("eth0/arp_announce") && error.to_string().contains("many"),
            "{error}"
        );
        let error = KEY.effective_in(root.path(), "eth7").expect_err("no file");
        assert!(error.to_string().contains("eth7/arp_announce"), "{error}");
        // Like a read-only /proc: a folder cannot be written, whoever tries.
        let error = write(root.path(), KEY.key(), 2).expect_err("a folder");
        assert!(error.to_string().contains("--sysctl net.ipv4.conf.all.arp_announce=2"), "{error}");
    }
}
