//! Tier 3: what happens to the VIP when something happens to its owner.

mod common;

use std::{
    thread,
    time::{Duration, Instant},
};

use common::{Pair, SOON, pair_under_load, watch};
use nix::sys::signal::Signal;
use xtask::lab::{
    VIP,
    probe::{arp, load::LoadProber},
};

/// A backup waits for 3 adverts and its skew, 3.6 s; the client may have asked just before the last advert.
const LONGEST_TAKEOVER: Duration = Duration::from_millis(4500);

/// Waits until `node` owns the VIP and the client is answered.
fn wait_for_takeover(pair: &Pair, node: &xtask::lab::Node, prober: &LoadProber) {
    pair.wait_for_owner(node);
    prober.wait_for_answer(SOON).expect("the VIP answers");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_frozen_owner_is_silent_and_the_other_takes_over() {
    let (pair, prober) = pair_under_load(&common::named("frozen"));
    let frozen = Instant::now();
    pair.a.freeze().expect("it can be frozen");
    wait_for_takeover(&pair, &pair.b, &prober);
    let gap = prober.since(frozen).longest_gap;
    assert!(gap < LONGEST_TAKEOVER, "a client waited {gap:?}");

    // For as long as it is frozen, though its kernel still carries the address.
    let mac = pair.b.mac().expect("it has an interface");
    let after = Instant::now();
    let report = arp::ask(&pair.client, VIP, Duration::from_secs(6)).expect("the client can ask");
    assert!(report.always_only(mac), "{report:?}");
    let served = prober.since(after);
    assert_eq!(served.failures(), 0, "{served:?}");
    assert!(served.share("node-b") > 0.999, "{served:?}");
    assert_eq!(pair.holders(), ["node-a", "node-b"], "node-a could not give it up");

    // Whatever happens at the thaw: never two answers to one request.
    let client = pair.client.clone();
    let watcher = thread::spawn(move || arp::ask(&client, VIP, Duration::from_secs(8)));
    let thawed = Instant::now();
    pair.a.thaw().expect("it can be thawed");
    wait_for_takeover(&pair, &pair.a, &prober);
    assert_eq!(pair.settle().name(), "node-a");
    let report = watcher.join().expect("it does not panic").expect("the client can ask");
    assert!(report.rounds.iter().all(|answers| answers.len() <= 1), "{report:?}");
    assert_eq!(pair.holders(), ["node-a"]);
    let served = prober.since(thawed);
    assert_eq!(served.failures(), 0, "{served:?}");
    assert!(served.longest_gap < Duration::from_millis(500), "{served:?}");
    pair.assert_checksums_were_right();
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_node_that_thaws_announces_nothing_that_it_lost() {
    let (pair, prober) = pair_under_load(&common::named("thaw-announces"));
    // Announcements of a new owner are left when it freezes: the second burst comes five seconds after the first.
    for (order, owner) in [("release", &pair.b), ("claim", &pair.a)] {
        let lb = common::lb();
        let lb = lb.to_str().expect("a path in UTF-8");
        pair.a.run(&[lb, "vip", order, "VI_1"]).expect("the order is followed");
        wait_for_takeover(&pair, owner, &prober);
    }
    pair.a.freeze().expect("it can be frozen");
    wait_for_takeover(&pair, &pair.b, &prober);
    watch(Duration::from_secs(5));

    let listener = arp::Listener::open(&pair.client).expect("the client can listen");
    pair.a.thaw().expect("it can be thawed");
    wait_for_takeover(&pair, &pair.a, &prober);
    watch(Duration::from_millis(500));
    let macs = listener.announcers(VIP).expect("the client can listen");
    let mine = pair.a.mac().expect("it has an interface");
    let others = macs.iter().skip_while(|mac| **mac != mine).filter(|mac| **mac != mine).count();
    assert!(macs.contains(&mine), "{macs:?}");
    assert_eq!(others, 0, "node-a announced the VIP before it owned it, and node-b contradicted: {macs:?}");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_frozen_backup_changes_nothing_for_the_vip() {
    let (pair, prober) = pair_under_load(&common::named("frozen-backup"));
    pair.b.freeze().expect("it can be frozen");
    pair.wait("node-a sees that node-b's nginx is gone", || {
        pair.a.status().is_ok_and(|s| s.backends().iter().any(|b| b.state != "up"))
    });
    let after = Instant::now();
    let mac = pair.a.mac().expect("it has an interface");
    let report = arp::ask(&pair.client, VIP, Duration::from_secs(5)).expect("the client can ask");
    assert!(report.always_only(mac), "{report:?}");
    assert_eq!(prober.since(after).failures(), 0);
    pair.b.thaw().expect("it can be thawed");
    assert_eq!(pair.settle().name(), "node-a");
    assert_eq!(pair.answerers(), ["node-a"], "node-b woke up late and must not claim anything");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_killed_daemon_leaves_a_silent_node_whose_nginx_still_serves() {
    let (pair, prober) = pair_under_load(&common::named("killed"));
    let killed = Instant::now();
    pair.a.stop_daemon(Signal::SIGKILL, SOON).expect("it ends");
    assert!(pair.a.xdp("eth0").expect("ip runs").is_some(), "the guard outlives the daemon");
    wait_for_takeover(&pair, &pair.b, &prober);
    let gap = prober.since(killed).longest_gap;
    assert!(gap < LONGEST_TAKEOVER, "a client waited {gap:?}");
    let mac = pair.b.mac().expect("it has an interface");
    let report = arp::ask(&pair.client, VIP, Duration::from_secs(4)).expect("the client can ask");
    assert!(report.always_only(mac), "{report:?}");
    let after = Instant::now();
    watch(Duration::from_secs(2));
    let served = prober.since(after);
    assert_eq!(served.failures(), 0, "{served:?}");
    assert!(
        (0.4..=0.6).contains(&served.share("node-a")),
        "what node-b steers is still delivered: {served:?}"
    );

    let restarted = Instant::now();
    pair.a.start_daemon().expect("it starts");
    wait_for_takeover(&pair, &pair.a, &prober);
    assert_eq!(pair.settle().name(), "node-a");
    pair.wait_until_alone("node-a");
    assert_eq!(pair.answerers(), ["node-a"]);
    let served = prober.since(restarted);
    assert_eq!(served.failures(), 0, "{served:?}");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_clean_stop_hands_over_at_once_and_leaves_nothing() {
    let (pair, prober) = pair_under_load(&common::named("stop"));
    let stopped = Instant::now();
    pair.a.stop_daemon(Signal::SIGTERM, Duration::from_secs(5)).expect("it ends");
    // Priority 0 makes the backup wait its skew only, 0.61 s.
    pair.wait_for("node-b owns the VIP", Duration::from_secs(2), || {
        pair.b.status().is_ok_and(|status| status.is_owner())
    });
    let gap = prober.since(stopped).longest_gap;
    assert!(gap < Duration::from_secs(2), "a client waited {gap:?}");
    for interface in ["eth0", "lo"] {
        assert!(!pair.a.has_address(interface, VIP).expect("ip runs"), "the VIP is still on {interface}");
        assert_eq!(pair.a.xdp(interface).expect("ip runs"), None, "a program is still on {interface}");
    }
    // progs.debug and maps.debug are the kernel's, on every bpffs.
    let pins =
        pair.a.run(&["find", "/sys/fs/bpf", "-type", "f", "-not", "-name", "*.debug"]).expect("find runs");
    assert_eq!(pins.trim(), "", "pins are left");
    assert_eq!(pair.answerers(), ["node-b"]);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_clean_stop_costs_no_request() {
    let (pair, prober) = pair_under_load(&common::named("stop-serves"));
    // First the backup, to which half of the connections go, then the owner.
    for (leaver, stayer) in [(&pair.b, &pair.a), (&pair.a, &pair.b)] {
        let stopped = Instant::now();
        leaver.stop_daemon(Signal::SIGTERM, Duration::from_secs(5)).expect("it ends");
        wait_for_takeover(&pair, stayer, &prober);
        watch(Duration::from_secs(1));
        let after = Instant::now();
        watch(Duration::from_secs(1));
        let served = prober.since(stopped);
        let name = leaver.name();
        assert_eq!(served.failures(), 0, "{name} stopped: {served:?}\n{}", pair.lab.log_tails(30));
        assert!(served.longest_gap < Duration::from_millis(500), "{name} stopped: {served:?}");
        let after = prober.since(after);
        assert!(after.share(stayer.name()) > 0.999, "{name} is steered to: {after:?}");
        leaver.start_daemon().expect("it starts");
        pair.settle();
    }
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn the_vip_leaves_a_node_whose_nginx_died_and_comes_back_with_it() {
    let (pair, prober) = pair_under_load(&common::named("track"));
    pair.a.stop_web().expect("nginx ends");
    pair.wait("node-a is in fault", || pair.a.status().is_ok_and(|status| status.all_are("fault")));
    wait_for_takeover(&pair, &pair.b, &prober);
    pair.wait("node-b sees that node-a's nginx is gone", || {
        pair.b.status().is_ok_and(|s| s.backends().iter().any(|b| b.state != "up"))
    });
    pair.wait("node-a gave the VIP up", || pair.holders() == ["node-b"]);
    assert_eq!(pair.answerers(), ["node-b"]);
    let after = Instant::now();
    watch(Duration::from_secs(2));
    let served = prober.since(after);
    assert_eq!(served.failures(), 0, "{served:?}");
    assert!(served.share("node-b") > 0.999, "{served:?}");

    pair.a.start_web().expect("nginx starts");
    pair.wait_for_owner(&pair.a);
    assert_eq!(pair.settle().name(), "node-a");
    pair.wait_until_alone("node-a");
}
