//! What a translation must know of the node that the configuration is for.

use std::{fs, net::IpAddr};

use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage, unistd::User};

/// The node as keepalived would find it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What lines that begin with `@` are for: the host's name.
    pub id: String,
    /// Whether there is a user `keepalived_script`, whom keepalived runs scripts as if it is not told otherwise.
    pub has_script_user: bool,
    /// The addresses of interfaces.
    pub addresses: Vec<(String, IpAddr)>,
}

impl Facts {
    /// keepalived's name for the user of scripts.
    pub(super) const SCRIPT_USER: &str = "keepalived_script";

    /// Asks this node. What it does not say is left out.
    pub fn of_this_node() -> Self {
        let id = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let address = |storage: SockaddrStorage| match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
            (Some(four), _) => Some(IpAddr::from(four.ip())),
            (None, Some(six)) => Some(IpAddr::from(six.ip())),
            (None, None) => None,
        };
        let addresses = getifaddrs()
            .into_iter()
            .flatten()
            .filter_map(|interface| Some((interface.interface_name, address(interface.address?)?)));
        Self {
            id,
            has_script_user: User::from_name(Self::SCRIPT_USER).is_ok_and(|user| user.is_some()),
            addresses: addresses.collect(),
        }
    }

    /// Whom keepalived runs scripts as if it is not told.
    pub(super) fn script_user(&self) -> &'static str {
        if self.has_script_user { Self::SCRIPT_USER } else { "root" }
    }
}
