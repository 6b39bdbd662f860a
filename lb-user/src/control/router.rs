//! A virtual router as the control task knows it: what it has told the protocol thread, what it has heard from it, and
//! what it tells the operator.

use std::collections::BTreeMap;

use tracing::{info, warn};

use super::desired::STANDALONE_LEASE;
use crate::{
    config::VirtualRouter,
    net::AnnounceSchedule,
    protocol::{Event, FaultCause, OwnerReason, RouterKey, RouterReport},
    time::Timestamp,
    vrrp::{BackupReason, State},
};

/// Something forbids this node to own the VIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Whether it can still answer for them until another does.
    pub(super) hand_over: bool,
}

/// A virtual router of this node.
#[derive(Debug)]
pub(super) struct Router {
    /// Its name in what passes between the control task and the protocol thread.
    pub(super) key: RouterKey,
    /// What the configuration says.
    pub(super) config: VirtualRouter,
    /// Its lease number in the data plane.
    pub(super) lease: u32,
    /// The machine has been told to start.
    pub(super) started: bool,
    /// The fault the machine has been told of.
    pub(super) fault: Option<Fault>,
    /// Whether its witness answers, as the machine was told last.
    pub(super) witness: bool,
    /// The priority the machine was told last.
    pub(super) priority: u8,
    /// What the protocol thread said when it was asked last.
    pub(super) report: Option<RouterReport>,
    state: State,
    reason: String,
    /// Changes between owner and not owner.
    transitions: u64,
    announcements: AnnounceSchedule,
}

impl Router {
    /// A virtual router that has not started and has no lease of its own yet.
    pub(super) fn new(key: RouterKey, config: &VirtualRouter) -> Self {
        Self {
            key,
            config: config.clone(),
            lease: STANDALONE_LEASE,
            started: false,
            fault: None,
            witness: true,
            priority: config.priority,
            report: None,
            state: State::Stopped,
            reason: "starting".to_owned(),
            transitions: 0,
            announcements: AnnounceSchedule::idle(),
        }
    }

    /// Whether this node owns the VIPs.
    pub(super) fn is_owner(&self) -> bool {
        self.state == State::Owner
    }

    /// The state's name for `lb status`: one that waits for its first track results is in `init`.
    pub(super) fn state_name(&self) -> &'static str {
        if self.started { self.state.name() } else { "init" }
    }

    /// Its state, as far as it is known here.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Why it is in its state.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// Says why it is in its state.
    pub(super) fn set_reason(&mut self, reason: impl Into<String>) {
        self.reason = reason.into();
    }

    /// Changes between owner and not owner since the daemon started.
    pub(super) fn transitions(&self) -> u64 {
        self.transitions
    }

    /// Notes and logs what its machine did.
    pub(super) fn note(&mut self, event: &Event, now: Timestamp) {
        let router = &self.config.name;
        match *event {
            Event::BecameOwner { reason, .. } => {
                self.reason = owner_reason(reason);
                info!(%router, priority = self.priority, "owner of the VIPs: {}", self.reason);
                self.enter(State::Owner);
                self.announcements.begin(now);
            }
            Event::BecameBackup { reason, .. } => {
                self.reason = backup_reason(reason);
                if reason == BackupReason::LeaseExpired {
                    warn!(%router, "backup: {}", self.reason);
                } else {
                    info!(%router, "backup: {}", self.reason);
                }
                self.enter(State::Backup);
            }
            Event::EnteredFault { cause, .. } => {
                if cause == FaultCause::Unattended {
                    "the control task did not answer for too long".clone_into(&mut self.reason);
                }
                warn!(%router, "fault: {}", self.reason);
                self.enter(State::Fault);
            }
            Event::Stopped { .. } => {
                info!(%router, "stopped");
                "stopping".clone_into(&mut self.reason);
                self.enter(State::Stopped);
            }
            Event::Announce { .. } if self.is_owner() => self.announcements.begin(now),
            Event::Refresh { .. } if self.is_owner() => self.announcements.refresh(now),
            _ => {}
        }
    }

    /// Has the VIPs announced as if they were new here.
    pub(super) fn announce_again(&mut self, now: Timestamp) {
        self.announcements.begin(now);
    }

    /// How often to send gratuitous ARP for each VIP now, with the `lease` that the protocol thread has noted. After a
    /// freeze the control task may be the first to run: what it last heard, that it owns the VIPs, is over then.
    pub(super) fn announcements_due(&mut self, now: Timestamp, lease: Option<u64>) -> u32 {
        let due = self.announcements.due(now);
        if self.is_owner() && lease.is_some_and(|expiry| now.0 < expiry) { due } else { 0 }
    }

    /// When gratuitous ARP is to be sent next.
    pub(super) fn next_announcement(&self) -> Option<Timestamp> {
        self.announcements.next()
    }

    /// Milliseconds until the lease runs out.
    pub(super) fn lease_ms(&self, now: Timestamp) -> Option<u64> {
        let report = self.report.as_ref().filter(|report| report.state.has_vips())?;
        Some(report.lease.0.saturating_sub(now.0) / 1_000_000)
    }

    /// What the operator sees: own counters, and those of packets on the same socket that named no virtual
    /// router of this node.
    pub(super) fn counters(&self) -> BTreeMap<String, u64> {
        let Some(report) = &self.report else { return BTreeMap::new() };
        let mut counters = BTreeMap::from([
            ("adverts_sent".to_owned(), report.adverts_sent),
            ("adverts_received".to_owned(), report.adverts_received),
            ("send_errors".to_owned(), report.send_errors),
        ]);
        for (name, count) in
            report.rejected.iter().chain(report.unattributed.iter()).chain(report.observed.iter())
        {
            *counters.entry(name.to_owned()).or_default() += count;
        }
        counters
    }

    fn enter(&mut self, state: State) {
        let was_owner = self.is_owner();
        self.state = state;
        self.transitions += u64::from(was_owner != self.is_owner());
        self.announcements.cancel();
    }
}

fn owner_reason(reason: OwnerReason) -> String {
    match reason {
        OwnerReason::Silence(silent) => format!("{silent} stopped sending adverts"),
        OwnerReason::Farewell(source) => format!("{source} handed the VIPs over"),
        OwnerReason::Priority { of, source } => format!("priority above the {of} of {source}"),
        OwnerReason::Alone => "no other owner was heard".to_owned(),
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
        BackupReason::Released => "released by the operator".to_owned(),
        BackupReason::Group => "another virtual router of its group became backup".to_owned(),
        BackupReason::Isolated => "neither a peer nor the witness can be reached".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_whose_lease_is_over_announces_nothing() {
        let parsed =
            crate::config::parse("a.toml", include_str!("../../../configs/tutorial-a.toml")).unwrap();
        let owner = || {
            let mut router = Router::new(RouterKey(0), &parsed.config.virtual_routers[0]);
            let event = Event::BecameOwner { router: RouterKey(0), reason: OwnerReason::Alone };
            router.note(&event, Timestamp(1_000));
            router
        };
        assert!(owner().announcements_due(Timestamp(1_000), Some(1_001)) > 0);
        for lease in [None, Some(0), Some(999), Some(1_000)] {
            assert_eq!(owner().announcements_due(Timestamp(1_000), lease), 0, "{lease:?}");
        }
    }
}
