//! Live frames (`lb-ebpf/src/bench/live.rs`): sent by the kernel's test run, counted where they end.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{Array, DevMap, MapData, PerCpuArray},
    programs::{
        TestRun as _, TestRunAttrs, TestRunOptions, Xdp,
        xdp::{XdpLinkId, XdpMode},
    },
};
use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, setns},
};
use xtask_report::plan::{Port, Route, Sink};

use super::{
    super::{
        BenchError, failed, frames,
        program::{Stimulus, absent, object, program},
    },
    counters::{self, Daemon},
    home, pktgen,
};

/// Frames that leave together: what a driver finds in its ring at a time.
const BATCH: u32 = 64;
/// How long the last frames may be on their way.
const ARRIVE_WITHIN: Duration = Duration::from_secs(1);
/// The counters of `bench_sink`.
const ALL: u32 = 0;
const REWRITTEN: u32 = 1;

/// Which flows frames belong to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traffic {
    /// How many there are, a power of two; 0: 2³².
    pub(super) flows: u32,
    /// The number of the first.
    pub(super) from: u32,
    /// Whether frames are SYNs, or segments of what is established.
    pub(super) syn: bool,
}

/// What became of some frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// For each, from the generator to the sink.
    pub(super) nanoseconds: f64,
    /// How many arrived.
    pub(super) arrived: u64,
    /// How long the softirq daemon ran meanwhile, as a part of the time.
    pub(super) foreign: f64,
}

/// The programs, loaded, and where they are attached.
pub(super) struct Live {
    ebpf: Ebpf,
    stimulus: Array<MapData, Stimulus>,
    sunk: PerCpuArray<MapData, u64>,
    onward: DevMap<MapData>,
    sinks: BTreeMap<(i32, String), XdpLinkId>,
    daemon: Daemon,
}

impl Live {
    /// Loads them.
    pub(super) fn load(cpu: usize) -> Result<Self, BenchError> {
        let mut ebpf = object()?;
        for name in ["bench_generate", "bench_sink", "bench_redirect"] {
            program(&mut ebpf, name)?.load().map_err(failed("load"))?;
        }
        let mut take = |name| ebpf.take_map(name).ok_or_else(|| absent("take a map"));
        let stimulus = take("STIMULUS")?.try_into().map_err(failed("open STIMULUS"))?;
        let sunk = take("SUNK")?.try_into().map_err(failed("open SUNK"))?;
        let onward = take("ONWARD")?.try_into().map_err(failed("open ONWARD"))?;
        let daemon = Daemon::of(cpu);
        Ok(Self { ebpf, stimulus, sunk, onward, sinks: BTreeMap::new(), daemon })
    }

    /// Attaches what a route needs for as long as we run.
    pub(super) fn prepare(&mut self, route: &Route) -> Result<(), BenchError> {
        if let Sink::Program(port) = &route.sink
            && !self.sinks.contains_key(&(port.process, port.interface.clone()))
        {
            let link = self.attach("bench_sink", port)?;
            self.sinks.insert((port.process, port.interface.clone()), link);
        }
        if let Some((from, to)) = &route.redirect {
            let index = within(to.process, || if_nametoindex(to.interface.as_str()))?
                .map_err(failed("find the interface to redirect to"))?;
            let onward = &mut self.onward;
            within(to.process, || onward.set(0, index, None, 0))?
                .map_err(failed("name the interface to redirect to"))?;
            self.attach("bench_redirect", from)?;
        }
        Ok(())
    }

    fn attach(&mut self, name: &'static str, port: &Port) -> Result<XdpLinkId, BenchError> {
        let program: &mut Xdp = program(&mut self.ebpf, name)?;
        within(port.process, || program.attach(&port.interface, XdpMode::Driver))?
            .map_err(failed("attach to an interface of the lab"))
    }

    /// Sends frames, waits until they have arrived, and says what they took.
    pub(super) fn send(&mut self, route: &Route, traffic: Traffic, packets: u32) -> Result<Sent, BenchError> {
        let stimulus = Stimulus {
            packet: frames::live(route.mac, route.to, route.port, traffic.syn),
            mask: traffic.flows.wrapping_sub(1),
            runs: traffic.from,
            services: 0,
            grown: 0,
        };
        self.stimulus.set(0, stimulus, 0).map_err(failed("set the packet"))?;
        let generator = &route.generator;
        let program = program(&mut self.ebpf, "bench_generate")?;
        let send = || {
            within(generator.process, || {
                let index =
                    if_nametoindex(generator.interface.as_str()).map_err(failed("find the generator"))?;
                run(program, &stimulus.packet, index, packets)
            })?
        };
        watch(&self.sunk, &self.daemon, route, packets, send)
    }

    /// The same by pktgen, as UDP.
    pub(super) fn send_by_pktgen(
        &self,
        route: &Route,
        traffic: Traffic,
        packets: u32,
        cpu: usize,
    ) -> Result<Sent, BenchError> {
        watch(&self.sunk, &self.daemon, route, packets, || pktgen::send(route, traffic, packets, cpu))
    }

    /// Sends frames and looks at each of them at the end: `Err` says what was wrong.
    pub(super) fn prove(
        &mut self,
        route: &Route,
        traffic: Traffic,
        packets: u32,
    ) -> Result<Result<(), String>, BenchError> {
        let extra = match &route.sink {
            Sink::Interface(port) => Some((port, self.attach("bench_sink", port)?)),
            Sink::Program(_) | Sink::Stack(_) => None,
        };
        let before = [total(&self.sunk, ALL)?, total(&self.sunk, REWRITTEN)?];
        let sent = self.send(route, traffic, packets)?;
        let seen = [total(&self.sunk, ALL)? - before[0], total(&self.sunk, REWRITTEN)? - before[1]];
        if let Some((port, link)) = extra {
            let program: &mut Xdp = program(&mut self.ebpf, "bench_sink")?;
            within(port.process, || program.detach(link))?.map_err(failed("detach a sink"))?;
        }
        let packets = u64::from(packets);
        let rewritten = if route.rewritten { packets } else { 0 };
        let home = home(&route.sink);
        Ok(match route.sink {
            Sink::Stack(_) if sent.arrived == packets => Ok(()),
            Sink::Program(_) | Sink::Interface(_) if seen == [packets, rewritten] => Ok(()),
            _ => Err(format!(
                "of {packets} frames {} arrived in the namespace of process {home}, {} of them seen, {} rewritten",
                sent.arrived, seen[0], seen[1]
            )),
        })
    }
}

/// Counts what arrives of what `send` sends, which returns the nanoseconds that each took.
fn watch(
    sunk: &PerCpuArray<MapData, u64>,
    daemon: &Daemon,
    route: &Route,
    packets: u32,
    send: impl FnOnce() -> Result<f64, BenchError>,
) -> Result<Sent, BenchError> {
    let arrived = || match &route.sink {
        Sink::Program(_) => total(sunk, ALL),
        sink => counters::at(sink).map_err(BenchError::Output),
    };
    let (before, ran) = (arrived()?, daemon.ran());
    let nanoseconds = send()?;
    let deadline = Instant::now() + ARRIVE_WITHIN;
    let mut count = arrived()? - before;
    while count < u64::from(packets) && Instant::now() < deadline {
        thread::yield_now();
        count = arrived()? - before;
    }
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of some seconds are far below 2⁵³")]
    let foreign = (daemon.ran() - ran) as f64 / (nanoseconds * f64::from(packets));
    Ok(Sent { nanoseconds, arrived: count, foreign })
}

/// Has the kernel send frames out of an interface of the thread's namespace; nanoseconds for each.
fn run(program: &mut Xdp, packet: &[u8], interface: u32, packets: u32) -> Result<f64, BenchError> {
    // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context: Vec<u8> =
        [0, packet.len() as u32, 0, interface, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    let mut options = TestRunOptions::new();
    options.data_in = Some(packet);
    options.ctx_in = Some(&context);
    options.repeat = packets;
    options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
    let result = program.test_run(options).map_err(failed("send live frames"))?;
    Ok(result.duration.as_secs_f64() * 1e9)
}

fn total(counters: &PerCpuArray<MapData, u64>, index: u32) -> Result<u64, BenchError> {
    let values = counters.get(&index, 0).map_err(failed("read SUNK"))?;
    Ok(values.iter().sum())
}

/// Does something in the network namespace of a process. The thread is there afterwards; whatever it does next names its own.
pub(super) fn within<T>(process: i32, work: impl FnOnce() -> T) -> Result<T, BenchError> {
    let enter = || -> io::Result<()> {
        let namespace = File::open(format!("/proc/{process}/ns/net"))?;
        Ok(setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?)
    };
    enter().map_err(failed("enter a node of the lab"))?;
    Ok(work())
}
