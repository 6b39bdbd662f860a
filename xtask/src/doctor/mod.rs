//! `cargo xtask doctor`: what is there, what is missing, what the kernel offers. Changes nothing: what it tries, it tries
//! in a network namespace that ends with the thread that made it.

mod interfaces;
mod kernel;
mod netdev;
mod report;
mod trial;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Args;
use xtask_toolchain::{Distribution, Piece, Surroundings, Toolchain};

use self::report::{Check, Report, Status};
use crate::{Error, privilege, privilege::Privilege, tools};

/// `cargo xtask doctor`.
#[derive(Args, Debug)]
pub struct Options {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Carries the command out. The exit code is a success if `run` and all tiers of `test` can work.
pub fn execute(options: &Options) -> Result<ExitCode, Error> {
    let privilege = Privilege::detect();
    let mut report = Report::default();
    build(&mut report);
    programs(&mut report);
    rights(&mut report, privilege);
    kernel::checks(&mut report);
    trial::checks(&mut report, privilege);
    interfaces::checks(&mut report);
    let text = if options.json { report.json() + "\n" } else { report.to_string() };
    // A reader who has seen enough (`| head`) is no error.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(if report.ready() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn build(report: &mut Report) {
    let section = "build";
    let missing = match Toolchain::find_in(&Surroundings::from_environment()) {
        Ok(toolchain) => {
            report.add(section, Check::ok("compiler for BPF", toolchain.compiler.to_string()));
            report.add(section, Check::ok("bpf-linker", toolchain.linker.to_string()));
            return;
        }
        Err(missing) => missing,
    };
    let distribution = Distribution::detect();
    for piece in &missing.pieces {
        let name = match piece {
            Piece::Core { .. } => "compiler for BPF",
            Piece::Linker { .. } => "bpf-linker",
        };
        let detail =
            std::iter::once(piece.name()).chain(piece.seen().iter().cloned()).collect::<Vec<_>>().join("; ");
        let mut remedies = vec!["cargo xtask setup".to_owned()];
        remedies.extend(piece.remedies(distribution));
        report.add(section, Check::missing(name, detail, remedies.join("; or ")));
    }
    if missing.pieces.len() == 1 {
        let (name, detail) = match missing.pieces[0] {
            Piece::Core { .. } => ("bpf-linker", "is there"),
            Piece::Linker { .. } => ("compiler for BPF", "is there"),
        };
        report.add(section, Check::ok(name, detail.to_owned()));
    }
}

fn programs(report: &mut Report) {
    for tool in tools::LAB.into_iter().chain(tools::TESTS) {
        let check = match tools::find(tool.name) {
            Some(path) => {
                let version = tool.version().map(|version| format!("{version} ")).unwrap_or_default();
                Check::ok(tool.name, format!("{version}({})", path.display()))
            }
            None => Check::missing(
                tool.name,
                format!("needed for {}", tool.purpose),
                format!(
                    "cargo xtask setup; or as root: apt-get install --no-install-recommends {}",
                    tool.package
                ),
            ),
        };
        report.add("programs of the lab and the tests", check);
    }
}

fn rights(report: &mut Report, privilege: Privilege) {
    let section = "rights of this process";
    let (detail, status) = match privilege {
        Privilege::Root => ("root", Status::Ok),
        Privilege::Sudo => ("an ordinary user; sudo works without a password", Status::Ok),
        Privilege::SudoAsks => ("an ordinary user; sudo asks for a password", Status::Ok),
        Privilege::None => ("an ordinary user, and sudo is not there or may not be used", Status::Missing),
    };
    let remedy = (status == Status::Missing).then(|| "become root, or install and allow sudo".to_owned());
    report.add(section, Check::new("user", status, detail.to_owned(), remedy));

    let set = privilege::effective();
    for capability in privilege::CAPABILITIES {
        let purpose = capability.purpose.to_owned();
        let check = if capability.is_in(set) {
            Check::ok(capability.name, purpose)
        } else if matches!(privilege, Privilege::Sudo | Privilege::SudoAsks) {
            Check::not_applicable(capability.name, format!("{purpose}; comes with sudo"), None)
        } else if capability.required {
            let remedy = "run as root; in a container, add the capability (--cap-add)".to_owned();
            Check::missing(capability.name, purpose, remedy)
        } else {
            Check::not_applicable(capability.name, format!("{purpose}; lb does without"), None)
        };
        report.add(section, check);
    }
}
