//! Labs of several networks, and configurations of both families.

use std::net::IpAddr;

use xtask::lab::{CLIENT, Lab, LabSpec, Link, NODE_A, NodeSpec, VIP, XdpMode, v6, wait_until, with_xdp};

use super::{SOON, lb_with};

/// `config` with an IPv6 VIP beside the IPv4 one, and a service there like the first one, its backends given.
pub(crate) fn with_v6(config: &str, backends: &str) -> String {
    let vips = format!("vips = [\"{VIP}/24\"");
    assert!(config.contains(&vips), "{config}");
    let more = format!("{vips}, \"{}/112\"", v6(VIP));
    let service = format!(
        "\n[[service]]\nname = \"web6\"\nvip = \"{}\"\nport = 80\nprotocol = \"tcp\"\n\
         check = {{ http = \"/\", interval = \"1s\", timeout = \"500ms\", rise = 2, fall = 2 }}\n{backends}",
        v6(VIP)
    );
    config.replace(&vips, &more) + &service
}

pub(crate) fn backend(address: impl Into<IpAddr>, mode: &str, more: &str) -> String {
    format!("[[service.backend]]\naddress = \"{}\"\nmode = \"{mode}\"\n{more}\n", address.into())
}

/// A director between the clients' network and one with two backends, on both of which it has an interface.
pub(crate) fn two_networks(name: &str, xdp: XdpMode, config: &str, backends: [NodeSpec; 2]) -> LabSpec {
    let config = match xdp {
        XdpMode::Auto => format!("{config}\n[interface.eth1]\n"),
        _ => with_xdp(config, xdp, &["eth0", "eth1"]),
    };
    let mut director = NodeSpec::on_lan("node-a", NODE_A);
    director.links.push(inside("eth1", INSIDE));
    director.forwarding = true;
    director.daemon = lb_with(config);
    let [one, two] = backends;
    let nodes = vec![NodeSpec::on_lan("client", CLIENT), director, one, two];
    LabSpec { name: name.to_owned(), nodes }.with_peer_xdp(xdp).with_ipv6()
}

pub(crate) const DIRECTOR: &str = include_str!("../fixtures/nat.toml");
const INSIDE: [u8; 4] = [10, 77, 0, 1];
pub(crate) const WEB_1: [u8; 4] = [10, 77, 0, 11];
pub(crate) const WEB_2: [u8; 4] = [10, 77, 0, 12];

fn inside(interface: &str, address: [u8; 4]) -> Link {
    Link {
        segment: "inside".to_owned(),
        interface: interface.to_owned(),
        address: address.into(),
        prefix: 24,
        peer_xdp: false,
    }
}

pub(crate) fn inner_node(name: &str, address: [u8; 4], port: u16) -> NodeSpec {
    NodeSpec {
        links: vec![inside("eth0", address)],
        default_route: Some(INSIDE.into()),
        ..NodeSpec::on_lan(name, address.into()).with_web(name, port)
    }
}

/// A backend that takes the packets out itself: it has nothing but `lb`.
pub(crate) fn tunnel_end(name: &str, address: [u8; 4], xdp: XdpMode) -> NodeSpec {
    let service = |name: &str, vip: IpAddr| {
        format!(
            "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = 80\nprotocol = \"tcp\"\nbackend_only = true\n{}",
            backend(std::net::Ipv4Addr::from(address), "local", "")
        )
    };
    let services = service("web", VIP.into()) + &service("web6", v6(VIP).into());
    let config = match xdp {
        XdpMode::Auto => format!("{services}\n[interface.eth0]\n[interface.eth1]\n"),
        _ => with_xdp(&services, xdp, &["eth0", "eth1"]),
    };
    // Its replies go straight to the clients; the guard must be there as well.
    let mut node = inner_node(name, address, 80);
    let [.., last] = address;
    let outside = Link { segment: "lan".to_owned(), prefix: 16, ..inside("eth1", [172, 20, 0, last]) };
    node.links.push(outside);
    NodeSpec { daemon: lb_with(config), default_route: None, ..node }
}

/// Waits until the director and both tunnel ends answer: the verifier takes its time, three times at once.
pub(crate) fn wait_for_daemons(lab: &Lab) {
    let answers = |name: &&str| lab.node(name).is_ok_and(|node| node.status().is_ok());
    wait_until("the daemons answer", 5 * SOON, || {
        ["node-a", "web-1", "web-2"].iter().all(answers).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", lab.log_tails(20)));
}
