//! The text of a configuration as errors show it: lines and columns counted as an editor counts them, secrets
//! and terminal control characters covered.

use std::ops::Range;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// A snippet of more bytes than this would bury the message it belongs to.
const MOST_SHOWN_BYTES: usize = 4_000;

/// A configuration's text, kept for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    name: String,
    /// Its characters begin where those of the original do, so that spans and columns fit.
    shown: String,
    /// Byte offset of the first character of each line; never empty.
    line_starts: Vec<usize>,
}

impl Text {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect();
        Self { name: name.to_owned(), shown: cover(text), line_starts }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// 1-based line and column (in characters) of a byte offset, which may be the text's end.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.shown.floor_char_boundary(offset);
        let line = self.line_of(offset);
        let column = self.shown[self.line_starts[line]..offset].chars().count();
        (line + 1, column + 1)
    }

    /// The nearest range that lies in the text and on character boundaries.
    pub(super) fn clamp(&self, span: Range<usize>) -> Range<usize> {
        let start = self.shown.floor_char_boundary(span.start);
        start..self.shown.ceil_char_boundary(span.end).max(start)
    }

    /// Whether a person would want to see the lines of `span`: not if they fill the screen.
    pub(super) fn showable(&self, span: &Range<usize>) -> bool {
        let first = self.line_of(span.start).saturating_sub(1);
        let end = self.line_starts.get(self.line_of(span.end) + 2).copied().unwrap_or(self.shown.len());
        end - self.line_starts[first] <= MOST_SHOWN_BYTES
    }

    /// 0-based line that holds `offset`.
    fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset) - 1
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
        if end > self.shown.len() {
            return Err(MietteError::OutOfBounds);
        }
        let span_line = self.line_of(span.offset());
        let first_line = span_line.saturating_sub(context_lines_before);
        let (start, column) = if context_lines_before == 0 {
            (span.offset(), self.position(span.offset()).1 - 1)
        } else {
            (self.line_starts[first_line], 0)
        };
        // The last character of the span decides, so that one that ends with a line break does not show the next.
        let last = self.line_of(end.saturating_sub(1).max(span.offset())) + context_lines_after;
        let stop = self.line_starts.get(last + 1).map_or(self.shown.len(), |next| next - 1).max(end);
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            &self.shown.as_bytes()[start..stop],
            (start, stop - start).into(),
            first_line,
            column,
            last + 1 - first_line,
        )))
    }
}

/// Keys whose values are secret.
const SECRET_KEYS: [&str; 2] = ["password", "secret"];

/// The text with the values of [`SECRET_KEYS`] and control characters replaced by something harmless, each character
/// by one of as many bytes: reports end in logs and terminals.
fn cover(text: &str) -> String {
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
        for character in after[secret.clone()].chars() {
            covered.push(match (character, character.len_utf8()) {
                ('\n', _) => '\n',
                (_, 1) => '*',
                (_, 2) => '·',
                (_, 3) => '•',
                _ => '🔒',
            });
        }
        rest = &after[secret.end..];
    }
    covered.push_str(rest);
    let uncontrolled = |c: char| if c.is_ascii_control() && !"\n\r\t".contains(c) { '?' } else { c };
    covered.chars().map(uncontrolled).collect()
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
            assert_eq!(cover(text), shown);
            assert_eq!(cover(text).len(), text.len());
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(cover("a\u{1b}[31m\tb\r\n"), "a?[31m\tb\r\n");
    }
}
