//! Packets on every CPU at once, while the maps change.

use std::sync::{
    Barrier,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use lb::dataplane::{
    Dataplane as _,
    Program::{self, Generic, Native},
    Runner, TestOutcome,
};
use lb_common::{BackendCounters, Be16, Service, ServiceKey6, Verdict};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::{
    namespace::isolated,
    packets::{tcp, udp},
    world::{
        DR, DR_FAR, FAR, LOCAL, NAT, NAT_UDP, NEAR, REDIRECT, TX, VIP, VIP6, World, address, backend_of,
        backend_of6, build_network,
    },
};

/// The CPUs this process may run on.
fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("the affinity can be read");
    (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect()
}

/// Keeps this thread on a CPU.
fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).expect("the CPU has a number in the set");
    sched_setaffinity(Pid::from_raw(0), &set).expect("the CPU is one of ours");
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn counters_are_exact_whatever_runs_on_other_cpus() {
    const TIMES: u64 = 5_000;
    isolated(|| {
        build_network();
        let mut world = World::load();
        let frames = [
            tcp(VIP, DR).syn().bytes(),
            tcp(VIP, DR).payload(100).bytes(),
            tcp(VIP, NAT).bytes(),
            udp(VIP, NAT_UDP).bytes(),
            tcp(VIP6, LOCAL).bytes(),
        ];
        // At least two threads, also where there is one CPU.
        let mut cpus = cpus();
        cpus.truncate(8);
        cpus.extend((cpus.len() == 1).then(|| cpus[0]));
        let start = Barrier::new(cpus.len());
        let runners: Vec<(usize, Runner)> = cpus
            .iter()
            .map(|cpu| (*cpu, world.dataplane.runner(Native).expect("the program is loaded")))
            .collect();
        std::thread::scope(|scope| {
            for (cpu, runner) in runners {
                let (frames, start) = (&frames, &start);
                scope.spawn(move || {
                    stay_on(cpu);
                    start.wait();
                    for _ in 0..TIMES {
                        for frame in frames {
                            runner.run(frame).expect("the kernel runs the program");
                        }
                    }
                });
            }
        });

        let runs = TIMES * cpus.len() as u64;
        let verdicts = world.dataplane.verdicts().expect("verdicts");
        for (verdict, seen) in Verdict::ALL.iter().zip(verdicts) {
            let times = match verdict {
                Verdict::Dr | Verdict::Nat => 2,
                Verdict::Local => 1,
                _ => 0,
            };
            assert_eq!(seen, times * runs, "{}", verdict.name());
        }
        let bytes = frames.each_ref().map(|frame| frame.len() as u64);
        for (id, packets, bytes, connections) in [
            (backend_of(DR), 2, bytes[0] + bytes[1], 1),
            (backend_of(NAT), 1, bytes[2], 0),
            (backend_of(NAT_UDP), 1, bytes[3], 0),
            (backend_of6(LOCAL), 1, bytes[4], 0),
        ] {
            let expected = BackendCounters {
                packets: packets * runs,
                bytes: bytes * runs,
                connections: connections * runs,
                reserved: 0,
            };
            assert_eq!(world.dataplane.backend_counters(id).expect("counters"), expected, "backend {id}");
        }
    });
}

/// Where a packet went: [`DR`]'s backend or [`DR_FAR`]'s.
fn taker(outcome: &TestOutcome) -> u16 {
    match (outcome.action, &outcome.frame[..6]) {
        (TX, mac) if mac == NEAR.0 => DR,
        (REDIRECT, mac) if mac == FAR.0 => DR_FAR,
        other => panic!("neither the old nor the new backend: {other:02x?}"),
    }
}

/// Runs packets of many flows on one CPU for as long as `change` takes, which is called with each round's number and says
/// whose the packets are when it has returned.
fn meanwhile(
    world: &mut World,
    program: Program,
    rounds: u32,
    mut change: impl FnMut(&mut World, u32) -> u16,
) {
    let frames: Vec<Vec<u8>> =
        (1..=64).map(|client| tcp(VIP, DR).source_port(40_000 + client).bytes()).collect();
    let (over, packets) = (AtomicBool::new(false), AtomicU64::new(0));
    let flood = world.dataplane.runner(program).expect("the program is loaded");
    let after = world.dataplane.runner(program).expect("the program is loaded");
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            for frame in frames.iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                taker(&flood.run(frame).expect("the kernel runs the program"));
                packets.fetch_add(1, Ordering::Relaxed);
            }
        });
        let last_cpu = cpus().last().copied().unwrap_or(0);
        stay_on(last_cpu);
        let changing = || {
            for round in 0..rounds {
                let seen = packets.load(Ordering::Relaxed);
                let new = change(world, round);
                for frame in &frames[..8] {
                    let outcome = after.run(frame).expect("the kernel runs the program");
                    assert_eq!(taker(&outcome), new, "round {round}");
                }
                // Some packets for every change, whatever the scheduler does.
                while packets.load(Ordering::Relaxed) < seen + 10 && !flooding.is_finished() {
                    std::thread::yield_now();
                }
            }
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(changing));
        over.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let runs = packets.load(Ordering::Relaxed) + u64::from(rounds) * 8;
    let verdicts = world.dataplane.verdicts().expect("verdicts");
    for (verdict, seen) in Verdict::ALL.iter().zip(verdicts) {
        assert_eq!(seen, if *verdict == Verdict::Dr { runs } else { 0 }, "{}", verdict.name());
    }
}

/// One of the two by turns.
fn of_round(round: u32) -> u16 {
    if round.is_multiple_of(2) { DR_FAR } else { DR }
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn packet_sees_the_old_ring_or_the_new_one() {
    isolated(|| {
        build_network();
        for program in [Native, Generic] {
            let mut world = World::load();
            meanwhile(&mut world, program, 40, |world, round| {
                let new = of_round(round);
                world.dataplane.put_ring(backend_of(DR), &[backend_of(new)]).expect("put_ring");
                new
            });
        }
    });
}

/// A ring of another size is another ring: the service changes, and both together.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn packet_sees_the_old_service_or_the_new_one() {
    const SIZES: [usize; 2] = [3, 1_009];
    const RINGS: u32 = 300;
    isolated(|| {
        build_network();
        for program in [Native, Generic] {
            let mut world = World::load();
            for (index, size) in (RINGS..).zip(SIZES) {
                let ring = vec![backend_of(of_round(index)); size];
                world.dataplane.put_ring(index, &ring).expect("put_ring");
            }
            let change = |world: &mut World, round: u32| {
                let which = round % 2;
                let ring_size = SIZES[which as usize] as u32;
                let service = Service { ring: RINGS + which, ring_size, lease: 1, ..Service::default() };
                let key =
                    ServiceKey6 { address: address(VIP), port: Be16::new(DR), protocol: 6, reserved: 0 };
                world.dataplane.put_service(key, service).expect("put_service");
                of_round(RINGS + which)
            };
            change(&mut world, 0);
            meanwhile(&mut world, program, 400, change);
        }
    });
}
