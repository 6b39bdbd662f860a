//! The control socket: `lb status` and its kin talk to the daemon here.
//!
//! One JSON object per line in, one per line out. The socket is a file of the runtime folder, for its owner
//! only.

mod client;
mod explain;
mod server;
mod status;
mod words;

use serde::{Deserialize, Serialize};

pub use client::{ClientError, request};
pub(crate) use explain::backend_name;
pub use explain::{
    ExplainRequest, ExplainedBackend, ExplainedHop, ExplainedPacket, ExplainedService, ExplainedSlot,
    ExplainedVip, Explanation,
};
pub use server::{Call, Server, ServerError};
pub use status::{
    BackendStatus, BfdStatus, GuardianStatus, InterfaceStatus, RouteStatus, RouterStatus, RuleStatus,
    ServiceStatus, Status, ThreadStatus, TrackerStatus, Traffic, VirtualMacStatus, WatchedStatus,
    WitnessStatus,
};

/// The file name of the socket in the runtime folder.
pub const SOCKET_NAME: &str = "lb.sock";

/// What can be asked of a daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Everything `lb status` shows.
    Status,
    /// Read the configuration file again and apply the difference.
    Reload,
    /// Where a packet would go, and why.
    Explain(ExplainRequest),
    /// Hand VIPs over to another node.
    Release {
        /// Those of this virtual router; `None`: all.
        router: Option<String>,
    },
    /// Take VIPs over from another node.
    Claim {
        /// Those of this virtual router.
        router: String,
    },
}

/// A daemon's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Explain`].
    Explanation(Box<Explanation>),
    /// The request was carried out.
    Done {
        /// What was done, for people.
        message: String,
    },
    /// The request was understood or not, and nothing was changed.
    Error {
        /// What is wrong and what to do about it.
        message: String,
    },
}
