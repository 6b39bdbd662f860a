//! One simulated node: its machine, its clock, and an adapter that can stall anywhere.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use crate::{
    time::Timestamp,
    vrrp::{Action, Advert, BackupReason, Input, Machine, Settings, State},
};

/// True time, in nanoseconds.
pub(super) type Moment = u64;

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they say independent things about one node")]
pub(super) struct Node {
    pub(super) number: usize,
    pub(super) machine: Machine,
    /// Millionths by which its clock is fast.
    drift: i64,
    /// What its clock showed at the beginning.
    offset: u64,
    /// What waits in the socket.
    pub(super) inbox: VecDeque<(Advert, IpAddr)>,
    /// What the adapter has still to do, in order.
    steps: VecDeque<Step>,
    /// An advert was too late to be sent: ask the machine again.
    ask_again: bool,
    /// The lease in the map.
    pub(super) lease: u64,
    /// Whether it is that of an owner that hands over, or has just stopped doing so.
    pub(super) leaving: bool,
    /// Since when it does nothing, and until when.
    pub(super) stalled: Option<(Moment, Moment)>,
    /// Since when it has not done all there was to do: from a stall on, until it has caught up.
    pub(super) behind: Option<Moment>,
    /// The last time it was, from and to.
    pub(super) was_behind: (Moment, Moment),
    pub(super) dead: bool,
    /// When it last sent its claim, or broke off a hand-over.
    pub(super) claimed: Moment,
    /// When it last was told to claim.
    pub(super) ordered: Moment,
    /// Whether the operator's claim holds.
    pub(super) claiming: bool,
    /// Whether it was told to let others be.
    pub(super) released: bool,
    /// When it began to listen, knowing nobody.
    pub(super) joined: Moment,
    /// What its last advert said.
    pub(super) advertised: u8,
}

#[derive(Clone, Debug)]
enum Step {
    WriteLease { lease: u64, leaving: bool },
    Perform(Action),
    Send { priority: u8, sent: Timestamp },
    Confirm { sent: Timestamp },
}

/// What a step of a node means to the world.
pub(super) enum Effect {
    None,
    /// Send to all peers, then tell the node by [`Node::sent`] whether all went out.
    Send {
        priority: u8,
        sent: Timestamp,
    },
    BecameOwner,
    Yielded,
    Announced,
}

impl Node {
    pub(super) fn new(number: usize, mut settings: Settings, drift: i64, offset: u64) -> Self {
        settings.primary = Self::address_of(number);
        Self {
            number,
            machine: Machine::new(settings),
            drift,
            offset,
            inbox: VecDeque::new(),
            steps: VecDeque::new(),
            ask_again: false,
            lease: 0,
            leaving: false,
            stalled: None,
            behind: None,
            was_behind: (0, 0),
            dead: true,
            claimed: 0,
            ordered: 0,
            claiming: false,
            released: false,
            joined: 0,
            advertised: 0,
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
    pub(super) fn when(&self, timestamp: Timestamp) -> Moment {
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
        self.machine.next_timeout().map(|timeout| self.when(timeout).max(now))
    }

    pub(super) fn input(&mut self, now: Moment, input: Input) {
        let actions = self.machine.handle(self.clock(now), input);
        let leaving = self.machine.state() == State::Leaving;
        self.steps.push_back(Step::WriteLease { lease: self.machine.lease_expiry(), leaving });
        self.steps.extend(actions.into_iter().map(Step::Perform));
    }

    /// Does one thing, in the order of the contract: what is begun, then packets, then timeouts.
    pub(super) fn step(&mut self, now: Moment) -> Effect {
        if let Some(step) = self.steps.pop_front() {
            return self.perform(now, &step);
        }
        if let Some((advert, source)) = self.inbox.pop_front() {
            self.input(now, Input::AdvertReceived { advert, source });
        } else {
            self.ask_again = false;
            self.input(now, Input::Timeout);
        }
        Effect::None
    }

    fn perform(&mut self, now: Moment, step: &Step) -> Effect {
        match *step {
            Step::WriteLease { lease, leaving } => {
                // Who goes on has no better lease until an advert is out.
                let goes_on = self.leaving && !leaving && lease == self.lease;
                if self.leaving && !leaving && !goes_on && lease > 0 {
                    self.claimed = now;
                }
                (self.lease, self.leaving) = (lease, leaving || goes_on);
            }
            Step::Perform(Action::SendAdvert { priority, not_after }) => {
                let sent = self.clock(now);
                if sent <= not_after {
                    self.steps.push_front(Step::Send { priority, sent });
                } else {
                    self.ask_again = true;
                }
            }
            Step::Send { priority, sent } => return Effect::Send { priority, sent },
            Step::Confirm { sent } => {
                // Comes before what else is to do: its own steps must, too.
                let rest = std::mem::take(&mut self.steps);
                self.input(now, Input::AdvertSent { sent });
                self.steps.extend(rest);
            }
            Step::Perform(Action::BecomeOwner) => return Effect::BecameOwner,
            Step::Perform(Action::BecomeBackup { reason: BackupReason::BetterOwner { .. } }) => {
                return Effect::Yielded;
            }
            Step::Perform(Action::BecomeBackup { .. }) => self.joined = now,
            Step::Perform(Action::AnnounceAddresses) => return Effect::Announced,
            Step::Perform(_) => {}
        }
        Effect::None
    }

    /// Notes that it has caught up, if it has.
    pub(super) fn settle(&mut self, now: Moment) {
        let done = self.awake() && self.steps.is_empty() && self.inbox.is_empty();
        if let Some(since) = self.behind.take_if(|_| done) {
            self.was_behind = (since, now);
        }
    }

    /// Every peer was sent to.
    pub(super) fn sent(&mut self, sent: Timestamp) {
        self.steps.push_front(Step::Confirm { sent });
    }

    /// The process is gone; the map stays.
    pub(super) fn crash(&mut self) {
        self.dead = true;
        self.claiming = false;
        self.machine = Machine::new(self.machine.settings().clone());
        self.steps.clear();
        self.inbox.clear();
        self.ask_again = false;
    }

    pub(super) fn start(&mut self, now: Moment) {
        self.dead = false;
        self.inbox.clear();
        self.input(now, Input::Start);
    }

    pub(super) fn stall(&mut self, now: Moment, duration: Duration) {
        let until = now + duration.as_nanos() as u64;
        self.behind.get_or_insert(now);
        self.stalled = Some(match self.stalled {
            Some((since, earlier)) => (since, until.max(earlier)),
            None => (now, until),
        });
    }
}
