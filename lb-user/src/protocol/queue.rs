//! A queue between the protocol thread and a task, in either direction.
//!
//! tokio's own channels would wake the other side through its scheduler, whose lock an ordinary thread may hold when it
//! is preempted. Here the sender touches a lock-free list and an eventfd, and never waits.

use std::{
    future::poll_fn,
    io,
    sync::{
        Arc,
        mpsc::{self, TryRecvError},
    },
    task::{Context, Poll, ready},
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::io::unix::AsyncFd;

/// A queue without bounds: the sender must be one that says little.
pub(super) fn queue<T>() -> io::Result<(Sender<T>, Mailbox<T>)> {
    let (sender, receiver) = mpsc::channel();
    let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
    Ok((Sender { queue: Some(sender), bell: bell.clone() }, Mailbox { queue: receiver, bell }))
}

/// The end that sends.
#[derive(Debug)]
pub(super) struct Sender<T> {
    /// There until it is dropped.
    queue: Option<mpsc::Sender<T>>,
    bell: Arc<EventFd>,
}

impl<T> Sender<T> {
    /// Sends, unless nobody will receive any more.
    pub(super) fn send(&self, message: T) {
        if let Some(queue) = &self.queue
            && queue.send(message).is_ok()
        {
            self.ring();
        }
    }

    fn ring(&self) {
        // It fails where the bell has been rung 2⁶⁴ times unheard.
        let _rung = self.bell.write(1);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // The bell last: whoever hears it finds the queue closed.
        self.queue = None;
        self.ring();
    }
}

/// The end that receives, before it belongs to a runtime.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    queue: mpsc::Receiver<T>,
    bell: Arc<EventFd>,
}

impl<T> Mailbox<T> {
    /// Receives from now on, within the tokio runtime it is called in.
    pub(super) fn open(self) -> io::Result<Receiver<T>> {
        // SAFETY: the descriptor is the eventfd's own, which stays open and the same as long as it lives.
        let bell = unsafe { AsyncFd::register(self.bell) }?;
        Ok(Receiver { queue: self.queue, bell })
    }
}

/// The end that receives.
#[derive(Debug)]
pub(super) struct Receiver<T> {
    queue: mpsc::Receiver<T>,
    bell: AsyncFd<Arc<EventFd>>,
}

impl<T> Receiver<T> {
    /// What has been sent, if anything.
    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        self.queue.try_recv()
    }

    /// Waits for a message; `None` when there is no sender any more. Cancel safe.
    pub(super) async fn recv(&mut self) -> Option<T> {
        poll_fn(|context| {
            loop {
                match self.try_recv() {
                    Ok(message) => return Poll::Ready(Some(message)),
                    Err(TryRecvError::Disconnected) => return Poll::Ready(None),
                    Err(TryRecvError::Empty) => ready!(self.poll_rung(context)),
                }
            }
        })
        .await
    }

    /// Ready once after each message, or several, and when the sender is gone.
    pub(super) fn poll_rung(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // Readiness is lost only with the runtime, and then nobody polls.
        let Ok(mut ready) = ready!(self.bell.poll_read_ready(context)) else { return Poll::Pending };
        let _rung = self.bell.get_ref().read();
        ready.clear_ready();
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn what_was_sent_arrives_in_order_and_then_the_end() {
        let (sender, mailbox) = queue().unwrap();
        let mut receiver = mailbox.open().unwrap();
        let sending = thread::spawn(move || (0..1_000).for_each(|number| sender.send(number)));
        for number in 0..1_000 {
            assert_eq!(receiver.recv().await, Some(number));
        }
        assert_eq!(receiver.recv().await, None);
        sending.join().unwrap();
    }

    #[test]
    fn sending_to_nobody_is_no_error() {
        let (sender, mailbox) = queue().unwrap();
        drop(mailbox);
        sender.send(1);
    }
}
