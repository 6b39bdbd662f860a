//! Random changes under live connections, against a data plane that is a few collections.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    balance::{Member, MemberKey, Ring},
    config::Protocol,
};

const SIZE: u32 = 31;
const BACKENDS: u32 = 5;
const WINDOW: Duration = Duration::from_mins(1);
const TIMEOUT: Duration = Duration::from_mins(5);

const STEERING: bool = true;

const A: u32 = 1;
const B: u32 = 2;
const C: u32 = 3;

fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1_000_000_000)
}

fn nobody() -> BTreeSet<u32> {
    BTreeSet::new()
}

fn one(id: u32) -> BTreeSet<u32> {
    BTreeSet::from([id])
}

/// Current and previous backend of the only slot, and whether it is unsettled.
fn state(slots: &Slots) -> (u32, u32, bool) {
    (slots.current()[0], slots.previous()[0], slots.is_unsettled(0))
}

#[test]
fn slot_that_changes_hands_keeps_its_previous_backend_until_the_window_closes_and_nothing_is_held() {
    let mut slots = Slots::settled(vec![A]).change(vec![B], &nobody(), at(0), WINDOW, STEERING);
    assert_eq!(state(&slots), (B, A, true));
    assert_eq!(slots.next_close(), Some(at(60)));
    assert!(!slots.settle(&nobody(), at(30)), "somebody may not have spoken yet");
    assert!(!slots.close(at(59)));
    assert!(slots.close(at(60)));
    assert_eq!(state(&slots), (B, B, true));
    assert_eq!(slots.next_close(), None);
    assert!(!slots.settle(&nobody(), at(60)), "that look began before the window closed");
    assert!(!slots.settle(&BTreeSet::from([0]), at(61)), "a remembered flow goes elsewhere");
    assert!(slots.settle(&nobody(), at(62)));
    assert_eq!(slots, Slots::settled(vec![B]));
}

#[test]
fn second_change_keeps_the_oldest_previous_while_the_window_is_open_and_the_last_current_afterwards() {
    let first = Slots::settled(vec![A]).change(vec![B], &nobody(), at(0), WINDOW, STEERING);
    let within = first.change(vec![C], &nobody(), at(30), WINDOW, STEERING);
    assert_eq!(state(&within), (C, A, true));
    assert_eq!(within.next_close(), Some(at(60)), "changes do not keep a window open for ever");
    let mut closed = first;
    closed.close(at(60));
    let after = closed.change(vec![C], &nobody(), at(70), WINDOW, STEERING);
    assert_eq!(state(&after), (C, B, true));
    assert_eq!(after.next_close(), Some(at(130)));
}

#[test]
fn change_taken_back_stays_unsettled_while_a_flow_of_the_other_backend_may_be_remembered() {
    let mut slots = Slots::settled(vec![A]).change(vec![B], &nobody(), at(0), WINDOW, STEERING);
    slots = slots.change(vec![A], &nobody(), at(10), WINDOW, STEERING);
    assert_eq!(state(&slots), (A, A, true));
    assert!(!slots.settle(&BTreeSet::from([0]), at(20)));
    assert!(slots.settle(&nobody(), at(20)));
}

#[test]
fn backup_that_sees_a_change_taken_back_looks_for_connections_where_the_owner_left_them() {
    let backup = |ring, slots: Slots, seconds| slots.change(ring, &nobody(), at(seconds), WINDOW, !STEERING);
    let slots = backup(vec![B], Slots::settled(vec![A]), 0);
    let slots = backup(vec![A], slots, 10);
    assert_eq!(state(&slots), (A, B, true));
    assert_eq!(slots.next_close(), Some(at(70)));
    let same = backup(vec![A], slots.clone(), 20);
    assert_eq!(same, slots, "no change");
    assert_eq!(state(&slots.change(vec![C], &one(A), at(30), WINDOW, !STEERING)), (C, C, false), "failed");
}

#[test]
fn failed_backend_is_replaced_at_once_wherever_it_stands() {
    let settled = Slots::settled(vec![A]).change(vec![B], &one(A), at(0), WINDOW, STEERING);
    assert_eq!(settled, Slots::settled(vec![B]));
    let unsettled = Slots::settled(vec![A]).change(vec![B], &nobody(), at(0), WINDOW, STEERING);
    assert_eq!(
        state(&unsettled.change(vec![B], &one(A), at(1), WINDOW, STEERING)),
        (B, B, true),
        "as previous"
    );
    assert_eq!(
        state(&unsettled.change(vec![C], &one(B), at(1), WINDOW, STEERING)),
        (C, A, true),
        "as current"
    );
    assert_eq!(
        state(&unsettled.change(vec![C], &BTreeSet::from([A, B]), at(1), WINDOW, STEERING)),
        (C, C, true)
    );
}

#[test]
fn last_backend_that_drains_keeps_its_connections() {
    let slots = Slots::settled(vec![A]).change(vec![0], &nobody(), at(0), WINDOW, STEERING);
    assert_eq!(state(&slots), (0, A, true));
    assert_eq!(slots.named(), one(A));
    assert_eq!(slots.marked(|id| id + 100), [100]);
    let slots = Slots::settled(vec![0]).change(vec![A], &nobody(), at(0), WINDOW, STEERING);
    assert_eq!(slots, Slots::settled(vec![A]), "nobody's slot has nothing to preserve");
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// New weights of all backends; 0 drains, `None` takes it out of the configuration.
    Reweigh(Vec<Option<u32>>),
    /// A backend fails, or recovers.
    Flip(u32),
    /// A new connection with this 5-tuple; an older one is gone.
    Open(usize),
    /// A packet of the connection with this 5-tuple.
    Speak(usize),
    /// Everybody speaks.
    AllSpeak,
    /// Time passes, in seconds.
    Wait(u64),
    /// The flow table is looked through.
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    let weight = prop_oneof![1 => Just(None), 1 => Just(Some(0)), 4 => (1_u32..5).prop_map(Some)];
    let tuple = 0_usize..80;
    prop_oneof![
        3 => prop::collection::vec(weight, BACKENDS as usize).prop_map(Step::Reweigh),
        2 => (1..=BACKENDS).prop_map(Step::Flip),
        8 => tuple.clone().prop_map(Step::Open),
        8 => tuple.prop_map(Step::Speak),
        2 => Just(Step::AllSpeak),
        2 => (0_u64..40).prop_map(Step::Wait),
        1 => (40_u64..400).prop_map(Step::Wait),
        2 => Just(Step::Look),
    ]
}

/// A connection that stands, with what it may demand.
#[derive(Clone, Debug)]
struct Connection {
    backend: u32,
    spoke: Timestamp,
    /// Learning windows of its slot, ended or not, in which it has not spoken yet: their ends.
    owes: Vec<Timestamp>,
    /// It has been silent for too long at some time: nothing is promised to it.
    forgotten: bool,
}

/// Control plane, data plane, and the world around them.
struct Simulation {
    now: Timestamp,
    weights: Vec<Option<u32>>,
    failed: BTreeSet<u32>,
    slots: Slots,
    /// 5-tuple → backend and when it spoke last.
    flows: BTreeMap<usize, (u32, Timestamp)>,
    connections: BTreeMap<usize, Connection>,
}

impl Simulation {
    fn new() -> Self {
        let mut simulation = Self {
            now: at(1_000),
            weights: vec![Some(1); BACKENDS as usize],
            failed: nobody(),
            slots: Slots::settled(Vec::new()),
            flows: BTreeMap::new(),
            connections: BTreeMap::new(),
        };
        simulation.slots = Slots::settled(simulation.ring());
        simulation
    }

    fn slot(tuple: usize) -> u32 {
        tuple as u32 % SIZE
    }

    fn ring(&self) -> Vec<u32> {
        let members: Vec<Member> = (1_u32..)
            .zip(&self.weights)
            .filter(|(id, weight)| weight.is_some_and(|weight| weight > 0) && !self.failed.contains(id))
            .map(|(id, weight)| {
                let address = std::net::Ipv4Addr::from(0x0a00_0000 + id).into();
                let key = MemberKey { address, port: 80, protocol: Protocol::Tcp };
                Member { key, weight: weight.unwrap_or(0), id }
            })
            .collect();
        Ring::build(&members, SIZE).ids(&members)
    }

    fn changed(&mut self) {
        let ring = self.ring();
        for (tuple, connection) in &mut self.connections {
            let slot = Self::slot(*tuple) as usize;
            if ring[slot] != self.slots.current()[slot] {
                connection.owes.push(self.now + WINDOW);
            }
        }
        self.slots = self.slots.change(ring, &self.failed, self.now, WINDOW, STEERING);
    }

    /// What the program does with a packet.
    fn packet(&mut self, tuple: usize, opens: bool) -> u32 {
        let slot = Self::slot(tuple);
        let current = self.slots.current()[slot as usize];
        if !self.slots.is_unsettled(slot) {
            return current;
        }
        let id = match self.flows.get(&tuple) {
            Some((id, _)) if !self.failed.contains(id) => *id,
            _ if opens => current,
            _ => self.slots.previous()[slot as usize],
        };
        if id != 0 {
            self.flows.insert(tuple, (id, self.now));
        }
        id
    }

    fn speak(&mut self, tuple: usize) -> Result<(), TestCaseError> {
        let Some(mut connection) = self.connections.get(&tuple).cloned() else { return Ok(()) };
        let silent = self.now.since(connection.spoke) >= TIMEOUT;
        connection.forgotten |= silent || connection.owes.iter().any(|ends| *ends <= self.now);
        let reached = self.packet(tuple, false);
        if connection.forgotten {
            // A new one in its place would be promised everything; this one is closed by whoever got its packet.
            self.connections.remove(&tuple);
            return Ok(());
        }
        prop_assert_eq!(reached, connection.backend, "tuple {} at {:?}", tuple, self.now);
        connection.spoke = self.now;
        connection.owes.clear();
        self.connections.insert(tuple, connection);
        Ok(())
    }

    fn look(&mut self) {
        let looked = self.now;
        let slots = &self.slots;
        let failed = &self.failed;
        self.flows.retain(|tuple, (id, spoke)| {
            slots.is_unsettled(Self::slot(*tuple)) && !failed.contains(id) && looked.since(*spoke) < TIMEOUT
        });
        let elsewhere = |(tuple, (id, _)): (&usize, &(u32, Timestamp))| {
            let slot = Self::slot(*tuple);
            (slots.current()[slot as usize] != *id).then_some(slot)
        };
        let held = self.flows.iter().filter_map(elsewhere).collect();
        self.slots.settle(&held, looked);
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.slots.close(self.now);
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        // No two things happen at the same moment.
        self.now = self.now + Duration::from_nanos(1);
        match step {
            Step::Reweigh(weights) => {
                self.weights = weights;
                self.changed();
            }
            Step::Flip(id) => {
                if self.failed.contains(&id) {
                    // Its flows are forgotten before it gets new ones.
                    self.look();
                    self.now = self.now + Duration::from_nanos(1);
                    self.failed.remove(&id);
                } else {
                    self.failed.insert(id);
                    self.connections.retain(|_, connection| connection.backend != id);
                }
                self.changed();
            }
            Step::Open(tuple) => {
                let backend = self.packet(tuple, true);
                self.connections.remove(&tuple);
                if backend != 0 {
                    prop_assert!(!self.failed.contains(&backend));
                    let connection =
                        Connection { backend, spoke: self.now, owes: Vec::new(), forgotten: false };
                    self.connections.insert(tuple, connection);
                }
            }
            Step::Speak(tuple) => self.speak(tuple)?,
            Step::AllSpeak => {
                let all: Vec<usize> = self.connections.keys().copied().collect();
                for tuple in all {
                    self.speak(tuple)?;
                }
            }
            Step::Wait(seconds) => self.wait(seconds),
            Step::Look => self.look(),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_connection_moves_and_everything_settles_in_the_end(steps in prop::collection::vec(step(), 1..120)) {
        let mut simulation = Simulation::new();
        for step in steps {
            simulation.step(step)?;
        }
        // Connections that go on keep what they have for as long as it takes.
        for _ in 0..4 {
            simulation.step(Step::AllSpeak)?;
            simulation.step(Step::Wait(WINDOW.as_secs() - 10))?;
            simulation.step(Step::Look)?;
        }
        // All have said what they had to say; the last windows close and the flows time out.
        simulation.step(Step::AllSpeak)?;
        simulation.connections.clear();
        simulation.step(Step::Wait(WINDOW.as_secs()))?;
        simulation.step(Step::Wait(TIMEOUT.as_secs()))?;
        simulation.step(Step::Look)?;
        simulation.step(Step::Look)?;
        prop_assert_eq!(simulation.slots.unsettled(), 0);
        prop_assert_eq!(&simulation.slots, &Slots::settled(simulation.ring()));
        prop_assert!(simulation.flows.is_empty());
    }
}
