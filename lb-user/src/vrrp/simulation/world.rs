//! The simulated network, what disturbs it, and the judge of the leases.

use std::{collections::BTreeMap, time::Duration};

use super::{
    DELAY, INTERVAL,
    node::{Effect, Moment, Node},
};
use crate::{
    time::Timestamp,
    vrrp::{Advert, Input, State, timers},
};

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) nodes: Vec<Node>,
    pub(super) disturbances: Vec<Disturbance>,
    pub(super) seed: u64,
    /// How often a node stalls at a step by itself.
    pub(super) stalls_per_100_000: u32,
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
    Restart {
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
    /// Delays it beyond [`DELAY`].
    Slow {
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
    Deliver { to: usize, advert: Advert, from: usize },
}

pub(super) struct World {
    nodes: Vec<Node>,
    now: Moment,
    events: BTreeMap<(Moment, u64), Event>,
    events_made: u64,
    random: u64,
    stalls_per_100_000: u64,
    /// Which links are disturbed, and how often at once.
    disturbed: BTreeMap<(usize, usize, &'static str), u32>,
    /// When a message between two nodes was last lost, late or not sent, by the time it should have come.
    harmed: BTreeMap<(usize, usize), Moment>,
    /// When the last message of a link arrives: they do not overtake one another.
    arrival: BTreeMap<(usize, usize), Moment>,
    /// Steps done at this very moment.
    steps_now: u32,
    /// When a priority last changed.
    repriced: Moment,
    pub(super) overlaps: u64,
    pub(super) claims: Vec<u32>,
}

const DELAY_NS: u64 = DELAY.as_nanos() as u64;
const INTERVAL_NS: u64 = INTERVAL.as_nanos() as u64;
/// How long after its decision a claim may be sent, and how long an answer may be put off, with a slow clock.
const TENTH: u64 = INTERVAL_NS / 10 * 102 / 100;
/// A claim, and the answer to it.
const HAND_OVER: u64 = 2 * DELAY_NS + TENTH;
/// How long a lease may outlive the last message that should have been heard, with a slow clock.
const HARM: u64 = INTERVAL_NS * 31 / 10;

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let mut world = Self {
            claims: vec![0; plan.nodes.len()],
            nodes: plan.nodes,
            now: 0,
            events: BTreeMap::new(),
            events_made: 0,
            random: plan.seed | 1,
            stalls_per_100_000: u64::from(plan.stalls_per_100_000),
            disturbed: BTreeMap::new(),
            harmed: BTreeMap::new(),
            arrival: BTreeMap::new(),
            steps_now: 0,
            repriced: 0,
            overlaps: 0,
        };
        for Disturbance { begin, duration, kind } in plan.disturbances {
            world.schedule(begin.as_nanos() as Moment, Event::Begin(kind, duration));
        }
        world
    }

    /// Runs `storm` with what was planned and `calm` without, and judges all the while.
    pub(super) fn run(&mut self, storm: Duration, calm: Duration) {
        for node in &mut self.nodes {
            node.start(0);
        }
        self.run_until(storm.as_nanos() as Moment);
        self.calm_down();
        self.run_until(self.now + calm.as_nanos() as Moment);
        self.judge_the_end();
    }

    fn calm_down(&mut self) {
        self.events.retain(|_, event| matches!(event, Event::Deliver { .. }));
        self.disturbed.clear();
        self.stalls_per_100_000 = 0;
        for node in &mut self.nodes {
            node.stalled = None;
            if node.dead || node.machine.state() == State::Stopped {
                node.start(self.now);
            }
            node.input(self.now, Input::FaultCleared);
        }
    }

    fn run_until(&mut self, end: Moment) {
        loop {
            let event = self.events.first_key_value().map(|((moment, _), _)| *moment);
            let thaw = self.nodes.iter().filter_map(|node| node.stalled.map(|(_, until)| until)).min();
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
                for node in
                    self.nodes.iter_mut().filter(|node| node.stalled.is_some_and(|(_, end)| end <= next))
                {
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
            Event::Deliver { to, advert, from } => {
                if !self.nodes[to].dead {
                    self.nodes[to].inbox.push_back((advert, Node::address_of(from)));
                }
            }
            Event::Begin(kind, duration) => {
                self.begin(kind, duration);
                self.schedule(self.now + duration.as_nanos() as Moment, Event::End(kind));
            }
            Event::End(kind) => self.end(kind),
        }
    }

    fn begin(&mut self, kind: Kind, duration: Duration) {
        let now = self.now;
        if let Some(link) = link(kind) {
            *self.disturbed.entry(link).or_default() += 1;
            return;
        }
        let Some(node) = node_of(kind).and_then(|number| self.nodes.get_mut(number)) else { return };
        match kind {
            Kind::Freeze { .. } if !node.dead => node.stall(now, duration),
            Kind::Crash { .. } => node.crash(),
            // A stalled node is told when it is awake again; leave it out, the plan has others.
            _ if !node.awake() => {}
            Kind::Restart { .. } => node.input(now, Input::Stop),
            Kind::Fault { .. } => node.input(now, Input::FaultSet),
            Kind::Priority { priority, .. } => {
                node.input(now, Input::PriorityChanged(priority));
                self.repriced = now;
            }
            _ => {}
        }
    }

    fn end(&mut self, kind: Kind) {
        if let Some(link) = link(kind) {
            *self.disturbed.entry(link).or_insert(1) -= 1;
            return;
        }
        let now = self.now;
        let Some(node) = node_of(kind).and_then(|number| self.nodes.get_mut(number)) else { return };
        match kind {
            Kind::Crash { .. } if node.dead => {
                node.stalled = None;
                node.start(now);
            }
            _ if !node.awake() => {}
            Kind::Restart { .. } => node.input(now, Input::Start),
            Kind::Fault { .. } => node.input(now, Input::FaultCleared),
            _ => {}
        }
    }

    fn work(&mut self, number: usize) {
        if self.chance(self.stalls_per_100_000) {
            let power = self.random() % 13;
            let duration = Duration::from_micros((1000 + self.random() % 1000) << power);
            self.nodes[number].stall(self.now, duration);
            return;
        }
        match self.nodes[number].step(self.now) {
            Effect::None => {}
            Effect::Send { priority, sent } => self.send(number, priority, sent),
            Effect::BecameOwner => self.claims[number] += 1,
        }
        self.nodes[number].settle();
    }

    fn send(&mut self, from: usize, priority: u8, sent: Timestamp) {
        let node = &mut self.nodes[from];
        if node.machine.state() == State::Backup {
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
            let is = |what| self.disturbed.get(&(from, to, what)).is_some_and(|times| *times > 0);
            let (cut, slow, refuse) = (is("cut"), is("slow"), is("refuse"));
            let mut delay = self.random() % DELAY_NS;
            if slow {
                delay += DELAY_NS + self.random() % (3 * INTERVAL_NS);
            }
            let due = self.now + delay;
            let arrival = due.max(self.arrival.get(&(from, to)).copied().unwrap_or(0));
            if cut || refuse || arrival > self.now + DELAY_NS {
                let until = if cut || refuse { self.now } else { arrival };
                let harmed = self.harmed.entry((from.min(to), from.max(to))).or_default();
                *harmed = until.max(*harmed);
            }
            everybody &= !refuse;
            if !cut && !refuse {
                self.arrival.insert((from, to), arrival);
                self.schedule(arrival, Event::Deliver { to, advert: advert.clone(), from });
            }
        }
        if everybody {
            self.nodes[from].sent(sent);
        }
    }

    /// Judges the time from now until `end`, in which no lease changes but by running out.
    fn judge(&mut self, end: Moment) {
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

    /// Two leases at once are allowed only
    ///
    /// * while the network keeps the two apart: a message between them was lost, refused or late no longer ago
    ///   than a lease lasts; or
    /// * in a hand-over: the later one has claimed, and the other has not heard it yet or not been able to
    ///   answer. That takes a round trip. It lasts longer only if the one who must yield (or, when priorities
    ///   changed meanwhile, either) was stalled or dead by then, and then no longer than its lease.
    ///
    /// A hand-over begins only by preemption, or by claims that cross: a node that would not preempt claims
    /// only when nobody else has a lease, or has claimed a moment before.
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
        // Whoever lost by a change of priority yields to what the winner says, who must be able to speak.
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

    /// All is calm: one owner, and the best one unless nobody may preempt it.
    fn judge_the_end(&self) {
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
        let term = timers::lease_term(INTERVAL);
        assert!(
            Timestamp(owner.lease) <= owner.clock(self.now) + term,
            "a lease is never longer than its term"
        );
    }

    fn schedule(&mut self, moment: Moment, event: Event) {
        self.events_made += 1;
        self.events.insert((moment, self.events_made), event);
    }

    fn chance(&mut self, per_100_000: u64) -> bool {
        per_100_000 > 0 && self.random() % 100_000 < per_100_000
    }

    /// xorshift64: repeatable, and good enough to vary delays.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

fn node_of(kind: Kind) -> Option<usize> {
    match kind {
        Kind::Freeze { node }
        | Kind::Crash { node }
        | Kind::Restart { node }
        | Kind::Fault { node }
        | Kind::Priority { node, .. } => Some(node),
        Kind::Cut { .. } | Kind::Slow { .. } | Kind::Refuse { .. } => None,
    }
}

fn link(kind: Kind) -> Option<(usize, usize, &'static str)> {
    match kind {
        Kind::Cut { from, to } => Some((from, to, "cut")),
        Kind::Slow { from, to } => Some((from, to, "slow")),
        Kind::Refuse { from, to } => Some((from, to, "refuse")),
        _ => None,
    }
}
