//! Waiting on conditions, and the user's wish to stop.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::error::LabError;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

const PERIOD: Duration = Duration::from_millis(20);

/// Makes every wait of this process return [`LabError::Interrupted`].
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether [`interrupt`] was called.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Asks again and again until `condition` gives a value; `what` completes "waited in vain until …".
pub fn wait_until<T>(
    what: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T, LabError> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if interrupted() {
            return Err(LabError::Interrupted);
        }
        if start.elapsed() >= timeout {
            return Err(LabError::Timeout { what: what.to_owned(), after: timeout });
        }
        thread::sleep(PERIOD);
    }
}

/// Lets `duration` pass, unless the user wants to stop.
pub fn pause(duration: Duration) -> Result<(), LabError> {
    let start = Instant::now();
    while start.elapsed() < duration {
        if interrupted() {
            return Err(LabError::Interrupted);
        }
        thread::sleep(PERIOD.min(duration));
    }
    Ok(())
}
