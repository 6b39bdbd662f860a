//! Tier 3: a configuration is changed while the daemon serves: the whole of it, or nothing.

mod common;

use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use common::{lb, pair_under_load, watch};
use xtask::lab::{Node, probe::arp};

const CONFIG: &str = "/run/lab/lb.toml";

/// Replaces the configuration of a node by what `change` makes of it, and has the daemon read it.
fn reload(node: &Node, change: impl FnOnce(&str) -> String) -> Result<String, String> {
    let path = node.path(CONFIG);
    let text = fs::read_to_string(&path).expect("the lab wrote it");
    fs::write(&path, change(&text)).expect("it can be written");
    let lb = lb();
    let output = node.output(&[lb.to_str().expect("a readable path"), "reload"]).expect("lb runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_wrong_configuration_changes_nothing_and_the_right_one_loses_nothing() {
    let (pair, prober) = pair_under_load(&common::named("reload"));
    let before = Instant::now();

    let same = reload(&pair.a, str::to_owned).expect("nothing is wrong");
    assert!(same.contains("has not changed"), "{same}");

    for (right, wrong, value) in [
        ("priority = 200", "priority = 2000", "2000"),
        ("interface = \"eth0\"", "interface = \"eth9\"", "eth9"),
        ("172.20.128.4/24", "10.9.9.9/24", "10.9.9.9"),
    ] {
        let original = fs::read_to_string(pair.a.path(CONFIG)).expect("the lab wrote it");
        let refused = reload(&pair.a, |text| text.replace(right, wrong)).expect_err("it is wrong");
        assert!(refused.contains("lb.toml:") && refused.contains(value), "names place and value: {refused}");
        fs::write(pair.a.path(CONFIG), original).expect("it can be written");
        assert!(pair.a.status().expect("it answers").is_owner());
    }

    // Another service beside the first, and another share in the first.
    let done = reload(&pair.a, |text| {
        text.replace("mode = \"dr\"", "mode = \"dr\"\nweight = 1")
            + "\n[[service]]\nname = \"second\"\nvip = \"172.20.128.4\"\nport = 81\nprotocol = \"tcp\"\n\
               [[service.backend]]\naddress = \"172.20.128.3\"\nmode = \"dr\"\n"
    })
    .expect("it is right");
    assert!(done.contains("in force"), "{done}");
    let services: Vec<String> =
        pair.a.status().expect("it answers").backends().into_iter().map(|backend| backend.service).collect();
    assert!(services.iter().any(|name| name == "second"), "{services:?}");

    watch(Duration::from_secs(2));
    let report = prober.since(before);
    assert_eq!(report.failures(), 0, "{report:?}\n{}", pair.lab.log_tails(30));
    assert_eq!(pair.holders(), ["node-a"]);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn weight_zero_takes_a_backend_out_and_a_weight_brings_it_back() {
    let (pair, prober) = pair_under_load(&common::named("reload-weight"));
    let share_of_b = |change: &dyn Fn(&str) -> String| {
        reload(&pair.a, |text| change(text)).expect("it is right");
        let start = Instant::now();
        watch(Duration::from_secs(1));
        let report = prober.since(start);
        assert_eq!(report.failures(), 0, "{report:?}");
        report.share("node-b")
    };
    let last = "address = \"172.20.128.3\"";
    assert!(share_of_b(&|text| text.replace(last, &format!("{last}\nweight = 0"))) < 0.01);
    let share = share_of_b(&|text| text.replace("weight = 0", "weight = 3"));
    assert!((0.65..=0.85).contains(&share), "three of four: {share}");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn another_priority_moves_the_vip_by_the_rules_of_vrrp() {
    let (pair, _prober) = pair_under_load(&common::named("reload-priority"));
    reload(&pair.a, |text| text.replace("priority = 200", "priority = 50")).expect("it is right");
    pair.wait_for_owner(&pair.b);
    pair.wait_for_backup(&pair.a);
    pair.wait_until_alone("node-b");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn an_owner_with_another_priority_and_one_more_vip_stays_owner() {
    let (pair, prober) = pair_under_load(&common::named("reload-owner"));
    let more = Ipv4Addr::new(172, 20, 128, 5);
    let before = Instant::now();
    reload(&pair.a, |text| {
        let vip = format!("priority = 210\npreempt = false\nexcluded_vips = [\"{more}/24\"]");
        text.replace("priority = 200", &vip)
    })
    .expect("it is right");
    let mac = pair.a.mac().expect("it has an interface");
    pair.wait("node-a answers for the new VIP", || {
        arp::ask_once(&pair.client, more).is_ok_and(|all| all.into_iter().eq([mac]))
    });
    watch(Duration::from_secs(2));
    for node in [&pair.a, &pair.b] {
        let log = node.log_tail(50);
        let moves = log.matches("owner of the VIPs").count();
        assert_eq!(moves, usize::from(node.name() == "node-a"), "{log}");
    }
    let text = pair.a.status().expect("it answers").text();
    assert!(text.contains(r#""priority":210"#), "{text}");
    assert_eq!(pair.holders(), ["node-a"]);
    let report = prober.since(before);
    assert_eq!(report.failures(), 0, "{report:?}\n{}", pair.lab.log_tails(30));
}
