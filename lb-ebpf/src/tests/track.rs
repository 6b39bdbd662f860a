//! Flows of unsettled slots.

use lb_common::UNSETTLED;

use super::*;

const PREVIOUS: u32 = 1;
const CURRENT: u32 = 2;
const OTHER: u32 = 3;

/// The service's slots have moved from [`PREVIOUS`] to [`CURRENT`].
fn unsettled() -> Maps {
    Maps { slot: CURRENT | UNSETTLED, previous: PREVIOUS, ..Maps::new(MODE_DR) }
}

fn opening(port: u16) -> Vec<u8> {
    segment((CLIENT, port), (VIP, 80))
}

fn going_on(port: u16) -> Vec<u8> {
    let mut frame = segment((CLIENT, port), (VIP, 80));
    frame[47] = 0x10;
    frame
}

/// The backends the packets went to, one after the other.
fn seen(maps: &mut Maps, frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<u32> {
    maps.counted.borrow_mut().clear();
    for mut frame in frames {
        maps.run::<false>(&mut frame);
    }
    maps.counted.borrow().iter().map(|(id, _, _)| *id).collect()
}

#[test]
fn settled_slot_remembers_nothing() {
    let mut maps = Maps { slot: CURRENT, ..Maps::new(MODE_DR) };
    assert_eq!(seen(&mut maps, [opening(1), going_on(1), going_on(2)]), [CURRENT; 3]);
    assert!(maps.flows.borrow().is_empty());
}

#[test]
fn new_connection_goes_to_the_current_backend_and_an_old_one_to_the_previous() {
    let mut maps = unsettled();
    assert_eq!(seen(&mut maps, [opening(1), going_on(2)]), [CURRENT, PREVIOUS]);
    assert_eq!(maps.flows.borrow().len(), 2);
    // Whatever the slot says later.
    maps.slot = OTHER | UNSETTLED;
    maps.previous = OTHER;
    assert_eq!(seen(&mut maps, [going_on(1), going_on(2), going_on(3)]), [CURRENT, PREVIOUS, OTHER]);
}

#[test]
fn repeated_syn_stays_where_the_first_went() {
    let mut maps = unsettled();
    assert_eq!(seen(&mut maps, [opening(1)]), [CURRENT]);
    maps.slot = OTHER | UNSETTLED;
    assert_eq!(seen(&mut maps, [opening(1)]), [CURRENT]);
}

#[test]
fn flow_of_a_failed_backend_is_forgotten() {
    let mut maps = unsettled();
    assert_eq!(seen(&mut maps, [going_on(1)]), [PREVIOUS]);
    maps.failed.insert(PREVIOUS);
    maps.previous = CURRENT;
    assert_eq!(seen(&mut maps, [going_on(1)]), [CURRENT]);
    maps.failed.clear();
    assert_eq!(seen(&mut maps, [going_on(1)]), [CURRENT], "its entry was replaced");
}

#[test]
fn every_packet_renews_the_memory_of_its_flow() {
    let mut maps = unsettled();
    seen(&mut maps, [going_on(1)]);
    maps.now_coarse = 600;
    seen(&mut maps, [going_on(1)]);
    let flows = maps.flows.borrow();
    assert_eq!(
        flows.values().map(|state| (state.backend, state.last_seen)).collect::<Vec<_>>(),
        [(PREVIOUS, 600)]
    );
}

#[test]
fn slot_without_a_backend_keeps_the_connections_it_has() {
    let mut maps = Maps { slot: UNSETTLED, previous: PREVIOUS, ..Maps::new(MODE_DR) };
    assert_eq!(seen(&mut maps, [opening(1), going_on(2)]), [PREVIOUS]);
    assert_eq!(*maps.verdicts.borrow(), [Verdict::NoBackend, Verdict::Dr]);
    assert_eq!(maps.flows.borrow().len(), 1, "nobody is not remembered");
}

/// The key of a connection from `port`.
fn connection(port: u16) -> FlowKey {
    FlowKey {
        source: CLIENT.into(),
        destination: VIP.into(),
        source_port: Be16::new(port),
        destination_port: Be16::new(80),
        protocol: 6,
        ..FlowKey::default()
    }
}

#[test]
fn connection_is_with_this_node_if_its_sockets_say_so() {
    for (own, held, others) in [(PREVIOUS, PREVIOUS, CURRENT), (CURRENT, CURRENT, PREVIOUS)] {
        let connections = HashSet::from([connection(1)]);
        let mut maps = Maps { own: Some(own), connections, ..unsettled() };
        assert_eq!(seen(&mut maps, [going_on(1), going_on(2)]), [held, others]);
        assert_eq!(seen(&mut maps, [opening(3), going_on(3)]), [CURRENT; 2], "own {own}");
        maps.connections.clear();
        assert_eq!(seen(&mut maps, [going_on(1)]), [held], "it is remembered");
    }
}

#[test]
fn sockets_of_this_node_say_nothing_of_others() {
    let connections = HashSet::from([connection(1)]);
    let mut maps = Maps { own: Some(OTHER), connections, ..unsettled() };
    assert_eq!(seen(&mut maps, [going_on(1)]), [PREVIOUS]);
}

#[test]
fn syn_long_after_the_last_packet_of_a_flow_is_another_connections() {
    const SECOND: u64 = 1_000_000_000;
    let mut maps = Maps { lease: u64::MAX, ..unsettled() };
    maps.now_coarse = 4 * SECOND - 1_200_000_000;
    assert_eq!(seen(&mut maps, [going_on(1), going_on(2)]), [PREVIOUS; 2]);
    maps.now_coarse = 4 * SECOND;
    assert_eq!(seen(&mut maps, [opening(1)]), [PREVIOUS], "it may be a repeated one");
    maps.now_coarse = 4 * SECOND + 1;
    assert_eq!(seen(&mut maps, [opening(2), going_on(2)]), [CURRENT; 2]);
    // What goes on may have been silent for any time.
    maps.now_coarse = 400 * SECOND;
    assert_eq!(seen(&mut maps, [going_on(1), going_on(2)]), [PREVIOUS, CURRENT]);
}
