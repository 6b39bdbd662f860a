//! Builds the XDP program, with the environment of an outer cargo kept away from the inner one.

use std::{
    env, error,
    ffi::{OsStr, OsString},
    fmt, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Toolchain;

/// The target triple of the XDP program.
pub const TARGET: &str = "bpfel-unknown-none";

/// The instruction set. v3 has 32-bit jumps and atomic operations that return the old value; Linux has them since 5.12.
const CPU: &str = "v3";

/// The package.
const PACKAGE: &str = "lb-ebpf";
/// The binary in it that `lb` carries.
pub const LB: &str = "lb-xdp";
/// The binary in it that measures the other.
pub const BENCH: &str = "lb-bench-xdp";

/// How the release profile differs from the workspace's, which is tuned for the daemon. bpf-linker optimises the whole
/// program itself, so rustc hands it everything in one piece.
const PROFILE: [&str; 6] = [
    "profile.release.debug=2",
    // The kernel wants function information about every function or none, those of dependencies included.
    "profile.release.package.\"*\".debug=2",
    "profile.release.codegen-units=1",
    "profile.release.lto=\"fat\"",
    "profile.release.overflow-checks=false",
    "profile.release.debug-assertions=false",
];

/// What the program is made of, relative to the workspace: when none of it changed, neither did the program.
pub fn source_files(workspace: &Path) -> Vec<PathBuf> {
    ["lb-ebpf/src", "lb-ebpf/Cargo.toml", "lb-common/src", "lb-common/Cargo.toml", "Cargo.toml", "Cargo.lock"]
        .iter()
        .map(|path| workspace.join(path))
        .collect()
}

impl Toolchain {
    /// Builds one of the package's binaries, [`LB`] or [`BENCH`], and returns the path of the object file. `target_dir`
    /// must not be the one of a cargo that waits for this call: they would wait for each other's lock.
    ///
    /// # Errors
    /// Cargo could not be started, or failed; the error carries all it said.
    pub fn build_xdp(
        &self,
        workspace: &Path,
        target_dir: &Path,
        binary: &str,
    ) -> Result<PathBuf, BuildError> {
        let mut command = self.command("build", workspace, target_dir, &[]);
        command.args(["--bin", binary]);
        let output =
            command.output().map_err(|source| BuildError::Start { cargo: self.cargo.clone(), source })?;
        if !output.status.success() {
            return Err(BuildError::Failed {
                command: describe(&command),
                toolchain: self.to_string(),
                output: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        let object = target_dir.join(TARGET).join("release").join(binary);
        if object.is_file() { Ok(object) } else { Err(BuildError::NoObject { object }) }
    }

    /// A cargo command for the XDP program's package, without the environment of the cargo that runs us. `flags` are
    /// for rustc, besides those that make a BPF object.
    pub fn command(&self, subcommand: &str, workspace: &Path, target_dir: &Path, flags: &[&str]) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(workspace);
        for (variable, _) in env::vars_os().filter(|(variable, _)| belongs_to_outer_cargo(variable)) {
            command.env_remove(variable);
        }
        command
            .env("RUSTC", &self.compiler.rustc)
            // aya-ebpf uses unstable features, and so does -Z; a nightly does not mind.
            .env("RUSTC_BOOTSTRAP", "1")
            // Empty means none, whatever cargo's configuration files say.
            .env("RUSTC_WRAPPER", "")
            .env("RUSTC_WORKSPACE_WRAPPER", "")
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags(flags))
            .env("CARGO_BUILD_BUILD_DIR", target_dir)
            .args([subcommand, "--locked", "--release", "--package", PACKAGE, "--target", TARGET])
            .arg("--target-dir")
            .arg(target_dir);
        for setting in PROFILE {
            command.args(["--config", setting]);
        }
        if self.compiler.builds_core() {
            command.args(["-Z", "build-std=core"]);
        }
        command
    }

    /// rustc's flags, as cargo takes them: separated by 0x1f, because a path may contain spaces.
    fn flags(&self, more: &[&str]) -> OsString {
        let mut linker = OsString::from("-Clinker=");
        linker.push(&self.linker.path);
        let mut flags = vec![linker, format!("-Ctarget-cpu={CPU}").into(), "-Clink-arg=--btf".into()];
        flags.extend(more.iter().map(OsString::from));
        flags.join(OsStr::new("\u{1f}"))
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.compiler, self.linker)
    }
}

/// Whether a variable is one that an outer cargo set, or that configures the build of the host's programs and would
/// spoil the inner one. How to reach the registry stays.
fn belongs_to_outer_cargo(variable: &OsStr) -> bool {
    const KEPT: [&str; 8] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "RUSTUP_",
    ];
    const REMOVED: [&str; 12] = [
        "CARGO",
        "CLIPPY_",
        "DEP_",
        "MAKEFLAGS",
        "MAKELEVEL",
        "MFLAGS",
        "OUT_DIR",
        "RUSTC",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "RUST_RECURSION_COUNT",
    ];
    // A variable that is not UTF-8 is none of cargo's.
    let Some(variable) = variable.to_str() else { return false };
    let starts = |prefix: &&str| variable.starts_with(*prefix);
    variable == "RUSTUP_TOOLCHAIN" || (REMOVED.iter().any(starts) && !KEPT.iter().any(starts))
}

/// A command as one would type it, without the environment.
fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Why there is no XDP program.
#[derive(Debug)]
pub enum BuildError {
    /// Cargo does not start.
    Start {
        /// The program.
        cargo: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Cargo failed.
    Failed {
        /// The command.
        command: String,
        /// What was used.
        toolchain: String,
        /// What cargo said.
        output: String,
    },
    /// Cargo is satisfied, but the object is not where it belongs.
    NoObject {
        /// Where it belongs.
        object: PathBuf,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { cargo, source } => write!(f, "{} does not start: {source}", cargo.display()),
            Self::Failed { command, toolchain, output } => {
                write!(f, "the XDP program does not build\n{output}\ncommand: {command}\nwith: {toolchain}")?;
                if output.contains("bpf-linker") && output.contains("bitcode") {
                    write!(
                        f,
                        "\nbpf-linker's LLVM may be older than the compiler's: install it again with \
                         `cargo xtask setup --force-linker`"
                    )?;
                }
                Ok(())
            }
            Self::NoObject { object } => {
                write!(f, "cargo built no {}; does lb-ebpf still have this binary?", object.display())
            }
        }
    }
}

impl error::Error for BuildError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Start { source, .. } => Some(source),
            Self::Failed { .. } | Self::NoObject { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_cargos_variables_go_and_the_registrys_stay() {
        for (variable, goes) in [
            ("CARGO", true),
            ("CARGO_ENCODED_RUSTFLAGS", true),
            ("CARGO_TARGET_DIR", true),
            ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", true),
            ("CARGO_PROFILE_RELEASE_DEBUG", true),
            ("CARGO_MAKEFLAGS", true),
            ("CARGO_MANIFEST_DIR", true),
            ("CARGO_INCREMENTAL", true),
            ("RUSTC", true),
            ("RUSTC_WORKSPACE_WRAPPER", true),
            ("RUSTFLAGS", true),
            ("RUSTUP_TOOLCHAIN", true),
            ("MAKEFLAGS", true),
            ("CLIPPY_ARGS", true),
            ("OUT_DIR", true),
            ("CARGO_HOME", false),
            ("CARGO_HTTP_PROXY", false),
            ("CARGO_NET_OFFLINE", false),
            ("CARGO_REGISTRIES_MINE_TOKEN", false),
            ("CARGO_SOURCE_MINE_REGISTRY", false),
            ("RUSTUP_HOME", false),
            ("PATH", false),
            ("HOME", false),
            ("LB_BPF_LINKER", false),
        ] {
            assert_eq!(belongs_to_outer_cargo(OsStr::new(variable)), goes, "{variable}");
        }
    }
}
