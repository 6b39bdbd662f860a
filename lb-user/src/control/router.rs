//! A virtual router as the control task runs it: its state machine, what it says on the wire, and what it tells
//! the operator.

use std::{collections::BTreeMap, net::IpAddr};

use tracing::{info, warn};

use crate::{
    config::VirtualRouter,
    net::AnnounceSchedule,
    time::Timestamp,
    vrrp::{Acceptance, Action, BackupReason, DecodeCounters, Machine, Settings, State},
};

/// An advert that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// Who sent it.
    pub(super) source: IpAddr,
    /// Its priority.
    pub(super) priority: u8,
    /// When it was read.
    pub(super) at: Timestamp,
}

/// A virtual router and its counters.
#[derive(Debug)]
pub(super) struct Router {
    /// What the configuration says.
    pub(super) config: VirtualRouter,
    /// Its lease number in the data plane.
    pub(super) lease: u32,
    /// The state machine.
    pub(super) machine: Machine,
    /// What it accepts from the wire, and says there.
    pub(super) acceptance: Acceptance,
    /// Rejected adverts that named this virtual router.
    pub(super) rejected: DecodeCounters,
    /// Adverts sent, each to every peer.
    pub(super) adverts_sent: u64,
    /// Adverts that could not be sent to every peer.
    pub(super) send_errors: u64,
    /// Adverts that passed every check.
    pub(super) adverts_received: u64,
    /// Changes between owner and not owner.
    pub(super) transitions: u64,
    /// The advert that was accepted last.
    pub(super) heard: Option<Heard>,
    /// Whether the machine has been started.
    pub(super) started: bool,
    reason: String,
    pub(super) owned: bool,
    announcements: AnnounceSchedule,
}

impl Router {
    /// A virtual router that has not started.
    pub(super) fn new(config: &VirtualRouter, lease: u32) -> Self {
        Self {
            config: config.clone(),
            lease,
            machine: Machine::new(Settings::from(config)),
            acceptance: Acceptance::from(config),
            rejected: DecodeCounters::default(),
            adverts_sent: 0,
            send_errors: 0,
            adverts_received: 0,
            transitions: 0,
            heard: None,
            started: false,
            reason: "starting".to_owned(),
            owned: false,
            announcements: AnnounceSchedule::idle(),
        }
    }

    /// Whether this node owns the VIPs.
    pub(super) fn is_owner(&self) -> bool {
        self.machine.state() == State::Owner
    }

    /// The state's name for `lb status`: one that waits for its first track results is in `init`.
    pub(super) fn state_name(&self) -> &'static str {
        if self.started { self.machine.state().name() } else { "init" }
    }

    /// Why it is in its state.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// Says why it is in its state.
    pub(super) fn set_reason(&mut self, reason: impl Into<String>) {
        self.reason = reason.into();
    }

    /// Notes and logs what an action of the machine means; `true` if who owns the VIPs may have changed.
    pub(super) fn note(&mut self, action: Action, now: Timestamp) -> bool {
        let router = self.config.name.clone();
        match action {
            Action::SendAdvert { .. } => return false,
            Action::AnnounceAddresses => {
                self.announcements.begin(now);
                return false;
            }
            Action::BecomeOwner => {
                self.transitions += 1;
                self.owned = true;
                self.announcements.begin(now);
                info!(%router, priority = self.machine.priority(), "owner of the VIPs: {}", self.reason);
            }
            Action::BecomeBackup { reason } => {
                self.leave_ownership();
                self.reason = backup_reason(reason);
                if reason == BackupReason::LeaseExpired {
                    warn!(%router, "backup: {}", self.reason);
                } else {
                    info!(%router, "backup: {}", self.reason);
                }
            }
            Action::EnterFault => {
                self.leave_ownership();
                warn!(%router, "fault: {}", self.reason);
            }
            Action::Stop => {
                self.leave_ownership();
                "stopping".clone_into(&mut self.reason);
                info!(%router, "stopped");
            }
        }
        true
    }

    /// Has the VIPs announced as if they were new here.
    pub(super) fn announce_again(&mut self, now: Timestamp) {
        self.announcements.begin(now);
    }

    /// The owner that fell silent without a farewell, if that is why this node's claim is due at `now`.
    pub(super) fn silent_owner(&self, now: Timestamp) -> Option<IpAddr> {
        let heard = self.heard.filter(|heard| heard.priority > 0)?;
        // A living owner of lower priority, about to be preempted, was heard less than two intervals ago.
        (now.since(heard.at) > self.config.advert_interval * 2).then_some(heard.source)
    }

    /// How often to send gratuitous ARP for each VIP now.
    pub(super) fn announcements_due(&mut self, now: Timestamp) -> u32 {
        self.announcements.due(now)
    }

    /// When this virtual router needs attention next.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        let machine = if self.started { self.machine.next_timeout() } else { None };
        machine.into_iter().chain(self.announcements.next()).min()
    }

    /// Milliseconds until the lease runs out.
    pub(super) fn lease_ms(&self, now: Timestamp) -> Option<u64> {
        self.is_owner().then(|| self.machine.lease_expiry().saturating_sub(now.0) / 1_000_000)
    }

    /// What the operator sees: own counters, and those of packets on the same socket that named no virtual
    /// router of this node.
    pub(super) fn counters(&self, unattributed: &DecodeCounters) -> BTreeMap<String, u64> {
        let mut counters = BTreeMap::from([
            ("adverts_sent".to_owned(), self.adverts_sent),
            ("adverts_received".to_owned(), self.adverts_received),
            ("send_errors".to_owned(), self.send_errors),
        ]);
        for (name, count) in self.rejected.iter().chain(unattributed.iter()) {
            *counters.entry(name.to_owned()).or_default() += count;
        }
        counters
    }

    fn leave_ownership(&mut self) {
        if std::mem::take(&mut self.owned) {
            self.transitions += 1;
        }
        self.announcements.cancel();
    }
}

fn backup_reason(reason: BackupReason) -> String {
    match reason {
        BackupReason::Started => "started, listening for an owner".to_owned(),
        BackupReason::FaultCleared => "what kept it in fault is over".to_owned(),
        BackupReason::BetterOwner { priority, source } => {
            format!("{source} owns the VIPs with priority {priority}")
        }
        BackupReason::LeaseExpired => {
            "the lease ran out before it was renewed (frozen, starved or unable to send)".to_owned()
        }
    }
}
