//! What belongs to virtual routers beside the protocol: groups and notification.

use std::time::Duration;

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
