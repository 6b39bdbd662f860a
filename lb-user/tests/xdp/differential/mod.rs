//! Random packets against random maps: the program and the reference model must agree on verdict, action, every byte of
//! what is sent, every counter and every flow that is remembered.

mod configuration;
mod shrink;
mod step;

use std::fmt::Write as _;

use lb::dataplane::{
    Dataplane as _, FlowCursor,
    Program::{self, Generic, Native},
    TestOutcome, XdpDataplane,
};
use lb_common::{Backend, BackendCounters, FlowKey, Verdict};
use nix::time::{ClockId, clock_gettime};
use proptest::{
    sample::Index,
    strategy::Strategy as _,
    test_runner::{Config, RngAlgorithm, TestRunner},
};

use self::{configuration::BACKENDS, step::Step};
use crate::{
    model::{Expected, Model, ServiceModel, When},
    namespace::isolated,
    pool::Lent,
    world::{DROP, build_network},
};

/// Of each configuration so many packets.
const PACKETS: usize = 1_000;
/// The remembered flows are compared after so many packets, and at the end.
const BETWEEN_FLOWS: usize = 100;

/// How many configurations each program meets, unless `LB_CONFIGURATIONS` says so: together more than 100,000 packets. In a
/// virtual machine without the hardware's help everything takes tens of times as long.
fn configurations() -> usize {
    let wanted = std::env::var("LB_CONFIGURATIONS").ok();
    let wanted = wanted.map(|text| text.parse().expect("LB_CONFIGURATIONS is a number"));
    wanted.unwrap_or(if std::env::var_os("LB_VM").is_some() { 3 } else { 60 })
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn native_program_agrees_with_the_model() {
    compare(Native);
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn generic_program_agrees_with_the_model() {
    compare(Generic);
}

fn compare(program: Program) {
    isolated(|| {
        build_network();
        let mut dataplane = Lent::empty();
        // Other packets in each run. They need not be cryptographically random.
        let mut runner =
            TestRunner::new(Config { rng_algorithm: RngAlgorithm::XorShift, ..Config::default() });
        let mut verdicts = vec![0; Verdict::ALL.len()];
        let configurations = configurations();
        for _ in 0..configurations {
            let configuration = configuration::model().new_tree(&mut runner).expect("nothing is filtered");
            let steps: Vec<_> = (0..PACKETS)
                .map(|_| step::step().new_tree(&mut runner).expect("nothing is filtered"))
                .collect();
            let counted = shrink::minimal(configuration, steps, |model: &Model, steps: &[Step]| {
                run(&mut dataplane, program, model, steps)
            });
            for (sum, more) in verdicts.iter_mut().zip(counted.verdicts) {
                *sum += more;
            }
        }
        assert!(configurations < 20 || are_all_met(&verdicts, program), "{verdicts:?}");
    });
}

/// Whether the packets are such that the comparison says something about every verdict.
fn are_all_met(verdicts: &[u64], program: Program) -> bool {
    Verdict::ALL.iter().zip(verdicts).all(|(verdict, &times)| match verdict {
        // The namespace forwards, all stages are there, there are fewer answers than a node may give, no pieces,
        // no virtual MAC addresses, and every VIP accepts (`fixtures_edges` and `fixtures_faults` have these).
        Verdict::ForwardingOff
        | Verdict::StageMissing
        | Verdict::TooBigLimited
        | Verdict::VirtualMacNotOwner
        | Verdict::NotAccepted
        | Verdict::Fragment
        | Verdict::FragmentUnknown => times == 0,
        Verdict::TooLong => (times >= 10) == (program == Generic),
        _ => times >= 10,
    })
}

/// Where program and model disagree.
struct Disagreement {
    /// The step.
    at: usize,
    text: String,
}

/// Runs all steps; the counters at the end.
fn run(
    dataplane: &mut XdpDataplane,
    program: Program,
    model: &Model,
    steps: &[Step],
) -> Result<Counters, Disagreement> {
    let mut model = model.clone();
    configuration::fill(dataplane, &model);
    let mut counted = Counters::default();
    for (at, step) in steps.iter().enumerate() {
        let fail = |text| Disagreement { at, text };
        match step {
            Step::Packet(sent) => {
                let frame = sent.bytes();
                // Pieces follow their first one, which the model does not remember: `fixtures_fragments` has them.
                if model.is_piece(&frame) {
                    continue;
                }
                let from = now();
                let seen = dataplane.test_run(program, &frame).expect("the kernel runs the program");
                let when = When { from, to: now(), doubtful_is_old: false };
                let mut expected = model.decide(program == Generic, &frame, when);
                let mut became = packet(&seen, &expected).err();
                if became.is_some()
                    && let Some((flow, before)) = model.doubted
                {
                    model.flows.insert(flow, before);
                    expected =
                        model.decide(program == Generic, &frame, When { doubtful_is_old: true, ..when });
                    became = packet(&seen, &expected).err();
                }
                counted.add(&expected);
                let counted = counters(dataplane, &counted).err();
                let texts: Vec<String> = became.into_iter().chain(counted).collect();
                if texts.is_empty() { Ok(()) } else { Err(texts.join("\n")) }.map_err(|text| {
                    let verdict = expected.verdict.name();
                    fail(format!(
                        "{} program, {verdict} expected\ncame {}\n{text}",
                        program.mode(),
                        hex(&frame)
                    ))
                })?;
            }
            Step::Failed(id, failed) => {
                let flags = if *failed { Backend::FAILED } else { 0 };
                dataplane.set_backend_flags(*id, flags).expect("set_backend_flags");
                model.backends.get_mut(id).expect("it is there").flags = flags;
            }
            Step::NextHop(id, next_hop) => {
                dataplane.set_next_hop(*id, *next_hop).expect("set_next_hop");
                model.backends.get_mut(id).expect("it is there").next_hop = *next_hop;
            }
            Step::Lease(lease, state) => {
                dataplane.leases().set(*lease, configuration::expiry(*state)).expect("the lease is there");
                model.leases.insert(*lease, *state);
            }
            Step::Service(which, becomes) => replace_service(dataplane, &mut model, *which, *becomes),
        }
        if at % BETWEEN_FLOWS == BETWEEN_FLOWS - 1 || at == steps.len() - 1 {
            flows(dataplane, &model).map_err(fail)?;
        }
    }
    Ok(counted)
}

/// Has one service become what another of the family is, or go.
fn replace_service(dataplane: &mut XdpDataplane, model: &mut Model, which: Index, becomes: Option<Index>) {
    let keys: Vec<_> = model.services.keys().copied().collect();
    if keys.is_empty() {
        return;
    }
    let key = *which.get(&keys);
    let others: Vec<&ServiceModel> = model
        .services
        .iter()
        .filter(|(other, _)| other.0.is_ipv4() == key.0.is_ipv4())
        .map(|(_, s)| s)
        .collect();
    if let Some(becomes) = becomes {
        let service = (*becomes.get(&others)).clone();
        configuration::put_service(dataplane, key, &service);
        model.services.insert(key, service);
    } else {
        dataplane.delete_service(configuration::service_key(key)).expect("delete_service");
        model.services.remove(&key);
    }
}

/// The clock that flows are remembered by, in nanoseconds.
fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("the clock can be read");
    now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned()
}

/// Compares what becomes of one packet.
fn packet(seen: &TestOutcome, expected: &Expected) -> Result<(), String> {
    if seen.action != expected.action {
        return Err(format!("XDP action {}, not {}", seen.action, expected.action));
    }
    // What a dropped packet looks like is nobody's business.
    if expected.action == DROP || equal(&seen.frame, expected) {
        return Ok(());
    }
    Err(format!("went {}\nnot  {}", hex(&seen.frame), hex(&expected.frame)))
}

/// Whether a frame is the expected one.
fn equal(seen: &[u8], expected: &Expected) -> bool {
    if seen.len() != expected.frame.len() {
        return false;
    }
    let (mut seen, mut wanted) = (seen.to_vec(), expected.frame.clone());
    for &field in &expected.either_zero {
        for frame in [&mut seen, &mut wanted] {
            if frame[field..field + 2] == [0xff, 0xff] {
                frame[field..field + 2].fill(0);
            }
        }
    }
    seen == wanted
}

/// What every counter should be.
struct Counters {
    verdicts: Vec<u64>,
    backends: Vec<BackendCounters>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            verdicts: vec![0; Verdict::ALL.len()],
            backends: vec![BackendCounters::default(); BACKENDS as usize + 1],
        }
    }
}

impl Counters {
    fn add(&mut self, expected: &Expected) {
        self.verdicts[expected.verdict as usize] += 1;
        if let Some((id, bytes, opens)) = expected.counted {
            let counters = &mut self.backends[id as usize];
            counters.packets += 1;
            counters.bytes += bytes;
            counters.connections += u64::from(opens);
        }
    }
}

fn counters(dataplane: &XdpDataplane, wanted: &Counters) -> Result<(), String> {
    let mut text = String::new();
    let verdicts = dataplane.verdicts().expect("verdicts");
    for (verdict, (seen, wanted)) in Verdict::ALL.iter().zip(verdicts.iter().zip(&wanted.verdicts)) {
        if seen != wanted {
            let _ = writeln!(text, "counter {}: {seen}, not {wanted}", verdict.name());
        }
    }
    for (id, wanted) in (0..).zip(&wanted.backends) {
        let seen = dataplane.backend_counters(id).expect("backend_counters");
        if seen != *wanted {
            let _ = writeln!(text, "backend {id}: {seen:?}, not {wanted:?}");
        }
    }
    if text.is_empty() { Ok(()) } else { Err(text) }
}

/// Compares what is remembered.
fn flows(dataplane: &mut XdpDataplane, model: &Model) -> Result<(), String> {
    let (mut cursor, mut seen) = (FlowCursor::default(), Vec::new());
    while !cursor.finished() {
        let some = dataplane.read_flows(&mut cursor, 1_024).expect("read_flows");
        seen.extend(some.into_iter().map(|(key, state)| (key, state.backend)));
    }
    let mut wanted: Vec<(FlowKey, u32)> =
        model.flows.iter().map(|(key, known)| (*key, known.backend)).collect();
    seen.sort_unstable();
    wanted.sort_unstable();
    if seen == wanted {
        return Ok(());
    }
    let only = |these: &[(FlowKey, u32)], those: &[(FlowKey, u32)]| {
        these.iter().filter(|flow| !those.contains(flow)).copied().collect::<Vec<_>>()
    };
    Err(format!("remembered {:#?}\nnot {:#?}", only(&seen, &wanted), only(&wanted, &seen)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
