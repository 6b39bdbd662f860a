//! What can go wrong in a command of xtask.

use std::{io, path::PathBuf};

use xtask_toolchain::{BuildError, Missing};

use crate::{lab::LabError, play::PlayError};

/// Every message is meant for the person at the terminal and names the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program does not start.
    #[error("{program} does not start: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program that was to do something failed.
    #[error("{what} failed ({status}): {command}\n{output}{remedy}")]
    Failed {
        /// For instance `installing nginx-light`.
        what: String,
        /// As the shell would say it.
        status: String,
        /// The command, as one would type it.
        command: String,
        /// The last lines it printed, empty where the user saw them.
        output: String,
        /// A sentence, or empty.
        remedy: String,
    },
    /// Things are missing that cannot be installed from here.
    #[error("{what}\n{}", .remedies.iter().map(|remedy| format!("  → {remedy}")).collect::<Vec<_>>().join("\n"))]
    Missing {
        /// What is missing, and why it could not be installed.
        what: String,
        /// Commands for the user.
        remedies: Vec<String>,
    },
    /// The toolchain of the XDP program is incomplete, and setup did not mend it.
    #[error(transparent)]
    Toolchain(#[from] Missing),
    /// A lab cannot be built or used.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The play failed.
    #[error(transparent)]
    Play(#[from] PlayError),
    /// The XDP program does not build.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A file or folder cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Cargo succeeded without saying where the program is.
    #[error("cargo named no executable for {0}; is it still a binary of the workspace?")]
    NoExecutable(&'static str),
}
