//! What is made of the kernel's links, routes and neighbours.

use super::{super::world::World, *};
use crate::net::{self, Link, Neighbour, NetEvent, Path, Snapshot, Vlan};

const GATEWAY: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
const MAC: Mac = Mac([2, 0, 0, 0, 0, 0x64]);

fn link(index: u32, name: &str, vlan: Option<Vlan>) -> Link {
    let mac = Some(Mac([2, 0, 0, 0, 1, index as u8]));
    Link {
        index,
        name: name.to_owned(),
        mac,
        mtu: 1500,
        up: true,
        carrier: true,
        master: None,
        vlan,
        macvlan_on: None,
    }
}

/// eth0 is 2, eth0.100 is 3, a VLAN on that is 4.
fn world() -> World {
    let vlan = |parent, id| Some(Vlan { parent, protocol: 0x8100, id });
    let links =
        vec![link(2, "eth0", None), link(3, "eth0.100", vlan(2, 100)), link(4, "eth0.100.7", vlan(3, 7))];
    let mut world = World::default();
    world.event(NetEvent::Resync(Snapshot { links, ..Snapshot::default() }));
    world
}

fn path(index: u32, gateway: Option<IpAddr>) -> Path {
    Path { index, gateway, source: Some(NODE_A), mtu: None }
}

fn resolve(world: &mut World, index: u32, address: IpAddr) {
    world.event(NetEvent::Neighbour(Neighbour { next_hop: net::NextHop { index, address }, mac: Some(MAC) }));
}

#[test]
fn vlan_interface_is_its_parent_with_a_tag() {
    let mut world = world();
    world.route(NODE_B, Some(path(3, None)));
    resolve(&mut world, 3, NODE_B);
    let hop = world.next_hop(NODE_B);
    assert_eq!(hop, NextHop::new(MAC, 0));
    let described = world.interfaces()[&0];
    assert_eq!((described.ifindex, described.tag, described.mtu), (2, Tag::new(0x8100, 100), 1500));
    assert_eq!(world.carrier("eth0.100"), "eth0");
    assert_eq!(world.carrier("eth0"), "eth0");
    assert_eq!(world.carrier("gone"), "gone");
    let carrying: Vec<bool> =
        ["eth0", "eth0.100", "eth0.100.7", "gone"].map(|name| world.carries_vlans(name)).into();
    assert_eq!(carrying, [true, true, false, false]);
}

#[test]
fn devices_are_described_unless_they_take_frames_for_other_addresses() {
    let mut world = world();
    let described = |world: &World, name: &str| {
        let devices = world.devices(&BTreeSet::from([name.to_owned()]));
        devices.into_values().filter(|device| device.tag == Tag::NONE).map(|d| d.mac).collect::<Vec<_>>()
    };
    // eth0.100 has an address of its own.
    assert_eq!(described(&world, "eth0"), []);
    let own = world.link_named("eth0").expect("it is there").mac;
    let vlan = Some(Vlan { parent: 2, protocol: 0x8100, id: 100 });
    world.event(NetEvent::Link(Link { mac: own, ..link(3, "eth0.100", vlan) }));
    assert_eq!(described(&world, "eth0"), Vec::from_iter(own));
    // It changes while the program runs.
    let new = Some(Mac([2, 0, 0, 0, 9, 9]));
    world.event(NetEvent::Link(Link { mac: new, ..link(5, "eth1", None) }));
    assert_eq!(described(&world, "eth1"), Vec::from_iter(new));
    // A bridge takes what is for its ports.
    world.event(NetEvent::Link(Link { master: Some(5), ..link(6, "eth2", None) }));
    assert_eq!(described(&world, "eth1"), []);
    assert_eq!(described(&world, "gone"), []);
}

#[test]
fn vlan_devices_are_described_with_the_device_below() {
    let devices = world().devices(&BTreeSet::new());
    let seen: Vec<_> = devices.into_iter().map(|(index, d)| (index, d.parent, d.tag)).collect();
    assert_eq!(seen, [(3, 2, Tag::new(0x8100, 100)), (4, 3, Tag::new(0x8100, 7))]);
}

#[test]
fn way_through_two_tags_is_no_way() {
    let mut world = world();
    world.route(NODE_B, Some(path(4, None)));
    resolve(&mut world, 4, NODE_B);
    assert_eq!(world.next_hop(NODE_B), NextHop::UNRESOLVED);
    assert!(world.interfaces().is_empty());
}

#[test]
fn next_hop_is_the_router_whatever_its_family_and_directors_are_neighbours_only() {
    let mut world = world();
    world.route(NODE_B, Some(path(2, Some(GATEWAY))));
    resolve(&mut world, 2, NODE_B);
    assert_eq!(world.next_hop(NODE_B), NextHop::UNRESOLVED);
    resolve(&mut world, 2, GATEWAY);
    assert_eq!(world.next_hop(NODE_B), NextHop::new(MAC, 0));
    assert_eq!(world.neighbour(NODE_B), None);
    world.route(NODE_B, Some(path(2, None)));
    assert_eq!(world.neighbour(NODE_B), Some(MAC));
}

#[test]
fn mtu_is_the_routes_or_else_the_interfaces() {
    let mut world = world();
    for (mtu, interface, expected) in
        [(None, 1500, 1500), (Some(1400), 1500, 1400), (None, 65_536, 0), (Some(9000), 1500, 9000)]
    {
        world.event(NetEvent::Link(Link { mtu: interface, ..link(2, "eth0", None) }));
        world.route(NODE_B, Some(Path { mtu, ..path(2, None) }));
        assert_eq!(world.outer(NODE_B), Outer { source: Some(NODE_A), mtu: expected });
    }
    // A source of the other family, of a route by a router of that family, is none.
    world.route(NODE_A_V6, Some(path(2, None)));
    assert_eq!(world.outer(NODE_A_V6).source, None);
}

#[test]
fn route_that_went_stops_packets_but_makes_no_other_backend() {
    let mut world = world();
    world.route(NODE_B, Some(path(2, None)));
    resolve(&mut world, 2, NODE_B);
    let before = world.outer(NODE_B);
    world.route(NODE_B, None);
    assert_eq!(world.next_hop(NODE_B), NextHop::UNRESOLVED);
    assert_eq!(world.outer(NODE_B), before);
    assert!(world.keep_routes(&BTreeSet::from([NODE_B])).is_empty());
    world.route(NODE_B, Some(path(2, None)));
    assert_eq!(world.next_hop(NODE_B), NextHop::new(MAC, 0));
    world.keep_routes(&BTreeSet::new());
    assert!(!world.knows_way(&NODE_B));
}
