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
}

impl InterfaceSysctl {
    /// The name of the setting.
    pub const fn key(self) -> &'static str {
        match self {
            Self::ArpAnnounce => "arp_announce",
            Self::PromoteSecondaries => "promote_secondaries",
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

fn write(path: &Path, key: &'static str, value: u32) -> Result<(), SysctlError> {
    fs::write(path, format!("{value}\n")).map_err(|error| SysctlError::Write {
        path: path.to_owned(),
        key,
        value,
        error,
    })
}
