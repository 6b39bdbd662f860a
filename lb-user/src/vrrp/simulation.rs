//! Nodes and a network in virtual time, to test what no single machine shows: at most one unexpired lease.
//!
//! A node here is a machine and the smallest adapter that keeps the contract of [`super::machine`], with a
//! clock that runs wrong by up to 1 %. It may stall at every step: before it reads the socket, between an
//! action and the next, between reading the clock and sending, before the lease gets to the map.

mod node;
mod world;

use std::time::Duration;

use proptest::{collection::vec, prelude::*};

use node::Node;
use world::{Disturbance, Kind, Plan, World};

const INTERVAL: Duration = Duration::from_secs(1);
/// The longest an undisturbed message takes.
const DELAY: Duration = Duration::from_millis(5);
/// How long things happen, then how long nothing does.
const STORM: Duration = Duration::from_secs(40);
const CALM: Duration = Duration::from_secs(15);

fn kind(network: bool) -> BoxedStrategy<Kind> {
    let node = 0usize..3;
    let own = prop_oneof![
        4 => node.clone().prop_map(|node| Kind::Freeze { node }),
        1 => node.clone().prop_map(|node| Kind::Crash { node }),
        1 => node.clone().prop_map(|node| Kind::Restart { node }),
        1 => node.clone().prop_map(|node| Kind::Fault { node }),
        1 => (node.clone(), 1u8..=254).prop_map(|(node, priority)| Kind::Priority { node, priority }),
    ];
    if !network {
        return own.boxed();
    }
    prop_oneof![
        2 => own,
        1 => (node.clone(), node.clone()).prop_map(|(from, to)| Kind::Cut { from, to }),
        1 => (node.clone(), node.clone()).prop_map(|(from, to)| Kind::Slow { from, to }),
        1 => (node.clone(), node).prop_map(|(from, to)| Kind::Refuse { from, to }),
    ]
    .boxed()
}

fn disturbance(network: bool) -> impl Strategy<Value = Disturbance> {
    // Short ones as often as long ones: 1 ms to 8 s.
    let duration = (0u32..13, 1000u64..2000).prop_map(|(power, scale)| Duration::from_micros(scale << power));
    let begin = (0..STORM.as_millis() as u64).prop_map(Duration::from_millis);
    (begin, duration, kind(network)).prop_map(|(begin, duration, kind)| Disturbance { begin, duration, kind })
}

fn plan(network: bool) -> impl Strategy<Value = Plan> {
    // Close priorities, equal ones and far ones; clocks at the ends of what is allowed as often as between.
    let priority = prop_oneof![Just(100u8), 98u8..=102, 1u8..=254];
    let drift = prop_oneof![Just(-10_000i64), Just(10_000), -10_000i64..=10_000];
    let node = (priority, proptest::bool::weighted(0.7), drift, 0u64..1_000_000_000_000_000);
    (vec(node, 2..=3), vec(disturbance(network), 0..24), any::<u64>(), prop_oneof![Just(0u32), Just(200)])
        .prop_map(|(nodes, disturbances, seed, stalls_per_100_000)| {
            let nodes = nodes.into_iter().zip(0..).map(|((priority, preempt, drift, offset), number)| {
                Node::new(number, priority, preempt, drift, offset)
            });
            Plan { nodes: nodes.collect(), disturbances, seed, stalls_per_100_000 }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn one_lease_at_most_whatever_nodes_do_on_a_good_network(plan in plan(false)) {
        World::new(plan).run(STORM, CALM);
    }

    #[test]
    fn one_lease_at_most_on_a_bad_network_except_between_nodes_it_parts(plan in plan(true)) {
        World::new(plan).run(STORM, CALM);
    }
}

/// The tightest race there is: the owner's clock slow and the backup's fast by all that is allowed, no delay,
/// the highest priority, the owner frozen at every moment of its rhythm.
#[test]
fn the_lease_of_a_frozen_owner_is_over_before_its_successor_claims() {
    for offset in (0..1000).step_by(7) {
        let nodes = vec![Node::new(0, 253, false, -10_000, 0), Node::new(1, 254, false, 10_000, 77)];
        let begin = Duration::from_millis(8_000 + offset);
        let freeze = Disturbance { begin, duration: Duration::from_secs(20), kind: Kind::Freeze { node: 0 } };
        let late =
            Disturbance { begin: Duration::ZERO, duration: INTERVAL * 5, kind: Kind::Freeze { node: 1 } };
        let plan = Plan { nodes, disturbances: vec![late, freeze], seed: 1, stalls_per_100_000: 0 };
        let mut world = World::new(plan);
        world.run(STORM, CALM);
        assert_eq!(world.overlaps, 0, "frozen at {begin:?}");
        assert_eq!(world.claims, [1, 1], "frozen at {begin:?}");
    }
}

#[test]
fn a_simulation_without_disturbance_has_one_owner_and_one_claim() {
    let nodes = vec![Node::new(0, 200, true, 5_000, 3), Node::new(1, 100, true, -5_000, 9)];
    let plan = Plan { nodes, disturbances: vec![], seed: 1, stalls_per_100_000: 0 };
    let mut world = World::new(plan);
    world.run(STORM, CALM);
    assert_eq!((world.claims.as_slice(), world.overlaps), ([1, 0].as_slice(), 0));
}
