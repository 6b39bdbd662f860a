//! The translation: TOML with the lines it comes from, in comments and for errors.

use std::{borrow::Cow, collections::BTreeSet, fmt::Write as _, ops::Range, time::Duration};

use crate::config::Text;

/// A translated text under construction.
#[derive(Default)]
pub(super) struct Document {
    /// Before everything else, as comments.
    pub(super) preface: Vec<String>,
    /// In the order in which they are written.
    pub(super) tables: Vec<Table>,
}

/// A table or an element of an array of tables.
#[derive(Clone)]
pub(super) struct Table {
    /// As it is written, brackets included.
    header: Cow<'static, str>,
    at: Range<usize>,
    comment: Option<String>,
    entries: Vec<Entry>,
    children: Vec<Table>,
}

#[derive(Clone)]
struct Entry {
    key: &'static str,
    value: Value,
    at: Range<usize>,
    comment: Option<&'static str>,
}

#[derive(Clone)]
struct Element {
    value: String,
    id: String,
    at: Range<usize>,
}

#[derive(Clone)]
enum Value {
    /// As TOML has it.
    One(String),
    /// An array: each element as TOML has it and where it comes from, by what tells it from the others.
    Many(Vec<Element>, BTreeSet<String>),
}

impl Table {
    pub(super) fn new(header: impl Into<Cow<'static, str>>, at: Range<usize>) -> Self {
        Self { header: header.into(), at, comment: None, entries: Vec::new(), children: Vec::new() }
    }

    pub(super) fn at(&self) -> Range<usize> {
        self.at.clone()
    }

    /// A line above the table.
    pub(super) fn comment(&mut self, comment: impl Into<String>) {
        self.comment = Some(comment.into());
    }

    /// Sets a key to what TOML calls `value`, instead of what it had before.
    pub(super) fn set(&mut self, key: &'static str, value: impl Into<String>, at: Range<usize>) {
        self.entries.retain(|entry| entry.key != key);
        self.entries.push(Entry { key, value: Value::One(value.into()), at, comment: None });
    }

    /// As [`set`](Self::set), with a comment behind it.
    pub(super) fn explain(
        &mut self,
        key: &'static str,
        value: impl Into<String>,
        at: Range<usize>,
        comment: &'static str,
    ) {
        self.set(key, value, at);
        if let Some(entry) = self.entries.last_mut() {
            entry.comment = Some(comment);
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.entries.retain(|entry| entry.key != key);
    }

    /// Adds an element to an array, unless one of the same `id` is there.
    pub(super) fn push(&mut self, key: &'static str, id: &str, value: impl Into<String>, at: Range<usize>) {
        let element = Element { value: value.into(), id: id.to_owned(), at: at.clone() };
        if let Some(Entry { value: Value::Many(elements, ids), .. }) =
            self.entries.iter_mut().find(|entry| entry.key == key)
        {
            if ids.insert(id.to_owned()) {
                elements.push(element);
            }
        } else {
            let value = Value::Many(vec![element], BTreeSet::from([id.to_owned()]));
            self.entries.push(Entry { key, value, at, comment: None });
        }
    }

    /// The value of a key, as TOML has it.
    pub(super) fn value(&self, key: &str) -> Option<(&str, Range<usize>)> {
        self.entries.iter().find(|entry| entry.key == key).and_then(|entry| match &entry.value {
            Value::One(value) => Some((value.as_str(), entry.at.clone())),
            Value::Many(..) => None,
        })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.children.is_empty()
    }

    pub(super) fn add(&mut self, table: Table) {
        self.children.push(table);
    }

    pub(super) fn children(&mut self, tables: impl IntoIterator<Item = Table>) {
        self.children.extend(tables);
    }

    /// The table with that header below this one, made if it is not there.
    pub(super) fn child(&mut self, header: &'static str, at: Range<usize>) -> &mut Table {
        let place = if let Some(place) = self.children.iter().position(|child| child.header == header) {
            place
        } else {
            self.children.push(Table::new(header, at));
            self.children.len() - 1
        };
        &mut self.children[place]
    }

    pub(super) fn has_child(&self, header: &str) -> bool {
        self.children.iter().any(|child| child.header == header)
    }

    /// Takes over the elements of `other`'s arrays that are not here yet.
    pub(super) fn join_arrays(&mut self, other: &Table) {
        for entry in &other.entries {
            if let Value::Many(elements, _) = &entry.value {
                for Element { value, id, at } in elements {
                    self.push(entry.key, id, value, at.clone());
                }
            }
        }
    }

    /// Moves the tables with that header here.
    pub(super) fn take_children(&mut self, header: &str) -> Vec<Table> {
        self.children.extract_if(.., |child| child.header == header).collect()
    }

    /// Has it under another header.
    pub(super) fn renamed(mut self, header: &'static str) -> Self {
        self.header = header.into();
        self
    }
}

/// A text with the places its lines come from, by their first bytes.
pub(super) struct Rendered {
    pub(super) toml: String,
    pub(super) origins: Vec<(usize, Range<usize>)>,
}

impl Document {
    pub(super) fn render(&self, text: &Text) -> Rendered {
        let mut rendered = Rendered { toml: String::new(), origins: vec![(0, 0..0)] };
        for line in &self.preface {
            let line = line.replace(|c: char| c.is_control(), " ");
            let _ = writeln!(rendered.toml, "{}", format!("# {line}").trim_end());
        }
        for table in &self.tables {
            rendered.table(table, text);
        }
        rendered
    }
}

impl Rendered {
    fn table(&mut self, table: &Table, text: &Text) {
        self.toml.push('\n');
        if let Some(comment) = &table.comment {
            let _ = writeln!(self.toml, "# {}", comment.replace(|c: char| c.is_control(), " "));
        }
        self.line(&table.header, &table.at, None, text);
        for entry in &table.entries {
            let key = entry.key;
            match &entry.value {
                Value::One(value) => {
                    self.line(&format!("{key} = {value}"), &entry.at, entry.comment, text);
                }
                Value::Many(elements, _) => match &elements[..] {
                    [Element { value, at, .. }] => {
                        self.line(&format!("{key} = [{value}]"), at, entry.comment, text);
                    }
                    elements => {
                        self.line(&format!("{key} = ["), &entry.at, entry.comment, text);
                        for Element { value, at, .. } in elements {
                            self.line(&format!("  {value},"), at, None, text);
                        }
                        self.toml.push_str("]\n");
                    }
                },
            }
        }
        for child in &table.children {
            self.table(child, text);
        }
    }

    fn line(&mut self, content: &str, at: &Range<usize>, comment: Option<&str>, text: &Text) {
        self.origins.push((self.toml.len(), at.clone()));
        let (line, _) = text.position(at.start);
        let file = text.name_at(at.start);
        let _ = if file == text.name_at(0) {
            write!(self.toml, "{content} # line {line}")
        } else {
            write!(self.toml, "{content} # {file}:{line}")
        };
        if let Some(comment) = comment {
            let _ = write!(self.toml, ": {comment}");
        }
        self.toml.push('\n');
    }
}

/// A string as TOML has it.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            character if character.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(character));
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// Words as TOML has them: a string where a person would write one, else an array.
pub(super) fn command(words: &[String]) -> String {
    let plain = |word: &String| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,+%@".contains(c))
    };
    if words.iter().all(plain) {
        return quoted(&words.join(" "));
    }
    format!("[{}]", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "))
}

/// A duration as TOML has it, to the microsecond.
pub(super) fn duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        _ if micros.is_multiple_of(1_000_000) => format!("\"{}s\"", micros / 1_000_000),
        _ if micros.is_multiple_of(1_000) => format!("\"{}ms\"", micros / 1_000),
        _ => format!("\"{micros}us\""),
    }
}
