//! What the user sees while something is found or installed: a spinner on a terminal, plain lines elsewhere.

use std::{
    env,
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// How wide the first column is.
const COLUMN: usize = 22;

/// Writes to standard error, one line per thing.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    started: Instant,
}

impl Progress {
    /// With spinners if standard error is a terminal and this is not CI.
    pub fn detect() -> Self {
        let terminal = io::stderr().is_terminal() && env::var_os("CI").is_none();
        Self { terminal, started: Instant::now() }
    }

    /// A thing that is there.
    pub fn found(&self, name: &str, detail: &str) {
        eprintln!("  {name:<COLUMN$} {detail}");
    }

    /// A thing that is being made.
    pub fn step(&self, name: &str, detail: &str) -> Step {
        let bar = if self.terminal {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg:.dim}") {
                bar.set_style(style);
            }
            bar.set_prefix(format!("{name:<COLUMN$} {detail}"));
            bar.enable_steady_tick(Duration::from_millis(120));
            Some(bar)
        } else {
            eprintln!("  {name:<COLUMN$} {detail} …");
            None
        };
        Step { bar, name: name.to_owned(), started: Instant::now() }
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Something under way.
#[derive(Debug)]
pub struct Step {
    bar: Option<ProgressBar>,
    name: String,
    started: Instant,
}

impl Step {
    /// The latest line of the program at work; shown on terminals only.
    pub fn note(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(line.trim().to_owned());
        }
    }

    /// It is there now.
    pub fn done(self, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.started.elapsed().as_secs();
        eprintln!("  {:<COLUMN$} {detail} ({seconds} s)", self.name);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        // After a failure the error must not be written over by the spinner.
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
