//! Files into a tree: `include`, definitions and conditional lines are resolved on the way.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use super::{
    lexer::{Byte, Token, strip, tokens},
    tree::{Builder, Node, Word},
};
use crate::{
    config::{Language, MAX_FILE_BYTES, Problem, Text, read_text},
    import::{
        report::{Directive as _, Findings},
        without_mark,
    },
};

/// A line may have so many bytes, those it is joined with included.
const MOST_IN_LINE: usize = 65_536;
/// What definitions make of all lines together.
const MOST_EXPANDED: usize = 10_000_000;
/// Definitions in definitions.
const MOST_NESTED: usize = 16;
/// Files inside files, and files in all.
const MOST_INCLUDED: usize = 16;
const MOST_FILES: usize = 1_000;

/// `include` and its forms that differ in what keepalived does about a file that is not there.
pub(super) const INCLUDES: [&str; 5] = ["include", "includer", "includem", "includew", "includeb"];

/// Reads a configuration, which is already known to be `source`, and what it includes.
pub(super) fn read(
    path: &Path,
    source: &str,
    id: &str,
    text: &mut Text,
    findings: &mut Findings,
) -> Vec<Node> {
    let mut reader = Reader {
        id,
        text,
        findings,
        builder: Builder::default(),
        definitions: BTreeMap::new(),
        open: Vec::new(),
        bytes_left: MAX_FILE_BYTES as usize,
        files_left: MOST_FILES,
        expanded_left: MOST_EXPANDED,
    };
    reader.file(path, source);
    reader.builder.finish(reader.findings)
}

struct Reader<'a> {
    /// What `@` lines are compared with.
    id: &'a str,
    text: &'a mut Text,
    findings: &'a mut Findings,
    builder: Builder,
    definitions: BTreeMap<String, String>,
    /// The files that are being read, each inside the one before.
    open: Vec<PathBuf>,
    bytes_left: usize,
    files_left: usize,
    expanded_left: usize,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, source: &str) {
        let source = without_mark(source);
        let base = self.text.add(&path.display().to_string(), source, Language::Keepalived);
        self.bytes_left = self.bytes_left.saturating_sub(source.len());
        self.open.push(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()));
        let mut lines = Lines { rest: source, base };
        while let Some((line, start)) = lines.next() {
            if self.builder.is_full() {
                break;
            }
            self.line(line, start, &mut lines);
        }
        self.open.pop();
    }

    fn line(&mut self, line: &str, base: usize, lines: &mut Lines<'_>) {
        let (mut bytes, mut in_quotes) = (Vec::new(), false);
        let mut continues = strip(line, base, &mut in_quotes, &mut bytes);
        let is_here = self.condition(&mut bytes);
        let name = definition(&bytes);
        while continues && bytes.len() <= MOST_IN_LINE {
            let Some((line, base)) = lines.next() else { break };
            // The lines of a definition stay lines.
            bytes.push(Byte { value: if name.is_some() { b'\n' } else { b' ' }, start: base, end: base });
            continues = strip(line, base, &mut in_quotes, &mut bytes);
        }
        if bytes.len() > MOST_IN_LINE {
            let span = base..base + 1;
            self.findings.problem(
                Problem::at(span, format!("a line of more than {MOST_IN_LINE} bytes"))
                    .help("is this the right file?"),
            );
        } else if is_here {
            match name {
                Some((name, value)) => self.define(name, &bytes, value),
                None => self.statements(&bytes),
            }
        }
    }

    /// Takes `@id` or `@^id` off the beginning of a line, and says whether the line is for this node.
    fn condition(&mut self, bytes: &mut Vec<Byte>) -> bool {
        let Some(start) = bytes.iter().position(|byte| !byte.value.is_ascii_whitespace()) else {
            return true;
        };
        if bytes[start].value != b'@' {
            return true;
        }
        let end = bytes[start..].iter().position(|byte| byte.value.is_ascii_whitespace());
        let end = end.map_or(bytes.len(), |length| start + length);
        let word = text_of(&bytes[start + 1..end]);
        let is_here = match word.strip_prefix('^') {
            Some(other) => other != self.id,
            None => word == self.id,
        };
        let span = bytes[start].start..bytes[bytes.len() - 1].end;
        let node = Node {
            words: vec![Word { text: text_of(&bytes[start..]), span, is_quoted: false }],
            block: None,
        };
        let id = self.id;
        if is_here {
            self.findings.translated(&node, format!("the line is for this node, {id}"));
            bytes.drain(..end);
        } else {
            self.findings.by_default(&node, format!("the line is not for this node, {id}"));
        }
        is_here
    }

    fn define(&mut self, name: String, bytes: &[Byte], value: usize) {
        let text = text_of(&bytes[value..]);
        let span = bytes[0].start..bytes[value - 1].end;
        let word = Word { text: format!("${name}"), span, is_quoted: false };
        let node = Node { words: vec![word], block: None };
        self.findings.translated(&node, format!("its value stands wherever ${name} is used"));
        self.definitions.insert(name, text.trim_matches([' ', '\t']).to_owned());
    }

    fn statements(&mut self, bytes: &[Byte]) {
        let mut expanded = Vec::with_capacity(bytes.len());
        if !self.expand(bytes, 0, &mut expanded) {
            let span = bytes[0].start..bytes[bytes.len() - 1].end;
            self.findings.problem(
                Problem::at(span, "definitions that contain themselves, or expand to more than 10 MB")
                    .help("write out what is meant"),
            );
            // The rest would be no better.
            self.expanded_left = 0;
            return;
        }
        for line in expanded.split(|byte| byte.value == b'\n') {
            let tokens = tokens(line, self.findings);
            if let Some(Token::Word(first)) = tokens.first()
                && !first.is_quoted
            {
                let words = |tokens: Vec<Token>| {
                    let word = |token| if let Token::Word(word) = token { Some(word) } else { None };
                    Node { words: tokens.into_iter().filter_map(word).collect(), block: None }
                };
                if INCLUDES.contains(&first.text.as_str()) {
                    self.include(&words(tokens));
                    continue;
                }
            }
            self.builder.line(tokens, self.findings);
        }
    }

    /// Adds `bytes` to `to` with the values of definitions in place of their names. `false` if that does not end.
    fn expand(&mut self, bytes: &[Byte], depth: usize, to: &mut Vec<Byte>) -> bool {
        let mut rest = bytes;
        while let Some(place) = rest.iter().position(|byte| byte.value == b'$') {
            to.extend_from_slice(&rest[..place]);
            rest = &rest[place..];
            let Some((value, length)) = self.value(rest) else {
                let length = self.undefined(rest);
                // Its braces would be taken for a block's.
                if length == 1 {
                    to.push(rest[0]);
                }
                rest = &rest[length..];
                continue;
            };
            let Some(left) = self.expanded_left.checked_sub(value.len() + 1).filter(|_| depth < MOST_NESTED)
            else {
                return false;
            };
            self.expanded_left = left;
            let (start, end) = (rest[0].start, rest[length - 1].end.max(rest[0].end));
            let value: Vec<Byte> = value.bytes().map(|byte| Byte { value: byte, start, end }).collect();
            if !self.expand(&value, depth + 1, to) {
                return false;
            }
            rest = &rest[length..];
        }
        to.extend_from_slice(rest);
        true
    }

    /// Notes a `${NAME}` that has no value; a lone `$` is a character like others. Returns how long it is.
    fn undefined(&mut self, rest: &[Byte]) -> usize {
        if rest.get(1).is_some_and(|byte| byte.value == b'{')
            && let Some(end) = rest.iter().position(|byte| byte.value == b'}')
        {
            let (name, span) = (text_of(&rest[..=end]), rest[0].start..rest[end].end.max(rest[0].end));
            self.findings.problem(
                Problem::at(span, format!("{} is not defined", name.escape_debug()))
                    .help("define it in a line before, such as $NAME=value"),
            );
            return end + 1;
        }
        1
    }

    /// The value of the definition whose use begins here, and the length of that.
    fn value(&self, rest: &[Byte]) -> Option<(String, usize)> {
        let is_braced = rest.get(1)?.value == b'{';
        let start = if is_braced { 2 } else { 1 };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (is_braced && byte == b' ');
        let length = rest[start..].iter().position(|byte| !is_name(byte.value)).unwrap_or(rest.len() - start);
        let end = start + length;
        if is_braced && rest.get(end)?.value != b'}' {
            return None;
        }
        let name = text_of(&rest[start..end]);
        let value = match (self.definitions.get(&name), name.as_str()) {
            (Some(value), _) => value.clone(),
            (None, "_HASH") => "#".to_owned(),
            (None, "_BANG") => "!".to_owned(),
            (None, "_INSTANCE") => String::new(),
            (None, "_PWD") => self.folder().display().to_string(),
            (None, name) => std::env::var(name.strip_prefix("_ENV ")?.trim()).ok()?,
        };
        Some((value, end + usize::from(is_braced)))
    }

    /// The folder of the file that is being read.
    fn folder(&self) -> &Path {
        self.open.last().and_then(|path| path.parent()).unwrap_or(Path::new("."))
    }

    fn include(&mut self, node: &Node) {
        let Some(pattern) = node.argument() else {
            self.findings.problem(
                Problem::at(node.span(), format!("`{}` names no file", node.key()))
                    .expected("the path of a file"),
            );
            return;
        };
        let path = self.folder().join(&pattern.text);
        let files: Vec<PathBuf> = match glob::glob(&path.to_string_lossy()) {
            Ok(files) => files.filter_map(Result::ok).take(MOST_FILES + 1).collect(),
            Err(error) => {
                self.findings.problem(Problem::at(
                    pattern.span.clone(),
                    format!("{:?} is no pattern of file names: {}", pattern.text, error.msg),
                ));
                return;
            }
        };
        let count = files.len();
        match count {
            0 if pattern.text.contains(['*', '?', '[']) => {
                self.findings.translated(node, "no file has such a name");
                return;
            }
            0 => {
                self.findings.problem(
                    Problem::at(pattern.span.clone(), format!("{} does not exist", path.display()))
                        .help("names are relative to the folder of the file that includes them"),
                );
                return;
            }
            1 => self.findings.translated(node, "what is in the file"),
            _ => self.findings.translated(node, format!("what is in {count} files")),
        }
        for file in files {
            self.included(&file, pattern.span.clone());
        }
    }

    fn included(&mut self, path: &Path, span: Range<usize>) {
        let name = path.display();
        let refuse = |message: String| Problem::at(span.clone(), message);
        let canonical = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let problem = if self.open.contains(&canonical) {
            Some(refuse(format!("{name} includes itself")).help("remove the `include`, here or there"))
        } else if self.open.len() == MOST_INCLUDED {
            Some(refuse(format!("more than {MOST_INCLUDED} files inside each other")))
        } else if self.files_left == 0 {
            Some(refuse(format!("more than {MOST_FILES} files")))
        } else if !path.is_file() {
            Some(refuse(format!("{name} is no file")))
        } else if path.metadata().is_ok_and(|metadata| metadata.len() > self.bytes_left as u64) {
            Some(refuse(format!("more than {} MB in all files together", MAX_FILE_BYTES / 1_000_000)))
        } else {
            None
        };
        if let Some(problem) = problem {
            self.findings.problem(problem);
            return;
        }
        self.files_left -= 1;
        match read_text(path) {
            Ok(source) => self.file(path, &source),
            Err(errors) => self.findings.problem(refuse(errors.to_string())),
        }
    }
}

/// The lines of a file, each with the place of its first byte.
struct Lines<'s> {
    rest: &'s str,
    base: usize,
}

impl<'s> Lines<'s> {
    fn next(&mut self) -> Option<(&'s str, usize)> {
        if self.rest.is_empty() {
            return None;
        }
        let length = self.rest.find('\n').map_or(self.rest.len(), |end| end + 1);
        let (line, rest) = self.rest.split_at(length);
        let base = self.base;
        self.rest = rest;
        self.base += length;
        Some((line.trim_end_matches(['\n', '\r']), base))
    }
}

/// The name that a line defines (`$NAME = value`), and where the value begins.
fn definition(bytes: &[Byte]) -> Option<(String, usize)> {
    let mut place = bytes.iter().position(|byte| !byte.value.is_ascii_whitespace())?;
    if bytes[place].value != b'$' {
        return None;
    }
    place += 1;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let length = bytes[place..].iter().position(|byte| !is_name(byte.value))?;
    let name = text_of(&bytes[place..place + length]);
    place += length;
    place += bytes[place..].iter().position(|byte| !byte.value.is_ascii_whitespace())?;
    (bytes[place].value == b'=' && length > 0).then_some((name, place + 1))
}

fn text_of(bytes: &[Byte]) -> String {
    let bytes: Vec<u8> = bytes.iter().map(|byte| byte.value).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
