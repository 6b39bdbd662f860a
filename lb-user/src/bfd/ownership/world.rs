//! The simulated network, what disturbs it, and the judge of the leases.

use std::{collections::BTreeMap, time::Duration};

use super::{
    DELAY, INTERVAL,
    node::{Effect, Message, Moment, Node},
};
use crate::{
    time::Timestamp,
    vrrp::{Advert, Input, State},
};

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) nodes: Vec<Node>,
    pub(super) disturbances: Vec<Disturbance>,
    pub(super) seed: u64,
    /// How often a node stalls at a step by itself.
    pub(super) stalls_per_100_000: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Disturbance {
    pub(super) begin: Duration,
    pub(super) duration: Duration,
    pub(super) kind: Kind,
}

/// Node numbers may be too large: then it is none.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Freeze {
        node: usize,
    },
    Crash {
        node: usize,
    },
    Fault {
        node: usize,
    },
    Priority {
        node: usize,
        priority: u8,
    },
    /// Loses what `from` sends to `to`.
    Cut {
        from: usize,
        to: usize,
    },
    /// The kernel refuses to send it.
    Refuse {
        from: usize,
        to: usize,
    },
}

#[derive(Clone, Debug)]
enum Event {
    Begin(Kind, Duration),
    End(Kind),
    Deliver { to: usize, message: Message, from: usize },
}

pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) now: Moment,
    events: BTreeMap<(Moment, u64), Event>,
    events_made: u64,
    random: u64,
    stalls_per_100_000: u64,
    /// How often at once each link is cut, or refuses.
    cut: BTreeMap<(usize, usize), u32>,
    refused: BTreeMap<(usize, usize), u32>,
    /// When a message between two nodes was last lost or not sent.
    harmed: BTreeMap<(usize, usize), Moment>,
    /// When the last message of a link arrives: they do not overtake one another.
    arrival: BTreeMap<(usize, usize), Moment>,
    steps_now: u32,
    repriced: Moment,
    pub(super) overlaps: u64,
    /// The longest time so far, since there was an owner first, in which nobody had a lease.
    pub(super) outage: Duration,
    /// When a lease last ended with nobody having one.
    unowned: Option<Moment>,
}

const DELAY_NS: u64 = DELAY.as_nanos() as u64;
/// How long after its decision a claim may be sent, and how long an answer may be put off, with a slow clock.
const TENTH: u64 = INTERVAL.as_nanos() as u64 / 10 * 102 / 100;
/// A claim, and the answer to it.
const HAND_OVER: u64 = 2 * DELAY_NS + TENTH;
/// How long a lease may outlive the last message that should have been heard, with a slow clock.
const HARM: u64 = INTERVAL.as_nanos() as u64 * 31 / 10;

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let mut world = Self {
            nodes: plan.nodes,
            now: 0,
            events: BTreeMap::new(),
            events_made: 0,
            random: plan.seed | 1,
            stalls_per_100_000: plan.stalls_per_100_000,
            cut: BTreeMap::new(),
            refused: BTreeMap::new(),
            harmed: BTreeMap::new(),
            arrival: BTreeMap::new(),
            steps_now: 0,
            repriced: 0,
            overlaps: 0,
            outage: Duration::ZERO,
            unowned: None,
        };
        for Disturbance { begin, duration, kind } in plan.disturbances {
            world.schedule(begin.as_nanos() as Moment, Event::Begin(kind, duration));
        }
        for node in &mut world.nodes {
            node.start(0);
        }
        world
    }

    /// Nothing disturbs any more, whatever was planned, and every node lives.
    pub(super) fn calm_down(&mut self) {
        self.events.retain(|_, event| matches!(event, Event::Deliver { .. }));
        self.cut.clear();
        self.refused.clear();
        self.stalls_per_100_000 = 0;
        for node in &mut self.nodes {
            node.stalled = None;
            if node.dead {
                node.start(self.now);
            }
            node.input(self.now, Input::FaultCleared);
        }
    }

    /// Goes on until `end` and judges all the while.
    pub(super) fn run_until(&mut self, end: Duration) {
        let end = end.as_nanos() as Moment;
        loop {
            let event = self.events.first_key_value().map(|((moment, _), _)| *moment);
            let thaw = self.nodes.iter().filter_map(|node| node.stalled).min();
            let work = self.nodes.iter().filter_map(|node| Some((node.next(self.now)?, node.number))).min();
            let next = [event, thaw, work.map(|(moment, _)| moment)].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next < end) else { break };
            self.judge(next);
            self.steps_now = if next == self.now { self.steps_now + 1 } else { 0 };
            assert!(self.steps_now < 10_000, "at {next}: nodes run in circles: {:#?}", self.nodes);
            self.now = next;
            if event == Some(next) {
                let (_, event) = self.events.pop_first().expect("it is the first");
                self.happen(event);
            } else if thaw == Some(next) {
                for node in self.nodes.iter_mut().filter(|node| node.stalled.is_some_and(|end| end <= next)) {
                    node.stalled = None;
                    node.settle();
                }
            } else if let Some((_, number)) = work {
                self.work(number);
            }
        }
        self.judge(end);
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { to, message, from } => self.nodes[to].receive(from, message),
            Event::Begin(kind, duration) => {
                self.begin(kind, duration);
                self.schedule(self.now + duration.as_nanos() as Moment, Event::End(kind));
            }
            Event::End(kind) => self.end(kind),
        }
    }

    fn begin(&mut self, kind: Kind, duration: Duration) {
        let now = self.now;
        match kind {
            Kind::Cut { from, to } => *self.cut.entry((from, to)).or_default() += 1,
            Kind::Refuse { from, to } => *self.refused.entry((from, to)).or_default() += 1,
            Kind::Freeze { node }
            | Kind::Crash { node }
            | Kind::Fault { node }
            | Kind::Priority { node, .. } => {
                let Some(node) = self.nodes.get_mut(node) else { return };
                match kind {
                    Kind::Freeze { .. } if !node.dead => node.stall(now, duration),
                    Kind::Crash { .. } => node.crash(),
                    // A stalled node is told when it is awake again; leave it out, the plan has others.
                    _ if !node.awake() => {}
                    Kind::Fault { .. } => node.input(now, Input::FaultSet { hand_over: false }),
                    Kind::Priority { priority, .. } => {
                        node.input(now, Input::PriorityChanged(priority));
                        self.repriced = now;
                    }
                    _ => {}
                }
            }
        }
    }

    fn end(&mut self, kind: Kind) {
        let now = self.now;
        match kind {
            Kind::Cut { from, to } => *self.cut.entry((from, to)).or_insert(1) -= 1,
            Kind::Refuse { from, to } => *self.refused.entry((from, to)).or_insert(1) -= 1,
            Kind::Crash { node } => {
                if let Some(node) = self.nodes.get_mut(node).filter(|node| node.dead) {
                    node.stalled = None;
                    node.start(now);
                }
            }
            Kind::Fault { node } => {
                if let Some(node) = self.nodes.get_mut(node).filter(|node| node.awake()) {
                    node.input(now, Input::FaultCleared);
                }
            }
            Kind::Freeze { .. } | Kind::Priority { .. } => {}
        }
    }

    fn work(&mut self, number: usize) {
        if self.stalls_per_100_000 > 0 && self.random() % 100_000 < self.stalls_per_100_000 {
            let power = self.random() % 13;
            let duration = Duration::from_micros((1000 + self.random() % 1000) << power);
            self.nodes[number].stall(self.now, duration);
            return;
        }
        match self.nodes[number].step(self.now) {
            Effect::None => {}
            Effect::SendAdvert { priority, sent } => self.send_advert(number, priority, sent),
            Effect::SendBfd { to, packet, sent } => {
                if self.carry(number, to, Message::Bfd(packet)) {
                    self.nodes[number].bfd_sent(to, packet, sent);
                }
            }
        }
        self.nodes[number].settle();
    }

    fn send_advert(&mut self, from: usize, priority: u8, sent: Timestamp) {
        let node = &mut self.nodes[from];
        if node.machine.state() == State::Backup && priority > 0 {
            node.claimed = self.now;
        }
        node.advertised = priority;
        let advert = Advert {
            router_id: 1,
            priority,
            advert_interval: INTERVAL,
            addresses: vec![std::net::Ipv4Addr::new(192, 0, 2, 99).into()],
        };
        let mut everybody = true;
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            everybody &= self.carry(from, to, Message::Advert(advert.clone()));
        }
        if everybody {
            self.nodes[from].advert_sent(sent);
        }
    }

    /// Whether the kernel took it.
    fn carry(&mut self, from: usize, to: usize, message: Message) -> bool {
        let is = |links: &BTreeMap<_, u32>| links.get(&(from, to)).is_some_and(|times| *times > 0);
        let (cut, refused) = (is(&self.cut), is(&self.refused));
        if cut || refused {
            self.harmed.insert((from.min(to), from.max(to)), self.now);
        } else {
            let due = self.now + self.random() % DELAY_NS;
            let arrival = due.max(self.arrival.get(&(from, to)).copied().unwrap_or(0));
            self.arrival.insert((from, to), arrival);
            self.schedule(arrival, Event::Deliver { to, message, from });
        }
        !refused
    }

    /// Judges the time from now until `end`, in which no lease changes but by running out.
    fn judge(&mut self, end: Moment) {
        let lease = self.nodes.iter().map(Node::lease_end).max().unwrap_or(0);
        if lease > self.now {
            if let Some(since) = self.unowned.take() {
                self.outage = self.outage.max(Duration::from_nanos(self.now - since));
            }
            if lease < end {
                self.unowned = Some(lease);
            }
        }
        for first in 0..self.nodes.len() {
            for second in 0..first {
                let (a, b) = (&self.nodes[first], &self.nodes[second]);
                let until = a.lease_end().min(b.lease_end()).min(end);
                if until > self.now {
                    self.overlaps += 1;
                    self.judge_overlap(first, second, until);
                }
            }
        }
    }

    /// Two leases at once are allowed only while the network parts the two (a message between them was lost no longer
    /// ago than a lease lasts), or in a hand-over: the later one has claimed by preemption, or at the same time as the
    /// other, and who must yield has not heard it yet, or was stalled or dead by then.
    fn judge_overlap(&self, first: usize, second: usize, until: Moment) {
        let pair = (first.min(second), first.max(second));
        if self.harmed.get(&pair).is_some_and(|harmed| until <= *harmed + HARM) {
            return;
        }
        let (first, second) = (&self.nodes[first], &self.nodes[second]);
        let (earlier, later) = if first.claimed < second.claimed { (first, second) } else { (second, first) };
        let preempts = later.machine.settings().preempt && later.advertised > earlier.advertised;
        let crossed = later.claimed - earlier.claimed <= DELAY_NS + TENTH;
        let repriced = self.repriced + HAND_OVER >= later.claimed;
        assert!(
            preempts || crossed || repriced,
            "at {until}: {} claimed at {} though {} had a lease: {:#?}",
            later.number,
            later.claimed,
            earlier.number,
            self.nodes
        );
        let rank = |node: &Node| (node.advertised, node.address());
        let (loser, winner) = if rank(earlier) < rank(later) { (earlier, later) } else { (later, earlier) };
        let bound = later.claimed.max(self.repriced) + HAND_OVER;
        let stalls = |node: &Node| node.dead || node.behind.is_some_and(|since| since <= bound);
        let stalled = stalls(loser) || repriced && stalls(winner);
        assert!(
            until <= bound || stalled,
            "at {until}: {} still has a lease though {} claimed at {}: {:#?}",
            loser.number,
            later.number,
            later.claimed,
            self.nodes
        );
    }

    /// All is calm: one owner, and the best one unless nobody may preempt it; every session is up.
    pub(super) fn judge_the_end(&self) {
        let owners: Vec<&Node> = self.nodes.iter().filter(|node| node.lease_end() > self.now).collect();
        let [owner] = owners.as_slice() else { panic!("{} owners: {:#?}", owners.len(), self.nodes) };
        for node in self.nodes.iter().filter(|node| node.number != owner.number) {
            assert_eq!(node.machine.state(), State::Backup, "{:#?}", self.nodes);
            let settings = node.machine.settings();
            assert!(
                !settings.preempt || node.machine.priority() <= owner.machine.priority(),
                "{} should be owner: {:#?}",
                node.number,
                self.nodes
            );
        }
    }

    fn schedule(&mut self, moment: Moment, event: Event) {
        self.events_made += 1;
        self.events.insert((moment, self.events_made), event);
    }

    /// xorshift64: repeatable, and good enough to vary delays.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
