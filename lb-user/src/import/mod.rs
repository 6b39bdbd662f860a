//! Other people's configurations, translated.
//!
//! keepalived's and ipvsadm's words become TOML, the same that a person would write, and a report says what became of each
//! of them. Everything goes through that text: what `lb import` prints is what `lb run --config keepalived.conf`
//! runs, and [`config`](crate::config) reads no other language. Each line of it knows the line it was
//! translated from, so that errors name that.

mod document;
mod facts;
mod ipvsadm;
mod keepalived;
mod report;
mod service;

use std::{ops::Range, path::Path};

use document::Document;
use report::Findings;

use crate::config::{ConfigErrors, Parsed, Problem, Sources, Text};

pub use facts::Facts;
pub use report::{Entry, Outcome, Report};

/// A translation that our own reader accepts.
#[derive(Clone, Debug)]
pub struct Translation {
    /// The TOML, with comments.
    pub toml: String,
    /// What became of each directive.
    pub report: Report,
    /// The configuration it makes, and what is probably not meant.
    pub parsed: Parsed,
}

/// A translation that nobody has read yet.
pub(crate) struct Imported {
    pub(crate) toml: String,
    /// The first byte of each of its lines, and the place that line comes from.
    pub(crate) origins: Vec<(usize, Range<usize>)>,
    pub(crate) report: Report,
    /// What keeps it from being translated.
    pub(crate) problems: Vec<Problem>,
    /// What it does not do of what the original does.
    pub(crate) warnings: Vec<Problem>,
}

impl Imported {
    fn new(mut document: Document, mut findings: Findings, text: &Text) -> Self {
        let left_out: Vec<String> = findings.left_out(text).take(MOST_LEFT_OUT).collect();
        if !left_out.is_empty() {
            document.preface.extend([String::new(), "What lb does not do of it:".to_owned()]);
            document.preface.extend(left_out.iter().map(|line| format!("  {line}")));
            if left_out.len() == MOST_LEFT_OUT {
                document.preface.push("  … and more: see the report".to_owned());
            }
        }
        let document::Rendered { toml, origins } = document.render(text);
        let report = findings.report(text);
        Self { toml, origins, report, problems: findings.problems, warnings: findings.warnings }
    }
}

/// So much of what is left out stands in the comments.
const MOST_LEFT_OUT: usize = 100;

/// Whether a configuration is keepalived's: its name does not end in `.toml`, and its first line that says anything begins
/// with one of keepalived's words, or at least not as TOML does where the name ends in `.conf`.
pub fn is_keepalived(path: &Path, text: &str) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    if extension == Some("toml") {
        return false;
    }
    let text = without_mark(text);
    let line =
        text.lines().map(str::trim_start).find(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    let Some(line) = line else { return text.lines().any(|line| line.trim_start().starts_with('!')) };
    let word = line.split(|c: char| c.is_whitespace() || c == '{').next().unwrap_or_default();
    if keepalived::begins_with(word) {
        return true;
    }
    let is_toml = line.starts_with(['[', '"', '\''])
        || line.split_once('=').is_some_and(|(key, _)| {
            key.trim().chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        });
    extension == Some("conf") && !is_toml
}

/// The text without the byte order mark that editors of Windows put before it.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Translates keepalived's configuration, of which `source` is the file `path`; others that it includes are read.
pub(crate) fn keepalived(path: &Path, source: &str, facts: &Facts, text: &mut Text) -> Imported {
    keepalived::translate(path, source, facts, text)
}

/// Translates a configuration of keepalived's, and what it includes.
pub fn import_keepalived(path: &Path, source: &str, facts: &Facts) -> Result<Translation, ConfigErrors> {
    finish(|text| keepalived::translate(path, source, facts, text))
}

/// Translates what `ipvsadm -Sn` prints. `interface` is where clients' packets come in, which that does not say.
pub fn import_ipvsadm(name: &str, source: &str, interface: &str) -> Result<Translation, ConfigErrors> {
    finish(|text| ipvsadm::translate(name, source, interface, text))
}

fn finish(translate: impl FnOnce(&mut Text) -> Imported) -> Result<Translation, ConfigErrors> {
    let mut sources = Sources::default();
    let imported = translate(&mut sources.text);
    let (toml, report) = (imported.toml.clone(), imported.report.clone());
    sources.add_imported(imported)?;
    Ok(Translation { toml, report, parsed: sources.parse()? })
}
