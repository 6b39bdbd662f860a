//! The reconciler with the loaded program: what a packet meets after each of its changes.

use std::{
    fmt::Write as _,
    sync::{Mutex, MutexGuard},
};

use etherparse::PacketBuilder;
use lb_common::{LEASE_FOREVER, Verdict};

use super::*;
use crate::dataplane::{Dataplane as _, LoadOptions, Program, XdpDataplane};

const WINDOW: Duration = Duration::from_mins(1);
const TIMEOUT: Duration = Duration::from_mins(15);
const SLOTS: u32 = 503;

/// The node-a of these tests: its backends are others, behind the loopback, each at the MAC address that ends as its
/// address does.
struct Elsewhere;

impl View for Elsewhere {
    fn is_owner(&self, _: &str) -> bool {
        true
    }

    fn condition(&self, _: &Service, _: IpAddr, _: u16) -> Condition {
        Condition::Up
    }

    fn is_own_address(&self, _: IpAddr) -> bool {
        false
    }

    fn interfaces(&self) -> BTreeMap<u16, Interface> {
        let lo = Interface { ifindex: 1, mac: Mac([2, 0, 0, 0, 0, 0x0a]), mtu: 1500, ..Interface::default() };
        BTreeMap::from([(1, lo)])
    }

    fn devices(&self) -> BTreeMap<u32, Device> {
        BTreeMap::from([(1, Device { ifindex: 1, ..DEVICE })])
    }

    fn next_hop(&self, address: IpAddr) -> NextHop {
        NextHop::new(mac_of(address), 1)
    }

    fn outer(&self, _: IpAddr) -> Outer {
        Outer::default()
    }

    fn neighbour(&self, _: IpAddr) -> Option<Mac> {
        None
    }
}

fn backend(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
}

fn mac_of(address: IpAddr) -> Mac {
    let last = match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    };
    Mac([2, 0, 0, 0, 1, last])
}

/// One service of these backends, with these weights.
fn wanted(backends: &[(u8, u32)]) -> Desired {
    let mut text = format!(
        "[interface.lo]\n[[service]]\nname = \"s\"\nvip = \"{VIP}\"\nport = 80\nprotocol = \"tcp\"\n\
         standalone = true\nring_size = {SLOTS}\n"
    );
    for (number, _) in backends {
        let address = backend(*number);
        write!(text, "[[service.backend]]\naddress = \"{address}\"\nmode = \"dr\"\n").unwrap();
    }
    let config = Config::parse("kernel", &text).unwrap_or_else(|errors| panic!("{errors}"));
    let mut desired = desired(&config, &Elsewhere);
    for service in desired.services.values_mut() {
        for (number, weight) in backends {
            service.backends.get_mut(&(backend(*number), 80)).unwrap().weight = *weight;
        }
    }
    desired
}

/// A reconciler and its loaded program, which the tests use one after the other.
struct Loaded {
    forwarding: Forwarding,
    dataplane: MutexGuard<'static, Option<XdpDataplane>>,
    now: Timestamp,
}

impl Loaded {
    fn new() -> Self {
        static PROGRAM: Mutex<Option<XdpDataplane>> = Mutex::new(None);
        let mut dataplane = PROGRAM.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let programs = vec![Program::Native];
        let options =
            LoadOptions { backends: 64, services: 16, programs, ..LoadOptions::new("/nonexistent") };
        let loaded = dataplane.get_or_insert_with(|| XdpDataplane::load(options).expect("the program loads"));
        loaded.reset("/nonexistent").expect("every map can be emptied");
        loaded.leases().set(STANDALONE_LEASE, LEASE_FOREVER).expect("the lease is there");
        Self { forwarding: Forwarding::new(64), dataplane, now: Timestamp::now() }
    }

    fn dataplane(&mut self) -> &mut XdpDataplane {
        self.dataplane.as_mut().expect("it was loaded")
    }

    fn apply(&mut self, desired: &Desired) {
        let dataplane = self.dataplane.as_mut().expect("it was loaded");
        let errors = self.forwarding.reconcile(dataplane, desired, self.now);
        assert!(errors.is_empty(), "{errors:?}");
    }

    /// Lets time pass for the reconciler, which does what is due.
    fn after(&mut self, time: Duration, desired: &Desired) {
        let end = self.now + time;
        while let Some(due) = self.forwarding.next_settling().filter(|due| *due <= end) {
            self.now = self.now.max(due) + Duration::from_nanos(1);
            let dataplane = self.dataplane.as_mut().expect("it was loaded");
            self.forwarding.settle(dataplane, self.now).expect("the flow table can be read");
        }
        self.now = end;
        self.apply(desired);
    }

    /// What becomes of a client's packet, and the MAC address it has then.
    fn packet(&mut self, port: u16, opens: bool) -> (Verdict, Mac) {
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 0x0a])
            .ipv4([192, 0, 2, 9], [172, 20, 128, 4], 64)
            .tcp(port, 80, 1, 512);
        let builder = if opens { builder.syn() } else { builder.ack(1) };
        let mut frame = Vec::new();
        builder.write(&mut frame, b"hello").expect("a Vec takes everything");
        let dataplane = self.dataplane();
        let before = dataplane.verdicts().expect("the counters can be read");
        let outcome = dataplane.test_run(Program::Native, &frame).expect("the kernel runs it");
        let after = dataplane.verdicts().expect("the counters can be read");
        let counted = Verdict::ALL.iter().zip(after.iter().zip(before)).filter(|(_, (a, b))| *a != b);
        let [verdict] = counted.map(|(verdict, _)| *verdict).collect::<Vec<_>>()[..] else {
            panic!("one verdict a packet")
        };
        let mut mac = Mac::default();
        mac.0.copy_from_slice(&outcome.frame[..6]);
        (verdict, mac)
    }

    /// Where a packet of a going connection is sent.
    fn sent_to(&mut self, port: u16) -> Mac {
        let (verdict, mac) = self.packet(port, false);
        assert_eq!(verdict, Verdict::Dr, "port {port}");
        mac
    }
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn last_backend_leaves_no_ring_behind() {
    let mut node = Loaded::new();
    let one = wanted(&[(1, 1)]);
    let mut none = one.clone();
    none.services.values_mut().for_each(|service| service.backends.clear());
    let mut failed = one.clone();
    for backend in failed.services.values_mut().flat_map(|service| service.backends.values_mut()) {
        (backend.weight, backend.condition) = (0, Condition::Failed);
    }

    node.apply(&one);
    assert_eq!(node.sent_to(1), mac_of(backend(1)));
    node.apply(&failed);
    assert_eq!(node.packet(1, false).0, Verdict::NoBackend, "it failed, so there is nothing to keep");
    assert_eq!(node.packet(2, true).0, Verdict::NoBackend);

    node.after(Duration::from_secs(30), &one);
    assert_eq!(node.sent_to(1), mac_of(backend(1)), "it is back");
    node.apply(&none);
    assert_eq!(node.sent_to(1), mac_of(backend(1)), "it was taken out, and keeps the connections it has");
    assert_eq!(node.packet(2, true).0, Verdict::NoBackend, "but gets no new ones");
    node.after(WINDOW + TIMEOUT + WINDOW, &none);
    assert_eq!(node.packet(1, false).0, Verdict::NoBackend, "until they are forgotten");

    node.apply(&Desired::default());
    assert_eq!(node.packet(1, false).0, Verdict::VipStack, "no service");
    let dataplane = node.dataplane.as_mut().expect("it was loaded");
    assert!(node.forwarding.forget_vips(dataplane, &Desired::default()).is_empty());
    assert_eq!(node.packet(1, false).0, Verdict::NotOurs, "no VIP");

    // Others get the identifiers and the rings, and nothing that was before shows.
    node.after(REST + REST, &wanted(&[(7, 1)]));
    assert_eq!((1..50).map(|port| node.sent_to(port)).collect::<BTreeSet<_>>(), [mac_of(backend(7))].into());
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn identifier_names_nobody_else_while_a_flow_or_a_slot_may_name_it() {
    let mut node = Loaded::new();
    node.apply(&wanted(&[(1, 1), (2, 1)]));
    let second = mac_of(backend(2));
    let old: Vec<u16> = (1..200).filter(|port| node.sent_to(*port) == second).collect();
    assert!(old.len() > 50, "{old:?}");
    node.apply(&wanted(&[(1, 1)]));
    for port in &old {
        assert_eq!(node.sent_to(*port), second, "connections stay with a backend that is taken out");
    }
    // Backends come and go, and their identifiers are used again and again; but not this one.
    let churn = Duration::from_mins(2);
    for round in 0..6_u8 {
        let backends: Vec<(u8, u32)> = (0..8).map(|n| (10 + round * 8 + n, 1)).collect();
        let others = wanted(&backends);
        node.apply(&others);
        for port in &old {
            assert_eq!(node.sent_to(*port), second, "round {round}");
        }
        node.after(churn, &others);
        for port in &old {
            assert_eq!(node.sent_to(*port), second, "round {round}, settled");
        }
    }
    // The connections end; then it is free, and 63 identifiers are enough for 60 backends.
    node.after(TIMEOUT, &wanted(&[(1, 1)]));
    node.after(WINDOW + TIMEOUT, &wanted(&[(1, 1)]));
    node.after(REST + REST, &wanted(&[(1, 1)]));
    let many: Vec<(u8, u32)> = (100..160).map(|number| (number, 1)).collect();
    node.apply(&wanted(&many));
    assert_eq!(node.packet(60_000, true).0, Verdict::Dr);
}
