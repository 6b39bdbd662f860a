//! Tier 3: a daemon that dies without stopping, and the guardian that outlives it.

mod common;

use std::{
    thread,
    time::{Duration, Instant},
};

use common::{Pair, SOON, keepalived_with, lb_with, pair_under_load, shipped, start, watch};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use xtask::lab::{LabSpec, Node, VIP, probe::arp, probe::load::LoadProber};

const GUARDIAN: &str = "lb-guardian";

/// The guardian has 100 ms, node-b waits for its skew (0.61 s), and asking it for its state takes a while where others use
/// the processors. Without a guardian node-b would wait for 3.6 s.
const TAKEOVER: Duration = Duration::from_secs(2);

/// A backup that hears no farewell waits for 3 adverts and its skew, 3.6 s; the last advert may be just out.
const PATIENCE: Duration = Duration::from_millis(4_500);

/// The verifier takes seconds for the programs, and many of them on a machine that is busy.
const STARTED: Duration = Duration::from_mins(1);

/// What a dead owner's node must not be any more.
fn assert_moved_to_b(pair: &Pair) {
    pair.wait("the VIP is gone from node-a's interface", || pair.holders() == ["node-b"]);
    pair.wait("the guardian has ended", || pair.a.processes(GUARDIAN).is_empty());
    let mac = pair.b.mac().expect("it has an interface");
    let report = arp::ask(&pair.client, VIP, Duration::from_secs(2)).expect("the client can ask");
    assert!(report.always_only(mac), "{report:?}");
}

/// Waits until the daemon on node-a, which has the higher priority, has started and owns the VIP.
fn wait_for_first(pair: &Pair) {
    pair.wait_for("node-a owns the VIP", STARTED, || pair.a.status().is_ok_and(|s| s.is_owner()));
}

fn kill_now(pids: &[i32]) {
    for pid in pids {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).expect("it lives");
    }
}

fn wait_for_guardian(pair: &Pair, node: &Node, lost: u64) {
    pair.wait("a guardian watches", || {
        let named = node.processes(GUARDIAN).len() == 1;
        named && node.status().is_ok_and(|s| matches!(s.guardian(), (Some(_), l) if l == lost))
    });
}

/// Waits until node-b owns the VIP; how long that took.
fn takeover(pair: &Pair, prober: &LoadProber, since: Instant) -> Duration {
    pair.wait_for_owner(&pair.b);
    let after = since.elapsed();
    prober.wait_for_answer(SOON).expect("the VIP answers");
    after
}

/// Whether node-a's guardian was in time. Where others use the processors, a killed process may take longer to end than its
/// lease lasts, 0.1 s: then the node falls silent, as it must, until node-b notices.
fn handed_over(pair: &Pair) -> bool {
    let log = pair.a.log_tail(10);
    let (in_time, late) = (log.contains("handed over"), log.contains("the lease was over"));
    assert!(in_time != late, "{log}");
    in_time
}

/// Fails if clients noticed the daemon's death, though its guardian was in time.
fn assert_served(pair: &Pair, prober: &LoadProber, killed: Instant) {
    let served = prober.since(killed);
    if handed_over(pair) {
        assert_eq!(served.failures(), 0, "{served:?}\n{}", pair.lab.log_tails(30));
    } else {
        assert!(served.failing_for < TAKEOVER, "{served:?}\n{}", pair.lab.log_tails(30));
    }
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_killed_daemon_hands_over_and_no_request_is_lost() {
    let (pair, prober) = pair_under_load(&common::named("guardian"));
    wait_for_guardian(&pair, &pair.a, 0);
    let client = pair.client.clone();
    let watcher = thread::spawn(move || arp::ask(&client, VIP, Duration::from_secs(3)));
    let killed = Instant::now();
    pair.a.stop_daemon(Signal::SIGKILL, SOON).expect("it ends");
    let after = takeover(&pair, &prober, killed);
    assert!(after < TAKEOVER, "node-b is owner after {after:?}\n{}", pair.lab.log_tails(30));
    let report = watcher.join().expect("it does not panic").expect("the client can ask");
    assert_moved_to_b(&pair);
    let least = usize::from(handed_over(&pair));
    assert!(report.rounds.iter().all(|answers| (least..=1).contains(&answers.len())), "{report:?}");
    assert!(pair.a.has_address("lo", VIP).expect("ip runs"), "node-b steers to node-a's nginx still");
    let moved = Instant::now();
    pair.wait("node-b steers to node-a's nginx", || prober.since(moved).share("node-a") > 0.4);
    assert_served(&pair, &prober, killed);

    let restarted = Instant::now();
    pair.a.start_daemon().expect("it starts");
    wait_for_first(&pair);
    assert_eq!(pair.settle().name(), "node-a");
    wait_for_guardian(&pair, &pair.a, 0);
    pair.wait("node-a alone has the VIP", || pair.holders() == ["node-a"]);
    assert_eq!(pair.answerers(), ["node-a"]);
    let served = prober.since(restarted);
    assert_eq!(served.failures(), 0, "{served:?}\n{}", pair.lab.log_tails(30));
    pair.assert_checksums_were_right();
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_daemon_that_is_restarted_at_once_lets_the_guardian_finish() {
    let (pair, prober) = pair_under_load(&common::named("guardian-restart"));
    wait_for_guardian(&pair, &pair.a, 0);
    let killed = Instant::now();
    pair.a.stop_daemon(Signal::SIGKILL, SOON).expect("it ends");
    pair.a.start_daemon().expect("it starts");
    wait_for_first(&pair);
    assert_eq!(pair.settle().name(), "node-a");
    pair.wait("node-a alone has the VIP", || pair.holders() == ["node-a"]);
    wait_for_guardian(&pair, &pair.a, 0);
    watch(Duration::from_secs(2));
    pair.wait_until_alone("node-a");
    assert_eq!(pair.answerers(), ["node-a"]);
    let served = prober.since(killed);
    let in_time = pair.a.log_tail(50).contains("handed over");
    assert!(
        served.failures() == 0 || (!in_time && served.failing_for < TAKEOVER),
        "{served:?}\n{}",
        pair.lab.log_tails(30)
    );
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_killed_guardian_is_replaced_and_nothing_else_happens() {
    let (pair, prober) = pair_under_load(&common::named("guardian-alone"));
    wait_for_guardian(&pair, &pair.a, 0);
    let killed = Instant::now();
    kill_now(&pair.a.processes(GUARDIAN));
    wait_for_guardian(&pair, &pair.a, 1);
    watch(Duration::from_secs(2));
    assert_eq!(pair.settle().name(), "node-a");
    pair.wait_until_alone("node-a");
    assert_eq!(pair.answerers(), ["node-a"]);
    let served = prober.since(killed);
    assert_eq!(served.failures(), 0, "{served:?}");

    // The new one has its orders.
    let killed = Instant::now();
    pair.a.stop_daemon(Signal::SIGKILL, SOON).expect("it ends");
    let after = takeover(&pair, &prober, killed);
    assert!(after < TAKEOVER, "node-b is owner after {after:?}\n{}", pair.lab.log_tails(30));
    assert_moved_to_b(&pair);
    assert_served(&pair, &prober, killed);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn without_daemon_and_guardian_the_lease_runs_out() {
    let (pair, prober) = pair_under_load(&common::named("guardian-both"));
    wait_for_guardian(&pair, &pair.a, 0);
    let client = pair.client.clone();
    let watcher = thread::spawn(move || arp::ask(&client, VIP, Duration::from_secs(6)));
    let killed = Instant::now();
    let mut both = pair.a.processes(GUARDIAN);
    both.extend(pair.a.processes("lb"));
    assert_eq!(both.len(), 2, "one daemon, one guardian");
    kill_now(&both);
    takeover(&pair, &prober, killed);
    let gap = prober.since(killed).longest_gap;
    assert!(gap < PATIENCE, "a client waited {gap:?}");
    let report = watcher.join().expect("it does not panic").expect("the client can ask");
    assert!(report.rounds.iter().all(|answers| answers.len() <= 1), "{report:?}");
    assert_eq!(pair.holders(), ["node-a", "node-b"], "nobody could take it away");
    assert_eq!(pair.answerers(), ["node-b"]);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_clean_stop_leaves_no_guardian_and_gives_it_nothing_to_do() {
    let (pair, _prober) = pair_under_load(&common::named("guardian-stop"));
    wait_for_guardian(&pair, &pair.a, 0);
    pair.a.stop_daemon(Signal::SIGTERM, Duration::from_secs(5)).expect("it ends");
    assert_eq!(pair.a.processes(GUARDIAN), Vec::<i32>::new(), "the daemon waits for it");
    assert!(!pair.a.log_tail(10).contains("died without stopping"), "{}", pair.a.log_tail(10));
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn signals_that_end_a_daemon_do_not_end_its_guardian() {
    let (pair, _prober) = pair_under_load(&common::named("guardian-signals"));
    wait_for_guardian(&pair, &pair.a, 0);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        assert_eq!(pair.a.signal(GUARDIAN, signal), 1);
    }
    // What a service manager does to what is left of a service whose main process was killed.
    let killed = Instant::now();
    pair.a.stop_daemon(Signal::SIGKILL, SOON).expect("it ends");
    pair.a.signal(GUARDIAN, Signal::SIGTERM);
    pair.wait_for_owner(&pair.b);
    assert!(killed.elapsed() < TAKEOVER, "{:?}\n{}", killed.elapsed(), pair.lab.log_tails(30));
    assert_moved_to_b(&pair);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn keepalived_takes_over_from_a_killed_lb() {
    let lb = lb_with(shipped("tutorial-a.toml"));
    let keepalived = keepalived_with(include_str!("fixtures/keepalived-slave.conf"));
    let pair = Pair::of(start(&LabSpec::pair(&common::named("guardian-ka"), lb, keepalived)));
    wait_for_first(&pair);
    pair.wait("node-a alone has the VIP", || pair.holders() == ["node-a"]);
    wait_for_guardian(&pair, &pair.a, 0);
    let killed = Instant::now();
    pair.a.stop_daemon(Signal::SIGKILL, SOON).expect("it ends");
    pair.wait("keepalived has the VIP", || pair.b.has_address("eth0", VIP).expect("ip runs"));
    let after = killed.elapsed();
    assert!(after < TAKEOVER, "keepalived is owner after {after:?}\n{}", pair.lab.log_tails(30));
    assert_moved_to_b(&pair);
}
