//! The program that explains against the programs that run: they decide alike, and it leaves no trace but its own.

use std::{collections::BTreeMap, time::Duration};

use lb::dataplane::{
    Dataplane as _, FlowCursor,
    Program::{Generic, Native},
};
use lb_common::{
    Backend, BackendCounters, Be16, FlowKey, FlowState, Service, ServiceKey6, Trace, UNSETTLED, Verdict,
};

use nix::time::{ClockId, clock_gettime};

use crate::{
    namespace::{index, isolated},
    packets::{CLIENT, OWN_MAC, Packet, tcp, udp},
    world::{
        CLOSED, DIRECTOR, DR, DR_FAR, DR_UDP, DR_VLAN, DROP, EMPTY, FAR_MAC, GUE, GUE6, HOLE, IPIP, IPIP6,
        LOCAL, NAT, NAT_BACKEND, NAT_BACKEND6, NAT_FAR, NAT_PORT, NAT_UDP, NAT_UNRESOLVED, NO_INTERFACE,
        NO_RING, NO_SUCH_BACKEND, OTHER, OTHER6, RANGE, REDIRECT, SILENT_CLIENT, TX, UNRESOLVED,
        UNUSED_BACKEND, VIP, VIP_BACKUP, VIP_EXPIRED, VIP_NO_LEASE, VIP6, VIP6_BACKUP, VIP6_EXPIRED, VLAN,
        World, address, backend_of, build_network,
    },
};

/// The loopback, where the other programs' test runs come in.
const LOOPBACK: u32 = 1;
/// Index of the ring with the previous backends of [`DR`]'s unsettled slot.
const PREVIOUS: u32 = 250;

/// Everything the programs write to, but the trace.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    verdicts: Vec<u64>,
    backends: Vec<BackendCounters>,
    flows: BTreeMap<FlowKey, FlowState>,
}

fn written(world: &mut World) -> Written {
    let mut cursor = FlowCursor::default();
    let mut flows = BTreeMap::new();
    while !cursor.finished() {
        flows.extend(world.dataplane.read_flows(&mut cursor, 1_024).expect("read_flows"));
    }
    Written { verdicts: world.dataplane.verdicts().expect("verdicts"), backends: world.backends(), flows }
}

/// The clock that flows are dated by, in nanoseconds.
fn coarse_now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("the clock can be read");
    Duration::from(now).as_nanos() as u64
}

/// Has a packet explained, checks that nothing was written, and that the programs that run do what was said.
fn explained(world: &mut World, what: &str, packet: &Packet) -> Trace {
    let frame = packet.bytes();
    let before = written(world);
    // A flow that is renewed within the clock tick of its latest packet looks as it did.
    while before.flows.values().any(|state| state.last_seen >= coarse_now()) {
        std::thread::yield_now();
    }
    let explained = world.dataplane.explain(LOOPBACK, &frame).expect("the program can be asked");
    assert_eq!(written(world), before, "{what}: something was written");

    for program in [Generic, Native] {
        let seen = world.see(program, &frame);
        let trace = explained.trace;
        let told: Vec<u32> = seen.verdicts.iter().map(|(verdict, _)| *verdict as u32).collect();
        assert_eq!(told, [trace.verdict], "{what} ({})", program.name());
        let action = if seen.action == REDIRECT { TX } else { seen.action };
        assert_eq!(explained.outcome.action, action, "{what} ({})", program.name());
        if action != DROP {
            assert_eq!(explained.outcome.frame, seen.frame, "{what} ({})", program.name());
        }
        for (id, ..) in seen.backends {
            assert_eq!(id, trace.backend, "{what} ({})", program.name());
        }
        assert_eq!(seen.action == REDIRECT, [Trace::OUT_SLOT, Trace::OUT_INTERFACE].contains(&trace.out));
        assert_eq!(seen.action == TX, trace.out == Trace::OUT_BACK, "{what} ({})", program.name());
    }
    explained.trace
}

fn in_world(test: impl FnOnce(&mut World) + Send) {
    isolated(|| {
        build_network();
        let mut world = World::load();
        world.put_nat_replies();
        test(&mut world);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn explanation_is_what_happens_and_nothing_is_counted() {
    let cases = [
        ("dr", tcp(VIP, DR)),
        ("a SYN", tcp(VIP, DR).syn()),
        ("out another interface", tcp(VIP, DR_FAR)),
        ("UDP", udp(VIP, DR_UDP)),
        ("nat", tcp(VIP, NAT)),
        ("nat, UDP", udp(VIP, NAT_UDP)),
        ("nat out another interface", tcp(VIP, NAT_FAR)),
        ("local", tcp(VIP, LOCAL)),
        ("ipip", tcp(VIP, IPIP)),
        ("ipip by IPv6", tcp(VIP, IPIP6)),
        ("gue", tcp(VIP, GUE)),
        ("gue by IPv6", tcp(VIP, GUE6)),
        ("a range of ports", tcp(VIP, RANGE + 7)),
        ("a whole VIP", udp(VIP, 9)),
        ("dr of IPv6", tcp(VIP6, DR)),
        ("nat of IPv6", tcp(VIP6, NAT)),
        ("gue of IPv6", tcp(VIP6, GUE)),
        ("backup", tcp(VIP_BACKUP, DR)),
        ("backup of IPv6", tcp(VIP6_BACKUP, DR)),
        ("lease ran out", tcp(VIP_EXPIRED, DR)),
        ("lease ran out, IPv6", tcp(VIP6_EXPIRED, DR)),
        ("no such lease", tcp(VIP_NO_LEASE, DR)),
        ("steered here", tcp(VIP_EXPIRED, LOCAL).source_mac(DIRECTOR)),
        ("no service, owner", tcp(VIP, CLOSED)),
        ("no service, backup", tcp(VIP_BACKUP, CLOSED)),
        ("no service, lease ran out", tcp(VIP_EXPIRED, CLOSED)),
        ("no backend", tcp(VIP, EMPTY)),
        ("an empty slot", tcp(VIP, HOLE)),
        ("no neighbour", tcp(VIP, UNRESOLVED)),
        ("no neighbour, nat", tcp(VIP, NAT_UNRESOLVED)),
        ("no ring", tcp(VIP, NO_RING)),
        ("no such backend", tcp(VIP, NO_SUCH_BACKEND)),
        ("a backend that is nobody", tcp(VIP, UNUSED_BACKEND)),
        ("no such interface", tcp(VIP, NO_INTERFACE)),
        ("TTL 1", tcp(VIP, DR).ttl(1)),
        ("for another machine", tcp(VIP, DR).destination_mac(DIRECTOR)),
        ("elsewhere", tcp(OTHER, DR)),
        ("elsewhere, IPv6", tcp(OTHER6, DR)),
        ("a reply", tcp(CLIENT, 40_000).source(NAT_BACKEND).source_port(NAT_PORT)),
        ("a reply of IPv6", tcp(crate::packets::CLIENT6, 40_000).source(NAT_BACKEND6).source_port(NAT_PORT)),
        ("a reply to a client nobody knows", tcp(SILENT_CLIENT, 1).source(NAT_BACKEND).source_port(NAT_PORT)),
    ];
    in_world(|world| {
        for (what, packet) in &cases {
            explained(world, what, packet);
        }
        // What a run leaves behind is not there in the next.
        let trace = explained(world, "elsewhere", &tcp(OTHER, DR));
        assert_eq!(trace, Trace { verdict: Verdict::NotOurs as u32, ..Trace::EMPTY });
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn way_to_the_backend_is_written_down() {
    in_world(|world| {
        let far = index("far");
        let trace = explained(world, "dr", &tcp(VIP, DR));
        let found = Trace::FOUND_SERVICE | Trace::FOUND_LEASE | Trace::FOUND_SLOT;
        assert_eq!((trace.found, trace.service.ring, trace.lease), (found, u32::from(DR), 1));
        assert_eq!((trace.slot, trace.current, trace.backend), (0, backend_of(DR), backend_of(DR)));
        let trace = explained(world, "dr", &tcp(VIP, DR_FAR));
        assert_eq!((trace.out, trace.out_through), (Trace::OUT_SLOT, 2));
        // The interface it comes in by is the caller's choice.
        let frame = tcp(VIP, DR_FAR).destination_mac(FAR_MAC).bytes();
        let explained = world.dataplane.explain(far, &frame).expect("it can be asked");
        assert_eq!(explained.trace.out, Trace::OUT_BACK);
        let trace = self::explained(world, "closed", &tcp(VIP_BACKUP, CLOSED));
        assert_eq!((trace.found, trace.lease), (Trace::FOUND_VIP | Trace::FOUND_LEASE, 2));
        world.dataplane.explain(0x7fff_ffff, &tcp(VIP, DR).bytes()).expect_err("there is no such interface");
    });
}

/// What comes with a VLAN's tag is explained as what comes by the VLAN interface.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn tagged_packets_are_explained_as_those_of_their_vlan_interface() {
    in_world(|world| {
        let vlan = index("vlan100");
        for port in [DR, DR_FAR, DR_VLAN, NAT, LOCAL, UNRESOLVED, CLOSED] {
            let frame = tcp(VIP, port).destination_mac(OWN_MAC).bytes();
            let before = written(world);
            let trace = world.dataplane.explain(vlan, &frame).expect("the program can be asked").trace;
            assert_eq!(written(world), before, "port {port}");

            let tagged = [&frame[..12], &VLAN.0.to_ne_bytes(), &frame[12..]].concat();
            for program in [Generic, Native] {
                let seen = world.see(program, &tagged);
                let told: Vec<u32> = seen.verdicts.iter().map(|(verdict, _)| *verdict as u32).collect();
                assert_eq!(told, [trace.verdict], "port {port} ({})", program.name());
                assert!(seen.backends.iter().all(|(id, ..)| *id == trace.backend), "port {port}: {seen:?}");
            }
        }
        let other = tcp(VIP, DR).destination_mac(DIRECTOR).bytes();
        let trace = world.dataplane.explain(vlan, &other).expect("the program can be asked").trace;
        assert_eq!(trace.verdict, Verdict::OtherMac as u32);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn unsettled_slot_is_explained_without_remembering_the_flow() {
    in_world(|world| {
        let (old, new) = (backend_of(DR), backend_of(DR_FAR));
        let ring = backend_of(DR);
        world.dataplane.put_ring(PREVIOUS, &[old]).expect("put_ring");
        world.dataplane.put_ring(ring, &[new | UNSETTLED]).expect("put_ring");
        let key = ServiceKey6 { address: address(VIP), port: Be16::new(DR), protocol: 6, reserved: 0 };
        let service = Service { ring, ring_size: 1, lease: 1, previous: PREVIOUS, ..Service::default() };
        world.dataplane.put_service(key, service).expect("put_service");

        let mut ask = |what: &str, packet: &Packet| {
            let trace = explained(world, what, packet);
            assert_eq!((trace.current, trace.previous), (new | UNSETTLED, old), "{what}");
            (trace.backend, trace.remembered, trace.would_remember)
        };
        // Each is explained first and then runs, and is so remembered for the next question.
        let opening = tcp(VIP, DR).syn().source_port(1);
        let goes_on = tcp(VIP, DR).source_port(1);
        let older = tcp(VIP, DR).source_port(2);
        assert_eq!(ask("a new connection", &opening), (new, 0, new));
        assert_eq!(ask("and what follows", &goes_on), (new, new, 0));
        assert_eq!(ask("an old connection", &older), (old, 0, old));
        assert_eq!(ask("and what follows", &older), (old, old, 0));

        world.dataplane.set_backend_flags(old, Backend::FAILED).expect("set_backend_flags");
        world.dataplane.put_ring(PREVIOUS, &[new]).expect("put_ring");
        let trace = explained(world, "its backend failed", &older);
        assert_eq!((trace.backend, trace.remembered, trace.would_remember), (new, old, new));
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn program_that_was_not_loaded_says_so() {
    isolated(|| {
        build_network();
        let mut world = World::that_cannot_explain();
        let error = world.dataplane.explain(LOOPBACK, &tcp(VIP, DR).bytes()).expect_err("it is not there");
        assert!(error.to_string().contains("not asked for"), "{error}");
    });
}
