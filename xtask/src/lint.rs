//! `cargo xtask lint`: format and lints. Warnings are errors here, and nowhere else: a newer compiler's new warning must
//! not stop somebody who only wants to build.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use xtask_toolchain::{Compiler, Toolchain};

use crate::{Error, process, setup, setup::Level, workspace};

/// `cargo xtask lint`.
#[derive(Args, Debug)]
pub struct Options {
    /// Only the host's code, which needs no toolchain for BPF beyond the build's
    #[arg(long)]
    host: bool,
}

/// Carries the command out; all checks run, also after one has failed.
pub fn execute(options: &Options) -> Result<ExitCode, Error> {
    let toolchain = setup::ensure(Level::Build)?;
    let mut failed = Vec::new();
    let mut check = |name: &'static str, result: Result<(), Error>| {
        if let Err(error) = result {
            eprintln!("{error}");
            failed.push(name);
        }
    };
    check("format", format());
    check("clippy", clippy());
    if !options.host {
        check("XDP program", xdp(&toolchain));
    }
    if failed.is_empty() {
        println!("lint: ok");
        Ok(ExitCode::SUCCESS)
    } else {
        println!("lint: FAILED: {}", failed.join(", "));
        Ok(ExitCode::FAILURE)
    }
}

fn format() -> Result<(), Error> {
    eprintln!("── format ──");
    process::run(&mut workspace::cargo(&["fmt", "--all", "--check"]), "the format (cargo fmt --all mends it)")
}

fn clippy() -> Result<(), Error> {
    eprintln!("── clippy ──");
    let mut command = workspace::cargo(&[
        "clippy",
        "--locked",
        "--keep-going",
        "--workspace",
        "--all-targets",
        "--features",
        "lb-user/bench",
    ]);
    process::run(command.args(["--", "-D", "warnings"]), "clippy")
}

/// The XDP program for its own target: code under `cfg(target_arch = "bpf")` is invisible to the checks above. By the
/// clippy of the same compiler if there is one, else by the compiler.
fn xdp(toolchain: &Toolchain) -> Result<(), Error> {
    let clippy = clippy_of(&toolchain.compiler);
    let (with, folder) = match &clippy {
        Some(_) => ("its compiler's clippy", "xdp-clippy"),
        None => ("its compiler, which has no clippy here", "xdp-check"),
    };
    eprintln!("── XDP program, by {with} ──");
    let root = workspace::root();
    // Warnings of dependencies stay out of it: cargo caps their lints.
    let mut command = toolchain.command("check", &root, &root.join("target").join(folder), &["-Dwarnings"]);
    if let Some(clippy) = clippy {
        command.env("RUSTC_WORKSPACE_WRAPPER", clippy);
    }
    process::run(&mut command, "checking the XDP program")
}

/// The clippy beside a compiler, provided it is of the same version: it is a compiler itself, and must fit `core`.
fn clippy_of(compiler: &Compiler) -> Option<PathBuf> {
    let clippy = compiler.rustc.with_file_name("clippy-driver");
    let answer = process::ask(&clippy.to_string_lossy(), &["--rustc", "--version"])?;
    (answer.split_whitespace().nth(1) == Some(compiler.version.as_str())).then_some(clippy)
}
