//! What is missing, and what mends it.

use std::{error, fmt, fs};

use crate::{compiler::MINIMUM, linker::LINKER_VERSION, object::TARGET};

/// Debian's packages for building the XDP program: a C toolchain for cargo, a compiler with `core` for BPF, and the
/// LLVM that `bpf-linker` is compiled against.
pub const DEBIAN_PACKAGES: [&str; 5] =
    ["gcc", "libc6-dev", "rustc-web", "libstd-rust-web-dev-bpf", "llvm-22-dev"];

/// The pieces that [`Toolchain::find`](crate::Toolchain::find) did not find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// At least one.
    pub pieces: Vec<Piece>,
    /// Decides which remedy is named first.
    pub distribution: Distribution,
}

/// One piece of the toolchain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A compiler with `core` for the BPF target, ready-made or as source.
    Core {
        /// The compilers looked at, and why each will not do.
        seen: Vec<String>,
    },
    /// A usable `bpf-linker`.
    Linker {
        /// The ones looked at, and why each will not do.
        seen: Vec<String>,
    },
}

/// Which way of installing a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Debian and what descends from it: `apt-get`.
    Debian,
    /// Any other.
    Other,
}

impl Distribution {
    /// Judged by `apt-get` being there.
    pub fn detect() -> Self {
        if fs::metadata("/usr/bin/apt-get").is_ok() { Self::Debian } else { Self::Other }
    }
}

impl Piece {
    /// What it is.
    pub fn name(&self) -> String {
        match self {
            Self::Core { .. } => format!("a rustc ≥ {MINIMUM} with `core` for {TARGET}, or with rust-src"),
            Self::Linker { .. } => format!("bpf-linker ≥ {LINKER_VERSION}"),
        }
    }

    /// What was looked at in vain.
    pub fn seen(&self) -> &[String] {
        match self {
            Self::Core { seen } | Self::Linker { seen } => seen,
        }
    }

    /// Commands of which one mends it, the most fitting first.
    pub fn remedies(&self, distribution: Distribution) -> Vec<String> {
        let mut remedies = match self {
            Self::Core { .. } => vec![
                "rustup toolchain install nightly --profile minimal --component rust-src".to_owned(),
                "as root: apt-get install --no-install-recommends rustc-web libstd-rust-web-dev-bpf"
                    .to_owned(),
            ],
            Self::Linker { .. } => vec![
                format!("cargo binstall bpf-linker@{LINKER_VERSION}"),
                format!(
                    "as root: apt-get install --no-install-recommends llvm-22-dev gcc libc6-dev; then: \
                     LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --version {LINKER_VERSION} --locked \
                     --no-default-features --features llvm-22"
                ),
            ],
        };
        if distribution == Distribution::Debian {
            remedies.reverse();
        }
        remedies
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the XDP program cannot be built; missing:")?;
        for piece in &self.pieces {
            writeln!(f, "  * {}", piece.name())?;
            for seen in piece.seen() {
                writeln!(f, "      {seen}")?;
            }
            for (index, remedy) in piece.remedies(self.distribution).iter().enumerate() {
                writeln!(f, "      {} {remedy}", if index == 0 { "→" } else { "or" })?;
            }
        }
        write!(f, "`cargo xtask setup` installs all of it")
    }
}

impl error::Error for Missing {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_remedy_fits_the_distribution() {
        for (piece, distribution, expected) in [
            (Piece::Core { seen: vec![] }, Distribution::Debian, "libstd-rust-web-dev-bpf"),
            (Piece::Core { seen: vec![] }, Distribution::Other, "rustup toolchain install nightly"),
            (Piece::Linker { seen: vec![] }, Distribution::Debian, "llvm-22-dev"),
            (Piece::Linker { seen: vec![] }, Distribution::Other, "cargo binstall"),
        ] {
            let remedies = piece.remedies(distribution);
            assert!(remedies[0].contains(expected), "{piece:?} on {distribution:?}: {remedies:?}");
        }
    }

    #[test]
    fn the_message_names_every_piece_what_was_seen_and_the_way_out() {
        let missing = Missing {
            pieces: vec![
                Piece::Core { seen: vec!["/opt/rustc is 1.63.0, older than 1.95".into()] },
                Piece::Linker { seen: vec![] },
            ],
            distribution: Distribution::Debian,
        };
        let text = missing.to_string();
        for expected in ["/opt/rustc is 1.63.0", "bpf-linker ≥", "→ as root: apt-get", "cargo xtask setup"]
        {
            assert!(text.contains(expected), "{expected} is not in:\n{text}");
        }
    }
}
