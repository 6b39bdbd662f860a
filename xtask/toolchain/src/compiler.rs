//! Which compiler can compile for `bpfel-unknown-none`.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    missing::Piece,
    object::TARGET,
    surroundings::{Surroundings, is_executable},
};

/// The oldest compiler the workspace builds with, `rust-version` of its `Cargo.toml`.
pub(crate) const MINIMUM: &str = env!("CARGO_PKG_RUST_VERSION");

/// A compiler, and where its `core` for the BPF target comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// The program.
    pub rustc: PathBuf,
    /// The folder that holds `lib/rustlib`.
    pub sysroot: PathBuf,
    /// Such as `1.95.0` or `1.97.0-nightly`.
    pub version: String,
    /// Where `core` comes from.
    pub core: Core,
}

/// Where the `core` library for the BPF target comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// Somebody compiled it already: `lib/rustlib/bpfel-unknown-none` is there.
    Prebuilt,
    /// `-Z build-std=core` compiles the sources in `lib/rustlib/src`.
    FromSource,
}

impl Compiler {
    /// The best compiler of these surroundings. A ready-made `core` beats one to be built, because it is there at once;
    /// among those to be built a nightly beats the others, because it needs no permission for `-Z`.
    ///
    /// # Errors
    /// The compilers looked at, and why each will not do.
    pub fn find(surroundings: &Surroundings) -> Result<Self, Piece> {
        let mut seen = Vec::new();
        let mut usable: Vec<Self> = Vec::new();
        for (rustc, sysroot) in candidates(surroundings) {
            let Some(core) = core_in(&sysroot) else {
                seen.push(format!("{} has neither", rustc.display()));
                continue;
            };
            let Some(version) = version(&rustc) else {
                seen.push(format!("{} does not answer --version", rustc.display()));
                continue;
            };
            if older(&version, MINIMUM) {
                seen.push(format!("{} is {version}, older than {MINIMUM}", rustc.display()));
                continue;
            }
            usable.push(Self { rustc, sysroot, version, core });
        }
        let rank = |compiler: &Self| match compiler.core {
            Core::Prebuilt => 0,
            Core::FromSource if compiler.is_nightly() => 1,
            Core::FromSource => 2,
        };
        // `min_by_key` keeps the first of equals, so the order of the candidates decides among them.
        usable.into_iter().min_by_key(rank).ok_or(Piece::Core { seen })
    }

    /// Whether cargo has to build `core` first.
    pub fn builds_core(&self) -> bool {
        self.core == Core::FromSource
    }

    fn is_nightly(&self) -> bool {
        self.version.contains("nightly")
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = match self.core {
            Core::Prebuilt => format!("ready-made core for {TARGET}"),
            Core::FromSource => "core built from rust-src".to_owned(),
        };
        write!(f, "rustc {} ({}), {core}", self.version, self.rustc.display())
    }
}

/// Compilers with their sysroots, each sysroot once, in the order of preference.
fn candidates(surroundings: &Surroundings) -> Vec<(PathBuf, PathBuf)> {
    let named =
        [surroundings.rustc.clone(), surroundings.in_path("rustc"), surroundings.system_rustc.clone()];
    let asked = named.into_iter().flatten().filter_map(|rustc| {
        let sysroot = PathBuf::from(output(&rustc, &["--print", "sysroot"])?);
        Some((rustc, sysroot))
    });
    let toolchains = surroundings.rustup_toolchains().into_iter().filter_map(|sysroot| {
        let rustc = sysroot.join("bin/rustc");
        is_executable(&rustc).then_some((rustc, sysroot))
    });
    let mut found: Vec<(PathBuf, PathBuf)> = Vec::new();
    for candidate in asked.chain(toolchains) {
        if !found.iter().any(|(_, sysroot)| *sysroot == candidate.1) {
            found.push(candidate);
        }
    }
    found
}

fn core_in(sysroot: &Path) -> Option<Core> {
    let rustlib = sysroot.join("lib/rustlib");
    if rustlib.join(TARGET).is_dir() {
        Some(Core::Prebuilt)
    } else if rustlib.join("src/rust/library/core/Cargo.toml").is_file() {
        Some(Core::FromSource)
    } else {
        None
    }
}

/// The second word of `rustc --version`.
fn version(rustc: &Path) -> Option<String> {
    output(rustc, &["--version"])?.split_whitespace().nth(1).map(str::to_owned)
}

/// What a program prints, trimmed; `None` if it cannot be started or fails.
pub(crate) fn output(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether a version is older than another, by their numbers; what comes after a hyphen does not count.
pub(crate) fn older(version: &str, than: &str) -> bool {
    numbers(version) < numbers(than)
}

/// `1.97.0-nightly` → `[1, 97, 0]`; a missing number is 0.
fn numbers(version: &str) -> [u32; 3] {
    let mut numbers = [0; 3];
    let release = version.split('-').next().unwrap_or_default();
    for (number, text) in numbers.iter_mut().zip(release.split('.')) {
        *number = text.parse().unwrap_or(0);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::fakes::Fakes;

    #[test]
    fn versions_compare_by_number() {
        for (version, than, expected) in [
            ("1.9.0", "1.95", true),
            ("1.95.0", "1.95", false),
            ("1.97.0-nightly", "1.95", false),
            ("0.12.9", "0.13.0", true),
            ("2.0", "1.95.7", false),
            ("rubbish", "1.95", true),
        ] {
            assert_eq!(older(version, than), expected, "{version} against {than}");
        }
    }

    #[test]
    fn a_ready_made_core_beats_sources() {
        let fakes = Fakes::new("ready-made-beats-sources");
        fakes.toolchain("nightly", "1.97.0-nightly").with_sources();
        let ready = fakes.toolchain("zeta", "1.96.0").with_core();
        let compiler = Compiler::find(&fakes.surroundings()).expect("both have what it takes");
        assert_eq!(compiler.sysroot, ready.sysroot);
        assert_eq!(compiler.core, Core::Prebuilt);
        assert_eq!(compiler.version, "1.96.0");
    }

    #[test]
    fn among_sources_a_nightly_is_preferred_wherever_it_sorts() {
        let fakes = Fakes::new("nightly-preferred");
        fakes.toolchain("1.95.0", "1.95.0").with_sources();
        let nightly = fakes.toolchain("nightly", "1.97.0-nightly").with_sources();
        let compiler = Compiler::find(&fakes.surroundings()).expect("both have what it takes");
        assert_eq!(compiler.sysroot, nightly.sysroot);
        assert!(compiler.builds_core());
    }

    #[test]
    fn the_compiler_of_the_environment_comes_first_among_equals() {
        let fakes = Fakes::new("environment-first");
        fakes.toolchain("alpha", "1.96.0").with_core();
        let mine = fakes.toolchain("omega", "1.96.0").with_core();
        let surroundings = Surroundings { rustc: Some(mine.rustc.clone()), ..fakes.surroundings() };
        assert_eq!(Compiler::find(&surroundings).expect("both have what it takes").sysroot, mine.sysroot);
    }

    #[test]
    fn what_is_too_old_or_bare_is_named() {
        let fakes = Fakes::new("too-old-or-bare");
        fakes.toolchain("old", "1.63.0").with_core();
        fakes.toolchain("stable", "1.95.0");
        let Err(Piece::Core { seen }) = Compiler::find(&fakes.surroundings()) else {
            panic!("nothing here is usable")
        };
        let seen = seen.join("\n");
        assert!(seen.contains("1.63.0, older than"), "{seen}");
        assert!(seen.contains("stable/bin/rustc has neither"), "{seen}");
    }

    #[test]
    fn building_core_takes_the_cargo_of_the_same_toolchain() {
        let fakes = Fakes::new("cargo-of-the-toolchain");
        let nightly = fakes.toolchain("nightly", "1.97.0-nightly").with_sources();
        let surroundings = Surroundings { cargo: Some("/outer/cargo".into()), ..fakes.surroundings() };
        let compiler = Compiler::find(&surroundings).expect("the sources are there");
        assert_eq!(surroundings.cargo_for(&compiler), nightly.sysroot.join("bin/cargo"));

        let _ready = nightly.with_core();
        let compiler = Compiler::find(&surroundings).expect("the core is there");
        assert_eq!(surroundings.cargo_for(&compiler), Path::new("/outer/cargo"));
    }
}
