//! Test runs of a loaded program, on any thread and while its maps change.

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
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
        run(&self.0, frame)
    }
}

/// Runs a program once on a frame.
pub(super) fn run(program: &Xdp, frame: &[u8]) -> Result<TestOutcome, DataplaneError> {
    // An outer IPv6 and UDP header, or those of an ICMP error, and a VLAN tag.
    const MOST_ADDED: usize = 52;
    let mut out = vec![0; frame.len() + MOST_ADDED];
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.data_out = Some(&mut out);
    let result = program.test_run(options).map_err(|error| load_error(error.into()))?;
    out.truncate(result.data_size_out as usize);
    Ok(TestOutcome { action: result.return_value, frame: out })
}
