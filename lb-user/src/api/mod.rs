//! The control socket: `lb status` and its kin talk to the daemon here.
//!
//! One JSON object per line in, one per line out. The socket is a file of the runtime folder, for its owner
//! only.

mod client;
mod server;
mod status;

use serde::{Deserialize, Serialize};

pub use client::{ClientError, request};
pub use server::{Call, Server, ServerError};
pub use status::{
    BackendStatus, InterfaceStatus, RouterStatus, ScriptStatus, ServiceStatus, Status, Traffic,
};

/// The file name of the socket in the runtime folder.
pub const SOCKET_NAME: &str = "lb.sock";

/// What can be asked of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Everything `lb status` shows.
    Status,
    /// Read the configuration file again and apply the difference.
    Reload,
}

/// A daemon's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
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
