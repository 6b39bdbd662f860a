//! Installs a compiler for the XDP program.

use std::process::Command;

use xtask_toolchain::{DEBIAN_PACKAGES, Distribution, Piece};

use super::{Setup, apt};
use crate::{Error, process, tools};

/// rustup's way, as one would type it.
const RUSTUP: [&str; 7] =
    ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"];

impl Setup {
    /// By Debian's packages where they exist and may be installed, because a ready-made `core` needs no nightly; by
    /// rustup everywhere else.
    pub(super) fn install_compiler(&mut self) -> Result<(), Error> {
        if let Some(apt) = &mut self.apt {
            if apt.offers(&self.progress, &DEBIAN_PACKAGES)? {
                let packages = apt::not_installed(&DEBIAN_PACKAGES);
                return apt.install(&self.progress, "compiler", &packages);
            }
            self.progress.found("compiler", "this release has no package with core for BPF; using rustup");
        }
        if tools::find("rustup").is_none() {
            let piece = Piece::Core { seen: Vec::new() };
            let distribution = Distribution::detect();
            return Err(Error::Missing {
                what: format!(
                    "missing: {}; there is no rustup, and {}",
                    piece.name(),
                    no_packages(self.apt.is_some())
                ),
                remedies: piece.remedies(distribution),
            });
        }
        let step = self.progress.step("compiler", &format!("rustup {}", RUSTUP.join(" ")));
        let mut command = Command::new("rustup");
        command.args(RUSTUP).env_remove("RUSTUP_TOOLCHAIN");
        process::watch(&mut command, "installing a nightly compiler", |line| step.note(line))?;
        step.done("nightly with rust-src");
        Ok(())
    }
}

fn no_packages(may_install: bool) -> &'static str {
    match (apt::is_debian(), may_install) {
        (true, true) => "this release does not have the packages",
        (true, false) => "installing packages takes root or sudo",
        (false, _) => "this distribution has no packages for it that we know",
    }
}
