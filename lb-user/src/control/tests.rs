//! The way from a configuration to the maps, with the data plane in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipnet::IpNet;
use lb_common::{
    Address, BackendCounters, Be16, Device, Interface, MODE_DR, MODE_LOCAL, MODE_NAT, Mac, NextHop,
    Service as ServiceValue, ServiceKey6, Tag, limits, slot_backend,
};

mod backups;
mod explain;
mod flows;
mod kernel;
mod modes;
mod scale;
mod world;

use super::{
    desired::{
        Condition, Desired, LOOPBACK, Left, Outer, STANDALONE_LEASE, ServiceId, View, desired, service_id,
    },
    forwarding::Forwarding,
    identifiers::REST,
};
use crate::{
    config::{Config, Service},
    dataplane::memory::{MemoryDataplane, Operation},
    time::Timestamp,
};

const TUTORIAL: &str = include_str!("../../../configs/tutorial-a.toml");
const NODE_A: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 20, 128, 2));
const NODE_B: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 20, 128, 3));
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 20, 128, 4));
const NODE_A_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
const DEVICE: Device =
    Device { ifindex: 7, mac: Mac([2, 0, 0, 0, 0, 0x0a]), reserved: 0, parent: 0, tag: Tag::NONE };
const MAC_B: Mac = Mac([2, 0, 0, 0, 0, 0x0b]);

/// What node-a knows: itself, and node-b's MAC address behind slot 0.
struct NodeA {
    owner: bool,
    was_owner: bool,
    unhealthy: BTreeSet<IpAddr>,
    unknown: BTreeSet<IpAddr>,
    mac_b: Option<Mac>,
    left: Vec<Left>,
    device: Device,
}

impl Default for NodeA {
    fn default() -> Self {
        Self {
            owner: false,
            was_owner: false,
            unhealthy: BTreeSet::new(),
            unknown: BTreeSet::new(),
            mac_b: Some(MAC_B),
            left: Vec::new(),
            device: DEVICE,
        }
    }
}

impl View for NodeA {
    fn is_owner(&self, _: &str) -> bool {
        self.owner
    }

    fn was_owner(&self, _: &str) -> bool {
        self.was_owner
    }

    fn condition(&self, _: &Service, address: IpAddr, _: u16) -> Condition {
        match () {
            () if self.unhealthy.contains(&address) => Condition::Failed,
            () if self.unknown.contains(&address) => Condition::Checking,
            () => Condition::Up,
        }
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        address == NODE_A
    }

    fn interfaces(&self) -> BTreeMap<u16, Interface> {
        BTreeMap::from([(
            0,
            Interface { ifindex: 7, mac: Mac([2, 0, 0, 0, 0, 0x0a]), mtu: 1500, ..Interface::default() },
        )])
    }

    fn left(&self) -> Vec<Left> {
        self.left.clone()
    }

    fn devices(&self) -> BTreeMap<u32, Device> {
        BTreeMap::from([(7, self.device)])
    }

    fn next_hop(&self, address: IpAddr) -> NextHop {
        match self.mac_b {
            Some(mac) if address != NODE_A => NextHop::new(mac, 0),
            _ => NextHop::UNRESOLVED,
        }
    }

    fn outer(&self, address: IpAddr) -> Outer {
        Outer { source: Some(if address.is_ipv4() { NODE_A } else { NODE_A_V6 }), mtu: 1400 }
    }

    fn index_of(&self, interface: &str) -> Option<u32> {
        (interface == "eth0").then_some(7)
    }

    fn neighbour(&self, address: IpAddr) -> Option<Mac> {
        self.mac_b.filter(|_| address == NODE_B)
    }
}

fn tutorial() -> Config {
    Config::parse("tutorial-a.toml", TUTORIAL).unwrap()
}

fn id() -> ServiceId {
    service_id(&tutorial().services[0])
}

fn key() -> ServiceKey6 {
    ServiceKey6 { address: VIP.into(), port: Be16::new(80), protocol: 6, reserved: 0 }
}

fn ip(address: Address) -> IpAddr {
    Ipv6Addr::from(address.octets()).to_canonical()
}

/// A data plane and its reconciler; what the reconciler says is checked to be nothing.
struct Node {
    forwarding: Forwarding,
    dataplane: MemoryDataplane,
}

impl Default for Node {
    fn default() -> Self {
        Self { forwarding: Forwarding::new(limits::MOST_BACKENDS), dataplane: MemoryDataplane::default() }
    }
}

impl Node {
    fn apply(&mut self, desired: &Desired) -> Vec<Operation> {
        self.apply_at(desired, Timestamp(0))
    }

    fn apply_at(&mut self, desired: &Desired, now: Timestamp) -> Vec<Operation> {
        let errors = self.forwarding.reconcile(&mut self.dataplane, desired, now);
        assert!(errors.is_empty(), "{errors:?}");
        self.dataplane.take_operations()
    }

    /// What the reconciler complains of.
    fn complaints(&mut self, desired: &Desired) -> Vec<String> {
        let errors = self.forwarding.reconcile(&mut self.dataplane, desired, Timestamp(0));
        errors.iter().map(ToString::to_string).collect()
    }

    /// Does what is due for unsettled slots, up to a moment.
    fn settle_until(&mut self, end: Timestamp) {
        let mut now = Timestamp(0);
        while let Some(due) = self.forwarding.next_settling().filter(|due| *due <= end) {
            now = now.max(due) + Duration::from_nanos(1);
            self.forwarding.settle(&mut self.dataplane, now).unwrap();
        }
    }

    /// The backend of each slot.
    fn ring(&self) -> Vec<u32> {
        let ring = &self.dataplane.rings[&self.dataplane.services[&key()].ring];
        ring.iter().map(|slot| slot_backend(*slot)).collect()
    }

    /// Backend address → slots.
    fn shares(&self) -> BTreeMap<IpAddr, usize> {
        let mut shares = BTreeMap::new();
        for id in self.ring() {
            let address = ip(self.dataplane.backends[&id].address);
            *shares.entry(address).or_default() += 1;
        }
        shares
    }
}

#[test]
fn tutorial_on_node_a_serves_itself_and_forwards_to_node_b() {
    let mut node = Node::default();
    node.apply(&desired(&tutorial(), &NodeA::default()));
    let modes: BTreeMap<IpAddr, (u8, NextHop)> = node
        .dataplane
        .backends
        .values()
        .map(|backend| (ip(backend.address), (backend.mode, backend.next_hop)))
        .collect();
    assert_eq!(
        modes,
        BTreeMap::from([
            (NODE_A, (MODE_LOCAL, NextHop::UNRESOLVED)),
            (NODE_B, (MODE_DR, NextHop::new(MAC_B, 0)))
        ])
    );
    assert_eq!(node.shares().into_values().collect::<Vec<_>>(), [32_769, 32_768]);
    let service = node.dataplane.services[&key()];
    assert_eq!((service.ring_size, service.lease, service.flags), (65_537, 1, ServiceValue::HAS_LOCAL));
    assert_eq!(node.dataplane.directors, BTreeSet::from([MAC_B]));
    assert_eq!(node.dataplane.vips[&VIP.into()].lease, 1);
}

#[test]
fn applying_the_same_again_does_nothing() {
    let mut node = Node::default();
    let wanted = desired(&tutorial(), &NodeA::default());
    node.apply(&wanted);
    assert_eq!(node.apply(&wanted), []);
}

#[test]
fn devices_follow_their_addresses_and_share_no_place() {
    let mut node = Node::default();
    let describe = |devices: &[Device]| Desired {
        devices: devices.iter().map(|device| (device.ifindex, *device)).collect(),
        ..desired(&tutorial(), &NodeA::default())
    };
    node.apply(&describe(&[DEVICE]));
    let moved = Device { mac: MAC_B, ..DEVICE };
    assert_eq!(node.apply(&describe(&[moved])), [Operation::PutDevice(moved)]);

    let vlan = Device { parent: 3, tag: Tag::new(Tag::PROTOCOL, 100), ..moved };
    assert_eq!(node.apply(&describe(&[vlan])), [Operation::DeleteDevice(moved), Operation::PutDevice(vlan)]);
    node.apply(&describe(&[moved]));

    let other = Device { ifindex: DEVICE.ifindex + Device::PLACES, ..DEVICE };
    let complaints = node.complaints(&describe(&[moved, other]));
    assert!(complaints.len() == 1 && complaints[0].contains("7 and 4103"), "{complaints:?}");
    assert_eq!(node.dataplane.devices.into_values().collect::<Vec<_>>(), [moved]);
}

#[test]
fn devices_that_are_gone_are_forgotten() {
    let mut node = Node::default();
    let wanted = desired(&tutorial(), &NodeA::default());
    node.apply(&wanted);
    let operations = node.apply(&Desired { devices: BTreeMap::new(), ..wanted });
    assert_eq!(operations, [Operation::DeleteDevice(DEVICE)]);
    assert!(node.dataplane.devices.is_empty());
}

#[test]
fn what_is_named_is_there_before_its_name() {
    let mut node = Node::default();
    let operations = node.apply(&desired(&tutorial(), &NodeA::default()));
    let position = |wanted: fn(&Operation) -> bool| operations.iter().rposition(wanted).unwrap();
    let interface = position(|o| matches!(o, Operation::PutInterface(..)));
    let backend = position(|o| matches!(o, Operation::PutBackend(..)));
    let ring = position(|o| matches!(o, Operation::PutRing(..)));
    let service = position(|o| matches!(o, Operation::PutService(..)));
    let vip = position(|o| matches!(o, Operation::PutVip(..)));
    assert!(interface < backend && backend < ring && ring < service && service < vip, "{operations:?}");
}

#[test]
fn backend_that_fails_leaves_the_ring_and_comes_back_to_the_same_slots() {
    let mut node = Node::default();
    let healthy = desired(&tutorial(), &NodeA::default());
    node.apply(&healthy);
    let before = node.ring();
    let failed = NodeA { unhealthy: BTreeSet::from([NODE_B]), ..NodeA::default() };
    node.apply(&desired(&tutorial(), &failed));
    assert_eq!(node.shares(), BTreeMap::from([(NODE_A, 65_537)]));
    node.apply(&healthy);
    assert_eq!(node.ring(), before);
}

#[test]
fn service_without_a_healthy_backend_has_no_ring_to_ask() {
    let mut node = Node::default();
    node.apply(&desired(&tutorial(), &NodeA::default()));
    let none = NodeA { unhealthy: BTreeSet::from([NODE_A, NODE_B]), ..NodeA::default() };
    node.apply(&desired(&tutorial(), &none));
    assert_eq!(node.dataplane.services[&key()].ring_size, 0);
}

#[test]
fn new_mac_address_is_one_store_and_no_new_ring() {
    let mut node = Node::default();
    node.apply(&desired(&tutorial(), &NodeA { mac_b: None, ..NodeA::default() }));
    let operations = node.apply(&desired(&tutorial(), &NodeA::default()));
    assert!(
        matches!(operations[..], [Operation::PutDirector(MAC_B), Operation::SetNextHop(_, hop)] if hop == NextHop::new(MAC_B, 0)),
        "{operations:?}"
    );
}

#[test]
fn another_ring_size_is_another_ring_index() {
    let mut node = Node::default();
    let mut wanted = desired(&tutorial(), &NodeA::default());
    node.apply(&wanted);
    let first = node.dataplane.services[&key()].ring;
    wanted.services.get_mut(&id()).unwrap().ring_size = 101;
    node.apply(&wanted);
    let second = node.dataplane.services[&key()];
    assert_ne!(second.ring, first);
    assert_eq!((second.ring_size as usize, node.ring().len()), (101, 101));
    // The old ring is freed once no packet can be reading it.
    assert!(node.dataplane.rings.contains_key(&first));
    node.apply_at(&wanted, Timestamp(0) + REST);
    assert!(!node.dataplane.rings.contains_key(&first));
}

#[test]
fn removed_service_is_forgotten_before_what_it_named() {
    let mut node = Node::default();
    node.apply(&desired(&tutorial(), &NodeA::default()));
    let operations = node.apply(&Desired::default());
    assert!(
        matches!(
            operations[..],
            [
                Operation::DeleteDevice(_),
                Operation::DeleteDirector(_),
                Operation::DeleteTunnelSource(_),
                Operation::DeleteTunnelSource(_),
                Operation::DeleteService(_)
            ]
        ),
        "{operations:?}"
    );
    // The guard knows the VIP until it is said to be no address of this node any more.
    assert_eq!(node.dataplane.vips.len(), 1);
    assert!(node.forwarding.forget_vips(&mut node.dataplane, &Desired::default()).is_empty());
    assert!(node.dataplane.vips.is_empty());
    let rested = node.apply_at(&Desired::default(), Timestamp(0) + REST);
    assert!(rested.iter().any(|o| matches!(o, Operation::DeleteRing(_))), "{rested:?}");
    assert!(node.dataplane.services.is_empty());
}

#[test]
fn counters_of_a_backend_that_left_stay_with_its_service() {
    let mut node = Node::default();
    let both = desired(&tutorial(), &NodeA::default());
    node.apply(&both);
    for id in node.dataplane.backends.keys() {
        let counters = BackendCounters { packets: 10, bytes: 100, connections: 1, reserved: 0 };
        node.dataplane.counters.insert(*id, counters);
    }
    let mut one = both.clone();
    one.services.get_mut(&id()).unwrap().backends.remove(&(NODE_B, 80));
    node.apply(&one);
    // Its slots settle, and no flow names it.
    let settled = Timestamp(0) + Duration::from_mins(2);
    node.settle_until(settled);
    for now in [settled, settled + REST, settled + REST + REST] {
        node.apply_at(&one, now);
        let sum = node.forwarding.service_counters(&node.dataplane, id()).unwrap();
        assert_eq!((sum.packets, sum.connections), (20, 2), "{now:?}");
    }
    // The identifier starts from nothing when it is used again.
    node.apply_at(&both, settled + REST + REST);
    let again = node.forwarding.backend_counters(&node.dataplane, id(), NODE_B, 80).unwrap();
    assert_eq!(again, BackendCounters::default());
}

#[test]
fn every_failure_is_made_good_by_the_next_run() {
    let wanted = desired(&tutorial(), &NodeA::default());
    let mut reference = Node::default();
    let steps = reference.apply(&wanted).len();
    for fail_at in 0..steps {
        let mut node = Node::default();
        node.dataplane.fail_at = Some(fail_at);
        let errors = node.forwarding.reconcile(&mut node.dataplane, &wanted, Timestamp(0));
        assert_eq!(errors.len(), 1, "step {fail_at}: {errors:?}");
        node.apply(&wanted);
        assert_eq!(node.shares(), reference.shares(), "step {fail_at}");
        assert_eq!(node.dataplane.vips, reference.dataplane.vips, "step {fail_at}");
        assert_eq!(node.dataplane.directors, reference.dataplane.directors, "step {fail_at}");
        assert_eq!(node.dataplane.services.len(), 1, "step {fail_at}");
    }
}

#[test]
fn a_change_that_failed_half_way_is_undone_when_it_is_not_wanted_any_more() {
    let before = desired(&tutorial(), &NodeA::default());
    let mut after = before.clone();
    let backend = after.services.get_mut(&id()).unwrap().backends.get_mut(&(NODE_B, 80)).unwrap();
    backend.next_hop = NextHop::new(Mac([2, 0, 0, 0, 0, 9]), 0);
    backend.weight = 0;
    let mut reference = Node::default();
    reference.apply(&before);
    let steps = reference.apply(&after).len();
    assert!(steps > 1, "the next hop, then the ring");
    for fail_at in 0..steps {
        let mut node = Node::default();
        node.apply(&before);
        let (ring, backends) = (node.ring(), node.dataplane.backends.clone());
        node.dataplane.fail_after(fail_at);
        assert_eq!(node.complaints(&after).len(), 1, "step {fail_at}");
        node.apply(&before);
        assert_eq!((node.ring(), &node.dataplane.backends), (ring, &backends), "step {fail_at}");
    }
}

#[test]
fn nat_backend_has_its_replies_rewritten_until_it_leaves() {
    let text = TUTORIAL.replace("mode = \"dr\"", "mode = \"nat\"\nport = 8080");
    let config = Config::parse("nat.toml", &text).unwrap();
    let mut node = Node::default();
    let wanted = desired(&config, &NodeA::default());
    node.apply(&wanted);
    // Node-a itself is local whatever the configuration says, so only node-b is behind NAT.
    let nat: Vec<_> = node.dataplane.backends.values().filter(|backend| backend.mode == MODE_NAT).collect();
    assert_eq!(nat.len(), 1);
    let (reply_key, reply) = node.dataplane.nat_replies.first_key_value().unwrap();
    assert_eq!((reply_key.address, reply_key.port), (nat[0].address, Be16::new(8080)));
    assert_eq!((reply.address, reply.port), (VIP.into(), Be16::new(80)));
    node.apply(&Desired::default());
    assert!(node.dataplane.nat_replies.is_empty());
}

#[test]
fn owner_has_the_vip_on_its_interface_and_every_serving_node_on_loopback() {
    let vip = ("eth0".to_owned(), "172.20.128.4/24".parse().unwrap());
    let local = (LOOPBACK.to_owned(), "172.20.128.4/32".parse().unwrap());
    let backup = desired(&tutorial(), &NodeA::default());
    assert_eq!(backup.addresses, BTreeSet::from([local.clone()]));
    let owner = desired(&tutorial(), &NodeA { owner: true, ..NodeA::default() });
    assert_eq!(owner.addresses, BTreeSet::from([vip, local]));
    assert_eq!((backup.vips[&VIP].held, owner.vips[&VIP].held), (false, true));

    // For a moment it looks as the owner does.
    let left = desired(&tutorial(), &NodeA { was_owner: true, ..NodeA::default() });
    assert_eq!((left.addresses, left.vips), (owner.addresses, owner.vips));
}

#[test]
fn virtual_mac_goes_at_once_with_the_ownership() {
    let config = TUTORIAL.replace("router_id = 33\n", "router_id = 33\nvirtual_mac = true\n");
    let config = Config::parse("tutorial-a.toml", &config).unwrap();
    let left = desired(&config, &NodeA { was_owner: true, ..NodeA::default() });
    assert!(!left.vips[&VIP].held && left.virtual_macs.values().all(|mac| !mac.up));
    assert!(left.addresses.iter().all(|(interface, _)| interface == LOOPBACK), "{:?}", left.addresses);
}

#[test]
fn vip_without_a_virtual_router_is_always_answered_for() {
    let config =
        Config::parse("single-node.toml", include_str!("../../../configs/single-node.toml")).unwrap();
    let wanted = desired(&config, &NodeA::default());
    assert!(wanted.vips.values().all(|vip| vip.lease == STANDALONE_LEASE), "{:?}", wanted.vips);
    assert!(!wanted.vips.is_empty() && wanted.addresses.iter().all(|(name, _)| name == LOOPBACK));
}
