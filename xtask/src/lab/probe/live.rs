//! Connections that stay open, thousands of them, and a server that says on each which node serves it.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::{AsFd, FromRawFd as _, IntoRawFd as _, RawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use libc::c_uint;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, getrlimit, setrlimit},
};

use crate::lab::{error::LabError, node::Node};

/// How long questions may gather until they are answered together.
const GATHER: Duration = Duration::from_millis(1);
/// Bytes of a question. The answer is the question and as many bytes of the node's name.
const QUESTION: usize = 8;
const ANSWER: usize = QUESTION + NAME;
/// Bytes of the name in an answer, zeros at the end.
const NAME: usize = 16;
/// Connections opened before the first of them is listened to.
const BATCH: usize = 100;
/// TCP repeats a lost packet after 0.2 s, 0.4 s, 0.8 s …; an owner that leaves costs no more than that.
const PATIENCE: Duration = Duration::from_secs(8);

/// Lets this process have as many open files as it may, and says how many.
pub fn raise_file_limit() -> Result<u64, LabError> {
    let raise = || {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard)
    };
    raise().map_err(|errno| LabError::io("raising the limit of open files")(errno.into()))
}

/// Answers on every connection until it is dropped; then all its connections end.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on all addresses of `node`.
    pub fn start(node: &Node, port: u16) -> Result<Self, LabError> {
        let listener = node
            .within(|| {
                let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            })?
            .map_err(LabError::io(format!("listening on port {port} of {}", node.name())))?;
        let mut name = [0; NAME];
        for (to, from) in name.iter_mut().zip(node.name().bytes()) {
            *to = from;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        // The sockets stay in the node's namespace, whichever thread uses them. The thread has a table of open files of its
        // own, so that the limit on them, which is each table's, need not do for both ends of all connections. Until it has,
        // the listener stays open in this one.
        let (ready, is_ready) = std::sync::mpsc::channel();
        let number = listener.into_raw_fd();
        let thread = std::thread::spawn(move || {
            let own = keep_only(number);
            // Whoever waits for it is there until it has heard.
            let _ = ready.send(own.is_ok());
            if let Ok(listener) = own {
                serve(&listener, name, &stopped);
            }
        });
        let is_alone = is_ready.recv().unwrap_or(false);
        // SAFETY: nobody else closes it: the thread has its own descriptor of it, or has given it up.
        drop(unsafe { TcpListener::from_raw_fd(number) });
        if !is_alone {
            return Err(LabError::io("a table of open files for a server's thread")(io::Error::other(
                "refused",
            )));
        }
        Ok(Self { stop, thread: Some(thread) })
    }
}

/// Gives the calling thread a table of open files of its own, with nothing in it but the standard streams and one listener.
fn keep_only(listener: RawFd) -> io::Result<TcpListener> {
    unshare(CloneFlags::CLONE_FILES)?;
    let close = |first: RawFd, last: c_uint| {
        // SAFETY: the table is this thread's alone, and nothing of it is in use but the listener.
        let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    if listener > 3 {
        close(3, listener.cast_unsigned() - 1)?;
    }
    close(listener + 1, c_uint::MAX)?;
    // SAFETY: it is open in this table, and this is its only owner in here.
    Ok(unsafe { TcpListener::from_raw_fd(listener) })
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the server shows as missing answers.
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, name: [u8; NAME], stop: &AtomicBool) {
    let mut connections: Vec<(TcpStream, Vec<u8>)> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut waiting = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        waiting.extend(connections.iter().map(|(stream, _)| PollFd::new(stream.as_fd(), PollFlags::POLLIN)));
        // Interrupted or not, what is ready is found out by trying.
        let _ = poll(&mut waiting, PollTimeout::from(50_u8));
        // Looking at thousands of connections takes its time: some more may be ready by then.
        std::thread::sleep(GATHER);
        let ready: Vec<bool> = waiting.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let mut ready_connections = ready.iter().skip(1);
        connections.retain_mut(|(stream, received)| {
            !ready_connections.next().is_some_and(|ready| *ready) || answer(stream, received, name).is_ok()
        });
        while let Ok((stream, _)) = listener.accept() {
            // Should one of them fail, the client misses its answers.
            let _ = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
            connections.push((stream, Vec::new()));
        }
    }
}

/// Answers what has been asked; an error is the end of the connection.
fn answer(stream: &mut TcpStream, received: &mut Vec<u8>, name: [u8; NAME]) -> io::Result<()> {
    let mut buffer = [0; 256];
    match stream.read(&mut buffer) {
        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(length) => received.extend_from_slice(&buffer[..length]),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    while received.len() >= QUESTION {
        let question: Vec<u8> = received.drain(..QUESTION).collect();
        // The client reads every answer before it asks again, so that there is room for this one.
        stream.write_all(&[question.as_slice(), &name].concat())?;
    }
    Ok(())
}

/// A connection and who serves it.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    node: String,
}

/// A client's open connections.
#[derive(Debug, Default)]
pub struct Connections {
    open: Vec<Connection>,
    asked: u64,
}

/// What became of connections when all were asked once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// How many answered from the node that served them before, by node.
    pub stayed: BTreeMap<String, usize>,
    /// How many broke or answered from elsewhere, by what happened; they are closed now.
    pub lost: BTreeMap<String, usize>,
}

impl Connections {
    /// Opens `count` more from `client`; how many each node serves of them.
    pub fn open(
        &mut self,
        client: &Node,
        target: SocketAddrV4,
        count: usize,
    ) -> Result<BTreeMap<String, usize>, LabError> {
        let what = format!("connecting to {target} from {}", client.name());
        let opened = client.within(|| -> io::Result<Vec<Connection>> {
            let mut opened = Vec::with_capacity(count);
            while opened.len() < count {
                let batch = BATCH.min(count - opened.len());
                let streams: Vec<TcpStream> = (0..batch).map(|_| begin(target)).collect::<io::Result<_>>()?;
                for mut stream in streams {
                    let node = hear(&mut stream, 0)?;
                    opened.push(Connection { stream, node });
                }
            }
            Ok(opened)
        })?;
        let opened = opened.map_err(LabError::io(what))?;
        let mut nodes = BTreeMap::new();
        for connection in &opened {
            *nodes.entry(connection.node.clone()).or_default() += 1;
        }
        self.open.extend(opened);
        Ok(nodes)
    }

    /// Asks on all of them, then hears all answers.
    pub fn round(&mut self) -> Round {
        self.asked += 1;
        let question = self.asked;
        let written: Vec<io::Result<()>> = self
            .open
            .iter_mut()
            .map(|connection| connection.stream.write_all(&question.to_be_bytes()))
            .collect();
        let mut round = Round::default();
        let mut written = written.into_iter();
        self.open.retain_mut(|Connection { stream, node }| {
            let asked = written.next().unwrap_or(Ok(()));
            match asked.and_then(|()| hear(stream, question)) {
                Ok(by) if by == *node => {
                    *round.stayed.entry(by).or_default() += 1;
                    true
                }
                outcome => {
                    let what = match outcome {
                        Ok(by) => format!("{node} before, {by} now"),
                        Err(error) => format!("{node}: {error}"),
                    };
                    *round.lost.entry(what).or_default() += 1;
                    false
                }
            }
        });
        round
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Closes those that `node` serves.
    pub fn close_those_of(&mut self, node: &str) {
        self.open.retain(|connection| connection.node != node);
    }
}

/// Connects and asks.
fn begin(target: SocketAddrV4) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&target.into(), PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&0_u64.to_be_bytes())?;
    Ok(stream)
}

fn hear(stream: &mut TcpStream, question: u64) -> io::Result<String> {
    let mut answer = [0; ANSWER];
    stream.read_exact(&mut answer)?;
    let (echo, name) = answer.split_at(QUESTION);
    if echo != question.to_be_bytes() {
        return Err(io::Error::other("another question's answer"));
    }
    Ok(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
}
