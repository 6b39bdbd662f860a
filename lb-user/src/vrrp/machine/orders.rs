//! What is ordered from outside: by tracking, the operator, the witness, the sync group and BFD.

use super::{Action, BackupReason, Machine, Order, PRIORITY_MAX, PRIORITY_MIN, Reach, Role};
use crate::time::Timestamp;

impl Machine {
    pub(super) fn priority_changed(&mut self, now: Timestamp, tracked: u8, actions: &mut Vec<Action>) {
        let before = self.priority();
        self.tracked = tracked.clamp(PRIORITY_MIN, PRIORITY_MAX);
        self.reprioritised(now, before, actions);
    }

    /// Acts on another priority than `before`, if it is one.
    fn reprioritised(&mut self, now: Timestamp, before: u8, actions: &mut Vec<Action>) {
        if self.priority() == before {
            return;
        }
        match self.role {
            Role::Stopped | Role::Fault | Role::Leaving(_) => {}
            // An owner it would have preempted may now be one it must respect.
            Role::Backup(backup) => self.heed(backup),
            Role::Owner(mut owner) => {
                self.answer(now, &mut owner, false, actions);
                self.role = Role::Owner(owner);
            }
        }
    }

    pub(super) fn release(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        self.order = Some(Order::Release);
        match self.role {
            Role::Stopped | Role::Fault | Role::Leaving(_) => {}
            Role::Owner(_) => self.leave(now, false, false, actions),
            Role::Backup(backup) if backup.claim.is_some() => {
                self.farewell(actions);
                self.listen(now, backup.heard);
            }
            Role::Backup(backup) => self.heed(backup),
        }
    }

    pub(super) fn claim_by_order(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let before = self.priority();
        self.order = Some(Order::Claim);
        match self.role {
            Role::Stopped | Role::Fault => {}
            Role::Backup(_) => self.claim_at_once(now, actions),
            Role::Owner(_) => self.reprioritised(now, before, actions),
            Role::Leaving(leaving) => self.go_on(now, leaving, actions),
        }
    }

    pub(super) fn claim_with_group(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        match self.role {
            Role::Stopped | Role::Fault | Role::Owner(_) => {}
            Role::Backup(_) => self.claim_at_once(now, actions),
            Role::Leaving(mut leaving) => {
                leaving.group = false;
                self.go_on(now, leaving, actions);
            }
        }
    }

    pub(super) fn yield_with_group(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        match self.role {
            Role::Backup(backup) if backup.claim.is_some() => {
                self.farewell(actions);
                self.listen(now, backup.heard);
            }
            Role::Stopped | Role::Fault | Role::Backup(_) => {}
            Role::Owner(_) => self.leave(now, false, true, actions),
            Role::Leaving(mut leaving) => {
                leaving.group = true;
                self.role = Role::Leaving(leaving);
            }
        }
    }

    /// An owner that reaches neither its peers nor its witness is cut off, and somebody else is owner or will be.
    pub(super) fn check_isolation(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if self.peers == Reach::Lost && !self.witness && matches!(self.role, Role::Owner(_)) {
            self.farewell(actions);
            self.become_backup(now, BackupReason::Isolated, None, actions);
        }
    }

    /// A peer that has lost sight of an owner hears of it at once.
    pub(super) fn doubted(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if let Role::Owner(mut owner) = self.role {
            self.answer(now, &mut owner, false, actions);
            self.role = Role::Owner(owner);
        }
    }
}
