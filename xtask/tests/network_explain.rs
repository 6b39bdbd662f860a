//! Tier 3: what `lb explain` says is what happens.

mod common;

use std::collections::BTreeMap;

use common::{SOON, named, pair, pair_with};
use nix::sys::signal::Signal;
use serde_json::Value;
use xtask::lab::{CLIENT, NODE_A, NODE_B, NODE_HEADER, Node, VIP, XdpMode};

/// Source ports of the client, none of those that its kernel chooses by itself.
const PORTS: std::ops::Range<u16> = 20_000..20_050;

/// What the node's `lb explain` says, and its exit status.
fn explain(node: &Node, words: &[&str]) -> (String, Option<i32>) {
    let binary = common::lb();
    let binary = binary.to_string_lossy();
    let output = node.output(&[&[&*binary, "explain"], words].concat()).expect("the command runs");
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.code())
}

/// The same as JSON, about a packet from a port of the client to the VIP.
fn answer(node: &Node, port: u16, more: &[&str]) -> Value {
    let (source, destination) = (format!("{CLIENT}:{port}"), format!("{VIP}:80"));
    let words = [&["--src", &source, "--dst", &destination, "--json"], more].concat();
    let (text, status) = explain(node, &words);
    assert_eq!(status, Some(0), "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The node that answers a connection from a port of the client.
fn answers(client: &Node, port: u16) -> String {
    let (port, url) = (port.to_string(), format!("http://{VIP}/"));
    let words = ["curl", "-sS", "--max-time", "5", "--local-port", &port, "-o", "/dev/null", "-D", "-", &url];
    let headers = client.run(&words).unwrap_or_else(|error| panic!("{error}"));
    let prefix = format!("{}: ", NODE_HEADER.to_lowercase());
    let node = headers.lines().find_map(|line| {
        line.to_lowercase().starts_with(&prefix).then(|| line[prefix.len()..].trim().to_owned())
    });
    node.unwrap_or_else(|| panic!("nobody's name in {headers}"))
}

/// Explains connections before they are made, and makes them.
fn explains_what_happens(xdp: XdpMode, name: &str) {
    let pair = pair_with(&named(name), xdp, "");
    let names = BTreeMap::from([(NODE_A.to_string(), "node-a"), (NODE_B.to_string(), "node-b")]);
    let mut met = BTreeMap::<String, u32>::new();
    for port in PORTS {
        let told = answer(&pair.a, port, &["--opening"]);
        let address = told["backend"]["address"].as_str().unwrap_or_else(|| panic!("no backend in {told}"));
        let node = answers(&pair.client, port);
        assert_eq!(names.get(address).copied(), Some(node.as_str()), "{told}");
        let verdict = if node == "node-a" { "local" } else { "dr" };
        assert_eq!((&told["verdict"], &told["service"]["name"]), (&verdict.into(), &"web".into()), "{told}");
        assert_eq!(told["vip"]["state"], "owner", "{told}");
        if node == "node-b" {
            let mac = pair.b.mac().expect("it has one").to_string();
            assert_eq!(told["next_hop"]["mac"], *mac, "{told}");
            assert_eq!(told["next_hop"]["interface"], "eth0", "{told}");
        }
        // The backup would steer it to the same backend.
        let backup = answer(&pair.b, port, &["--opening"]);
        assert_eq!(backup["backend"]["address"], *address, "{backup}");
        assert_eq!(backup["vip"]["state"], "backup", "{backup}");
        *met.entry(node).or_default() += 1;
    }
    assert_eq!(met.len(), 2, "one node answered all: {met:?}");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn explained_backend_is_the_one_that_answers() {
    explains_what_happens(XdpMode::Auto, "explain");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn explained_backend_is_the_one_that_answers_in_native_mode() {
    explains_what_happens(XdpMode::Native, "explain-nat");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn what_keeps_a_packet_from_a_backend_is_told_with_a_remedy() {
    let pair = pair(&named("explain-no"), XdpMode::Auto);
    let from = format!("{CLIENT}:20000");
    let ask = |words: &[&str]| explain(&pair.a, &[&["--src", &from], words].concat());
    let told = |words: &[&str], parts: &[&str]| {
        let (text, status) = ask(words);
        assert_eq!(status, Some(0), "{text}");
        assert!(text.lines().count() <= 8, "too long to read:\n{text}");
        for part in parts {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    };
    let refused = |words: &[&str], status, parts: &[&str]| {
        let (text, is) = ask(words);
        assert_eq!(is, Some(status), "{text}");
        for part in parts {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    };
    let (vip, closed) = (format!("{VIP}:80"), format!("{VIP}:81"));
    told(&["--dst", &vip], &["OWNER of VI_1", "service   web", "weight 1", "verdict"]);
    told(&["--dst", "192.0.2.1:80"], &["not_ours", "not for a VIP: passed to the stack untouched"]);
    told(&["--dst", &closed], &["vip_stack", "no service takes tcp port 81 of 172.20.128.4", "remedy"]);
    told(&["--dst", &vip, "--protocol", "udp"], &["no service takes udp port 80"]);
    refused(&["--dst", &vip, "--interface", "lo"], 1, &["the XDP program is not on lo", "eth0"]);
    refused(&["--dst", "[2001:db8::1]:80"], 2, &["is IPv4", "is IPv6", "one family"]);
    refused(&["--dst", "172.20.128.4"], 2, &["the port are missing after character 12", "192.0.2.7:40000"]);

    pair.a.stop_web().expect("nginx ends");
    pair.b.stop_web().expect("nginx ends");
    pair.wait("node-a sees that both nginx are gone", || {
        pair.a.status().is_ok_and(|status| status.backends().iter().all(|backend| backend.state == "down"))
    });
    told(&["--dst", &vip], &["no_backend", "no backend of web can take it", "remedy", "lb status"]);

    pair.a.stop_daemon(Signal::SIGTERM, SOON).expect("it ends");
    refused(&["--dst", &vip], 1, &["no lb answers at /run/lb/lb.sock", "lb run --config FILE"]);
}
