//! Asking the program that explains: one packet, made up by the caller, in a test run of the kernel.

use lb_common::{Trace, names};

use super::{DataplaneError, TestOutcome, XdpDataplane, maps::failed, runner, stages};

/// How the program decided about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// What it wrote down.
    pub trace: Trace,
    /// What would have become of the packet. The action of all that is sent is 3 (transmit).
    pub outcome: TestOutcome,
}

impl XdpDataplane {
    /// [`Dataplane::explain`](super::Dataplane::explain)
    ///
    /// `&mut self` is what keeps two packets from writing to one trace.
    pub(super) fn run_explain(&mut self, ingress: u32, frame: &[u8]) -> Result<Explained, DataplaneError> {
        self.explain.clone().map_err(DataplaneError::explain)?;
        self.maps.trace.set(0, Trace::EMPTY, 0).map_err(failed(names::TRACE, "clear", 0))?;
        let program = stages::program(&mut self.ebpf, names::PROGRAM_EXPLAIN)?;
        let outcome = runner::run(program, frame, Some(ingress)).map_err(DataplaneError::explain)?;
        let trace = self.maps.trace.get(&0, 0).map_err(failed(names::TRACE, "read", 0))?;
        Ok(Explained { trace, outcome })
    }
}
