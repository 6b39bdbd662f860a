//! Threads that measure time are not to wait for others.

/// Gives the calling thread real-time scheduling, if this process may. Whoever calls it sleeps most of the time.
///
/// Where it is refused, what is measured includes the time that the thread waited for a processor.
pub(crate) fn hurry() {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: `priority` outlives the call; 0 means the calling thread.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const priority) };
}
