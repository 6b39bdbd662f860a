//! A large configuration brought into the maps, for measuring.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
    time::{Duration, Instant},
};

use lb_common::{Device, Interface, Mac, NextHop};

use super::{
    desired::{Condition, Outer, View, desired},
    forwarding::Forwarding,
};
use crate::{
    config::{Config, Service},
    dataplane::Dataplane,
    time::Timestamp,
};

/// How large.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Services, each with a VIP of its own.
    pub(crate) services: u32,
    /// Backends of each.
    pub(crate) backends: u32,
    /// Slots of each ring.
    pub(crate) ring_size: u32,
}

/// What was done, and how long it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) what: &'static str,
    pub(crate) time: Duration,
}

/// All backends are behind the loopback, and up but for one.
#[derive(Default)]
struct Known {
    failed: BTreeSet<IpAddr>,
}

impl View for Known {
    fn is_owner(&self, _: &str) -> bool {
        true
    }

    fn condition(&self, _: &Service, address: IpAddr, _: u16) -> Condition {
        if self.failed.contains(&address) { Condition::Failed } else { Condition::Up }
    }

    fn is_own_address(&self, _: IpAddr) -> bool {
        false
    }

    fn interfaces(&self) -> BTreeMap<u16, Interface> {
        let lo = Interface { ifindex: 1, mac: Mac([2, 0, 0, 0, 0, 1]), mtu: 1_500, ..Interface::default() };
        BTreeMap::from([(1, lo)])
    }

    fn devices(&self) -> BTreeMap<u32, Device> {
        BTreeMap::new()
    }

    fn next_hop(&self, _: IpAddr) -> NextHop {
        NextHop::new(Mac([2, 0, 0, 0, 0, 2]), 1)
    }

    fn outer(&self, _: IpAddr) -> Outer {
        Outer::default()
    }

    fn neighbour(&self, _: IpAddr) -> Option<Mac> {
        None
    }
}

/// Applies a configuration of that shape, then changes it `changes` times in each way. `Err` with what failed.
pub(crate) fn run(
    dataplane: &mut dyn Dataplane,
    room: u32,
    shape: Shape,
    changes: u16,
) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut step = |what, started: Instant| steps.push(Step { what, time: started.elapsed() });
    let text = configuration(shape);

    let started = Instant::now();
    let mut config = Config::parse("scale", &text).map_err(|errors| errors.to_string())?;
    step("read the configuration", started);

    let mut forwarding = Forwarding::new(room);
    let mut apply = |config: &Config, known: &Known| {
        let wanted = desired(config, known);
        let errors = forwarding.reconcile(dataplane, &wanted, Timestamp::now());
        errors.first().map_or(Ok(()), |error| Err(error.to_string()))
    };
    let mut known = Known::default();
    let started = Instant::now();
    apply(&config, &known)?;
    step("apply it to empty maps", started);

    let middle = shape.services as usize / 2;
    let address = config.services[middle].backends[0].address;
    for _ in 0..changes {
        let started = Instant::now();
        apply(&config, &known)?;
        step("apply it again, unchanged", started);

        known.failed.insert(address);
        let started = Instant::now();
        apply(&config, &known)?;
        step("a backend fails", started);

        known.failed.clear();
        let started = Instant::now();
        apply(&config, &known)?;
        step("it is well again", started);

        let weight = &mut config.services[middle].backends[1].weight;
        *weight = 3 - *weight;
        let started = Instant::now();
        apply(&config, &known)?;
        step("a backend gets another weight", started);
    }
    Ok(steps)
}

fn configuration(shape: Shape) -> String {
    let mut text = "[interface.lo]\n".to_owned();
    for service in 0..shape.services {
        let [_, _, high, low] = service.to_be_bytes();
        // Invariant: a String takes everything.
        let _ = write!(
            text,
            "[[service]]\nname = \"s{service}\"\nvip = \"192.168.{high}.{low}\"\nport = 80\nprotocol = \"tcp\"\n\
             standalone = true\nring_size = {}\n",
            shape.ring_size
        );
        for backend in 0..shape.backends {
            let [a, b, c, _] = ((service * shape.backends + backend + 1) << 8).to_be_bytes();
            let _ = write!(text, "[[service.backend]]\naddress = \"10.{a}.{b}.{c}\"\nmode = \"dr\"\n");
        }
    }
    text
}
