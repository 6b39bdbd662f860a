//! An owner that leaves on purpose: make before break.
//!
//! The farewell is said, and the node answers for the VIPs until it hears another's advert or a bound is passed. Its
//! lease is of another kind meanwhile: the backups no longer wait for it to end, so it is short, and renewed while
//! the node runs and hears nobody. A freeze during a hand-over lets two nodes answer for
//! [`timers::LEAVING_LEASE`] at most.

use std::time::Duration;

use super::{Action, BackupReason, Machine, Order, Owner, Reach, Role, backup::Heard};
use crate::{time::Timestamp, vrrp::timers};

#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    pub(super) lease: Timestamp,
    renew_at: Timestamp,
    bound: Timestamp,
    /// It leaves in order to stop.
    pub(super) stop: bool,
    /// It leaves because its sync group does.
    pub(super) group: bool,
}

/// How a hand-over ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// Another node answers for the VIPs now.
    Taken(Heard),
    /// Nobody came.
    Nobody,
    /// The node was frozen.
    Expired,
    /// The node cannot answer for the VIPs any longer.
    BrokenOff,
}

impl Machine {
    /// An owner says farewell and begins to hand over.
    pub(super) fn leave(&mut self, now: Timestamp, stop: bool, group: bool, actions: &mut Vec<Action>) {
        self.farewell(actions);
        let (version, interval) = (self.settings.version, self.settings.advert_interval);
        let mut bound = now + timers::leaving_bound(version, interval);
        if self.peers == Reach::Alive {
            // One that has listened too short to trust a farewell claims once it has heard nobody for long enough.
            bound = bound + timers::patience(interval);
        }
        let mut leaving = Leaving { lease: now, renew_at: now, bound, stop, group };
        leaving.renew(now, timers::leaving_lease(interval));
        self.role = Role::Leaving(leaving);
        actions.push(Action::HandOver);
    }

    pub(super) fn timeout_as_leaving(
        &mut self,
        now: Timestamp,
        mut leaving: Leaving,
        actions: &mut Vec<Action>,
    ) {
        if now >= leaving.bound {
            self.end_leaving(now, leaving, End::Nobody, actions);
        } else {
            leaving.renew(now, timers::leaving_lease(self.settings.advert_interval));
            self.role = Role::Leaving(leaving);
        }
    }

    pub(super) fn end_leaving(
        &mut self,
        now: Timestamp,
        leaving: Leaving,
        end: End,
        actions: &mut Vec<Action>,
    ) {
        let successor = if let End::Taken(heard) = end { Some(heard) } else { None };
        let obliged = leaving.stop || leaving.group || self.faulty;
        if matches!(end, End::Nobody) && !obliged {
            self.order = None;
            self.go_on(now, leaving, actions);
            return;
        }
        actions.push(Action::HandedOver { successor: successor.map(|heard| heard.source) });
        if leaving.stop {
            self.end(actions);
        } else if self.faulty {
            self.enter_fault(actions);
        } else {
            let reason = match end {
                End::Expired => BackupReason::LeaseExpired,
                _ if leaving.group => BackupReason::Group,
                _ => BackupReason::Released,
            };
            self.become_backup(now, reason, successor, actions);
        }
    }

    /// Goes on as owner, if nothing makes it leave any more.
    pub(super) fn go_on(&mut self, now: Timestamp, leaving: Leaving, actions: &mut Vec<Action>) {
        if leaving.stop || leaving.group || self.faulty || self.order == Some(Order::Release) {
            self.role = Role::Leaving(leaving);
            return;
        }
        self.role = Role::Owner(Owner::new(now, &self.settings, leaving.lease));
        actions.push(Action::SendAdvert { priority: self.priority(), not_after: self.capped(leaving.lease) });
        actions.push(Action::StayOwner);
    }
}

impl Leaving {
    pub(super) fn next_timeout(&self) -> Timestamp {
        self.renew_at.min(self.bound)
    }

    fn renew(&mut self, now: Timestamp, ahead: Duration) {
        self.lease = now + ahead;
        self.renew_at = now + ahead / 2;
    }
}
