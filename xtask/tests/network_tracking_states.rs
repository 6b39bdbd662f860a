//! Tier 3: what is tracked, groups, notification and the operator's orders, with two real nodes.

mod common;

use std::{
    fs,
    time::{Duration, Instant},
};

use common::{Pair, SOON, lb, lb_with, shipped, start};
use nix::sys::signal::Signal;
use xtask::lab::{LabSpec, Node, VIP, probe::load::LoadProber};

/// Of the tutorial's configuration.
const SCRIPT: &str = "track_scripts = [\"chk_nginx\"]";

/// One of the tutorial's configurations with other trackers than its script, whose table goes too, and with `more` at its
/// end.
fn config(file: &str, tracking: &str, more: &str) -> String {
    let text = shipped(file);
    let script =
        text.find("[[track_script]]").expect("the script")..text.find("[[virtual_router]]").expect("it");
    let mut text = text.clone();
    text.replace_range(script, "");
    assert!(text.contains(SCRIPT));
    text.replace(SCRIPT, tracking) + more
}

/// The pair under these, ready.
fn pair(name: &str, tracking: &str, more: &str) -> Pair {
    let config = |file| lb_with(config(file, tracking, more));
    let pair = Pair::of(start(&LabSpec::pair(name, config("tutorial-a.toml"), config("tutorial-b.toml"))));
    pair.settle();
    pair
}

/// Runs `lb vip …` on a node; its exit code and what it says.
fn vip(node: &Node, words: &[&str]) -> (Option<i32>, String) {
    let path = lb();
    let command = [&[path.to_str().expect("a path in UTF-8"), "vip"], words].concat();
    let output = node.output(&command).expect("it can be run");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// The states of a node's virtual routers, in the order of their names.
fn states(node: &Node) -> Vec<String> {
    let status = node.status().expect("lb answers");
    status.virtual_routers().into_values().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_killed_process_is_noticed_at_once_and_the_vip_handed_over() {
    let more = "[[track_process]]\nname = \"nginx\"\ncommand = \"nginx\"\n";
    let pair = pair("t-process", "track_processes = [\"nginx\"]", more);
    pair.wait_for_owner(&pair.a);
    let prober = LoadProber::start(&pair.client, VIP, 80);
    prober.wait_for_answer(SOON).expect("the VIP answers");
    let killed = Instant::now();
    pair.a.stop_web().expect("it can be killed");
    pair.wait("node-a is in fault", || states(&pair.a) == ["fault"]);
    let reason = pair.a.status().expect("lb answers").text();
    let watched = r#"{"state":"track process nginx: 0 running","effect":"fault"}"#;
    assert!(reason.contains(watched), "{reason}");
    pair.wait_for_owner(&pair.b);
    pair.wait("node-b alone serves", || {
        let report = prober.since(Instant::now().checked_sub(Duration::from_millis(300)).expect("a past"));
        report.failures() == 0 && report.answers() > 0
    });
    let report = prober.since(killed);
    assert!(report.failing_for < Duration::from_secs(1), "{report:?}");

    pair.a.start_web().expect("it can be started");
    pair.wait_for_owner(&pair.a);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn interfaces_files_and_weights_decide_who_owns() {
    let pair = pair("t-weights", "", "");
    pair.wait_for_owner(&pair.a);
    pair.a.run(&["ip", "link", "add", "t0", "up", "type", "veth", "peer", "name", "t1"]).expect("a veth");
    pair.a.run(&["ip", "link", "set", "t1", "up"]).expect("it is there");
    let more = "[[track_file]]\nname = \"load\"\npath = \"/run/load\"\nweight = -1\n";
    let tracking = "track_interfaces = [\"t0\"]\ntrack_files = [\"load\"]";
    pair.a.reload(&config("tutorial-a.toml", tracking, more)).expect("it holds");
    assert_eq!(states(&pair.a), ["owner"], "other trackers do not disturb a virtual router");

    // 200 − 150 is less than node-b's 100.
    fs::write(pair.a.path("/run/load"), "150\n").expect("a file");
    pair.wait_for_owner(&pair.b);
    pair.wait_for_backup(&pair.a);
    fs::write(pair.a.path("/run/load"), "0\n").expect("a file");
    pair.wait_for_owner(&pair.a);

    pair.a.run(&["ip", "link", "set", "t1", "down"]).expect("it is there");
    pair.wait_for_owner(&pair.b);
    pair.wait("node-a is in fault", || states(&pair.a) == ["fault"]);
    pair.a.run(&["ip", "link", "set", "t1", "up"]).expect("it is there");
    pair.wait_for_owner(&pair.a);
}

/// Two virtual routers in a group, both told to a file and a FIFO.
fn grouped(file: &str) -> String {
    let source = shipped(file);
    let address = |key: &str| {
        let line = source.lines().find(|line| line.starts_with(key)).expect("the key");
        line.to_owned()
    };
    let (priority, unicast) = (address("priority"), format!("{}\n{}", address("source"), address("peers")));
    let more = format!(
        "[[virtual_router]]\nname = \"VI_2\"\ninterface = \"eth0\"\nrouter_id = 34\n{priority}\n\
         vips = [\"172.20.128.5/24\"]\n[virtual_router.unicast]\n{unicast}\n\
         [daemon]\nnotify_fifo = \"/run/notify\"\n\
         [[sync_group]]\nname = \"VG_1\"\nrouters = [\"VI_1\", \"VI_2\"]\n[sync_group.notify]\nuser = \"root\"\n\
         any = [\"sh\", \"-c\", \"echo $@ >> /run/told\", \"told\"]\n"
    );
    config(file, "", &more)
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_group_moves_as_one_by_order_and_everybody_is_told() {
    let node = |file| lb_with(grouped(file));
    let pair = Pair::of(start(&LabSpec::pair("t-group", node("tutorial-a.toml"), node("tutorial-b.toml"))));
    pair.settle();
    pair.wait_for_owner(&pair.a);

    let (code, said) = vip(&pair.a, &["release", "VI_1"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("VI_1: 172.20.128.3 took the VIPs over\n"), "{said}");
    pair.wait("both have moved", || {
        states(&pair.b) == ["owner", "owner"] && states(&pair.a) == ["backup", "backup"]
    });
    let (code, said) = vip(&pair.a, &["release", "--all"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("VI_2: not owner here"), "{said}");

    let (code, said) = vip(&pair.a, &["claim", "VI_2"]);
    assert_eq!(code, Some(0), "{said}");
    pair.wait("both have moved back", || {
        states(&pair.a) == ["owner", "owner"] && states(&pair.b) == ["backup", "backup"]
    });
    let (code, said) = vip(&pair.a, &["claim", "VI_3"]);
    assert_eq!(
        (code, said.as_str()),
        (Some(1), "lb: no virtual router is named \"VI_3\"; there are VI_1, VI_2\n")
    );

    // Nobody to take over.
    pair.b.stop_daemon(Signal::SIGTERM, SOON).expect("it ends");
    let (code, said) = vip(&pair.a, &["release", "VI_1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nobody took the VIPs over: this node goes on as owner"), "{said}");

    let told = || fs::read_to_string(pair.a.path("/run/told")).unwrap_or_default();
    let states =
        ["BACKUP", "MASTER", "BACKUP", "MASTER"].map(|state| format!("GROUP VG_1 {state} 200\n")).concat();
    pair.wait("the group's command has run", || told().starts_with(&states));
    // One line; the FIFO, which lb has open, does not end.
    let first = pair.a.run(&["head", "-n", "1", "/run/notify"]).expect("a line waits");
    assert_eq!(first, "INSTANCE \"VI_1\" BACKUP 200\n");
    pair.a.stop_daemon(Signal::SIGTERM, SOON).expect("it ends");
    assert!(told().ends_with("GROUP VG_1 STOP 200\n"), "{}", told());
}
