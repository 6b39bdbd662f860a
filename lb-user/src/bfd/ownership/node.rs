//! One simulated node: its virtual router, its sessions, its clock, and an adapter that can stall anywhere.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{BFD, INTERVAL};
use crate::{
    bfd::{self, Packet, Role, Session, timers},
    config::VrrpVersion,
    time::Timestamp,
    vrrp::{self, Advert, Machine, Settings},
};

/// True time, in nanoseconds.
pub(super) type Moment = u64;

/// What travels between nodes.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Advert(Advert),
    Bfd(Packet),
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) number: usize,
    pub(super) machine: Machine,
    /// By the peer's number.
    pub(super) sessions: BTreeMap<usize, Session>,
    peers: usize,
    /// Millionths by which its clock is fast.
    drift: i64,
    /// What its clock showed at the beginning.
    offset: u64,
    /// How often it was started.
    starts: u32,
    inbox: VecDeque<(usize, Message)>,
    /// What the adapter has still to do, in order.
    steps: VecDeque<Step>,
    ask_again: bool,
    /// The lease in the map.
    lease: u64,
    pub(super) stalled: Option<Moment>,
    /// Since when it has not done all there was to do.
    pub(super) behind: Option<Moment>,
    pub(super) dead: bool,
    /// When it last sent its claim, and what its last advert said.
    pub(super) claimed: Moment,
    pub(super) advertised: u8,
    pub(super) became_owner: Vec<Moment>,
}

#[derive(Clone, Debug)]
enum Step {
    WriteLease(u64),
    Perform(vrrp::Action),
    SendAdvert { priority: u8, sent: Timestamp },
    AdvertSent { sent: Timestamp },
    PerformBfd(usize, bfd::Action),
    SendBfd { to: usize, packet: Packet, sent: Timestamp },
    BfdSent { to: usize, packet: Packet, sent: Timestamp },
}

/// What a step of a node means to the world.
pub(super) enum Effect {
    None,
    /// Send to all peers, then tell the node by [`Node::advert_sent`] if all went out.
    SendAdvert {
        priority: u8,
        sent: Timestamp,
    },
    /// Send to one, then tell the node by [`Node::bfd_sent`] if it went out.
    SendBfd {
        to: usize,
        packet: Packet,
        sent: Timestamp,
    },
}

impl Node {
    pub(super) fn new(
        number: usize,
        peers: usize,
        priority: u8,
        preempt: bool,
        drift: i64,
        offset: u64,
    ) -> Self {
        let settings = Settings {
            version: VrrpVersion::V2,
            priority,
            preempt,
            preempt_delay: Duration::ZERO,
            announce_refresh: None,
            advert_interval: INTERVAL,
            primary: Self::address_of(number),
        };
        Self {
            number,
            machine: Machine::new(settings),
            sessions: BTreeMap::new(),
            peers,
            drift,
            offset,
            starts: 0,
            inbox: VecDeque::new(),
            steps: VecDeque::new(),
            ask_again: false,
            lease: 0,
            stalled: None,
            behind: None,
            dead: true,
            claimed: 0,
            advertised: 0,
            became_owner: Vec::new(),
        }
    }

    pub(super) fn address_of(number: usize) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, 1 + number as u8).into()
    }

    pub(super) fn address(&self) -> IpAddr {
        Self::address_of(self.number)
    }

    /// What its clock shows.
    pub(super) fn clock(&self, now: Moment) -> Timestamp {
        let shown = i128::from(now) * i128::from(1_000_000 + self.drift) / 1_000_000;
        Timestamp(self.offset + u64::try_from(shown).expect("time is positive"))
    }

    /// The first true moment at which its clock shows `timestamp` or more.
    fn when(&self, timestamp: Timestamp) -> Moment {
        let shown = u128::from(timestamp.0.saturating_sub(self.offset));
        let rate = u128::from((1_000_000 + self.drift).unsigned_abs());
        u64::try_from((shown * 1_000_000).div_ceil(rate)).expect("the simulation is short")
    }

    /// When the lease in its kernel ends.
    pub(super) fn lease_end(&self) -> Moment {
        if self.lease == 0 { 0 } else { self.when(Timestamp(self.lease)) }
    }

    pub(super) fn awake(&self) -> bool {
        !self.dead && self.stalled.is_none()
    }

    /// When it has something to do next, unless something happens to it.
    pub(super) fn next(&self, now: Moment) -> Option<Moment> {
        if !self.awake() {
            return None;
        }
        if !self.steps.is_empty() || !self.inbox.is_empty() || self.ask_again {
            return Some(now);
        }
        let sessions = self.sessions.values().filter_map(Session::next_timeout);
        let next = sessions.chain(self.machine.next_timeout()).min();
        next.map(|timeout| self.when(timeout).max(now))
    }

    pub(super) fn receive(&mut self, from: usize, message: Message) {
        if !self.dead {
            self.inbox.push_back((from, message));
        }
    }

    pub(super) fn input(&mut self, now: Moment, input: vrrp::Input) {
        let actions = self.machine.handle(self.clock(now), input);
        self.steps.push_back(Step::WriteLease(self.machine.lease_expiry()));
        self.steps.extend(actions.into_iter().map(Step::Perform));
    }

    /// First the cap, which the machine writes into the lease, then what the session asks for.
    fn input_bfd(&mut self, now: Moment, peer: usize, input: bfd::Input) {
        let clock = self.clock(now);
        let Some(session) = self.sessions.get_mut(&peer) else { return };
        let actions = session.handle(clock, input);
        let cap = self.sessions.values().filter_map(Session::lease_cap).min();
        self.input(now, vrrp::Input::LeaseCap(cap));
        self.steps.extend(actions.into_iter().map(|action| Step::PerformBfd(peer, action)));
    }

    /// Does what `inputs` leads to before what else is to do.
    fn first(&mut self, inputs: impl FnOnce(&mut Self)) {
        let rest = std::mem::take(&mut self.steps);
        inputs(self);
        self.steps.extend(rest);
    }

    /// Does one thing, in the order of the contract: what is begun, then packets, then timeouts.
    pub(super) fn step(&mut self, now: Moment) -> Effect {
        if let Some(step) = self.steps.pop_front() {
            return self.perform(now, step);
        }
        if let Some((from, message)) = self.inbox.pop_front() {
            match message {
                Message::Advert(advert) => {
                    let source = Self::address_of(from);
                    self.input(now, vrrp::Input::AdvertReceived { advert, source });
                }
                Message::Bfd(packet) => self.receive_bfd(now, from, packet),
            }
            return Effect::None;
        }
        self.ask_again = false;
        let clock = self.clock(now);
        let due = |session: &Session| session.next_timeout().is_some_and(|at| at <= clock);
        match self.sessions.iter().find(|(_, session)| due(session)).map(|(peer, _)| *peer) {
            Some(peer) => self.input_bfd(now, peer, bfd::Input::Timeout),
            None => self.input(now, vrrp::Input::Timeout),
        }
        Effect::None
    }

    /// As `packet::decode` finds the session.
    fn receive_bfd(&mut self, now: Moment, from: usize, packet: Packet) {
        let Some(session) = self.sessions.get(&from) else { return };
        let down = matches!(packet.state, bfd::SessionState::Down | bfd::SessionState::AdminDown);
        let known = packet.your_discriminator == session.settings().discriminator;
        if known || packet.your_discriminator == 0 && down {
            self.input_bfd(now, from, bfd::Input::Received(packet));
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "what is done is done with")]
    fn perform(&mut self, now: Moment, step: Step) -> Effect {
        match step {
            Step::WriteLease(lease) => self.lease = lease,
            Step::Perform(vrrp::Action::SendAdvert { priority, not_after }) => {
                let sent = self.clock(now);
                if sent <= not_after {
                    self.steps.push_front(Step::SendAdvert { priority, sent });
                } else {
                    self.ask_again = true;
                }
            }
            Step::SendAdvert { priority, sent } => return Effect::SendAdvert { priority, sent },
            Step::AdvertSent { sent } => {
                self.first(|node| node.input(now, vrrp::Input::AdvertSent { sent }));
            }
            Step::Perform(vrrp::Action::BecomeOwner) => self.became_owner.push(now),
            Step::PerformBfd(to, bfd::Action::Send(packet)) => {
                let sent = self.clock(now);
                self.steps.push_front(Step::SendBfd { to, packet, sent });
            }
            Step::SendBfd { to, packet, sent } => return Effect::SendBfd { to, packet, sent },
            Step::BfdSent { to, packet, sent } => {
                self.first(|node| node.input_bfd(now, to, bfd::Input::Sent { sent, packet }));
            }
            Step::PerformBfd(peer, bfd::Action::PeerSilent) => {
                let lost = vrrp::Input::OwnerLost {
                    source: Self::address_of(peer),
                    detection_time: BFD.detection_time(),
                    delay: timers::claim_delay(BFD.interval, self.machine.priority()),
                };
                self.first(|node| node.input(now, lost));
            }
            Step::PerformBfd(_, bfd::Action::PeerDoubts) => {
                self.first(|node| node.input(now, vrrp::Input::PeerDoubts));
            }
            Step::Perform(_) | Step::PerformBfd(_, bfd::Action::Up | bfd::Action::Down(_)) => {}
        }
        Effect::None
    }

    /// Notes that it has caught up, if it has.
    pub(super) fn settle(&mut self) {
        if self.awake() && self.steps.is_empty() && self.inbox.is_empty() {
            self.behind = None;
        }
    }

    pub(super) fn advert_sent(&mut self, sent: Timestamp) {
        self.steps.push_front(Step::AdvertSent { sent });
    }

    pub(super) fn bfd_sent(&mut self, to: usize, packet: Packet, sent: Timestamp) {
        self.steps.push_front(Step::BfdSent { to, packet, sent });
    }

    /// The process is gone; the map stays.
    pub(super) fn crash(&mut self) {
        self.dead = true;
        self.machine = Machine::new(self.machine.settings().clone());
        self.sessions.clear();
        self.steps.clear();
        self.inbox.clear();
        self.ask_again = false;
    }

    pub(super) fn start(&mut self, now: Moment) {
        self.dead = false;
        self.starts += 1;
        self.inbox.clear();
        let clock = self.clock(now);
        for peer in (0..self.peers).filter(|peer| *peer != self.number) {
            let numbers = (self.number * 10 + peer) as u32;
            let settings = bfd::Settings {
                discriminator: 1 + self.starts * 100 + numbers,
                interval: BFD.interval,
                multiplier: BFD.multiplier,
                role: Role::Active,
                seed: self.offset ^ u64::from(numbers) << 32,
            };
            self.sessions.insert(peer, Session::new(settings, clock));
        }
        self.input(now, vrrp::Input::LeaseCap(None));
        self.input(now, vrrp::Input::Start);
    }

    pub(super) fn stall(&mut self, now: Moment, duration: Duration) {
        let until = now + duration.as_nanos() as u64;
        self.behind.get_or_insert(now);
        self.stalled = Some(self.stalled.map_or(until, |earlier| until.max(earlier)));
    }
}
