//! Tier 3: the VIP as an address of its owner, whatever others do to it.

mod common;

use std::{
    fs::File,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{Pair, SOON, lb_with, pair_under_load, shipped, start};
use nix::sys::signal::Signal;
use xtask::lab::{
    LabSpec, NODE_A, NODE_B, Node, VIP, XdpMode,
    probe::{arp, load::LoadProber},
    v6, wait_until, with_xdp,
};

/// How long a VIP may be gone after somebody deleted it. The machine is shared, so that one of several times may be longer.
const GAP: Duration = Duration::from_millis(50);

/// A daemon starts within this time, however busy the machine is with other labs.
const STARTED: Duration = SOON.saturating_mul(5);

/// `ip monitor`, which writes down when the addresses of a node changed, by its clock.
struct AddressLog {
    child: Child,
    text: tempfile::NamedTempFile,
}

/// A VIP came or went, so many microseconds after midnight.
#[derive(Debug)]
struct Moment {
    came: bool,
    at: Duration,
}

impl AddressLog {
    fn start(node: &Node) -> Self {
        let text = tempfile::NamedTempFile::new().expect("a file");
        let mut command = Command::new("ip");
        command.args(["-4", "-oneline", "-ts", "monitor", "address"]);
        command.stdin(Stdio::null()).stdout(File::create(text.path()).expect("a file")).stderr(Stdio::null());
        let log = Self { child: node.spawn(command).expect("ip starts"), text };
        // It listens once it tells of a change.
        wait_until("ip monitor listens", SOON, || {
            node.run(&["ip", "address", "replace", "192.0.2.77/32", "dev", "lo"]).expect("ip runs");
            node.run(&["ip", "address", "del", "192.0.2.77/32", "dev", "lo"]).expect("ip runs");
            log.read().contains("192.0.2.77").then_some(())
        })
        .expect("it starts");
        log
    }

    fn read(&self) -> String {
        std::fs::read_to_string(self.text.path()).expect("it can be read")
    }

    /// What happened to `address` on eth0.
    fn moments(&self, address: &str) -> Vec<Moment> {
        let text = self.read();
        let about = text.lines().filter(|line| line.contains("eth0") && line.contains(address));
        about
            .map(|line| {
                // [2026-11-23T10:07:55.123456] Deleted 2: eth0    inet 172.20.128.4/24 …
                let clock = line.split(['T', ']']).nth(1).expect("a time");
                let parts: Vec<f64> = clock.split(':').map(|part| part.parse().expect("a number")).collect();
                let seconds = parts[0] * 3_600.0 + parts[1] * 60.0 + parts[2];
                Moment { came: !line.contains("Deleted"), at: Duration::from_secs_f64(seconds) }
            })
            .collect()
    }

    /// How long `address` was gone, each time.
    fn gaps(&self, address: &str) -> Vec<Duration> {
        let moments = self.moments(address);
        let pairs = moments.windows(2).filter(|pair| !pair[0].came && pair[1].came);
        pairs.map(|pair| pair[1].at.saturating_sub(pair[0].at)).collect()
    }
}

impl Drop for AddressLog {
    fn drop(&mut self) {
        // It may have ended with the lab.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `address` came back `times` times; how long it was gone.
fn wait_for_gaps(pair: &Pair, log: &AddressLog, address: &str, times: usize) -> Vec<Duration> {
    pair.wait(&format!("{address} is back"), || log.gaps(address).len() >= times);
    log.gaps(address)
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_vip_that_somebody_deletes_is_back_at_once() {
    let (pair, prober) = pair_under_load(&common::named("deleted"));
    let log = AddressLog::start(&pair.a);
    let vip = format!("{VIP}/24");
    let start = Instant::now();
    for times in 1..=10 {
        pair.a.run(&["ip", "address", "del", &vip, "dev", "eth0"]).expect("ip runs");
        wait_for_gaps(&pair, &log, &vip, times);
    }
    let mut gaps = log.gaps(&vip);
    println!("gone for {gaps:?}");
    gaps.sort_unstable();
    assert!(gaps[7] <= GAP, "{gaps:?}");
    let served = prober.since(start);
    assert_eq!(served.failures(), 0, "{served:?}");
    pair.wait_until_alone("node-a");
    assert_eq!(pair.answerers(), ["node-a"]);
}

/// The tutorial's pair, with `keys` in the virtual router and `tables` at the end of it.
fn pair_with(name: &str, xdp: XdpMode, keys: &str, tables: &str) -> Pair {
    let config = |file| {
        let text =
            shipped(file).replace("[virtual_router.unicast]", &format!("{keys}\n[virtual_router.unicast]"));
        let text = text.replace("# What the tutorial", &format!("{tables}\n# What the tutorial"));
        lb_with(with_xdp(&text, xdp, &["eth0"]))
    };
    let spec = LabSpec::pair(name, config("tutorial-a.toml"), config("tutorial-b.toml")).with_peer_xdp(xdp);
    let pair = Pair::of(start(&spec));
    pair.settle();
    pair
}

fn shows(node: &Node, words: &[&str], text: &str) -> bool {
    node.run(words).is_ok_and(|shown| shown.contains(text))
}

const RULES: &[&str] = &["ip", "rule", "show"];
const OWN_ROUTES: &[&str] = &["ip", "-4", "route", "show", "table", "all", "proto", "112"];

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn everything_that_belongs_to_the_vip_follows_it_and_comes_back() {
    let keys = "vips = [\"172.20.128.4/24\"]";
    let v6_vip = v6([172, 20, 128, 44].into()).to_string();
    let more = format!(
        "{keys}\nexcluded_vips = [{{ address = \"172.20.128.44/24\", label = \"eth0:more\" }}, \"{v6_vip}/112\"]"
    );
    let route = "[[virtual_router.route]]\nto = \"192.0.2.0/24\"\nvia = \"172.20.0.1\"\nsource = \"172.20.128.4\"\n\
                 [[virtual_router.route]]\nto = \"198.51.100.0/24\"\ninterface = \"eth0\"\ntable = 77\nmetric = 5\n\
                 [[virtual_router.rule]]\nfrom = \"172.20.128.4\"\ntable = 77\npriority = 100\n";
    let own = "[[route]]\nto = \"203.0.113.0/24\"\nvia = \"172.20.0.1\"\n\
               [[address]]\naddress = \"10.9.9.1/24\"\ninterface = \"eth0\"\n";
    let config = |file| {
        let text = shipped(file).replace(keys, &more);
        // The backends' networks are those of the client.
        lb_with(text.replace("# What the tutorial", &format!("{route}{own}# What the tutorial")))
    };
    let spec = LabSpec::pair(&common::named("routes"), config("tutorial-a.toml"), config("tutorial-b.toml"));
    let pair = Pair::of(start(&spec.with_ipv6()));
    pair.settle();
    let address = ["ip", "address", "show", "dev", "eth0"];
    let follows = |node: &Node| {
        [
            shows(node, OWN_ROUTES, "192.0.2.0/24 via 172.20.0.1 dev eth0 src 172.20.128.4"),
            shows(node, OWN_ROUTES, "198.51.100.0/24 dev eth0 table 77 scope link metric 5"),
            shows(node, &address, "172.20.128.44/24 scope global secondary noprefixroute eth0:more")
                || shows(node, &address, "172.20.128.44/24 scope global noprefixroute eth0:more"),
            shows(node, &address, &format!("{v6_vip}/112")),
            shows(node, RULES, "from 172.20.128.4 lookup 77 proto 112"),
        ]
    };
    let stays = |node: &Node| {
        shows(node, OWN_ROUTES, "203.0.113.0/24 via 172.20.0.1 dev eth0")
            && shows(node, &address, "10.9.9.1/24")
    };
    let all_at = |node: &Node| follows(node) == [true; 5];
    pair.wait("node-a has all of it", || all_at(&pair.a));
    assert_eq!(follows(&pair.b), [false; 5]);
    assert!(stays(&pair.a) && stays(&pair.b));
    let macs = arp::ask_once(&pair.client, [172, 20, 128, 44].into()).expect("the client can ask");
    assert_eq!(macs.into_iter().collect::<Vec<_>>(), [pair.a.mac().expect("it has one")]);

    for line in [
        "ip route del 192.0.2.0/24",
        "ip route del 198.51.100.0/24 table 77",
        "ip rule del priority 100",
        "ip address del 172.20.128.4/24 dev eth0",
        "ip address del 172.20.128.44/24 dev eth0",
        &format!("ip -6 address del {v6_vip}/112 dev eth0"),
        "ip route del 203.0.113.0/24",
        "ip address del 10.9.9.1/24 dev eth0",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        pair.a.run(&words).expect("ip runs");
        pair.wait(&format!("all is back after {line}"), || all_at(&pair.a) && stays(&pair.a));
    }

    // Everything but the node's own addresses: VIPs are not lost with the first of their network.
    pair.a.run(&["ip", "-4", "address", "flush", "dev", "eth0", "to", "172.20.128.4/30"]).expect("ip runs");
    pair.wait("all is back after a flush", || all_at(&pair.a));

    pair.a.run(&["ip", "link", "set", "eth0", "down"]).expect("ip runs");
    pair.wait_for_owner(&pair.b);
    pair.wait("node-b has all of it", || all_at(&pair.b));
    pair.a.run(&["ip", "link", "set", "eth0", "up"]).expect("ip runs");
    pair.wait_for_owner(&pair.a);
    pair.wait("node-a has all of it again", || all_at(&pair.a) && stays(&pair.a));
    pair.wait("node-b has none of it", || follows(&pair.b) == [false; 5]);

    pair.a.stop_daemon(Signal::SIGTERM, SOON).expect("it ends");
    assert_eq!(follows(&pair.a), [false; 5]);
    assert_eq!(pair.a.run(OWN_ROUTES).expect("ip runs").trim(), "");
    assert!(!shows(&pair.a, &address, "10.9.9.1/24"));
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn routes_of_a_killed_daemon_are_its_successors() {
    let route = "[[virtual_router.route]]\nto = \"192.0.2.0/24\"\nvia = \"172.20.0.1\"\n";
    let pair = pair_with(&common::named("left"), XdpMode::Auto, "", route);
    pair.wait("node-a has the route", || shows(&pair.a, OWN_ROUTES, "192.0.2.0/24"));
    pair.a.stop_daemon(Signal::SIGKILL, SOON).expect("it ends");
    pair.a
        .run(&["ip", "route", "add", "198.51.100.0/24", "via", "172.20.0.1", "proto", "112"])
        .expect("ip runs");
    pair.a.start_daemon().expect("it starts");
    pair.wait_for("what is not wanted goes", STARTED, || !shows(&pair.a, OWN_ROUTES, "198.51.100.0/24"));
    pair.wait_for_owner(&pair.a);
    pair.wait("node-a has the route", || shows(&pair.a, OWN_ROUTES, "192.0.2.0/24"));
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn virtual_mac_moves_with_the_vip_and_clients_notice_nothing_native() {
    virtual_mac_moves("vmac-native", XdpMode::Native);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn virtual_mac_moves_with_the_vip_and_clients_notice_nothing_generic() {
    virtual_mac_moves("vmac-generic", XdpMode::Generic);
}

fn virtual_mac_moves(name: &str, xdp: XdpMode) {
    const MAC: &str = "00:00:5e:00:01:21";
    let pair = pair_with(&common::named(name), xdp, "virtual_mac = true", "");
    let prober = LoadProber::start(&pair.client, VIP, 80);
    prober.wait_for_answer(SOON).expect("the VIP answers");
    let neighbour = || {
        let shown = pair.client.run(&["ip", "neighbour", "show", &VIP.to_string()]).expect("ip runs");
        assert!(shown.contains(MAC), "{shown}");
    };
    let who = |address| -> Vec<String> {
        let macs = arp::ask_once(&pair.client, address).expect("the client can ask");
        macs.into_iter().map(|mac| mac.to_string()).collect()
    };
    let own = |node: &Node| vec![node.mac().expect("it has one").to_string()];
    neighbour();
    assert!(shows(&pair.a, &["ip", "-4", "address", "show", "dev", "vrrp.33"], "172.20.128.4/24"));
    assert!(!pair.a.has_address("eth0", VIP).expect("ip runs"));
    // Each address has one MAC address, whoever owns the VIP.
    assert_eq!(who(VIP), [MAC]);
    assert_eq!((who(NODE_A), who(NODE_B)), (own(&pair.a), own(&pair.b)));
    pair.client.run(&["ping", "-c2", "-i0.2", "-W2", &VIP.to_string()]).expect("ping is answered");
    let link = ["ip", "link", "show", "dev", "vrrp.33"];
    assert!(shows(&pair.b, &link, "state DOWN"), "the backup's says nothing");
    let start = Instant::now();
    let before = pair.b.status().expect("it answers");
    assert!(before.all_are("backup"));

    pair.a.stop_daemon(Signal::SIGTERM, SOON).expect("it ends");
    pair.wait_for_owner(&pair.b);
    prober.wait_for_answer(SOON).expect("the VIP answers");
    let gap = prober.since(start).longest_gap;
    println!("longest gap of a clean handover: {gap:?}");
    assert!(gap < Duration::from_secs(2), "{gap:?}");
    neighbour();
    assert_eq!((who(VIP), who(NODE_A), who(NODE_B)), (vec![MAC.to_owned()], own(&pair.a), own(&pair.b)));
    assert!(pair.a.run(&link).is_err(), "what node-a made is gone");
    pair.client.run(&["ping", "-c2", "-i0.2", "-W2", &VIP.to_string()]).expect("ping is answered");

    let back = Instant::now();
    pair.a.start_daemon().expect("it starts");
    pair.wait_for("node-a owns the VIP", STARTED, || pair.a.status().is_ok_and(|status| status.is_owner()));
    pair.settle();
    neighbour();
    assert_eq!(who(VIP), [MAC]);
    let gap = prober.since(back).longest_gap;
    println!("longest gap until the VIP was back: {gap:?}");
    assert!(gap < Duration::from_secs(2), "{gap:?}");

    // A frozen owner's kernel has the address and the interface; nobody but the new owner answers.
    pair.a.freeze().expect("it can be frozen");
    pair.wait_for_owner(&pair.b);
    prober.wait_for_answer(SOON).expect("the VIP answers");
    let report = arp::ask(&pair.client, VIP, Duration::from_secs(2)).expect("the client can ask");
    assert!(report.rounds.iter().all(|answers| answers.len() == 1), "{report:?}");
    neighbour();
    pair.a.thaw().expect("it can be thawed");
    pair.wait_for_owner(&pair.a);
    pair.settle();
    assert_eq!(who(VIP), [MAC]);
    pair.assert_checksums_were_right();
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn owner_that_accepts_nothing_serves_and_answers_arp_only() {
    let pair = pair_with(&common::named("accept"), XdpMode::Auto, "accept = false", "");
    pair.get("/");
    let vip = VIP.to_string();
    let ping = ["ping", "-c2", "-i0.2", "-W1", &vip];
    pair.client.run(&ping).expect_err("nobody answers");
    assert_eq!(pair.answerers(), ["node-a"]);
}
