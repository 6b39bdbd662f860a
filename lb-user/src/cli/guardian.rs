//! `lb guardian`: the process that outlives a dead daemon.

use std::process::ExitCode;

use tracing::error;

use super::{GuardianArgs, exit};
use crate::{guardian, logging};

/// `lb guardian`.
pub(super) fn guardian(args: &GuardianArgs) -> ExitCode {
    logging::start(args.json_log);
    match guardian::run(args.daemon) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::from(exit::FAILURE)
        }
    }
}
