//! In virtual machines: the tutorial's pair in a VLAN. The kernels of Debian have 802.1Q; others may not.

mod common;

use std::time::Duration;

use common::{Pair, lb_with, named, shipped};
use nix::sys::signal::Signal;
use xtask::lab::{LabSpec, XdpMode, wait_until, with_xdp};

const VLAN: u16 = 100;
/// Emulated, the verifier takes its time, all the more on a machine that others use.
const PATIENCE: Duration = Duration::from_mins(20);
/// So many answers without a failure.
const IN_A_ROW: usize = 20;

/// The tutorial's pair, every address on `eth0.100`.
fn pair_in_vlan(name: &str, xdp: XdpMode) -> Pair {
    let config = |file| {
        let config = shipped(file).replace("interface = \"eth0\"", "interface = \"eth0.100\"");
        lb_with(with_xdp(&config, xdp, &["eth0"]))
    };
    let spec = LabSpec::pair(&named(name), config("tutorial-a.toml"), config("tutorial-b.toml"));
    Pair::of(common::start(&spec.with_peer_xdp(xdp).in_vlan(VLAN)))
}

/// Asks until exactly these nodes have answered, so many times in a row.
fn served_by(pair: &Pair, nodes: &[&str]) {
    let mut seen: Vec<String> = Vec::new();
    let all = wait_until("these nodes, and no other, answer", PATIENCE, || {
        match pair.try_get() {
            Some(node) if nodes.contains(&node.as_str()) => seen.push(node),
            _ => seen.clear(),
        }
        let every = nodes.iter().all(|node| seen.iter().any(|name| name == node));
        (every && seen.len() >= IN_A_ROW).then_some(())
    });
    all.unwrap_or_else(|error| panic!("{error}; answered {seen:?}\n{}", pair.lab.log_tails(30)));
}

fn tagged(name: &str, xdp: XdpMode) {
    let pair = pair_in_vlan(name, xdp);
    pair.wait_for("node-a owns the VIP", PATIENCE, || pair.a.status().is_ok_and(|status| status.is_owner()));
    served_by(&pair, &["node-a", "node-b"]);
    // The program is on the interface below, where the tags are.
    assert!(pair.a.xdp("eth0").expect("ip works").is_some());
    let verdicts = pair.a.status().expect("lb answers").verdicts();
    assert!(verdicts["dr"] > 0 && verdicts["stage_missing"] == 0, "{verdicts:?}");
    assert_eq!(pair.answerers(), ["node-a"]);
    pair.a.stop_daemon(Signal::SIGTERM, PATIENCE).expect("it stops");
    pair.wait_for("node-b owns the VIP", PATIENCE, || pair.b.status().is_ok_and(|status| status.is_owner()));
    served_by(&pair, &["node-a", "node-b"]);
    assert_eq!(pair.answerers(), ["node-b"]);
    pair.assert_checksums_were_right();
}

#[test]
#[ignore = "needs 802.1Q: cargo xtask test --vm"]
fn tagged_traffic_is_served_by_both_nodes() {
    tagged("vlan", XdpMode::Auto);
}

#[test]
#[ignore = "needs 802.1Q: cargo xtask test --vm"]
fn tagged_traffic_is_served_by_both_nodes_in_generic_mode() {
    tagged("vlan-gen", XdpMode::Generic);
}
