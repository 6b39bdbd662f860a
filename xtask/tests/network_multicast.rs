//! Tier 3: a pair that knows no peers: signed adverts go to the group, and directors are known by their adverts.

mod common;

use common::{Pair, SOON, lb_with, named, shipped, start, watch};
use nix::sys::signal::Signal;
use std::time::Duration;
use xtask::lab::{
    LabSpec, NODE_A, NODE_B, VIP, XdpMode,
    probe::{
        advert::{Recorded, Recorder},
        load::LoadProber,
    },
    with_xdp,
};

/// Requests that the client has answered in each phase.
const MANY: usize = 200;

/// The tutorial's configuration of a node, without what names the other node.
fn config(file: &str) -> String {
    let text = with_xdp(&shipped(file), XdpMode::Auto, &["eth0"]);
    let from = text.find("[virtual_router.unicast]").expect("it has peers");
    let length = text[from..].find("\n\n").expect("a paragraph of its own");
    let group = "[virtual_router.multicast]\n\n[virtual_router.authentication]\n\
        keys = [{ id = 7, secret = \"sixteen bytes at least\" }]\n";
    let mut text = text;
    text.replace_range(from..from + length, group);
    text.replace("password = \"letmein\"\n", "version = 3\n")
}

/// Waits until the client has been answered often, and never refused, since now.
fn serves(pair: &Pair, prober: &LoadProber) {
    let start = std::time::Instant::now();
    pair.wait("the VIP is served", || prober.since(start).answers() >= MANY);
    let served = prober.since(start);
    assert_eq!(served.failures(), 0, "{served:?}");
    for node in ["node-a", "node-b"] {
        assert!(served.share(node) > 0.2, "{served:?}");
    }
}

/// The pair, up and ready.
fn pair(name: &str) -> Pair {
    let node = |file| lb_with(config(file));
    let spec = LabSpec::pair(&named(name), node("tutorial-a.toml"), node("tutorial-b.toml"));
    let pair = Pair::of(start(&spec.with_peer_xdp(XdpMode::Auto)));
    assert_eq!(pair.settle().name(), "node-a");
    pair
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn signed_adverts_to_the_group_make_one_owner_and_known_directors() {
    let pair = pair("group");
    assert_eq!(pair.answerers(), ["node-a"]);
    let prober = LoadProber::start(&pair.client, VIP, 80);
    serves(&pair, &prober);
    let b = pair.b.status().expect("it answers");
    assert!(b.adverts_received() > 0, "{}", b.text());
    assert!(b.refused_adverts().values().all(|count| *count == 0), "{}", b.text());

    // Both have been owner once, so each knows the other.
    pair.a.freeze().expect("it can be frozen");
    pair.wait_for_owner(&pair.b);
    pair.a.thaw().expect("it can be thawed");
    pair.wait_for_owner(&pair.a);
    assert_eq!(pair.settle().name(), "node-a");

    // A client that has not heard of it goes on at the other node: that steers, and nobody sends in a circle.
    let directed = |node: &xtask::lab::Node| node.status().expect("it answers").verdicts()["delivered"];
    for (stale, other) in [(&pair.b, &pair.a), (&pair.a, &pair.b)] {
        let before = directed(other);
        let mac = stale.mac().expect("it has an interface").to_string();
        let vip = VIP.to_string();
        pair.client
            .run(&["ip", "neighbour", "replace", &vip, "lladdr", &mac, "dev", "eth0", "nud", "permanent"])
            .expect("ip works");
        serves(&pair, &prober);
        assert!(directed(other) > before, "{} steered by {NODE_A} or {NODE_B}", other.name());
    }
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn replayed_and_forged_adverts_are_counted_and_change_nothing() {
    let pair = pair("replay");
    let recorder = Recorder::open(&pair.client).expect("the client can listen");
    // A farewell is what a backup would act on.
    pair.a.stop_daemon(Signal::SIGTERM, SOON).expect("it ends");
    pair.wait_for_owner(&pair.b);
    let recorded = recorder.recorded(NODE_A).expect("the client can listen");
    let farewells: Vec<Recorded> = recorded.into_iter().filter(|advert| advert.priority() == 0).collect();
    assert!(!farewells.is_empty());
    pair.a.start_daemon().expect("it starts");
    // The verifier takes its time.
    pair.wait_for("node-a owns the VIP", Duration::from_mins(1), || {
        pair.a.status().is_ok_and(|status| status.is_owner())
    });
    assert_eq!(pair.settle().name(), "node-a");
    let before = pair.b.status().expect("it answers");
    let counted = |reason: &str| pair.b.status().expect("it answers").refused_adverts()[reason];

    for (reason, sent) in
        [("replayed", farewells[0].clone()), ("bad_signature", farewells[0].clone().spoilt())]
    {
        let until = counted(reason) + 5;
        for _ in 0..5 {
            recorder.send(&sent).expect("the network is there");
        }
        pair.wait(&format!("five are counted as {reason}"), || counted(reason) == until);
    }
    // For longer than the skew that a farewell leaves a backup.
    watch(Duration::from_secs(2));
    let after = pair.b.status().expect("it answers");
    assert!(after.all_are("backup"), "{}", after.text());
    assert_eq!(after.transitions(), before.transitions(), "{}", after.text());
    assert_eq!(pair.answerers(), ["node-a"]);
}
