//! What a process does to outlive another and to be fast on the day it is needed.

use std::{fs, io};

use nix::{
    sys::{
        mman::{MlockAllFlags, mlockall},
        prctl,
        signal::{SigHandler, Signal, signal},
    },
    unistd::setsid,
};
use tracing::debug;

/// The name `ps` and `top` show.
const NAME: &std::ffi::CStr = c"lb-guardian";
/// Out of reach of the OOM killer while there is anything else; −1000 would be for ever.
const OOM_SCORE: &str = "-900";
/// Any real-time priority is before all ordinary processes; it is asleep until it is needed.
const REAL_TIME_PRIORITY: i32 = 20;
/// What ends a daemon must not end its guardian: a terminal's Ctrl-C, or a service manager that takes down what a killed
/// daemon has left. It ends by itself, soon.
const IGNORED: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// Does all that the process has the rights for. What fails is told, and the guardian is the slower or the less safe for
/// it, no more.
pub(super) fn prepare() {
    for ignored in IGNORED {
        // SAFETY: no handler is installed, so no code runs in a signal's context.
        told("ignoring a signal", unsafe { signal(ignored, SigHandler::SigIgn) });
    }
    told("a session of its own", setsid());
    told("its name", prctl::set_name(NAME));
    told("oom_score_adj", fs::write("/proc/self/oom_score_adj", OOM_SCORE));
    told("real-time scheduling", real_time());
    // Not what is only mapped: of the executable the guardian needs a small part.
    let all = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE;
    told("locked memory", mlockall(all | MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT)));
}

fn real_time() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: REAL_TIME_PRIORITY };
    // SAFETY: the parameters are read during the call only; 0 is the calling thread, the only one.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn told<T, E: std::fmt::Display>(what: &'static str, result: Result<T, E>) {
    if let Err(error) = result {
        debug!("the guardian goes without {what}: {error}");
    }
}
