//! `lb guardian` against the real kernel's sockets and addresses, with a shell in the daemon's place and shared memory in
//! that of `LEASES`.

#[expect(dead_code, reason = "each test file uses a part of it")]
mod net_support;

use std::{
    fs::File,
    io::Write as _,
    net::IpAddr,
    os::{
        fd::OwnedFd,
        unix::{fs::FileExt as _, net::UnixStream},
    },
    process::{Child, Command, Stdio},
    time::Duration,
};

use lb::{
    config::{ChecksumForm, Rule, VrrpVersion},
    guardian::RouterOrders,
    net::{Listen, Netlink, OwnRoute, OwnRoutes, OwnRules, VrrpSocket},
    time::{Timestamp, UnixTime},
    vrrp::{Acceptance, Endpoint, packet},
};
use lb_common::{LEASE_BACKUP, limits};
use net_support::{
    FAR as FAR_V4, NEAR as NEAR_V4, PATIENCE, VIP as VIP_V4, in_new_namespace, index_of, ip, pair,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::time::{sleep, timeout};

const NEAR: IpAddr = IpAddr::V4(NEAR_V4);
const FAR: IpAddr = IpAddr::V4(FAR_V4);
const VIP: IpAddr = IpAddr::V4(VIP_V4);
/// The lease of the only virtual router.
const LEASE: u32 = 1;
/// Bytes of a lease in the map.
const STRIDE: u64 = 16;
/// A guardian never writes a lease further ahead.
const STEP: Duration = Duration::from_millis(100);
/// How long it waits for another owner.
const WAIT: Duration = Duration::from_millis(700);

fn acceptance(source: IpAddr, peer: IpAddr) -> Acceptance {
    Acceptance {
        version: VrrpVersion::V2,
        router_id: 33,
        source,
        peers: vec![peer],
        group: None,
        min_ttl: 255,
        password: None,
        authentication: None,
        checksum: ChecksumForm::default(),
        advert_interval: Duration::from_secs(1),
        addresses: vec![VIP],
    }
}

fn orders() -> Vec<RouterOrders> {
    vec![RouterOrders {
        name: "VI_1".to_owned(),
        lease: LEASE,
        interface: "near0".to_owned(),
        acceptance: acceptance(NEAR, FAR),
        vips: vec![("near0".to_owned(), "172.20.128.4/16".parse().expect("a network"))],
        virtual_mac: Some("vmac0".to_owned()),
        routes: vec![(Some("near0".to_owned()), route())],
        rules: vec![rule()],
        patience: WAIT,
    }]
}

/// A route that follows the VIP.
fn route() -> OwnRoute {
    let to = "192.0.2.0/24".parse().expect("a network");
    OwnRoute { to, via: Some(FAR), source: None, index: None, table: 254, metric: 0, scope: 0 }
}

/// A policy rule that does.
fn rule() -> Rule {
    Rule {
        is_ipv6: false,
        from: Some("172.20.128.4/32".parse().expect("a network")),
        to: None,
        iif: None,
        oif: None,
        mark: None,
        priority: 100,
        table: 77,
    }
}

/// A shell whose child the guardian is, the other end of the guardian's socket and its leases.
struct Daemon {
    shell: Child,
    socket: UnixStream,
    leases: File,
}

impl Daemon {
    /// Starts a guardian that has its orders, on a node that has the VIP.
    async fn start() -> Self {
        let netlink = Netlink::open().expect("rtnetlink");
        for (interface, address) in [("near0", "172.20.128.4/16"), ("lo", "172.20.128.4/32")] {
            let index = index_of(&netlink, interface).await;
            netlink.add_address(index, address.parse().expect("a network")).await.expect("added");
        }
        ip("link add vmac0 link near0 type macvlan mode private");
        ip("link set vmac0 up");
        let index = Some(index_of(&netlink, "near0").await);
        let routes = OwnRoutes::open().expect("rtnetlink");
        routes.add(&OwnRoute { index, ..route() }).await.expect("added");
        OwnRules::new(netlink.clone()).add(&rule()).await.expect("added");
        let leases = File::from(memfd_create(c"leases", MFdFlags::empty()).expect("shared memory"));
        leases.set_len(u64::from(limits::LEASES) * STRIDE).expect("it can grow");
        let (near, far) = UnixStream::pair().expect("sockets");
        // What runs in the background gets /dev/null for its standard input unless told otherwise.
        let script = "exec 3<&0; \"$LB\" guardian --daemon $$ <&3 3<&- & exec 0</dev/null 3<&-; wait";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).env("LB", env!("CARGO_BIN_EXE_lb")).stdin(OwnedFd::from(far));
        let shell = shell.stdout(leases.try_clone().expect("a copy")).stderr(Stdio::inherit());
        let mut daemon = Self { shell: shell.spawn().expect("sh is there"), socket: near, leases };
        until("the guardian is there", guardian_is_there).await;
        let mut line = serde_json::to_vec(&serde_json::json!({ "Orders": orders() })).expect("JSON");
        line.push(b'\n');
        daemon.socket.write_all(&line).expect("the guardian listens");
        daemon
    }

    fn own_for(&self, left: Duration) -> Timestamp {
        let end = Timestamp::now() + left;
        self.set_lease(end.0);
        end
    }

    fn set_lease(&self, expiry: u64) {
        self.leases.write_all_at(&expiry.to_ne_bytes(), u64::from(LEASE) * STRIDE).expect("written");
    }

    fn lease(&self) -> u64 {
        let mut bytes = [0; 8];
        self.leases.read_exact_at(&mut bytes, u64::from(LEASE) * STRIDE).expect("read");
        u64::from_ne_bytes(bytes)
    }

    /// Ends it without a word. The test holds the other end of the socket meanwhile, as a forked child would.
    fn kill(&mut self) {
        self.shell.kill().expect("it can be killed");
        self.shell.wait().expect("it ends");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only where it has ended.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Whether there is a guardian in this thread's namespace.
fn guardian_is_there() -> bool {
    let sockets = std::fs::read_to_string("/proc/thread-self/net/unix").expect("the kernel lists sockets");
    sockets.lines().any(|line| line.ends_with("@lb-guardian"))
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let come = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, come).await.unwrap_or_else(|_| panic!("{what}: not in {PATIENCE:?}"));
}

async fn until_the_guardian_has_ended() {
    until("the guardian has ended", || !guardian_is_there()).await;
}

fn has_vip(interface: &str) -> bool {
    ip(&format!("address show dev {interface}")).contains("172.20.128.4/")
}

/// The priority of the next advert that arrives.
async fn next_priority(socket: &VrrpSocket) -> u8 {
    let datagram = timeout(PATIENCE, socket.recv()).await.expect("an advert comes").expect("received");
    let mut endpoint = Endpoint::new(acceptance(FAR, NEAR));
    packet::decode(&datagram, UnixTime::now(), |_| Some(&mut endpoint)).expect("it is accepted").priority
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn after_a_clean_stop_nothing_is_left_to_do() {
    in_new_namespace(async || {
        let _far = pair();
        let mut daemon = Daemon::start().await;
        let lease = daemon.own_for(PATIENCE);
        daemon.socket.write_all(b"\"CleanStop\"\n").expect("the guardian listens");
        until_the_guardian_has_ended().await;
        assert_eq!(daemon.lease(), lease.0);
        assert!(has_vip("near0"));
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_dead_owner_says_farewell_and_answers_until_another_has_claimed() {
    in_new_namespace(async || {
        let far = pair();
        let peer = far.enter(|| VrrpSocket::open("far0", Listen::Unicast(FAR)).expect("a raw socket"));
        let mut daemon = Daemon::start().await;
        daemon.own_for(PATIENCE);
        let killed = Timestamp::now();
        daemon.kill();
        assert_eq!(next_priority(&peer).await, 0);
        let told = Timestamp::now().since(killed);
        assert!(told < Duration::from_millis(100), "the peer was told after {told:?}");

        // It is still owner, never for long, and as long as nobody comes.
        let asked = Timestamp::now();
        while Timestamp::now().since(asked) < WAIT / 2 {
            let (lease, now) = (daemon.lease(), Timestamp::now());
            assert!(lease > now.0, "the lease was over {} ns ago", now.0 - lease);
            assert!(lease <= (now + STEP).0, "it runs for {} ns", lease - now.0);
            sleep(Duration::from_millis(1)).await;
        }
        assert!(has_vip("near0"));
        let mut endpoint = Endpoint::new(acceptance(FAR, NEAR));
        let claim = endpoint.encode(100, NEAR, UnixTime::now()).expect("an advert");
        peer.send(FAR, NEAR, &claim).expect("sent");
        until("the lease is given up", || daemon.lease() == LEASE_BACKUP).await;
        until_the_guardian_has_ended().await;
        assert!(!has_vip("near0"));
        assert!(!ip("route show").contains("192.0.2.0/24"));
        assert!(!ip("rule show").contains("lookup 77"));
        assert!(ip("-o link show vmac0").contains("state DOWN"));
        assert!(has_vip("lo"), "the new owner may steer to this node's backend");
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn the_farewell_of_another_and_a_foreign_advert_are_no_claim() {
    in_new_namespace(async || {
        let far = pair();
        let peer = far.enter(|| VrrpSocket::open("far0", Listen::Unicast(FAR)).expect("a raw socket"));
        let mut daemon = Daemon::start().await;
        daemon.own_for(PATIENCE);
        daemon.kill();
        assert_eq!(next_priority(&peer).await, 0);
        let asked = Timestamp::now();
        let other_id = Acceptance { router_id: 34, ..acceptance(FAR, NEAR) };
        for (acceptance, priority) in [(acceptance(FAR, NEAR), 0), (other_id, 200)] {
            let advert = Endpoint::new(acceptance).encode(priority, NEAR, UnixTime::now());
            peer.send(FAR, NEAR, &advert.expect("an advert")).expect("sent");
        }
        until("it gives up by itself", || daemon.lease() == LEASE_BACKUP).await;
        let waited = Timestamp::now().since(asked);
        assert!(waited + STEP > WAIT, "{waited:?}");
        until_the_guardian_has_ended().await;
        assert!(!has_vip("near0"));
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn an_owner_whose_lease_is_over_and_a_backup_tell_nobody() {
    for lease in [1, LEASE_BACKUP] {
        in_new_namespace(async move || {
            let far = pair();
            let peer = far.enter(|| VrrpSocket::open("far0", Listen::Unicast(FAR)).expect("a raw socket"));
            let mut daemon = Daemon::start().await;
            daemon.set_lease(lease);
            daemon.kill();
            until_the_guardian_has_ended().await;
            assert_eq!(daemon.lease(), LEASE_BACKUP);
            assert!(!has_vip("near0"), "what a daemon has left is taken away");
            assert_eq!(peer.try_recv().expect("it can be read"), None);
        });
    }
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_peer_that_cannot_be_told_is_left_its_patience() {
    in_new_namespace(async || {
        let _far = pair();
        let mut daemon = Daemon::start().await;
        ip("link set near0 down");
        let end = daemon.own_for(WAIT / 2);
        daemon.kill();
        let mut longest = 0;
        until("it gives up", || {
            longest = longest.max(daemon.lease());
            daemon.lease() == LEASE_BACKUP
        })
        .await;
        assert!(longest <= end.0, "{} ns too long", longest - end.0);
        until_the_guardian_has_ended().await;
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_guardian_that_a_living_daemon_lets_go_of_leaves_everything_alone() {
    in_new_namespace(async || {
        let far = pair();
        let peer = far.enter(|| VrrpSocket::open("far0", Listen::Unicast(FAR)).expect("a raw socket"));
        let daemon = Daemon::start().await;
        let lease = daemon.own_for(PATIENCE);
        daemon.socket.shutdown(std::net::Shutdown::Both).expect("it can be closed");
        until_the_guardian_has_ended().await;
        assert_eq!(daemon.lease(), lease.0);
        assert!(has_vip("near0"));
        assert_eq!(peer.try_recv().expect("it can be read"), None);
    });
}
