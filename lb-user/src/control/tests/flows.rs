//! Unsettled slots: what a packet meets while a change is on its way, and how it is forgotten.

use lb_common::{Backend, Be16, Flow, FlowKey, FlowState, UNSETTLED, slot, slot_is_unsettled};

use super::*;

const WINDOW: Duration = Duration::from_mins(1);
const TIMEOUT: Duration = Duration::from_mins(15);

fn healthy() -> Desired {
    desired(&tutorial(), &NodeA::default())
}

/// Node-b fails its checks.
fn b_failed() -> Desired {
    desired(&tutorial(), &NodeA { unhealthy: BTreeSet::from([NODE_B]), ..NodeA::default() })
}

/// Node-b gets no new connections.
fn b_drained() -> Desired {
    let mut wanted = healthy();
    wanted.services.get_mut(&id()).unwrap().backends.get_mut(&(NODE_B, 80)).unwrap().weight = 0;
    wanted
}

/// Node-b is no backend any more.
fn b_removed() -> Desired {
    let mut wanted = healthy();
    wanted.services.get_mut(&id()).unwrap().backends.remove(&(NODE_B, 80));
    wanted
}

fn seconds(seconds: u64) -> Timestamp {
    Timestamp(0) + Duration::from_secs(seconds)
}

fn flow(port: u16) -> Flow {
    Flow {
        source: Ipv4Addr::new(10, 0, 0, 9).into(),
        destination: VIP.into(),
        source_port: Be16::new(port),
        destination_port: Be16::new(80),
        protocol: 6,
    }
}

impl Node {
    fn id_of(&self, address: IpAddr) -> u32 {
        let of = |backend: &Backend| backend.address == address.into();
        self.dataplane.backends.iter().find(|(_, backend)| of(backend)).map(|(id, _)| *id).unwrap()
    }

    /// What the program does with a packet.
    fn packet(&mut self, port: u16, opens: bool, now: Timestamp) -> u32 {
        let service = self.dataplane.services[&key()];
        let number = slot(flow(port).hash(), service.ring_size) as usize;
        let value = self.dataplane.rings[&service.ring][number];
        if !slot_is_unsettled(value) {
            return value;
        }
        let flow = flow(port).key();
        let remembered = self.dataplane.flows.get(&flow).map(|state| state.backend);
        let alive = remembered.filter(|id| self.dataplane.backends[id].flags & Backend::FAILED == 0);
        let otherwise =
            || if opens { value & !UNSETTLED } else { self.dataplane.rings[&service.previous][number] };
        let backend = alive.unwrap_or_else(otherwise);
        self.dataplane.flows.insert(flow, FlowState { backend, reserved: 0, last_seen: now.0 });
        backend
    }

    fn unsettled(&self) -> usize {
        self.forwarding.remembered(id()).0
    }
}

/// A port whose flow belongs to node-b in the settled ring.
fn port_of_b(node: &mut Node) -> u16 {
    let b = node.id_of(NODE_B);
    (1..u16::MAX).find(|port| node.packet(*port, false, Timestamp(0)) == b).unwrap()
}

#[test]
fn nothing_is_unsettled_and_nothing_due_in_the_steady_state() {
    let mut node = Node::default();
    node.apply(&healthy());
    assert_eq!((node.unsettled(), node.forwarding.next_settling()), (0, None));
}

#[test]
fn previous_backends_are_there_before_a_slot_says_that_it_has_one() {
    let mut node = Node::default();
    node.apply(&healthy());
    let service = node.dataplane.services[&key()];
    let operations = node.apply(&b_drained());
    let rings: Vec<u32> = operations
        .iter()
        .filter_map(|operation| match operation {
            Operation::PutRing(index, _) => Some(*index),
            _ => None,
        })
        .collect();
    assert_eq!(rings, [service.previous, service.ring]);
    assert_eq!(node.dataplane.services[&key()], service, "one update of the ring is the whole change");
}

#[test]
fn connection_stays_with_a_backend_that_drains_until_it_ends() {
    let mut node = Node::default();
    node.apply(&healthy());
    let (a, b) = (node.id_of(NODE_A), node.id_of(NODE_B));
    let port = port_of_b(&mut node);
    let other = (port + 1..u16::MAX).find(|port| node.packet(*port, false, seconds(1)) == b).unwrap();
    node.apply(&b_drained());
    assert_eq!(node.unsettled(), 32_768);
    assert_eq!(node.packet(port, false, seconds(1)), b, "an old connection");
    assert_eq!(node.packet(other, true, seconds(1)), a, "a new one");
    node.settle_until(seconds(100));
    assert_eq!(node.unsettled(), 1, "one slot is held by the old connection");
    // As long as it speaks now and then.
    for minute in (2..60).step_by(10) {
        assert_eq!(node.packet(port, false, seconds(60 * minute)), b);
        node.settle_until(seconds(60 * minute + 10));
    }
    let last = seconds(60 * 60);
    node.packet(port, false, last);
    node.settle_until(last + TIMEOUT + Duration::from_secs(20));
    assert_eq!((node.unsettled(), node.dataplane.flows.len()), (0, 0));
    assert_eq!(node.forwarding.next_settling(), None);
    let service = node.dataplane.services[&key()];
    assert!(!node.dataplane.rings.contains_key(&service.previous), "its memory is free");
    assert_eq!(node.packet(port, false, last), a);
}

#[test]
fn window_that_closes_turns_unknown_flows_to_the_current_backend() {
    let mut node = Node::default();
    node.apply(&healthy());
    let port = port_of_b(&mut node);
    node.apply(&b_drained());
    node.settle_until(Timestamp(0) + WINDOW - Duration::from_secs(1));
    assert_eq!(node.packet(port, false, seconds(59)), node.id_of(NODE_B));
    node.dataplane.flows.clear();
    node.settle_until(Timestamp(0) + WINDOW);
    assert_eq!(node.packet(port, false, seconds(60)), node.id_of(NODE_A));
}

#[test]
fn identifier_of_a_removed_backend_is_kept_while_a_flow_names_it() {
    let mut node = Node::default();
    node.apply(&healthy());
    let b = node.id_of(NODE_B);
    let port = port_of_b(&mut node);
    node.apply(&b_removed());
    assert_eq!(node.packet(port, false, seconds(30)), b);
    let is_reused = |node: &mut Node, until: u64| {
        node.settle_until(seconds(until));
        let mut operations = node.apply_at(&b_removed(), seconds(until));
        operations.extend(node.apply_at(&b_removed(), seconds(until) + REST));
        operations.contains(&Operation::ResetBackendCounters(b))
    };
    assert!(!is_reused(&mut node, 120), "the connection lives");
    assert!(is_reused(&mut node, 30 + 15 * 60 + 20), "it ended");
}

#[test]
fn removed_backend_that_comes_back_is_who_it_was() {
    let mut node = Node::default();
    node.apply(&healthy());
    let (b, port) = (node.id_of(NODE_B), port_of_b(&mut node));
    node.apply(&b_removed());
    assert_eq!(node.packet(port, false, seconds(1)), b);
    node.apply_at(&healthy(), seconds(2));
    assert_eq!(node.packet(port, false, seconds(3)), b);
    node.settle_until(seconds(120));
    assert_eq!((node.unsettled(), node.dataplane.flows.len()), (0, 0));
    assert_eq!(node.packet(port, false, seconds(130)), b);
}

#[test]
fn failed_backend_is_replaced_at_once_and_its_flows_are_forgotten_before_it_comes_back() {
    let mut node = Node::default();
    node.apply(&healthy());
    let (a, b, port) = (node.id_of(NODE_A), node.id_of(NODE_B), port_of_b(&mut node));
    node.apply(&b_drained());
    assert_eq!(node.packet(port, false, seconds(1)), b);
    node.apply_at(&b_failed(), seconds(2));
    assert_eq!(node.dataplane.backends[&b].flags, Backend::FAILED);
    assert_eq!(node.packet(port, true, seconds(2)), a);
    // It recovers before anybody has looked for its flows.
    node.apply_at(&healthy(), seconds(3));
    assert_eq!(node.shares(), BTreeMap::from([(NODE_A, 65_537)]), "not yet");
    node.settle_until(seconds(3) + Duration::from_millis(1));
    node.apply_at(&healthy(), seconds(4));
    assert_eq!(node.dataplane.backends[&b].flags, 0);
    assert_eq!(node.shares()[&NODE_B], 32_768);
    assert_eq!(node.packet(port, false, seconds(5)), a, "the connection of meanwhile stays");
}

#[test]
fn ring_that_is_still_put_together_changes_at_once() {
    let mut node = Node::default();
    let mut starting = healthy();
    let backend = starting.services.get_mut(&id()).unwrap().backends.get_mut(&(NODE_B, 80)).unwrap();
    backend.condition = Condition::Checking;
    backend.weight = 0;
    node.apply(&starting);
    node.apply_at(&healthy(), seconds(1));
    assert_eq!((node.unsettled(), node.shares()[&NODE_B]), (0, 32_768));
    node.apply_at(&b_drained(), seconds(2));
    assert_eq!(node.unsettled(), 32_768, "from then on changes are graceful");
}

#[test]
fn flows_of_nobody_are_forgotten() {
    let mut node = Node::default();
    node.apply(&healthy());
    node.apply(&b_drained());
    let key = FlowKey { destination_port: Be16::new(9_999), ..flow(1).key() };
    let state = FlowState { backend: 1, reserved: 0, last_seen: seconds(6).0 };
    node.dataplane.flows.insert(key, state);
    node.settle_until(seconds(10));
    assert!(node.dataplane.flows.is_empty());
}

#[test]
fn failure_while_settling_is_made_good() {
    for fail_at in 0..4 {
        let mut node = Node::default();
        node.apply(&healthy());
        let port = port_of_b(&mut node);
        node.apply(&b_drained());
        node.packet(port, true, seconds(1));
        node.dataplane.fail_after(fail_at);
        let (mut now, mut failures) = (seconds(0), 0);
        while let Some(due) = node.forwarding.next_settling().filter(|due| *due <= seconds(300)) {
            now = now.max(due) + Duration::from_nanos(1);
            failures += usize::from(node.forwarding.settle(&mut node.dataplane, now).is_err());
        }
        assert_eq!(failures, 1, "{fail_at}");
        assert_eq!((node.unsettled(), node.forwarding.next_settling()), (0, None), "{fail_at}");
        assert!(node.dataplane.flows.is_empty(), "{fail_at}");
    }
}

#[test]
fn way_to_a_backend_that_left_is_followed_while_a_connection_needs_it() {
    let mut node = Node::default();
    node.apply(&healthy());
    let b = node.id_of(NODE_B);
    node.apply(&b_removed());
    let left: Vec<Left> = node.forwarding.left().collect();
    assert_eq!(left, [Left { vip: VIP, address: NODE_B, is_local: false }]);

    let elsewhere = Mac([2, 0, 0, 0, 0, 0x0c]);
    let view = NodeA { mac_b: Some(elsewhere), left, ..NodeA::default() };
    let wanted = Desired { left: desired(&tutorial(), &view).left, ..b_removed() };
    assert_eq!(node.apply(&wanted), [Operation::SetNextHop(b, NextHop::new(elsewhere, 0))]);
    assert!(node.apply(&wanted).is_empty(), "once");
}

#[test]
fn vip_stays_on_the_loopback_while_this_node_has_connections_of_a_backend_that_left() {
    let mut config = tutorial();
    config.services[0].backends.retain(|backend| backend.address == NODE_B);
    let on_loopback = (LOOPBACK.to_owned(), IpNet::from(VIP));
    assert!(!desired(&config, &NodeA::default()).addresses.contains(&on_loopback));
    let left = vec![Left { vip: VIP, address: NODE_A, is_local: true }];
    let view = NodeA { left, ..NodeA::default() };
    assert!(desired(&config, &view).addresses.contains(&on_loopback));
    config.services.clear();
    config.virtual_routers.clear();
    assert!(desired(&config, &view).addresses.is_empty(), "without the VIP there is nothing to preserve");
}

#[test]
fn what_is_remembered_when_the_vip_is_lost_is_counted() {
    let mut node = Node::default();
    node.apply(&healthy());
    node.apply(&b_drained());
    let ports: Vec<u16> = (1..=100).collect();
    for port in &ports {
        node.packet(*port, false, seconds(1));
    }
    node.settle_until(seconds(10));
    let remembered = node.dataplane.flows.len();
    assert!(remembered > 20, "about half of the slots were node-b's");
    let lease = desired(&tutorial(), &NodeA::default()).services[&id()].lease;
    assert_eq!(node.forwarding.leave_behind(lease + 1), 0, "another VIP's");
    assert_eq!(node.forwarding.leave_behind(lease), remembered);
    assert_eq!(node.forwarding.left_behind(id()), remembered as u64);
}
