//! Tier 3: the tutorial's pair at rest.

mod common;

use std::time::{Duration, Instant};

use common::{EXCHANGE, Pair, SOON, pair, pair_with, watch};
use xtask::lab::{
    BIG_PAGE_PATH, NODE_B, UPLOAD_PATH, VIP, XdpMode, big_page,
    probe::{
        arp, http,
        load::{LoadProber, LoadReport},
        udp,
    },
};

/// A UDP service on the tutorial's VIP; nothing checks its backends.
const UDP_SERVICE: &str = r#"
[[service]]
name = "echo"
vip = "172.20.128.4"
port = 53
protocol = "udp"

[[service.backend]]
address = "172.20.128.2"
mode = "dr"

[[service.backend]]
address = "172.20.128.3"
mode = "dr"
"#;

/// What a client sees for two seconds.
fn look(prober: &LoadProber) -> LoadReport {
    let start = Instant::now();
    watch(Duration::from_secs(2));
    prober.since(start)
}

fn assert_both_share(report: &LoadReport) {
    assert_eq!(report.failures(), 0, "{report:?}");
    assert!(report.answers() > 200, "too few to judge: {report:?}");
    for node in ["node-a", "node-b"] {
        assert!((0.4..=0.6).contains(&report.share(node)), "{report:?}");
    }
}

fn everything_works(pair: &Pair) {
    assert_eq!(pair.settle().name(), "node-a", "its priority is higher");
    assert_eq!(pair.holders(), ["node-a"]);
    assert_eq!(pair.answerers(), ["node-a"]);
    assert!(!pair.b.has_address("eth0", VIP).expect("ip runs"));
    assert!(pair.b.has_address("lo", VIP).expect("ip runs"), "node-b accepts what node-a steers to it");

    let prober = LoadProber::start(&pair.client, VIP, 80);
    prober.wait_for_answer(SOON).expect("the VIP answers");
    assert_both_share(&look(&prober));
    drop(prober);

    large_bodies_arrive_whole(pair);
    datagrams_are_answered_by_both(pair);
    pair.assert_checksums_were_right();
}

/// Bodies long enough for segmentation offloads, from and to both nginx.
fn large_bodies_arrive_whole(pair: &Pair) {
    let upload = vec![b'x'; 2_000_000];
    let expected = big_page();
    let mut nodes = std::collections::BTreeSet::new();
    for _ in 0..16 {
        let (node, page) = pair.get(BIG_PAGE_PATH);
        assert!(page == expected, "the page came changed from {node}");
        nodes.insert(node);
        let answer = http::request(&pair.client, VIP, 80, UPLOAD_PATH, Some(&upload), EXCHANGE);
        assert_eq!(answer.expect("it is taken").body, b"2000000");
    }
    assert_eq!(nodes.len(), 2, "16 connections met {nodes:?}");
}

fn datagrams_are_answered_by_both(pair: &Pair) {
    let servers = [&pair.a, &pair.b].map(|node| udp::EchoServer::start(node, VIP, 53).expect("it listens"));
    let mut nodes = std::collections::BTreeSet::new();
    for round in 0..32 {
        let payload = vec![b'u'; [0, 1, 40, 1400][round % 4]];
        let node = udp::ask(&pair.client, VIP, 53, &payload, EXCHANGE).expect("the client can ask");
        nodes.insert(
            node.unwrap_or_else(|| panic!("no answer to datagram {round}\n{}", pair.lab.log_tails(30))),
        );
    }
    assert_eq!(nodes.len(), 2, "32 datagrams met {nodes:?}");
    drop(servers);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn with_the_mode_lb_chooses_the_owner_steers_to_both_nginx() {
    let pair = pair_with(&common::named("auto"), XdpMode::Auto, UDP_SERVICE);
    everything_works(&pair);
    assert!(pair.a.xdp("eth0").expect("ip runs").is_some());
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn in_native_mode_the_owner_steers_to_both_nginx() {
    let pair = pair_with(&common::named("native"), XdpMode::Native, UDP_SERVICE);
    everything_works(&pair);
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.xdp("eth0").expect("ip runs"), Some(XdpMode::Native));
    }
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn in_generic_mode_the_owner_steers_to_both_nginx() {
    let pair = pair_with(&common::named("generic"), XdpMode::Generic, UDP_SERVICE);
    everything_works(&pair);
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.xdp("eth0").expect("ip runs"), Some(XdpMode::Generic));
    }
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn traffic_that_is_not_for_the_vip_is_left_alone() {
    let pair = pair(&common::named("other"), XdpMode::Auto);
    assert_eq!(pair.get_from(NODE_B), "node-b", "its own address, never steered");
    pair.client.run(&["ping", "-c2", "-i0.2", "-W2", "172.20.128.3"]).expect("ping is answered");
    let macs = arp::ask_once(&pair.client, NODE_B).expect("the client can ask");
    assert_eq!(macs.into_iter().collect::<Vec<_>>(), [pair.b.mac().expect("it has one")]);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_backend_whose_nginx_is_gone_gets_no_connections_until_it_is_back() {
    let pair = pair(&common::named("health"), XdpMode::Auto);
    let prober = LoadProber::start(&pair.client, VIP, 80);
    prober.wait_for_answer(SOON).expect("the VIP answers");
    pair.b.stop_web().expect("nginx ends");
    pair.wait("node-a sees that node-b's nginx is gone", || {
        pair.a.status().is_ok_and(|s| s.backends().iter().any(|b| b.state != "up"))
    });
    let report = look(&prober);
    assert_eq!(report.failures(), 0, "{report:?}");
    assert!(report.share("node-a") > 0.999, "{report:?}");
    assert_eq!(pair.holders(), ["node-a"], "a backend's fault does not move the VIP");

    pair.b.start_web().expect("nginx starts");
    pair.settle();
    assert_both_share(&look(&prober));
}
