//! What the guardian does about the leases of a dead daemon, decided without a socket, a clock or a map.
//!
//! It is make before break, as for a daemon that stops: the farewell goes out, and this node goes on answering until it
//! hears who comes after it. Two things are different. The lease is written in small steps, so that a guardian that
//! is frozen or killed meanwhile costs no more than one step. And a lease that has run out is never begun anew:
//! somebody else may own the VIPs by then.

use std::time::Duration;

use lb_common::LEASE_BACKUP;

use crate::time::Timestamp;

/// How far ahead the lease is written.
pub(super) const STEP: Duration = Duration::from_millis(100);

/// How often it is, so that a guardian may be late by three quarters of a step.
const RENEWAL: Duration = Duration::from_millis(25);

/// What the daemon left of one virtual router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Legacy {
    /// What its lease said: nanoseconds of CLOCK_MONOTONIC, or [`LEASE_BACKUP`].
    pub(super) lease: u64,
    /// How long to wait for another owner.
    pub(super) patience: Duration,
}

/// Something the process must do. Virtual routers are named by their place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Write the lease.
    WriteLease {
        /// Whose.
        router: usize,
        /// Nanoseconds of CLOCK_MONOTONIC, or [`LEASE_BACKUP`].
        expiry: u64,
    },
    /// Send priority 0 to every peer; where one could not be told, say so by [`Handover::farewell_failed`].
    SayFarewell {
        /// Whose.
        router: usize,
    },
}

/// How it ended for a virtual router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This node was no owner.
    WasBackup,
    /// The lease was over, or ran out before it was renewed: somebody else may own the VIPs.
    LeaseOver,
    /// Another owner was heard.
    HandedOver,
    /// Nobody was heard for as long as this node would wait.
    NobodyCame,
}

/// The leases of all virtual routers on their way to nothing.
#[derive(Debug)]
pub(super) struct Handover {
    routers: Vec<Router>,
    renewal: Timestamp,
}

#[derive(Clone, Copy, Debug)]
enum Router {
    Leaving {
        /// When to give up.
        until: Timestamp,
        /// When the daemon's own lease would have ended.
        before: Timestamp,
        /// When the lease ends that was written last.
        lease: Timestamp,
    },
    Done(Outcome),
}

impl Handover {
    /// Begins, once the daemon is dead. The actions are to be done in their order.
    pub(super) fn begin(now: Timestamp, legacies: &[Legacy]) -> (Self, Vec<Action>) {
        let mut actions = Vec::new();
        let mut routers = Vec::with_capacity(legacies.len());
        for (router, legacy) in legacies.iter().enumerate() {
            let before = Timestamp(legacy.lease);
            routers.push(if legacy.lease == LEASE_BACKUP {
                Router::Done(Outcome::WasBackup)
            } else if before <= now {
                actions.push(Action::WriteLease { router, expiry: LEASE_BACKUP });
                Router::Done(Outcome::LeaseOver)
            } else {
                // Nobody was told yet: not past what the daemon had.
                let lease = before.min(now + STEP);
                actions.push(Action::WriteLease { router, expiry: lease.0 });
                actions.push(Action::SayFarewell { router });
                Router::Leaving { until: now + legacy.patience, before, lease }
            });
        }
        (Self { routers, renewal: now }, actions)
    }

    /// A peer could not be told: it will not claim before its patience ends, so this node must be silent when the
    /// daemon's lease would have ended.
    pub(super) fn farewell_failed(&mut self, router: usize) {
        if let Some(Router::Leaving { until, before, .. }) = self.routers.get_mut(router) {
            *until = (*until).min(*before);
        }
    }

    /// Another node says that it owns the VIPs.
    pub(super) fn heard(&mut self, router: usize) -> Option<Action> {
        let entry = self.routers.get_mut(router)?;
        if !matches!(entry, Router::Leaving { .. }) {
            return None;
        }
        *entry = Router::Done(Outcome::HandedOver);
        Some(Action::WriteLease { router, expiry: LEASE_BACKUP })
    }

    /// Renews what is due. `now` must have been read before, and packets that wait in the sockets after the call before
    /// this one: a guardian that was frozen writes what is over already.
    pub(super) fn timeout(&mut self, now: Timestamp) -> Vec<Action> {
        if now < self.renewal {
            return Vec::new();
        }
        self.renewal = now + RENEWAL;
        let mut actions = Vec::new();
        for (router, entry) in self.routers.iter_mut().enumerate() {
            let Router::Leaving { until, lease, .. } = entry else { continue };
            let expiry = if now >= *until {
                *entry = Router::Done(Outcome::NobodyCame);
                LEASE_BACKUP
            } else if now >= *lease {
                *entry = Router::Done(Outcome::LeaseOver);
                LEASE_BACKUP
            } else {
                *lease = (*until).min(now + STEP);
                lease.0
            };
            actions.push(Action::WriteLease { router, expiry });
        }
        actions
    }

    /// When to call [`Handover::timeout`] next; `None` when everything is over.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.routers.iter().any(|router| matches!(router, Router::Leaving { .. })).then_some(self.renewal)
    }

    /// How it ended for a virtual router; `None` while it has not.
    pub(super) fn outcome(&self, router: usize) -> Option<Outcome> {
        match self.routers.get(router)? {
            Router::Leaving { .. } => None,
            Router::Done(outcome) => Some(*outcome),
        }
    }
}

#[cfg(test)]
mod tests;
