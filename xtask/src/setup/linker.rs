//! Installs bpf-linker. It takes LLVM as a library, at least as new as the compiler's own: older ones cannot read what
//! the compiler writes.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use xtask_toolchain::{Distribution, LINKER_VERSION, Piece, Surroundings};

use super::Setup;
use crate::{Error, process, tools, workspace};

/// The LLVM versions that this bpf-linker can be compiled with, the preferred one first: Debian packages it.
const LLVM_VERSIONS: [u32; 3] = [22, 23, 21];

/// An LLVM to compile against.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Llvm {
    version: u32,
    prefix: PathBuf,
}

impl Setup {
    /// With the LLVM that is installed or can be; ready-made by cargo-binstall where there is none.
    pub(super) fn install_linker(&mut self, force: bool) -> Result<(), Error> {
        let needed = compiler_llvm().unwrap_or(0);
        let mut llvm = installed_llvm(needed);
        if llvm.is_none() {
            self.install_llvm(needed)?;
            llvm = installed_llvm(needed);
        }
        let (mut command, detail) = if let Some(llvm) = &llvm {
            (compile(llvm), format!("cargo install bpf-linker {LINKER_VERSION} with LLVM {}", llvm.version))
        } else if tools::find("cargo-binstall").is_some() {
            let package = format!("bpf-linker@{LINKER_VERSION}");
            (workspace::cargo(&["binstall", "--no-confirm", &package]), format!("cargo binstall {package}"))
        } else {
            return Err(no_way(needed));
        };
        if force {
            command.arg("--force");
        }
        let step = self.progress.step("linker", &detail);
        process::watch(&mut command, "installing bpf-linker", |line| step.note(line))?;
        step.done(&format!("bpf-linker {LINKER_VERSION}"));
        Ok(())
    }

    /// Debian's package, if there is one and it is new enough.
    fn install_llvm(&mut self, needed: u32) -> Result<(), Error> {
        let Some(apt) = &mut self.apt else { return Ok(()) };
        for version in LLVM_VERSIONS.into_iter().filter(|version| *version >= needed) {
            let package = format!("llvm-{version}-dev");
            let packages = [package.as_str(), "gcc", "libc6-dev"];
            if apt.offers(&self.progress, &packages)? {
                return apt.install(&self.progress, "LLVM", &packages);
            }
        }
        Ok(())
    }
}

fn compile(llvm: &Llvm) -> Command {
    let feature = format!("llvm-{}", llvm.version);
    let mut command = workspace::cargo(&["install", "bpf-linker", "--version", LINKER_VERSION, "--locked"]);
    command.args(["--no-default-features", "--features", &feature]).env("LLVM_PREFIX", &llvm.prefix);
    // The work is LLVM's, which is compiled already: what is compiled here needs no optimising, nor debug information.
    command.env("CARGO_PROFILE_RELEASE_DEBUG", "false").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    // A runner or flags meant for this workspace's programs are none of its business.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_TARGET_DIR");
    command
}

/// The major version of the LLVM in the compiler that will compile the XDP program.
fn compiler_llvm() -> Option<u32> {
    // Whether there is a linker is what we are here for; the compiler alone answers.
    let compiler = xtask_toolchain::Compiler::find(&Surroundings::from_environment()).ok()?;
    llvm_version(&process::ask(&compiler.rustc.to_string_lossy(), &["--version", "--verbose"])?)
}

fn llvm_version(verbose: &str) -> Option<u32> {
    let version = verbose.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

/// An installed LLVM with headers and libraries that is new enough.
fn installed_llvm(needed: u32) -> Option<Llvm> {
    let by_folder = LLVM_VERSIONS
        .into_iter()
        .map(|version| Llvm { version, prefix: format!("/usr/lib/llvm-{version}").into() });
    let by_path =
        process::ask("llvm-config", &["--version", "--prefix"]).as_deref().and_then(parse_llvm_config);
    by_folder
        .filter(|llvm| has_library(&llvm.prefix))
        .chain(by_path)
        .find(|llvm| llvm.version >= needed && LLVM_VERSIONS.contains(&llvm.version))
}

/// `llvm-config` belongs to the development package, so the library's link and the headers are there with it.
fn has_library(prefix: &Path) -> bool {
    prefix.join("bin/llvm-config").exists() && prefix.join("include/llvm-c").exists()
}

/// Two lines, for instance `22.1.8` and `/usr`.
fn parse_llvm_config(output: &str) -> Option<Llvm> {
    let (version, prefix) = output.split_once('\n')?;
    Some(Llvm { version: version.split('.').next()?.parse().ok()?, prefix: prefix.trim().into() })
}

fn no_way(needed: u32) -> Error {
    let piece = Piece::Linker { seen: Vec::new() };
    let mut remedies = piece.remedies(Distribution::detect());
    remedies.push("cargo binstall itself: cargo install cargo-binstall --locked".to_owned());
    Error::Missing {
        what: format!(
            "missing: {}; compiling it takes LLVM {} or newer with its development files, installing it ready-made \
             takes cargo-binstall",
            piece.name(),
            needed.max(21)
        ),
        remedies,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_llvm_is_read_from_its_version() {
        let verbose = "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nLLVM version: 22.1.8";
        assert_eq!(llvm_version(verbose), Some(22));
        assert_eq!(llvm_version("rustc 1.96.0"), None);
    }

    #[test]
    fn llvm_config_tells_version_and_prefix() {
        let expected = Llvm { version: 22, prefix: "/usr".into() };
        assert_eq!(parse_llvm_config("22.1.8\n/usr"), Some(expected));
        assert_eq!(parse_llvm_config("22.1.8"), None);
    }
}
