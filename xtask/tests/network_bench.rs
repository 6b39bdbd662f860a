//! Tier 3: `cargo xtask bench failover` sees what is there to be seen.

mod common;

use std::process::{Command, Stdio};

use serde_json::Value;

/// The only round of `fault`, as the command writes it down.
fn round(system: &str, fault: &str) -> Value {
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("rounds.json");
    let mut command = Command::new(common::xtask());
    command.args(["bench", "failover", "--rounds", "1", "--system", system, "--fault", fault]);
    command.arg("--lb").arg(common::lb()).arg("--json").arg(&file);
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = std::fs::read(&file).expect("it wrote the file");
    let mut all: Value = serde_json::from_slice(&text).expect("it is JSON");
    let rows = all["rows"].as_array_mut().expect("it has rows");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((&rows[0]["system"], &rows[0]["fault"]), (&system.into(), &fault.into()));
    let rounds = rows[0]["rounds"].as_array_mut().expect("it has rounds");
    assert_eq!(rounds.len(), 1, "{rounds:?}");
    rounds.remove(0)
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
