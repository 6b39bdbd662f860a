//! Starting programs: with their output shown, captured, or watched line by line.

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader},
    process::{Command, ExitStatus, Stdio},
};

use crate::Error;

/// How many lines of a failed program an error repeats.
const REPEATED_LINES: usize = 30;

/// A command as one would type it, without its environment.
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a program on the user's terminal.
pub fn status(command: &mut Command) -> Result<ExitStatus, Error> {
    command.status().map_err(|source| start_error(command, source))
}

/// Runs a program on the user's terminal that must succeed.
pub fn run(command: &mut Command, what: &str) -> Result<(), Error> {
    let status = status(command)?;
    if status.success() { Ok(()) } else { Err(failed(command, what, status, String::new())) }
}

/// Runs a program that must succeed and returns its standard output; the user sees its standard error.
pub fn capture_stdout(command: &mut Command, what: &str) -> Result<String, Error> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|source| start_error(command, source))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(failed(command, what, output.status, String::new()))
    }
}

/// What a program prints on either stream, or `None` when it does not start or fails. For questions, not for actions.
pub fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    output.status.success().then(|| String::from_utf8_lossy(&text).trim().to_owned())
}

/// Runs a program that must succeed and hands each line it prints, on either stream, to `line`. The error repeats the
/// last of them.
pub fn watch(command: &mut Command, what: &str, mut line: impl FnMut(&str)) -> Result<(), Error> {
    let (last, status) = (|| {
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn()?;
        // The command keeps our ends of the pipe open, and the reader would wait for them.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut last = VecDeque::new();
        for text in BufReader::new(reader).split(b'\n') {
            let text = String::from_utf8_lossy(&text?).trim_end().to_owned();
            line(&text);
            if last.len() == REPEATED_LINES {
                last.pop_front();
            }
            last.push_back(text);
        }
        Ok((last, child.wait()?))
    })()
    .map_err(|source| start_error(command, source))?;
    if status.success() {
        return Ok(());
    }
    let output = last.iter().flat_map(|text| ["  | ", text.as_str(), "\n"]).collect();
    Err(failed(command, what, status, output))
}

fn start_error(command: &Command, source: io::Error) -> Error {
    Error::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

fn failed(command: &Command, what: &str, status: ExitStatus, output: String) -> Error {
    Error::Failed {
        what: what.to_owned(),
        status: status.to_string(),
        command: describe(command),
        output,
        remedy: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn watching_sees_both_streams_in_order() {
        let mut lines = Vec::new();
        watch(&mut shell("echo one; echo two >&2; echo three"), "counting", |line| {
            lines.push(line.to_owned());
        })
        .expect("the shell succeeds");
        assert_eq!(lines, ["one", "two", "three"]);
    }

    #[test]
    fn a_failure_repeats_the_last_lines_only() {
        let error = watch(&mut shell("seq 100; exit 3"), "counting", |_| ()).expect_err("it exits with 3");
        let text = error.to_string();
        assert!(text.contains("counting failed (exit status: 3)"), "{text}");
        assert!(
            text.contains("  | 100\n") && text.contains("  | 71\n") && !text.contains("  | 70\n"),
            "{text}"
        );
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error =
            watch(&mut Command::new("/nowhere/program"), "nothing", |_| ()).expect_err("it is not there");
        assert!(error.to_string().starts_with("/nowhere/program does not start"), "{error}");
    }
}
