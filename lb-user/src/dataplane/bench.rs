//! What measuring needs of the data plane.

use aya::programs::ProgramFd;

use super::{DataplaneError, Program, XdpDataplane, xdp::load_error};

impl XdpDataplane {
    /// The loaded program, for a tail call.
    pub(crate) fn program_fd(&mut self, program: Program) -> Result<ProgramFd, DataplaneError> {
        let loaded = program.of(&mut self.ebpf)?;
        let fd = loaded.fd().map_err(|error| load_error(error.into()))?;
        fd.try_clone().map_err(|error| load_error(error.into()))
    }
}
