//! `lb-bench`: measures `lb`. `cargo xtask bench` builds and starts it, and shows what it finds: the report is a line of
//! JSON on standard output.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lb::bench::{BenchError, checks, forward, packet, scale};

#[derive(Parser)]
#[command(about = "Measures lb; prints a report as a line of JSON")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The cost of one packet, by the kernel's test runs
    Packet(packet::Options),
    /// The cost of whole forwarding, in a lab that is there
    Forward(forward::Options),
    /// Time and memory of large configurations
    Scale(scale::Options),
    /// The cost of checking backends
    Checks(checks::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Packet(options) => packet::execute(&options),
        Command::Forward(options) => forward::execute(&options),
        Command::Scale(options) => scale::execute(&options),
        Command::Checks(options) => checks::execute(&options),
    };
    let printed = result.and_then(|report| {
        let line = serde_json::to_string(&report).map_err(std::io::Error::from)?;
        println!("{line}");
        Ok::<(), BenchError>(())
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
