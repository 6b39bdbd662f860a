//! Reports of all benchmarks: on the terminal, as JSON, as a page with plots.

mod page;
mod table;

use std::{fs, path::PathBuf};

use clap::Args;
use serde_json::Value;
use xtask_report::Report;

pub(super) use self::table::{machine, table};
use crate::Error;

/// Where a report goes besides the terminal.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Output {
    /// Write everything, every round included, into this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots into this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Output {
    /// Where one of several reports goes: `all.json` becomes `all-PART.json`.
    pub(super) fn for_part(&self, part: &str) -> Self {
        let with = |path: &PathBuf| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let end = path.extension().map_or_else(String::new, |end| format!(".{}", end.to_string_lossy()));
            path.with_file_name(format!("{stem}-{part}{end}"))
        };
        Self { json: self.json.as_ref().map(with), html: self.html.as_ref().map(with) }
    }

    /// Shows a report, and writes the files that were asked for.
    pub(super) fn publish(&self, report: &Report) -> Result<(), Error> {
        self.write(report, &Value::Null)?;
        print!("{}", table::text(report));
        Ok(())
    }

    /// Writes the files that were asked for; what a benchmark has beyond a report stands as `rows` in the JSON.
    pub(super) fn write(&self, report: &Report, rows: &Value) -> Result<(), Error> {
        if let Some(path) = &self.json {
            let mut all = serde_json::to_value(report)
                .map_err(|source| Error::File { path: path.clone(), source: source.into() })?;
            if !rows.is_null() {
                all["rows"] = rows.clone();
            }
            write(path, &format!("{all:#}\n"))?;
        }
        if let Some(path) = &self.html {
            let page = page::page(report)
                .map_err(|error| Error::File { path: path.clone(), source: std::io::Error::other(error) })?;
            write(path, &page)?;
        }
        Ok(())
    }
}

fn write(path: &PathBuf, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::File { path: path.clone(), source })
}

/// The report that is the last line of what `lb-bench` prints.
pub(super) fn parse(printed: &str) -> Result<Report, Error> {
    let line = printed.lines().rev().find(|line| line.starts_with('{')).unwrap_or_default();
    serde_json::from_str(line)
        .map_err(|source| Error::File { path: "the output of lb-bench".into(), source: source.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_several_machines_go_to_files_of_their_own() {
        let output = Output { json: Some("/a/all.json".into()), html: Some("page".into()) };
        let part = output.for_part("6.1");
        assert_eq!(part.json, Some("/a/all-6.1.json".into()));
        assert_eq!(part.html, Some("page-6.1".into()));
    }
}
