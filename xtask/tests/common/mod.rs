//! What the network tests share.

#![expect(dead_code, reason = "every test file uses a part of it")]

pub(crate) mod networks;

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use xtask::lab::{
    Daemon, Lab, LabSpec, Node, VIP, XdpMode, pause,
    probe::{http, load::LoadProber},
    shipped_config, with_xdp,
};

/// Longer than any election or health check of the shipped configurations takes: master down is 3.6 s.
pub(crate) const SOON: Duration = Duration::from_secs(12);
/// One exchange on an idle network.
pub(crate) const EXCHANGE: Duration = Duration::from_secs(3);

/// This project's xtask executable, which labs are made of.
pub(crate) fn xtask() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_xtask"))
}

/// The `lb` under test.
pub(crate) fn lb() -> PathBuf {
    let path = std::env::var_os("LB_BINARY").map(PathBuf::from);
    match path {
        Some(path) if path.is_file() => path.canonicalize().unwrap_or(path),
        Some(path) => panic!("LB_BINARY is {}, which is no file", path.display()),
        None => panic!(
            "LB_BINARY does not name the lb executable: run `cargo xtask test`, which builds it and does"
        ),
    }
}

/// The program that measures.
fn lb_bench() -> PathBuf {
    let path = std::env::var_os("LB_BENCH_BINARY").map(PathBuf::from).filter(|path| path.is_file());
    path.expect("LB_BENCH_BINARY does not name the lb-bench executable: run `cargo xtask test`, which builds it and does")
}

/// A lab's name that no other run of the tests uses meanwhile.
pub(crate) fn named(test: &str) -> String {
    format!("t{}-{test}", std::process::id())
}

/// Builds a lab or fails the test.
pub(crate) fn start(spec: &LabSpec) -> Lab {
    Lab::start(spec, xtask(), |_| ()).unwrap_or_else(|error| panic!("{error}"))
}

/// `lb` with a configuration.
pub(crate) fn lb_with(config: String) -> Daemon {
    Daemon::Lb { binary: lb(), config }
}

/// keepalived with a configuration.
pub(crate) fn keepalived_with(config: &str) -> Daemon {
    Daemon::Keepalived { config: config.to_owned() }
}

/// One of the repository's configurations.
pub(crate) fn shipped(file: &str) -> String {
    shipped_config(file).unwrap_or_else(|error| panic!("{error}"))
}

/// The tutorial's pair with `extra` at the end of both configurations, up and ready.
pub(crate) fn pair_with(name: &str, xdp: XdpMode, extra: &str) -> Pair {
    let config = |file| lb_with(with_xdp(&(shipped(file) + extra), xdp, &["eth0"]));
    let spec = LabSpec::pair(name, config("tutorial-a.toml"), config("tutorial-b.toml")).with_peer_xdp(xdp);
    let pair = Pair::of(start(&spec));
    pair.settle();
    pair
}

/// The tutorial's pair, up and ready.
pub(crate) fn pair(name: &str, xdp: XdpMode) -> Pair {
    pair_with(name, xdp, "")
}

/// The pair with a client that never stops asking.
pub(crate) fn pair_under_load(name: &str) -> (Pair, LoadProber) {
    let pair = pair(name, XdpMode::Auto);
    let prober = LoadProber::start(&pair.client, VIP, 80);
    prober.wait_for_answer(SOON).expect("the VIP answers");
    (pair, prober)
}

/// A lab with the tutorial's three nodes.
pub(crate) struct Pair {
    pub(crate) lab: Lab,
    pub(crate) client: Node,
    pub(crate) a: Node,
    pub(crate) b: Node,
}

impl Pair {
    pub(crate) fn of(lab: Lab) -> Self {
        let node = |name| lab.node(name).unwrap_or_else(|error| panic!("{error}"));
        let (client, a, b) = (node("client"), node("node-a"), node("node-b"));
        Self { lab, client, a, b }
    }

    /// Waits until one `lb` owns the VIP and both see every backend up.
    pub(crate) fn settle(&self) -> Node {
        self.lab.wait_until_ready().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Asks the VIP for a page; the node that answered, and the page.
    pub(crate) fn get(&self, path: &str) -> (String, Vec<u8>) {
        let answer = http::request(&self.client, VIP, 80, path, None, EXCHANGE);
        let answer = answer.unwrap_or_else(|error| panic!("{error}\n{}", self.lab.log_tails(30)));
        assert_eq!(answer.status, 200, "GET {path}");
        (answer.node.expect("nginx says which node it is on"), answer.body)
    }

    /// The node that answers for the VIP's first page, if one does.
    pub(crate) fn try_get(&self) -> Option<String> {
        http::request(&self.client, VIP, 80, "/", None, EXCHANGE).ok()?.node
    }

    /// Asks another address than the VIP for its first page; the node that answered.
    pub(crate) fn get_from(&self, address: Ipv4Addr) -> String {
        let answer = http::request(&self.client, address, 80, "/", None, EXCHANGE);
        answer.unwrap_or_else(|error| panic!("{error}")).node.expect("nginx says which node it is on")
    }

    /// Waits for a condition; the daemons' logs are in the message if it does not come.
    pub(crate) fn wait(&self, what: &str, condition: impl FnMut() -> bool) {
        self.wait_for(what, SOON, condition);
    }

    /// As [`Pair::wait`], with a limit.
    pub(crate) fn wait_for(&self, what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
        let outcome = xtask::lab::wait_until(what, within, || condition().then_some(()));
        outcome.unwrap_or_else(|error| panic!("{error}\n{}", self.lab.log_tails(30)));
    }

    /// Waits until `node` owns all its virtual routers.
    pub(crate) fn wait_for_owner(&self, node: &Node) {
        self.wait(&format!("{} owns the VIP", node.name()), || node.status().is_ok_and(|s| s.is_owner()));
    }

    /// Waits until `node` is backup of all its virtual routers.
    pub(crate) fn wait_for_backup(&self, node: &Node) {
        let what = format!("{} is a backup", node.name());
        self.wait(&what, || node.status().is_ok_and(|s| s.all_are("backup")));
    }

    /// The nodes that carry the VIP on their first interface.
    pub(crate) fn holders(&self) -> Vec<String> {
        self.lab.holders(VIP).expect("ip works on every node")
    }

    /// Waits until a node alone has the VIP as an address: one that hands over keeps it for a moment, and answers no question.
    pub(crate) fn wait_until_alone(&self, name: &str) {
        self.wait(&format!("{name} alone has the VIP"), || self.holders() == [name]);
    }

    /// The names of those who answer one ARP request for the VIP.
    pub(crate) fn answerers(&self) -> Vec<String> {
        let macs = xtask::lab::probe::arp::ask_once(&self.client, VIP).expect("the client can ask");
        let name = |mac| self.lab.state().spec.node_of(mac).map_or_else(|| format!("{mac}"), str::to_owned);
        macs.into_iter().map(name).collect()
    }

    /// Fails unless nobody saw a wrong checksum.
    pub(crate) fn assert_checksums_were_right(&self) {
        for node in self.lab.nodes() {
            for (protocol, counter) in [
                ("Tcp", "InCsumErrors"),
                ("Udp", "InCsumErrors"),
                ("Icmp", "InCsumErrors"),
                ("Ip", "InHdrErrors"),
            ] {
                let count = node.kernel_counter(protocol, counter).expect("the kernel counts");
                assert_eq!(count, 0, "{protocol} {counter} of {}", node.name());
            }
        }
    }
}

/// Lets time pass in which something must not change.
pub(crate) fn watch(duration: Duration) {
    pause(duration).expect("nobody interrupts a test");
}

/// What `bench failover` saw in each round of a fault on the owner.
pub(crate) fn failover_rounds(system: &str, fault: &str, count: usize) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("rounds.json");
    let mut command = Command::new(xtask());
    let rounds = count.to_string();
    command.args(["bench", "failover", "--rounds", &rounds, "--system", system, "--fault", fault]);
    command.arg("--lb").arg(lb()).arg("--json").arg(&file);
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read(&file).expect("it wrote the file");
    let all: Value = serde_json::from_slice(&text).expect("it is JSON");
    let row = &all["rows"][0];
    assert_eq!((&row["system"], &row["fault"]), (&system.into(), &fault.into()), "{all}");
    let rounds = row["rounds"].as_array().cloned().unwrap_or_default();
    assert_eq!(rounds.len(), count, "{all}");
    rounds
}

/// What `bench forward` saw in one round.
pub(crate) fn forward_report(words: &[&str]) -> Value {
    let mut command = Command::new(xtask());
    command.args(["bench", "forward", "--print-json", "--rounds", "1"]).args(words);
    command.arg("--lb").arg(lb()).arg("--lb-bench").arg(lb_bench());
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{error}{text}");
    let line = text.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(line.expect("it prints a report")).expect("it is JSON")
}
