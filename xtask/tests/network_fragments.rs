//! Tier 3: datagrams that are longer than the MTU. All pieces of one have to reach the same node, and its answer, in pieces
//! too, the client.

mod common;

use std::{collections::BTreeSet, net::Ipv4Addr};

use common::{EXCHANGE, lb_with, pair_with, start};
use xtask::lab::{
    CLIENT, Lab, LabSpec, Link, NODE_A, Node, NodeSpec, VIP, XdpMode, probe::udp, wait_until, with_xdp,
};

/// Bytes of a datagram's payload: from one that just fits an Ethernet frame to one of 45 pieces.
const LENGTHS: [usize; 5] = [1_472, 1_473, 4_000, 9_001, 65_000];
/// Enough that both backends of a service get some.
const ROUNDS: usize = 40;

fn service(backends: &str) -> String {
    format!("\n[[service]]\nname = \"echo\"\nvip = \"{VIP}\"\nport = 53\nprotocol = \"udp\"\n{backends}")
}

fn backend(address: Ipv4Addr, more: &str) -> String {
    format!("\n[[service.backend]]\naddress = \"{address}\"\n{more}\n")
}

/// Asks the VIP until two nodes have answered datagrams of every length; none may stay without an answer.
fn answered_by_both(lab: &Lab, client: &Node) {
    wait_until("the VIP answers", common::SOON, || {
        udp::ask(client, VIP, 53, b"?", EXCHANGE / 10).ok().flatten()
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", lab.log_tails(30)));
    let mut nodes = BTreeSet::new();
    for round in 0..ROUNDS {
        let length = LENGTHS[round % LENGTHS.len()];
        let payload: Vec<u8> = (0..length).map(|at| (at * 7 + at / 256 + round) as u8).collect();
        let node = udp::ask(client, VIP, 53, &payload, EXCHANGE).unwrap_or_else(|error| panic!("{error}"));
        let nobody = || {
            let verdicts = |node: Node| {
                node.status().map(|status| format!("{}: {:?}\n", node.name(), status.verdicts()))
            };
            lab.nodes().into_iter().filter_map(|node| verdicts(node).ok()).collect::<String>()
        };
        nodes.insert(node.unwrap_or_else(|| panic!("no answer to {length} bytes\n{}", nobody())));
    }
    assert_eq!(nodes.len(), 2, "{ROUNDS} datagrams met {nodes:?}");
    for node in lab.nodes() {
        let count = node.kernel_counter("Udp", "InCsumErrors").expect("the kernel counts");
        assert_eq!(count, 0, "wrong checksums at {}", node.name());
    }
}

fn by_dr(name: &str, xdp: XdpMode) {
    let backends = backend(NODE_A, "mode = \"dr\"") + &backend(xtask::lab::NODE_B, "mode = \"dr\"");
    let pair = pair_with(&common::named(name), xdp, &service(&backends));
    let _servers = [&pair.a, &pair.b].map(|node| udp::EchoServer::start(node, VIP, 53).expect("it listens"));
    answered_by_both(&pair.lab, &pair.client);
    let verdicts = pair.a.status().expect("lb answers").verdicts();
    assert!(verdicts["dr"] > 0 && verdicts["local"] > 0, "{verdicts:?}");
    // Those node-a sent on came to node-b with its MAC address.
    let verdicts = pair.b.status().expect("lb answers").verdicts();
    assert!(verdicts["delivered"] > 0, "{verdicts:?}");
}

fn by_nat(name: &str, xdp: XdpMode) {
    const INSIDE: [u8; 4] = [10, 77, 0, 1];
    let inside = |interface: &str, address: [u8; 4]| Link {
        segment: "inside".to_owned(),
        interface: interface.to_owned(),
        address: address.into(),
        prefix: 24,
        peer_xdp: false,
    };
    let ends = [[10, 77, 0, 11], [10, 77, 0, 12]];
    let (head, _) = include_str!("fixtures/nat.toml").split_once("[[service]]").expect("a service");
    let backends = ends.map(|end| backend(end.into(), "mode = \"nat\"\nport = 5353")).concat();
    let config = with_xdp(&(head.to_owned() + &service(&backends)), xdp, &["eth0", "eth1"]);
    let mut director = NodeSpec::on_lan("node-a", NODE_A);
    director.links.push(inside("eth1", INSIDE));
    director.forwarding = true;
    director.daemon = lb_with(config);
    let end = |name: &str, address: [u8; 4]| NodeSpec {
        links: vec![inside("eth0", address)],
        default_route: Some(INSIDE.into()),
        ..NodeSpec::on_lan(name, address.into())
    };
    let nodes =
        vec![NodeSpec::on_lan("client", CLIENT), director, end("echo-1", ends[0]), end("echo-2", ends[1])];
    let lab = start(&LabSpec { name: common::named(name), nodes }.with_peer_xdp(xdp));
    lab.wait_until_ready().unwrap_or_else(|error| panic!("{error}"));
    let node = |name: &str| lab.node(name).expect("it is in the lab");
    let _servers = [("echo-1", ends[0]), ("echo-2", ends[1])]
        .map(|(name, end)| udp::EchoServer::start(&node(name), end.into(), 5353).expect("it listens"));
    answered_by_both(&lab, &node("client"));
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn dr_in_generic_mode() {
    by_dr("frag-dr", XdpMode::Generic);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn dr_in_native_mode() {
    by_dr("frag-dr-nat", XdpMode::Native);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn nat_in_generic_mode() {
    by_nat("frag-nat", XdpMode::Generic);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn nat_in_native_mode() {
    by_nat("frag-nat-nat", XdpMode::Native);
}
