//! Ctrl-C, without dying of it.

use std::thread;

use nix::sys::signal::{SigSet, Signal};

use crate::lab::LabError;

/// Calls `act` when the user wants this process to end, instead of ending it. Must be called before other threads are
/// started, which take over what is blocked.
pub(crate) fn on_stop(act: impl Fn() + Send + 'static) -> Result<(), LabError> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().map_err(LabError::sys("blocking signals"))?;
    thread::spawn(move || {
        while signals.wait().is_ok() {
            act();
        }
    });
    Ok(())
}
