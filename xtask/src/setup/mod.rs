//! `cargo xtask setup`: installs what is missing, by the distribution's packages where there are any, else by rustup
//! and cargo. What is there is named and left alone.

mod apt;
mod compiler;
mod linker;

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use xtask_toolchain::{Piece, Toolchain};

use crate::{Error, privilege::Privilege, progress::Progress, tools, tools::Tool};

pub use apt::Apt;

/// `cargo xtask setup`.
#[derive(Args, Debug)]
pub struct Options {
    /// How much to install
    #[arg(long, value_enum, default_value_t = Level::Tests)]
    level: Level,
    /// Install bpf-linker again, for instance after the compiler's LLVM has become newer than its own
    #[arg(long)]
    force_linker: bool,
}

/// How much is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Level {
    /// What builds `lb`.
    Build,
    /// And what the lab starts.
    Lab,
    /// And what benchmarks compare lb with.
    Bench,
    /// And what the network tests judge packets by.
    Tests,
}

/// Carries the command out.
pub fn execute(options: &Options) -> Result<ExitCode, Error> {
    install(options.level, options.force_linker)?;
    Ok(ExitCode::SUCCESS)
}

/// Sees to it that everything of a level is there.
///
/// # Errors
/// What is missing and cannot be installed from here, with the commands that would.
pub fn ensure(level: Level) -> Result<Toolchain, Error> {
    install(level, false)
}

fn install(level: Level, force_linker: bool) -> Result<Toolchain, Error> {
    let progress = Progress::detect();
    eprintln!("── setup ──");
    let mut setup = Setup { apt: Apt::detect(Privilege::detect()), progress, installed: 0 };
    let toolchain = setup.toolchain(force_linker)?;
    if level >= Level::Lab {
        setup.tools("tools", &tools::LAB)?;
    }
    if level >= Level::Bench {
        setup.tools("compared", &tools::BENCH)?;
    }
    if level >= Level::Tests {
        setup.tools("judges", &tools::TESTS)?;
    }
    let verdict = if setup.installed == 0 { "everything was there" } else { "ready" };
    eprintln!("  {verdict}, after {:.1} s", setup.progress.elapsed().as_secs_f32());
    Ok(toolchain)
}

/// What the steps share.
struct Setup {
    progress: Progress,
    /// `None` where packages cannot be installed.
    apt: Option<Apt>,
    /// How many things were missing.
    installed: usize,
}

impl Setup {
    fn toolchain(&mut self, force_linker: bool) -> Result<Toolchain, Error> {
        let mut pieces = match Toolchain::find() {
            Ok(toolchain) if !force_linker => {
                self.progress.found("compiler", &toolchain.compiler.to_string());
                self.progress.found("linker", &toolchain.linker.to_string());
                return Ok(toolchain);
            }
            Ok(_) => Vec::new(),
            Err(missing) => missing.pieces,
        };
        if force_linker && !pieces.iter().any(|piece| matches!(piece, Piece::Linker { .. })) {
            pieces.push(Piece::Linker { seen: Vec::new() });
        }
        self.installed += pieces.len();
        // The compiler comes first: its LLVM decides which one bpf-linker needs.
        if pieces.iter().any(|piece| matches!(piece, Piece::Core { .. })) {
            self.install_compiler()?;
        } else {
            self.progress.found("compiler", "is there");
        }
        if pieces.iter().any(|piece| matches!(piece, Piece::Linker { .. })) {
            self.install_linker(force_linker)?;
        } else {
            self.progress.found("linker", "is there");
        }
        Ok(Toolchain::find()?)
    }

    fn tools(&mut self, step: &str, tools: &[Tool]) -> Result<(), Error> {
        let missing = tools::missing(tools);
        if missing.is_empty() {
            let names: Vec<&str> = tools.iter().map(|tool| tool.name).collect();
            self.progress.found(step, &names.join(", "));
            return Ok(());
        }
        let names = missing.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ");
        let packages = tools::packages(&missing);
        let Some(apt) = &mut self.apt else {
            return Err(Error::Missing {
                what: format!(
                    "the lab, the network tests or the benchmarks need {names}, and installing them takes root or sudo"
                ),
                remedies: vec![
                    format!("on Debian or Ubuntu, as root: {}", apt::typed(&packages)),
                    "elsewhere: install the packages that bring these programs".to_owned(),
                ],
            });
        };
        self.installed += missing.len();
        apt.install(&self.progress, step, &packages)?;
        self.progress.found(step, &names);
        let still_missing = tools::missing(tools);
        if still_missing.is_empty() {
            return Ok(());
        }
        Err(Error::Missing {
            what: format!(
                "after installing {} these are still missing: {}",
                packages.join(" "),
                still_missing.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ")
            ),
            remedies: vec!["put the folder they are in into PATH".to_owned()],
        })
    }
}
