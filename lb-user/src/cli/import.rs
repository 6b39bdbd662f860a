//! `lb import`: somebody else's configuration, translated.

use std::{
    fs::OpenOptions,
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::ExitCode,
};

use serde::Serialize;

use super::{ImportCommand, ReportForm, exit};
use crate::{
    config::{self, ConfigError, ConfigErrors},
    import::{self, Facts, Report, Translation},
};

/// Standard input.
const STDIN: &str = "-";

/// What `--report json` writes.
#[derive(Serialize)]
struct Findings<'a> {
    translated: bool,
    #[serde(flatten)]
    report: Option<&'a Report>,
    errors: Vec<&'a ConfigError>,
    warnings: Vec<&'a ConfigError>,
}

/// `lb import`.
pub(super) fn import(command: &ImportCommand) -> ExitCode {
    let (args, translation) = match command {
        ImportCommand::Keepalived(args) => {
            let mut facts = Facts::of_this_node();
            if let Some(id) = &args.config_id {
                facts.id.clone_from(id);
            }
            let read = |text: String| import::import_keepalived(&args.import.file, &text, &facts);
            (&args.import, read_text(&args.import.file).and_then(read))
        }
        ImportCommand::Ipvsadm(args) => {
            let name = args.import.file.display().to_string();
            let read = |text: String| import::import_ipvsadm(&name, &text, &args.interface);
            (&args.import, read_text(&args.import.file).and_then(read))
        }
    };
    let code = match &translation {
        Err(_) => exit::USAGE,
        Ok(translation) if args.strict && !translation.report.is_complete() => exit::USAGE,
        Ok(translation) => match write(&translation.toml, args.output.as_deref()) {
            Ok(()) => 0,
            Err(message) => {
                eprintln!("lb: {message}");
                return ExitCode::from(exit::FAILURE);
            }
        },
    };
    report(translation, args.report);
    ExitCode::from(code)
}

fn read_text(path: &Path) -> Result<String, ConfigErrors> {
    if path != Path::new(STDIN) {
        return config::read_text(path);
    }
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(config::MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    config::text_of("standard input", read.map(|_| bytes))
}

fn write(toml: &str, output: Option<&Path>) -> Result<(), String> {
    let Some(path) = output else {
        return io::stdout()
            .lock()
            .write_all(toml.as_bytes())
            .map_err(|error| format!("standard output: {error}"));
    };
    // It may hold a password; and what is there may have been edited since.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    file.write_all(toml.as_bytes()).map_err(|error| format!("{}: {error}", path.display()))
}

fn report(translation: Result<Translation, ConfigErrors>, form: ReportForm) {
    let (report, warnings, errors) = match translation {
        Ok(Translation { report, parsed, .. }) => (Some(report), Some(parsed.warnings), None),
        Err(errors) => (None, None, Some(errors)),
    };
    match form {
        ReportForm::Json => {
            let findings = Findings {
                translated: errors.is_none(),
                report: report.as_ref(),
                errors: errors.iter().flatten().collect(),
                warnings: warnings.iter().flatten().collect(),
            };
            // Invariant: the findings are strings and numbers.
            eprintln!("{}", serde_json::to_string_pretty(&findings).expect("findings are JSON"));
        }
        ReportForm::Text => {
            if let Some(errors) = errors {
                eprintln!("{:?}", miette::Report::new(errors.into_report()));
            }
            if let Some(report) = report {
                for warning in warnings.iter().flatten().filter(|warning| !is_in(&report, warning)) {
                    eprintln!("{warning}");
                }
                eprintln!("{report}");
            }
        }
    }
}

/// Whether the report says what the warning does: that the directive at that place is not supported.
fn is_in(report: &Report, warning: &ConfigError) -> bool {
    report.directives.iter().any(|entry| {
        !entry.outcome.is_kept()
            && Some(entry.line) == warning.line
            && Some(entry.column) == warning.column
            && entry.file == warning.file
    })
}
