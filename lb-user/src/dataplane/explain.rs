//! Asking the program that explains: one packet, made up by the caller, in a test run of the kernel.

use aya::programs::{ProgramError, TestRun as _, TestRunOptions, Xdp};
use lb_common::{Trace, names};

use super::{DataplaneError, TestOutcome, XdpDataplane, maps::failed};

/// An outer IPv6 and UDP header, or those of an ICMP error, and a VLAN tag.
pub(super) const MOST_ADDED: usize = 52;

/// How the program decided about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// What it wrote down.
    pub trace: Trace,
    /// What would have become of the packet. The action of all that is sent is 3 (transmit).
    pub outcome: TestOutcome,
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

impl XdpDataplane {
    /// [`Dataplane::explain`](super::Dataplane::explain)
    ///
    /// `&mut self` is what keeps two packets from writing to one trace.
    pub(super) fn run_explain(&mut self, ingress: u32, frame: &[u8]) -> Result<Explained, DataplaneError> {
        self.explain.clone().map_err(DataplaneError::explain)?;
        self.maps.trace.set(0, Trace::EMPTY, 0).map_err(failed(names::TRACE, "clear", 0))?;
        let outcome = run(self.explain_program()?, frame, Some(ingress)).map_err(DataplaneError::explain)?;
        let trace = self.maps.trace.get(&0, 0).map_err(failed(names::TRACE, "read", 0))?;
        Ok(Explained { trace, outcome })
    }

    fn explain_program(&mut self) -> Result<&mut Xdp, DataplaneError> {
        let name = names::PROGRAM_EXPLAIN;
        self.ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| DataplaneError::explain(format!("the object file has no program {name}")))
    }
}

/// Runs a program once on a frame that came in through an interface (by index), the loopback unless told otherwise.
pub(super) fn run(
    program: &mut Xdp,
    frame: &[u8],
    ingress: Option<u32>,
) -> Result<TestOutcome, ProgramError> {
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
