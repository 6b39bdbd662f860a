//! A virtual router as the protocol thread runs it: its state machine, and what it says on the wire.

use std::net::IpAddr;

use super::messages::{OwnerReason, Plan, RouterKey, RouterReport, SessionReport};
use crate::{
    config::VirtualRouter,
    time::Timestamp,
    vrrp::{Acceptance, DecodeCounters, Endpoint, Machine, Settings},
};

/// More nodes than serve one virtual router. What forged adverts add ends here.
const MOST_MET: usize = 16;

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
    /// Its name in messages.
    pub(super) key: RouterKey,
    /// What the configuration says.
    pub(super) config: VirtualRouter,
    /// Its lease number in the data plane.
    pub(super) lease: u32,
    /// The state machine.
    pub(super) machine: Machine,
    /// What it accepts from the wire, and says there.
    pub(super) endpoint: Endpoint,
    /// Whether the machine has been started.
    pub(super) started: bool,
    /// The control task wants it in fault.
    pub(super) told_fault: bool,
    /// Rejected adverts that named this virtual router.
    pub(super) rejected: DecodeCounters,
    /// Adverts sent, each to every peer.
    pub(super) adverts_sent: u64,
    /// Adverts that could not be sent to a peer.
    pub(super) send_errors: u64,
    /// Adverts that passed every check.
    pub(super) adverts_received: u64,
    /// The advert that was accepted last.
    pub(super) heard: Option<Heard>,
    /// Nodes that sent adverts and are not among the configured peers.
    pub(super) met: Vec<IpAddr>,
    /// Who fell silent for BFD last, and when.
    pub(super) silent: Option<(IpAddr, Timestamp)>,
    /// What BFD lets the lease run to, as the machine was told.
    pub(super) lease_cap: Option<Timestamp>,
}

impl Router {
    /// A virtual router that has not started.
    pub(super) fn new(plan: Plan) -> Self {
        let Plan { key, lease, config } = plan;
        Self {
            key,
            lease,
            machine: Machine::new(Settings::from(&config)),
            endpoint: Endpoint::new(Acceptance::from(&config)),
            config,
            started: false,
            told_fault: false,
            rejected: DecodeCounters::default(),
            adverts_sent: 0,
            send_errors: 0,
            adverts_received: 0,
            heard: None,
            met: Vec::new(),
            silent: None,
            lease_cap: None,
        }
    }

    /// Notes who sent an advert; whether that is news. A group does not say beforehand who is in it.
    pub(super) fn meet(&mut self, source: IpAddr) -> bool {
        let news = self.met.len() < MOST_MET
            && !self.config.peers().contains(&source)
            && !self.met.contains(&source);
        if news {
            self.met.push(source);
        }
        news
    }

    /// When the machine needs attention next.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        if self.started { self.machine.next_timeout() } else { None }
    }

    /// Why this node became owner at `now`.
    pub(super) fn owner_reason(&self, now: Timestamp) -> OwnerReason {
        let Some(Heard { source, priority, at }) = self.heard else { return OwnerReason::Alone };
        if priority == 0 {
            OwnerReason::Farewell(source)
        } else if self.silent.is_some_and(|(peer, since)| peer == source && since > at)
            || now.since(at) > self.config.advert_interval * 2
        {
            // A living owner of lower priority, about to be preempted, was heard less than two intervals ago.
            OwnerReason::Silence(source)
        } else {
            OwnerReason::Priority { of: priority, source }
        }
    }

    /// What the control task tells the operator.
    pub(super) fn report(&self, unattributed: DecodeCounters, sessions: Vec<SessionReport>) -> RouterReport {
        RouterReport {
            router: self.key,
            state: self.machine.state(),
            priority: self.machine.priority(),
            lease: Timestamp(self.machine.lease_expiry()),
            adverts_sent: self.adverts_sent,
            send_errors: self.send_errors,
            adverts_received: self.adverts_received,
            rejected: self.rejected,
            observed: *self.endpoint.observed(),
            unattributed,
            sessions,
        }
    }
}
