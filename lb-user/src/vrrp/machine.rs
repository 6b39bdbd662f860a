//! The state machine of one virtual router (RFC 3768 §6.4), and the lease of its owner.
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
//!
//! An owner whose lease is over has been frozen, starved or mute, and somebody else may own the VIP. So
//! whatever the input is, it becomes backup first, with a fresh timer, and the input meets a backup.
//!
//! Beyond RFC 3768: an owner answers an advert of a lower priority at once (RFC 9568 §6.4.3) and repeats its
//! gratuitous ARP, since clients may have learned the other's. A backup heeds a farewell (priority 0) only
//! from whom it heard last, and only if it has listened, and heard nobody else, for as long as a lease may
//! run: a farewell may be late, or come from a node whose claim the present owner has not heard yet.

use std::{net::IpAddr, time::Duration};

use super::{
    packet::Advert,
    settings::{PRIORITY_MAX, PRIORITY_MIN, Settings},
    timers,
};
use crate::time::Timestamp;
use lb_common::LEASE_BACKUP;

/// Where a virtual router stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not started, or stopped.
    Stopped,
    /// Listens to the owner, or is about to claim.
    Backup,
    /// Owns the VIPs for as long as the lease runs (RFC 3768: Master).
    Owner,
    /// Takes no part: a track script of weight 0 failed, the interface is down or the like.
    Fault,
}

impl State {
    /// The name in status, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Backup => "backup",
            Self::Owner => "owner",
            Self::Fault => "fault",
        }
    }
}

/// Something the machine must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Take part from now on.
    Start,
    /// The moment of [`Machine::next_timeout`] has come. Too early or too often does no harm.
    Timeout,
    /// A peer's advert that passed every check of [`packet::decode`](super::packet::decode).
    AdvertReceived {
        /// The advert.
        advert: Advert,
        /// The source address of its IP packet.
        source: IpAddr,
    },
    /// The advert of the last [`Action::SendAdvert`] went out to every peer.
    AdvertSent {
        /// The clock before the first sending.
        sent: Timestamp,
    },
    /// Something that forbids owning the VIPs has happened. Repeating it does no harm.
    FaultSet,
    /// Nothing forbids owning the VIPs any more.
    FaultCleared,
    /// The priority after tracking; kept within [`PRIORITY_MIN`] and [`PRIORITY_MAX`].
    PriorityChanged(u8),
    /// BFD has heard nothing of `source` for `detection_time`, although it had: claim without waiting for more adverts
    /// to be missed, if that is whom this node believes to be owner, and says nothing within `delay` either.
    OwnerLost {
        /// The silent peer.
        source: IpAddr,
        /// How long it has been silent.
        detection_time: Duration,
        /// How long to wait for its advert, by the priority of this node
        /// ([`bfd::timers::claim_delay`](crate::bfd::timers::claim_delay)).
        delay: Duration,
    },
    /// A peer says that it has lost sight of this node: an owner lets it know at once that it is one.
    PeerDoubts,
    /// The lease must not run past this, because a peer may take this node for dead; `None`: adverts alone bound it.
    LeaseCap(Option<Timestamp>),
    /// Take part no more.
    Stop,
}

/// Something the adapter must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send an advert to every peer.
    SendAdvert {
        /// Its priority; 0 says farewell.
        priority: u8,
        /// Past this moment it must not be sent any more.
        not_after: Timestamp,
    },
    /// The claim is out and the lease runs: take the VIPs, and announce them by gratuitous ARP.
    BecomeOwner,
    /// Give the VIPs up, if this node has them, and listen.
    BecomeBackup {
        /// Why.
        reason: BackupReason,
    },
    /// Give the VIPs up, if this node has them, and take no part.
    EnterFault,
    /// Give the VIPs up, if this node has them; the machine has stopped.
    Stop,
    /// Repeat the gratuitous ARP: another node claimed the VIPs, and clients may have believed it.
    AnnounceAddresses,
}

/// Why a node became backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupReason {
    /// It started.
    Started,
    /// What forbade it to take part is over.
    FaultCleared,
    /// It was owner and heard a better one.
    BetterOwner {
        /// The other's priority.
        priority: u8,
        /// The other's address.
        source: IpAddr,
    },
    /// It was owner and did not renew its lease in time: frozen, starved, or unable to send.
    LeaseExpired,
}

impl BackupReason {
    /// The name in status, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::FaultCleared => "fault_cleared",
            Self::BetterOwner { .. } => "better_owner",
            Self::LeaseExpired => "lease_expired",
        }
    }
}

/// The state machine of one virtual router on this node.
#[derive(Clone, Debug)]
pub struct Machine {
    settings: Settings,
    /// The priority after tracking.
    priority: u8,
    faulty: bool,
    /// What BFD lets the lease run to.
    lease_cap: Option<Timestamp>,
    role: Role,
}

/// The state with what only it needs.
#[derive(Clone, Copy, Debug)]
enum Role {
    Stopped,
    Fault,
    Backup(Backup),
    Owner(Owner),
}

#[derive(Clone, Copy, Debug)]
struct Backup {
    /// When the present wait began: an advert that counts was received, or the node became backup.
    since: Timestamp,
    /// The owner has said farewell: wait for the skew only.
    farewell: bool,
    /// The owner is silent for BFD too: when to claim for that.
    lost: Option<Timestamp>,
    /// Whose adverts were heard, whether they counted or not.
    heard: Owners,
    /// The claim on its way, if any.
    claim: Option<Claim>,
}

/// Who said of himself that he is owner.
#[derive(Clone, Copy, Debug)]
struct Owners {
    last: Option<Heard>,
    /// When another than him was heard last, or might have been heard had this node listened.
    other: Option<Timestamp>,
}

/// An advert of somebody who owned the VIPs when he sent it.
#[derive(Clone, Copy, Debug)]
struct Heard {
    source: IpAddr,
    priority: u8,
    at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Claim {
    /// Sendings before this moment were of something else.
    since: Timestamp,
    not_after: Timestamp,
    retry: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    lease: Timestamp,
    /// Sendings confirmed before this moment belong to an earlier ownership.
    since: Timestamp,
    next_advert: Timestamp,
    /// Not before this moment is another advert sent out of turn.
    next_answer: Timestamp,
    /// When gratuitous ARP may be repeated again.
    next_announcement: Timestamp,
    /// A conflict asks for it.
    announce: bool,
}

impl Machine {
    /// A machine that waits for [`Input::Start`].
    pub fn new(settings: Settings) -> Self {
        let priority = settings.priority.clamp(PRIORITY_MIN, PRIORITY_MAX);
        Self { settings, priority, faulty: false, lease_cap: None, role: Role::Stopped }
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
            Input::AdvertReceived { advert, source } => self.received(now, &advert, source, &mut actions),
            Input::AdvertSent { sent } => self.sent(now, sent, &mut actions),
            Input::FaultSet => self.fault_set(&mut actions),
            Input::FaultCleared => self.fault_cleared(now, &mut actions),
            Input::PriorityChanged(priority) => self.priority_changed(now, priority, &mut actions),
            Input::OwnerLost { source, detection_time, delay } => {
                self.owner_lost(now, source, detection_time, delay);
            }
            Input::PeerDoubts => self.doubted(now, &mut actions),
            Input::LeaseCap(cap) => self.lease_cap = cap,
            Input::Stop => self.stop(&mut actions),
        }
        actions
    }

    /// When to hand over [`Input::Timeout`]; `None`: not until another input.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        match self.role {
            Role::Stopped | Role::Fault => None,
            Role::Backup(backup) => {
                Some(backup.claim.map_or_else(|| self.down_at(backup), |claim| claim.retry))
            }
            Role::Owner(owner) => {
                let next = owner.next_advert.min(self.capped(owner.lease));
                Some(if owner.announce { next.min(owner.next_announcement) } else { next })
            }
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
        }
    }

    /// What the map must say: nanoseconds of CLOCK_MONOTONIC, or [`LEASE_BACKUP`].
    pub fn lease_expiry(&self) -> u64 {
        match self.role {
            Role::Owner(owner) => self.capped(owner.lease).0,
            Role::Stopped | Role::Fault | Role::Backup(_) => LEASE_BACKUP,
        }
    }

    /// The priority after tracking, as adverts say it.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Machine {
    fn check_lease(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if let Role::Owner(owner) = self.role
            && now >= self.capped(owner.lease)
        {
            let capped = self.lease_cap.is_some_and(|cap| now >= cap);
            self.become_backup(now, BackupReason::LeaseExpired, actions);
            if capped {
                // BFD may go on as if nothing had happened, and adverts be missed for long.
                let not_after = now + self.settings.advert_interval * timers::CLAIM_TENTHS / 10;
                actions.push(Action::SendAdvert { priority: 0, not_after });
            }
        }
    }

    fn start(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if !matches!(self.role, Role::Stopped) {
            return;
        }
        if self.faulty {
            self.role = Role::Fault;
            actions.push(Action::EnterFault);
        } else {
            self.become_backup(now, BackupReason::Started, actions);
        }
    }

    fn timeout(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        match self.role {
            Role::Stopped | Role::Fault => {}
            Role::Backup(backup) => {
                let due = backup.claim.map_or_else(|| self.down_at(backup), |claim| claim.not_after);
                if now >= due {
                    self.claim(now, backup, actions);
                }
            }
            Role::Owner(mut owner) => {
                if now >= owner.next_advert {
                    // Keeps the rhythm when late by less than one interval, and does not catch up on more.
                    let interval = self.settings.advert_interval;
                    let due = owner.next_advert + interval;
                    owner.next_advert = if due > now { due } else { now + interval };
                    actions.push(Action::SendAdvert {
                        priority: self.priority,
                        not_after: self.capped(owner.lease),
                    });
                }
                owner.announce_when_allowed(now, actions);
                self.role = Role::Owner(owner);
            }
        }
    }

    fn claim(&mut self, now: Timestamp, backup: Backup, actions: &mut Vec<Action>) {
        let interval = self.settings.advert_interval;
        let claim = Claim {
            since: now,
            not_after: now + interval * timers::CLAIM_TENTHS / 10,
            retry: now + interval,
        };
        self.role = Role::Backup(Backup { claim: Some(claim), ..backup });
        actions.push(Action::SendAdvert { priority: self.priority, not_after: claim.not_after });
    }

    fn sent(&mut self, now: Timestamp, sent: Timestamp, actions: &mut Vec<Action>) {
        let lease = sent.min(now) + timers::lease_term(self.settings.advert_interval);
        match self.role {
            Role::Backup(Backup { claim: Some(claim), .. })
                if sent >= claim.since && now <= claim.not_after =>
            {
                self.role = Role::Owner(Owner {
                    lease,
                    since: claim.since,
                    next_advert: sent + self.settings.advert_interval,
                    next_answer: now,
                    next_announcement: now,
                    announce: false,
                });
                actions.push(Action::BecomeOwner);
            }
            Role::Backup(Backup { claim: Some(claim), heard, .. }) if sent >= claim.since => {
                // Frozen while the claim was on its way: somebody else may have claimed meanwhile. Wait anew.
                self.role = Role::Backup(Backup::new(now, heard));
            }
            Role::Owner(mut owner) if sent >= owner.since => {
                owner.lease = owner.lease.max(lease);
                self.role = Role::Owner(owner);
            }
            // The ownership this sending belonged to has ended.
            _ => {}
        }
    }

    fn received(&mut self, now: Timestamp, advert: &Advert, source: IpAddr, actions: &mut Vec<Action>) {
        match self.role {
            Role::Stopped | Role::Fault => {}
            Role::Backup(backup) => {
                self.role = Role::Backup(self.heard_as_backup(now, backup, advert, source));
            }
            Role::Owner(mut owner) => {
                if (advert.priority, source) > (self.priority, self.settings.primary) {
                    let reason = BackupReason::BetterOwner { priority: advert.priority, source };
                    self.become_backup(now, reason, actions);
                    return;
                }
                // A farewell comes from somebody who was owner until now: a conflict as well.
                self.answer(now, &mut owner, actions);
                owner.announce = true;
                owner.announce_when_allowed(now, actions);
                self.role = Role::Owner(owner);
            }
        }
    }

    fn heard_as_backup(&self, now: Timestamp, mut backup: Backup, advert: &Advert, source: IpAddr) -> Backup {
        if advert.priority == 0 {
            let interval = self.settings.advert_interval;
            let from_owner = backup.heard.only(source, now, interval * timers::DOWN_INTERVALS);
            // Repeated farewells must not put the claim off.
            if from_owner && !backup.farewell && backup.claim.is_none() {
                backup.since = now;
                backup.farewell = true;
            }
            return backup;
        }
        backup.heard.hear(Heard { source, priority: advert.priority, at: now });
        self.heed(backup)
    }

    /// Lets what was heard last count, if by this node's present priority it does, and the wait did not begin anew since.
    fn heed(&self, backup: Backup) -> Backup {
        match backup.heard.last {
            Some(heard)
                if heard.at >= backup.since
                    && (!self.settings.preempt || heard.priority >= self.priority) =>
            {
                Backup::new(heard.at, backup.heard)
            }
            _ => backup,
        }
    }

    /// The owner's silence counts as a farewell does: only if nobody else may have the VIPs. An advert is as good as a
    /// packet of BFD.
    fn owner_lost(&mut self, now: Timestamp, source: IpAddr, detection_time: Duration, delay: Duration) {
        let interval = self.settings.advert_interval;
        if let Role::Backup(mut backup) = self.role
            && let Some(heard) = backup.heard.last
            && backup.heard.only(source, now, interval * timers::DOWN_INTERVALS)
        {
            backup.lost = Some(now.max(heard.at + detection_time) + delay);
            self.role = Role::Backup(backup);
        }
    }

    fn doubted(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if let Role::Owner(mut owner) = self.role {
            self.answer(now, &mut owner, actions);
            self.role = Role::Owner(owner);
        }
    }

    fn capped(&self, lease: Timestamp) -> Timestamp {
        self.lease_cap.into_iter().fold(lease, Timestamp::min)
    }

    /// Sends an advert at once, or as soon as the last one of this kind is long enough ago.
    fn answer(&self, now: Timestamp, owner: &mut Owner, actions: &mut Vec<Action>) {
        let interval = self.settings.advert_interval;
        if now >= owner.next_answer {
            owner.next_answer = now + interval * timers::ANSWER_TENTHS / 10;
            owner.next_advert = now + interval;
            actions.push(Action::SendAdvert { priority: self.priority, not_after: self.capped(owner.lease) });
        } else {
            owner.next_advert = owner.next_advert.min(owner.next_answer);
        }
    }

    fn fault_set(&mut self, actions: &mut Vec<Action>) {
        self.faulty = true;
        if matches!(self.role, Role::Backup(_) | Role::Owner(_)) {
            self.farewell(actions);
            self.role = Role::Fault;
            actions.push(Action::EnterFault);
        }
    }

    fn fault_cleared(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        self.faulty = false;
        if matches!(self.role, Role::Fault) {
            self.become_backup(now, BackupReason::FaultCleared, actions);
        }
    }

    fn stop(&mut self, actions: &mut Vec<Action>) {
        if !matches!(self.role, Role::Stopped) {
            self.farewell(actions);
            self.role = Role::Stopped;
            actions.push(Action::Stop);
        }
    }

    /// Priority 0, when others may think that this node is owner: it is, or some of them heard its claim.
    fn farewell(&self, actions: &mut Vec<Action>) {
        let not_after = match self.role {
            Role::Owner(owner) => self.capped(owner.lease),
            Role::Backup(Backup { claim: Some(claim), .. }) => claim.not_after,
            Role::Stopped | Role::Fault | Role::Backup(_) => return,
        };
        actions.push(Action::SendAdvert { priority: 0, not_after });
    }

    fn priority_changed(&mut self, now: Timestamp, priority: u8, actions: &mut Vec<Action>) {
        let priority = priority.clamp(PRIORITY_MIN, PRIORITY_MAX);
        if priority == self.priority {
            return;
        }
        self.priority = priority;
        match self.role {
            Role::Stopped | Role::Fault => {}
            // An owner it would have preempted may now be one it must respect.
            Role::Backup(backup) => self.role = Role::Backup(self.heed(backup)),
            Role::Owner(mut owner) => {
                self.answer(now, &mut owner, actions);
                self.role = Role::Owner(owner);
            }
        }
    }

    fn become_backup(&mut self, now: Timestamp, reason: BackupReason, actions: &mut Vec<Action>) {
        let heard = match reason {
            BackupReason::BetterOwner { source, priority } => {
                Owners { last: Some(Heard { source, priority, at: now }), other: None }
            }
            // It has not listened until now: anybody may be owner.
            BackupReason::Started | BackupReason::FaultCleared | BackupReason::LeaseExpired => {
                Owners { last: None, other: Some(now) }
            }
        };
        self.role = Role::Backup(Backup::new(now, heard));
        actions.push(Action::BecomeBackup { reason });
    }

    /// When this backup's patience ends.
    fn down_at(&self, backup: Backup) -> Timestamp {
        let Settings { version, advert_interval, .. } = self.settings;
        let wait = if backup.farewell {
            timers::skew(version, self.priority)
        } else {
            timers::master_down(version, self.priority, advert_interval)
        };
        backup.lost.into_iter().fold(backup.since + wait, Timestamp::min)
    }
}

impl Backup {
    fn new(since: Timestamp, heard: Owners) -> Self {
        Self { since, farewell: false, lost: None, heard, claim: None }
    }
}

impl Owners {
    fn hear(&mut self, heard: Heard) {
        if let Some(before) = self.last
            && before.source != heard.source
        {
            self.other = Some(before.at);
        }
        self.last = Some(heard);
    }

    /// Whether `source` was heard last, and nobody else so lately that his lease may still run.
    fn only(&self, source: IpAddr, now: Timestamp, lately: Duration) -> bool {
        self.last.is_some_and(|last| last.source == source)
            && self.other.is_none_or(|other| now.since(other) > lately)
    }
}

impl Owner {
    fn announce_when_allowed(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if self.announce && now >= self.next_announcement {
            self.announce = false;
            self.next_announcement = now + timers::ANNOUNCE_INTERVAL;
            actions.push(Action::AnnounceAddresses);
        }
    }
}

#[cfg(test)]
mod tests;
