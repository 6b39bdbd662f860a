//! The network adapters against the real kernel, each test in a network namespace of its own.

mod net_support;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use lb::{
    config::Rule,
    net::{
        Announcer, InterfaceSysctl, Neighbour, NeighbourKeeper, NetEvent, Netlink, NextHop, OwnRules, Path,
        Route, follow,
    },
};
use lb_common::Mac;
use net_support::{
    FAR as FAR_V4, FAR_MAC, NEAR as NEAR_V4, VIP as VIP_V4, in_new_namespace, index_of, ip, pair, wait_for,
};

const NEAR: IpAddr = IpAddr::V4(NEAR_V4);
const FAR: IpAddr = IpAddr::V4(FAR_V4);
const VIP: IpAddr = IpAddr::V4(VIP_V4);
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 20, 128, 99));

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_vip_is_added_and_deleted_once_and_makes_no_route() {
    in_new_namespace(async || {
        let _far = pair();
        let netlink = Netlink::open().expect("rtnetlink");
        let index = index_of(&netlink, "near0").await;
        let routes = ip("route show table main");
        let vip: IpNet = "172.20.128.4/24".parse().expect("a network");

        for added in [true, false] {
            assert_eq!(netlink.add_address(index, vip).await.expect("added"), added);
        }
        assert_eq!(ip("route show table main"), routes);
        let addresses = netlink.addresses().await.expect("listed");
        assert!(addresses.iter().any(|found| found.index == index && found.address == vip), "{addresses:?}");

        for deleted in [true, false] {
            assert_eq!(netlink.delete_address(index, vip).await.expect("deleted"), deleted);
        }
        assert!(!ip("address show").contains("172.20.128.4"));
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_vip_on_the_loopback_is_a_local_address() {
    in_new_namespace(async || {
        let netlink = Netlink::open().expect("rtnetlink");
        let index = index_of(&netlink, "lo").await;
        let vip = IpNet::from(VIP);
        assert!(netlink.add_address(index, vip).await.expect("added"));
        assert_eq!(netlink.route(VIP).await.expect("asked"), Some(Route::Local));
        assert!(netlink.delete_address(index, vip).await.expect("deleted"));
        assert_eq!(netlink.route(VIP).await.expect("asked"), None);
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn interfaces_and_routes_are_found_or_are_none() {
    in_new_namespace(async || {
        let _far = pair();
        let netlink = Netlink::open().expect("rtnetlink");
        assert_eq!(netlink.link("eth7").await.expect("asked"), None);
        let link = netlink.link("near0").await.expect("asked").expect("it exists");
        assert_eq!((link.mac, link.mtu), (Some(Mac([2, 0, 0, 0, 0, 2])), 1500));

        let index = link.index;
        let source = Some(NEAR);
        let outside = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(
            netlink.route(FAR).await.expect("asked"),
            Some(Route::Remote(Path { index, gateway: None, source, mtu: None }))
        );
        assert_eq!(netlink.route(NEAR).await.expect("asked"), Some(Route::Local));
        assert_eq!(netlink.route(outside).await.expect("asked"), None);
        ip("route add default via 172.20.128.3");
        let by_router = Some(Route::Remote(Path { index, gateway: Some(FAR), source, mtu: None }));
        assert_eq!(netlink.route(outside).await.expect("asked"), by_router);

        let vip = IpNet::new(VIP, 24).expect("a prefix");
        let error = netlink.add_address(9999, vip).await.expect_err("no such interface");
        assert!(error.to_string().contains("172.20.128.4/24"), "{error}");
        assert!(!netlink.delete_address(9999, vip).await.expect("nothing to delete"));
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn links_and_addresses_are_followed_from_a_snapshot_on() {
    in_new_namespace(async || {
        let far = pair();
        let netlink = Netlink::open().expect("rtnetlink");
        let index = index_of(&netlink, "near0").await;
        let mut events = follow(&netlink).expect("followed");
        let first = events.recv().await.expect("an event").expect("no error");
        let NetEvent::Resync(snapshot) = first else { panic!("{first:?}") };
        assert!(snapshot.links.iter().any(|link| link.name == "near0" && link.up), "{snapshot:?}");
        assert!(snapshot.addresses.iter().any(|found| found.address.addr() == NEAR), "{snapshot:?}");

        let usable = |wanted: bool| {
            move |event: &NetEvent| match event {
                NetEvent::Link(link) if link.index == index && link.usable() == wanted => Some(link.clone()),
                _ => None,
            }
        };
        far.enter(|| ip("link set far0 down"));
        let link = wait_for(&mut events, usable(false)).await;
        assert!(link.up && !link.carrier, "{link:?}");
        far.enter(|| ip("link set far0 up"));
        wait_for(&mut events, usable(true)).await;
        ip("link set near0 down");
        let link = wait_for(&mut events, |event| match event {
            NetEvent::Link(link) if link.index == index && !link.up => Some(link.clone()),
            _ => None,
        });
        assert!(!link.await.usable());
        ip("link set near0 up");

        // Somebody else plays with the VIP.
        ip("address add 172.20.128.4/24 dev near0");
        wait_for(&mut events, |event| match event {
            NetEvent::AddressAdded(found) if found.address.addr() == VIP => Some(()),
            _ => None,
        })
        .await;
        ip("address del 172.20.128.4/24 dev near0");
        wait_for(&mut events, |event| match event {
            NetEvent::AddressRemoved(found) if found.address.addr() == VIP && found.index == index => {
                Some(())
            }
            _ => None,
        })
        .await;
        ip("link del near0");
        wait_for(&mut events, |event| match event {
            NetEvent::LinkRemoved { name, .. } if name == "near0" => Some(()),
            _ => None,
        })
        .await;
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn events_that_were_lost_end_in_a_new_snapshot() {
    in_new_namespace(async || {
        let _far = pair();
        let netlink = Netlink::open().expect("rtnetlink");
        let mut events = follow(&netlink).expect("followed");
        assert!(matches!(events.recv().await, Some(Ok(NetEvent::Resync(_)))));
        // Nobody reads while `ip` runs: this thread is the whole runtime.
        let batch: Vec<String> = (0..20_000u32)
            .map(|n| {
                let (third, fourth) = (n / 200, n % 200 + 1);
                format!("neigh replace 172.20.{third}.{fourth} lladdr 02:00:00:00:00:09 dev near0")
            })
            .collect();
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), batch.join("\n")).expect("written");
        ip(&format!("-batch {}", file.path().display()));
        let snapshot = wait_for(&mut events, |event| match event {
            NetEvent::Resync(snapshot) => Some(snapshot.clone()),
            _ => None,
        })
        .await;
        assert!(snapshot.neighbours.len() > 100, "{}", snapshot.neighbours.len());
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn next_hops_are_resolved_followed_and_resolved_again() {
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
        // Somebody flushes the table.
        ip("neigh flush dev near0");
        wait_for(&mut events, known(FAR, None)).await;
        assert!(keeper.refresh().await.expect("refreshed").is_empty());
        wait_for(&mut events, known(FAR, Some(FAR_MAC))).await;
        // The other machine is replaced: it announces itself.
        far.enter(|| {
            ip("link set far0 address 02:00:00:00:00:33");
            ip("neigh flush dev far0");
        });
        let announcer = far.enter(Announcer::open).expect("a packet socket");
        let far_index = far.enter(|| nix::net::if_::if_nametoindex("far0")).expect("far0 is there");
        announcer.announce(far_index, Mac([2, 0, 0, 0, 0, 0x33]), FAR).expect("announced");
        wait_for(&mut events, known(FAR, Some(Mac([2, 0, 0, 0, 0, 0x33])))).await;
        // Released: the kernel may forget it.
        assert!(keeper.set(BTreeSet::new()).await.expect("set").is_empty());
        assert!(!ip("neigh show dev near0").contains("managed"), "{}", ip("neigh show dev near0"));
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn static_neighbours_stay_as_they_are_and_a_missing_interface_is_reported() {
    in_new_namespace(async || {
        let _far = pair();
        let netlink = Netlink::open().expect("rtnetlink");
        let index = index_of(&netlink, "near0").await;
        ip("neigh add 172.20.128.99 lladdr 02:00:00:00:00:63 nud permanent dev near0");
        let mut keeper = NeighbourKeeper::new(netlink.clone());
        let fixed = NextHop { index, address: NOBODY };
        let missing = NextHop { index: 9999, address: FAR };
        let failures = keeper.set(BTreeSet::from([fixed, missing])).await.expect("set");
        assert_eq!(failures.iter().map(|(next_hop, _)| *next_hop).collect::<Vec<_>>(), [missing]);
        keeper.set(BTreeSet::new()).await.expect("set");
        assert!(ip("neigh show dev near0").contains("172.20.128.99 lladdr 02:00:00:00:00:63 PERMANENT"));
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn gratuitous_arp_moves_an_address_in_the_other_ends_cache() {
    in_new_namespace(async || {
        let far = pair();
        let netlink = Netlink::open().expect("rtnetlink");
        let index = index_of(&netlink, "near0").await;
        let (far_netlink, mut events) = far.enter(|| {
            ip("neigh add 172.20.128.4 lladdr 02:00:00:00:00:aa nud stale dev far0");
            let netlink = Netlink::open().expect("rtnetlink");
            let events = follow(&netlink).expect("followed");
            (netlink, events)
        });
        let far_index = index_of(&far_netlink, "far0").await;
        let old = Neighbour {
            next_hop: NextHop { index: far_index, address: VIP },
            mac: Some(Mac([2, 0, 0, 0, 0, 0xaa])),
        };
        let first = events.recv().await.expect("an event").expect("no error");
        let NetEvent::Resync(snapshot) = first else { panic!("{first:?}") };
        assert!(snapshot.neighbours.contains(&old), "{snapshot:?}");

        let announcer = Announcer::open().expect("a packet socket");
        let mac = Mac([2, 0, 0, 0, 0, 2]);
        announcer.announce(index, mac, VIP).expect("announced");
        let new = Neighbour { mac: Some(mac), ..old };
        wait_for(&mut events, |event| (*event == NetEvent::Neighbour(new)).then_some(())).await;

        let error = announcer.announce(9999, mac, VIP).expect_err("no such interface");
        assert!(error.to_string().contains("172.20.128.4"), "{error}");
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_sysctl_is_raised_and_put_back() {
    in_new_namespace(async || {
        let _far = pair();
        let sysctl = InterfaceSysctl::ArpAnnounce;
        let before = sysctl.effective("near0").expect("readable");
        assert!(before < 2, "a new namespace begins with the default");
        let guard = sysctl.raise("near0", 2).expect("writable").expect("something changed");
        assert_eq!(sysctl.effective("near0").expect("readable"), 2);
        assert_eq!(sysctl.raise("near0", 2).expect("readable"), None);
        guard.restore().expect("writable");
        assert_eq!(sysctl.effective("near0").expect("readable"), before);
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn policy_rules_are_added_listed_and_deleted_and_others_left_alone() {
    in_new_namespace(async || {
        let netlink = Netlink::open().expect("rtnetlink");
        let mut events = follow(&netlink).expect("events");
        let rules = OwnRules::new(netlink.clone());
        ip("rule add from 192.0.2.0/24 lookup 55 priority 55");
        assert_eq!(rules.list().await.expect("listed"), [], "that one is somebody else's");

        let net = |text: &str| Some(text.parse::<IpNet>().expect("a network"));
        let plain = Rule {
            is_ipv6: false,
            from: net("172.20.128.4/32"),
            to: None,
            iif: None,
            oif: None,
            mark: None,
            priority: 100,
            table: 77,
        };
        let all = [
            plain.clone(),
            Rule {
                from: None,
                to: net("198.51.100.0/24"),
                iif: Some("lo".to_owned()),
                mark: Some((0x10, 0xf0)),
                priority: 101,
                table: 70_000,
                ..plain.clone()
            },
            Rule {
                is_ipv6: true,
                from: net("2001:db8::4/128"),
                oif: Some("lo".to_owned()),
                mark: Some((7, u32::MAX)),
                ..plain.clone()
            },
        ];
        for rule in &all {
            rules.add(rule).await.expect("added");
        }
        let sorted = |rules: &[Rule]| rules.iter().cloned().collect::<BTreeSet<Rule>>();
        assert_eq!(sorted(&rules.list().await.expect("listed")), sorted(&all));
        let shown = ip("rule show") + &ip("-6 rule show");
        for line in [
            "100:\tfrom 172.20.128.4 lookup 77 proto 112",
            "101:\tfrom all to 198.51.100.0/24 fwmark 0x10/0xf0 iif lo lookup 70000 proto 112",
            "100:\tfrom 2001:db8::4 fwmark 0x7 oif lo lookup 77 proto 112",
        ] {
            assert!(shown.contains(line), "{line} in {shown}");
        }
        let twice = rules.add(&plain).await.expect_err("it is there").to_string();
        assert!(twice.contains("somebody else has the same rule"), "{twice}");

        ip("rule del priority 101");
        wait_for(&mut events, |event| (*event == NetEvent::OwnRouteGone).then_some(())).await;
        for rule in &all {
            rules.delete(rule).await.expect("deleted, or gone");
        }
        assert_eq!(rules.list().await.expect("listed"), []);
        assert!(ip("rule show").contains("from 192.0.2.0/24 lookup 55"));
    });
}
