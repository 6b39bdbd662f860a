//! Tier 3: destination NAT. Client and backends are on different networks; the backends' default route is the node.

mod common;

use std::time::{Duration, Instant};

use common::{EXCHANGE, SOON, lb_with, start, watch};
use xtask::lab::{
    BIG_PAGE_PATH, CLIENT, Lab, LabSpec, Link, NODE_A, NodeSpec, UPLOAD_PATH, VIP, XdpMode, big_page,
    probe::{http, load::LoadProber},
    with_xdp,
};

const CONFIG: &str = include_str!("fixtures/nat.toml");
const INSIDE: [u8; 4] = [10, 77, 0, 1];

fn nat_lab(name: &str, xdp: XdpMode) -> Lab {
    let link = |interface: &str, address: [u8; 4]| Link {
        segment: "inside".to_owned(),
        interface: interface.to_owned(),
        address: address.into(),
        prefix: 24,
        peer_xdp: false,
    };
    // Attached where replies come in too.
    let config = match xdp {
        XdpMode::Auto => format!("{CONFIG}\n[interface.eth1]\n"),
        _ => with_xdp(CONFIG, xdp, &["eth0", "eth1"]),
    };
    let mut director = NodeSpec::on_lan("node-a", NODE_A);
    director.links.push(link("eth1", INSIDE));
    director.forwarding = true;
    director.daemon = lb_with(config);
    let backend = |name: &str, address: [u8; 4]| NodeSpec {
        links: vec![link("eth0", address)],
        default_route: Some(INSIDE.into()),
        ..NodeSpec::on_lan(name, address.into()).with_web(name, 8080)
    };
    let nodes = vec![
        NodeSpec::on_lan("client", CLIENT),
        director,
        backend("web-1", [10, 77, 0, 11]),
        backend("web-2", [10, 77, 0, 12]),
    ];
    let lab = start(&LabSpec { name: name.to_owned(), nodes }.with_peer_xdp(xdp));
    lab.wait_until_ready().unwrap_or_else(|error| panic!("{error}"));
    lab
}

fn nat_works(lab: &Lab) {
    let client = lab.node("client").expect("it is in the lab");
    let prober = LoadProber::start(&client, VIP, 80);
    prober.wait_for_answer(SOON).unwrap_or_else(|error| panic!("{error}\n{}", lab.log_tails(30)));
    let from = Instant::now();
    watch(Duration::from_secs(2));
    let report = prober.since(from);
    assert_eq!(report.failures(), 0, "{report:?}");
    for node in ["web-1", "web-2"] {
        assert!((0.4..=0.6).contains(&report.share(node)), "{report:?}");
    }
    drop(prober);

    let director = lab.node("node-a").expect("it is in the lab");
    let ask = |path: &str, upload: Option<&[u8]>| {
        let answer = http::request(&client, VIP, 80, path, upload, EXCHANGE);
        let verdicts = || director.status().map(|status| status.verdicts());
        answer.unwrap_or_else(|error| panic!("{error}\nverdicts at node-a: {:?}", verdicts())).body
    };
    let (upload, page) = (vec![b'x'; 2_000_000], big_page());
    for _ in 0..8 {
        assert!(ask(BIG_PAGE_PATH, None) == page, "the page came changed");
        assert_eq!(ask(UPLOAD_PATH, Some(&upload)), b"2000000");
    }
    for node in lab.nodes() {
        let count = node.kernel_counter("Tcp", "InCsumErrors").expect("the kernel counts");
        assert_eq!(count, 0, "wrong checksums at {}", node.name());
    }
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn nat_works_with_the_mode_lb_chooses() {
    nat_works(&nat_lab(&common::named("nat"), XdpMode::Auto));
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn nat_works_in_native_mode() {
    nat_works(&nat_lab(&common::named("nat-native"), XdpMode::Native));
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn nat_works_in_generic_mode() {
    nat_works(&nat_lab(&common::named("nat-generic"), XdpMode::Generic));
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn what_is_not_for_a_service_is_forwarded_by_the_kernel_as_ever() {
    let lab = nat_lab(&common::named("nat-other"), XdpMode::Auto);
    let client = lab.node("client").expect("it is in the lab");
    client.run(&["ip", "route", "add", "10.77.0.0/24", "via", "172.20.128.2"]).expect("ip runs");
    // A backend's own address and port, asked past the VIP: the replies are not the VIP's.
    client.run(&["ping", "-c2", "-i0.2", "-W2", "10.77.0.11"]).expect("ping is answered");
    let web = lab.node("web-2").expect("it is in the lab");
    web.run(&["ping", "-c2", "-i0.2", "-W2", "172.20.0.10"]).expect("ping is answered");
}
