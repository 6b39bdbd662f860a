//! What became of every directive.

use std::{borrow::Cow, collections::BTreeMap, fmt, ops::Range};

use serde::Serialize;

use crate::config::{Problem, Text, nearest};

/// What became of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It stands in the translation.
    Translated,
    /// It does not need to: this is how lb works anyway, or it has no effect.
    Default,
    /// lb has nothing like it.
    Unsupported,
    /// Nobody knows the word, here.
    Unknown,
}

impl Outcome {
    /// Whether nothing is lost.
    pub const fn is_kept(self) -> bool {
        matches!(self, Self::Translated | Self::Default)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Translated => "translated",
            Self::Default => "by default",
            Self::Unsupported => "NOT SUPPORTED",
            Self::Unknown => "UNKNOWN",
        })
    }
}

/// A directive and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The file it stands in.
    pub file: String,
    /// 1-based line.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// The directive without its block; secrets are left out.
    pub directive: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What it became; why it is not needed; or why it is not supported and what that means.
    pub detail: String,
}

/// Every directive of a configuration, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many directives came to what.
    pub summary: BTreeMap<Outcome, usize>,
    /// The directives.
    pub directives: Vec<Entry>,
}

impl Report {
    /// How many directives have that outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.summary.get(&outcome).copied().unwrap_or(0)
    }

    /// Whether the translation does all that the original says.
    pub fn is_complete(&self) -> bool {
        self.summary.keys().all(|outcome| outcome.is_kept())
    }
}

/// A line for each directive, then the sums.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Entry { file, line, column, directive, outcome, detail } in &self.directives {
            writeln!(f, "{file}:{line}:{column}: {outcome:<13} {directive}: {detail}")?;
        }
        write!(
            f,
            "{} directives: {} translated, {} by default, {} not supported, {} unknown",
            self.directives.len(),
            self.count(Outcome::Translated),
            self.count(Outcome::Default),
            self.count(Outcome::Unsupported),
            self.count(Outcome::Unknown),
        )
    }
}

/// A directive as the translation meets it.
pub(super) trait Directive {
    /// Where it stands.
    fn span(&self) -> Range<usize>;
    /// Its words, without secrets.
    fn words(&self) -> String;
}

/// What more unknown words might have been is not worth the time.
const MOST_HINTS: usize = 100;

/// What is found while a configuration is translated.
#[derive(Default)]
pub(super) struct Findings {
    notes: Vec<Note>,
    /// Unknown words so far.
    unknown: usize,
    /// What keeps the configuration from being translated.
    pub(super) problems: Vec<Problem>,
    /// What the translation does not do.
    pub(super) warnings: Vec<Problem>,
}

struct Note {
    at: usize,
    /// Of a block about which the same has been said.
    is_part: bool,
    directive: String,
    outcome: Outcome,
    detail: Cow<'static, str>,
}

impl Findings {
    fn note(&mut self, directive: &impl Directive, outcome: Outcome, detail: impl Into<Cow<'static, str>>) {
        let at = directive.span().start;
        let is_part = false;
        self.notes.push(Note { at, is_part, directive: directive.words(), outcome, detail: detail.into() });
    }

    /// What stands in the block of `key` has come to the same as the block.
    pub(super) fn part(&mut self, directive: &impl Directive, outcome: Outcome, key: &str) {
        let detail = Cow::Owned(format!("belongs to `{key}`"));
        let at = directive.span().start;
        self.notes.push(Note { at, is_part: true, directive: directive.words(), outcome, detail });
    }

    pub(super) fn translated(&mut self, directive: &impl Directive, to: impl Into<Cow<'static, str>>) {
        self.note(directive, Outcome::Translated, to);
    }

    pub(super) fn by_default(&mut self, directive: &impl Directive, why: impl Into<Cow<'static, str>>) {
        self.note(directive, Outcome::Default, why);
    }

    /// Also a warning.
    pub(super) fn unsupported(&mut self, directive: &impl Directive, why: impl Into<Cow<'static, str>>) {
        let why = why.into();
        let message = format!("not supported: {}", directive.words());
        self.warnings.push(Problem::at(directive.span(), message).help(why.clone()));
        self.note(directive, Outcome::Unsupported, why);
    }

    /// Also a warning; `word` is what nobody knows among `known`.
    pub(super) fn unknown(&mut self, directive: &impl Directive, word: &str, known: &[&str]) {
        self.unknown += 1;
        let near = if self.unknown <= MOST_HINTS { nearest(word, known) } else { None };
        let hint = match near {
            Some(near) => format!("did you mean `{near}`? It has no effect as it is"),
            None => "it has no effect; is it in the right block?".to_owned(),
        };
        let message = format!("unknown word `{}`", word.escape_debug());
        self.warnings.push(Problem::at(directive.span(), message).help(hint.clone()));
        self.note(directive, Outcome::Unknown, hint);
    }

    /// Not wrong, but other than it was.
    pub(super) fn differs(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.warnings.push(Problem::at(span, message).help(help));
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// What the comments of a translation say it leaves out: line by line, each with its place.
    pub(super) fn left_out<'a>(&'a self, text: &'a Text) -> impl Iterator<Item = String> + 'a {
        let left_out = |note: &&Note| !note.is_part && !note.outcome.is_kept();
        self.notes.iter().filter(left_out).map(|note| {
            let (line, _) = text.position(note.at);
            let file = text.name_at(note.at);
            let place =
                if file == text.name_at(0) { format!("line {line}") } else { format!("{file}:{line}") };
            format!("{place}: {}: {}", note.directive, note.detail)
        })
    }

    /// The report; `text` has the places.
    pub(super) fn report(&mut self, text: &Text) -> Report {
        let mut notes = std::mem::take(&mut self.notes);
        notes.sort_by_key(|note| note.at);
        let mut summary = BTreeMap::new();
        let directives = notes.into_iter().map(|note| {
            *summary.entry(note.outcome).or_insert(0) += 1;
            let (line, column) = text.position(note.at);
            let file = text.name_at(note.at).to_owned();
            let Note { directive, outcome, detail, .. } = note;
            Entry { file, line, column, directive, outcome, detail: detail.into_owned() }
        });
        Report { directives: directives.collect(), summary }
    }
}
