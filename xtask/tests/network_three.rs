//! Tier 3: three nodes. The best of those that are left owns the VIP, and never do two answer for it.

mod common;

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use common::{SOON, lb_with, shipped, start};
use nix::sys::signal::Signal;
use xtask::lab::{
    LabSpec, NODE_A, NODE_B, Node, NodeSpec, VIP,
    probe::{arp, load::LoadProber},
    wait_until,
};

const NODE_C: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 5);
const NODES: [(&str, Ipv4Addr, u8); 3] =
    [("node-a", NODE_A, 200), ("node-b", NODE_B, 150), ("node-c", NODE_C, 100)];

/// The tutorial's configuration for one of three nodes that all serve.
fn config(address: Ipv4Addr, priority: u8) -> String {
    let peers: Vec<String> =
        NODES.iter().filter(|node| node.1 != address).map(|node| format!("\"{}\"", node.1)).collect();
    let text = shipped("tutorial-a.toml")
        .replace("priority = 200", &format!("priority = {priority}"))
        .replace("source = \"172.20.128.2\"", &format!("source = \"{address}\""))
        .replace("peers = [\"172.20.128.3\"]", &format!("peers = [{}]", peers.join(", ")));
    text + &format!("\n[[service.backend]]\naddress = \"{NODE_C}\"\nmode = \"dr\"\n")
}

/// Waits until `node` owns the VIP and the others that answer are backups.
fn wait_for_owner(node: &Node, others: &[&Node]) {
    let what = format!("{} alone owns the VIP", node.name());
    let state = |node: &Node, state| node.status().is_ok_and(|status| status.all_are(state));
    wait_until(&what, SOON, || {
        (state(node, "owner") && others.iter().all(|other| state(other, "backup"))).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", node.log_tail(30)));
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn the_best_of_those_that_are_left_owns_the_vip_and_never_do_two() {
    let mut spec = LabSpec { name: common::named("three"), nodes: Vec::new() };
    spec.nodes.push(NodeSpec::on_lan("client", xtask::lab::CLIENT));
    for (name, address, priority) in NODES {
        let node = NodeSpec::on_lan(name, address).with_web(name, 80);
        spec.nodes.push(NodeSpec { daemon: lb_with(config(address, priority)), ..node });
    }
    let lab = start(&spec);
    let owner = lab.wait_until_ready().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(owner.name(), "node-a");
    let node = |name| lab.node(name).unwrap_or_else(|error| panic!("{error}"));
    let (client, a, b, c) = (node("client"), node("node-a"), node("node-b"), node("node-c"));
    let prober = LoadProber::start(&client, VIP, 80);
    prober.wait_for_answer(SOON).expect("the VIP answers");
    let asker = client.clone();
    let watcher = thread::spawn(move || arp::ask(&asker, VIP, Duration::from_secs(25)));

    a.freeze().expect("it can be frozen");
    wait_for_owner(&b, &[&c]);
    b.freeze().expect("it can be frozen");
    wait_for_owner(&c, &[]);
    prober.wait_for_answer(SOON).expect("the VIP answers");
    // The worse one first: it must not stay owner beside the better one.
    b.thaw().expect("it can be thawed");
    wait_for_owner(&b, &[&c]);
    a.thaw().expect("it can be thawed");
    wait_for_owner(&a, &[&b, &c]);

    // A clean end goes to the better one of the two that are left, and no request is lost.
    lab.wait_until_ready().unwrap_or_else(|error| panic!("{error}"));
    let stopped = Instant::now();
    a.stop_daemon(Signal::SIGTERM, SOON).expect("it ends");
    wait_for_owner(&b, &[&c]);
    prober.wait_for_answer(SOON).expect("the VIP answers");
    let served = prober.since(stopped);
    assert_eq!(served.failures(), 0, "{served:?}\n{}", lab.log_tails(30));

    let report = watcher.join().expect("it does not panic").expect("the client can ask");
    assert!(report.rounds.iter().all(|answers| answers.len() <= 1), "{report:?}");
    assert_eq!(lab.holders(VIP).expect("ip works on every node"), ["node-b"]);
}
