//! `cargo xtask`: everything a newcomer or CI starts.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{bench, docker, doctor, lab, lint, run, setup, test, vm};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Everything a newcomer or CI starts",
    version
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building and testing needs; does nothing where it is there already
    Setup(setup::Options),
    /// Say what is there, what is missing and what the kernel offers; changes nothing
    Doctor(doctor::Options),
    /// Play the tutorial in a lab, or run the daemon on this host
    Run(run::Options),
    /// Build, inspect and remove labs: a client and two nodes with nginx and lb in network namespaces
    Lab(lab::Options),
    /// Run the tests, tier by tier, and say what was skipped
    Test(test::Options),
    /// Measure what packets, connections and failovers cost
    Bench(bench::Options),
    /// Build the images of the tutorial in containers (deploy/tutorial)
    Image(docker::Options),
    /// Run a command, or a shell, in a virtual machine with one of Debian's kernels
    Vm(vm::Options),
    /// Check format and lints, of the host's code and of the XDP program
    Lint(lint::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Setup(options) => setup::execute(&options),
        Command::Doctor(options) => doctor::execute(&options),
        Command::Run(options) => run::execute(options),
        Command::Lab(options) => lab::execute(options),
        Command::Test(options) => test::execute(&options),
        Command::Bench(options) => bench::execute(&options),
        Command::Image(options) => docker::execute(&options),
        Command::Vm(options) => vm::execute(&options),
        Command::Lint(options) => lint::execute(&options),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
