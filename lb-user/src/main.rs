//! The `lb` command.

use std::process::ExitCode;

use clap::Parser;
use lb::cli::{Cli, dispatch};

fn main() -> ExitCode {
    dispatch(Cli::parse())
}
