//! One timer, to the nanosecond: tokio's own count milliseconds, which is a tenth of the shortest advert interval.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd, RawFd},
    task::{Context, Poll, ready},
    time::Duration,
};

use nix::{
    sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
    unistd,
};
use tokio::io::unix::AsyncFd;

use crate::time::Timestamp;

/// What tokio asks for its descriptor.
#[derive(Debug)]
struct Registered(TimerFd);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A timer that is set anew each time.
#[derive(Debug)]
pub(super) struct Timer {
    timer: AsyncFd<Registered>,
    set_to: Option<Timestamp>,
}

impl Timer {
    /// A timer that is not set; within a tokio runtime.
    pub(super) fn new() -> io::Result<Self> {
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        // SAFETY: the descriptor is the timer's own, which stays open and the same as long as it lives.
        let timer = unsafe { AsyncFd::register(Registered(timer)) }?;
        Ok(Self { timer, set_to: None })
    }

    /// Sets it to a moment, or to none.
    pub(super) fn set(&mut self, to: Option<Timestamp>) -> io::Result<()> {
        if self.set_to == to {
            return Ok(());
        }
        match to {
            // Moment 0 would switch it off.
            Some(at) => self.timer.get_ref().0.set(
                Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(at.0.max(1)))),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            )?,
            None => self.timer.get_ref().0.unset()?,
        }
        self.set_to = to;
        Ok(())
    }

    /// Ready when the moment has come, once.
    pub(super) fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Ok(mut ready) = ready!(self.timer.poll_read_ready(context)) else { return Poll::Pending };
        let mut expirations = [0; 8];
        // It fails where the timer was set anew after it had expired, and that is the end of it as well.
        let _read = unistd::read(self.timer.get_ref().0.as_fd(), &mut expirations);
        ready.clear_ready();
        self.set_to = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn expires_at_its_moment_also_when_set_again_or_in_the_past() {
        let mut timer = Timer::new().unwrap();
        for ahead in [Duration::from_millis(3), Duration::ZERO, Duration::from_micros(300)] {
            let at = Timestamp::now() + ahead;
            timer.set(Some(at)).unwrap();
            poll_fn(|context| timer.poll_expired(context)).await;
            assert!(Timestamp::now() >= at);
        }
        timer.set(Some(Timestamp(0))).unwrap();
        poll_fn(|context| timer.poll_expired(context)).await;
        timer.set(None).unwrap();
    }
}
