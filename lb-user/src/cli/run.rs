//! `lb run`: the daemon.

use std::process::ExitCode;

use tracing::error;

use super::{RunArgs, exit};
use crate::{
    control::{self, RunError},
    logging,
};

/// Threads of the runtime: one for the control task, one for probes and scripts.
const THREADS: usize = 2;

/// `lb run`.
pub(super) fn run(args: &RunArgs) -> ExitCode {
    logging::start(args.json_log);
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                error!("cannot start: {error}");
                return ExitCode::from(exit::FAILURE);
            }
        };
    // A task of its own: the runtime's workers run it, not the thread that waits here.
    let config = args.config.clone();
    let outcome =
        runtime.block_on(async move { tokio::spawn(async move { control::run(&config).await }).await });
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => ExitCode::from(report(error)),
        Err(panic) => {
            error!("the control task ended unexpectedly: {panic}");
            ExitCode::from(exit::FAILURE)
        }
    }
}

fn report(error: RunError) -> u8 {
    match error {
        RunError::Config(errors) => {
            eprintln!("{:?}", miette::Report::new(errors.into_report()));
            exit::USAGE
        }
        RunError::Locked(error) => {
            error!("{error}");
            exit::ALREADY_RUNNING
        }
        error => {
            error!("{error}");
            if error.is_rights() { exit::RIGHTS } else { exit::FAILURE }
        }
    }
}
