//! Tier 3: `lb` and the real keepalived, each once as the one with the higher priority: takeovers and returns, and that
//! each finds nothing wrong with the other's adverts.

mod common;

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use common::{Pair, SOON, keepalived_with, lb_with, start};
use nix::sys::signal::Signal;
use xtask::lab::{LabSpec, NODE_A, NODE_B, Node, VIP, v6, wait_until};

/// How long both may take to start and to agree: the verifier takes its time.
const START_WITHIN: Duration = Duration::from_mins(1);
/// How long either may take after the other's farewell: the skew of v2 is 0.61 s.
const AT_ONCE: Duration = Duration::from_secs(2);
const END_WITHIN: Duration = Duration::from_secs(10);

/// What the two speak.
#[derive(Clone, Copy, Debug)]
struct Dialect {
    version: u8,
    ipv6: bool,
    multicast: bool,
}

impl Dialect {
    const V2: Self = Self { version: 2, ipv6: false, multicast: false };

    /// The address of this family that belongs to an IPv4 address of the lab.
    fn address(self, address: Ipv4Addr) -> IpAddr {
        if self.ipv6 { v6(address).into() } else { address.into() }
    }

    fn vip(self) -> String {
        format!("{}/{}", self.address(VIP), if self.ipv6 { 112 } else { 24 })
    }

    /// `lb` with a virtual router and its own nginx as the only backend: keepalived's node steers nothing.
    fn lb(self, priority: u8, source: Ipv4Addr, peer: Ipv4Addr) -> String {
        let (vip, source, peer) = (self.vip(), self.address(source), self.address(peer));
        let timing = match self.version {
            2 => "advert_interval = \"1s\"\npassword = \"letmein\"",
            _ => "version = 3\nadvert_interval = \"100ms\"",
        };
        let path = if self.multicast {
            "[virtual_router.multicast]".to_owned()
        } else {
            format!("[virtual_router.unicast]\nsource = \"{source}\"\npeers = [\"{peer}\"]")
        };
        format!(
            "[[virtual_router]]\nname = \"VI_1\"\ninterface = \"eth0\"\nrouter_id = 33\npriority = {priority}\n{timing}\n\
             vips = [\"{vip}\"]\n{path}\n\
             [[service]]\nname = \"web\"\nvip = \"{}\"\nport = 80\nprotocol = \"tcp\"\n\
             [[service.backend]]\naddress = \"{source}\"\nmode = \"dr\"\n",
            self.address(VIP),
        )
    }

    fn keepalived(self, priority: u8, source: Ipv4Addr, peer: Ipv4Addr) -> String {
        let (vip, source, peer) = (self.vip(), self.address(source), self.address(peer));
        let mut text = format!(
            "global_defs {{\n  vrrp_version {}\n}}\n\
             vrrp_instance VI_1 {{\n  state BACKUP\n  interface eth0\n  virtual_router_id 33\n  priority {priority}\n\
             \x20 virtual_ipaddress {{\n    {vip} dev eth0\n  }}\n",
            self.version
        );
        let mut say = |line: &str| writeln!(text, "  {line}").expect("a String takes everything");
        match self.version {
            2 => say("advert_int 1\n  authentication {\n    auth_type PASS\n    auth_pass letmein\n  }"),
            _ => say("advert_int 0.1"),
        }
        if self.ipv6 {
            // Without it keepalived's unicast over IPv6 leaves with the kernel's 64, which `lb` refuses.
            say(if self.multicast { "native_ipv6" } else { "native_ipv6\n  unicast_ttl 255" });
        }
        if !self.multicast {
            say(&format!("unicast_src_ip {source}\n  unicast_peer {{\n    {peer}\n  }}"));
        }
        text + "}\n"
    }

    /// What tshark is asked about an advert: what is there, whether the checksum is right (1), and what it finds wrong.
    const FIELDS: [&str; 7] = [
        "vrrp.version",
        "vrrp.virt_rtr_id",
        "vrrp.prio",
        "vrrp.checksum.status",
        "vrrp.ip_addr",
        "vrrp.ipv6_addr",
        "_ws.expert.message",
    ];

    /// The command that has tshark judge what is in a file.
    fn tshark(capture: &str) -> Vec<&str> {
        // Offloads fill no IPv4 header checksum in: it must be right.
        let mut words = vec!["tshark", "-n", "-r", capture, "-o", "ip.check_checksum:TRUE", "-T", "fields"];
        words.extend(Self::FIELDS.iter().flat_map(|field| ["-e", *field]));
        words.extend(["-E", "separator=|"]);
        words
    }

    /// What tshark says of an advert of `priority` that is as it should be.
    fn judged(self, priority: u8) -> String {
        let vip = self.address(VIP);
        let (v4, v6) =
            if self.ipv6 { (String::new(), vip.to_string()) } else { (vip.to_string(), String::new()) };
        format!("{}|33|{priority}|1|{v4}|{v6}|", self.version)
    }

    /// What tcpdump says of an advert of `priority` that is as it should be.
    fn described(self, priority: u8) -> String {
        match self.version {
            2 => format!("VRRPv2, Advertisement, vrid 33, prio {priority}, authtype simple, intvl 1s"),
            _ => format!("VRRPv3, Advertisement, vrid 33, prio {priority}, intvl 10cs"),
        }
    }
}

/// The two and what they speak.
struct Couple {
    pair: Pair,
    dialect: Dialect,
}

impl Couple {
    /// `lb` on node-a with the higher priority, keepalived on node-b.
    fn lb_first(name: &str, dialect: Dialect) -> Self {
        let lb = lb_with(dialect.lb(200, NODE_A, NODE_B));
        let keepalived = keepalived_with(&dialect.keepalived(100, NODE_B, NODE_A));
        let couple = Self::of(LabSpec::pair(&common::named(name), lb, keepalived), dialect);
        couple.wait_for_state(&couple.pair.a, "owner");
        couple.wait_for_holder("node-a", START_WITHIN);
        couple
    }

    /// keepalived on node-a with the higher priority, `lb` on node-b.
    fn keepalived_first(name: &str, dialect: Dialect) -> Self {
        let keepalived = keepalived_with(&dialect.keepalived(200, NODE_A, NODE_B));
        let lb = lb_with(dialect.lb(100, NODE_B, NODE_A));
        let couple = Self::of(LabSpec::pair(&common::named(name), keepalived, lb), dialect);
        couple.wait_for_state(&couple.pair.b, "backup");
        couple.wait_for_holder("node-a", START_WITHIN);
        couple
    }

    fn of(spec: LabSpec, dialect: Dialect) -> Self {
        let spec = if dialect.ipv6 { spec.with_ipv6() } else { spec };
        Self { pair: Pair::of(start(&spec)), dialect }
    }

    /// The nodes that have the VIP.
    fn holders(&self) -> Vec<String> {
        self.pair.lab.holders(self.dialect.address(VIP)).expect("ip works on every node")
    }

    /// Waits until the `lb` of `lb`, which may have been started a moment ago, is in a state.
    fn wait_for_state(&self, lb: &Node, state: &str) {
        self.pair.wait_for(&format!("lb is {state}"), START_WITHIN, || {
            lb.status().is_ok_and(|status| status.all_are(state))
        });
    }

    /// Waits until nobody but `node` has the VIP.
    fn wait_for_holder(&self, node: &str, within: Duration) {
        self.pair.wait_for(&format!("{node} alone has the VIP"), within, || self.holders() == [node]);
    }

    /// Fails unless tcpdump and tshark find the next adverts of `from`, as they come to `at`, to be of `priority` and their
    /// checksums right.
    fn adverts_are_right(&self, from: &Node, at: &Node, priority: u8) {
        let source = from.mac().expect("it has an interface");
        let filter = format!("proto 112 and ether src {source}");
        let filter = if self.dialect.ipv6 { format!("ip6 {filter}") } else { format!("ip {filter}") };
        let capture = "/run/adverts.pcap";
        at.run(&["timeout", "10", "tcpdump", "-c", "3", "-i", "eth0", "-w", capture, &filter])
            .expect("three adverts come");
        let text = at.run(&["tcpdump", "-n", "-vv", "-r", capture]).expect("it reads what it wrote");
        assert_eq!(text.matches(&self.dialect.described(priority)).count(), 3, "{text}");
        assert!(!text.contains("bad") && !text.contains("incorrect"), "{text}");
        if !self.dialect.ipv6 {
            assert_eq!(text.matches("ttl 255").count(), 3, "{text}");
        }
        let judged = at.run(&Dialect::tshark(capture)).expect("tshark reads what tcpdump wrote");
        let lines: Vec<&str> = judged.lines().collect();
        let right = self.dialect.judged(priority);
        assert_eq!(lines, [right.as_str(); 3], "{}", Dialect::FIELDS.join(" "));
    }

    /// Waits until `keepalived` has received `count` adverts, and fails if it found anything wrong with one.
    fn keepalived_is_content(&self, keepalived: &Node, count: u64) {
        let mut last = String::new();
        let heard = wait_until("keepalived has received adverts", SOON, || {
            last = statistics(keepalived);
            (value_of(&last, "Received")? >= count).then_some(())
        });
        heard.unwrap_or_else(|error| panic!("{error}\n{last}\n{}", self.pair.lab.log_tails(30)));
        let (_, errors) = last.split_once("Packet Errors:").expect("it has such a part");
        let (errors, _) = errors.split_once("Priority Zero:").expect("it has such a part");
        let counts: Vec<u64> = errors.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert!(counts.len() >= 5, "{last}");
        assert!(counts.iter().all(|count| *count == 0), "{last}\n{}", self.pair.lab.log_tails(30));
    }

    /// Waits until `lb` has received `count` adverts, and fails if it refused one.
    fn lb_is_content(&self, lb: &Node, count: u64) {
        let what = format!("lb has received {count} adverts");
        self.pair.wait(&what, || lb.status().is_ok_and(|status| status.adverts_received() >= count));
        let refused = lb.status().expect("lb answers").refused_adverts();
        assert!(refused.values().all(|count| *count == 0), "{refused:?}");
    }
}

/// What keepalived, up and running, writes when it is asked for its statistics; empty if it has not yet.
fn statistics(keepalived: &Node) -> String {
    let path = keepalived.path("/run/lab/keepalived.stats");
    // Absent before the first question.
    let _ = fs::remove_file(&path);
    keepalived.signal("keepalived", Signal::SIGUSR2);
    let whole = || fs::read_to_string(&path).ok().filter(|text| text.contains("Priority Zero:"));
    wait_until("keepalived has written its statistics", SOON, whole).unwrap_or_default()
}

/// The first number of that name.
fn value_of(statistics: &str, name: &str) -> Option<u64> {
    statistics.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": ")?.parse().ok())
}

/// keepalived takes over from a frozen and from a stopped `lb`, and gives the VIP back.
fn keepalived_behind_lb(name: &str, dialect: Dialect) {
    let couple = Couple::lb_first(name, dialect);
    let (lb, keepalived) = (&couple.pair.a, &couple.pair.b);
    couple.adverts_are_right(lb, keepalived, 200);
    couple.keepalived_is_content(keepalived, 5);

    lb.freeze().expect("it can be frozen");
    couple.pair.wait("keepalived has the VIP", || {
        keepalived.has_address("eth0", dialect.address(VIP)).expect("ip runs")
    });
    lb.thaw().expect("it can be thawed");
    couple.pair.wait_for_owner(lb);
    couple.wait_for_holder("node-a", SOON);

    lb.stop_daemon(Signal::SIGTERM, END_WITHIN).expect("it ends");
    couple.wait_for_holder("node-b", AT_ONCE);
    lb.start_daemon().expect("it starts");
    couple.wait_for_state(lb, "owner");
    couple.wait_for_holder("node-a", SOON);
    couple.keepalived_is_content(keepalived, 5);
    couple.lb_is_content(lb, 1);
}

/// `lb` takes over from a frozen and from a stopped keepalived, and gives the VIP back.
fn lb_behind_keepalived(name: &str, dialect: Dialect) {
    let couple = Couple::keepalived_first(name, dialect);
    let (keepalived, lb) = (&couple.pair.a, &couple.pair.b);
    couple.lb_is_content(lb, 4);

    keepalived.freeze().expect("it can be frozen");
    couple.pair.wait_for_owner(lb);
    keepalived.thaw().expect("it can be thawed");
    couple.pair.wait_for_backup(lb);
    couple.wait_for_holder("node-a", SOON);

    // A backup heeds a farewell once it has listened long enough to know that there is no other owner.
    couple.lb_is_content(lb, lb.status().expect("lb answers").adverts_received() + 4);
    keepalived.stop_daemon(Signal::SIGTERM, END_WITHIN).expect("it ends");
    couple.wait_for_holder("node-b", AT_ONCE);
    couple.adverts_are_right(lb, keepalived, 100);
    keepalived.start_daemon().expect("it starts");
    couple.wait_for_holder("node-a", SOON);
    couple.pair.wait_for_backup(lb);
    couple.keepalived_is_content(keepalived, 1);
    couple.lb_is_content(lb, 4);
}

/// Both roles of one dialect, each a test of its own.
macro_rules! dialects {
    ($($name:ident: $dialect:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            #[ignore = "needs root and network namespaces: cargo xtask test"]
            fn keepalived_takes_over_from_lb_and_gives_back() {
                keepalived_behind_lb(concat!("io1-", stringify!($name)).replace('_', "-").as_str(), $dialect);
            }

            #[test]
            #[ignore = "needs root and network namespaces: cargo xtask test"]
            fn lb_takes_over_from_keepalived_and_gives_back() {
                lb_behind_keepalived(concat!("io2-", stringify!($name)).replace('_', "-").as_str(), $dialect);
            }
        }
    )*};
}

dialects! {
    v2: Dialect::V2;
    v2_multi: Dialect { multicast: true, ..Dialect::V2 };
    v3: Dialect { version: 3, ..Dialect::V2 };
    v3_multi: Dialect { version: 3, multicast: true, ..Dialect::V2 };
    v3_ipv6: Dialect { version: 3, ipv6: true, ..Dialect::V2 };
    v3_ipv6_multi: Dialect { version: 3, ipv6: true, multicast: true };
}
