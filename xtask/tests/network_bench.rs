//! Tier 3: `cargo xtask bench failover` and `forward` see what is there to be seen.

mod common;

use common::{failover_rounds, forward_report};
use serde_json::Value;

/// The only round of `fault`, as the command writes it down.
fn round(system: &str, fault: &str) -> Value {
    failover_rounds(system, fault, 1).remove(0)
}

/// A number of what a client met.
fn number(round: &Value, client: &str, what: &str) -> f64 {
    round[client][what].as_f64().unwrap_or_else(|| panic!("no {client}.{what} in {round}"))
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_takeover_of_keepalived_is_measured_by_all_clients() {
    let round = round("keepalived-100ms", "cut");
    for client in ["known", "newcomer"] {
        // Three adverts of 0.1 s and a skew of 61 ms, less what had passed of the interval.
        let wait = number(&round, client, "milliseconds");
        assert!((200.0..2_000.0).contains(&wait), "{client}: {round}");
        assert!(number(&round, client, "lost") >= 50.0, "{client}: {round}");
        assert!(number(&round, client, "asked") >= 500.0, "{client}: {round}");
    }
    assert!(number(&round, "web", "lost") >= 1.0, "{round}");
    assert_eq!(round["claimants_after"], serde_json::json!(["node-b"]), "{round}");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn two_owners_are_noticed() {
    let round = round("keepalived-100ms", "freeze-daemon");
    assert_eq!(round["most_claimants"], 2, "{round}");
    assert_eq!(round["claimants_after"], serde_json::json!(["node-a", "node-b"]), "{round}");
    assert_eq!(round["holders_after"], round["claimants_after"], "{round}");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn lb_has_one_owner_when_the_daemon_is_frozen() {
    let round = round("lb-1s", "freeze-daemon");
    assert_eq!(round["most_claimants"], 1, "{round}");
    assert_eq!(round["claimants_after"], serde_json::json!(["node-b"]), "{round}");
    assert_eq!(round["known"]["to_the_end"], false, "{round}");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_clean_stop_loses_nothing_whoever_is_the_peer() {
    for system in ["lb-1s", "lb-keepalived"] {
        let round = round(system, "stop");
        assert_eq!(round["known"]["lost"], 0, "{system}: {round}");
        assert_eq!(round["most_claimants"], 1, "{system}: {round}");
        assert_eq!(round["claimants_after"], serde_json::json!(["node-b"]), "{system}: {round}");
    }
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn forged_adverts_take_the_vip_from_keepalived_and_not_from_lb() {
    let round_of_lb = round("lb-1s", "forge");
    assert_eq!(
        (&round_of_lb["moves"], &round_of_lb["known"]["lost"]),
        (&0.into(), &0.into()),
        "{round_of_lb}"
    );
    assert_eq!(round_of_lb["claimants_after"], serde_json::json!(["node-a"]), "{round_of_lb}");
    // To both nodes, every 50 ms for 5 s; a busy machine sends fewer.
    assert!(round_of_lb["refused"].as_u64().is_some_and(|count| count > 50), "{round_of_lb}");

    let round = round("keepalived-1s", "forge");
    assert!(number(&round, "known", "milliseconds") > 3_000.0, "the forger works: {round}");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn downloads_go_on_when_the_vip_moves_and_their_backends_live() {
    let round = round("lb-1s", "download");
    assert_eq!(round["moves"], 1, "{round}");
    assert_eq!(
        (&round["downloads"]["begun"], &round["downloads"]["going"]),
        (&16.into(), &16.into()),
        "{round}"
    );
    for node in ["node-a", "node-b"] {
        assert!(round["downloads"]["begun_by_node"][node].as_u64().is_some_and(|count| count > 0), "{round}");
    }
}

/// The rows of a report's groups whose titles begin with `title`.
fn rows<'a>(report: &'a Value, title: &str) -> Vec<&'a Value> {
    let groups = report["groups"].as_array().expect("a report has groups");
    let groups =
        groups.iter().filter(|group| group["title"].as_str().is_some_and(|is| is.starts_with(title)));
    groups.flat_map(|group| group["rows"].as_array().expect("a group has rows")).collect()
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn what_the_generator_sends_arrives_by_every_way_of_the_lab() {
    // The benchmark itself counts at the sinks, and looks at the destination of what arrives.
    let report = forward_report(&["--only", "frames", "--packets", "2000", "--new-flows", "2000"]);
    let rows = rows(&report, "Live frames");
    assert!(rows.len() >= 2 * 10, "{report}");
    for row in rows {
        let name = row["name"].as_str().expect("a row has a name");
        let samples = row["samples"].as_array().expect("a row has samples");
        if name.starts_with("IPVS") && samples.is_empty() {
            let note = row["note"].as_str().unwrap_or_default();
            assert!(note.starts_with("SKIPPED: "), "{row}");
        } else {
            assert!(samples.len() == 1 && samples[0].as_f64() > Some(0.0), "{row}");
        }
    }
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn connections_are_measured_through_every_balancer() {
    let report = forward_report(&["--only", "proxies", "--seconds", "1"]);
    for title in ["A new connection for each request", "Requests on connections that stay"] {
        // How many, two latencies, two processor times.
        let rows = rows(&report, title);
        assert_eq!(rows.len(), 6 * 4 + 5, "{report}");
        for row in rows {
            assert_eq!(row["samples"].as_array().map(Vec::len), Some(1), "{row}");
        }
    }
}
