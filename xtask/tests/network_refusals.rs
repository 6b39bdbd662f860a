//! Tier 3: bad input is refused and counted, and what ran keeps running.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use common::{Pair, SOON, lb, pair, shipped};
use xtask::lab::{
    CLIENT, Daemon, LabSpec, Node, VIP, XdpMode,
    probe::{advert::Advert, load::LoadProber},
    wait_until,
};

/// Runs a second `lb` on `node` to its end; its status and all it wrote. Killed, and the test failed, if it stays.
fn refused(node: &Node, wrapper: &[&str], config: &str) -> (ExitStatus, String) {
    let path = "/run/second.toml";
    fs::write(node.path(path), config).expect("the node's /run is writable");
    let lb = lb();
    let mut words = wrapper.to_vec();
    let lb = lb.to_string_lossy();
    words.extend([&*lb, "run", "--config", path]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = node.spawn(command).expect("it starts");
    let ended = wait_until("the second daemon has given up", SOON, || child.try_wait().ok().flatten());
    if ended.is_err() {
        child.kill().expect("it can be killed");
    }
    let output = child.wait_with_output().expect("it has ended");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (ended.unwrap_or_else(|error| panic!("{error}: {text}")), text)
}

/// What a refused daemon must not have disturbed.
fn assert_undisturbed(pair: &Pair, prober: &LoadProber, since: Instant) {
    let report = prober.since(since);
    assert_eq!(report.failures(), 0, "{report:?}");
    assert!(report.answers() > 0, "{report:?}");
    assert_eq!(pair.settle().name(), "node-a");
    assert_eq!(pair.answerers(), ["node-a"]);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_second_daemon_on_a_node_is_refused() {
    let pair = pair(&common::named("second"), XdpMode::Auto);
    let prober = LoadProber::start(&pair.client, VIP, 80);
    prober.wait_for_answer(SOON).expect("the VIP answers");
    let since = Instant::now();
    for node in [&pair.a, &pair.b] {
        let (status, text) = refused(node, &[], &shipped("tutorial-a.toml"));
        assert!(!status.success());
        assert!(text.contains("already"), "no clear word about the other daemon: {text}");
    }
    assert_undisturbed(&pair, &prober, since);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_daemon_that_cannot_work_says_why_and_leaves_nothing() {
    let spec = LabSpec::pair(&common::named("cannot"), Daemon::None, Daemon::None);
    let pair = Pair::of(common::start(&spec));
    let config = shipped("tutorial-a.toml");
    let cases: [(&str, &[&str], String, &str); 3] = [
        ("no such interface", &[], config.replace("eth0", "eth9"), "eth9"),
        // Root without a single capability.
        ("no rights", &["setpriv", "--bounding-set=-all", "--inh-caps=-all"], config.clone(), "CAP_"),
        ("unknown key", &[], config.replace("priority", "priorities"), "priorities"),
    ];
    for (case, wrapper, config, word) in cases {
        let (status, text) = refused(&pair.a, wrapper, &config);
        assert!(!status.success(), "{case}");
        assert!(text.contains(word), "{case}: `{word}` is not in: {text}");
        assert_eq!(pair.a.xdp("eth0").expect("ip runs"), None, "{case}: a program is left");
        assert!(!pair.a.has_address("lo", VIP).expect("ip runs"), "{case}: the VIP is left");
    }
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn wrong_adverts_are_counted_each_under_its_reason_without_effect() {
    let right = Advert::default;
    let cases = [
        ("checksum", Advert { checksum_error: 1, ..right() }),
        ("TTL", Advert { ttl: 254, ..right() }),
        ("password", Advert { password: *b"letmeout", ..right() }),
        ("router id", Advert { router_id: 34, ..right() }),
        ("length", Advert { cut: 4, ..right() }),
        ("version", Advert { version: 3, ..right() }),
        ("interval", Advert { interval: 2, ..right() }),
        ("source", Advert { source: CLIENT, ..right() }),
    ];
    let pair = pair(&common::named("adverts"), XdpMode::Auto);
    let prober = LoadProber::start(&pair.client, VIP, 80);
    prober.wait_for_answer(SOON).expect("the VIP answers");
    let start = Instant::now();
    let mut reasons = BTreeSet::new();
    for (case, advert) in cases {
        let before = refused_adverts(&pair);
        for _ in 0..3 {
            let sender = if advert.source == CLIENT { &pair.client } else { &pair.b };
            advert.send(sender).expect("the network is there");
        }
        pair.wait(&format!("a wrong {case} is counted three times"), || {
            grown(&before, &refused_adverts(&pair)).iter().any(|(_, by)| *by == 3)
        });
        let grown = grown(&before, &refused_adverts(&pair));
        assert_eq!(grown.len(), 1, "a wrong {case} is counted once: {grown:?}");
        assert!(reasons.insert(grown[0].0.clone()), "a wrong {case} has no reason of its own: {grown:?}");
        assert!(pair.a.status().expect("it answers").is_owner(), "a wrong {case} took the VIP");
    }
    assert_eq!(pair.holders(), ["node-a"]);
    assert_eq!(prober.since(start).failures(), 0);

    // The control: without a fault the same advert is heeded.
    let since = Instant::now();
    pair.wait("node-a yields to a right advert of higher priority", || {
        right().send(&pair.b).expect("the network is there");
        pair.a.status().is_ok_and(|status| status.all_are("backup"))
    });
    assert!(since.elapsed() < Duration::from_secs(3));
    // The other may own the VIP for a moment meanwhile, for node-a told it that it was leaving.
    pair.wait_for_owner(&pair.a);
    assert_eq!(pair.settle().name(), "node-a", "it takes the VIP back when that stops");
}

fn refused_adverts(pair: &Pair) -> BTreeMap<String, u64> {
    pair.a.status().expect("it answers").refused_adverts()
}

fn grown(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let by = |(reason, count): (&String, &u64)| {
        (reason.clone(), count.saturating_sub(before.get(reason).copied().unwrap_or(0)))
    };
    after.iter().map(by).filter(|(_, by)| *by > 0).collect()
}
