//! The files a configuration is made of.

use std::{iter, path::Path, sync::Arc};

use toml::de::DeTable;

use super::{
    ConfigErrors, Parsed, Severity, merge, raw, read, read_text,
    report::Problem,
    text::{Language, Text},
    validate::{Findings, validate},
};
use crate::import::{self, Facts, Imported};

/// The files, each with its text.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) text: Text,
    documents: Vec<Document>,
    warnings: Vec<Problem>,
}

enum Document {
    /// A file as it is, and the place of its first byte.
    Written { base: usize, toml: String },
    /// What somebody else's file was translated to.
    Translated(Imported),
}

impl Sources {
    /// Adds a file in whatever language it is.
    pub(super) fn add_file(&mut self, path: &Path) -> Result<(), ConfigErrors> {
        let text = read_text(path)?;
        if import::is_keepalived(path, &text) {
            let imported = import::keepalived(path, &text, &Facts::of_this_node(), &mut self.text);
            self.add_imported(imported)
        } else {
            self.add_toml(&path.display().to_string(), text);
            Ok(())
        }
    }

    pub(super) fn add_toml(&mut self, name: &str, toml: String) {
        let base = self.text.add(name, &toml, Language::Toml);
        self.documents.push(Document::Written { base, toml });
    }

    /// Adds a translation of files that are in [`text`](Self::text) already.
    pub(crate) fn add_imported(&mut self, mut imported: Imported) -> Result<(), ConfigErrors> {
        if !imported.problems.is_empty() {
            let problems = std::mem::take(&mut imported.problems);
            return Err(ConfigErrors::new(&Arc::new(self.text.clone()), Severity::Error, problems));
        }
        self.warnings.append(&mut imported.warnings);
        self.documents.push(Document::Translated(imported));
        Ok(())
    }

    /// Parses and validates them as one configuration.
    pub(crate) fn parse(mut self) -> Result<Parsed, ConfigErrors> {
        let mut end = self.text.end();
        let mut texts = Vec::new();
        for document in self.documents {
            let (base, toml) = match document {
                Document::Written { base, toml } => (base, toml),
                Document::Translated(imported) => {
                    let base = end;
                    end += imported.toml.len() + 1;
                    self.text.add_origins(base, imported.origins);
                    (base, imported.toml)
                }
            };
            texts.push(shifted(base, toml));
        }
        let source = Arc::new(self.text);
        let refuse = |problems| ConfigErrors::new(&source, Severity::Error, problems);

        let parsed: Vec<_> = texts.iter().map(|text| DeTable::parse_recoverable(text)).collect();
        let syntax: Vec<Problem> = iter::zip(&parsed, &texts)
            .flat_map(|((_, errors), text)| read::syntax_problems(errors, text))
            .collect();
        if !syntax.is_empty() {
            // What the parser makes of the rest is a guess, so nothing is said about its meaning.
            return Err(refuse(syntax));
        }
        let (mut problems, mut warnings) = (Vec::new(), self.warnings);
        let mut tables = parsed.into_iter().map(|(table, _)| table);
        let mut table = tables.next().unwrap_or_else(|| toml::Spanned::new(0..0, DeTable::new()));
        for more in tables {
            merge::merge(table.get_mut(), more.into_inner(), &mut problems);
        }
        let raw = raw::read(&table, &mut problems);
        let (config, spans) =
            validate(&raw, &mut Findings { problems: &mut problems, warnings: &mut warnings });
        if !problems.is_empty() {
            return Err(refuse(problems));
        }
        let warnings = ConfigErrors::new(&source, Severity::Warning, warnings);
        Ok(Parsed { config, warnings, text: source, spans })
    }
}

/// The text with as many spaces before it as its first byte's place says, so that the places its parser finds are those
/// in all files together.
fn shifted(base: usize, text: String) -> String {
    if base == 0 {
        return text;
    }
    // A byte order mark means something at the very beginning only.
    match text.strip_prefix('\u{feff}') {
        Some(rest) => " ".repeat(base + '\u{feff}'.len_utf8()) + rest,
        None => " ".repeat(base) + &text,
    }
}
