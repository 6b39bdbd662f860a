//! What decides whether a node may own a VIP.

use std::time::Duration;

/// A command whose exit status tells whether this node may own a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackScript {
    /// The name virtual routers use.
    pub name: String,
    /// Program and arguments, run as written: no shell, no resolving of symbolic links.
    pub command: Vec<String>,
    /// Time from one start to the next. Default 1 s.
    pub interval: Duration,
    /// When to kill it and call it failed. Default: the interval.
    pub timeout: Duration,
    /// Successes in a row until it counts as up. Default 1.
    pub rise: u32,
    /// Failures in a row until it counts as down. Default 1.
    pub fall: u32,
    /// 0: a failure puts the virtual router in FAULT. Positive: added to the priority while up. Negative:
    /// added (so subtracted) while down. −253 to 253.
    pub weight: i32,
    /// Whom to run it as; `None`: the unprivileged default (`lb_script` if it exists, else `nobody`).
    pub user: Option<String>,
}
