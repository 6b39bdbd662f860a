//! The wrappers and the floors (`lb-ebpf/src/bench`), loaded.

use std::time::Duration;

use aya::{
    Ebpf, Pod,
    maps::{Array, MapData, ProgramArray},
    programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp},
};
use nix::time::{ClockId, clock_gettime};

use super::{BenchError, failed};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LB_BENCH_OBJECT"));

/// Bytes of the packet.
pub(super) const LENGTH: usize = 80;
/// Bytes of a packet of a rare kind.
pub(super) const LONG: usize = 128;

/// What the wrapper works by; `lb-ebpf/src/bench/wrapper.rs` has its twin.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Stimulus {
    pub(super) packet: [u8; LENGTH],
    pub(super) mask: u32,
    pub(super) runs: u32,
    pub(super) services: u32,
    pub(super) grown: u32,
}

/// What the wrapper of long packets works by.
#[repr(C)]
#[derive(Clone, Copy)]
struct Long {
    packet: [u8; LONG],
    mask: u32,
    runs: u32,
    grown: u32,
    client_at: u32,
    port_at: u32,
    first_client: u32,
}

// SAFETY: `repr(C)` integers without padding; any bits are a value.
unsafe impl Pod for Stimulus {}
// SAFETY: the same.
unsafe impl Pod for Long {}

/// The packet of a row, and how flows differ in it.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    /// TCP or UDP: the wrapper knows where the source stands. The destination's port is that of as many services by turns,
    /// a power of two.
    Plain {
        /// As it is sent.
        packet: [u8; LENGTH],
        /// How many.
        services: u32,
    },
    /// Anything else.
    Rare {
        /// As it is sent.
        packet: [u8; LONG],
        /// Where the client's address, or the last four bytes of it, stands.
        client_at: u32,
        /// Where its port stands.
        port_at: u32,
        /// The first client, in host order.
        first_client: u32,
    },
}

impl Frame {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain { packet, .. } => packet,
            Self::Rare { packet, .. } => packet,
        }
    }

    const fn wrapper(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "bench_wrapper",
            Self::Rare { .. } => "bench_wrapper_long",
        }
    }
}

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
    long: Array<MapData, Long>,
    target: ProgramArray<MapData>,
}

/// What some runs in a row took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Processor time of one, in nanoseconds, the wrapper included.
    pub(super) nanoseconds: f64,
    /// The XDP action of the last.
    pub(super) action: u32,
    /// How many bytes longer than it was sent the last packet was.
    grown: u32,
}

impl Programs {
    /// Loads them.
    pub(super) fn load() -> Result<Self, BenchError> {
        let mut ebpf = object()?;
        let wrappers = ["bench_wrapper", "bench_wrapper_long"];
        for name in Floor::ALL.iter().map(|floor| floor.program()).chain(wrappers) {
            program(&mut ebpf, name)?.load().map_err(failed("load"))?;
        }
        let mut take = |name| ebpf.take_map(name).ok_or_else(|| absent("take a map"));
        let stimulus = take("STIMULUS")?.try_into().map_err(failed("open STIMULUS"))?;
        let long = take("STIMULUS_LONG")?.try_into().map_err(failed("open STIMULUS_LONG"))?;
        let target = take("TARGET")?.try_into().map_err(failed("open TARGET"))?;
        Ok(Self { ebpf, stimulus, long, target })
    }

    /// A floor's program.
    pub(super) fn floor(&mut self, floor: Floor) -> Result<ProgramFd, BenchError> {
        let fd = program(&mut self.ebpf, floor.program())?.fd().map_err(failed("open a floor"))?;
        fd.try_clone().map_err(failed("duplicate a floor"))
    }

    /// By how many bytes `target` makes the packet longer.
    pub(super) fn growth(&mut self, target: &ProgramFd, frame: &Frame) -> Result<u32, BenchError> {
        Ok(self.run(target, frame, 1, 1, 0)?.grown)
    }

    /// Runs `target`, which makes packets longer by `grown` bytes, on `repeat` packets of `flows` flows, which is a power of
    /// two.
    pub(super) fn run(
        &mut self,
        target: &ProgramFd,
        frame: &Frame,
        flows: u64,
        repeat: u32,
        grown: u32,
    ) -> Result<Run, BenchError> {
        self.target.set(0, target, 0).map_err(failed("set the target"))?;
        let (mask, runs) = ((flows - 1) as u32, 0);
        match *frame {
            Frame::Plain { packet, services } => {
                let stimulus = Stimulus { packet, mask, runs, services: services - 1, grown };
                self.stimulus.set(0, stimulus, 0).map_err(failed("set the packet"))?;
            }
            Frame::Rare { packet, client_at, port_at, first_client } => {
                let stimulus = Long { packet, mask, runs, grown, client_at, port_at, first_client };
                self.long.set(0, stimulus, 0).map_err(failed("set the packet"))?;
            }
        }
        let mut out = [0; LONG + 128];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame.bytes());
        options.data_out = Some(&mut out);
        options.repeat = repeat;
        let wrapper = program(&mut self.ebpf, frame.wrapper())?;
        // The kernel tells its own time in whole nanoseconds per run, which is 3 % of a floor.
        let before = processor_time()?;
        let result = wrapper.test_run(options).map_err(failed("test run"))?;
        let time = processor_time()?.saturating_sub(before);
        Ok(Run {
            nanoseconds: time.as_secs_f64() * 1e9 / f64::from(repeat),
            action: result.return_value,
            grown: result.data_size_out.saturating_sub(frame.bytes().len() as u32),
        })
    }
}

/// The object file, its maps made and none of its programs loaded.
pub(super) fn object() -> Result<Ebpf, BenchError> {
    Ebpf::load(OBJECT).map_err(failed("load"))
}

/// Processor time of this thread: what others do meanwhile does not count.
pub(super) fn processor_time() -> Result<Duration, BenchError> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_err(failed("read the thread's clock"))?;
    Ok(time.into())
}

/// A program of the object file.
pub(super) fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, BenchError> {
    let program = ebpf.program_mut(name).ok_or_else(|| absent(name))?;
    program.try_into().map_err(failed(name))
}

/// The error for what the object file should have.
pub(super) fn absent(what: &'static str) -> BenchError {
    failed(what)("the object file lacks it")
}
