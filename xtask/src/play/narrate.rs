//! What the audience reads: short lines, colours and a spinner on a terminal, plain text elsewhere.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::lab::LabError;

pub(crate) struct Narrator {
    terminal: bool,
}

impl Narrator {
    pub(crate) fn new() -> Self {
        Self { terminal: io::stdout().is_terminal() }
    }

    /// Begins a part.
    pub(crate) fn scene(&self, title: &str) {
        println!("\n{}", self.paint("1", title));
    }

    /// States a fact.
    pub(crate) fn say(&self, text: &str) {
        println!("  {}", self.paint("0", text));
    }

    /// Shows a command and what it is for.
    pub(crate) fn command(&self, purpose: &str, command: &str) {
        println!("  {purpose:<13} {}", self.paint("36", command));
    }

    /// States what was checked and found true.
    pub(crate) fn tick(&self, claim: &str) {
        println!("  {} {claim}", self.paint("32", "✓"));
    }

    /// States what was checked and found false.
    pub(crate) fn cross(&self, claim: &str) {
        println!("  {} {claim}", self.paint("31", "✗"));
    }

    /// Shows on a terminal that `work` goes on; what `work` reports replaces `what`. Nothing of it stays on the screen;
    /// elsewhere every report is a line.
    pub(crate) fn during<T>(
        &self,
        what: &str,
        work: impl FnOnce(&mut dyn FnMut(&str)) -> Result<T, LabError>,
    ) -> Result<T, LabError> {
        if !self.terminal {
            println!("  … {what}");
            return work(&mut |what| println!("  … {what}"));
        }
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg}") {
            spinner.set_style(style);
        }
        spinner.set_message(what.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(100));
        let outcome = work(&mut |what| spinner.set_message(what.to_owned()));
        spinner.finish_and_clear();
        outcome
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.terminal { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
