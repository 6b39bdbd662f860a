//! Measuring `lb`; only with the feature `bench`. Everything here ends in a report, which `xtask` shows.

mod frames;
pub(crate) mod memory;
mod program;
mod rows;
mod world;

pub mod checks;
pub mod forward;
pub mod packet;
pub mod scale;

use crate::dataplane::DataplaneError;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The data plane, or one of its maps.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// The programs that measure.
    #[error("measuring programs: {what}: {source}")]
    Programs {
        /// What was attempted.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// This thread cannot be kept on its processor.
    #[error("processor {cpu}: {source}; --cpu names another")]
    Processor {
        /// Its number.
        cpu: usize,
        /// Why.
        #[source]
        source: nix::Error,
    },
    /// The plan is not one.
    #[error("the plan {path}: {source}; `cargo xtask bench forward` writes one")]
    Plan {
        /// Its file.
        path: std::path::PathBuf,
        /// What is wrong.
        #[source]
        source: std::io::Error,
    },
    /// What was asked for alone is not measured.
    #[error("no row's name contains `{text}` as given by --only; names are like `{example}`")]
    NoRow {
        /// The text.
        text: String,
        /// The name of a row.
        example: String,
    },
    /// A row did not do what it is there to measure.
    #[error("{row}: {found} instead of {expected}; the numbers would be of something else")]
    Wrong {
        /// Its name.
        row: String,
        /// What happened.
        found: String,
        /// What should have.
        expected: String,
    },
    /// The configuration could not be applied.
    #[error("the large configuration: {0}")]
    Scale(String),
    /// Standard output is closed, or /proc cannot be read.
    #[error("standard output or /proc: {0}")]
    Output(#[from] std::io::Error),
}

/// Makes an error of whatever `what` failed with.
fn failed<E>(what: &'static str) -> impl FnOnce(E) -> BenchError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| BenchError::Programs { what, source: source.into() }
}
