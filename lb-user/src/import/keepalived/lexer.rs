//! From the characters of a line to words and braces.
//!
//! A word ends at a space. Double quotes make one word of several. `#` and `!` begin a comment, unless a backslash stands
//! before them. A backslash at the end of a line joins it with the next.

use std::ops::Range;

use super::tree::Word;
use crate::{config::Problem, import::report::Findings};

/// A byte of a line that may have come from a definition, and the place in the text that it stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Byte {
    pub(super) value: u8,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// What a line consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    Open(Range<usize>),
    Close(Range<usize>),
}

/// Adds a line, which begins at `base`, to `to`: without its comment and without the backslash at its end. Returns whether
/// it has one, so that the next line belongs to it. `in_quotes` is carried on from line to line.
pub(super) fn strip(line: &str, base: usize, in_quotes: &mut bool, to: &mut Vec<Byte>) -> bool {
    let mut bytes = line.bytes().enumerate().peekable();
    let mut is_skipped = false;
    while let Some((place, byte)) = bytes.next() {
        let at = |place: usize, byte: u8| Byte { value: byte, start: base + place, end: base + place + 1 };
        match byte {
            b'\\' => {
                let Some((next_place, next)) = bytes.next() else { return true };
                if is_skipped {
                    continue;
                }
                if *in_quotes || !matches!(next, b'#' | b'!') {
                    to.push(at(place, byte));
                }
                to.push(at(next_place, next));
            }
            _ if is_skipped => {}
            b'#' | b'!' if !*in_quotes => is_skipped = true,
            _ => {
                *in_quotes ^= byte == b'"';
                to.push(at(place, byte));
            }
        }
    }
    false
}

/// The words and braces of a line. A brace is one by itself, the last of a word before a space, or the first after one.
pub(super) fn tokens(line: &[Byte], findings: &mut Findings) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = line;
    let is_space = |byte: u8| byte.is_ascii_whitespace();
    while let Some(start) = rest.iter().position(|byte| !is_space(byte.value)) {
        rest = &rest[start..];
        let first = rest[0];
        if matches!(first.value, b'{' | b'}') {
            let span = first.start..first.end;
            tokens.push(if first.value == b'{' { Token::Open(span) } else { Token::Close(span) });
            rest = &rest[1..];
            continue;
        }
        if first.value == b'"' {
            let (word, length) = quoted_word(rest, findings);
            tokens.push(Token::Word(word));
            rest = &rest[length..];
            continue;
        }
        let mut length = rest.iter().position(|byte| is_space(byte.value)).unwrap_or(rest.len());
        // What ends in braces before a space is a word and the braces.
        while length > 1 && matches!(rest[length - 1].value, b'{' | b'}') {
            length -= 1;
        }
        tokens.push(Token::Word(word(&rest[..length], false)));
        rest = &rest[length..];
    }
    tokens
}

/// The word that begins with a quote, and how many bytes it takes with its quotes.
fn quoted_word(rest: &[Byte], findings: &mut Findings) -> (Word, usize) {
    let mut is_escaped = false;
    let end = rest[1..].iter().position(|byte| {
        let ends = byte.value == b'"' && !is_escaped;
        is_escaped = byte.value == b'\\' && !is_escaped;
        ends
    });
    match end {
        Some(0) => {
            let span = rest[0].start..rest[1].end;
            (Word { text: String::new(), span, is_quoted: true }, 2)
        }
        Some(length) => {
            let mut word = word(&rest[1..=length], true);
            word.span = rest[0].start..rest[length + 1].end.max(rest[0].end);
            (word, length + 2)
        }
        None => {
            findings.problem(
                Problem::at(rest[0].start..rest[0].end, "the quoted text has no end")
                    .expected("a closing double quote in the same line"),
            );
            (word(&rest[1..], true), rest.len())
        }
    }
}

fn word(bytes: &[Byte], is_quoted: bool) -> Word {
    let text: Vec<u8> = bytes.iter().map(|byte| byte.value).collect();
    let start = bytes.first().map_or(0, |byte| byte.start);
    let end = bytes.last().map_or(0, |byte| byte.end).max(start);
    Word { text: String::from_utf8_lossy(&text).into_owned(), span: start..end, is_quoted }
}
