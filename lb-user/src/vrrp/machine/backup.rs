//! A backup: whom it has heard, how long it waits, and how it claims.

use std::{net::IpAddr, time::Duration};

use super::{Action, BackupReason, Machine, Order, Role};
use crate::{
    time::Timestamp,
    vrrp::{settings::PRIORITY_ADDRESS_OWNER, timers},
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Backup {
    /// When the present wait began: an advert that counts was received, or the node became backup.
    since: Timestamp,
    /// The owner has said farewell: wait for the skew only.
    farewell: bool,
    /// It claims without having waited, by order, with its group, or as the address owner.
    unasked: bool,
    /// Until when an owner of lower priority is let be, though this node preempts.
    patient_until: Timestamp,
    /// Whose adverts were heard, whether they counted or not.
    pub(super) heard: Owners,
    /// The claim on its way, if any.
    pub(super) claim: Option<Claim>,
}

/// Who said of himself that he is owner.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owners {
    last: Option<Heard>,
    /// Until when another whom this node has heard may have a lease.
    other_until: Timestamp,
    /// Until when somebody may have a lease because of an advert that this node was not there to hear.
    unheard_until: Timestamp,
}

/// What an advert said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) source: IpAddr,
    pub(super) priority: u8,
    /// The time between two of them.
    pub(super) interval: Duration,
    pub(super) at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// Sendings before this moment were of something else.
    pub(super) since: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) retry: Timestamp,
}

impl Machine {
    /// `successor`: who owns the VIPs now, if this node knows.
    pub(super) fn become_backup(
        &mut self,
        now: Timestamp,
        reason: BackupReason,
        successor: Option<Heard>,
        actions: &mut Vec<Action>,
    ) {
        let heard = if let Some(successor) = successor {
            self.learned = successor.interval;
            Owners { last: Some(successor), ..Owners::default() }
        } else {
            // It has not listened until now: anybody may be owner, with any interval it has known.
            self.learned = self.learned.max(self.settings.advert_interval);
            Owners { unheard_until: now + self.learned * timers::DOWN_INTERVALS, ..Owners::default() }
        };
        self.listen(now, heard);
        actions.push(Action::BecomeBackup { reason });
    }

    /// Begins to wait.
    pub(super) fn listen(&mut self, now: Timestamp, heard: Owners) {
        self.role = Role::Backup(Backup {
            since: now,
            farewell: false,
            unasked: false,
            patient_until: now + self.settings.preempt_delay,
            heard,
            claim: None,
        });
    }

    pub(super) fn timeout_as_backup(&mut self, now: Timestamp, backup: Backup, actions: &mut Vec<Action>) {
        let due = backup.claim.map_or_else(|| self.down_at(backup), |claim| claim.not_after);
        if now >= due && self.may_claim(backup) {
            self.claim(now, backup, actions);
        }
    }

    /// Without its witness a node does not trust the silence: it may be the one that is cut off.
    pub(super) fn may_claim(&self, backup: Backup) -> bool {
        self.witness || backup.farewell || backup.unasked
    }

    pub(super) fn claim_at_once(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let Role::Backup(backup) = self.role else { return };
        let backup = Backup { unasked: true, ..backup };
        if backup.claim.is_some() {
            self.role = Role::Backup(backup);
        } else {
            self.claim(now, backup, actions);
        }
    }

    fn claim(&mut self, now: Timestamp, backup: Backup, actions: &mut Vec<Action>) {
        let interval = self.settings.advert_interval;
        let not_after = now + timers::claim_term(interval);
        let claim = Claim { since: now, not_after, retry: now + interval };
        self.role = Role::Backup(Backup { claim: Some(claim), ..backup });
        actions.push(Action::SendAdvert { priority: self.priority(), not_after });
    }

    pub(super) fn heard_as_backup(&mut self, mut backup: Backup, heard: Heard) {
        if heard.priority > 0 {
            backup.heard.hear(heard);
            self.heed(backup);
            return;
        }
        // Repeated farewells must not put the claim off.
        if backup.heard.only(heard) && !backup.farewell && backup.claim.is_none() {
            backup.since = heard.at;
            backup.farewell = true;
        }
        self.role = Role::Backup(backup);
    }

    /// Lets what was heard last count, if by this node's present priority it does, and the wait did not begin anew since.
    pub(super) fn heed(&mut self, mut backup: Backup) {
        if let Some(heard) = backup.heard.last
            && heard.at >= backup.since
            && self.respects(backup, heard)
        {
            self.learned = heard.interval;
            if heard.priority >= self.priority() {
                backup.patient_until = heard.at + self.settings.preempt_delay;
            }
            backup = Backup { since: heard.at, farewell: false, unasked: false, claim: None, ..backup };
        }
        self.role = Role::Backup(backup);
    }

    fn respects(&self, backup: Backup, heard: Heard) -> bool {
        let priority = self.priority();
        match self.order {
            Some(Order::Release) => true,
            _ if heard.priority >= priority => true,
            Some(Order::Claim) => false,
            None if priority == PRIORITY_ADDRESS_OWNER => false,
            None => !self.settings.preempt || heard.at < backup.patient_until,
        }
    }

    /// When this backup's patience ends.
    pub(super) fn down_at(&self, backup: Backup) -> Timestamp {
        let (version, priority) = (self.settings.version, self.priority());
        if backup.farewell {
            return backup.since + timers::skew(version, priority, self.learned);
        }
        // A late advert of somebody with a shorter interval says nothing of the lease of who was heard before.
        (backup.since + timers::down(version, priority, self.learned)).max(backup.heard.other_until)
    }
}

impl Owners {
    fn hear(&mut self, heard: Heard) {
        if let Some(before) = self.last
            && before.source != heard.source
        {
            self.other_until = self.other_until.max(before.at + before.interval * timers::DOWN_INTERVALS);
        }
        self.last = Some(heard);
    }

    /// Whether the sender of a farewell was heard last, and nobody else so lately that his lease may still run.
    fn only(&self, farewell: Heard) -> bool {
        self.last.is_some_and(|last| last.source == farewell.source)
            && farewell.at > self.other_until.max(self.unheard_until)
    }
}
