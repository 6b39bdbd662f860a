//! Flows of unsettled slots: what the loaded program remembers, and what user space reads and deletes of it.

use std::collections::BTreeMap;

use lb::dataplane::{
    Dataplane as _, FlowCursor,
    Program::{self, Generic, Native},
};
use lb_common::{Backend, Be16, FlowKey, FlowState, Service, ServiceKey6, UNSETTLED, Verdict};

use crate::{
    namespace::isolated,
    packets::{Packet, Protocol, tcp, udp},
    world::{DR, DR_FAR, DR_UDP, REDIRECT, TX, VIP, World, address, backend_of, build_network},
};

/// Where the previous backends are of [`DR`]; those of [`DR_UDP`] follow.
const PREVIOUS: u32 = 120;

/// The service [`DR`] (or [`DR_UDP`]) has moved to the backend of [`DR_FAR`].
fn unsettle(world: &mut World, port: u16, protocol: u8) {
    let key = ServiceKey6 { address: address(VIP), port: Be16::new(port), protocol, reserved: 0 };
    let previous = if port == DR { PREVIOUS } else { PREVIOUS + 1 };
    let service = Service { ring: u32::from(port), ring_size: 1, lease: 1, previous, ..Service::default() };
    world.dataplane.put_ring(previous, &[backend_of(port)]).expect("put_ring");
    world.dataplane.put_service(key, service).expect("put_service");
    world.dataplane.put_ring(service.ring, &[backend_of(DR_FAR) | UNSETTLED]).expect("put_ring");
}

fn in_world(check: fn(&mut World, Program)) {
    isolated(|| {
        build_network();
        for program in [Native, Generic] {
            let mut world = World::load();
            unsettle(&mut world, DR, 6);
            unsettle(&mut world, DR_UDP, 17);
            check(&mut world, program);
        }
    });
}

fn opening(client: u16) -> Packet {
    Packet { protocol: Protocol::Tcp { syn: true, ack: false }, ..going_on(client) }
}

fn going_on(client: u16) -> Packet {
    tcp(VIP, DR).source_port(client)
}

/// The backend a packet goes to.
fn backend(world: &mut World, program: Program, packet: &Packet) -> u32 {
    let seen = world.see(program, &packet.bytes());
    assert_eq!(seen.verdicts, [(Verdict::Dr, 1)]);
    assert_eq!(seen.backends.len(), 1, "{seen:?}");
    let id = seen.backends[0].0;
    assert_eq!(seen.action, if id == backend_of(DR_FAR) { REDIRECT } else { TX });
    id
}

fn flows(world: &mut World, most: u32) -> BTreeMap<FlowKey, FlowState> {
    let (mut cursor, mut flows) = (FlowCursor::default(), BTreeMap::new());
    while !cursor.finished() {
        for (key, state) in world.dataplane.read_flows(&mut cursor, most).expect("read_flows") {
            assert_eq!(flows.insert(key, state), None, "read twice");
        }
    }
    flows
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn unsettled_slot_sends_new_connections_to_its_current_backend_and_others_to_its_previous() {
    in_world(|world, program| {
        let (old, new) = (backend_of(DR), backend_of(DR_FAR));
        assert_eq!(backend(world, program, &opening(1)), new, "SYN");
        assert_eq!(backend(world, program, &going_on(1)), new, "what follows it");
        assert_eq!(backend(world, program, &going_on(2)), old, "an old connection");
        let udp = udp(VIP, DR_UDP).source_port(1);
        assert_eq!(backend(world, program, &udp), backend_of(DR_UDP), "a datagram opens nothing");
        assert_eq!(flows(world, 1_024).len(), 3);

        // The window closes: previous is current.
        world.dataplane.put_ring(PREVIOUS, &[new]).expect("put_ring");
        assert_eq!(backend(world, program, &going_on(2)), old, "remembered");
        assert_eq!(backend(world, program, &going_on(3)), new, "not remembered");

        world.dataplane.set_backend_flags(old, Backend::FAILED).expect("set_backend_flags");
        assert_eq!(backend(world, program, &going_on(2)), new, "its backend failed");
        world.dataplane.set_backend_flags(old, 0).expect("set_backend_flags");
        assert_eq!(backend(world, program, &going_on(2)), new, "and that is remembered");
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn settled_slot_leaves_the_table_empty() {
    in_world(|world, program| {
        world.dataplane.put_ring(u32::from(DR), &[backend_of(DR_FAR)]).expect("put_ring");
        assert_eq!(backend(world, program, &opening(1)), backend_of(DR_FAR));
        assert_eq!(backend(world, program, &going_on(2)), backend_of(DR_FAR));
        assert!(flows(world, 1_024).is_empty());
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn slot_whose_previous_backend_cannot_be_read_is_a_fault_of_lb() {
    in_world(|world, program| {
        world.dataplane.delete_ring(PREVIOUS).expect("delete_ring");
        let seen = world.see(program, &going_on(1).bytes());
        assert_eq!(seen.verdicts, [(Verdict::NoBackend, 1)], "slot 0 of an empty ring is nobody's");
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn flows_are_read_and_deleted_in_batches() {
    in_world(|world, program| {
        assert!(flows(world, 64).is_empty());
        for client in 1..=500 {
            world.dataplane.test_run(program, &going_on(client).bytes()).expect("the kernel runs it");
        }
        let all = flows(world, 64);
        assert_eq!(all.len(), 500);
        assert!(all.values().all(|state| state.backend == backend_of(DR) && state.last_seen > 0));
        assert_eq!(flows(world, 1_024), all);

        let (gone, left): (Vec<FlowKey>, Vec<FlowKey>) =
            all.keys().copied().partition(|key| key.source_port.get() % 2 == 0);
        world.dataplane.forget_flows(&gone[..100]).expect("forget_flows");
        // Some of them are not there any more.
        world.dataplane.forget_flows(&gone).expect("forget_flows");
        assert_eq!(flows(world, 64).into_keys().collect::<Vec<_>>(), left);
        world.dataplane.forget_flows(&[]).expect("forget_flows");
    });
}
