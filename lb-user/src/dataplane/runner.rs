//! Test runs of a loaded program, on any thread and while its maps change.

use aya::programs::{ProgramError, TestRun as _, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;

use super::{DataplaneError, Program, TestOutcome, XdpDataplane, xdp::load_error};

/// A handle of a loaded program, which it keeps loaded.
pub struct Runner(Xdp);

impl XdpDataplane {
    /// A handle that runs the program while this is used otherwise.
    pub fn runner(&mut self, program: Program) -> Result<Runner, DataplaneError> {
        let loaded = program.of(&mut self.ebpf)?;
        let again = loaded
            .info()
            .and_then(|info| Xdp::from_program_info(info, program.name().into(), XdpAttachType::Interface));
        again.map(Runner).map_err(|error| load_error(error.into()))
    }
}

impl Runner {
    /// [`XdpDataplane::test_run`]
    pub fn run(&self, frame: &[u8]) -> Result<TestOutcome, DataplaneError> {
        run(&self.0, frame, None).map_err(|error| load_error(error.into()))
    }
}

/// `struct xdp_md` of linux/bpf.h as user space passes it to a test run.
#[repr(C)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

impl Context {
    fn bytes(&self) -> Vec<u8> {
        let Self { data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex } = *self;
        [data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex]
            .iter()
            .flat_map(|field| field.to_ne_bytes())
            .collect()
    }
}

/// Runs a program once on a frame that came in through an interface (by index), the loopback unless told otherwise.
pub(super) fn run(program: &Xdp, frame: &[u8], ingress: Option<u32>) -> Result<TestOutcome, ProgramError> {
    // An outer IPv6 and UDP header, or those of an ICMP error, and a VLAN tag.
    const MOST_ADDED: usize = 52;
    let context = ingress.map(|ingress_ifindex| {
        let data_end = frame.len() as u32;
        Context { data: 0, data_end, data_meta: 0, ingress_ifindex, rx_queue_index: 0, egress_ifindex: 0 }
            .bytes()
    });
    let mut out = vec![0; frame.len() + MOST_ADDED];
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.data_out = Some(&mut out);
    options.ctx_in = context.as_deref();
    let result = program.test_run(options)?;
    out.truncate(result.data_size_out as usize);
    Ok(TestOutcome { action: result.return_value, frame: out })
}
