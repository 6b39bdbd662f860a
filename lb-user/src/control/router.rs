//! A virtual router as the control task knows it: what it has told the protocol thread, what it has heard from it, and
//! what it tells the operator.

use std::{collections::BTreeMap, time::Duration};

use tracing::{info, warn};

use super::desired::STANDALONE_LEASE;
use crate::{
    config::VirtualRouter,
    net::AnnounceSchedule,
    protocol::{Event, FaultCause, OwnerReason, RouterKey, RouterReport},
    time::Timestamp,
    vrrp::{BackupReason, State},
};

/// For how long a node that handed over keeps the VIPs as addresses, without answering who asks for them. The new owner
/// says that it is one before it tells clients (keepalived even before it has the addresses), and a busy machine takes its
/// time for it.
const AFTER_HANDOVER: Duration = Duration::from_millis(200);

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
    /// When clients know of the new owner that has just taken over.
    was_owner_until: Option<Timestamp>,
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
            was_owner_until: None,
        }
    }

    /// Whether another node has become owner so lately that clients may not know of it yet.
    pub(super) fn was_owner(&self) -> bool {
        self.was_owner_until.is_some()
    }

    /// When they do.
    pub(super) fn was_owner_until(&self) -> Option<Timestamp> {
        self.was_owner_until
    }

    /// Returns whether that moment has come.
    pub(super) fn forget_ownership(&mut self, now: Timestamp) -> bool {
        self.was_owner_until.take_if(|until| *until <= now).is_some()
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
        let leaves = self.is_owner() && hands_over(event);
        self.was_owner_until = match event {
            Event::Announce { .. } | Event::Refresh { .. } => self.was_owner_until,
            _ => leaves.then(|| now + AFTER_HANDOVER),
        };
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

/// Whether an owner to whom this happens gives the VIPs to another one that it has heard, and could go on serving. Not one
/// that fell silent or is in fault: its clients had better ask again.
fn hands_over(event: &Event) -> bool {
    match event {
        Event::BecameBackup { reason, .. } => {
            matches!(reason, BackupReason::BetterOwner { .. } | BackupReason::Released | BackupReason::Group)
        }
        Event::Stopped { .. } => true,
        _ => false,
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

    const KEY: RouterKey = RouterKey(0);

    fn owner() -> Router {
        let parsed =
            crate::config::parse("a.toml", include_str!("../../../configs/tutorial-a.toml")).unwrap();
        let mut router = Router::new(KEY, &parsed.config.virtual_routers[0]);
        router.note(&Event::BecameOwner { router: KEY, reason: OwnerReason::Alone }, Timestamp(1_000));
        router
    }

    #[test]
    fn an_owner_that_hands_over_keeps_the_addresses_for_a_moment_and_one_that_fell_silent_does_not() {
        let now = Timestamp(2_000);
        let backup = |reason| Event::BecameBackup { router: KEY, reason };
        let better = BackupReason::BetterOwner { priority: 200, source: "172.20.128.3".parse().unwrap() };
        for (event, keeps) in [
            (backup(better), true),
            (backup(BackupReason::Released), true),
            (Event::Stopped { router: KEY }, true),
            (backup(BackupReason::LeaseExpired), false),
            (backup(BackupReason::Isolated), false),
            (Event::EnteredFault { router: KEY, cause: FaultCause::Unattended }, false),
        ] {
            let mut router = owner();
            router.note(&event, now);
            assert_eq!(router.was_owner_until(), keeps.then(|| now + AFTER_HANDOVER), "{event:?}");
            assert!(!router.forget_ownership(now), "{event:?}");
            assert_eq!(router.forget_ownership(now + AFTER_HANDOVER), keeps, "{event:?}");
            assert!(!router.was_owner());
            // A backup has nothing to keep, and an owner has it anyway.
            router.note(&backup(BackupReason::Started), now);
            assert!(!router.was_owner(), "{event:?}");
        }
    }

    #[test]
    fn an_owner_whose_lease_is_over_announces_nothing() {
        assert!(owner().announcements_due(Timestamp(1_000), Some(1_001)) > 0);
        for lease in [None, Some(0), Some(999), Some(1_000)] {
            assert_eq!(owner().announcements_due(Timestamp(1_000), lease), 0, "{lease:?}");
        }
    }
}
