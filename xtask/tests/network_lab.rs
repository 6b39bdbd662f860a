//! Tier 3: the lab itself, without `lb`.

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{EXCHANGE, Pair, SOON, keepalived_with, start, xtask};
use nix::sys::signal::{Signal, kill};
use xtask::lab::{
    BIG_PAGE_PATH, Daemon, Lab, LabError, LabSpec, NODE_A, NODE_B, UPLOAD_PATH, VIP, big_page,
    probe::{arp, http, load::LoadProber, udp},
    wait_until,
};

const MASTER: &str = include_str!("fixtures/keepalived-master.conf");
const SLAVE: &str = include_str!("fixtures/keepalived-slave.conf");

fn bare(name: &str) -> Pair {
    Pair::of(start(&LabSpec::pair(name, Daemon::None, Daemon::None)))
}

fn keepalived_pair(name: &str) -> Pair {
    let spec = LabSpec::pair(name, keepalived_with(MASTER), keepalived_with(SLAVE));
    let pair = Pair::of(start(&spec));
    pair.wait("node-a alone has the VIP", || pair.holders() == ["node-a"]);
    pair
}

/// Every namespace of every process of a lab.
fn namespaces(lab: &Lab) -> Vec<String> {
    let inits = lab.state().inits.values().copied().chain([lab.state().switch]);
    inits
        .flat_map(|init| ["net", "mnt", "pid", "uts"].map(|kind| format!("/proc/{init}/ns/{kind}")))
        .map(|path| fs::read_link(&path).expect("the node lives").display().to_string())
        .collect()
}

/// Whether any process is still in one of `namespaces`.
fn any_process_in(namespaces: &[String]) -> bool {
    let processes = fs::read_dir("/proc").expect("/proc is there").flatten();
    processes.map(|entry| entry.path().join("ns")).any(|folder| {
        ["net", "mnt", "pid", "uts"].iter().any(|kind| {
            let link = fs::read_link(folder.join(kind));
            link.is_ok_and(|link| namespaces.contains(&link.display().to_string()))
        })
    })
}

fn assert_nothing_left(namespaces: &[String]) {
    wait_until("no process of the lab is left", SOON, || (!any_process_in(namespaces)).then_some(()))
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn every_node_reaches_every_nginx_and_each_has_its_own_page() {
    let pair = bare(&common::named("pages"));
    for from in pair.lab.nodes() {
        for (address, node, title) in [(NODE_A, "node-a", "主机"), (NODE_B, "node-b", "从机")] {
            let answer = http::request(&from, address, 80, "/", None, EXCHANGE).expect("nginx answers");
            assert_eq!((answer.status, answer.node.as_deref()), (200, Some(node)));
            let page = String::from_utf8(answer.body).expect("the page is utf-8");
            assert!(page.contains(&format!("<title>{title}</title>")), "{page}");
        }
    }
    let upload = vec![b'x'; 3_000_000];
    let answer = http::request(&pair.client, NODE_B, 80, UPLOAD_PATH, Some(&upload), EXCHANGE);
    assert_eq!(answer.expect("nginx takes it").body, b"3000000");
    let answer = http::request(&pair.client, NODE_A, 80, BIG_PAGE_PATH, None, EXCHANGE);
    assert!(answer.expect("nginx sends it").body == big_page());
    pair.assert_checksums_were_right();
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_node_has_its_own_processes_run_folder_host_name_and_bpffs() {
    let pair = bare(&common::named("private"));
    assert_eq!(pair.a.run(&["hostname"]).expect("it runs").trim(), "node-a");
    pair.a.run(&["pidof", "nginx"]).expect("the tutorial's check passes");
    pair.client.run(&["pidof", "nginx"]).expect_err("the client has no nginx, and does not see the others'");
    pair.a.run(&["touch", "/run/only-here", "/sys/fs/bpf"]).expect("both are writable");
    pair.a.run(&["mkdir", "/sys/fs/bpf/lb"]).expect("the bpffs is writable");
    for path in ["/run/only-here", "/sys/fs/bpf/lb"] {
        assert!(pair.a.path(path).exists());
        assert!(!pair.b.path(path).exists() && !Path::new(path).exists(), "{path} is not private");
    }
    let devices = pair.a.run(&["ls", "/sys/class/net"]).expect("it runs");
    assert_eq!(devices.split_whitespace().collect::<Vec<_>>(), ["eth0", "lo"]);
    let status = pair.a.output(&["sh", "-c", "exit 7"]).expect("it runs").status;
    assert_eq!(status.code(), Some(7));
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_frozen_node_runs_nothing_but_its_kernel_still_answers() {
    let pair = bare(&common::named("freeze"));
    pair.a.freeze().expect("it can be frozen");
    assert!(pair.a.is_frozen());
    let mac = pair.a.mac().expect("it has an interface");
    let report = arp::ask(&pair.client, NODE_A, Duration::from_secs(1)).expect("the client can ask");
    assert!(report.always_only(mac), "{report:?}");
    let frozen = http::request(&pair.client, NODE_A, 80, "/", None, Duration::from_millis(500));
    frozen.expect_err("nginx is stopped");
    pair.a.thaw().expect("it can be thawed");
    assert!(!pair.a.is_frozen());
    http::request(&pair.client, NODE_A, 80, "/", None, EXCHANGE).expect("nginx runs again");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_killed_nginx_can_be_started_again() {
    let pair = bare(&common::named("nginx"));
    pair.a.stop_web().expect("it ends");
    http::request(&pair.client, NODE_A, 80, "/", None, EXCHANGE).expect_err("nobody listens");
    pair.a.start_web().expect("it starts");
    pair.wait("it answers", || http::request(&pair.client, NODE_A, 80, "/", None, EXCHANGE).is_ok());
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn the_load_prober_sees_who_answers_and_how_long_nobody_does() {
    let pair = bare(&common::named("load"));
    let prober = LoadProber::start(&pair.client, NODE_A, 80);
    prober.wait_for_answer(SOON).expect("nginx answers");
    let before = Instant::now();
    common::watch(Duration::from_secs(1));
    let report = prober.since(before);
    assert_eq!(report.failures(), 0, "{report:?}");
    assert!(report.answers() > 100 && report.share("node-a") > 0.999, "{report:?}");

    let frozen = Instant::now();
    pair.a.freeze().expect("it can be frozen");
    common::watch(Duration::from_millis(1200));
    pair.a.thaw().expect("it can be thawed");
    prober.wait_for_answer(SOON).expect("nginx answers again");
    let report = prober.since(frozen);
    assert!(report.longest_gap > Duration::from_secs(1), "{report:?}");
    assert!(report.failures() > 100, "{report:?}");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn udp_is_echoed_by_the_node_that_was_asked() {
    let pair = bare(&common::named("udp"));
    let _server = udp::EchoServer::start(&pair.b, NODE_B, 53).expect("port 53 is free on the node");
    for size in [0, 1, 1400, 9000] {
        let payload = vec![b'u'; size];
        let from = udp::ask(&pair.client, NODE_B, 53, &payload, EXCHANGE).expect("the client can ask");
        assert_eq!(from.as_deref(), Some("node-b"), "{size} bytes");
    }
    let nobody = udp::ask(&pair.client, NODE_A, 53, b"x", Duration::from_millis(300));
    assert_eq!(nobody.expect("the client can ask"), None);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn two_labs_stand_side_by_side_and_one_name_is_one_lab() {
    let one = bare(&common::named("side-1"));
    let two = bare(&common::named("side-2"));
    assert_eq!(one.lab.state().spec.nodes.len(), two.lab.state().spec.nodes.len());
    two.client.run(&["ip", "address", "add", "172.20.0.99/16", "dev", "eth0"]).expect("it runs");
    let other = arp::ask_once(&one.client, [172, 20, 0, 99].into()).expect("the client can ask");
    assert!(other.is_empty(), "the labs see each other: {other:?}");
    let again =
        Lab::start(&LabSpec::pair(&common::named("side-1"), Daemon::None, Daemon::None), xtask(), |_| ());
    let error = again.expect_err("the name is taken").to_string();
    assert!(error.contains("already up"), "{error}");
    assert_eq!(one.get_from(NODE_A), "node-a");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn nothing_is_left_after_a_lab_ends() {
    let pair = bare(&common::named("end"));
    let namespaces = namespaces(&pair.lab);
    assert!(any_process_in(&namespaces));
    let folder = Path::new("/run/lb-lab").join(common::named("end"));
    assert!(folder.exists());
    drop(pair);
    assert_nothing_left(&namespaces);
    assert!(!folder.exists());
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn nothing_is_left_when_the_supervisor_is_killed_even_of_a_frozen_lab() {
    let pair = bare(&common::named("crash"));
    let namespaces = namespaces(&pair.lab);
    pair.a.freeze().expect("it can be frozen");
    let supervisor = nix::unistd::Pid::from_raw(pair.lab.state().supervisor);
    kill(supervisor, Signal::SIGKILL).expect("it lives");
    drop(pair);
    assert_nothing_left(&namespaces);
    // The next command removes what it found no time to remove.
    let open = Lab::open(&common::named("crash")).expect_err("it is gone");
    assert!(matches!(open, LabError::NotUp(_)), "{open}");
    assert!(!Path::new("/run/lb-lab").join(common::named("crash")).exists());
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_detached_lab_outlives_its_starter_until_down() {
    let pair = bare(&common::named("detach"));
    let namespaces = namespaces(&pair.lab);
    pair.lab.detach().expect("it detaches");
    let status = Command::new(xtask())
        .args([
            "lab",
            "exec",
            "--name",
            &common::named("detach"),
            "client",
            "--",
            "ping",
            "-c1",
            "-W2",
            "172.20.128.2",
        ])
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("it runs").success());
    let again = Lab::open(&common::named("detach")).expect("it is up");
    again.node("node-c").expect_err("there is none");
    assert!(Lab::down(&common::named("detach")).expect("it can be ended"));
    assert_nothing_left(&namespaces);
    assert!(!Lab::down(&common::named("detach")).expect("a second time does no harm"));
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn keepalived_leaves_two_owners_after_a_freeze() {
    // The fault that this project exists for, and the proof that the ARP probe sees it.
    let pair = keepalived_pair(&common::named("keepalived"));
    assert_eq!(pair.answerers(), ["node-a"]);
    assert_eq!(pair.get("/").0, "node-a");
    pair.a.freeze().expect("it can be frozen");
    pair.wait("node-b has the VIP too", || pair.holders() == ["node-a", "node-b"]);
    assert_eq!(pair.answerers(), ["node-a", "node-b"]);
    pair.a.thaw().expect("it can be thawed");
    pair.wait("node-a alone has the VIP again", || pair.holders() == ["node-a"]);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_daemon_can_be_killed_and_started_again() {
    let pair = keepalived_pair(&common::named("restart"));
    pair.a.stop_daemon(Signal::SIGKILL, SOON).expect("it ends");
    pair.wait("node-b has the VIP", || pair.b.has_address("eth0", VIP).expect("ip runs"));
    pair.a.start_daemon().expect("it starts");
    pair.wait("node-a alone has the VIP", || pair.holders() == ["node-a"]);
    assert!(pair.a.log_tail(50).contains("MASTER"), "{}", pair.a.log_tail(50));
    pair.a.stop_daemon(Signal::SIGTERM, SOON).expect("it ends");
}
