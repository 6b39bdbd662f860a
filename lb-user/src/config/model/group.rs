//! What belongs to virtual routers beside the protocol: groups, notification, witnesses.

use std::{net::IpAddr, time::Duration};

use super::Tracked;

/// Virtual routers that are owner or backup together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroup {
    /// The name in logs, status and notifications.
    pub name: String,
    /// The names of its virtual routers, two at least. A virtual router is in one group at most.
    pub routers: Vec<String>,
    /// What every one of them watches beside its own.
    pub tracking: Vec<Tracked>,
    /// Whom to tell when the group changes its state.
    pub notify: Notify,
}

/// Commands that are told of changes of state. Each is a program and its arguments; empty: none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Run when this node becomes owner.
    pub owner: Vec<String>,
    /// Run when it becomes backup.
    pub backup: Vec<String>,
    /// Run when it goes into fault.
    pub fault: Vec<String>,
    /// Run when the daemon stops.
    pub stop: Vec<String>,
    /// Run after the one for the state, with `INSTANCE` or `GROUP`, the name, keepalived's word for the state and the
    /// priority as further arguments.
    pub any: Vec<String>,
    /// Whom to run them as; `None`: as track scripts.
    pub user: Option<String>,
    /// When to kill one. Default 30 s.
    pub timeout: Duration,
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            owner: Vec::new(),
            backup: Vec::new(),
            fault: Vec::new(),
            stop: Vec::new(),
            any: Vec::new(),
            user: None,
            timeout: Duration::from_secs(30),
        }
    }
}

/// An address that answers as long as this node is connected to the rest of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// A neighbour on the virtual router's interface, usually the gateway.
    pub address: IpAddr,
    /// Time from one question to the next. Default 500 ms.
    pub interval: Duration,
    /// When a question counts as not answered; at most the interval. Default: the interval, at most 250 ms.
    pub timeout: Duration,
    /// Answers in a row until it counts as there. Default 1.
    pub rise: u32,
    /// Questions in a row without an answer until it counts as gone. Default 2.
    pub fall: u32,
}
