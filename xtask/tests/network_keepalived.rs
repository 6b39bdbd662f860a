//! Tier 3: a real keepalived as the peer, in either role.

mod common;

use std::time::Duration;

use common::{Pair, keepalived_with, lb_with, start, watch};
use nix::sys::signal::Signal;
use xtask::lab::{LabSpec, Node, VIP, probe::arp};

const MASTER: &str = include_str!("fixtures/keepalived-master.conf");
const SLAVE: &str = include_str!("fixtures/keepalived-slave.conf");

/// `lb` with the tutorial's virtual router and its own nginx as the only backend: keepalived's node steers nothing.
fn alone(source: &str, peer: &str, priority: u8) -> String {
    format!(
        r#"
[[virtual_router]]
name = "VI_1"
interface = "eth0"
router_id = 33
priority = {priority}
advert_interval = "1s"
password = "letmein"
vips = ["172.20.128.4/24"]

[virtual_router.unicast]
source = "{source}"
peers = ["{peer}"]

[[service]]
name = "web"
vip = "172.20.128.4"
port = 80
protocol = "tcp"

[[service.backend]]
address = "{source}"
mode = "dr"
"#
    )
}

/// `lb` on node-a with the higher priority, keepalived on node-b.
fn lb_first(name: &str) -> Pair {
    let lb = lb_with(alone("172.20.128.2", "172.20.128.3", 200));
    let pair = Pair::of(start(&LabSpec::pair(name, lb, keepalived_with(SLAVE))));
    pair.wait_for_owner(&pair.a);
    pair.wait("node-a alone has the VIP", || pair.holders() == ["node-a"]);
    pair
}

/// keepalived on node-a with the higher priority, `lb` on node-b.
fn keepalived_first(name: &str) -> Pair {
    let lb = lb_with(alone("172.20.128.3", "172.20.128.2", 100));
    let pair = Pair::of(start(&LabSpec::pair(name, keepalived_with(MASTER), lb)));
    pair.wait("node-a alone has the VIP", || pair.holders() == ["node-a"]);
    pair.wait_for_backup(&pair.b);
    pair
}

fn wait_for_answers_of(pair: &Pair, node: &Node) {
    pair.wait(&format!("{} alone answers", node.name()), || pair.answerers() == [node.name()]);
    pair.wait(&format!("the nginx of {} answers", node.name()), || pair.get("/").0 == node.name());
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_pair_of_lb_and_keepalived_is_stable() {
    for pair in [lb_first(&common::named("ka-calm-1")), keepalived_first(&common::named("ka-calm-2"))] {
        wait_for_answers_of(&pair, &pair.a);
        // Longer than master down: whoever did not understand the other's adverts would have taken the VIP.
        for _ in 0..12 {
            watch(Duration::from_millis(500));
            assert_eq!(pair.holders(), ["node-a"], "{}", pair.lab.log_tails(30));
        }
    }
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn keepalived_takes_over_from_a_frozen_lb_and_gives_back() {
    let pair = lb_first(&common::named("ka-1"));
    pair.a.freeze().expect("it can be frozen");
    pair.wait("keepalived has the VIP", || pair.b.has_address("eth0", VIP).expect("ip runs"));
    wait_for_answers_of(&pair, &pair.b);
    let mac = pair.b.mac().expect("it has an interface");
    let report = arp::ask(&pair.client, VIP, Duration::from_secs(3)).expect("the client can ask");
    assert!(report.always_only(mac), "{report:?}");
    pair.a.thaw().expect("it can be thawed");
    pair.wait_for_owner(&pair.a);
    pair.wait("node-a alone has the VIP again", || pair.holders() == ["node-a"]);
    wait_for_answers_of(&pair, &pair.a);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn lb_takes_over_from_a_frozen_keepalived_and_gives_back() {
    let pair = keepalived_first(&common::named("ka-2"));
    pair.a.freeze().expect("it can be frozen");
    pair.wait_for_owner(&pair.b);
    // The frozen keepalived's kernel goes on answering too: that is its fault, not lb's.
    assert!(pair.answerers().contains(&"node-b".to_owned()));
    pair.a.thaw().expect("it can be thawed");
    pair.wait_for_backup(&pair.b);
    pair.wait("node-a alone has the VIP again", || pair.holders() == ["node-a"]);
    wait_for_answers_of(&pair, &pair.a);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn either_takes_over_at_once_when_the_other_stops() {
    let at_once = Duration::from_secs(2);
    let pair = lb_first(&common::named("ka-3"));
    pair.a.stop_daemon(Signal::SIGTERM, Duration::from_secs(5)).expect("it ends");
    pair.wait_for("keepalived has the VIP", at_once, || pair.holders() == ["node-b"]);

    let pair = keepalived_first(&common::named("ka-4"));
    // A backup heeds a farewell once it has listened long enough to know that there is no other owner.
    pair.wait("lb has heard four adverts", || {
        pair.b.status().is_ok_and(|status| status.adverts_received() >= 4)
    });
    pair.a.stop_daemon(Signal::SIGTERM, Duration::from_secs(5)).expect("it ends");
    pair.wait_for("lb owns the VIP", at_once, || pair.b.status().is_ok_and(|status| status.is_owner()));
    wait_for_answers_of(&pair, &pair.b);
}
