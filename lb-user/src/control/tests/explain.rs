//! From what the program writes down to the operator's terms: names for numbers.

use lb_common::{Trace, UNSETTLED, Verdict};

use super::{
    super::{
        desired::BACKEND_LEASE, explain::interpret::Known, health::Health, router::Router, world::World,
    },
    *,
};
use crate::{
    api::{ExplainedPacket, Explanation},
    config::Protocol,
    dataplane::{Explained, TestOutcome},
    net::{Link, Neighbour, NetEvent, Path},
    protocol::RouterKey,
};

const ETH0: u32 = 7;

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: Some(Mac([2, 0, 0, 0, 0, 0x0a])),
        mtu: 1500,
        up: true,
        carrier: true,
        vlan: None,
        macvlan_on: None,
        master: None,
    }
}

/// Node-a with the tutorial's configuration applied.
struct Case {
    config: Config,
    node: Node,
    world: World,
    health: Health,
    routers: Vec<Router>,
}

impl Case {
    fn new() -> Self {
        let config = tutorial();
        let mut node = Node::default();
        node.apply(&desired(&config, &NodeA::default()));
        let mut world = World::default();
        world.event(NetEvent::Link(link(ETH0, "eth0")));
        world.route(NODE_B, Some(Path { index: ETH0, gateway: None, source: None, mtu: None }));
        let mut router = Router::new(RouterKey(1), &config.virtual_routers[0]);
        router.lease = 1;
        let routers = vec![router];
        let mut health = Health::default();
        health.configure(&config, &world, Timestamp(0));
        Self { config, node, world, health, routers }
    }

    fn resolve(&mut self) {
        let next_hop = crate::net::NextHop { index: ETH0, address: NODE_B };
        self.world.event(NetEvent::Neighbour(Neighbour { next_hop, mac: Some(MAC_B) }));
    }

    /// The identifier of the backend with an address.
    fn id(&self, address: IpAddr) -> u32 {
        let backends = &self.node.dataplane.backends;
        backends.iter().find(|(_, backend)| ip(backend.address) == address).map(|(id, _)| *id).unwrap()
    }

    /// A packet from port 40000 of a client to the service, as far as its slot.
    fn trace(&self, verdict: Verdict, current: u32) -> Trace {
        Trace {
            verdict: verdict as u32,
            found: Trace::FOUND_SERVICE | Trace::FOUND_LEASE | Trace::FOUND_SLOT,
            service: self.node.dataplane.services[&key()],
            lease: 1,
            slot: 5,
            current,
            backend: slot_backend(current),
            ..Trace::EMPTY
        }
    }

    fn explain(&self, opening: bool, trace: Trace, frame: Vec<u8>) -> Result<Explanation, String> {
        let packet = ExplainedPacket {
            source: "172.20.0.10:40000".parse().unwrap(),
            destination: "172.20.128.4:80".parse().unwrap(),
            protocol: Protocol::Tcp,
            opening,
            interface: "eth0".to_owned(),
            xdp: "native".to_owned(),
        };
        let Self { config, node, world, health, routers } = self;
        let known = Known { config, forwarding: &node.forwarding, world, health, routers };
        known.interpret(packet, &Explained { trace, outcome: TestOutcome { action: 3, frame } })
    }
}

#[test]
fn numbers_get_their_names() {
    let mut case = Case::new();
    case.resolve();
    let trace = Trace { out: Trace::OUT_BACK, ..case.trace(Verdict::Dr, case.id(NODE_B)) };
    let explanation = case.explain(false, trace, Vec::new()).unwrap();
    let service = explanation.service.as_ref().unwrap();
    assert_eq!((service.name.as_str(), service.vip), ("web", VIP));
    let vip = explanation.vip.as_ref().unwrap();
    assert_eq!((vip.virtual_router.as_deref(), vip.state.as_str()), (Some("VI_1"), "init"));
    let slot = explanation.slot.as_ref().unwrap();
    assert_eq!((slot.number, slot.of, slot.settled), (5, 65_537, true));
    let backend = explanation.backend.as_ref().unwrap();
    assert_eq!((backend.address, backend.mode.as_str(), backend.weight), (NODE_B, "dr", 1));
    assert_eq!(backend.state, "checking");
    let hop = explanation.next_hop.as_ref().unwrap();
    assert_eq!((hop.interface.as_str(), hop.neighbour), ("eth0", Some(NODE_B)));
    assert_eq!(hop.mac, Some(MAC_B.to_string()));
    assert_eq!((explanation.verdict.as_str(), explanation.action.as_str()), ("dr", "send"));
}

#[test]
fn own_backend_has_no_next_hop() {
    let case = Case::new();
    let explanation = case.explain(false, case.trace(Verdict::Local, case.id(NODE_A)), Vec::new()).unwrap();
    assert_eq!(explanation.backend.unwrap().mode, "local");
    assert_eq!(explanation.next_hop, None);
}

#[test]
fn interface_it_leaves_by_is_the_one_on_the_way_to_the_backend() {
    let mut case = Case::new();
    // Another interface on the same device: what leaves goes back where it came from.
    case.world.event(NetEvent::Link(link(ETH0 + 1, "eth0.100")));
    case.world.route(NODE_B, Some(Path { index: ETH0 + 1, gateway: None, source: None, mtu: None }));
    let to_b = case.trace(Verdict::Dr, case.id(NODE_B));
    // The slots of the data plane are given in the order in which interfaces are needed.
    for (out, out_through, interface) in
        [(Trace::OUT_BACK, 0, "eth0.100"), (Trace::OUT_SLOT, 1, "eth0.100"), (Trace::OUT_SLOT, 0, "eth0")]
    {
        let explanation = case.explain(false, Trace { out, out_through, ..to_b }, Vec::new()).unwrap();
        assert_eq!(explanation.next_hop.unwrap().interface, interface);
    }
    // A reply goes to no backend.
    let reply = Trace { verdict: Verdict::NatReply as u32, out: Trace::OUT_BACK, ..Trace::EMPTY };
    let explanation = case.explain(false, reply, Vec::new()).unwrap();
    assert_eq!(explanation.next_hop.unwrap().interface, "eth0");
    let reply = Trace { out: Trace::OUT_INTERFACE, out_through: ETH0 + 1, ..reply };
    let explanation = case.explain(false, reply, Vec::new()).unwrap();
    assert_eq!(explanation.next_hop.unwrap().interface, "eth0.100");
}

#[test]
fn unresolved_neighbour_is_named() {
    let case = Case::new();
    let trace = case.trace(Verdict::NoNeighbour, case.id(NODE_B));
    let explanation = case.explain(false, trace, Vec::new()).unwrap();
    let hop = explanation.next_hop.as_ref().unwrap();
    assert_eq!((hop.neighbour, &hop.mac), (Some(NODE_B), &None));
    assert!(explanation.meaning.contains("172.20.128.3"), "{}", explanation.meaning);
}

#[test]
fn unsettled_slot_says_how_it_decided() {
    let case = Case::new();
    let (a, b) = (case.id(NODE_A), case.id(NODE_B));
    let unsettled = Trace { previous: a, ..case.trace(Verdict::Dr, b | UNSETTLED) };
    let goes = |backend| Trace { backend, would_remember: backend, ..unsettled };
    // (opens a connection, what the program wrote down, the reason)
    let cases = [
        (false, Trace { remembered: a, backend: a, ..unsettled }, "so it stays there"),
        (false, Trace { remembered: a, ..goes(b) }, "but that backend failed"),
        (true, goes(b), "a new connection goes to the current one"),
        (false, goes(a), "what is not remembered goes to the previous one"),
        (
            false,
            Trace { found: unsettled.found | Trace::FOUND_SOCKET, ..goes(a) },
            "this node has a socket for it, so it is this node's own",
        ),
        (
            false,
            Trace { found: unsettled.found | Trace::FOUND_NO_SOCKET, ..goes(b) },
            "this node has no socket for it, so it is the other's",
        ),
    ];
    for (opening, trace, reason) in cases {
        let slot = case.explain(opening, trace, Vec::new()).unwrap().slot.unwrap();
        assert_eq!((slot.settled, slot.reason.as_deref()), (false, Some(reason)));
        assert_eq!(slot.current.as_deref(), Some("172.20.128.3:80"));
        assert_eq!(slot.previous.as_deref(), Some("172.20.128.2:80"));
        assert_eq!(slot.remembered.is_some(), trace.remembered != 0);
    }
}

#[test]
fn backend_that_failed_is_not_taken_for_the_chosen_one() {
    let case = Case::new();
    let trace = Trace {
        remembered: case.id(NODE_B),
        backend: case.id(NODE_B),
        ..case.trace(Verdict::NoBackend, UNSETTLED)
    };
    let explanation = case.explain(true, trace, Vec::new()).unwrap();
    assert_eq!((&explanation.backend, &explanation.next_hop), (&None, &None));
    assert_eq!(explanation.slot.unwrap().current, None);
}

#[test]
fn backend_that_left_the_configuration_is_told_from_one_that_is_gone() {
    let mut case = Case::new();
    let id = case.id(NODE_B);
    case.config.services[0].backends.retain(|backend| backend.address != NODE_B);
    let backend = case.explain(false, case.trace(Verdict::Dr, id), Vec::new()).unwrap().backend.unwrap();
    assert_eq!((backend.weight, backend.state.as_str()), (0, "leaving"));
    let trace = Trace { remembered: 99, ..case.trace(Verdict::Dr, id | UNSETTLED) };
    let slot = case.explain(false, trace, Vec::new()).unwrap().slot.unwrap();
    assert_eq!(slot.remembered.as_deref(), Some("a backend that is gone (number 99)"));
}

#[test]
fn vips_without_a_virtual_router_say_who_answers() {
    let case = Case::new();
    for (lease, state) in [(STANDALONE_LEASE, "standalone"), (BACKEND_LEASE, "backend_only")] {
        let found = Trace::FOUND_VIP | Trace::FOUND_LEASE;
        let trace = Trace { verdict: Verdict::VipStack as u32, found, lease, ..Trace::EMPTY };
        let explanation = case.explain(false, trace, Vec::new()).unwrap();
        assert_eq!(explanation.vip.unwrap().state, state);
        assert_eq!(explanation.service, None);
    }
}

#[test]
fn what_leaves_is_read_off_the_packet() {
    let mut case = Case::new();
    case.resolve();
    let outer = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 0x0a], [2, 0, 0, 0, 0, 0x77]).ipv4(
        [172, 20, 128, 2],
        [172, 20, 128, 3],
        64,
    );
    let mut frame = Vec::new();
    outer.udp(50_000, 6_080).write(&mut frame, &[0; 20]).unwrap();
    let trace = Trace { out: Trace::OUT_BACK, ..case.trace(Verdict::Gue, case.id(NODE_B)) };
    let hop = case.explain(false, trace, frame).unwrap().next_hop.unwrap();
    assert_eq!(hop.mac.as_deref(), Some("02:00:00:00:00:77"));
    assert_eq!(hop.addresses, Some(["172.20.128.2:50000".to_owned(), "172.20.128.3:6080".to_owned()]));
}

#[test]
fn program_that_goes_on_elsewhere_or_says_nothing_is_no_answer() {
    let case = Case::new();
    let error = case.explain(false, Trace::EMPTY, Vec::new()).unwrap_err();
    assert!(error.contains("no verdict"), "{error}");
    let trace = Trace { verdict: Verdict::StageMissing as u32, out: Trace::OUT_STAGE, ..Trace::EMPTY };
    let error = case.explain(false, trace, Vec::new()).unwrap_err();
    assert!(error.contains("lb_icmp_error"), "{error}");
}
