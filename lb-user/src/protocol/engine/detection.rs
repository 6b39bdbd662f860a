//! The engine's part in BFD: it keeps the rules at the head of [`bfd::session`](crate::bfd::session).

use std::{collections::VecDeque, net::IpAddr};

use super::{Engine, PACKETS_PER_TURN};
use crate::{
    bfd::{Action, DownReason, Input, timers},
    config::Bfd,
    protocol::{
        detector::{Detector, Seen},
        messages::{Event, SessionChange, Trouble},
        router::Router,
    },
    time::Timestamp,
    vrrp,
};

impl Engine {
    /// Detectors that were opened take their place, or another's; sessions begin and end as the virtual routers want.
    pub(super) fn detect(&mut self, opened: Vec<Detector>) {
        let mut retired = Vec::new();
        for detector in opened {
            match self.detectors.iter_mut().find(|old| detector.replaces(old)) {
                Some(old) => retired.push(old.rewire(detector)),
                None => self.detectors.push(detector),
            }
        }
        self.choose_sessions();
        retired.extend(self.detectors.extract_if(.., |detector| detector.watched.is_empty()));
        if !retired.is_empty() {
            self.events.send(Event::DetectorsRetired(retired));
        }
    }

    /// Makes the sessions what the virtual routers want.
    pub(super) fn choose_sessions(&mut self) {
        let now = (self.clock)();
        for detector in &mut self.detectors {
            let routers = self.routers.iter().filter(|router| detector.serves(&router.config));
            let wanted: Vec<(IpAddr, Bfd)> = routers
                .filter_map(|router| Some((router.config.bfd?, router.config.peers())))
                .flat_map(|(bfd, peers)| peers.iter().map(move |peer| (*peer, bfd)))
                .collect();
            detector.forget(now, |peer, bfd| wanted.contains(&(peer, bfd)));
            for (peer, bfd) in wanted {
                if !detector.watched.iter().any(|watched| watched.peer == peer) {
                    self.sessions_begun += 1;
                    // The clock differs from start to start, the count within one.
                    let seed = now.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.sessions_begun << 33;
                    detector.watch(peer, bfd, seed, now);
                }
            }
        }
        self.cap_leases();
        for index in 0..self.routers.len() {
            self.tell_reach(index);
        }
    }

    /// Feeds every waiting packet to its session.
    pub(super) fn receive_bfd(&mut self) {
        for detector in 0..self.detectors.len() {
            for _ in 0..PACKETS_PER_TURN {
                match self.detectors[detector].receive() {
                    Seen::Nothing => break,
                    Seen::Rejected(trouble) => trouble.into_iter().for_each(|t| self.trouble(t)),
                    Seen::Packet { index, packet } => {
                        self.input_bfd(detector, index, Input::Received(packet));
                    }
                }
            }
        }
    }

    /// Hands over the timeouts that are due.
    pub(super) fn time_out_sessions(&mut self) {
        let now = (self.clock)();
        for detector in 0..self.detectors.len() {
            for index in 0..self.detectors[detector].watched.len() {
                let session = &self.detectors[detector].watched[index].session;
                if session.next_timeout().is_some_and(|at| at <= now) {
                    self.input_bfd(detector, index, Input::Timeout);
                }
            }
        }
    }

    /// The daemon ends: the peers are told that this is no failure.
    pub(super) fn stop_sessions(&mut self) {
        for detector in 0..self.detectors.len() {
            for index in 0..self.detectors[detector].watched.len() {
                self.input_bfd(detector, index, Input::Stop);
            }
        }
    }

    /// Hands an input to a session and performs what it asks for.
    fn input_bfd(&mut self, detector: usize, index: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = (self.clock)();
            let actions = self.detectors[detector].watched[index].session.handle(now, input);
            self.cap_leases();
            for action in actions {
                match action {
                    Action::Send(packet) => {
                        let sent = (self.clock)();
                        let place = &mut self.detectors[detector];
                        let watched = &mut place.watched[index];
                        match place.wire.send(watched.peer, &packet.encode()) {
                            Ok(()) => {
                                watched.sent += 1;
                                inputs.push_back(Input::Sent { sent, packet });
                            }
                            Err(error) => {
                                watched.send_errors += 1;
                                let count = watched.send_errors;
                                if count.is_power_of_two() {
                                    let error = error.to_string();
                                    self.trouble(Trouble::BfdNotSent { count, error });
                                }
                            }
                        }
                    }
                    Action::Up => self.session_changed(detector, index, SessionChange::Up),
                    Action::Down(reason) => {
                        self.detectors[detector].watched[index].downs += 1;
                        self.session_changed(detector, index, SessionChange::Down(reason));
                    }
                    Action::PeerSilent => self.peer_silent(detector, index),
                    Action::PeerDoubts => {
                        for router in self.routers_with(detector, index) {
                            self.input(router, vrrp::Input::PeerDoubts);
                        }
                    }
                }
            }
        }
    }

    /// The virtual routers whose owner that peer may be are told that it may be dead.
    fn peer_silent(&mut self, detector: usize, index: usize) {
        let watched = &self.detectors[detector].watched[index];
        let (peer, bfd) = (watched.peer, watched.bfd);
        let now = (self.clock)();
        for index in self.routers_with(detector, index) {
            let router = &mut self.routers[index];
            if router.config.bfd.is_none() {
                continue;
            }
            router.silent = Some((peer, now));
            let lost = vrrp::Input::OwnerLost {
                source: peer,
                detection_time: bfd.detection_time(),
                delay: timers::claim_delay(bfd.interval, router.machine.priority()),
            };
            self.input(index, lost);
        }
    }

    fn session_changed(&mut self, detector: usize, index: usize, change: SessionChange) {
        let watched = &mut self.detectors[detector].watched[index];
        watched.lost = match change {
            SessionChange::Up => false,
            SessionChange::Down(DownReason::TimedOut | DownReason::Damped) => true,
            SessionChange::Down(_) => watched.lost,
        };
        self.events.send(Event::SessionChanged { peer: watched.peer, change });
        for router in self.routers_with(detector, index) {
            self.tell_reach(router);
        }
    }

    /// Tells a machine what BFD knows of its peers.
    fn tell_reach(&mut self, index: usize) {
        let config = &self.routers[index].config;
        let detector = self.detectors.iter().find(|detector| detector.serves(config));
        let reach = detector.map_or(vrrp::Reach::Unknown, |detector| detector.reach(config.peers()));
        self.input(index, vrrp::Input::Peers(reach));
    }

    fn routers_with(&self, detector: usize, index: usize) -> Vec<usize> {
        let detector = &self.detectors[detector];
        let peer = detector.watched[index].peer;
        let with = |router: &Router| detector.serves(&router.config) && router.config.peers().contains(&peer);
        self.routers.iter().enumerate().filter(|(_, router)| with(router)).map(|(index, _)| index).collect()
    }

    /// Lets no lease run longer than the patience of a peer that may take this node for dead.
    fn cap_leases(&mut self) {
        for index in 0..self.routers.len() {
            let config = &self.routers[index].config;
            let detector = self.detectors.iter().find(|detector| detector.serves(config));
            let cap = detector.and_then(|detector| detector.lease_cap(config.peers()));
            if self.routers[index].lease_cap != cap {
                self.routers[index].lease_cap = cap;
                self.input(index, vrrp::Input::LeaseCap(cap));
            }
        }
    }
}

/// When one of the sessions needs attention next.
pub(super) fn next_timeout(detectors: &[Detector]) -> Option<Timestamp> {
    detectors.iter().filter_map(Detector::next_timeout).min()
}
