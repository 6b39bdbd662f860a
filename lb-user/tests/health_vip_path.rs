//! Probes of `dr` backends against the real kernel: a check that passes is not enough, the backend must take
//! what is sent to the VIP.

#[expect(dead_code, reason = "the kernel's events are for other tests")]
mod net_support;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener},
    process::Command,
    time::Duration,
};

use lb::{
    config::{Check, CheckKind},
    health::{CheckId, ProbeError, Target, VipPath, probe_target},
};
use lb_common::Mac;
use net_support::{FAR, FAR_MAC, NEAR, Namespace, PATIENCE, VIP, in_new_namespace, ip, pair};

const PORT: u16 = 80;
/// Long enough for an answer on a busy machine: this is waited for only where none comes.
const SHORT: Duration = Duration::from_millis(700);

fn target(timeout: Duration, mac: Mac) -> Target {
    let interface = nix::net::if_::if_nametoindex("near0").expect("near0 is there");
    Target {
        id: CheckId(1),
        address: FAR.into(),
        port: PORT,
        check: Check {
            kind: CheckKind::Tcp,
            interval: timeout,
            fast_interval: timeout,
            timeout,
            rise: 1,
            fall: 1,
            port: None,
        },
        source: Some(NEAR.into()),
        vip: (VIP, PORT).into(),
        vip_path: VipPath::Resolved { interface, mac },
    }
}

fn listen(far: &Namespace, address: Ipv4Addr) -> TcpListener {
    let listener = far.enter(|| TcpListener::bind((address, PORT))).expect("a listener");
    listener.set_nonblocking(true).expect("a flag");
    listener
}

/// How many connections came to be, the checks' own.
fn accepted(listener: &TcpListener) -> usize {
    std::iter::from_fn(|| listener.accept().ok()).count()
}

/// Waits until nothing is half-open in the namespace.
async fn wait_until_nothing_is_half_open(far: &Namespace) {
    let half_open = || {
        let arguments = ["-Htn", "state", "syn-recv"];
        let output = far.enter(|| Command::new("ss").args(arguments).output()).expect("ss is installed");
        assert!(output.status.success(), "{output:?}");
        !output.stdout.is_empty()
    };
    tokio::time::timeout(PATIENCE, async {
        while half_open() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("what was begun is broken off");
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_backend_with_the_vip_on_lo_takes_it() {
    in_new_namespace(async || {
        let far = pair();
        far.enter(|| ip("address add 172.20.128.4/32 dev lo"));
        let listener = listen(&far, Ipv4Addr::UNSPECIFIED);
        let mut target = target(PATIENCE, FAR_MAC);
        assert_eq!(probe_target(&target).await, Ok(()));
        wait_until_nothing_is_half_open(&far).await;
        assert_eq!(accepted(&listener), 1, "only the check came to be a connection");

        target.source = None;
        assert_eq!(probe_target(&target).await, Ok(()), "from the address the kernel chooses");
        // As the owner of the VIP, whose kernel does not take packets that come from it.
        for interface in ["lo", "near0"] {
            ip(&format!("address add 172.20.128.4/32 dev {interface}"));
        }
        target.source = Some(IpAddr::V4(NEAR));
        assert_eq!(probe_target(&target).await, Ok(()), "an owner asks as well");
        wait_until_nothing_is_half_open(&far).await;
        assert_eq!(accepted(&listener), 2);
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_backend_without_the_vip_fails_though_its_check_passes() {
    in_new_namespace(async || {
        let far = pair();
        let listener = listen(&far, Ipv4Addr::UNSPECIFIED);
        // A link that has just come up loses the first ARP request, and the next goes a second later.
        let check_only = Target { vip_path: VipPath::NotAsked, ..target(PATIENCE, FAR_MAC) };
        assert_eq!(probe_target(&check_only).await, Ok(()));
        assert_eq!(accepted(&listener), 1);

        let error = probe_target(&target(SHORT, FAR_MAC)).await.expect_err("the VIP is not there");
        let reason =
            "no answer for the VIP 172.20.128.4:80 at 172.20.128.3: does the backend have the VIP on lo?";
        assert_eq!(error.to_string(), reason);
        assert!(!error.is_inconclusive());
        assert_eq!(accepted(&listener), 1, "the check passed");

        // It is there now, but packets go to another machine.
        far.enter(|| ip("address add 172.20.128.4/32 dev lo"));
        let elsewhere = target(SHORT, Mac([2, 0, 0, 0, 0, 9]));
        assert_eq!(probe_target(&elsewhere).await.expect_err("nobody has that MAC").to_string(), reason);
        assert_eq!(probe_target(&target(PATIENCE, FAR_MAC)).await, Ok(()));
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_server_that_does_not_listen_on_the_vip_is_refused_there() {
    in_new_namespace(async || {
        let far = pair();
        far.enter(|| ip("address add 172.20.128.4/32 dev lo"));
        let listener = listen(&far, FAR);
        let error = probe_target(&target(PATIENCE, FAR_MAC)).await.expect_err("nobody listens");
        assert_eq!(error, ProbeError::VipRefused { vip: SocketAddrV4::new(VIP, PORT), backend: FAR });
        assert_eq!(accepted(&listener), 1, "the check passed");
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn the_checks_own_failure_comes_first() {
    in_new_namespace(async || {
        let far = pair();
        far.enter(|| ip("address add 172.20.128.4/32 dev lo"));
        let _listener = listen(&far, VIP);
        assert_eq!(probe_target(&target(PATIENCE, FAR_MAC)).await, Err(ProbeError::Refused));
        let mut unresolved = target(PATIENCE, FAR_MAC);
        unresolved.vip_path = VipPath::Unresolved;
        assert_eq!(probe_target(&unresolved).await, Err(ProbeError::Refused));
        let _other = listen(&far, FAR);
        assert_eq!(probe_target(&unresolved).await, Err(ProbeError::Unresolved));
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn an_interface_that_is_gone_says_nothing_about_the_backend() {
    in_new_namespace(async || {
        let far = pair();
        let _listener = listen(&far, Ipv4Addr::UNSPECIFIED);
        let mut gone = target(PATIENCE, FAR_MAC);
        gone.vip_path = VipPath::Resolved { interface: 9999, mac: FAR_MAC };
        let error = probe_target(&gone).await.expect_err("no such interface");
        assert!(error.is_inconclusive(), "{error}");
        assert!(error.to_string().contains("interface number 9999"), "{error}");
    });
}
