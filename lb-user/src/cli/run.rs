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
    end_with_a_panic();
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                error!("cannot start: {error}");
                return ExitCode::from(exit::FAILURE);
            }
        };
    // A task of its own: the runtime's workers run it, not the thread that waits here.
    let (config, json_log) = (args.config.clone(), args.json_log);
    let run = async move { control::run(&config, json_log).await };
    let outcome = runtime.block_on(async move { tokio::spawn(run).await });
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => ExitCode::from(report(error)),
        // Not by a panic, which ends the process.
        Err(cancelled) => {
            error!("the control task ended unexpectedly: {cancelled}");
            ExitCode::from(exit::FAILURE)
        }
    }
}

/// Has a panic in any thread or task end the process, at once. Without one of its parts a daemon would limp on, as owner
/// perhaps; dead, it is replaced: by its guardian in a moment, by the service manager in a while.
fn end_with_a_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        // SAFETY: the call only ends the process. Not `abort`: the descriptors of a process stay open while its core is
        // dumped, and until then nobody knows that it is dead.
        unsafe { libc::_exit(i32::from(exit::PANIC)) }
    }));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// In the process that is to end.
    const HERE: &str = "LB_TEST_PANIC";

    #[test]
    fn panic_of_a_task_ends_the_process() {
        if std::env::var_os(HERE).is_some() {
            end_with_a_panic();
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let _panic = runtime.block_on(async { tokio::spawn(async { panic!("on purpose") }).await });
            return;
        }
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "cli::run::tests::panic_of_a_task_ends_the_process"]).env(HERE, "1");
        let output = again.output().unwrap();
        assert_eq!(output.status.code(), Some(i32::from(exit::PANIC)), "{output:?}");
    }
}
