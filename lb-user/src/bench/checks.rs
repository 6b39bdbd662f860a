//! What the checks of backends cost: the checker of the daemon asks servers in this process, on one thread whose processor
//! time is counted.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use clap::Args;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime,
    sync::mpsc,
    time::{Instant, timeout_at},
};
use xtask_report::{Group, Machine, Report, Row};

use super::{BenchError, failed, program::processor_time};
use crate::{
    config::{Check, CheckKind, HttpCheck},
    health::{CheckId, Checker, HealthEvent, Target, VipPath},
};

/// What the servers answer.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
/// How long all targets may take to be asked once.
const FIRST_WITHIN: Duration = Duration::from_secs(30);
/// When a check has failed.
const TIMEOUT: Duration = Duration::from_secs(5);

/// `cargo xtask bench checks`.
#[derive(Args, Debug)]
pub struct Options {
    /// How often each kind is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// For how many seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// How many backends
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..))]
    backends: u16,
    /// Milliseconds from one check of a backend to the next
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u64).range(10..))]
    interval: u64,
}

/// Carries the command out.
pub fn execute(options: &Options) -> Result<Report, BenchError> {
    let mut machine = Machine::here();
    let server = serve().map_err(failed("listen on the loopback"))?;
    let http =
        HttpCheck { path: "/".to_owned(), host: None, statuses: vec![(200, 399)], md5: None, tls: None };
    let kinds = [("TCP", CheckKind::Tcp), ("HTTP", CheckKind::Http(http))];
    let mut samples = kinds.each_ref().map(|(name, _)| (*name, Vec::new()));
    for round in 1..=options.rounds {
        eprint!("\rround {round} of {} ", options.rounds);
        for ((_, kind), (_, samples)) in kinds.iter().zip(&mut samples) {
            samples.push(measure(options, kind, server)?);
        }
    }
    eprintln!();
    machine.load_after = xtask_report::load();
    let rows = |value: fn(f64) -> f64| {
        let row = |(name, samples): &(&str, Vec<f64>)| {
            Row::new(*name, samples.iter().map(|one| value(*one)).collect())
        };
        samples.iter().map(row).collect()
    };
    Ok(Report {
        title: "Checks of backends".to_owned(),
        machine,
        rounds: u32::from(options.rounds),
        notes: vec![
            format!(
                "{} backends on the loopback, each asked every {} ms for {} s; every answer was as it should be.",
                options.backends, options.interval, options.seconds
            ),
            "Processor time of the thread that asks. The kernel's work for both ends of a connection on the loopback is \
             mostly done in its place, the server's own work is not."
                .to_owned(),
        ],
        groups: vec![
            Group::new("Processor time of a check", "µs", None, rows(|micros| micros)),
            Group::new("Checks a second that a core can make", "checks/s", None, rows(|micros| 1e6 / micros)),
        ],
    })
}

/// Microseconds of processor time for each check.
fn measure(options: &Options, kind: &CheckKind, server: u16) -> Result<f64, BenchError> {
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().map_err(failed("start the runtime"))?;
    runtime.block_on(async {
        let (sender, mut events) = mpsc::channel(1_024);
        let mut checker = Checker::new(sender).map_err(failed("start the checker"))?;
        checker.set(&targets(options, kind, server));
        // Connections, buffers and the allocator have been used once.
        let deadline = Instant::now() + FIRST_WITHIN;
        for _ in 0..options.backends {
            good(timeout_at(deadline, events.recv()).await.ok().flatten())?;
        }
        let (started, deadline) = (processor_time()?, Instant::now() + Duration::from_secs(options.seconds));
        let mut checks = 0_u32;
        while let Ok(event) = timeout_at(deadline, events.recv()).await {
            good(event)?;
            checks += 1;
        }
        let spent = processor_time()?.saturating_sub(started);
        if checks == 0 {
            return Err(wrong("no check in time".to_owned()));
        }
        Ok(spent.as_secs_f64() * 1e6 / f64::from(checks))
    })
}

fn good(event: Option<HealthEvent>) -> Result<(), BenchError> {
    match event.map(|event| event.result) {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(wrong(error.to_string())),
        None => Err(wrong("no check in time".to_owned())),
    }
}

fn wrong(found: String) -> BenchError {
    BenchError::Wrong { row: "checks".to_owned(), found, expected: "a good answer".to_owned() }
}

/// Backends with an address of the loopback's network each, all of them the one server.
fn targets(options: &Options, kind: &CheckKind, server: u16) -> Vec<Target> {
    let interval = Duration::from_millis(options.interval);
    let target = |number: u16| {
        let [high, low] = number.to_be_bytes();
        Target {
            id: CheckId(u64::from(number)),
            address: IpAddr::V4(Ipv4Addr::new(127, 1, high, low)),
            port: server,
            check: Check {
                kind: kind.clone(),
                interval,
                fast_interval: interval,
                timeout: TIMEOUT,
                rise: 2,
                fall: 3,
                port: None,
            },
            source: None,
            vip: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), server),
            vip_path: VipPath::NotAsked,
        }
    };
    (1..=options.backends).map(target).collect()
}

/// Starts the server, on a thread that goes with this process. Returns its port.
fn serve() -> io::Result<u16> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        runtime.block_on(async {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(answer(connection));
            }
        });
    });
    Ok(port)
}

/// Answers one request; whoever asks nothing gets nothing.
async fn answer(mut connection: TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match connection.read_buf(&mut request).await {
            Ok(read) if read > 0 => (),
            _ => return,
        }
    }
    // A checker that has gone says so itself.
    let _ = connection.write_all(ANSWER).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_checks_are_measured() {
        let options = Options { rounds: 1, seconds: 1, backends: 3, interval: 20 };
        let report = execute(&options).unwrap_or_else(|error| panic!("{error}"));
        let [times, rates] = &report.groups[..] else { panic!("{report:?}") };
        for (time, rate) in times.rows.iter().zip(&rates.rows) {
            let (time, rate) = (time.samples[0], rate.samples[0]);
            assert!(time > 0.0 && (time * rate - 1e6).abs() < 1.0, "{time} µs, {rate} checks/s");
        }
        assert_eq!(times.rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["TCP", "HTTP"]);
    }
}
