//! Every mode, family and kind of port, from the configuration's text to the maps.

use lb_common::{MODE_GUE, MODE_IPIP, RangeKey, Vip};

use super::{
    super::desired::{BACKEND_LEASE, DesiredVip},
    *,
};
use crate::config::{Ports, Protocol};

const V4_VIP: &str = "192.0.2.1";
const V6_VIP: &str = "2001:db8::1";

fn parse(text: &str) -> Config {
    Config::parse("test", text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// A service of one backend.
fn service(vip: &str, port: &str, backend: &str, mode: &str, more: &str) -> Config {
    parse(&format!(
        "[interface.eth0]\n[[service]]\nname = \"s\"\nvip = \"{vip}\"\nport = {port}\nprotocol = \"udp\"\n{more}\n\
         [[service.backend]]\naddress = \"{backend}\"\nmode = \"{mode}\"\n"
    ))
}

#[test]
fn backends_of_every_mode_and_family_are_written_as_the_program_needs_them() {
    let unresolved = NextHop::UNRESOLVED;
    let resolved = NextHop::new(MAC_B, 0);
    let none = Address::default();
    let (near_v4, near_v6) = (Address::from(NODE_A), Address::from(NODE_A_V6));
    for (vip, backend, mode, number, source, mtu, next_hop) in [
        (V4_VIP, "10.0.0.9", "dr", MODE_DR, none, 1400, resolved),
        (V6_VIP, "2001:db8::9", "dr", MODE_DR, none, 1400, resolved),
        (V4_VIP, "10.0.0.9", "nat", MODE_NAT, none, 1400, resolved),
        (V6_VIP, "2001:db8::9", "nat", MODE_NAT, none, 1400, resolved),
        (V4_VIP, "10.0.0.9", "ipip", MODE_IPIP, near_v4, 1400, resolved),
        (V4_VIP, "2001:db8::9", "ipip", MODE_IPIP, near_v6, 1400, resolved),
        (V6_VIP, "10.0.0.9", "ipip", MODE_IPIP, near_v4, 1400, resolved),
        (V6_VIP, "2001:db8::9", "ipip", MODE_IPIP, near_v6, 1400, resolved),
        (V4_VIP, "2001:db8::9", "gue", MODE_GUE, near_v6, 1400, resolved),
        (V6_VIP, "10.0.0.9", "gue", MODE_GUE, near_v4, 1400, resolved),
        // This node itself, whatever the configuration says.
        (V6_VIP, "172.20.128.2", "gue", MODE_LOCAL, none, 0, unresolved),
        (V4_VIP, "172.20.128.2", "local", MODE_LOCAL, none, 0, unresolved),
    ] {
        let what = format!("{mode} from {vip} to {backend}");
        let config = service(vip, "53", backend, mode, "standalone = true");
        let mut node = Node::default();
        node.apply(&desired(&config, &NodeA::default()));
        let written = *node.dataplane.backends.values().next().expect("a backend");
        assert_eq!(ip(written.address), backend.parse::<IpAddr>().unwrap(), "{what}");
        assert_eq!((written.mode, written.source, written.mtu), (number, source, mtu), "{what}");
        assert_eq!((written.next_hop, written.port), (next_hop, Be16::new(53)), "{what}");
        let key = ServiceKey6 {
            address: vip.parse::<IpAddr>().unwrap().into(),
            port: Be16::new(53),
            protocol: 17,
            reserved: 0,
        };
        assert_eq!(node.dataplane.services.keys().collect::<Vec<_>>(), [&key], "{what}");
        let replies: Vec<_> = node.dataplane.nat_replies.values().map(|reply| ip(reply.address)).collect();
        let expected = if mode == "nat" { vec![vip.parse::<IpAddr>().unwrap()] } else { vec![] };
        assert_eq!(replies, expected, "{what}");
    }
}

#[test]
fn another_mtu_on_the_way_is_another_backend() {
    for mode in ["dr", "gue"] {
        let config = service(V4_VIP, "53", "10.0.0.9", mode, "standalone = true");
        let mut node = Node::default();
        let mut wanted = desired(&config, &NodeA::default());
        node.apply(&wanted);
        let backend = wanted.services.values_mut().next().unwrap().backends.values_mut().next().unwrap();
        backend.outer.mtu = 1300;
        node.apply(&wanted);
        assert_eq!(node.dataplane.backends.len(), 2, "{mode}");
        assert_eq!(node.apply(&wanted), [], "{mode}");
    }
}

#[test]
fn ranges_are_a_few_prefixes_that_come_and_go_with_their_service() {
    for (port, ports, prefixes) in [
        ("\"8000-8099\"", Ports::Range(8000, 8099), vec![(8000, 10), (8064, 11), (8096, 14)]),
        ("\"any\"", Ports::Any, vec![(0, 0)]),
    ] {
        let config = service(V6_VIP, port, "10.0.0.9", "ipip", "standalone = true");
        let wanted = desired(&config, &NodeA::default());
        let vip: IpAddr = V6_VIP.parse().unwrap();
        let id = ServiceId { vip, ports, protocol: Protocol::Udp };
        assert_eq!(wanted.services.keys().collect::<Vec<_>>(), [&id]);
        assert_eq!(
            wanted.vips[&vip],
            DesiredVip { lease: STANDALONE_LEASE, has_ranges: true, ..DesiredVip::default() }
        );

        let mut node = Node::default();
        node.apply(&wanted);
        let key = |port| RangeKey { address: vip.into(), protocol: 17, reserved: 0, port: Be16::new(port) };
        let keys: Vec<_> = prefixes.iter().map(|(port, bits)| (key(*port), *bits)).collect();
        assert_eq!(node.dataplane.service_ranges.keys().copied().collect::<Vec<_>>(), keys);
        assert!(node.dataplane.services.is_empty());
        assert_eq!(node.dataplane.vips[&vip.into()].flags, Vip::HAS_RANGES);
        let rings: BTreeSet<u32> =
            node.dataplane.service_ranges.values().map(|service| service.ring).collect();
        assert_eq!(rings.len(), 1, "one ring for all its ports");
        assert_eq!(node.dataplane.backends.values().next().unwrap().port, Be16::new(0));

        node.apply(&Desired::default());
        assert!(node.dataplane.service_ranges.is_empty());
    }
}

#[test]
fn every_failure_around_a_range_is_made_good_by_the_next_run() {
    let more = "standalone = true\nring_size = 101";
    let config = service(V4_VIP, "\"1-65534\"", "10.0.0.9", "gue", more);
    let wanted = desired(&config, &NodeA::default());
    let mut reference = Node::default();
    let steps = reference.apply(&wanted).len();
    assert!(steps > 30, "{steps}");
    for fail_at in 0..steps {
        let mut node = Node::default();
        node.dataplane.fail_at = Some(fail_at);
        let errors = node.forwarding.reconcile(&mut node.dataplane, &wanted, Timestamp(0));
        assert_eq!(errors.len(), 1, "step {fail_at}: {errors:?}");
        // Nothing leads to a ring that is not there.
        for service in node.dataplane.service_ranges.values() {
            assert!(node.dataplane.rings.contains_key(&service.ring), "step {fail_at}");
        }
        node.apply(&wanted);
        let (ranges, expected) = (&node.dataplane.service_ranges, &reference.dataplane.service_ranges);
        assert!(ranges.keys().eq(expected.keys()), "step {fail_at}");
        let rings: BTreeSet<u32> = ranges.values().map(|service| service.ring).collect();
        assert!(rings.len() == 1 && rings.iter().all(|ring| node.dataplane.rings.contains_key(ring)));
    }
}

#[test]
fn ipv6_vip_follows_the_lease_and_the_owner_of_its_virtual_router() {
    let text = TUTORIAL.replace("\"172.20.128.4/24\"]", "\"172.20.128.4/24\", \"2001:db8::4/64\"]");
    let config = parse(&text);
    let vip = ("eth0".to_owned(), "2001:db8::4/64".parse().unwrap());
    for owner in [false, true] {
        let wanted = desired(&config, &NodeA { owner, ..NodeA::default() });
        assert_eq!(wanted.vips[&"2001:db8::4".parse().unwrap()].lease, 1);
        assert_eq!(wanted.addresses.contains(&vip), owner);
    }
}

#[test]
fn backend_only_vip_is_an_address_that_is_never_answered_for() {
    let config = parse(include_str!("../../../../configs/backend.toml"));
    let text = include_str!("../../../../configs/backend.toml").replace("10.1.0.21", "172.20.128.2");
    for (config, serves_itself) in [(parse(&text), true), (config, true)] {
        let wanted = desired(&config, &NodeA::default());
        let leases: BTreeSet<u32> = wanted.vips.values().map(|vip| vip.lease).collect();
        assert_eq!(leases, BTreeSet::from([BACKEND_LEASE]));
        let loopback = |vip: &str| (LOOPBACK.to_owned(), vip.parse().unwrap());
        let expected = BTreeSet::from([loopback("192.0.2.100/32"), loopback("2001:db8::100/128")]);
        assert_eq!(wanted.addresses == expected, serves_itself, "{:?}", wanted.addresses);
    }
}

#[test]
fn flow_belongs_to_the_port_then_the_range_then_the_whole_vip() {
    let more = |name: &str, port: &str, protocol: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nvip = \"{V4_VIP}\"\nport = {port}\nprotocol = \"{protocol}\"\n\
             standalone = true\n[[service.backend]]\naddress = \"10.0.0.9\"\nmode = \"gue\"\n"
        )
    };
    let services = [
        more("one", "8005", "udp"),
        more("low", "\"8000-8009\"", "udp"),
        more("tcp", "\"8002-8020\"", "tcp"),
        more("high", "\"8015-8020\"", "udp"),
        more("any", "\"any\"", "udp"),
    ];
    let config = parse(&format!("[interface.eth0]\n{}", services.concat()));
    let mut node = Node::default();
    node.apply(&desired(&config, &NodeA::default()));
    let of = |port: u16, protocol: u8| {
        let key = lb_common::FlowKey {
            destination: V4_VIP.parse::<IpAddr>().unwrap().into(),
            destination_port: Be16::new(port),
            protocol,
            ..lb_common::FlowKey::default()
        };
        node.forwarding.service_of(&key).map(|id| id.ports)
    };
    for (port, ports) in [
        (8005, Ports::One(8005)),
        (8000, Ports::Range(8000, 8009)),
        (8009, Ports::Range(8000, 8009)),
        (8010, Ports::Any),
        (8016, Ports::Range(8015, 8020)),
        (8021, Ports::Any),
        (53, Ports::Any),
    ] {
        assert_eq!(of(port, 17), Some(ports), "{port}");
    }
    assert_eq!((of(8005, 6), of(8001, 6)), (Some(Ports::Range(8002, 8020)), None));
}
