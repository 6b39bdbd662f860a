//! `bpf-linker`, which turns LLVM bitcode into a BPF object.

use std::{fmt, path::PathBuf};

use crate::{
    compiler::{older, output},
    missing::Piece,
    surroundings::{Surroundings, is_executable},
};

/// The version that `cargo xtask setup` installs. Newer ones will do, older ones lack support for the LLVM of the
/// compilers we use.
pub const LINKER_VERSION: &str = "0.13.0";

/// A usable `bpf-linker`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linker {
    /// The program.
    pub path: PathBuf,
    /// Such as `0.13.0`.
    pub version: String,
}

impl fmt::Display for Linker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bpf-linker {} ({})", self.version, self.path.display())
    }
}

/// The one that `LB_BPF_LINKER` names, or else the first that is new enough in `PATH` and in cargo's `bin`.
pub(crate) fn find(surroundings: &Surroundings) -> Result<Linker, Piece> {
    let mut seen = Vec::new();
    let candidates = if let Some(named) = &surroundings.linker {
        // Whoever names one means that one: falling back to another would hide the mistake.
        vec![named.clone()]
    } else {
        let folders = surroundings.path.iter().cloned().chain(surroundings.cargo_bin());
        folders.map(|folder| folder.join("bpf-linker")).filter(|file| is_executable(file)).collect()
    };
    for path in candidates {
        match output(&path, &["--version"]).as_deref().and_then(|line| line.split_whitespace().nth(1)) {
            Some(version) if older(version, LINKER_VERSION) => {
                seen.push(format!("{} is {version}, older than {LINKER_VERSION}", path.display()));
            }
            Some(version) => return Ok(Linker { path, version: version.to_owned() }),
            None => seen.push(format!("{} does not answer --version", path.display())),
        }
    }
    Err(Piece::Linker { seen })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::fakes::Fakes;

    #[test]
    fn an_old_linker_in_path_does_not_hide_a_new_one_in_cargos_folder() {
        let fakes = Fakes::new("old-linker");
        fakes.program("path/bpf-linker", "bpf-linker 0.9.14");
        let new = fakes.program("cargo/bin/bpf-linker", "bpf-linker 0.13.1");
        let linker = find(&fakes.surroundings()).expect("one is new enough");
        assert_eq!(linker, Linker { path: new, version: "0.13.1".into() });
    }

    #[test]
    fn a_linker_named_by_the_environment_has_no_substitute() {
        let fakes = Fakes::new("named-linker");
        fakes.program("path/bpf-linker", "bpf-linker 0.13.0");
        let surroundings = Surroundings { linker: Some("/nowhere/linker".into()), ..fakes.surroundings() };
        let Err(Piece::Linker { seen }) = find(&surroundings) else { panic!("the named one does not exist") };
        assert_eq!(seen, ["/nowhere/linker does not answer --version"]);
    }

    #[test]
    fn only_old_ones_are_named_with_their_version() {
        let fakes = Fakes::new("only-old");
        let path = fakes.program("path/bpf-linker", "bpf-linker 0.9.14");
        let Err(Piece::Linker { seen }) = find(&fakes.surroundings()) else { panic!("it is too old") };
        assert_eq!(seen, [format!("{} is 0.9.14, older than {LINKER_VERSION}", path.display())]);
    }
}
