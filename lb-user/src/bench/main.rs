//! `lb-bench`: what the XDP program costs. `cargo xtask bench` builds and starts it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lb::bench::{packet, scale};

#[derive(Parser)]
#[command(about = "Measures the XDP program")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The cost of one packet, by the kernel's test runs
    Packet(packet::Options),
    /// Time and memory of a large configuration
    Scale(scale::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Packet(options) => packet::execute(&options),
        Command::Scale(options) => scale::execute(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
