//! Network namespaces for tests of the adapters against the real kernel.
//!
//! A namespace lives as long as something is in it; each is entered by a thread of its own, so nothing is
//! left behind, whatever a test does.

use std::{fs::File, net::Ipv4Addr, os::fd::AsFd, process::Command, thread, time::Duration};

use lb::net::{NetEvent, Netlink, NetlinkError};
use lb_common::Mac;
use nix::sched::{CloneFlags, setns, unshare};
use tokio::{sync::mpsc::Receiver, time::timeout};

/// How long to wait for the kernel to do something before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// This end of a [`pair`].
pub(crate) const NEAR: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 2);
/// The other end.
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 3);
/// The MAC of the other end.
pub(crate) const FAR_MAC: Mac = Mac([2, 0, 0, 0, 0, 3]);
/// An address of their network that neither has to begin with.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 4);

/// `near0` here with 172.20.128.2/16, and `far0` with .3 in the namespace returned.
pub(crate) fn pair() -> Namespace {
    ip("link add near0 address 02:00:00:00:00:02 type veth peer name far0 address 02:00:00:00:00:03");
    let far = Namespace::with_link("far0");
    ip("address add 172.20.128.2/16 dev near0");
    ip("link set near0 up");
    far.enter(|| {
        ip("address add 172.20.128.3/16 dev far0");
        ip("link set far0 up");
    });
    far
}

/// Runs an async test on a thread of its own, in a new network namespace with `lo` up.
#[track_caller]
pub(crate) fn in_new_namespace(test: impl AsyncFnOnce() + Send + 'static) {
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace (root needed)");
        ip("link set lo up");
        run(test);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A second namespace, seen from the thread that made it.
pub(crate) struct Namespace(File);

impl Namespace {
    /// Makes a new one, and moves the interface `link` of this thread's namespace there.
    pub(crate) fn with_link(link: &str) -> Self {
        let here = current();
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        let other = Self(current());
        ip("link set lo up");
        setns(here.as_fd(), CloneFlags::CLONE_NEWNET).expect("back to the first namespace");
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&other.0);
        let path = format!("/proc/{}/fd/{descriptor}", std::process::id());
        ip(&format!("link set {link} netns {path}"));
        other
    }

    /// Runs something there, on this thread. What is opened there stays there.
    pub(crate) fn enter<T>(&self, run: impl FnOnce() -> T) -> T {
        let here = current();
        setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).expect("into the namespace");
        let result = run();
        setns(here.as_fd(), CloneFlags::CLONE_NEWNET).expect("back to the first namespace");
        result
    }
}

fn current() -> File {
    File::open("/proc/thread-self/ns/net").expect("this thread's network namespace")
}

/// The index of an interface of the namespace that `netlink` was opened in.
pub(crate) async fn index_of(netlink: &Netlink, name: &str) -> u32 {
    netlink.link(name).await.expect("links can be asked").expect("it exists").index
}

/// Waits for the event that `wanted` recognises.
pub(crate) async fn wait_for<T>(
    events: &mut Receiver<Result<NetEvent, NetlinkError>>,
    wanted: impl Fn(&NetEvent) -> Option<T>,
) -> T {
    timeout(PATIENCE, async {
        loop {
            let event = events.recv().await.expect("events go on").expect("the kernel can be followed");
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    })
    .await
    .expect("the event comes in time")
}

/// Runs `ip` with arguments separated by spaces, in this thread's namespace; returns what it printed.
#[track_caller]
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("ip prints UTF-8")
}

fn run(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        timeout(Duration::from_mins(1), test()).await.expect("the test ends within a minute");
    });
}
