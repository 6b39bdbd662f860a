//! How large the programs are, as the kernel says.

use aya::programs::Program as AnyProgram;

use super::{DataplaneError, XdpDataplane, xdp::load_error};

/// A loaded program as the kernel sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramSize {
    /// Its name in the object file.
    pub name: String,
    /// Instructions that the verifier followed, on all ways; it gives up at 1,000,000.
    pub verified: u32,
    /// Instructions.
    pub instructions: u32,
    /// Bytes of machine code; 0 without the JIT.
    pub machine_code: u32,
}

impl XdpDataplane {
    /// The sizes of the programs that are loaded, by name.
    pub fn sizes(&self) -> Result<Vec<ProgramSize>, DataplaneError> {
        /// Bytes of an instruction.
        const INSTRUCTION: u32 = 8;
        let loaded = self.ebpf.programs().filter_map(|(name, program)| match program {
            AnyProgram::Xdp(program) if program.fd().is_ok() => Some((name, program)),
            _ => None,
        });
        let size = |(name, program): (&str, &aya::programs::Xdp)| {
            let info = program.info().map_err(|error| load_error(error.into()))?;
            Ok(ProgramSize {
                name: name.to_owned(),
                verified: info.verified_instruction_count().unwrap_or(0),
                instructions: info.size_translated().unwrap_or(0) / INSTRUCTION,
                machine_code: info.size_jitted(),
            })
        };
        let mut sizes = loaded.map(size).collect::<Result<Vec<_>, _>>()?;
        sizes.sort_by(|a: &ProgramSize, b| a.name.cmp(&b.name));
        Ok(sizes)
    }
}
