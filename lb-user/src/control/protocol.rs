//! The control task's part in VRRP: it tells the protocol thread what tracking says, and does what a change of owner
//! means beside the lease: addresses, gratuitous ARP, rings, the log.

use std::{net::IpAddr, time::Duration};

use tracing::{error, info, warn};

use super::{controller::Controller, detectors::log_change, group, router::Fault, trackers::Surroundings};
use crate::{
    bfd::{Diagnostic, DownReason},
    protocol::{Command, Event, OwnerReason, RouterKey, SessionChange, Trouble},
    time::Timestamp,
    track::Effects,
    vrrp::Input,
};

/// A node that said that it goes has gone after this long, or has changed its mind: its backends' checks know.
const LEAVING: Duration = Duration::from_secs(10);
/// The same for one that BFD takes for dead: it may be slow only.
const SUSPECT: Duration = Duration::from_secs(2);

impl Controller {
    /// Takes what the protocol thread says.
    pub(super) fn protocol_event(&mut self, event: &Event) {
        let now = Timestamp::now();
        self.orders.event(event, &self.routers);
        match event {
            Event::BecameOwner { router, .. }
            | Event::BecameBackup { router, .. }
            | Event::EnteredFault { router, .. }
            | Event::Stopped { router }
            | Event::Announce { router }
            | Event::Refresh { router } => self.router_event(*router, event, now),
            Event::HandedOver { router, source } => {
                if let Some(router) = self.router_of(*router) {
                    info!(router = %self.routers[router].config.name, %source, "handed over");
                }
            }
            Event::Met { node } => {
                self.dirty |= self.world.meet(*node);
                self.routes.stale = true;
            }
            Event::Kept { router } => {
                if let Some(router) = self.router_of(*router) {
                    warn!(router = %self.routers[router].config.name, "nobody took over: this node goes on");
                }
            }
            Event::Trouble(trouble) => self.trouble(trouble),
            Event::SessionChanged { peer, change } => {
                log_change(*peer, *change);
                self.peer_changed(*peer, *change, now);
            }
            // Channels are dropped here, where closing may wait. Who asked for the others takes them.
            Event::Retired(_) | Event::DetectorsRetired(_) | Event::Report(_) | Event::Ended { .. } => {}
        }
    }

    fn router_event(&mut self, key: RouterKey, event: &Event, now: Timestamp) {
        // One that was taken out of the configuration since.
        let Some(index) = self.router_of(key) else { return };
        let was_owner = self.routers[index].is_owner();
        self.routers[index].note(event, now);
        self.dirty |= !matches!(event, Event::Announce { .. } | Event::Refresh { .. });
        if was_owner && !self.routers[index].is_owner() {
            self.leave_flows_behind(index);
        }
        if let Some(input) = group::follow(event, was_owner) {
            self.tell_group(index, &input);
        }
        // An owner that fell silent takes its backends along until probes pass again.
        if let Event::BecameOwner { reason: OwnerReason::Silence(silent), .. } = event {
            self.health.peer_lost(*silent, now);
        }
        self.announce(index, now);
        self.notify(index);
    }

    /// The backends of a node that says that it goes, or that has fallen silent, get no new connections.
    fn peer_changed(&mut self, peer: IpAddr, change: SessionChange, now: Timestamp) {
        self.dirty |= match change {
            SessionChange::Up => self.health.stays(peer),
            SessionChange::Down(DownReason::PeerAdminDown(Diagnostic::ADMINISTRATIVELY_DOWN)) => {
                self.health.leaves(peer, now + LEAVING)
            }
            SessionChange::Down(DownReason::TimedOut) => self.health.leaves(peer, now + SUSPECT),
            SessionChange::Down(_) => false,
        };
    }

    fn trouble(&self, trouble: &Trouble) {
        let name = |key: &RouterKey| {
            self.router_of(*key).map_or("(former)", |index| self.routers[index].config.name.as_str())
        };
        match trouble {
            Trouble::Rejected { interface, source, count, error } => {
                warn!(%interface, %source, count, "VRRP packet rejected: {error}");
            }
            Trouble::NotSent { router, count, error } => {
                warn!(router = name(router), count, %error, "advert not sent");
            }
            Trouble::BfdRejected { interface, source, count, error } => {
                warn!(%interface, %source, count, "BFD packet rejected: {error}");
            }
            Trouble::BfdNotSent { count, error } => warn!(count, %error, "BFD packet not sent"),
            Trouble::LeaseNotWritten { router, error } => {
                error!(router = name(router), %error, "lease not written");
            }
        }
    }

    /// Tells the other members of a virtual router's group what one of them did.
    fn tell_group(&self, index: usize, input: &Input) {
        let name = &self.routers[index].config.name;
        let Some(group) = self.config.group_of(name) else { return };
        for other in &self.routers {
            if other.config.name != *name && group.routers.contains(&other.config.name) {
                self.edges.protocol.send(Command::Tell(other.key, input.clone()));
            }
        }
    }

    fn router_of(&self, key: RouterKey) -> Option<usize> {
        self.routers.iter().position(|router| router.key == key)
    }

    /// What this node remembers of flows in unsettled slots is lost with the ownership.
    pub(super) fn leave_flows_behind(&mut self, index: usize) {
        let flows = self.forwarding.leave_behind(self.routers[index].lease);
        if flows > 0 {
            let router = &self.routers[index].config.name;
            warn!(%router, flows, "the new owner does not know these flows of unsettled slots: some may be reset");
        }
    }

    /// Asks the protocol thread how things stand, and notes it with the virtual routers.
    pub(super) async fn inquire(&mut self) {
        let report = self.edges.protocol.report().await.unwrap_or_default();
        // What the report knows of already.
        while let Some(event) = self.edges.protocol.waiting() {
            self.protocol_event(&event);
        }
        for router in &mut self.routers {
            router.report = report.routers.iter().find(|report| report.router == router.key).cloned();
        }
    }

    /// Announces the VIPs as often as is due.
    pub(super) fn announce(&mut self, index: usize, now: Timestamp) {
        let router = &mut self.routers[index];
        let leases = self.edges.dataplane.leases();
        let due = router.announcements_due(now, leases.expiry(router.lease));
        if due == 0 {
            return;
        }
        let is_owner = || leases.expiry(router.lease).is_some_and(|expiry| Timestamp::now().0 < expiry);
        for vip in router.config.all_vips().map(|vip| vip.addr()) {
            // A virtual MAC address is announced through the interface below, which is up already.
            let Some(link) = self.world.link_named(router.config.link_of(vip)) else { continue };
            let Some(mac) = router.config.mac_of(vip).or(link.mac) else { continue };
            let announce = || self.edges.announcer.announce(link.index, mac, vip);
            if let Err(error) = (0..due).take_while(|_| is_owner()).try_for_each(|_| announce()) {
                warn!(router = %router.config.name, %vip, %error, "not announced");
            }
        }
    }

    /// Lets everything that is tracked act on the virtual routers.
    pub(super) fn track(&mut self) {
        let around = Surroundings { config: &self.config, world: &self.world, health: &self.health };
        for router in &mut self.routers {
            let Effects { pending, faults, hand_over, priority, .. } =
                self.trackers.effects(&router.config, around);
            if pending && faults.is_empty() {
                continue;
            }
            let key = router.key;
            let tell = |input| self.edges.protocol.send(Command::Tell(key, input));
            if !faults.is_empty() {
                router.set_reason(faults.join("; "));
            }
            let fault = (!faults.is_empty()).then_some(Fault { hand_over });
            if router.fault != fault {
                router.fault = fault;
                tell(match fault {
                    Some(Fault { hand_over }) => Input::FaultSet { hand_over },
                    None => Input::FaultCleared,
                });
            }
            // A virtual router that must not own starts in fault, not as a backup that then leaves.
            if !router.started {
                router.started = true;
                tell(Input::Start);
            }
            if router.priority != priority {
                router.priority = priority;
                tell(Input::PriorityChanged(priority));
            }
        }
    }
}
