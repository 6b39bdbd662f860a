//! How long rings and large configurations take, how much memory, and how many slots move.

use std::{
    collections::BTreeMap,
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use clap::Args;
use xtask_report::{Bound, Goal, Group, Machine, Report, Row};

use super::{BenchError, memory};
use crate::{
    balance::{Member, MemberKey, Ring},
    config::Protocol,
    control::scale::{self, Shape, Step},
    dataplane::{LoadOptions, XdpDataplane},
};

/// How many backends the rings that are built have.
const RINGS: [u32; 5] = [2, 10, 100, 1_000, 4_000];

/// `cargo xtask bench scale`.
#[derive(Args, Debug)]
pub struct Options {
    /// How often rings are built, and the large configuration is changed in each way
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How many services
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    services: u32,
    /// Backends of each
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    backends: u32,
    /// Slots of each service's ring
    #[arg(long, default_value_t = lb_common::DEFAULT_RING_SIZE)]
    ring_size: u32,
    /// Build rings only
    #[arg(long)]
    rings_only: bool,
}

/// Carries the command out.
pub fn execute(options: &Options) -> Result<Report, BenchError> {
    let mut machine = Machine::here();
    let mut groups = vec![rings(options), moves(options.ring_size)];
    if !options.rings_only {
        groups.extend(configuration(options)?);
    }
    machine.load_after = xtask_report::load();
    Ok(Report {
        title: "Rings and large configurations".to_owned(),
        machine,
        rounds: u32::from(options.rounds),
        notes: vec![
            "Elapsed time. The configuration goes through the control plane's reconciler into the maps of a loaded program; \
             nothing is attached, and no backend is probed."
                .to_owned(),
            "Reading and the first application happen once; all changes concern one backend of one service.".to_owned(),
        ],
        groups,
    })
}

/// Rings of different numbers of backends, by turns.
fn rings(options: &Options) -> Group {
    let members = RINGS.map(members);
    let mut samples = RINGS.map(|_| Vec::new());
    for _ in 0..=options.rounds {
        for (members, samples) in members.iter().zip(&mut samples) {
            let started = Instant::now();
            black_box(Ring::build(black_box(members), options.ring_size));
            samples.push(milliseconds(started));
        }
    }
    let row = |(count, samples): (u32, Vec<f64>)| {
        // The first of all met cold caches.
        let row = Row::new(format!("{count} backends"), samples[1..].to_vec());
        // The goal is for the usual size.
        let is_usual = count == 100 && options.ring_size == lb_common::DEFAULT_RING_SIZE;
        Row { goal: is_usual.then(|| Goal::new(Bound::AtMost(1.0), None)), ..row }
    };
    let rows = RINGS.into_iter().zip(samples).map(row).collect();
    Group::new(format!("Building a ring of {} slots", options.ring_size), "ms", None, rows)
}

/// Slots that change hands when one of some backends changes, beside as many as must because its share does.
fn moves(ring_size: u32) -> Group {
    let mut rows = Vec::new();
    for count in RINGS {
        let before = members(count);
        let mut without = before.clone();
        without.remove(count as usize / 2);
        rows.extend(compared(
            &format!("one of {count} backends goes, or comes"),
            &before,
            &without,
            ring_size,
        ));
        let mut lighter = heavy(&before);
        lighter[count as usize / 2].weight /= 2;
        rows.extend(compared(
            &format!("one of {count} backends gets half its weight"),
            &heavy(&before),
            &lighter,
            ring_size,
        ));
    }
    Group::new(format!("Slots of {ring_size} that change hands"), "slots", None, rows)
}

/// The least and what there is.
fn compared(what: &str, before: &[Member], after: &[Member], ring_size: u32) -> [Row; 2] {
    let (old, new) = (Ring::build(before, ring_size), Ring::build(after, ring_size));
    let shares = |ring: &Ring, members: &[Member]| -> BTreeMap<MemberKey, u32> {
        std::iter::zip(members.iter().map(|member| member.key), ring.shares(members.len())).collect()
    };
    let kept = shares(&new, after);
    // Whoever is due less than before has to give the rest away.
    let least: u32 = shares(&old, before)
        .into_iter()
        .map(|(key, share)| share.saturating_sub(kept.get(&key).copied().unwrap_or(0)))
        .sum();
    let moved =
        std::iter::zip(old.ids(before), new.ids(after)).filter(|(old, new)| old != new).count() as u32;
    let note = Some(format!("{:.2} × the least", f64::from(moved) / f64::from(least.max(1))));
    let is = Row { note, ..Row::new(what, vec![f64::from(moved)]) };
    [Row::new(format!("{what}: at least"), vec![f64::from(least)]), is]
}

/// The same with weights that can be halved.
fn heavy(members: &[Member]) -> Vec<Member> {
    members.iter().map(|member| Member { weight: 100, ..*member }).collect()
}

fn members(count: u32) -> Vec<Member> {
    let member = |number: u32| {
        let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number));
        Member { key: MemberKey { address, port: 80, protocol: Protocol::Tcp }, weight: 1, id: number }
    };
    (1..=count).map(member).collect()
}

fn configuration(options: &Options) -> Result<[Group; 2], BenchError> {
    let Options { services, backends, ring_size, rounds, .. } = *options;
    let room = services.saturating_mul(backends).saturating_add(1);
    let resident_before = memory::resident()?;
    let load = LoadOptions { backends: room, ..LoadOptions::new("/nonexistent") };
    let mut dataplane = XdpDataplane::load(load)?;
    let steps = scale::run(&mut dataplane, room, Shape { services, backends, ring_size }, rounds)
        .map_err(BenchError::Scale)?;
    // Four thousand tebibytes are more than any machine has.
    let mebibytes =
        |name: &str, value: u64| Row::new(name, vec![f64::from(u32::try_from(value).unwrap_or(u32::MAX))]);
    let memory = vec![
        mebibytes("of the process, before", resident_before),
        mebibytes("of the process, at the end", memory::resident()?),
        mebibytes("of the maps in the kernel, without rings", memory::open_maps()?),
        mebibytes("of the rings in the kernel", dataplane.rings_memory()? >> 20),
    ];
    let title = format!("{services} services of {backends} backends, rings of {ring_size} slots");
    Ok([
        Group::new(&title, "ms", None, lines(&steps)),
        Group::new(format!("Memory of {title}"), "MiB", None, memory),
    ])
}

/// A row for each kind of step, in the order of their first.
fn lines(steps: &[Step]) -> Vec<Row> {
    let mut rows: Vec<(&str, Vec<f64>)> = Vec::new();
    for step in steps {
        let time = step.time.as_secs_f64() * 1e3;
        match rows.iter_mut().find(|(what, _)| *what == step.what) {
            Some((_, samples)) => samples.push(time),
            None => rows.push((step.what, vec![time])),
        }
    }
    let goal = |what: &str| match what {
        "a backend fails" | "it is well again" | "a backend gets another weight" => {
            Some(Goal::new(Bound::AtMost(50.0), None))
        }
        _ => None,
    };
    rows.into_iter().map(|(what, samples)| Row { goal: goal(what), ..Row::new(what, samples) }).collect()
}

fn milliseconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}
