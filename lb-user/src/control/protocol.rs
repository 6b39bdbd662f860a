//! The control task's part in VRRP: packets and timers in, adverts, leases and gratuitous ARP out.

use std::collections::VecDeque;

use tracing::{error, warn};

use super::{channel::Received, controller::Controller, trackers::Surroundings};
use crate::{
    time::Timestamp,
    track::Effects,
    vrrp::{Action, Input, State},
};

impl Controller {
    /// Feeds every waiting packet to its state machine. Called before any timeout is (vrrp::machine, rule 2):
    /// a node that was frozen hears who owns the VIPs now before it decides anything.
    pub(super) fn receive(&mut self) {
        for channel in 0..self.channels.len() {
            loop {
                match self.channels[channel].receive(&mut self.routers) {
                    Received::Nothing => break,
                    Received::Advert { index, advert, source } if self.routers[index].started => {
                        self.input(index, Input::AdvertReceived { advert, source });
                    }
                    Received::Advert { .. } | Received::Rejected => {}
                }
            }
        }
    }

    /// Hands an input to a state machine and performs what it asks for.
    pub(super) fn input(&mut self, index: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = Timestamp::now();
            let actions = self.routers[index].machine.handle(now, input);
            self.write_lease(index, self.routers[index].machine.lease_expiry());
            for action in actions {
                if let Action::SendAdvert { priority, not_after } = action
                    && let Some(sent) = self.send_advert(index, priority, not_after)
                {
                    inputs.push_back(Input::AdvertSent { sent });
                }
                if action == Action::BecomeOwner {
                    self.explain_ownership(index, now);
                }
                let was_owner = self.routers[index].owned;
                if self.routers[index].note(action, now) {
                    self.dirty = true;
                }
                if was_owner && !self.routers[index].owned {
                    self.leave_flows_behind(index);
                }
                self.announce(index, now);
            }
        }
    }

    /// What this node remembers of flows in unsettled slots is lost with the ownership.
    fn leave_flows_behind(&mut self, index: usize) {
        let flows = self.forwarding.leave_behind(self.routers[index].lease);
        if flows > 0 {
            let router = &self.routers[index].config.name;
            warn!(%router, flows, "the new owner does not know these flows of unsettled slots: some may be reset");
        }
    }

    /// Why this node became owner; an owner that fell silent takes its backends along until probes pass again.
    fn explain_ownership(&mut self, index: usize, now: Timestamp) {
        let router = &mut self.routers[index];
        match (router.silent_owner(now), router.heard) {
            (Some(silent), _) => {
                router.set_reason(format!("{silent} stopped sending adverts"));
                self.health.peer_lost(silent, now);
            }
            (None, Some(heard)) if heard.priority == 0 => {
                router.set_reason(format!("{} handed the VIPs over", heard.source));
            }
            (None, Some(heard)) => {
                router.set_reason(format!("priority above the {} of {}", heard.priority, heard.source));
            }
            (None, None) => router.set_reason("no other owner was heard"),
        }
    }

    /// Sends an advert to every peer; the moment before the first sending if each succeeded.
    fn send_advert(&mut self, index: usize, priority: u8, not_after: Timestamp) -> Option<Timestamp> {
        let router = &mut self.routers[index];
        let channel = self.channels.iter().find(|channel| channel.serves(&router.config))?;
        let payload = match router.acceptance.encode(priority) {
            Ok(payload) => payload,
            Err(error) => {
                error!(router = %router.config.name, %error, "advert not sent");
                return None;
            }
        };
        let before = Timestamp::now();
        if before > not_after {
            return None;
        }
        let mut all = true;
        for peer in &router.acceptance.peers {
            if let Err(error) = channel.socket.send(*peer, &payload) {
                all = false;
                router.send_errors += 1;
                if router.send_errors.is_power_of_two() {
                    warn!(router = %router.config.name, %peer, %error, "advert not sent");
                }
            }
        }
        router.adverts_sent += u64::from(all);
        all.then_some(before)
    }

    pub(super) fn write_lease(&mut self, index: usize, expiry: u64) {
        let lease = self.routers[index].lease;
        if let Err(error) = self.edges.dataplane.set_lease(lease, expiry) {
            // Cannot happen short of a fault of ours: the map is mapped and the index in range. Without it
            // the kernel's guard keeps the last lease, which runs out by itself.
            error!(router = %self.routers[index].config.name, %error, "lease not written");
        }
    }

    /// Announces the VIPs as often as is due.
    pub(super) fn announce(&mut self, index: usize, now: Timestamp) {
        let router = &mut self.routers[index];
        let due = router.announcements_due(now);
        if due == 0 || !router.is_owner() {
            return;
        }
        let Some(link) = self.world.link_named(&router.config.interface) else { return };
        let Some(mac) = link.mac else { return };
        for vip in router.config.vips.iter().flat_map(|vip| std::iter::repeat_n(vip, due as usize)) {
            if let Err(error) = self.edges.announcer.announce(link.index, mac, vip.addr()) {
                warn!(router = %router.config.name, vip = %vip.addr(), %error, "not announced");
            }
        }
    }

    /// Lets everything that is tracked act on the virtual routers.
    pub(super) fn track(&mut self) {
        for index in 0..self.routers.len() {
            let around = Surroundings { config: &self.config, world: &self.world, health: &self.health };
            let Effects { pending, faults, priority, .. } =
                self.trackers.effects(&self.routers[index].config, around);
            if pending && faults.is_empty() {
                continue;
            }
            if !self.routers[index].started {
                self.routers[index].started = true;
                // A virtual router that must not own starts in fault, not as a backup that then leaves.
                if !faults.is_empty() {
                    self.routers[index].set_reason(faults.join("; "));
                    self.input(index, Input::FaultSet);
                }
                self.input(index, Input::Start);
            }
            if self.routers[index].machine.priority() != priority {
                self.input(index, Input::PriorityChanged(priority));
            }
            let faulty = self.routers[index].machine.state() == State::Fault;
            if faults.is_empty() {
                if faulty {
                    self.input(index, Input::FaultCleared);
                }
            } else {
                self.routers[index].set_reason(faults.join("; "));
                if !faulty {
                    self.input(index, Input::FaultSet);
                }
            }
        }
    }
}
