//! Tier 3: `cargo xtask bench failover` sees what is there to be seen.

mod common;

use common::failover_rounds;
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
