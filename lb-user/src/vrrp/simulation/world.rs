//! The simulated network, what disturbs it, and the judge of the leases.

use std::{collections::BTreeMap, time::Duration};

use super::node::{Effect, Moment, Node};
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
        hand_over: bool,
    },
    /// The operator's orders.
    Release {
        node: usize,
    },
    Claim {
        node: usize,
    },
    /// The witness does not answer.
    NoWitness {
        node: usize,
    },
    /// What its sync group does.
    GroupClaims {
        node: usize,
    },
    GroupYields {
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
    /// Delays it beyond what is usual.
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
    /// The longest advert interval there is.
    interval: u64,
    /// The longest an undisturbed message takes.
    delay: u64,
    /// Nodes differ in their intervals.
    mixed: bool,
    pub(super) overlaps: u64,
    /// When two nodes had a lease, and when none had.
    both: Spans,
    gaps: Spans,
    pub(super) claims: Vec<u32>,
    /// When each node last yielded to a better owner, and announced its addresses because of a conflict.
    pub(super) yielded: Vec<Moment>,
    pub(super) announced: Vec<Moment>,
}

/// Times that follow one another, those that touch made one.
#[derive(Default)]
struct Spans(Vec<(Moment, Moment)>);

impl Spans {
    fn add(&mut self, begin: Moment, end: Moment) {
        match self.0.last_mut() {
            _ if begin >= end => {}
            Some((_, last)) if *last >= begin => *last = end.max(*last),
            _ => self.0.push((begin, end)),
        }
    }

    fn longest_after(&self, begin: Duration) -> Duration {
        let spans = self.0.iter().filter(|(_, end)| *end > nanoseconds(begin));
        Duration::from_nanos(spans.map(|(begin, end)| end - begin).max().unwrap_or_default())
    }
}

/// How many of the longest undisturbed delays an interval has.
pub(super) const DELAYS: u64 = 200;

impl World {
    /// How long after its decision a claim may be sent, and how long an answer may be put off, with a slow clock.
    fn tenth(&self) -> u64 {
        nanoseconds(timers::claim_term(Duration::from_nanos(self.interval))) * 102 / 100
    }

    /// A claim, and the answer to it.
    fn hand_over(&self) -> u64 {
        2 * self.delay + self.tenth()
    }

    /// How long a lease may outlive the last message that should have been heard, with a slow clock.
    fn harm(&self) -> u64 {
        self.interval * 31 / 10
    }

    pub(super) fn new(plan: Plan) -> Self {
        let intervals = || plan.nodes.iter().map(|node| nanoseconds(node.machine.settings().advert_interval));
        let interval = intervals().max().unwrap_or_default();
        let mut world = Self {
            interval,
            delay: interval / DELAYS,
            mixed: intervals().any(|other| other != interval),
            claims: vec![0; plan.nodes.len()],
            yielded: vec![0; plan.nodes.len()],
            announced: vec![0; plan.nodes.len()],
            both: Spans::default(),
            gaps: Spans::default(),
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
        self.run_storm(storm);
        self.calm_down();
        self.run_until(self.now + nanoseconds(calm));
        self.judge_the_end();
    }

    /// Runs what was planned, and ends in the middle of it.
    pub(super) fn run_storm(&mut self, storm: Duration) {
        for node in &mut self.nodes {
            node.start(0);
        }
        self.run_until(nanoseconds(storm));
    }

    /// So many of the longest advert intervals.
    pub(super) fn intervals(&self, count: u32) -> Duration {
        Duration::from_nanos(self.interval) * count
    }

    /// The longest time in which two nodes had a lease, of those that ended later than `begin`.
    pub(super) fn both_after(&self, begin: Duration) -> Duration {
        self.both.longest_after(begin)
    }

    /// The longest time in which no node had a lease, of those that ended later than `begin`.
    pub(super) fn gap_after(&self, begin: Duration) -> Duration {
        self.gaps.longest_after(begin)
    }

    fn calm_down(&mut self) {
        self.events.retain(|_, event| matches!(event, Event::Deliver { .. }));
        self.disturbed.clear();
        self.stalls_per_100_000 = 0;
        for node in &mut self.nodes {
            node.stalled = None;
            if node.dead {
                node.start(self.now);
            }
            for input in [Input::Start, Input::FaultCleared, Input::Witness(true)] {
                node.input(self.now, input);
            }
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
                    node.settle(next);
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
            Kind::Restart { .. } => {
                node.claiming = false;
                node.input(now, Input::Stop);
            }
            Kind::Fault { hand_over, .. } => node.input(now, Input::FaultSet { hand_over }),
            Kind::Priority { priority, .. } => {
                node.input(now, Input::PriorityChanged(priority));
                self.repriced = now;
            }
            Kind::Release { .. } => {
                (node.released, node.claiming) = (true, false);
                node.input(now, Input::Release);
                self.repriced = now;
            }
            Kind::Claim { .. } => {
                (node.released, node.claiming, node.ordered) = (false, true, now);
                node.input(now, Input::Claim);
                self.repriced = now;
            }
            Kind::GroupClaims { .. } => {
                node.ordered = now;
                node.input(now, Input::ClaimWithGroup);
            }
            Kind::GroupYields { .. } => node.input(now, Input::YieldWithGroup),
            Kind::NoWitness { .. } => node.input(now, Input::Witness(false)),
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
            Kind::NoWitness { .. } => node.input(now, Input::Witness(true)),
            _ => {}
        }
    }

    fn work(&mut self, number: usize) {
        if self.chance(self.stalls_per_100_000) {
            let power = self.random() % 13;
            let duration =
                Duration::from_nanos((self.interval / 1_000_000 * (1000 + self.random() % 1000)) << power);
            self.nodes[number].stall(self.now, duration);
            return;
        }
        match self.nodes[number].step(self.now) {
            Effect::None => {}
            Effect::Send { priority, sent } => self.send(number, priority, sent),
            Effect::BecameOwner => self.claims[number] += 1,
            Effect::Yielded => self.yielded[number] = self.now,
            Effect::Announced => self.announced[number] = self.now,
        }
        self.nodes[number].settle(self.now);
    }

    fn send(&mut self, from: usize, priority: u8, sent: Timestamp) {
        let node = &mut self.nodes[from];
        if node.machine.state() == State::Backup {
            node.claimed = self.now;
        }
        if priority > 0 {
            node.advertised = priority;
        }
        let advert = Advert {
            router_id: 1,
            priority,
            advert_interval: node.machine.settings().advert_interval,
            addresses: vec![std::net::Ipv4Addr::new(192, 0, 2, 99).into()],
        };
        let mut everybody = true;
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            let is = |what| self.disturbed.get(&(from, to, what)).is_some_and(|times| *times > 0);
            let (cut, slow, refuse) = (is("cut"), is("slow"), is("refuse"));
            let mut delay = self.random() % self.delay;
            if slow {
                delay += self.delay + self.random() % (3 * self.interval);
            }
            let due = self.now + delay;
            let arrival = due.max(self.arrival.get(&(from, to)).copied().unwrap_or(0));
            if cut || refuse || arrival > self.now + self.delay {
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
        let held = self.nodes.iter().map(Node::lease_end).max().unwrap_or_default();
        self.gaps.add(held.max(self.now), end);
        for first in 0..self.nodes.len() {
            for second in 0..first {
                let (a, b) = (&self.nodes[first], &self.nodes[second]);
                let until = a.lease_end().min(b.lease_end()).min(end);
                if until > self.now {
                    self.overlaps += 1;
                    self.both.add(self.now, until);
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
    ///   changed meanwhile, either) was stalled or dead by then, and then no longer than its lease: which is
    ///   a short one, if it was about to leave.
    ///
    /// A hand-over begins only by preemption, by order, by a farewell, or by claims that cross: any other node
    /// claims only when nobody else has a lease, or has claimed a moment before.
    fn judge_overlap(&self, first: usize, second: usize, until: Moment) {
        let pair = (first.min(second), first.max(second));
        let (first, second) = (&self.nodes[first], &self.nodes[second]);
        let left = if first.leaving || second.leaving { nanoseconds(timers::LEAVING_MARGIN) } else { 0 };
        if self.harmed.get(&pair).is_some_and(|harmed| until <= *harmed + self.harm() + left) {
            return;
        }
        let (earlier, later) = if first.claimed < second.claimed { (first, second) } else { (second, first) };
        let settings = later.machine.settings();
        let wants = settings.preempt || settings.priority == 255 || later.claiming;
        let preempts = wants && later.advertised > earlier.advertised;
        let crossed = later.claimed - earlier.claimed <= self.delay + self.tenth();
        let repriced = self.repriced + self.hand_over() >= later.claimed;
        let ordered = later.ordered > 0 && later.claimed <= later.ordered + 10 * self.interval;
        // It need not have heard the owner yet: the address owner, and who has a shorter interval.
        let newcomer =
            (settings.priority == 255 || self.mixed) && later.claimed <= later.joined + self.harm();
        assert!(
            earlier.leaving || preempts || crossed || repriced || ordered || newcomer,
            "at {until}: {} claimed at {} though {} had a lease: {:#?}",
            later.number,
            later.claimed,
            earlier.number,
            self.nodes
        );
        let rank = |node: &Node| (!node.leaving, node.advertised, node.address());
        let (loser, winner) = if rank(earlier) < rank(later) { (earlier, later) } else { (later, earlier) };
        // Whoever lost by a change of priority, or claimed without having listened, yields to what the winner says, who
        // must be able to speak, and whose words take their time.
        let awaited = repriced || ordered || newcomer || loser.leaving;
        let soon = later.claimed.max(self.repriced) + self.hand_over();
        let stalls = |node: &Node, by| node.dead || node.behind.is_some_and(|since| since <= by);
        let (since, caught_up) = winner.was_behind;
        let late = awaited && since <= soon && soon < caught_up + self.hand_over();
        let bound = if late { caught_up + self.hand_over() } else { soon };
        let step = timers::leaving_lease(loser.machine.settings().advert_interval);
        let end = if loser.leaving { bound + nanoseconds(step) * 102 / 100 } else { Moment::MAX };
        assert!(
            until <= bound || stalls(loser, bound) && until <= end || awaited && stalls(winner, soon),
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
                !settings.preempt || node.released || node.machine.priority() <= owner.machine.priority(),
                "{} should be owner: {:#?}",
                node.number,
                self.nodes
            );
        }
        let term = timers::lease_term(owner.machine.settings().advert_interval);
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
        | Kind::Fault { node, .. }
        | Kind::Release { node }
        | Kind::Claim { node }
        | Kind::NoWitness { node }
        | Kind::GroupClaims { node }
        | Kind::GroupYields { node }
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

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("the simulation is short")
}
