//! What `lb explain` says: every verdict in words, the shape of its JSON, and what it says of questions that make no sense.

use std::{fmt::Write as _, net::SocketAddr};

use assert_cmd::Command;
use lb::{
    api::{
        ExplainedBackend, ExplainedHop, ExplainedPacket, ExplainedService, ExplainedSlot, ExplainedVip,
        Explanation,
    },
    config::{Ports, Protocol},
};
use lb_common::Verdict;

/// A packet that gets to a backend.
fn explanation() -> Explanation {
    let end = |text: &str| text.parse::<SocketAddr>().expect("an address and a port");
    let vip = end("192.0.2.4:443");
    Explanation {
        packet: ExplainedPacket {
            source: end("198.51.100.7:40000"),
            destination: vip,
            protocol: Protocol::Tcp,
            opening: false,
            interface: "eth0".to_owned(),
            xdp: "native".to_owned(),
        },
        vip: Some(ExplainedVip {
            address: vip.ip(),
            virtual_router: Some("VI_1".to_owned()),
            state: "owner".to_owned(),
            reason: "no other owner was heard".to_owned(),
            lease_ms: Some(2_671),
        }),
        service: Some(ExplainedService {
            name: "web".to_owned(),
            vip: vip.ip(),
            port: Ports::One(443).into(),
            protocol: Protocol::Tcp,
        }),
        slot: Some(ExplainedSlot {
            number: 41_233,
            of: 65_537,
            settled: true,
            current: Some("10.0.0.21:443".to_owned()),
            previous: None,
            remembered: None,
            reason: None,
        }),
        backend: Some(ExplainedBackend {
            address: end("10.0.0.21:443").ip(),
            port: 443,
            mode: "dr".to_owned(),
            weight: 2,
            state: "up".to_owned(),
            reason: "check passes".to_owned(),
        }),
        next_hop: Some(ExplainedHop {
            interface: "eth1".to_owned(),
            neighbour: Some(end("10.0.0.21:443").ip()),
            mac: Some("02:00:00:00:00:21".to_owned()),
            addresses: None,
        }),
        verdict: String::new(),
        action: "send".to_owned(),
        meaning: String::new(),
        remedy: None,
    }
}

/// About the address of no VIP.
fn nothing_found() -> Explanation {
    let action = "pass".to_owned();
    Explanation {
        vip: None,
        service: None,
        slot: None,
        backend: None,
        next_hop: None,
        action,
        ..explanation()
    }
}

fn snapshot(name: &str, shown: &str) {
    // Without the expression that made it, which would be most of the file.
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(name, shown) });
}

#[test]
fn every_verdict_has_its_words() {
    let mut all = String::new();
    for &verdict in Verdict::ALL {
        let mut known = explanation();
        known.put_into_words(verdict);
        let remedy = known.remedy.as_deref().unwrap_or("-");
        writeln!(all, "{}\n  {}\n  {remedy}", known.verdict, known.meaning).expect("a string");
        // They also stand where nothing was found that they could name.
        let mut unknown = nothing_found();
        unknown.put_into_words(verdict);
        assert_eq!(unknown.remedy.is_some(), known.remedy.is_some(), "{}", verdict.name());
    }
    snapshot("verdicts", &all);
}

#[test]
fn answers_are_short_and_complete() {
    let mut settled = explanation();
    settled.put_into_words(Verdict::Dr);
    let mut unsettled = explanation();
    unsettled.slot = Some(ExplainedSlot {
        settled: false,
        previous: Some("10.0.0.20:443".to_owned()),
        remembered: Some("10.0.0.20:443".to_owned()),
        reason: Some("so it stays there".to_owned()),
        ..unsettled.slot.expect("it has one")
    });
    unsettled.put_into_words(Verdict::Dr);
    let mut wrapped = explanation();
    if let Some(hop) = &mut wrapped.next_hop {
        hop.addresses = Some(["10.0.0.1:50123".to_owned(), "10.0.0.21:6080".to_owned()]);
    }
    wrapped.put_into_words(Verdict::Gue);
    let mut unresolved = explanation();
    "drop".clone_into(&mut unresolved.action);
    if let Some(hop) = &mut unresolved.next_hop {
        hop.mac = None;
    }
    unresolved.put_into_words(Verdict::NoNeighbour);
    let mut elsewhere = nothing_found();
    elsewhere.packet.protocol = Protocol::Udp;
    elsewhere.put_into_words(Verdict::NotOurs);

    let mut all = String::new();
    for answer in [settled, unsettled, wrapped, unresolved, elsewhere] {
        let text = answer.to_string();
        assert!(text.lines().count() <= 8, "{text}");
        writeln!(all, "{text}").expect("a string");
    }
    snapshot("answers", &all);
}

#[test]
fn json_has_the_documented_shape() {
    let mut answer = explanation();
    answer.put_into_words(Verdict::NoNeighbour);
    let text = serde_json::to_string_pretty(&answer).expect("JSON");
    assert_eq!(serde_json::from_str::<Explanation>(&text).expect("the same"), answer);
    let mut nothing = nothing_found();
    nothing.put_into_words(Verdict::NotOurs);
    let nothing = serde_json::to_string_pretty(&nothing).expect("JSON");
    snapshot("json", &format!("{text}\n{nothing}\n"));
}

#[test]
fn questions_that_make_no_sense_are_refused_with_place_and_example() {
    let vip = "192.0.2.4:443";
    let client = "198.51.100.7:40000";
    let cases: &[&[&str]] = &[
        &["--src", "198.51.100.7", "--dst", vip],
        &["--src", "198.51.100.7:", "--dst", vip],
        &["--src", "198.51.100.7:http", "--dst", vip],
        &["--src", "198.51.100.7:65536", "--dst", vip],
        &["--src", "198.51.100.777:40000", "--dst", vip],
        &["--src", "client.example:40000", "--dst", vip],
        &["--src", "2001:db8::7:40000", "--dst", vip],
        &["--src", "[2001:db8::7:40000", "--dst", vip],
        &["--src", "[2001:db8::7]40000", "--dst", vip],
        &["--src", "", "--dst", vip],
        &["--src", client, "--dst", "[2001:db8::4]:443"],
        &["--src", client, "--dst", vip, "--protocol", "sctp"],
        &["--src", client, "--dst", vip, "--protocol", "udp", "--opening"],
        &["--src", client, "--dst", vip, "--established", "--opening"],
        &["--src", client],
    ];
    let mut all = String::new();
    for words in cases {
        let mut command = Command::cargo_bin("lb").expect("it is built");
        let output = command.arg("explain").args(*words).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
        let text = String::from_utf8(output.stderr).expect("text");
        writeln!(all, "$ lb explain {}\n{}", words.join(" "), text.trim_end()).expect("a string");
    }
    snapshot("refusals", &all);
}

#[test]
fn without_a_daemon_the_remedy_is_to_start_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::cargo_bin("lb").expect("it is built");
    let output = command
        .args(["explain", "--src", "198.51.100.7:40000", "--dst", "192.0.2.4:443", "--runtime-dir"])
        .arg(folder.path())
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(text.contains("no lb answers at") && text.contains("lb run --config FILE"), "{text}");
}
