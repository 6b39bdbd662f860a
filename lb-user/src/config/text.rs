//! The text of a configuration as errors show it: lines and columns counted as an editor counts them, secrets
//! and terminal control characters covered.

use std::ops::Range;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// A snippet of more bytes than this would bury the message it belongs to.
const MOST_SHOWN_BYTES: usize = 4_000;

/// The texts of a configuration's files, one after the other, kept for reports. Places are byte offsets in all of it.
///
/// What was translated from somebody else's configuration has places beyond the end, which stand for those of the text
/// it was translated from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    /// In the order of their first bytes; never empty when errors are made.
    files: Vec<File>,
    /// Its characters begin where those of the original do, so that spans and columns fit.
    shown: String,
    /// Byte offset of the first character of each line; every file begins one.
    line_starts: Vec<usize>,
    /// First byte of each translated piece, and the place it was translated from.
    origins: Vec<(usize, Range<usize>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    name: String,
    start: usize,
}

/// Whose words a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// This program's.
    Toml,
    /// keepalived's.
    Keepalived,
    /// One without secrets.
    Other,
}

impl Text {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let mut all = Self::default();
        all.add(name, text, Language::Toml);
        all
    }

    /// Adds a file, and returns the place of its first byte.
    pub(crate) fn add(&mut self, name: &str, text: &str, language: Language) -> usize {
        // Between files is a line break that belongs to neither, so that no line is of two.
        if !self.files.is_empty() {
            self.shown.push('\n');
        }
        let start = self.shown.len();
        self.files.push(File { name: name.to_owned(), start });
        self.line_starts.push(start);
        self.line_starts.extend(text.match_indices('\n').map(|(offset, _)| start + offset + 1));
        self.shown.push_str(&cover(text, language));
        start
    }

    /// Says where a translated text, whose first byte is at `base`, comes from: its pieces by their first bytes in it,
    /// ascending. Files cannot be added any more.
    pub(crate) fn add_origins(
        &mut self,
        base: usize,
        pieces: impl IntoIterator<Item = (usize, Range<usize>)>,
    ) {
        self.origins.extend(pieces.into_iter().map(|(start, origin)| (base + start, origin)));
    }

    /// The first place beyond all files, where translated texts may begin.
    pub(super) fn end(&self) -> usize {
        self.shown.len() + 1
    }

    /// The place in a file that a place stands for.
    fn resolve(&self, span: Range<usize>) -> Range<usize> {
        let piece = self.origins.partition_point(|(start, _)| *start <= span.start);
        match piece.checked_sub(1).and_then(|piece| self.origins.get(piece)) {
            Some((_, origin)) => origin.clone(),
            None => span,
        }
    }

    /// The name of the file that a place is in.
    pub(crate) fn name_at(&self, offset: usize) -> &str {
        &self.files[self.file_of(self.resolve(offset..offset).start)].name
    }

    /// 1-based line and column (in characters) of a byte offset in its file; it may be the file's end.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.shown.floor_char_boundary(self.resolve(offset..offset).start);
        let line = self.line_of(offset);
        let first = self.line_of(self.files[self.file_of(offset)].start);
        let column = self.shown[self.line_starts[line]..offset].chars().count();
        (line - first + 1, column + 1)
    }

    /// The nearest range that lies in the text and on character boundaries.
    pub(super) fn clamp(&self, span: Range<usize>) -> Range<usize> {
        let span = self.resolve(span);
        let start = self.shown.floor_char_boundary(span.start);
        start..self.shown.ceil_char_boundary(span.end).max(start)
    }

    /// Whether a person would want to see the lines of `span`: not if they fill the screen.
    pub(super) fn showable(&self, span: &Range<usize>) -> bool {
        let first = self.line_of(span.start).saturating_sub(1);
        let end = self.line_starts.get(self.line_of(span.end) + 2).copied().unwrap_or(self.shown.len());
        end - self.line_starts[first] <= MOST_SHOWN_BYTES
    }

    /// 0-based line that holds `offset`, counted from the first file's first.
    fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset) - 1
    }

    fn file_of(&self, offset: usize) -> usize {
        self.files.partition_point(|file| file.start <= offset).saturating_sub(1)
    }

    /// The places of a file's bytes.
    fn range_of(&self, file: usize) -> Range<usize> {
        let end = self.files.get(file + 1).map_or(self.shown.len(), |next| next.start - 1);
        self.files[file].start..end
    }
}

impl SourceCode for Text {
    /// As miette reads a `str`, but with columns in characters and without reading the text from its start.
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        context_lines_before: usize,
        context_lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let end = span.offset() + span.len();
        let file = self.file_of(span.offset());
        let range = self.range_of(file);
        if end > range.end {
            return Err(MietteError::OutOfBounds);
        }
        let top = self.line_of(range.start);
        let span_line = self.line_of(span.offset());
        let first_line = span_line.saturating_sub(context_lines_before).max(top);
        let (start, column) = if context_lines_before == 0 {
            (span.offset(), self.position(span.offset()).1 - 1)
        } else {
            (self.line_starts[first_line], 0)
        };
        // The last character of the span decides, so that one that ends with a line break does not show the next.
        let last = self.line_of(end.saturating_sub(1).max(span.offset())) + context_lines_after;
        let stop = self.line_starts.get(last + 1).map_or(range.end, |next| next - 1).min(range.end).max(end);
        Ok(Box::new(MietteSpanContents::new_named(
            self.files[file].name.clone(),
            &self.shown.as_bytes()[start..stop],
            (start, stop - start).into(),
            first_line - top,
            column,
            last + 1 - first_line,
        )))
    }
}

/// Keys whose values are secret.
const SECRET_KEYS: [&str; 2] = ["password", "secret"];

/// The text with secrets and control characters replaced by something harmless, each character by one of as many bytes:
/// reports end in logs and terminals.
fn cover(text: &str, language: Language) -> String {
    let covered = match language {
        Language::Toml => cover_toml(text),
        Language::Keepalived => cover_keepalived(text),
        Language::Other => text.to_owned(),
    };
    let uncontrolled = |c: char| if c.is_ascii_control() && !"\n\r\t".contains(c) { '?' } else { c };
    covered.chars().map(uncontrolled).collect()
}

/// The characters of a secret, each as one of as many bytes that says nothing.
fn mask(secret: &str) -> impl Iterator<Item = char> {
    secret.chars().map(|character| match (character, character.len_utf8()) {
        ('\n', _) => '\n',
        (_, 1) => '*',
        (_, 2) => '·',
        (_, 3) => '•',
        _ => '🔒',
    })
}

/// What follows these words of keepalived's in their line is secret.
const KEEPALIVED_SECRETS: [&str; 4] = ["auth_pass", "auth_hmac", "hmac_key", "password"];

fn cover_keepalived(text: &str) -> String {
    let mut covered = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let word = KEEPALIVED_SECRETS.iter().filter_map(|word| Some(line.find(word)? + word.len())).min();
        let (before, after) = line.split_at(word.unwrap_or(line.len()));
        let value = after.trim_start_matches([' ', '\t', '"']);
        // A closing brace behind the secret, as in `{ auth_pass open }`, need not be hidden.
        let secret = value.trim_end().trim_end_matches([' ', '\t', '"', '}']);
        covered.push_str(before);
        covered.push_str(&after[..after.len() - value.len()]);
        covered.extend(mask(secret));
        covered.push_str(&value[secret.len()..]);
    }
    covered
}

/// The text with the values of [`SECRET_KEYS`] covered.
fn cover_toml(text: &str) -> String {
    let mut covered = String::with_capacity(text.len());
    let mut rest = text;
    let next = |rest: &str| {
        let ends = SECRET_KEYS.iter().filter_map(|key| Some(rest.find(key)? + key.len()));
        ends.chain(bare_secret(rest)).min()
    };
    while let Some(end) = next(rest) {
        let (before, after) = rest.split_at(end);
        covered.push_str(before);
        let is_bare = before.ends_with(['"', '\'']) && bare_secret(rest) == Some(end);
        let secret = if is_bare {
            0..after.find(['"', '\'', '\n']).unwrap_or(after.len())
        } else {
            secret_after_key(after)
        };
        covered.push_str(&after[..secret.start]);
        covered.extend(mask(&after[secret.clone()]));
        rest = &after[secret.end..];
    }
    covered.push_str(rest);
    covered
}

/// Where in `text` a string begins that is an element of an array of `keys`, where only tables belong: somebody's secret.
fn bare_secret(text: &str) -> Option<usize> {
    text.match_indices("keys").find_map(|(place, key)| {
        let after = &text[place + key.len()..];
        let value = after
            .trim_start_matches([' ', '\t'])
            .strip_prefix('=')?
            .trim_start()
            .strip_prefix('[')?
            .trim_start();
        value.starts_with(['"', '\'']).then(|| text.len() - value.len() + 1)
    })
}

/// Where in `after`, the text behind a key, its value stands, without its quotes; empty if no value follows.
/// It also finds values that are no TOML, such as one without its closing quote.
fn secret_after_key(after: &str) -> Range<usize> {
    let unquoted = after.strip_prefix(['"', '\'']).unwrap_or(after);
    let Some(value) = unquoted.trim_start_matches([' ', '\t']).strip_prefix('=') else {
        return 0..0;
    };
    let value = value.trim_start_matches([' ', '\t']);
    let start = after.len() - value.len();
    for (quote, one_line) in [("\"\"\"", false), ("'''", false), ("\"", true), ("'", true)] {
        if let Some(inner) = value.strip_prefix(quote) {
            let limit = if one_line { inner.find('\n').unwrap_or(inner.len()) } else { inner.len() };
            let length = inner[..limit].find(quote).unwrap_or(limit);
            return start + quote.len()..start + quote.len() + length;
        }
    }
    start..start + value.find(['\n', ',', '}', '#']).unwrap_or(value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let text = Text::new("t", "a\näö = 1\n");
        assert_eq!(text.position(0), (1, 1));
        assert_eq!(text.position(1), (1, 2));
        assert_eq!(text.position(2), (2, 1));
        assert_eq!(text.position(6), (2, 3));
        assert_eq!(text.position("a\näö = 1\n".len()), (3, 1));
        assert_eq!(text.position(1_000), (3, 1));
    }

    #[test]
    fn passwords_are_never_shown() {
        for (text, shown) in [
            ("password = \"letmein\" # x", "password = \"*******\" # x"),
            ("\"password\"='let'", "\"password\"='***'"),
            ("{ password = 123, a = 1 }", "{ password = ***, a = 1 }"),
            ("password = \"open\nnext = 1", "password = \"****\nnext = 1"),
            ("password = \"\"\"a\nb\"\"\"", "password = \"\"\"*\n*\"\"\""),
            ("password = \"pä€𝄞\"", "password = \"*·•🔒\""),
            (
                "keys = [{ id = 1, secret = \"open\" }, { id = 2, secret = 'sesame' }]",
                "keys = [{ id = 1, secret = \"****\" }, { id = 2, secret = '******' }]",
            ),
            ("keys = [\"open\"]\npassword = \"x\"", "keys = [\"****\"]\npassword = \"*\""),
            ("{ id = 1, file = \"/etc/lb/vrrp.key\" }", "{ id = 1, file = \"/etc/lb/vrrp.key\" }"),
            ("# the password is not here", "# the password is not here"),
            ("password", "password"),
        ] {
            assert_eq!(cover(text, Language::Toml), shown);
            assert_eq!(cover(text, Language::Toml).len(), text.len());
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(cover("a\u{1b}[31m\tb\r\n", Language::Other), "a?[31m\tb\r\n");
    }

    #[test]
    fn keepalived_secrets_are_never_shown() {
        for (text, shown) in [
            ("auth_pass letmein\n}", "auth_pass *******\n}"),
            ("{ auth_pass \"let me\" }", "{ auth_pass \"******\" }"),
            ("auth_pass  pä€ # x", "auth_pass  *·•****"),
            ("auth_pass\nnext", "auth_pass\nnext"),
        ] {
            assert_eq!(cover(text, Language::Keepalived), shown);
        }
    }

    #[test]
    fn positions_are_those_of_the_file() {
        let mut text = Text::default();
        assert_eq!(text.add("a", "one\ntwo", Language::Toml), 0);
        let second = text.add("b", "three\nfour\n", Language::Other);
        for (offset, name, position) in [
            (0, "a", (1, 1)),
            (4, "a", (2, 1)),
            (7, "a", (2, 4)),
            (second, "b", (1, 1)),
            (second + 8, "b", (2, 3)),
        ] {
            assert_eq!((text.name_at(offset), text.position(offset)), (name, position), "{offset}");
        }
        let base = text.end();
        text.add_origins(base, [(0, 0..3), (10, second + 6..second + 10)]);
        assert_eq!((text.name_at(base + 9), text.position(base + 9)), ("a", (1, 1)));
        assert_eq!((text.name_at(base + 12), text.position(base + 12)), ("b", (2, 1)));
        assert_eq!(text.clamp(base + 12..base + 40), second + 6..second + 10);
    }
}
