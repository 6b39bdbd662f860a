//! TCP downloads of one client that are under way while something happens to the owner of the VIP.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddrV4, TcpStream},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::lab::{
    error::LabError,
    node::Node,
    web::{BIG_PAGE_PATH, NODE_HEADER, big_page},
};

/// How often each takes a piece, and how much: 0.8 MB a second. Slower ones would wait for the kernel to open the window
/// again, which it does in large steps.
const PERIOD: Duration = Duration::from_millis(20);
const PIECE: usize = 16 << 10;
/// What the sender may send beforehand, some 40 ms' worth: the network is needed all the time.
const WINDOW: libc::c_int = 32 << 10;
/// Longer than this without a byte at the end, and a download does not go on.
const LATE: Duration = Duration::from_secs(1);
const OPENED_WITHIN: Duration = Duration::from_secs(1);
/// How long the last bytes are waited for: as for answers, TCP repeats what was lost after 0.2 s, 0.4 s, 0.8 s.
const LAST_BYTES: Duration = Duration::from_millis(1_700);

/// Downloads under way.
#[derive(Debug)]
pub struct Downloads {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<Downloaded>>,
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Downloaded {
    /// How many had begun.
    pub begun: usize,
    /// How many went on to the end, with every byte right.
    pub going: usize,
    /// How many had begun from each node.
    pub begun_by_node: BTreeMap<String, usize>,
    /// How many of those went on.
    pub going_by_node: BTreeMap<String, usize>,
    /// The longest time without a byte of one that went on, in milliseconds.
    pub longest_pause: f64,
    /// The same of all, those that did not go on too.
    pub longest_silence: f64,
}

impl Downloads {
    /// Begins `count` downloads from `client`; each asks for the page again when it has it. Those that cannot begin are
    /// missing from the report.
    pub fn begin(client: &Node, target: SocketAddrV4, count: usize) -> Result<Self, LabError> {
        let page = big_page();
        let begin = |_| Download::begin(target, &page).ok();
        let downloads = client.within(|| (0..count).filter_map(begin).collect::<Vec<_>>())?;
        let end = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&end);
        let thread = std::thread::spawn(move || take(downloads, &page, &ends));
        Ok(Self { end, thread: Some(thread) })
    }

    /// Begins to see which still go on, without waiting for that.
    pub fn end(&self) {
        self.end.store(true, Ordering::Relaxed);
    }

    /// Sees which still go on, and ends them.
    pub fn finish(mut self) -> Downloaded {
        self.end();
        // A thread that panicked has nothing to show.
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Keeps the window small, and not the buffer: into a small one a merged segment would not fit.
fn clamp_window(stream: &TcpStream) -> io::Result<()> {
    let window = WINDOW;
    let length = size_of_val(&window) as libc::socklen_t;
    // SAFETY: the option's value is an int, which `window` is, and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_WINDOW_CLAMP,
            (&raw const window).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

struct Download {
    stream: TcpStream,
    target: SocketAddrV4,
    node: String,
    /// Of the page at hand.
    head: Vec<u8>,
    /// Of the page's body, `None` while its head is not whole.
    body: Option<usize>,
    broken: bool,
    /// When the last byte came, and the longest time until one did.
    latest: Instant,
    pause: Duration,
}

impl Download {
    fn begin(target: SocketAddrV4, page: &[u8]) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&target.into(), OPENED_WITHIN)?;
        clamp_window(&stream)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(OPENED_WITHIN))?;
        let mut download = Self {
            stream,
            target,
            node: String::new(),
            head: Vec::new(),
            body: None,
            broken: false,
            latest: Instant::now(),
            pause: Duration::ZERO,
        };
        download.ask()?;
        while download.node.is_empty() && !download.broken {
            download.hear(page);
            if download.latest.elapsed() > OPENED_WITHIN {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        download.stream.set_nonblocking(true)?;
        download.pause = Duration::ZERO;
        if download.broken { Err(io::ErrorKind::InvalidData.into()) } else { Ok(download) }
    }

    fn ask(&mut self) -> io::Result<()> {
        let question = format!("GET {BIG_PAGE_PATH} HTTP/1.1\r\nHost: {}\r\n\r\n", self.target.ip());
        self.stream.write_all(question.as_bytes())
    }

    /// Takes a piece, if one is there, and compares it with the page.
    fn hear(&mut self, page: &[u8]) {
        let mut buffer = [0; PIECE];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.broken = true,
            Ok(length) => {
                self.pause = self.pause.max(self.latest.elapsed());
                self.latest = Instant::now();
                self.broken |= self.take(&buffer[..length], page).is_none();
            }
            Err(error) => {
                self.broken |=
                    !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            }
        }
    }

    /// `None` if it is not what must come.
    fn take(&mut self, mut bytes: &[u8], page: &[u8]) -> Option<()> {
        if self.body.is_none() {
            self.head.extend_from_slice(bytes);
            let end = self.head.windows(4).position(|window| window == b"\r\n\r\n");
            let Some(end) = end else { return (self.head.len() < PIECE).then_some(()) };
            let head = String::from_utf8(self.head[..end].to_vec()).ok()?;
            let node = head.lines().find_map(|line| line.strip_prefix(NODE_HEADER)?.strip_prefix(": "))?;
            if !head.starts_with("HTTP/1.1 200 ") || !(self.node.is_empty() || self.node == node) {
                return None;
            }
            node.clone_into(&mut self.node);
            let rest = end + 4;
            // What of the body came with the head.
            bytes = &bytes[bytes.len() - (self.head.len() - rest)..];
            self.body = Some(0);
        }
        let from = self.body?;
        let to = from + bytes.len();
        if page.get(from..to)? != bytes {
            return None;
        }
        self.body = Some(to);
        if to == page.len() {
            (self.body, self.head) = (None, Vec::new());
            self.ask().ok()?;
        }
        Some(())
    }
}

/// Takes piece after piece until the end, and waits for one more of each.
fn take(mut downloads: Vec<Download>, page: &[u8], end: &AtomicBool) -> Downloaded {
    // Not the time that the others took to begin.
    downloads.iter_mut().for_each(|download| download.latest = Instant::now());
    let turn = |downloads: &mut Vec<Download>| {
        downloads.iter_mut().filter(|download| !download.broken).for_each(|download| download.hear(page));
        std::thread::sleep(PERIOD);
    };
    while !end.load(Ordering::Relaxed) {
        turn(&mut downloads);
    }
    let ended = Instant::now();
    let waiting = |download: &Download| !download.broken && download.latest < ended;
    while ended.elapsed() < LAST_BYTES && downloads.iter().any(waiting) {
        turn(&mut downloads);
    }
    let mut report = Downloaded::default();
    for download in downloads {
        report.begun += 1;
        *report.begun_by_node.entry(download.node.clone()).or_default() += 1;
        let silence = download.pause.max(download.latest.elapsed());
        report.longest_silence = report.longest_silence.max(silence.as_secs_f64() * 1e3);
        if !download.broken && download.latest.elapsed() < LATE {
            report.going += 1;
            *report.going_by_node.entry(download.node).or_default() += 1;
            report.longest_pause = report.longest_pause.max(download.pause.as_secs_f64() * 1e3);
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// Serves pages to one client until it goes, with one byte of the second page wrong if asked to.
    fn serve(listener: &TcpListener, wrong: bool) {
        let (mut stream, _) = listener.accept().expect("somebody connects");
        for page_number in 0.. {
            let mut question = Vec::new();
            while !question.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                match stream.read(&mut byte) {
                    Ok(1) => question.push(byte[0]),
                    _ => return,
                }
            }
            let mut page = big_page();
            if wrong && page_number == 0 {
                page[30_000] ^= 1;
            }
            let head =
                format!("HTTP/1.1 200 OK\r\n{NODE_HEADER}: node-b\r\nContent-Length: {}\r\n\r\n", page.len());
            if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&page)).is_err() {
                return;
            }
        }
    }

    fn download(wrong: bool, turns: usize) -> Download {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
        let port = listener.local_addr().expect("it is bound").port();
        std::thread::spawn(move || serve(&listener, wrong));
        let mut download = Download::begin(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), &big_page())
            .expect("it is answered");
        download.stream.set_nonblocking(false).expect("a socket");
        let page = big_page();
        for _ in 0..turns {
            download.hear(&page);
        }
        download
    }

    #[test]
    fn page_after_page_is_taken_by_one_connection() {
        // More than two pages, however short the pieces: at least until the second page has begun.
        let mut all = download(false, 0);
        let page = big_page();
        let mut pages = 0;
        while pages < 2 {
            let before = all.body.is_some();
            all.hear(&page);
            pages += usize::from(before && all.body.is_none());
            assert!(!all.broken);
        }
        assert_eq!(all.node, "node-b");
    }

    #[test]
    fn a_wrong_byte_breaks_a_download() {
        assert!(download(true, 64).broken);
    }
}
