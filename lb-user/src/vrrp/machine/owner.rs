//! An owner: its rhythm, its lease, and how it meets others who claim what it owns.

use super::{Action, BackupReason, Machine, Order, Role, backup::Heard};
use crate::{
    time::Timestamp,
    vrrp::{Settings, timers},
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) lease: Timestamp,
    /// Sendings confirmed before this moment belong to an earlier ownership.
    pub(super) since: Timestamp,
    next_advert: Timestamp,
    /// Not before this moment is another advert sent out of turn.
    next_answer: Timestamp,
    /// The same for the answer to a farewell: who yields says it right after what was answered.
    next_farewell_answer: Timestamp,
    /// When gratuitous ARP may be repeated again.
    next_announcement: Timestamp,
    /// A conflict asks for it.
    announce: bool,
    /// When gratuitous ARP is repeated in any case.
    next_refresh: Option<Timestamp>,
}

impl Machine {
    /// The claim, decided at `since`, is out.
    pub(super) fn become_owner(
        &mut self,
        now: Timestamp,
        since: Timestamp,
        sent: Timestamp,
        lease: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        if self.order == Some(Order::Release) {
            self.order = None;
        }
        let mut owner = Owner::new(now, &self.settings, lease);
        owner.since = since;
        owner.next_advert = sent + self.settings.advert_interval;
        self.role = Role::Owner(owner);
        actions.push(Action::BecomeOwner);
    }

    pub(super) fn timeout_as_owner(&mut self, now: Timestamp, mut owner: Owner, actions: &mut Vec<Action>) {
        if now >= owner.next_advert {
            // Keeps the rhythm when late by less than one interval, and does not catch up on more.
            let interval = self.settings.advert_interval;
            let due = owner.next_advert + interval;
            owner.next_advert = if due > now { due } else { now + interval };
            actions.push(Action::SendAdvert { priority: self.priority(), not_after: owner.lease });
        }
        owner.announce_when_allowed(now, &self.settings, actions);
        owner.refresh_when_due(now, &self.settings, actions);
        self.role = Role::Owner(owner);
    }

    pub(super) fn heard_as_owner(&mut self, mut owner: Owner, heard: Heard, actions: &mut Vec<Action>) {
        let Heard { source, priority, at: now, .. } = heard;
        if (priority, source) > (self.priority(), self.settings.primary) {
            // The winner may never have heard this node, and must learn that clients may have.
            self.farewell(actions);
            let reason = BackupReason::BetterOwner { priority, source };
            self.become_backup(now, reason, Some(heard), actions);
            return;
        }
        // A farewell comes from somebody who was owner until now: a conflict as well.
        self.answer(now, &mut owner, priority == 0, actions);
        owner.announce = true;
        owner.announce_when_allowed(now, &self.settings, actions);
        self.role = Role::Owner(owner);
    }

    /// Sends an advert at once, or as soon as the last one of this kind is long enough ago.
    pub(super) fn answer(
        &self,
        now: Timestamp,
        owner: &mut Owner,
        farewell: bool,
        actions: &mut Vec<Action>,
    ) {
        let interval = self.settings.advert_interval;
        let next = if farewell { &mut owner.next_farewell_answer } else { &mut owner.next_answer };
        if now >= *next {
            *next = now + timers::answer_pause(interval);
            owner.next_advert = now + interval;
            actions.push(Action::SendAdvert { priority: self.priority(), not_after: owner.lease });
        } else {
            owner.next_advert = owner.next_advert.min(*next);
        }
    }
}

impl Owner {
    /// An owner that sends an advert now.
    pub(super) fn new(now: Timestamp, settings: &Settings, lease: Timestamp) -> Self {
        Self {
            lease,
            since: now,
            next_advert: now + settings.advert_interval,
            next_answer: now,
            next_farewell_answer: now,
            next_announcement: now,
            announce: false,
            next_refresh: settings.announce_refresh.map(|refresh| now + refresh),
        }
    }

    pub(super) fn next_timeout(&self) -> Timestamp {
        let announcement = self.announce.then_some(self.next_announcement);
        let others = [announcement, self.next_refresh].into_iter().flatten();
        others.fold(self.next_advert.min(self.lease), Timestamp::min)
    }

    fn announce_when_allowed(&mut self, now: Timestamp, settings: &Settings, actions: &mut Vec<Action>) {
        if self.announce && now >= self.next_announcement {
            self.announce = false;
            self.next_announcement = now + timers::ANNOUNCE_INTERVAL;
            self.next_refresh = settings.announce_refresh.map(|refresh| now + refresh);
            actions.push(Action::AnnounceAddresses);
        }
    }

    fn refresh_when_due(&mut self, now: Timestamp, settings: &Settings, actions: &mut Vec<Action>) {
        if self.next_refresh.is_some_and(|due| now >= due) {
            self.next_refresh = settings.announce_refresh.map(|refresh| now + refresh);
            actions.push(Action::RefreshAddresses);
        }
    }
}
