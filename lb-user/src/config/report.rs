//! What is wrong with a configuration, where, and what to do about it.

use std::{
    fmt::{self, Write as _},
    ops::Range,
    sync::Arc,
};

use miette::{Diagnostic, LabeledSpan, SourceCode};
use serde::Serialize;

use super::text::Text;

/// A report stops here: whoever has more to correct starts with these.
const MOST_REPORTED: usize = 100;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is accepted, but probably does not do what was meant.
    Warning,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigError {
    /// How bad it is.
    pub severity: Severity,
    /// The name of the file, as the configuration was parsed under.
    pub file: String,
    /// 1-based line; `None` if the file could not be read at all.
    pub line: Option<usize>,
    /// 1-based column, in characters.
    pub column: Option<usize>,
    /// What is wrong, in one line.
    pub message: String,
    /// What should stand there instead, where that can be said.
    pub expected: Option<String>,
    /// The remedy.
    pub help: Option<String>,
    /// Other places that take part, such as the one a value collides with.
    pub related: Vec<Related>,
    #[serde(skip)]
    span: Option<Range<usize>>,
    #[serde(skip)]
    text: Option<Arc<Text>>,
}

/// Another place that takes part in a problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    /// The name of the file, if it is another one than the problem's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// 1-based line.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// Its part in the problem.
    pub message: String,
    #[serde(skip)]
    span: Range<usize>,
}

impl ConfigError {
    /// The bytes of the configuration's text that are at fault.
    pub fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }
}

impl fmt::Display for ConfigError {
    /// `file:line:column: message`, in one line, with all that is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(expected) = &self.expected {
            write!(f, ": expected {expected}")?;
        }
        for related in &self.related {
            write!(f, "; {} at ", related.message)?;
            if let Some(file) = &related.file {
                write!(f, "{file}:")?;
            }
            write!(f, "{}:{}", related.line, related.column)?;
        }
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with one configuration, in the order of its text.
///
/// `Display` gives one line each; [`into_report`](Self::into_report) shows the lines at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    omitted: usize,
}

impl ConfigErrors {
    /// A file that cannot be read.
    pub(crate) fn unreadable(file: &str, message: String, help: Option<String>) -> Self {
        let error = ConfigError {
            severity: Severity::Error,
            file: file.to_owned(),
            line: None,
            column: None,
            message,
            expected: None,
            help,
            related: Vec::new(),
            span: None,
            text: None,
        };
        Self { errors: vec![error], omitted: 0 }
    }

    pub(crate) fn new(text: &Arc<Text>, severity: Severity, mut problems: Vec<Problem>) -> Self {
        for problem in &mut problems {
            problem.span = text.clamp(problem.span.clone());
        }
        problems.sort_by_key(|problem| problem.span.start);
        let omitted = problems.len().saturating_sub(MOST_REPORTED);
        problems.truncate(MOST_REPORTED);
        let errors = problems.into_iter().map(|problem| problem.locate(text, severity)).collect();
        Self { errors, omitted }
    }

    /// Adds those of the same text.
    pub(crate) fn extend(&mut self, more: Self) {
        self.errors.extend(more.errors);
        self.errors.sort_by_key(|error| error.span().map(|span| span.start));
        self.omitted += more.omitted;
    }

    /// The first hundred.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.errors.iter()
    }

    /// How many there are besides those of [`iter`](Self::iter).
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// What miette shows to a person: the lines at fault, carets, remedies. Turn it into a `miette::Report` and
    /// print that with `{:?}`.
    pub fn into_report(self) -> ConfigReport {
        let count = self.errors.len() + self.omitted;
        let warnings = self.errors.iter().all(|error| error.severity == Severity::Warning);
        let noun = if warnings { "warning" } else { "error" };
        let plural = if count == 1 { "" } else { "s" };
        let first = self.errors.first().map_or("", |error| error.file.as_str());
        let is_one = self.errors.iter().all(|error| error.file == first);
        let file = if is_one { first } else { "the configuration" };
        let mut headline = format!("{file}: {count} {noun}{plural}");
        if self.omitted > 0 {
            let _ = write!(headline, ", of which the first {MOST_REPORTED}");
        }
        let severity = if warnings { miette::Severity::Warning } else { miette::Severity::Error };
        ConfigReport { headline, severity, findings: self.errors.into_iter().map(Finding).collect() }
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_char('\n')?;
            }
            error.fmt(f)?;
        }
        if self.omitted > 0 {
            write!(f, "\n… and {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// [`ConfigErrors`] as a miette diagnostic: a headline, and each problem related to it.
#[derive(Debug, thiserror::Error)]
#[error("{headline}")]
pub struct ConfigReport {
    headline: String,
    severity: miette::Severity,
    findings: Vec<Finding>,
}

impl Diagnostic for ConfigReport {
    fn severity(&self) -> Option<miette::Severity> {
        Some(self.severity)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.findings.iter().map(|finding| finding as &dyn Diagnostic)))
    }
}

/// One problem in a report, which shows the place beside the message and not in it.
#[derive(Debug)]
struct Finding(ConfigError);

impl Finding {
    /// The text, if the lines at fault can be shown.
    fn text(&self) -> Option<&Text> {
        let text = self.0.text.as_deref()?;
        let others = self.0.related.iter().map(|related| &related.span);
        self.0.span.iter().chain(others).all(|span| text.showable(span)).then_some(text)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.text(), &self.0.text) {
            (None, Some(_)) => self.0.fmt(f),
            _ => f.write_str(&self.0.message),
        }
    }
}

impl std::error::Error for Finding {}

impl Diagnostic for Finding {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.0.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.text().map(|text| text as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.0.span.clone()?;
        let label = self.0.expected.as_ref().map(|expected| format!("expected {expected}"));
        let primary = LabeledSpan::new_primary_with_span(label, span);
        let others =
            self.0.related.iter().map(|related| {
                LabeledSpan::new_with_span(Some(related.message.clone()), related.span.clone())
            });
        Some(Box::new(std::iter::once(primary).chain(others)))
    }
}

/// A problem under construction, before its place is turned into a line and a column.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    span: Range<usize>,
    message: String,
    expected: Option<String>,
    help: Option<String>,
    related: Vec<(Range<usize>, String)>,
}

impl Problem {
    pub(crate) fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), expected: None, help: None, related: Vec::new() }
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn related(mut self, span: Range<usize>, message: impl Into<String>) -> Self {
        self.related.push((span, message.into()));
        self
    }

    fn locate(self, text: &Arc<Text>, severity: Severity) -> ConfigError {
        let span = text.clamp(self.span);
        let (line, column) = text.position(span.start);
        let name = text.name_at(span.start);
        let related = self.related.into_iter().map(|(span, message)| {
            let span = text.clamp(span);
            let (line, column) = text.position(span.start);
            let file = text.name_at(span.start);
            let file = (file != name).then(|| file.to_owned());
            Related { file, line, column, message, span }
        });
        ConfigError {
            severity,
            file: name.to_owned(),
            line: Some(line),
            column: Some(column),
            message: self.message,
            expected: self.expected,
            help: self.help,
            related: related.collect(),
            span: Some(span),
            text: Some(Arc::clone(text)),
        }
    }
}
