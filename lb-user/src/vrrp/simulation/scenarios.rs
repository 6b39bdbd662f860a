//! Single stories in the simulation, told at every phase of the owner's rhythm.

use super::*;

fn intervals() -> [Duration; 4] {
    [10, 50, 990, 1000].map(Duration::from_millis)
}

/// Steps of 7/1000 of an interval, over a whole one.
fn phases(interval: Duration) -> impl Iterator<Item = Duration> {
    (0..1000).step_by(7).map(move |phase| interval * phase / 1000)
}

fn world(nodes: Vec<Node>, disturbances: Vec<Disturbance>) -> World {
    let mut world = World::new(Plan { nodes, disturbances, seed: 1, stalls_per_100_000: 0 });
    let (storm, calm) = (world.intervals(STORM), world.intervals(CALM) + GRACE);
    world.run(storm, calm);
    world
}

#[test]
fn without_disturbance_there_is_one_owner_and_one_claim() {
    for interval in intervals() {
        let nodes = vec![
            Node::new(0, settings(200, interval), 5_000, 3),
            Node::new(1, settings(100, interval), -5_000, 9),
        ];
        let world = world(nodes, vec![]);
        assert_eq!((world.claims.as_slice(), world.overlaps), ([1, 0].as_slice(), 0), "{interval:?}");
    }
}

/// The tightest race there is: the owner's clock slow and the backup's fast by all that is allowed, the highest
/// priority, the owner frozen at every moment of its rhythm. In version 3 the backup has another interval than the
/// owner, which must not matter once it has heard it.
#[test]
fn the_lease_of_a_frozen_owner_is_over_before_its_successor_claims() {
    for (interval, own) in [(1000, 1000), (10, 10), (50, 50), (1000, 10), (10, 200), (400, 40)] {
        let [interval, own] = [interval, own].map(Duration::from_millis);
        let version = if own == interval { settings(1, interval).version } else { VrrpVersion::V3 };
        for phase in phases(interval) {
            // The address owner is owner and heard at once.
            let nodes = vec![
                Node::new(0, Settings { version, ..settings(255, interval) }, -10_000, 0),
                Node::new(1, Settings { version, preempt: false, ..settings(254, own) }, 10_000, 77),
            ];
            let begin = interval * 8 + phase;
            let freeze = Disturbance { begin, duration: interval * 20, kind: Kind::Freeze { node: 0 } };
            let mut world =
                World::new(Plan { nodes, disturbances: vec![freeze], seed: 1, stalls_per_100_000: 0 });
            world.run_storm(begin + interval * 10);
            let told = format!("{interval:?} and {own:?}, frozen at {begin:?}");
            assert_eq!((world.claims.as_slice(), world.overlaps), ([1, 1].as_slice(), 0), "{told}");
            // Not much later either: 3 intervals and 2/256 after the last advert, with a fast clock.
            assert!(world.gap_after(begin) < interval / 5, "{told}: {:?}", world.gap_after(begin));
        }
    }
}

/// A hand-over on a good network: nobody answers for a moment in neither of the two, or both for as long as the claim
/// is on its way. Frozen in the middle of it, the old owner answers beside the new one for 100 ms at most.
#[test]
fn an_owner_that_stops_answers_until_it_hears_the_next() {
    for interval in intervals() {
        for (phase, freeze) in phases(interval).flat_map(|phase| [(phase, false), (phase, true)]) {
            let nodes = vec![
                Node::new(0, settings(200, interval), -10_000, 3),
                Node::new(1, settings(100, interval), 10_000, 9),
            ];
            let begin = interval * 10 + phase;
            let stop = Disturbance { begin, duration: interval * 100, kind: Kind::Restart { node: 0 } };
            let frozen = Disturbance {
                begin: begin + interval / 2,
                duration: interval * 20,
                kind: Kind::Freeze { node: 0 },
            };
            let mut world = World::new(Plan {
                nodes,
                disturbances: if freeze { vec![stop, frozen] } else { vec![stop] },
                seed: 1,
                stalls_per_100_000: 0,
            });
            world.run_storm(interval * STORM);
            let told = format!("{interval:?} stopped at {begin:?}, frozen: {freeze}");
            assert_eq!(world.claims, [1, 1], "{told}");
            let (gap, both) = (world.gap_after(interval * 10), world.both_after(interval * 10));
            if freeze {
                assert!(both <= Duration::from_millis(102), "{told}: {both:?}");
            } else {
                assert!(gap.is_zero() && both <= interval / 100, "{told}: {gap:?} {both:?}");
            }
        }
    }
}

/// Both sides of a split have claimed. When it heals there is one owner within an advert, and that one alone repeats
/// its gratuitous ARP, though the loser may have yielded before the winner heard any advert of it.
#[test]
fn a_healed_split_has_one_owner_within_an_advert_and_it_alone_announces() {
    for interval in intervals() {
        for phase in phases(interval) {
            let nodes = vec![
                Node::new(0, settings(200, interval), -10_000, 3),
                Node::new(1, settings(100, interval), 10_000, 9),
            ];
            let (begin, duration) = (interval * 8, interval * 10 + phase);
            let cut = |from, to| Disturbance { begin, duration, kind: Kind::Cut { from, to } };
            let world = world(nodes, vec![cut(0, 1), cut(1, 0)]);
            let told = format!("{interval:?}, {duration:?}");
            assert_eq!(world.claims, [1, 1], "{told}");
            let healed = (begin + duration).as_nanos() as u64;
            // An interval of the slow clock, and what the advert and an answer to it take.
            let healed_and_told = begin + duration + interval * 103 / 100;
            assert!(world.overlaps > 0 && world.both_after(healed_and_told).is_zero(), "{told}");
            assert!(world.yielded[1] >= healed && world.yielded[0] == 0, "{told}");
            assert!(world.announced[0] >= world.yielded[1], "{told}");
            assert_eq!(world.announced[1], 0, "{told}");
        }
    }
}
