//! Tier 3: BFD beside slow adverts. The tutorial's pair, adverts every second, moves the VIP without waiting for them.

mod common;

use std::{
    fs,
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{Pair, failover_rounds, keepalived_with, lb_with, pair_under_load, shipped, start, watch};
use nix::sys::signal::Signal;
use xtask::lab::{Cable, Daemon, LabSpec, Node};

/// Milliseconds from the fault to the first answer, also where others use the processors: far from the three seconds that
/// adverts take, and from the 1.2 s of the skew. How long it takes on an idle machine is `cargo xtask bench failover`'s.
const TAKEOVER: f64 = 1_000.0;
const ROUNDS: usize = 2;

fn moves_in_time(fault: &str) {
    let rounds = failover_rounds("lb-1s", fault, ROUNDS);
    let waits: Vec<f64> = rounds
        .iter()
        .map(|round| round["known"]["milliseconds"].as_f64().unwrap_or_else(|| panic!("{round}")))
        .collect();
    for round in &rounds {
        assert_eq!(round["most_claimants"], 1, "two answered an ARP request: {round}");
        assert_eq!(round["claimants_after"], serde_json::json!(["node-b"]), "{round}");
    }
    assert!(waits.iter().all(|wait| *wait <= TAKEOVER), "{fault}: {waits:?} ms");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_frozen_owner_is_replaced_in_time() {
    moves_in_time("freeze");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn an_owner_whose_daemon_alone_is_frozen_is_replaced_in_time() {
    moves_in_time("freeze-daemon");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn an_owner_without_a_link_is_replaced_in_time() {
    moves_in_time("link-down");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn an_owner_that_is_cut_off_is_replaced_in_time() {
    moves_in_time("cut");
}

fn wait_for_session(pair: &Pair, node: &Node, up: bool) {
    pair.wait(&format!("the session of {} is up: {up}", node.name()), || {
        node.status().is_ok_and(|status| {
            let sessions = status.bfd_sessions();
            !sessions.is_empty() && sessions.values().all(|state| (*state == "up") == up)
        })
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn the_owner_does_not_notice_that_its_peer_is_frozen_or_killed() {
    let (pair, prober) = pair_under_load(&common::named("bfd-peer"));
    wait_for_session(&pair, &pair.a, true);
    let transitions = pair.a.status().expect("it answers").transitions();
    let owned = |what: &str| {
        let status = pair.a.status().expect("it answers");
        assert_eq!(
            (status.is_owner(), status.transitions()),
            (true, transitions),
            "{what}: {}",
            status.text()
        );
    };

    pair.b.freeze().expect("it can be frozen");
    wait_for_session(&pair, &pair.a, false);
    owned("frozen");
    pair.b.thaw().expect("it can be thawed");
    wait_for_session(&pair, &pair.a, true);
    wait_for_session(&pair, &pair.b, true);
    owned("thawed");
    pair.b.stop_daemon(Signal::SIGKILL, common::SOON).expect("it ends");
    wait_for_session(&pair, &pair.a, false);
    owned("killed");

    // What is steered to node-b's nginx is still delivered: no request fails for want of an owner.
    let after = Instant::now();
    watch(Duration::from_secs(1));
    owned("later");
    assert_eq!(prober.since(after).failures(), 0);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_keepalived_with_bfd_is_a_peer_like_any_other() {
    let keepalived = "bfd_instance lb {
  neighbor_ip 172.20.128.3
  source_ip 172.20.128.2
  min_rx 50
  min_tx 50
  multiplier 3
}
";
    let master = format!("{keepalived}{}", include_str!("fixtures/keepalived-master.conf"));
    let lb = lb_with(shipped("tutorial-b.toml"));
    let pair = Pair::of(start(&LabSpec::pair(&common::named("bfd-ka"), keepalived_with(&master), lb)));
    pair.wait("node-a alone has the VIP", || pair.holders() == ["node-a"]);
    wait_for_session(&pair, &pair.b, true);
    // Stable: the intervals that both agreed on are kept.
    watch(Duration::from_secs(2));
    wait_for_session(&pair, &pair.b, true);
    assert_eq!(pair.holders(), ["node-a"]);

    pair.a.stop_daemon(Signal::SIGKILL, common::SOON).expect("it ends");
    wait_for_session(&pair, &pair.b, false);
    pair.wait_for_owner(&pair.b);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn an_owner_that_is_cut_off_and_misses_its_witness_gives_the_vip_up() {
    let config = |file| {
        let config = shipped(file).replace("advert_interval", "witness = \"172.20.0.10\"\nadvert_interval");
        lb_with(config)
    };
    let spec = LabSpec::pair(&common::named("witness"), config("tutorial-a.toml"), config("tutorial-b.toml"));
    let pair = Pair::of(start(&spec));
    assert_eq!(pair.settle().name(), "node-a");
    assert!(pair.a.status().expect("it answers").text().contains(r#""answers":true"#));
    pair.lab.set_cable(&pair.a, Cable::Cut).expect("it can be cut");
    pair.wait_for_owner(&pair.b);
    pair.wait_for_backup(&pair.a);
    // As a backup it hears nobody for long, and claims nothing.
    watch(Duration::from_secs(6));
    assert!(pair.a.status().expect("it answers").all_are("backup"));
    assert!(pair.b.status().expect("it answers").is_owner());
    pair.lab.set_cable(&pair.a, Cable::Whole).expect("it can be mended");
    pair.wait_for_owner(&pair.a);
    assert_eq!(pair.settle().name(), "node-a");
}

/// FRR's daemons on a node, killed when dropped.
struct Frr(Vec<Child>);

impl Frr {
    /// zebra, which knows the interfaces, and bfdd with the peer.
    fn start(node: &Node, peer: Ipv4Addr) -> Self {
        let folder = node.path("/run/frr");
        fs::create_dir_all(&folder).expect("the node's /run is writable");
        let config = format!(
            "bfd\n peer {peer} local-address {} interface eth0\n  receive-interval 50\n  transmit-interval 50\n  \
             detect-multiplier 3\n  no shutdown\n",
            node.address()
        );
        fs::write(folder.join("bfdd.conf"), config).expect("the folder is there");
        fs::write(folder.join("zebra.conf"), "").expect("the folder is there");
        // They run as this user and make their sockets there.
        node.run(&["chown", "frr:frr", "/run/frr"]).expect("FRR is installed");
        let daemon = |name: &str| {
            let mut command = Command::new(format!("/usr/lib/frr/{name}"));
            command.args(["-P", "0", "--vty_socket", "/run/frr", "-z", "/run/frr/zserv.api"]);
            command.args(["-f", &format!("/run/frr/{name}.conf"), "-i", &format!("/run/frr/{name}.pid")]);
            if name == "bfdd" {
                command.args(["--bfdctl", "/run/frr/bfdd.sock"]);
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            node.spawn(command).expect("FRR is installed")
        };
        let zebra = daemon("zebra");
        let socket = folder.join("zserv.api");
        xtask::lab::wait_until("zebra listens", common::SOON, || socket.exists().then_some(()))
            .unwrap_or_else(|error| panic!("{error}"));
        Self(vec![zebra, daemon("bfdd")])
    }

    /// Kills bfdd.
    fn kill(&mut self) {
        let bfdd = self.0.last_mut().expect("there are two");
        bfdd.kill().and_then(|()| bfdd.wait()).expect("it is a child");
    }
}

impl Drop for Frr {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_bfd_of_frr_is_a_peer_like_any_other() {
    let lb = lb_with(shipped("tutorial-a.toml"));
    let pair = Pair::of(start(&LabSpec::pair(&common::named("bfd-frr"), lb, Daemon::None)));
    // The verifier takes its time.
    pair.wait_for("node-a owns the VIP", Duration::from_mins(1), || {
        pair.a.status().is_ok_and(|status| status.is_owner())
    });
    let mut frr = Frr::start(&pair.b, pair.a.address());
    wait_for_session(&pair, &pair.a, true);
    // Stable: the intervals that both agreed on are kept.
    watch(Duration::from_secs(2));
    wait_for_session(&pair, &pair.a, true);
    let seen =
        pair.b.run(&["vtysh", "--vty_socket", "/run/frr", "-c", "show bfd peers json"]).expect("FRR answers");
    let peers: serde_json::Value = serde_json::from_str(&seen).expect("it is JSON");
    let peer = &peers[0];
    assert_eq!((&peer["status"], &peer["diagnostic"]), (&"up".into(), &"ok".into()), "{seen}");
    assert_eq!(
        (&peer["remote-transmit-interval"], &peer["remote-detect-multiplier"]),
        (&50.into(), &3.into()),
        "{seen}"
    );

    frr.kill();
    wait_for_session(&pair, &pair.a, false);
    assert!(pair.a.status().expect("it answers").is_owner(), "a backup's end is nothing to the owner");
    assert_eq!(pair.holders(), ["node-a"]);
}
