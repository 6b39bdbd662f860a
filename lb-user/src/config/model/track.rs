//! What decides whether a node may own a VIP.

use std::{path::PathBuf, time::Duration};

/// What a virtual router watches, and what it means for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// What is watched.
    pub what: Tracker,
    /// What its state means.
    pub weight: Weight,
}

/// Something that is watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tracker {
    /// The [`TrackScript`] of that name.
    Script(String),
    /// The [`TrackProcess`] of that name.
    Process(String),
    /// The [`TrackFile`] of that name.
    File(String),
    /// The interface of that name: whether it is up.
    Interface(String),
    /// The health of a service.
    Service {
        /// The service's name.
        name: String,
        /// It is up while so many of its backends are.
        minimum: u32,
        /// Only backends that are this node itself count.
        local: bool,
    },
}

/// What the state of a tracker means for the priority.
///
/// 0: while it is down the virtual router is in fault. Positive: added to the priority while it is up. Negative: added
/// (so subtracted) while it is down. A file's value is multiplied by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// −254 to 254.
    pub value: i32,
    /// The other way round: what would be added is subtracted, and with 0 the fault is while the tracker is up.
    pub reverse: bool,
}

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
    /// Whether it counts as up or down before its first result; `None`: virtual routers wait for that.
    pub initially_up: Option<bool>,
    /// Whom to run it as; `None`: the unprivileged default (`lb_script` if it exists, else `nobody`).
    pub user: Option<String>,
}

/// Processes that must (or must not) run on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackProcess {
    /// The name virtual routers use.
    pub name: String,
    /// Which processes.
    pub command: ProcessMatch,
    /// It is up while at least so many run. Default 1.
    pub quorum: u32,
    /// And at most so many. Default: any number.
    pub quorum_max: u32,
    /// For how long there must be the right number until it counts as up. Default 0.
    pub fork_delay: Duration,
    /// For how long there must be the wrong number until it counts as down. Default 0.
    pub terminate_delay: Duration,
}

/// Which processes are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessMatch {
    /// Those with this name, of which the kernel keeps 15 bytes (`ps -o comm`).
    Name(String),
    /// Those that execute this file.
    Program(PathBuf),
    /// Those with exactly these arguments, the first of which is the program as it was called.
    Arguments(Vec<String>),
}

/// A file with a number in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackFile {
    /// The name virtual routers use.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// The value while there is no file, or no number in it. Default 0.
    pub initial: i64,
}
