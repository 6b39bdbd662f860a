//! The wrapper and the floors (`lb-ebpf/src/bench`), loaded.

use std::time::Duration;

use aya::{
    Ebpf, Pod,
    maps::{Array, MapData, ProgramArray},
    programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp},
};
use nix::time::{ClockId, clock_gettime};

use super::BenchError;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LB_BENCH_OBJECT"));

/// Bytes of the packet.
pub(super) const LENGTH: usize = 80;

/// What the wrapper works by; `lb-ebpf/src/bench/main.rs` has its twin.
#[repr(C)]
#[derive(Clone, Copy)]
struct Stimulus {
    packet: [u8; LENGTH],
    mask: u32,
    runs: u32,
}

// SAFETY: `repr(C)` integers without padding; any bits are a value.
unsafe impl Pod for Stimulus {}

/// The least that a program could do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Floor {
    /// Leaves the packet to the stack.
    Pass,
    /// Returns `XDP_TX`.
    Transmit,
    /// Exchanges the MAC addresses.
    Swap,
    /// Adds a constant outer header.
    Encapsulate,
}

impl Floor {
    pub(super) const ALL: [Self; 4] = [Self::Pass, Self::Transmit, Self::Swap, Self::Encapsulate];

    const fn program(self) -> &'static str {
        match self {
            Self::Pass => "bench_pass",
            Self::Transmit => "bench_transmit",
            Self::Swap => "bench_swap",
            Self::Encapsulate => "bench_encapsulate",
        }
    }
}

/// The loaded programs and their maps.
pub(super) struct Programs {
    ebpf: Ebpf,
    stimulus: Array<MapData, Stimulus>,
    target: ProgramArray<MapData>,
}

/// What some runs in a row took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Processor time of one, in nanoseconds, the wrapper included.
    pub(super) nanoseconds: f64,
    /// The XDP action of the last.
    pub(super) action: u32,
}

impl Programs {
    /// Loads them.
    pub(super) fn load() -> Result<Self, BenchError> {
        let mut ebpf = Ebpf::load(OBJECT).map_err(failed("load"))?;
        for name in Floor::ALL.iter().map(|floor| floor.program()).chain(["bench_wrapper"]) {
            program(&mut ebpf, name)?.load().map_err(failed("load"))?;
        }
        let mut take = |name| ebpf.take_map(name).ok_or_else(|| absent("take a map"));
        let stimulus = take("STIMULUS")?.try_into().map_err(failed("open STIMULUS"))?;
        let target = take("TARGET")?.try_into().map_err(failed("open TARGET"))?;
        Ok(Self { ebpf, stimulus, target })
    }

    /// A floor's program.
    pub(super) fn floor(&mut self, floor: Floor) -> Result<ProgramFd, BenchError> {
        let fd = program(&mut self.ebpf, floor.program())?.fd().map_err(failed("open a floor"))?;
        fd.try_clone().map_err(failed("duplicate a floor"))
    }

    /// Runs `target` on `repeat` packets of `flows` flows, which is a power of two.
    pub(super) fn run(
        &mut self,
        target: &ProgramFd,
        packet: [u8; LENGTH],
        flows: u64,
        repeat: u32,
    ) -> Result<Run, BenchError> {
        self.target.set(0, target, 0).map_err(failed("set the target"))?;
        let mask = (flows - 1) as u32;
        self.stimulus.set(0, Stimulus { packet, mask, runs: 0 }, 0).map_err(failed("set the packet"))?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(&packet);
        options.repeat = repeat;
        let wrapper = program(&mut self.ebpf, "bench_wrapper")?;
        // The kernel tells its own time in whole nanoseconds per run, which is 3 % of a floor.
        let before = processor_time()?;
        let result = wrapper.test_run(options).map_err(failed("test run"))?;
        let time = processor_time()?.saturating_sub(before);
        Ok(Run { nanoseconds: time.as_secs_f64() * 1e9 / f64::from(repeat), action: result.return_value })
    }
}

/// Processor time of this thread: what others do meanwhile does not count.
fn processor_time() -> Result<Duration, BenchError> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_err(failed("read the thread's clock"))?;
    Ok(time.into())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, BenchError> {
    let program = ebpf.program_mut(name).ok_or_else(|| absent(name))?;
    program.try_into().map_err(failed(name))
}

fn absent(what: &'static str) -> BenchError {
    failed(what)("the object file lacks it")
}

fn failed<E>(what: &'static str) -> impl FnOnce(E) -> BenchError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| BenchError::Programs { what, source: source.into() }
}
