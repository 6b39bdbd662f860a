//! Backends that stand in for others, and those that keep their connections.

use super::*;

const BACKUP: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 20, 128, 9));

/// The tutorial's service with weights 2 and 3, and a backup; `service` and `backend` are more lines of the service and of
/// the first backend.
fn config(service: &str, backend: &str) -> Config {
    let text = TUTORIAL
        .replace("protocol = \"tcp\"\n", &format!("protocol = \"tcp\"\n{service}\n"))
        .replacen("mode = \"dr\"", &format!("mode = \"dr\"\nweight = 2\n{backend}"), 1);
    let text = text.replace(
        "address = \"172.20.128.3\"",
        "address = \"172.20.128.9\"\nmode = \"dr\"\nbackup = true\n\n[[service.backend]]\nweight = 3\naddress = \
         \"172.20.128.3\"",
    );
    Config::parse("lb.toml", &text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The weights of both nodes and of the backup.
fn weights(config: &Config, view: &NodeA) -> [u32; 3] {
    let desired = desired(config, view);
    [NODE_A, NODE_B, BACKUP].map(|address| desired.services[&id()].backends[&(address, 80)].weight)
}

fn without(addresses: &[IpAddr]) -> NodeA {
    NodeA { unhealthy: addresses.iter().copied().collect(), ..NodeA::default() }
}

#[test]
fn a_backup_serves_while_the_others_miss_the_quorum() {
    let one = config("", "");
    assert_eq!(weights(&one, &without(&[])), [2, 3, 0]);
    assert_eq!(weights(&one, &without(&[NODE_A])), [0, 3, 0]);
    assert_eq!(weights(&one, &without(&[NODE_A, NODE_B])), [0, 0, 1]);
    let three = config("quorum = 3", "");
    assert_eq!(weights(&three, &without(&[NODE_A])), [0, 3, 0]);
    assert_eq!(weights(&three, &without(&[NODE_B])), [0, 0, 1], "alone it is too weak");
    // Nobody to stand in.
    assert_eq!(weights(&three, &without(&[NODE_B, BACKUP])), [2, 0, 0]);
}

#[test]
fn a_backup_waits_until_all_others_are_known() {
    let view = NodeA { unknown: BTreeSet::from([NODE_A]), ..without(&[NODE_B]) };
    assert_eq!(weights(&config("", ""), &view), [0, 0, 0]);
}

#[test]
fn connections_that_a_failed_backend_keeps_stay_with_it() {
    let of_a = |config: &Config| {
        let desired = desired(config, &without(&[NODE_A]));
        let backend = desired.services[&id()].backends[&(NODE_A, 80)];
        (backend.weight, backend.condition)
    };
    assert_eq!(of_a(&config("", "")), (0, Condition::Failed));
    assert_eq!(of_a(&config("", "keep_connections = true")), (0, Condition::Spared));
}
