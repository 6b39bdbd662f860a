//! The state machine of one virtual router (RFC 3768 §6.4, RFC 9568 §6.4), and the lease of its owner.
//!
//! It takes *now* and an [`Input`], changes its state and returns [`Action`]s. It never touches a socket, a
//! clock or a map. The adapter's part of the contract:
//!
//! 1. After **every** [`Machine::handle`], first write [`Machine::lease_expiry`] to the map, then perform
//!    the actions in their order.
//! 2. **Received packets before timeouts.** Before [`Input::Timeout`] is handed over, every packet that
//!    waits in the socket is, each with a fresh *now*. A node that was frozen past its timers so hears who
//!    owns the VIP now before it decides anything.
//! 3. [`Action::SendAdvert`]: read the clock; if it is past `not_after`, send nothing and begin again at
//!    rule 2. Otherwise send to every peer, and if *each* sending succeeded hand over
//!    [`Input::AdvertSent`] with the moment read before the first. If one failed, count it and do no more:
//!    the machine tries again at its next timeout, or the lease runs out.
//! 4. Call again at [`Machine::next_timeout`].
//! 5. **Leaving.** [`Input::Stop`], [`Input::Release`], [`Input::YieldWithGroup`] and [`Input::FaultSet`] with
//!    `hand_over` make an owner say farewell, and then [`Action::HandOver`]: the VIPs stay, the lease goes on in
//!    steps of at most [`timers::LEAVING_LEASE`], and rules 1–4 hold on. It ends by [`Action::HandedOver`] and what
//!    to be then ([`Action::Stop`], [`Action::BecomeBackup`], [`Action::EnterFault`]), or by [`Action::StayOwner`].
//!    Only after [`Action::Stop`] may the machine be dropped, or its lease must be written 0 by hand.
//!
//! An owner whose lease is over has been frozen, starved or mute, and somebody else may own the VIP. So
//! whatever the input is, it becomes backup first, with a fresh timer, and the input meets a backup.
//!
//! Beyond RFC 3768: an owner answers an advert of a lower priority at once (RFC 9568 §6.4.3) and repeats its
//! gratuitous ARP, since clients may have learned the other's. Beyond both: an owner that yields to a better one
//! says farewell, so that the winner does so too even if it never heard the loser. A backup heeds a farewell
//! (priority 0) only from whom it heard last, and only if it has listened, and heard nobody else, for as long as a
//! lease may run: a farewell may be late, or come from a node whose claim the present owner has not heard yet, or
//! from one that has just yielded.
//!
//! A priority that falls below another's is no reason to leave: who is better, and wants to preempt, will claim.
//! The owner says its new priority at once and serves until it hears that claim. Were it to say farewell, a node worse
//! than itself could take the VIP, or one that is not to preempt.

use std::{net::IpAddr, time::Duration};

use super::{
    packet::Advert,
    settings::{PRIORITY_ADDRESS_OWNER, PRIORITY_MAX, PRIORITY_MIN, Settings},
    timers,
};
use crate::{config::VrrpVersion, time::Timestamp};
use backup::{Backup, Heard};
use lb_common::LEASE_BACKUP;
use leaving::{End, Leaving};
use owner::Owner;

mod backup;
mod leaving;
mod messages;
mod orders;
mod owner;

pub use messages::{Action, BackupReason, Input, Reach, State};

/// The state machine of one virtual router on this node.
#[derive(Clone, Debug)]
pub struct Machine {
    settings: Settings,
    /// The priority after tracking, without what the operator ordered.
    tracked: u8,
    faulty: bool,
    order: Option<Order>,
    /// Whether the witness answers.
    witness: bool,
    /// What is known of the peers.
    peers: Reach,
    /// What BFD lets the lease run to.
    lease_cap: Option<Timestamp>,
    /// The interval of the owner this node respects (RFC 9568 §6.1, `Active_Adver_Interval`).
    learned: Duration,
    role: Role,
}

/// What the operator ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Release,
    Claim,
}

/// The state with what only it needs.
#[derive(Clone, Copy, Debug)]
enum Role {
    Stopped,
    Fault,
    Backup(Backup),
    Owner(Owner),
    Leaving(Leaving),
}

impl Machine {
    /// A machine that waits for [`Input::Start`].
    pub fn new(settings: Settings) -> Self {
        Self {
            tracked: settings.priority.clamp(PRIORITY_MIN, PRIORITY_MAX),
            learned: settings.advert_interval,
            settings,
            faulty: false,
            order: None,
            witness: true,
            peers: Reach::Unknown,
            lease_cap: None,
            role: Role::Stopped,
        }
    }

    /// Takes an input and returns what must be done, in order.
    ///
    /// `now` never goes back, except that calls may carry the same moment.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        self.check_lease(now, &mut actions);
        match input {
            Input::Start => self.start(now, &mut actions),
            Input::Timeout => self.timeout(now, &mut actions),
            Input::AdvertReceived { advert, source } => {
                let heard = self.understand(now, &advert, source);
                self.received(heard, &mut actions);
            }
            Input::AdvertSent { sent } => self.sent(now, sent, &mut actions),
            Input::FaultSet { hand_over } => self.fault_set(now, hand_over, &mut actions),
            Input::FaultCleared => self.fault_cleared(now, &mut actions),
            Input::PriorityChanged(priority) => self.priority_changed(now, priority, &mut actions),
            Input::Release => self.release(now, &mut actions),
            Input::Claim => self.claim_by_order(now, &mut actions),
            Input::Witness(answers) => {
                self.witness = answers;
                self.check_isolation(now, &mut actions);
            }
            Input::Peers(reach) => {
                self.peers = reach;
                self.check_isolation(now, &mut actions);
            }
            Input::ClaimWithGroup => self.claim_with_group(now, &mut actions),
            Input::YieldWithGroup => self.yield_with_group(now, &mut actions),
            Input::OwnerLost { source, detection_time, delay } => {
                self.owner_lost(now, source, detection_time, delay);
            }
            Input::PeerDoubts => self.doubted(now, &mut actions),
            Input::LeaseCap(cap) => self.lease_cap = cap,
            Input::Stop => self.stop(now, &mut actions),
        }
        actions
    }

    /// When to hand over [`Input::Timeout`]; `None`: not until another input.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        match self.role {
            Role::Stopped | Role::Fault => None,
            Role::Backup(backup) => self.may_claim(backup).then(|| match backup.claim {
                Some(claim) => claim.retry,
                None => self.down_at(backup),
            }),
            Role::Owner(owner) => Some(self.capped(owner.next_timeout())),
            Role::Leaving(leaving) => Some(self.capped(leaving.next_timeout())),
        }
    }

    /// Where the virtual router stands. A node that has claimed, but whose claim is not confirmed as sent, is
    /// still backup.
    pub fn state(&self) -> State {
        match self.role {
            Role::Stopped => State::Stopped,
            Role::Fault => State::Fault,
            Role::Backup(_) => State::Backup,
            Role::Owner(_) => State::Owner,
            Role::Leaving(_) => State::Leaving,
        }
    }

    /// What the map must say: nanoseconds of CLOCK_MONOTONIC, or [`LEASE_BACKUP`].
    pub fn lease_expiry(&self) -> u64 {
        self.lease().map_or(LEASE_BACKUP, |lease| lease.0)
    }

    /// The priority that adverts say: after tracking, unless it is fixed or the operator has ordered a claim.
    pub fn priority(&self) -> u8 {
        match (self.settings.priority, self.order) {
            (PRIORITY_ADDRESS_OWNER, _) => PRIORITY_ADDRESS_OWNER,
            (_, Some(Order::Claim)) => PRIORITY_MAX,
            (_, Some(Order::Release) | None) => self.tracked,
        }
    }

    /// The priority after tracking: what [`Input::PriorityChanged`] said last.
    pub fn tracked_priority(&self) -> u8 {
        self.tracked
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Machine {
    /// When the node's right to answer for the VIPs ends, if it has it.
    fn lease(&self) -> Option<Timestamp> {
        match self.role {
            Role::Owner(owner) => Some(self.capped(owner.lease)),
            Role::Leaving(leaving) => Some(self.capped(leaving.lease)),
            Role::Stopped | Role::Fault | Role::Backup(_) => None,
        }
    }

    fn check_lease(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if self.lease().is_none_or(|lease| now < lease) {
            return;
        }
        if let Role::Leaving(leaving) = self.role {
            self.end_leaving(now, leaving, End::Expired, actions);
            return;
        }
        let capped = self.lease_cap.is_some_and(|cap| now >= cap);
        self.become_backup(now, BackupReason::LeaseExpired, None, actions);
        if capped {
            // BFD may go on as if nothing had happened, and adverts be missed for long.
            let not_after = now + timers::claim_term(self.settings.advert_interval);
            actions.push(Action::SendAdvert { priority: 0, not_after });
        }
    }

    fn capped(&self, moment: Timestamp) -> Timestamp {
        self.lease_cap.into_iter().fold(moment, Timestamp::min)
    }

    fn start(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        match self.role {
            Role::Stopped if self.faulty => self.enter_fault(actions),
            Role::Stopped => {
                self.learned = self.settings.advert_interval;
                self.join(now, BackupReason::Started, actions);
            }
            Role::Leaving(mut leaving) => {
                leaving.stop = false;
                self.go_on(now, leaving, actions);
            }
            Role::Fault | Role::Backup(_) | Role::Owner(_) => {}
        }
    }

    /// The state after the start (RFC 9568 §6.4.1): the address owner claims, anybody else listens.
    fn join(&mut self, now: Timestamp, reason: BackupReason, actions: &mut Vec<Action>) {
        self.become_backup(now, reason, None, actions);
        let released = self.order == Some(Order::Release);
        if self.priority() == PRIORITY_ADDRESS_OWNER && !released && self.witness {
            self.claim_at_once(now, actions);
        }
    }

    fn timeout(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        match self.role {
            Role::Stopped | Role::Fault => {}
            Role::Backup(backup) => self.timeout_as_backup(now, backup, actions),
            Role::Owner(owner) => self.timeout_as_owner(now, owner, actions),
            Role::Leaving(leaving) => self.timeout_as_leaving(now, leaving, actions),
        }
    }

    fn received(&mut self, heard: Heard, actions: &mut Vec<Action>) {
        match self.role {
            Role::Backup(backup) => self.heard_as_backup(backup, heard),
            Role::Owner(owner) => self.heard_as_owner(owner, heard, actions),
            Role::Leaving(leaving) if heard.priority > 0 => {
                self.end_leaving(heard.at, leaving, End::Taken(heard), actions);
            }
            Role::Stopped | Role::Fault | Role::Leaving(_) => {}
        }
    }

    /// What an advert says to this node. Version 2 has one interval on all nodes; version 3 learns the sender's.
    fn understand(&self, now: Timestamp, advert: &Advert, source: IpAddr) -> Heard {
        let interval = match self.settings.version {
            VrrpVersion::V2 => self.settings.advert_interval,
            VrrpVersion::V3 => advert.advert_interval.max(timers::INTERVAL_MIN),
        };
        Heard { source, priority: advert.priority, interval, at: now }
    }

    fn sent(&mut self, now: Timestamp, sent: Timestamp, actions: &mut Vec<Action>) {
        let lease = sent.min(now) + timers::lease_term(self.settings.advert_interval);
        match self.role {
            Role::Backup(Backup { claim: Some(claim), heard, .. }) if sent >= claim.since => {
                if now <= claim.not_after {
                    self.become_owner(now, claim.since, sent, lease, actions);
                } else {
                    // Frozen while the claim was on its way: somebody else may have claimed meanwhile. Wait anew.
                    self.listen(now, heard);
                }
            }
            Role::Owner(mut owner) if sent >= owner.since => {
                owner.lease = owner.lease.max(lease);
                self.role = Role::Owner(owner);
            }
            // The ownership this sending belonged to has ended, or ends.
            Role::Stopped | Role::Fault | Role::Backup(_) | Role::Owner(_) | Role::Leaving(_) => {}
        }
    }

    fn fault_set(&mut self, now: Timestamp, hand_over: bool, actions: &mut Vec<Action>) {
        self.faulty = true;
        match self.role {
            Role::Owner(_) if hand_over => self.leave(now, false, false, actions),
            Role::Backup(_) | Role::Owner(_) => {
                self.farewell(actions);
                self.enter_fault(actions);
            }
            Role::Leaving(leaving) if !hand_over => {
                self.end_leaving(now, leaving, End::BrokenOff, actions);
            }
            Role::Stopped | Role::Fault | Role::Leaving(_) => {}
        }
    }

    fn fault_cleared(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        self.faulty = false;
        match self.role {
            Role::Fault => self.join(now, BackupReason::FaultCleared, actions),
            Role::Leaving(leaving) => self.go_on(now, leaving, actions),
            Role::Stopped | Role::Backup(_) | Role::Owner(_) => {}
        }
    }

    fn stop(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        self.order = None;
        match self.role {
            Role::Stopped => {}
            Role::Owner(_) => self.leave(now, true, false, actions),
            Role::Leaving(mut leaving) => {
                leaving.stop = true;
                self.role = Role::Leaving(leaving);
            }
            Role::Fault | Role::Backup(_) => {
                self.farewell(actions);
                self.end(actions);
            }
        }
    }

    /// Priority 0, when others may think that this node is owner: it is, or some of them heard its claim.
    fn farewell(&self, actions: &mut Vec<Action>) {
        let not_after = match self.role {
            Role::Owner(owner) => self.capped(owner.lease),
            Role::Backup(Backup { claim: Some(claim), .. }) => claim.not_after,
            Role::Stopped | Role::Fault | Role::Backup(_) | Role::Leaving(_) => return,
        };
        actions.push(Action::SendAdvert { priority: 0, not_after });
    }

    fn enter_fault(&mut self, actions: &mut Vec<Action>) {
        self.role = Role::Fault;
        actions.push(Action::EnterFault);
    }

    fn end(&mut self, actions: &mut Vec<Action>) {
        self.role = Role::Stopped;
        actions.push(Action::Stop);
    }
}

#[cfg(test)]
mod tests;
