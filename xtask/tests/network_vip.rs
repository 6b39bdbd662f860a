//! Tier 3: the VIP as an address of its owner, whatever others do to it.

mod common;

use std::{
    fs::File,
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{Pair, SOON, pair_under_load};
use xtask::lab::{Node, VIP, wait_until};

/// How long a VIP may be gone after somebody deleted it. The machine is shared, so that one of several times may be longer.
const GAP: Duration = Duration::from_millis(50);

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
    let start = std::time::Instant::now();
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
    assert_eq!((pair.holders(), pair.answerers()), (vec!["node-a".to_owned()], vec!["node-a".to_owned()]));
}
