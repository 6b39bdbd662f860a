//! Takes tables apart by key, noting every mistake on the way instead of stopping at the first.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue, Error as SyntaxError},
};

use super::report::Problem;

/// A parser of one value; the first argument names it in messages.
pub(super) type Parsed<T> = Result<T, Problem>;

/// A table being read. Every key that is asked for is a known one; the others are errors at the end.
pub(super) struct Reader<'t, 'p> {
    what: &'t str,
    table: &'t DeTable<'t>,
    span: Range<usize>,
    known: Vec<&'static str>,
    /// Keys that must be there and are not, each with what to write.
    missing: Vec<(&'static str, String)>,
    problems: &'p mut Vec<Problem>,
}

/// Reads `table`, which messages call `what`, by `read`; then reports the keys `read` did not ask for, and those it
/// asked for in vain.
pub(super) fn table<'t, T>(
    what: &'t str,
    table: &'t DeTable<'t>,
    span: Range<usize>,
    problems: &mut Vec<Problem>,
    read: impl FnOnce(&mut Reader<'t, '_>) -> T,
) -> T {
    let mut reader = Reader { what, table, span, known: Vec::new(), missing: Vec::new(), problems };
    let value = read(&mut reader);
    let misspelt = reader.report_unknown_keys();
    reader.report_missing_keys(&misspelt);
    value
}

impl<'t> Reader<'t, '_> {
    /// The value as it stands in the text.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.table.get(key)
    }

    /// `None` if the key is not there, or if its value is wrong, which is then noted.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str, &Spanned<DeValue<'t>>) -> Parsed<T>,
    ) -> Option<Spanned<T>> {
        let value = self.value(key)?;
        self.note(parse(key, value)).map(|parsed| Spanned::new(value.span(), parsed))
    }

    /// As [`optional`](Self::optional), but a missing key is an error too; `example` is what to write.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&str, &Spanned<DeValue<'t>>) -> Parsed<T>,
    ) -> Option<Spanned<T>> {
        if !self.table.contains_key(key) {
            self.missing(key, example);
        }
        self.optional(key, parse)
    }

    /// An array whose elements are parsed one by one; those that are wrong are noted and left out.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str, &Spanned<DeValue<'t>>) -> Parsed<T>,
    ) -> Option<Spanned<Vec<Spanned<T>>>> {
        let (array, span) = self.array(key)?;
        let mut list = Vec::new();
        for element in array {
            if let Some(parsed) = self.note(parse(key, element)) {
                list.push(Spanned::new(element.span(), parsed));
            }
        }
        Some(Spanned::new(span, list))
    }

    /// An array whose elements are more than values: `read` notes what is wrong with one itself.
    pub(super) fn elements<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Self, &'t Spanned<DeValue<'t>>) -> Option<T>,
    ) -> Vec<T> {
        let Some((array, _)) = self.array(key) else { return Vec::new() };
        array.iter().filter_map(|element| read(self, element)).collect()
    }

    fn array(&mut self, key: &'static str) -> Option<(&'t [Spanned<DeValue<'t>>], Range<usize>)> {
        let value = self.value(key)?;
        if let Some(array) = value.get_ref().as_array() {
            return Some((array, value.span()));
        }
        let problem = wrong_type(key, value, "an array");
        let problem = match value.get_ref() {
            DeValue::String(text) => problem.help(format!("write it in brackets: {key} = [{text:?}]")),
            _ => problem,
        };
        self.problems.push(problem);
        None
    }

    /// As [`list`](Self::list), but it is an error too if the key is missing or the array empty; `example` is what to
    /// write.
    pub(super) fn required_list<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str, &Spanned<DeValue<'t>>) -> Parsed<T>,
    ) -> Option<Spanned<Vec<Spanned<T>>>> {
        match self.table.get(key) {
            None => self.missing(key, example),
            Some(value) if value.get_ref().as_array().is_some_and(|array| array.is_empty()) => {
                let problem = Problem::at(value.span(), format!("`{key}` is empty"));
                self.problems.push(problem.expected("at least one").help(format!("add {example}")));
            }
            Some(_) => {}
        }
        self.list(key, parse)
    }

    /// The table under `key`, which messages call `what`.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        what: &'t str,
        read: impl FnOnce(&mut Reader<'t, '_>) -> T,
    ) -> Option<Spanned<T>> {
        let value = self.value(key)?;
        let Some(inner) = value.get_ref().as_table() else {
            self.problems.push(wrong_type(key, value, "a table").help(format!("write {what}")));
            return None;
        };
        Some(Spanned::new(value.span(), table(what, inner, value.span(), self.problems, read)))
    }

    /// The tables under `key` by their own keys, in the order of these: `[key.NAME]`.
    pub(super) fn named_tables<T>(
        &mut self,
        key: &'static str,
        what: &'t str,
        mut read: impl FnMut(&mut Reader<'t, '_>) -> T,
    ) -> Vec<(Spanned<String>, T)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(tables) = value.get_ref().as_table() else {
            self.problems.push(wrong_type(key, value, "a table by name").help(format!("write {what}")));
            return Vec::new();
        };
        let mut list = Vec::new();
        for (name, value) in tables {
            match value.get_ref().as_table() {
                Some(inner) => {
                    let content = table(what, inner, value.span(), self.problems, &mut read);
                    list.push((Spanned::new(name.span(), name.get_ref().to_string()), content));
                }
                None => self.problems.push(
                    wrong_type(&format!("{key}.{name}"), value, "a table").help(format!("write {what}")),
                ),
            }
        }
        list
    }

    /// The tables of an array of tables, `[[key]]`, which messages call `what`.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        what: &'t str,
        mut read: impl FnMut(&mut Reader<'t, '_>) -> T,
    ) -> Vec<Spanned<T>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let help = format!("write {what}, in double brackets, for each");
        let Some(array) = value.get_ref().as_array() else {
            self.problems.push(wrong_type(key, value, "an array of tables").help(help));
            return Vec::new();
        };
        let mut list = Vec::new();
        for element in array {
            match element.get_ref().as_table() {
                Some(inner) => {
                    let content = table(what, inner, element.span(), self.problems, &mut read);
                    list.push(Spanned::new(element.span(), content));
                }
                None => self.problems.push(wrong_type(key, element, "a table").help(&*help)),
            }
        }
        list
    }

    /// The number of mistakes so far, in all tables; a reader that has not added to it is without any.
    pub(super) fn mistakes(&self) -> usize {
        self.problems.len()
    }

    /// Adds a mistake.
    pub(super) fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Reads an inline table that stands at `key`, already looked up by [`value`](Self::value).
    pub(super) fn inner<T>(
        &mut self,
        what: &'t str,
        inner: &'t DeTable<'t>,
        span: Range<usize>,
        read: impl FnOnce(&mut Reader<'t, '_>) -> T,
    ) -> T {
        table(what, inner, span, self.problems, read)
    }

    /// Notes that `key` is not there, although it must be.
    pub(super) fn missing(&mut self, key: &'static str, example: &str) {
        self.missing.push((key, example.to_owned()));
    }

    /// The value, unless it is a mistake, which is then noted.
    pub(super) fn note<T>(&mut self, parsed: Parsed<T>) -> Option<T> {
        parsed.map_err(|problem| self.problems.push(problem)).ok()
    }

    /// Returns the known keys that unknown ones were probably meant to be.
    fn report_unknown_keys(&mut self) -> Vec<&'static str> {
        self.known.sort_unstable();
        self.known.dedup();
        let list = self.known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let mut misspelt = Vec::new();
        for key in self.table.keys() {
            if self.known.iter().any(|known| known == key.get_ref()) {
                continue;
            }
            let nearest = nearest(key.get_ref(), &self.known);
            misspelt.extend(nearest);
            let hint = nearest.map(|known| format!("did you mean `{known}`? ")).unwrap_or_default();
            let known = match self.what {
                "" => format!("known at the top level: {list}"),
                what => format!("known in {what}: {list}"),
            };
            let message = format!("unknown key `{}`", key.get_ref().escape_debug());
            self.problems.push(Problem::at(key.span(), message).help(hint + &known));
        }
        misspelt
    }

    fn report_missing_keys(&mut self, misspelt: &[&str]) {
        for (key, example) in self.missing.drain(..).filter(|(key, _)| !misspelt.contains(key)) {
            let message = format!("{} has no `{key}`", self.what);
            self.problems.push(Problem::at(self.span.clone(), message).help(format!("add {example}")));
        }
    }
}

/// The candidate most like `word`, if any is like it at all.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    candidates
        .iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), *candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `key` has a value of another type.
pub(super) fn wrong_type(key: &str, value: &Spanned<DeValue<'_>>, expected: &str) -> Problem {
    Problem::at(value.span(), format!("`{key}` is {}", describe(value.get_ref()))).expected(expected)
}

/// The value for a message: itself if short, else what it is.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.len() <= 40 => format!("{text:?}"),
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Integer(number) if number.as_str().len() <= 40 => number.to_string(),
        DeValue::Integer(_) => "a number".to_owned(),
        DeValue::Float(_) => "a number with a fraction".to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The parser's own errors. Of those on one line only the first, as the others follow from it.
pub(super) fn syntax_problems(errors: &[SyntaxError], text: &str) -> Vec<Problem> {
    let mut located: Vec<_> = errors
        .iter()
        .map(|error| (error.span().unwrap_or(text.len()..text.len()), error.message()))
        .collect();
    located.sort_by_key(|(span, _)| span.start);
    let mut problems = Vec::new();
    let mut last: Option<usize> = None;
    for (span, message) in located {
        let start = span.start.min(text.len());
        if last.replace(start).is_some_and(|last| !text.as_bytes()[last..start].contains(&b'\n')) {
            continue;
        }
        problems.push(syntax_problem(message, span, text));
    }
    problems
}

fn syntax_problem(message: &str, span: Range<usize>, text: &str) -> Problem {
    let (message, expected) = match message.split_once(", expected ") {
        Some((message, expected)) => (message.trim_end(), Some(expected)),
        None => (message.trim_end(), None),
    };
    let offending = text.get(span.clone()).unwrap_or_default();
    match message {
        "duplicate key" => Problem::at(span, format!("`{}` is there twice", offending.escape_debug()))
            .help("each key stands once in its table; keep one of them"),
        "string values must be quoted" if offending.trim().is_empty() => {
            Problem::at(span, "there is no value").expected("a string, number, true, false, array or table")
        }
        "string values must be quoted" => {
            Problem::at(span, message).expected("text in double quotes, or a number, or true or false")
        }
        "invalid basic string" if expected == Some("`\"`") => {
            Problem::at(span, "the string has no end").expected("a closing double quote")
        }
        message => {
            let problem = Problem::at(span, message);
            match expected {
                Some(expected) => problem.expected(expected),
                None => problem,
            }
        }
    }
}
