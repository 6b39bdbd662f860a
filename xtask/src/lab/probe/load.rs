//! A client that opens a new connection every few milliseconds and writes down what became of each.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    os::fd::{AsFd, AsRawFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket},
};

use super::http;
use crate::lab::{error::LabError, node::Node};

/// Time from one connection to the next, unless said otherwise.
const PERIOD: Duration = Duration::from_millis(2);
/// When an unanswered request counts as failed: before TCP would repeat its SYN (1 s), so that an answer shows that the path
/// worked at that moment.
const TIMEOUT: Duration = Duration::from_millis(500);
/// More are never open: one period each until the timeout, and some.
const MOST_OPEN: usize = 300;

/// What became of one request.
#[derive(Clone, Debug)]
struct Outcome {
    started: Instant,
    ended: Instant,
    /// The node that answered, or why nobody did.
    result: Result<String, String>,
}

/// Requests between two moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadReport {
    /// How many were begun (and have ended) in that time.
    pub requests: usize,
    /// How many of those each node answered with 200 and a whole page.
    pub answered: BTreeMap<String, usize>,
    /// How many of those nobody did, by reason.
    pub failed: BTreeMap<String, usize>,
    /// The longest time in which no answer was completed, from one answer to the next and counting both ends.
    pub longest_gap: Duration,
    /// From the first moment to the beginning of the last request that failed; zero if none did.
    pub failing_for: Duration,
}

impl LoadReport {
    /// How many were answered.
    pub fn answers(&self) -> usize {
        self.answered.values().sum()
    }

    /// How many were not.
    pub fn failures(&self) -> usize {
        self.failed.values().sum()
    }

    /// The part of the answers that came from `node`, 0 to 1.
    pub fn share(&self, node: &str) -> f64 {
        let of = |count: usize| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
        of(self.answered.get(node).copied().unwrap_or(0)) / of(self.answers().max(1))
    }
}

/// The running client.
#[derive(Debug)]
pub struct LoadProber {
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LoadProber {
    /// Starts to ask `address:port` for `/` from `client`.
    pub fn start(client: &Node, address: Ipv4Addr, port: u16) -> Self {
        Self::start_every(PERIOD, client, address, port)
    }

    /// As [`LoadProber::start`], with another time from one connection to the next.
    pub fn start_every(period: Duration, client: &Node, address: Ipv4Addr, port: u16) -> Self {
        let (outcomes, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (client, written, stopped) = (client.clone(), Arc::clone(&outcomes), Arc::clone(&stop));
        let target = SocketAddrV4::new(address, port);
        let thread = std::thread::spawn(move || {
            // Without the namespace there are no outcomes, which every report shows.
            let _ = client.within(|| ask_on(target, period, &written, &stopped));
        });
        Self { outcomes, stop, thread: Some(thread) }
    }

    /// What happened to the requests begun since `from`.
    pub fn since(&self, from: Instant) -> LoadReport {
        self.between(from, Instant::now())
    }

    /// What happened to the requests begun between two moments.
    pub fn between(&self, from: Instant, to: Instant) -> LoadReport {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        report(&outcomes, from, to)
    }

    /// Forgets what has ended until now.
    pub fn forget(&self) {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until a request begun after now has been answered.
    pub fn wait_for_answer(&self, within: Duration) -> Result<String, LabError> {
        let now = Instant::now();
        crate::lab::wait_until("a request is answered", within, || {
            let report = self.since(now);
            report.answered.into_keys().next()
        })
    }
}

impl Drop for LoadProber {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn report(outcomes: &[Outcome], from: Instant, to: Instant) -> LoadReport {
    let (mut answered, mut failed) = (BTreeMap::new(), BTreeMap::new());
    let (mut moments, mut failing_for) = (vec![from, to], Duration::ZERO);
    for outcome in outcomes {
        let begun = (from..=to).contains(&outcome.started);
        match &outcome.result {
            Ok(node) => {
                if begun {
                    *answered.entry(node.clone()).or_default() += 1;
                }
                if (from..=to).contains(&outcome.ended) {
                    moments.push(outcome.ended);
                }
            }
            Err(why) if begun => {
                *failed.entry(why.clone()).or_default() += 1;
                failing_for = failing_for.max(outcome.started - from);
            }
            Err(_) => (),
        }
    }
    moments.sort_unstable();
    let longest_gap = moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::ZERO);
    let requests = answered.values().sum::<usize>() + failed.values().sum::<usize>();
    LoadReport { requests, answered, failed, longest_gap, failing_for }
}

/// A request on its way.
struct Open {
    started: Instant,
    stream: TcpStream,
    asked: bool,
    received: Vec<u8>,
}

fn ask_on(target: SocketAddrV4, period: Duration, outcomes: &Mutex<Vec<Outcome>>, stop: &AtomicBool) {
    let (mut open, mut next): (Vec<Open>, _) = (Vec::new(), Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= next {
            // After a stall it goes on from now; it does not make up for what it missed.
            next = (next + period).max(now);
            if open.len() < MOST_OPEN {
                match begin(target) {
                    Ok(stream) => {
                        open.push(Open { started: now, stream, asked: false, received: Vec::new() });
                    }
                    Err(error) => record(outcomes, now, Err(error.to_string())),
                }
            }
        }
        wait_for_any(&open);
        open.retain_mut(|request| match proceed(request, target) {
            Ok(None) if request.started.elapsed() < TIMEOUT => true,
            outcome => {
                let result = match outcome {
                    Ok(Some(node)) => Ok(node),
                    Ok(None) => Err("no answer in time".to_owned()),
                    Err(error) => Err(error.to_string()),
                };
                record(outcomes, request.started, result);
                false
            }
        });
    }
}

fn record(outcomes: &Mutex<Vec<Outcome>>, started: Instant, result: Result<String, String>) {
    let outcome = Outcome { started, ended: Instant::now(), result };
    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
}

/// Waits up to a millisecond.
fn wait_for_any(open: &[Open]) {
    let mut descriptors: Vec<PollFd<'_>> = open
        .iter()
        .map(|request| {
            let events = if request.asked { PollFlags::POLLIN } else { PollFlags::POLLOUT };
            PollFd::new(request.stream.as_fd(), events)
        })
        .collect();
    // Interrupted or not, what is ready is found out by trying.
    let _ = poll(&mut descriptors, PollTimeout::from(1_u8));
}

fn begin(target: SocketAddrV4) -> io::Result<TcpStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), &SockaddrIn::from(target)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(socket)),
        Err(errno) => Err(errno.into()),
    }
}

/// The node that answered, once it has.
fn proceed(request: &mut Open, target: SocketAddrV4) -> io::Result<Option<String>> {
    if !request.asked {
        let text = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", target.ip());
        match request.stream.write(text.as_bytes()) {
            // So few bytes fit into the empty send buffer of a new connection or not at all.
            Ok(_) => request.asked = true,
            Err(error) if is_pending(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let mut buffer = [0; 4096];
    loop {
        match request.stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => request.received.extend_from_slice(&buffer[..length]),
            Err(error) if is_pending(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    match http::parse(&request.received) {
        Some(response) if response.status == 200 => {
            Ok(Some(response.node.unwrap_or_else(|| "unknown".to_owned())))
        }
        Some(response) => Err(io::Error::other(format!("status {}", response.status))),
        None => Err(io::Error::other("answer cut off")),
    }
}

fn is_pending(error: &io::Error) -> bool {
    // Before the connection stands, Linux says EAGAIN to a write and ENOTCONN to a read.
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(origin: Instant, started: u64, ended: u64, result: Result<&str, &str>) -> Outcome {
        let at = |ms| origin + Duration::from_millis(ms);
        let result = result.map(str::to_owned).map_err(str::to_owned);
        Outcome { started: at(started), ended: at(ended), result }
    }

    #[test]
    fn the_gap_is_between_completed_answers_and_includes_both_ends() {
        let origin = Instant::now();
        let at = |ms| origin + Duration::from_millis(ms);
        let outcomes = [
            outcome(origin, 0, 10, Ok("a")),
            outcome(origin, 20, 520, Err("no answer in time")),
            outcome(origin, 500, 600, Ok("b")),
            outcome(origin, 640, 650, Ok("b")),
        ];
        let whole = report(&outcomes, origin, at(700));
        assert_eq!(whole.longest_gap, Duration::from_millis(590));
        assert_eq!((whole.requests, whole.answers(), whole.failures()), (4, 3, 1));
        assert_eq!(whole.failing_for, Duration::from_millis(20));
        assert!((whole.share("b") - 2.0 / 3.0).abs() < 1e-9);
        let open_end = report(&outcomes, at(590), at(5000));
        assert_eq!(open_end.longest_gap, Duration::from_millis(4350));
        assert_eq!(open_end.answers(), 1, "the other answer's request was begun before");
        assert_eq!(report(&[], origin, at(300)).longest_gap, Duration::from_millis(300));
    }
}
