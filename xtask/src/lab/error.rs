//! What can go wrong with a lab.

use std::{io, net::Ipv4Addr, path::PathBuf, process::ExitStatus, time::Duration};

/// An error of the lab, with the node, path or command it is about.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces need root.
    #[error("a lab is made of network namespaces and needs root: run the same command with sudo")]
    NotRoot,
    /// A lab's name becomes a folder's and part of messages.
    #[error("`{0}` is no name for a lab: 1 to 32 of a–z, 0–9 and `-`")]
    BadName(String),
    /// Another supervisor holds the name.
    #[error(
        "lab `{0}` is already up: `cargo xtask lab down --name {0}` removes it, another --name stands beside it"
    )]
    AlreadyUp(String),
    /// No supervisor holds the name.
    #[error("no lab `{0}` is up: `cargo xtask lab up --name {0}` brings it up")]
    NotUp(String),
    /// The lab has no node of that name.
    #[error("lab `{lab}` has no node `{node}`; it has {known}")]
    NoSuchNode {
        /// The lab.
        lab: String,
        /// The name asked for.
        node: String,
        /// The names there are.
        known: String,
    },
    /// The node has no daemon to start or ask.
    #[error("no daemon belongs to {node}")]
    NoDaemon {
        /// The node.
        node: String,
    },
    /// A file, socket or system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with its path or address.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// A configuration could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A program is missing or cannot be started.
    #[error("cannot start `{program}` on {node}: {source}{}", remedy(program, source))]
    Start {
        /// The program.
        program: String,
        /// Where.
        node: String,
        /// The cause.
        source: io::Error,
    },
    /// A command did not succeed.
    #[error("`{command}` on {node} ended with {status}: {output}")]
    Command {
        /// The command line.
        command: String,
        /// Where.
        node: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard error, or else to standard output.
        output: String,
    },
    /// The supervisor reported a failure or died.
    #[error("the lab did not come up: {0}")]
    Supervisor(String),
    /// A condition was not met in time.
    #[error("waited {} s in vain until {what}", after.as_secs_f32())]
    Timeout {
        /// The condition, as a clause.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// A daemon ended while it was waited for.
    #[error("lb on {node} ended by itself; the end of its log:\n{log}")]
    DaemonEnded {
        /// The node.
        node: String,
        /// The last lines it wrote.
        log: String,
    },
    /// An answer was not of the expected form.
    #[error("{what} is not as expected: {detail}")]
    Unexpected {
        /// Whose answer.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// An HTTP exchange failed.
    #[error("GET http://{address}:{port}{path}: {source}")]
    Http {
        /// Server.
        address: Ipv4Addr,
        /// Port.
        port: u16,
        /// Path.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl LabError {
    /// Wraps an I/O error with what was being done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }

    /// Wraps a system call's error with what was being done.
    pub(crate) fn sys(what: impl Into<String>) -> impl FnOnce(nix::Error) -> Self {
        move |errno| Self::Io { what: what.into(), source: errno.into() }
    }
}

fn remedy(program: &str, source: &io::Error) -> String {
    if source.kind() != io::ErrorKind::NotFound {
        return String::new();
    }
    let package = match program {
        "ip" => "iproute2",
        other => other,
    };
    format!(" (on Debian: apt-get install --no-install-recommends {package})")
}
