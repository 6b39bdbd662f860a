//! Tier 3: strain is no failure. An owner whose machine is busy, flooded or stalls for less than its lease keeps the VIP.

mod common;

use common::failover_rounds;

/// One after the other, for each would be a strain for the others. What 10 ms adverts stand is a matter of the machine,
/// and in docs/failover.md.
#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn strain_moves_nothing() {
    for (system, fault) in
        [("lb-100ms", "busy"), ("lb-100ms", "flood"), ("lb-100ms", "stall50ms"), ("lb-1s", "stall50ms")]
    {
        for round in failover_rounds(system, fault, 1) {
            assert_eq!(round["moves"], 0, "{system}, {fault}: {round}");
            assert_eq!(round["most_claimants"], 1, "{system}, {fault}: {round}");
            assert_eq!(round["claimants_after"], serde_json::json!(["node-a"]), "{system}, {fault}: {round}");
        }
    }
}
