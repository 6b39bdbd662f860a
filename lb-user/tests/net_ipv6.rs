//! The network adapters against the real kernel, IPv6, each test in a network namespace of its own.

#[expect(dead_code, reason = "the pair is of IPv4")]
mod net_support;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use ipnet::IpNet;
use lb::net::{
    Announcer, InterfaceAddress, Neighbour, NeighbourKeeper, NetEvent, Netlink, NextHop, Path, Route, follow,
};
use lb_common::Mac;
use net_support::{Namespace, PATIENCE, in_new_namespace, index_of, ip, wait_for};
use tokio::time::timeout;

const NEAR: IpAddr = address(2);
const FAR: IpAddr = address(3);
const VIP: IpAddr = address(4);
const NOBODY: IpAddr = address(0x99);
const OUTSIDE: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1));
const FAR_MAC: Mac = Mac([2, 0, 0, 0, 0, 3]);

const fn address(host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host))
}

/// `near0` here with 2001:db8::2/64 and 192.0.2.2/24, and `far0` with .3 in the namespace returned.
fn pair() -> Namespace {
    ip("link add near0 address 02:00:00:00:00:02 type veth peer name far0 address 02:00:00:00:00:03");
    let far = Namespace::with_link("far0");
    ip("address add 2001:db8::2/64 dev near0 nodad");
    ip("address add 192.0.2.2/24 dev near0");
    ip("link set near0 up");
    far.enter(|| {
        ip("address add 2001:db8::3/64 dev far0 nodad");
        ip("link set far0 up");
    });
    far
}

/// The kernel makes the local route of an IPv6 address a moment after the address.
async fn until_local(netlink: &Netlink) {
    let local = async {
        while netlink.route(VIP).await.expect("asked") != Some(Route::Local) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, local).await.expect("the VIP becomes a local address");
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_vip_is_usable_at_once_never_a_source_and_makes_no_route() {
    in_new_namespace(async || {
        let _far = pair();
        let netlink = Netlink::open().expect("rtnetlink");
        let index = index_of(&netlink, "near0").await;
        // What belongs to addresses comes and goes with them; the rest must not change.
        let routes = ip("-6 route show table main");
        let vip = net("2001:db8::4/64");
        for added in [true, false] {
            assert_eq!(netlink.add_address(index, vip).await.expect("added"), added);
        }
        assert_eq!(ip("-6 route show table main"), routes);
        let shown = ip("-6 address show dev near0");
        let line = shown.lines().find(|line| line.contains("2001:db8::4/64")).expect("the VIP is there");
        assert!(line.contains("deprecated") && line.contains("nodad"), "{line}");
        assert!(!line.contains("tentative"), "{line}");
        let addresses = netlink.addresses().await.expect("listed");
        assert!(addresses.contains(&InterfaceAddress { index, address: vip }), "{addresses:?}");
        assert!(addresses.contains(&InterfaceAddress { index, address: net("192.0.2.2/24") }));
        until_local(&netlink).await;
        let Some(Route::Remote(path)) = netlink.route(FAR).await.expect("asked") else { panic!("a way") };
        assert_eq!(path.source, Some(NEAR), "not the VIP");
        for deleted in [true, false] {
            assert_eq!(netlink.delete_address(index, vip).await.expect("deleted"), deleted);
        }

        let loopback = index_of(&netlink, "lo").await;
        assert!(netlink.add_address(loopback, net("2001:db8::4/128")).await.expect("added"));
        until_local(&netlink).await;
        assert!(netlink.delete_address(loopback, net("2001:db8::4/128")).await.expect("deleted"));
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn an_interface_without_ipv6_refuses_a_vip_with_a_remedy() {
    in_new_namespace(async || {
        let _far = pair();
        let netlink = Netlink::open().expect("rtnetlink");
        let index = index_of(&netlink, "near0").await;
        std::fs::write("/proc/sys/net/ipv6/conf/near0/disable_ipv6", "1").expect("a setting");
        let error = netlink.add_address(index, net("2001:db8::4/64")).await.expect_err("IPv6 is off");
        assert!(error.to_string().contains("disable_ipv6"), "{error}");
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn ways_are_direct_by_a_router_by_a_router_of_the_other_family_or_none() {
    in_new_namespace(async || {
        let _far = pair();
        let netlink = Netlink::open().expect("rtnetlink");
        let index = index_of(&netlink, "near0").await;
        let path = Path { index, gateway: None, source: Some(NEAR), mtu: None };
        let way = async |destination| netlink.route(destination).await.expect("asked");
        assert_eq!(way(FAR).await, Some(Route::Remote(path)));
        assert_eq!(way(NEAR).await, Some(Route::Local));
        assert_eq!(way(OUTSIDE).await, None);
        ip("route add 2001:db8:1::/48 via 2001:db8::3 mtu 1400");
        let by_router = Path { gateway: Some(FAR), mtu: Some(1400), ..path };
        assert_eq!(way(OUTSIDE).await, Some(Route::Remote(by_router)));
        for kind in ["unreachable", "prohibit", "blackhole"] {
            ip(&format!("-6 route add {kind} 2001:db8:1::1/128"));
            assert_eq!(way(OUTSIDE).await, None, "{kind}");
            ip(&format!("-6 route del {kind} 2001:db8:1::1/128"));
        }
        ip("route add 198.51.100.0/24 via inet6 2001:db8::3 dev near0");
        let v4 = IpAddr::from([198, 51, 100, 1]);
        let mixed = Path { index, gateway: Some(FAR), source: Some(IpAddr::from([192, 0, 2, 2])), mtu: None };
        assert_eq!(way(v4).await, Some(Route::Remote(mixed)));
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn addresses_and_routes_of_both_families_are_followed() {
    in_new_namespace(async || {
        let _far = pair();
        let netlink = Netlink::open().expect("rtnetlink");
        let index = index_of(&netlink, "near0").await;
        let mut events = follow(&netlink).expect("followed");
        wait_for(&mut events, |event| (matches!(event, NetEvent::Resync(_))).then_some(())).await;
        let vip = InterfaceAddress { index, address: net("2001:db8::4/64") };
        ip("address add 2001:db8::4/64 dev near0 nodad noprefixroute");
        wait_for(&mut events, |event| (*event == NetEvent::AddressAdded(vip)).then_some(())).await;
        ip("address del 2001:db8::4/64 dev near0");
        wait_for(&mut events, |event| (*event == NetEvent::AddressRemoved(vip)).then_some(())).await;
        for route in ["2001:db8:1::/48 via 2001:db8::3", "203.0.113.0/24 via 192.0.2.3"] {
            for change in ["add", "change", "del"] {
                let more = if change == "change" { " mtu 1400" } else { "" };
                ip(&format!("route {change} {route}{more}"));
                wait_for(&mut events, |event| (*event == NetEvent::RoutesChanged).then_some(())).await;
            }
        }
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn next_hops_are_resolved_by_neighbour_discovery_and_an_advertisement_moves_them() {
    in_new_namespace(async || {
        let far = pair();
        let netlink = Netlink::open().expect("rtnetlink");
        let index = index_of(&netlink, "near0").await;
        let mut events = follow(&netlink).expect("followed");
        let known = |address, mac: Option<Mac>| {
            let wanted = Neighbour { next_hop: NextHop { index, address }, mac };
            move |event: &NetEvent| (*event == NetEvent::Neighbour(wanted)).then_some(())
        };
        let mut keeper = NeighbourKeeper::new(netlink.clone());
        let next_hops = BTreeSet::from([NextHop { index, address: FAR }, NextHop { index, address: NOBODY }]);
        assert!(keeper.set(next_hops).await.expect("set").is_empty());
        wait_for(&mut events, known(FAR, Some(FAR_MAC))).await;
        wait_for(&mut events, known(NOBODY, None)).await;
        // The kernel replaces what it knows when told so, without being asked.
        let moved = Mac([2, 0, 0, 0, 0, 0x33]);
        let announcer = far.enter(Announcer::open).expect("a packet socket");
        let far_index = far.enter(|| nix::net::if_::if_nametoindex("far0")).expect("far0 is there");
        announcer.announce(far_index, moved, FAR).expect("announced");
        wait_for(&mut events, known(FAR, Some(moved))).await;

        let all = netlink.neighbours().await.expect("listed");
        assert!(all.iter().any(|neighbour| neighbour.next_hop.address == FAR), "{all:?}");
        assert!(keeper.set(BTreeSet::new()).await.expect("set").is_empty());
        assert!(!ip("-6 neigh show dev near0").contains("managed"));
        let error = announcer.announce(9999, moved, VIP).expect_err("no such interface");
        assert!(error.to_string().contains("2001:db8::4"), "{error}");
    });
}
