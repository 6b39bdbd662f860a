//! `lb check`: would this configuration run here?

use std::process::ExitCode;

use serde::Serialize;

use super::{CheckArgs, exit};
use crate::{
    config::{self, ConfigError, ConfigErrors, HostFacts},
    net::Netlink,
};

/// What `lb check --json` prints.
#[derive(Serialize)]
struct Findings<'a> {
    usable: bool,
    errors: Vec<&'a ConfigError>,
    warnings: Vec<&'a ConfigError>,
}

/// `lb check`.
pub(super) fn check(args: &CheckArgs) -> ExitCode {
    let (errors, warnings) = match config::load_all(&args.config) {
        Err(errors) => (Some(errors), None),
        Ok(parsed) => {
            let host = if args.no_host {
                Ok(())
            } else {
                host_facts().and_then(|facts| parsed.check_host(&facts).map_err(HostProblem::Config))
            };
            match host {
                Ok(()) => (None, Some(parsed.warnings)),
                Err(HostProblem::Config(errors)) => (Some(errors), Some(parsed.warnings)),
                Err(HostProblem::Unknown(message)) => {
                    eprintln!("lb: {message}");
                    return ExitCode::from(exit::FAILURE);
                }
            }
        }
    };
    let usable = errors.is_none();
    if args.json {
        let findings = Findings { usable, errors: list(errors.as_ref()), warnings: list(warnings.as_ref()) };
        // Invariant: the findings are strings and numbers.
        println!("{}", serde_json::to_string_pretty(&findings).expect("findings are JSON"));
    } else {
        for found in [warnings, errors].into_iter().flatten().filter(|found| !found.is_empty()) {
            eprintln!("{:?}", miette::Report::new(found.into_report()));
        }
        if usable {
            let names: Vec<_> = args.config.iter().map(|path| path.display().to_string()).collect();
            println!("{}: usable", names.join(", "));
        }
    }
    if usable { ExitCode::SUCCESS } else { ExitCode::from(exit::USAGE) }
}

fn list(found: Option<&ConfigErrors>) -> Vec<&ConfigError> {
    found.into_iter().flatten().collect()
}

/// Why the host's part of the check did not pass.
enum HostProblem {
    Config(ConfigErrors),
    Unknown(String),
}

fn host_facts() -> Result<HostFacts, HostProblem> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| HostProblem::Unknown(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let netlink = Netlink::open().map_err(|error| HostProblem::Unknown(error.to_string()))?;
        crate::control::host_facts(&netlink).await.map_err(|error| HostProblem::Unknown(error.to_string()))
    })
}
