//! Finds the tools that build the XDP program, and builds it.
//!
//! A `core` library for `bpfel-unknown-none` comes from one of two places: Debian ships one ready-made
//! (`libstd-rust-web-dev-bpf`), or cargo builds it from the sources that rustup installs as `rust-src`. Whichever a
//! machine has is used; `bpf-linker` links the result. [`Toolchain::find`] looks, [`Toolchain::build_xdp`] builds, and
//! what is missing is said together with the command that installs it ([`Missing`]). Nothing here installs anything:
//! `cargo xtask setup` does.
//!
//! No dependencies on purpose: `lb-user/build.rs` needs this crate before anything else can be compiled.

mod compiler;
mod linker;
mod missing;
mod object;
mod surroundings;

use std::path::PathBuf;

pub use compiler::{Compiler, Core};
pub use linker::{LINKER_VERSION, Linker};
pub use missing::{DEBIAN_PACKAGES, Distribution, Missing, Piece};
pub use object::{BENCH, BuildError, LB, TARGET, source_files};
pub use surroundings::Surroundings;

/// Everything that building the XDP program takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// The compiler, and where its `core` comes from.
    pub compiler: Compiler,
    /// `bpf-linker`.
    pub linker: Linker,
    /// The cargo to call.
    pub cargo: PathBuf,
}

impl Toolchain {
    /// Looks in the places named by the environment. Takes a few dozen milliseconds, because compilers are asked for
    /// their version.
    ///
    /// # Errors
    /// Every piece that is missing, each with its remedy.
    pub fn find() -> Result<Self, Missing> {
        Self::find_in(&Surroundings::from_environment())
    }

    /// The same, in the places given.
    pub fn find_in(surroundings: &Surroundings) -> Result<Self, Missing> {
        let (compiler, linker) = (Compiler::find(surroundings), linker::find(surroundings));
        match (compiler, linker) {
            (Ok(compiler), Ok(linker)) => {
                let cargo = surroundings.cargo_for(&compiler);
                Ok(Self { compiler, linker, cargo })
            }
            (compiler, linker) => {
                let pieces = compiler.err().into_iter().chain(linker.err()).collect();
                Err(Missing { pieces, distribution: Distribution::detect() })
            }
        }
    }
}
