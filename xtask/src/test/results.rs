//! Reads the closing lines of test programs.

/// What "test result:" lines add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) ignored: usize,
}

impl Counts {
    /// Adds a line's numbers if it is a closing line, coloured or not.
    pub(super) fn add_line(&mut self, line: &str) {
        let Some(numbers) = closing_line(line) else { return };
        self.passed += numbers.passed;
        self.failed += numbers.failed;
        self.ignored += numbers.ignored;
    }
}

/// The names of tests that failed, as test programs list them before their closing lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) names: Vec<String>,
    listing: bool,
}

impl Failed {
    /// Adds a line's name if it is one of a list: indented below `failures:`, up to an empty line.
    pub(super) fn add_line(&mut self, line: &str) {
        let plain = without_colours(line);
        if self.listing
            && let Some(name) = plain.strip_prefix("    ")
        {
            self.names.push(name.trim_end().to_owned());
        } else {
            self.listing = plain.trim_end() == "failures:";
        }
    }
}

/// `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.02s`.
fn closing_line(line: &str) -> Option<Counts> {
    let plain = without_colours(line);
    let (_verdict, numbers) = plain.trim_start().strip_prefix("test result: ")?.split_once(". ")?;
    let number = |name: &str| {
        let part = numbers.split("; ").find_map(|part| part.strip_suffix(name))?;
        part.trim().parse().ok()
    };
    Some(Counts { passed: number("passed")?, failed: number("failed")?, ignored: number("ignored")? })
}

/// Without what follows an escape character up to the letter that ends it.
fn without_colours(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default();
    let rest =
        parts.map(|part| part.split_once(|end: char| end.is_ascii_alphabetic()).map_or("", |(_, text)| text));
    std::iter::once(first).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read() {
        let counts = |passed, failed, ignored| Some(Counts { passed, failed, ignored });
        for (line, expected) in [
            (
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.02s",
                counts(12, 0, 1),
            ),
            (
                "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.52s",
                counts(3, 2, 0),
            ),
            (
                "test result: \u{1b}[32mok\u{1b}[0m. 7 passed; 0 failed; 4 ignored; 0 measured; 0 filtered out",
                counts(7, 0, 4),
            ),
            (
                "\u{1b}[0mtest result: \u{1b}[31mFAILED\u{1b}[0m. 1 passed; 1 failed; 0 ignored; 0 measured",
                counts(1, 1, 0),
            ),
            ("test result::tests::closing_lines_are_read ... ok", None),
            ("running 12 tests", None),
            ("test result: ok. many passed; 0 failed; 0 ignored", None),
            ("", None),
        ] {
            assert_eq!(closing_line(line), expected, "{line:?}");
        }
    }

    #[test]
    fn the_lines_of_several_programs_add_up() {
        let mut counts = Counts::default();
        for line in [
            "running 2 tests",
            "test result: ok. 2 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.02s",
            "test result: FAILED. 5 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s",
        ] {
            counts.add_line(line);
        }
        assert_eq!(counts, Counts { passed: 7, failed: 1, ignored: 3 });
    }

    #[test]
    fn names_of_failed_tests_are_those_of_the_list_and_not_of_their_output() {
        let mut failed = Failed::default();
        let output = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\n    indented\n\n\nfailures:\n    b\n    \
                      c::d\n\ntest result: FAILED. 1 passed; 2 failed;\n    e\n";
        output.lines().for_each(|line| failed.add_line(line));
        assert_eq!(failed.names, ["b", "c::d"]);
    }
}
