//! Whole connections: `lb` beside proxies and the kernel, with wrk as client and nginx as backends.

mod network;
mod wrk;

use std::path::Path;

use xtask_report::{Bound, Goal, Group, Row};

use self::network::{Network, System};
use crate::{
    lab::{LabError, interrupted},
    progress::Progress,
};

/// What wrk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Opens a connection for each request.
    Connections,
    /// Keeps its connections.
    Requests,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Connections, Self::Requests];

    const fn title(self) -> &'static str {
        match self {
            Self::Connections => "A new connection for each request",
            Self::Requests => "Requests on connections that stay",
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::Connections => "connections/s",
            Self::Requests => "requests/s",
        }
    }
}

/// The numbers of one system, a number for each round.
#[derive(Clone, Debug, Default)]
struct Samples {
    rate: Vec<f64>,
    median: Vec<f64>,
    slow: Vec<f64>,
    /// Processor time of everything, in µs for each answer.
    time: Vec<f64>,
}

/// Measures every system in turn, so many rounds of so many seconds each.
pub(super) fn measure(
    lb: &Path,
    rounds: u32,
    seconds: u32,
    progress: &Progress,
) -> Result<Vec<Group>, LabError> {
    let step = progress.step("proxies' lab", "");
    let network = Network::new(&format!("proxies-{}", std::process::id()), lb, &|what| step.note(what))?;
    step.done("is up");
    let mut samples = Kind::ALL.map(|_| System::ALL.map(|_| Samples::default()));
    // Round 0 warms up.
    for round in 0..=rounds {
        eprint!("\rproxies: round {round} of {rounds} ");
        for (kind, samples) in Kind::ALL.into_iter().zip(&mut samples) {
            for (system, samples) in System::ALL.into_iter().zip(samples) {
                if interrupted() {
                    return Err(LabError::Interrupted);
                }
                let (run, time) = network.run(system, seconds, kind == Kind::Connections)?;
                if round > 0 {
                    samples.rate.push(run.rate);
                    samples.median.push(run.median);
                    samples.slow.push(run.slow);
                    samples.time.push(time.as_secs_f64() * 1e6 / run.answers);
                }
            }
        }
    }
    eprintln!();
    Ok(Kind::ALL.into_iter().zip(&samples).flat_map(|(kind, samples)| groups(kind, samples)).collect())
}

fn groups(kind: Kind, samples: &[Samples; System::ALL.len()]) -> Vec<Group> {
    let title = kind.title();
    let group = |what: &str, unit: &str, reference, values: fn(&Samples) -> &Vec<f64>| {
        let rows = System::ALL.into_iter().zip(samples);
        let rows = rows.map(|(system, samples)| Row::new(system.title(), values(samples).clone())).collect();
        Group::new(format!("{title}: {what}"), unit, reference, rows)
    };
    let direct = Some(System::Direct.title());
    vec![
        group("how many", kind.unit(), direct, |samples| &samples.rate),
        group("latency, median", "ms", direct, |samples| &samples.median),
        group("latency, 99th percentile", "ms", direct, |samples| &samples.slow),
        group("processor time of the whole lab for each", "µs", direct, |samples| &samples.time),
        balancing(kind, samples),
    ]
}

/// What there is more of than without anything between client and backend, in the same round.
fn balancing(kind: Kind, samples: &[Samples; System::ALL.len()]) -> Group {
    let [direct, ..] = samples;
    let haproxy = System::Haproxy.title();
    let rows = System::ALL.into_iter().zip(samples).skip(1);
    let rows = rows.map(|(system, samples)| {
        let more = samples.time.iter().zip(&direct.time).map(|(all, least)| all - least).collect();
        Row::new(system.title(), more)
    });
    let title = format!("{}: processor time of the balancing for each", kind.title());
    let mut group = Group::new(title, "µs", None, rows.collect());
    if kind == Kind::Connections {
        // Of the medians: what lb takes is not much more than the noise of one round, which a ratio of two would multiply.
        let median = |row: &Row| row.summary.map(|summary| summary.median);
        let whole = group.rows.iter().find(|row| row.name == haproxy).and_then(median);
        for row in group.rows.iter_mut().filter(|row| row.name.starts_with("lb: ")) {
            let mut goal = Goal::new(Bound::Cheaper(8.0), Some(haproxy));
            goal.is = quotient(whole, median(row));
            row.goal = Some(goal);
        }
    }
    group
}

/// None where the noise is greater than what is measured.
fn quotient(whole: Option<f64>, part: Option<f64>) -> Option<f64> {
    let (whole, part) = (whole?, part?);
    (whole > 0.0 && part > 0.0).then(|| whole / part)
}

/// What one has to know to read the numbers.
pub(super) fn notes(seconds: u32) -> Vec<String> {
    vec![
        format!(
            "Connections: wrk (1 thread, 32 connections, {seconds} s for each row and round) asks nginx (1 worker) for a small page; client, \
             balancer and nginx are nodes of one machine, joined by cables of their own. The two backends are addresses of the same nginx. \
             lb's programs are attached as it finds right: on a veth in generic mode."
        ),
        "Processor time is the scheduler's count of all the lab's processes and of the softirq daemons, which has the kernel's work \
         in it wherever it was done; other work on the machine is not in it. The balancing's is what there is more of than \
         when wrk asks nginx directly, in the same round: a core's worth of it divided by it are the connections that a core balances."
            .to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balancing_is_what_there_is_more_of_in_the_same_round() {
        let mut samples =
            System::ALL.map(|_| Samples { time: vec![100.0, 200.0, 100.0], ..Samples::default() });
        samples[1].time = vec![110.0, 190.0, 110.0];
        samples[4].time = vec![300.0, 400.0, 290.0];
        let group = balancing(Kind::Connections, &samples);
        assert_eq!(group.rows[0].samples, [10.0, -10.0, 10.0]);
        assert_eq!(group.rows[3].name, System::Haproxy.title());
        let goal = group.rows[0].goal.as_ref().expect("lb has a goal");
        assert_eq!((goal.is, goal.reached()), (Some(20.0), Some(true)));
        // Nothing at all is no number to divide by.
        let goal = group.rows[1].goal.as_ref().expect("lb has a goal");
        assert_eq!((goal.is, goal.reached()), (None, None));
    }
}
