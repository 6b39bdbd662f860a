//! A running script and everything it started.

use std::{
    io,
    os::fd::OwnedFd,
    process::{Child, ExitStatus},
    thread,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, killpg},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::unix::pipe,
};

/// A child that leads a session of its own. Dropping it kills the whole process group.
///
/// The group's number is the child's: it stays taken as long as the child has not been waited for, so
/// that a kill never hits strangers.
#[derive(Debug)]
pub(super) struct Process {
    child: Option<Child>,
    group: Pid,
    descriptors: Option<(OwnedFd, OwnedFd)>,
}

/// The ends of a process to wait on and to read from, inside a tokio runtime.
#[derive(Debug)]
pub(super) struct Ends {
    /// Readable when the process is over.
    pub(super) over: AsyncFd<OwnedFd>,
    /// What it prints.
    pub(super) output: pipe::Receiver,
}

impl Process {
    /// Takes charge of `child`, which a failed `pidfd` kills.
    pub(super) fn new(child: Child, pidfd: io::Result<OwnedFd>, output: OwnedFd) -> io::Result<Self> {
        // Invariant: process numbers are positive i32.
        let group = Pid::from_raw(child.id().cast_signed());
        let mut process = Self { child: Some(child), group, descriptors: None };
        process.descriptors = Some((pidfd?, output));
        Ok(process)
    }

    /// The ends, once. Must be called inside a tokio runtime.
    pub(super) fn ends(&mut self) -> io::Result<Ends> {
        let (pidfd, output) = self.descriptors.take().ok_or(io::ErrorKind::NotFound)?;
        // SAFETY: an `OwnedFd` names the same open file until it is dropped, and nothing else closes it.
        let over = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        Ok(Ends { over, output: pipe::Receiver::from_owned_fd(output)? })
    }

    /// Kills the process and everything in its group. Nothing happens to what has ended already.
    pub(super) fn kill(&self) {
        if self.child.is_some() {
            // Fails only if nothing of the group is left to be killed.
            let _ = killpg(self.group, Signal::SIGKILL);
        }
    }

    /// Kills what is left of the group after `ends` said that the process is over, and collects its exit
    /// status.
    pub(super) async fn collect(mut self, ends: &Ends) -> io::Result<ExitStatus> {
        ends.over().await?;
        self.kill();
        let Some(mut child) = self.child.take() else { return Err(io::ErrorKind::NotFound.into()) };
        let status = child.wait()?;
        // As process 1 of a container this daemon inherits the killed grandchildren and must bury them.
        while let Ok(state) = waitpid(self.children(), Some(WaitPidFlag::WNOHANG)) {
            if state == WaitStatus::StillAlive {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(status)
    }

    fn children(&self) -> Pid {
        Pid::from_raw(-self.group.as_raw())
    }
}

impl Ends {
    /// Waits until the process is over; it still has to be collected.
    pub(super) async fn over(&self) -> io::Result<()> {
        self.over.readable().await.map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let Some(mut child) = self.child.take() else { return };
        if !matches!(child.try_wait(), Ok(Some(_))) {
            let children = self.children();
            let bury = move || {
                let _ = child.wait();
                while waitpid(children, None).is_ok() {}
            };
            // Without the thread zombies are left until the daemon ends, which is next.
            let _ = thread::Builder::new().name("lb-track-bury".into()).spawn(bury);
        }
    }
}
