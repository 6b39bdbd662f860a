//! wrk: a client that measures, and what it says.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use nix::sys::resource::{UsageWho, getrusage};

use crate::lab::{LabError, Node};

/// Connections that are open at a time.
const CONNECTIONS: &str = "32";

/// What one run showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    /// Answers.
    pub(super) answers: f64,
    /// Answers a second.
    pub(super) rate: f64,
    /// From the request to the answer, the connection's beginning included if each has its own, in milliseconds.
    pub(super) median: f64,
    /// That of the slowest hundredth.
    pub(super) slow: f64,
}

/// Asks for a page for so many seconds. Also says how much processor time the client itself took.
pub(super) fn run(
    client: &Node,
    url: &str,
    seconds: u32,
    connection_each: bool,
) -> Result<(Run, Duration), LabError> {
    let mut command = Command::new("wrk");
    command.args(["-t", "1", "-c", CONNECTIONS, "--latency", "-d", &format!("{seconds}s")]);
    if connection_each {
        command.args(["-H", "Connection: close"]);
    }
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let before = of_children()?;
    let output = client.spawn(command)?.wait_with_output().map_err(LabError::io("waiting for wrk"))?;
    let own = of_children()?.saturating_sub(before);
    let text = String::from_utf8_lossy(&output.stdout);
    let run = parse(&text).map_err(|detail| LabError::Unexpected {
        what: format!("wrk for {url}"),
        detail: format!("{detail}: {text}{}", String::from_utf8_lossy(&output.stderr)),
    })?;
    Ok((run, own))
}

/// Processor time of the processes that this one has waited for.
fn of_children() -> Result<Duration, LabError> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(LabError::sys("asking for processor times"))?;
    let time = |value: nix::sys::time::TimeVal| {
        Duration::new(value.tv_sec().unsigned_abs(), value.tv_usec().unsigned_abs() as u32 * 1_000)
    };
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

/// Whatever was not an answer is an error: it would be another thing that is measured.
fn parse(text: &str) -> Result<Run, &'static str> {
    for bad in ["Socket errors", "Non-2xx"] {
        if text.contains(bad) {
            return Err("not everything was answered");
        }
    }
    let word = |label: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(label))?;
        line.split_ascii_whitespace().next()
    };
    let answers = text.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
    let numbers = || {
        Some(Run {
            answers: answers?,
            rate: word("Requests/sec:")?.parse().ok()?,
            median: milliseconds(word("50%")?)?,
            slow: milliseconds(word("99%")?)?,
        })
    };
    numbers().filter(|run| run.answers > 0.0).ok_or("its words are others than expected")
}

/// From wrk's `512.00us`, `1.20ms` or `2.01s`.
fn milliseconds(text: &str) -> Option<f64> {
    for (unit, factor) in [("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 6e4)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Some(number.parse::<f64>().ok()? * factor);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Running 2s test @ http://10.1.0.1/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.30ms    1.10ms  20.01ms   90.00%
  Latency Distribution
     50%  512.00us
     75%    1.32ms
     90%    2.52ms
     99%    1.20s
  40001 requests in 2.10s, 9.00MB read
Requests/sec:  19048.10
Transfer/sec:      4.33MB
";

    #[test]
    fn what_wrk_says_is_understood() {
        let run = Run { answers: 40_001.0, rate: 19_048.1, median: 0.512, slow: 1_200.0 };
        assert_eq!(parse(SAID), Ok(run));
    }

    #[test]
    fn requests_that_failed_are_an_error() {
        let text = SAID.to_owned() + "  Socket errors: connect 0, read 12, write 0, timeout 0\n";
        assert!(parse(&text).is_err());
        assert!(parse("Running 2s test\n").is_err());
    }
}
