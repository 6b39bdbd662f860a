//! Tier 3: every forwarding mode, both families.

mod common;

use std::{net::IpAddr, time::Duration};

use common::{
    SOON, lb_with,
    networks::{
        DIRECTOR, WEB_1, WEB_2, backend, inner_node, tunnel_end, two_networks, wait_for_daemons, with_v6,
    },
    shipped, start, watch,
};
use xtask::lab::{Lab, LabSpec, NODE_A, NODE_B, NODE_HEADER, Node, VIP, XdpMode, v6, wait_until, with_xdp};

/// So many answers without a failure.
const IN_A_ROW: usize = 20;

/// One request; the node that answered.
fn ask(client: &Node, address: IpAddr) -> Option<String> {
    let url = match address {
        IpAddr::V4(address) => format!("http://{address}/"),
        IpAddr::V6(address) => format!("http://[{address}]/"),
    };
    let words = ["curl", "-g", "-s", "-S", "--max-time", "2", "-o", "/dev/null", "-D", "-", &url];
    let headers = client.run(&words).ok()?;
    let prefix = format!("{}: ", NODE_HEADER.to_lowercase());
    headers.lines().find_map(|line| {
        line.to_lowercase().starts_with(&prefix).then(|| line[prefix.len()..].trim().to_owned())
    })
}

/// Asks until each of `nodes` has answered, and then again without a failure.
fn served_by(lab: &Lab, address: IpAddr, nodes: &[&str]) {
    let client = lab.node("client").expect("it is in the lab");
    let describe = || {
        let say = |node: Node| match node.status() {
            Ok(status) => format!("{}: {}\n{:?}\n", node.name(), status.text(), status.verdicts()),
            Err(error) => format!("{}: {error}\n", node.name()),
        };
        lab.nodes().into_iter().map(say).collect::<String>() + &lab.log_tails(20)
    };
    // In a row: before, a backend may not be known yet to have come or gone.
    let mut seen = Vec::new();
    let all = wait_until("the backends, and no other, answer", SOON, || {
        match ask(&client, address) {
            Some(name) if nodes.contains(&name.as_str()) => seen.push(name),
            _ => seen.clear(),
        }
        let every = nodes.iter().all(|node| seen.iter().any(|name| name == node));
        (every && seen.len() >= IN_A_ROW).then_some(())
    });
    all.unwrap_or_else(|error| panic!("{address}: {error}; answered {seen:?}\n{}", describe()));
}

fn assert_checksums_were_right(lab: &Lab) {
    for node in lab.nodes() {
        let count = node.kernel_counter("Tcp", "InCsumErrors").expect("the kernel counts");
        assert_eq!(count, 0, "wrong checksums at {}", node.name());
    }
}

fn dr_over_ipv6(name: &str, xdp: XdpMode) {
    let backends = backend(v6(NODE_A), "dr", "") + &backend(v6(NODE_B), "dr", "");
    let config = |file| lb_with(with_xdp(&with_v6(&shipped(file), &backends), xdp, &["eth0"]));
    let spec = LabSpec::pair(name, config("tutorial-a.toml"), config("tutorial-b.toml"));
    let lab = start(&spec.with_peer_xdp(xdp).with_ipv6());
    let owner = lab.wait_until_ready().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(owner.name(), "node-a");
    for vip in [IpAddr::V4(VIP), IpAddr::V6(v6(VIP))] {
        served_by(&lab, vip, &["node-a", "node-b"]);
    }
    // The IPv6 VIP goes with the IPv4 one.
    owner.stop_daemon(nix::sys::signal::Signal::SIGKILL, SOON).unwrap_or_else(|error| panic!("{error}"));
    let backup = lab.node("node-b").expect("it is in the lab");
    let vip = v6(VIP).to_string();
    wait_until("node-b has the IPv6 VIP", SOON, || {
        let addresses = backup.run(&["ip", "-6", "address", "show", "dev", "eth0"]).ok()?;
        addresses.contains(&vip).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", lab.log_tails(20)));
    // Its nginx goes too; node-a's lives on.
    backup.stop_web().unwrap_or_else(|error| panic!("{error}"));
    for vip in [IpAddr::V4(VIP), IpAddr::V6(v6(VIP))] {
        served_by(&lab, vip, &["node-a"]);
    }
    assert_checksums_were_right(&lab);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn dr_serves_ipv6_and_its_vip_follows_the_owner() {
    dr_over_ipv6("t-modes-dr", XdpMode::Auto);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn dr_serves_ipv6_in_native_mode() {
    dr_over_ipv6("t-modes-dr-nat", XdpMode::Native);
}

fn nat_over_ipv6(name: &str, xdp: XdpMode) {
    let backends =
        backend(v6(WEB_1.into()), "nat", "port = 8080") + &backend(v6(WEB_2.into()), "nat", "port = 8080");
    let web = |name: &str, address| inner_node(name, address, 8080);
    let nodes = [web("web-1", WEB_1), web("web-2", WEB_2)];
    let lab = start(&two_networks(name, xdp, &with_v6(DIRECTOR, &backends), nodes));
    lab.wait_until_ready().unwrap_or_else(|error| panic!("{error}"));
    for vip in [IpAddr::V4(VIP), IpAddr::V6(v6(VIP))] {
        served_by(&lab, vip, &["web-1", "web-2"]);
    }
    assert_checksums_were_right(&lab);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn nat_serves_ipv6() {
    nat_over_ipv6("t-modes-nat", XdpMode::Auto);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn nat_serves_ipv6_in_native_mode() {
    nat_over_ipv6("t-modes-nat-nat", XdpMode::Native);
}

/// One backend is reached by its IPv4 address, the other by its IPv6 address.
fn tunnels(name: &str, mode: &str, xdp: XdpMode) {
    let [one, two] = [WEB_1, WEB_2].map(std::net::Ipv4Addr::from);
    let backends = backend(one, mode, "") + &backend(v6(two), mode, "");
    let (head, _) = DIRECTOR.split_once("[[service.backend]]").expect("a service");
    let nodes = [tunnel_end("web-1", WEB_1, xdp), tunnel_end("web-2", WEB_2, xdp)];
    let config = with_v6(&(head.to_owned() + &backends), &backends);
    let lab = start(&two_networks(name, xdp, &config, nodes));
    wait_for_daemons(&lab);
    for vip in [IpAddr::V4(VIP), IpAddr::V6(v6(VIP))] {
        served_by(&lab, vip, &["web-1", "web-2"]);
    }
    watch(Duration::from_millis(200));
    for node in ["web-1", "web-2"] {
        let verdicts = lab.node(node).expect("it is in the lab").status().expect("lb answers").verdicts();
        assert!(verdicts["decapsulated"] > 0, "{node}: {verdicts:?}");
    }
    assert_checksums_were_right(&lab);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn ipip_reaches_backends_that_lb_decapsulates_on() {
    tunnels("t-modes-ipip", "ipip", XdpMode::Auto);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn gue_reaches_backends_that_lb_decapsulates_on() {
    tunnels("t-modes-gue", "gue", XdpMode::Auto);
}
