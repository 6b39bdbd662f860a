//! Measuring in a virtual machine.

use xtask_report::Report;

use super::report;
use crate::{
    Error,
    vm::{self, Errand, Series},
};

/// Runs what prints a report as its last line, and shows whatever else it prints.
///
/// # Errors
/// The machine does not run, or there is no report. The exit status of a command that has printed one does not count: the
/// report says what went wrong.
pub(super) fn measure(series: Series, errand: Errand<'_>) -> Result<Report, Error> {
    eprintln!("── Linux {} ──", series.name());
    let mut printed = String::new();
    let (release, status) = vm::run_errand(series, errand, &mut |line| {
        let line = String::from_utf8_lossy(line);
        // The report is not for eyes.
        if !line.starts_with('{') {
            eprintln!("  {}", line.trim_end());
        }
        printed.push_str(&line);
        printed.push('\n');
    })?;
    if status != 0 && !printed.lines().any(|line| line.starts_with('{')) {
        return Err(Error::Failed {
            what: format!("measuring in a virtual machine with Linux {release}"),
            status: format!("exit status {status}"),
            command: errand.command.join(" "),
            output: String::new(),
            remedy: "  → what it said last is above".to_owned(),
        });
    }
    report::parse(&printed)
}
