//! Tier 3: thousands of live connections while the backends of their service change.

mod common;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use common::{Pair, lb_with, start};
use nix::sys::signal::Signal;
use xtask::lab::{
    CLIENT, LabSpec, NODE_A, NODE_B, Node, NodeSpec, VIP,
    probe::live::{Connections, Server, raise_file_limit},
};

const PORT: u16 = 7_000;
const TARGET: SocketAddrV4 = SocketAddrV4::new(VIP, PORT);
const CONNECTIONS: usize = 10_000;
/// Fewer would prove little.
const FEWEST: usize = 2_000;
/// Descriptors for other things than the first connections.
const OTHER_FILES: usize = 4_000;
/// As `learning_window` and `flow_timeout` in the configuration. Everybody speaks once a second or so.
const WINDOW: Duration = Duration::from_secs(6);
const FLOW_TIMEOUT: Duration = Duration::from_secs(20);
/// Beyond the time-out: two looks through the flow table.
const LOOKS: Duration = Duration::from_secs(15);

/// A backend by its number.
fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 20, 10, number)
}

/// A director's configuration with these (backend, weight).
fn config(source: Ipv4Addr, peer: Ipv4Addr, priority: u8, backends: &[(u8, u32)]) -> String {
    let mut text = format!(
        r#"
[[virtual_router]]
name = "VI_1"
interface = "eth0"
router_id = 35
priority = {priority}
advert_interval = "1s"
password = "letmein"
vips = ["{VIP}/24"]

[virtual_router.unicast]
source = "{source}"
peers = ["{peer}"]

[[service]]
name = "live"
vip = "{VIP}"
port = {PORT}
protocol = "tcp"
learning_window = "{}s"
flow_timeout = "{}s"
check = {{ tcp = true, interval = "1s", timeout = "900ms", rise = 2, fall = 3 }}
"#,
        WINDOW.as_secs(),
        FLOW_TIMEOUT.as_secs()
    );
    for (number, weight) in backends {
        let address = address(*number);
        write!(text, "\n[[service.backend]]\naddress = \"{address}\"\nmode = \"dr\"\nweight = {weight}\n")
            .expect("a String takes everything");
    }
    text
}

fn config_a(backends: &[(u8, u32)]) -> String {
    config(NODE_A, NODE_B, 200, backends)
}

fn config_b(backends: &[(u8, u32)]) -> String {
    config(NODE_B, NODE_A, 100, backends)
}

/// Two directors, four machines that can be backends, and their servers.
fn directors_and_backends(name: &str, backends: &[(u8, u32)]) -> (Pair, Vec<Node>) {
    let web = |number: u8| NodeSpec::on_lan(&format!("web-{number}"), address(number));
    let mut nodes = vec![
        NodeSpec::on_lan("client", CLIENT),
        NodeSpec { daemon: lb_with(config_a(backends)), ..NodeSpec::on_lan("node-a", NODE_A) },
        NodeSpec { daemon: lb_with(config_b(backends)), ..NodeSpec::on_lan("node-b", NODE_B) },
    ];
    nodes.extend((1..=4).map(web));
    let pair = Pair::of(start(&LabSpec { name: name.to_owned(), nodes }));
    let webs: Vec<Node> =
        (1..=4).map(|number| pair.lab.node(&format!("web-{number}")).expect("it is in the lab")).collect();
    for web in &webs {
        // As an operator sets up a machine behind direct routing: it has the VIP and does not answer ARP for it.
        for command in [
            "echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore",
            "echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce",
            "ip address add 172.20.128.4/32 dev lo",
        ] {
            web.run(&["sh", "-c", command]).expect("it can be set");
        }
    }
    (pair, webs)
}

/// Everybody speaks, again and again for a time; nobody may be lost.
fn nobody_moves(live: &mut Connections, pair: &Pair, what: &str, time: Duration) {
    let (until, count) = (Instant::now() + time, live.count());
    while Instant::now() < until {
        let round = live.round();
        assert!(
            round.lost.is_empty() && live.count() == count,
            "{what}: {round:?}\n{}",
            pair.lab.log_tails(30)
        );
    }
}

/// As many connections as intended, or as this process may have of their clients' ends.
fn affordable() -> usize {
    let files = raise_file_limit().expect("the limit can be raised to what is allowed");
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let connections = CONNECTIONS.min(files.saturating_sub(OTHER_FILES));
    assert!(connections >= FEWEST, "only {files} open files are allowed (ulimit -Hn)");
    if connections < CONNECTIONS {
        eprintln!("{connections} connections instead of {CONNECTIONS}: only {files} open files are allowed");
    }
    connections
}

/// Opens connections; how many each node serves of them.
fn open(live: &mut Connections, pair: &Pair, count: usize) -> BTreeMap<String, usize> {
    let opened = live.open(&pair.client, TARGET, count);
    opened.unwrap_or_else(|error| {
        let verdicts =
            pair.lab.nodes().iter().map(|node| node.status().map(|s| s.verdicts())).collect::<Vec<_>>();
        panic!("{error}\n{verdicts:?}\n{}", pair.lab.log_tails(30))
    })
}

/// Unsettled slots and remembered flows at `node`.
fn remembered(node: &Node) -> (u64, u64) {
    node.status().expect("lb answers").remembered()
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn no_connection_moves_while_its_backend_lives() {
    let connections = affordable();
    let three = [(1, 1), (2, 1), (3, 1)];
    let (pair, webs) = directors_and_backends("t-track", &three);
    let mut servers: Vec<Option<Server>> =
        webs.iter().map(|web| Some(Server::start(web, PORT).expect("it listens"))).collect();
    pair.settle();
    let mut live = Connections::default();
    let shares = open(&mut live, &pair, connections);
    assert_eq!(shares.len(), 3, "{shares:?}");
    nobody_moves(&mut live, &pair, "nothing happens", Duration::from_secs(2));
    assert_eq!(remembered(&pair.a), (0, 0), "nothing is remembered in the steady state");

    // Another owner, who has heard of none of these connections.
    pair.a.stop_daemon(Signal::SIGTERM, common::SOON).expect("it ends");
    pair.wait_for_owner(&pair.b);
    nobody_moves(&mut live, &pair, "another owner", Duration::from_secs(2));
    let b = &pair.b;
    let apply = |backends: &[(u8, u32)]| {
        b.reload(&config_b(backends)).unwrap_or_else(|error| panic!("{error}\n{}", pair.lab.log_tails(30)));
    };

    // One more backend: it gets its share of what is new.
    apply(&[(1, 1), (2, 1), (3, 1), (4, 1)]);
    pair.wait("web-4 gets its slots", || remembered(b).0 > 0);
    nobody_moves(&mut live, &pair, "added", Duration::from_secs(2));
    let shares = open(&mut live, &pair, 400);
    assert!(shares.get("web-4").is_some_and(|count| (60..=140).contains(count)), "{shares:?}");
    nobody_moves(&mut live, &pair, "added", WINDOW);

    // Two changes at once: the second within the learning window of the first.
    apply(&[(1, 3), (2, 1), (3, 1), (4, 1)]);
    nobody_moves(&mut live, &pair, "reweighted", Duration::from_secs(1));
    open(&mut live, &pair, 200);
    apply(&[(1, 3), (2, 0), (3, 1), (4, 1)]);
    nobody_moves(&mut live, &pair, "reweighted and drained", Duration::from_secs(1));
    let shares = open(&mut live, &pair, 200);
    assert_eq!(shares.get("web-2"), None, "{shares:?}");
    nobody_moves(&mut live, &pair, "reweighted and drained", WINDOW);

    // One leaves the configuration; its machine lives on.
    apply(&[(1, 3), (2, 0), (4, 1)]);
    nobody_moves(&mut live, &pair, "removed", WINDOW + LOOKS);
    assert!(remembered(b).1 > 0, "the connections of web-2 and web-3 are remembered");

    // One fails: its connections are gone, nobody else's.
    live.close_those_of("web-4");
    servers[3] = None;
    pair.wait("web-4 is down", || {
        let backends = b.status().expect("lb answers").backends();
        backends.iter().any(|backend| backend.address == address(4).to_string() && backend.state == "down")
    });
    nobody_moves(&mut live, &pair, "failed", WINDOW);
    let shares = open(&mut live, &pair, 100);
    assert_eq!(shares.into_keys().collect::<Vec<_>>(), ["web-1"], "the only one left for new connections");
    servers[3] = Some(Server::start(&webs[3], PORT).expect("it listens"));
    pair.wait("web-4 is back", || b.status().expect("lb answers").all_backends_up());
    nobody_moves(&mut live, &pair, "recovered", WINDOW);

    // In the end nothing is left of it.
    drop(live);
    pair.wait_for("everything is settled", FLOW_TIMEOUT + WINDOW + LOOKS, || remembered(b) == (0, 0));
    pair.assert_checksums_were_right();
}
