//! ICMP errors: which backend they reach while slots are unsettled, and that they leave no trace.

use lb_common::UNSETTLED;

use super::*;

const PREVIOUS: u32 = 1;
const CURRENT: u32 = 2;

/// "Fragmentation needed", said by the client about the backend's packet to its port `port`.
fn error(port: u16) -> Vec<u8> {
    let quoted = segment((VIP, 80), (CLIENT, port));
    let mut frame = segment((CLIENT, 0), (VIP, 0));
    frame.truncate(34);
    frame[16..18].copy_from_slice(&56_u16.to_be_bytes());
    frame[23] = 1;
    frame[24..26].fill(0);
    let header = checksum::finish(sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&header.to_ne_bytes());
    frame.extend([3, 4, 0, 0, 0, 0, 5, 20]);
    frame.extend(&quoted[14..42]);
    let checksum = checksum::finish(sum(&frame[34..]));
    frame[36..38].copy_from_slice(&checksum.to_ne_bytes());
    frame
}

/// The service's slots have moved from [`PREVIOUS`] to [`CURRENT`].
fn unsettled() -> Maps {
    Maps { slot: CURRENT | UNSETTLED, previous: PREVIOUS, ..Maps::new(MODE_DR) }
}

/// The backend the error reaches.
fn reached(maps: &mut Maps, port: u16) -> u32 {
    maps.counted.borrow_mut().clear();
    assert_eq!(maps.run::<false>(&mut error(port)).verdict, Verdict::IcmpError);
    let [(id, 70, false)] = maps.counted.borrow()[..] else { panic!("{:?}", maps.counted) };
    id
}

#[test]
fn error_in_a_settled_slot_follows_the_ring() {
    let mut maps = Maps { slot: CURRENT, ..unsettled() };
    assert_eq!(reached(&mut maps, 40_000), CURRENT);
}

#[test]
fn error_about_a_remembered_flow_reaches_its_backend_and_renews_nothing() {
    let mut maps = unsettled();
    maps.run::<false>(&mut segment((CLIENT, 40_000), (VIP, 80)));
    let before = maps.flows.borrow().clone();
    assert_eq!(before.values().map(|flow| flow.backend).collect::<Vec<_>>(), [CURRENT]);

    maps.now_coarse += 100;
    assert_eq!(reached(&mut maps, 40_000), CURRENT);
    assert_eq!(*maps.flows.borrow(), before);
}

#[test]
fn error_about_another_flow_reaches_the_previous_backend_and_is_not_remembered() {
    let mut maps = unsettled();
    assert_eq!(reached(&mut maps, 40_000), PREVIOUS);
    assert!(maps.flows.borrow().is_empty());
}

#[test]
fn error_never_reaches_a_failed_backend_that_is_remembered() {
    let mut maps = unsettled();
    maps.run::<false>(&mut segment((CLIENT, 40_000), (VIP, 80)));
    maps.failed.insert(CURRENT);
    assert_eq!(reached(&mut maps, 40_000), PREVIOUS);
}

#[test]
fn missing_stage_leaves_the_packet_to_the_stack() {
    let decision = Decision::go_on_in(Stage::IcmpError);
    assert_eq!(decision.verdict, Verdict::StageMissing);
    assert_eq!(action(decision.verdict), Action::Pass);
}
