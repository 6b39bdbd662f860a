//! HTTP connections that stand while something happens to the owner of the VIP: some say nothing meanwhile, some go on
//! asking.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddrV4, TcpStream},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::http;
use crate::lab::{error::LabError, node::Node};

/// From one request of a connection that goes on asking to its next one.
const PERIOD: Duration = Duration::from_millis(200);
/// How long a connection may take to be made and to answer for the first time.
const OPENED_WITHIN: Duration = Duration::from_secs(1);
/// How long the last answers are waited for at most, and after the latest of them: TCP repeats what was lost after 0.2 s,
/// 0.4 s, 0.8 s.
const LAST_ANSWERS: Duration = Duration::from_secs(3);
const NO_MORE: Duration = Duration::from_millis(1_700);

/// Open connections of one client.
#[derive(Debug)]
pub struct Standing {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<Survivors>>,
}

/// How many connections still answered at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Survivors {
    /// Those that said nothing meanwhile.
    pub idle: Tally,
    /// Those that went on asking.
    pub talking: Tally,
}

/// Connections of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many were opened.
    pub opened: usize,
    /// How many answered at the end, from the node that had answered before.
    pub alive: usize,
    /// How many were opened to each node.
    pub opened_by_node: BTreeMap<String, usize>,
    /// How many of those are alive.
    pub alive_by_node: BTreeMap<String, usize>,
}

impl Standing {
    /// Opens `count` connections of each kind from `client`; those that cannot be opened are missing from the tally.
    pub fn open(client: &Node, target: SocketAddrV4, count: usize) -> Result<Self, LabError> {
        let connections = client.within(|| {
            let kinds = std::iter::repeat_n(false, count).chain(std::iter::repeat_n(true, count));
            kinds.filter_map(|talks| Connection::open(target, talks).ok()).collect::<Vec<_>>()
        })?;
        let end = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&end);
        let thread = std::thread::spawn(move || hold(connections, &ends));
        Ok(Self { end, thread: Some(thread) })
    }

    /// Asks on every connection once more.
    pub fn finish(mut self) -> Survivors {
        self.end.store(true, Ordering::Relaxed);
        // A thread that panicked has no survivors to show.
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Connection {
    stream: TcpStream,
    target: SocketAddrV4,
    talks: bool,
    node: String,
    /// Asked, and not answered whole yet.
    waiting: bool,
    received: Vec<u8>,
    broken: bool,
    answered: Instant,
}

impl Connection {
    fn open(target: SocketAddrV4, talks: bool) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&target.into(), OPENED_WITHIN)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let answered = Instant::now();
        let mut connection = Self {
            stream,
            target,
            talks,
            node: String::new(),
            waiting: false,
            received: Vec::new(),
            broken: false,
            answered,
        };
        connection.ask();
        while connection.waiting && answered.elapsed() < OPENED_WITHIN {
            wait(std::slice::from_ref(&connection), OPENED_WITHIN);
            connection.hear();
        }
        if connection.node.is_empty() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(connection) }
    }

    fn ask(&mut self) {
        let question = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", self.target.ip());
        // It is shorter than any buffer, and nothing else is in there: one question at a time.
        self.broken |= self.stream.write_all(question.as_bytes()).is_err();
        self.waiting = true;
    }

    fn hear(&mut self) {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.broken = true,
            Ok(length) => self.received.extend_from_slice(&buffer[..length]),
            Err(error) => self.broken |= error.kind() != io::ErrorKind::WouldBlock,
        }
        let Some(answer) = http::parse(&self.received) else { return };
        let node = answer.node.unwrap_or_default();
        if self.node.is_empty() {
            self.node = node;
        } else {
            self.broken |= self.node != node;
        }
        self.received.clear();
        self.waiting = false;
        self.answered = Instant::now();
    }
}

/// Lets some talk until the end, then asks all of them.
fn hold(mut connections: Vec<Connection>, end: &AtomicBool) -> Survivors {
    let mut next = Instant::now();
    while !end.load(Ordering::Relaxed) {
        if next <= Instant::now() {
            next = Instant::now() + PERIOD;
            connections.iter_mut().filter(|c| c.talks && !c.waiting && !c.broken).for_each(Connection::ask);
        }
        turn(&mut connections);
    }
    let asked = Instant::now();
    connections.iter_mut().filter(|c| !c.waiting && !c.broken).for_each(Connection::ask);
    let latest = |all: &[Connection]| all.iter().map(|c| c.answered).max().map_or(asked, |at| at.max(asked));
    while asked.elapsed() < LAST_ANSWERS
        && latest(&connections).elapsed() < NO_MORE
        && connections.iter().any(|c| c.waiting && !c.broken)
    {
        turn(&mut connections);
    }
    let mut survivors = Survivors::default();
    for connection in connections {
        let tally = if connection.talks { &mut survivors.talking } else { &mut survivors.idle };
        tally.opened += 1;
        *tally.opened_by_node.entry(connection.node.clone()).or_default() += 1;
        if !connection.broken && connection.answered >= asked {
            tally.alive += 1;
            *tally.alive_by_node.entry(connection.node).or_default() += 1;
        }
    }
    survivors
}

/// Hears what there is to hear within a twentieth of a period.
fn turn(connections: &mut [Connection]) {
    wait(connections, PERIOD / 20);
    connections.iter_mut().filter(|c| !c.broken).for_each(Connection::hear);
}

/// Waits until one that has not broken can be read.
fn wait(connections: &[Connection], timeout: Duration) {
    let whole = connections.iter().filter(|connection| !connection.broken);
    let mut fds: Vec<PollFd<'_>> = whole.map(|c| PollFd::new(c.stream.as_fd(), PollFlags::POLLIN)).collect();
    // Interrupted or not, what is ready is found out by trying.
    let _ = poll(&mut fds, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO));
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nX-Node: node-b\r\nContent-Length: 2\r\n\r\nhi";

    fn listener() -> (TcpListener, SocketAddrV4) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
        let port = listener.local_addr().expect("it is bound").port();
        (listener, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
    }

    /// Answers the next question of a connection.
    fn answer(stream: &mut TcpStream) {
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n") {
            let mut buffer = [0; 512];
            let length = stream.read(&mut buffer).expect("the client asks");
            assert!(length > 0, "the client has closed");
            received.extend_from_slice(&buffer[..length]);
        }
        stream.write_all(ANSWER).expect("the client listens");
    }

    #[test]
    fn who_answers_at_the_end_has_survived_and_who_was_reset_has_not() {
        let (listener, target) = listener();
        let server = std::thread::spawn(move || {
            let accept = || listener.accept().expect("somebody connects").0;
            let mut kept = accept();
            answer(&mut kept);
            let mut lost = accept();
            answer(&mut lost);
            drop(lost);
            answer(&mut kept);
            kept
        });
        let open = || Connection::open(target, false).expect("it is answered");
        let connections = vec![open(), open()];
        let survivors = hold(connections, &AtomicBool::new(true));
        drop(server.join().expect("it does not panic"));
        assert_eq!((survivors.idle.opened, survivors.idle.alive), (2, 1));
        assert_eq!(survivors.idle.alive_by_node, BTreeMap::from([("node-b".to_owned(), 1)]));
        assert_eq!(survivors.talking, Tally::default());
    }
}
