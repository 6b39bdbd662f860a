//! `lb-bench`: what the XDP program costs. `cargo xtask bench` builds and starts it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lb::bench::packet;

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
}

fn main() -> ExitCode {
    let Command::Packet(options) = Arguments::parse().command;
    match packet::execute(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
