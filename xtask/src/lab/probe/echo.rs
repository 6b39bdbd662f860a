//! A client that sends a UDP datagram to an address every 2 ms and writes down which were answered, when and by whom: one
//! that has long known who has the address, and one that asks by ARP each time anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};

use super::{
    arp::{self, ETHERTYPE_ARP},
    packet::{PacketSocket, udp_frame},
};
use crate::lab::{error::LabError, node::Node, realtime, spec::MacAddress};

/// Time from one question to the next.
const PERIOD: Duration = Duration::from_millis(2);
/// What is answered later counts as lost: whoever slept meanwhile may have kept it.
const LATE: Duration = Duration::from_secs(1);
/// Where a newcomer's datagrams come from.
const NEWCOMER_PORT: u16 = 4_007;
/// A newcomer's ARP requests come from so many addresses in turn, so that a reply tells which of them it is for.
const ASKERS: usize = 8;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Leaves it to the kernel, whose neighbour table knows the address already.
    Known,
    /// Asks by ARP before each datagram and believes the first answer.
    New,
}

/// One datagram.
#[derive(Clone, Debug)]
struct Question {
    sent: Instant,
    answer: Option<(Instant, Arc<str>)>,
    /// Who said by ARP that the address is theirs, in order. Of [`Asker::New`] only.
    claimants: Vec<MacAddress>,
}

/// What became of the datagrams between two moments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EchoReport {
    /// How many were sent.
    pub asked: usize,
    /// How many of them were not answered within a second.
    pub lost: usize,
    /// How many each node answered.
    pub answered: BTreeMap<String, usize>,
    /// The longest time from a datagram to the next answer, to it or to a later one.
    pub longest_wait: Duration,
    /// Whether that answer had not come at the end.
    pub still_waiting: bool,
    /// Everybody who answered an ARP request.
    pub claimants: BTreeSet<MacAddress>,
    /// The most who answered a single one.
    pub most_claimants: usize,
    /// How often another one answered first than the time before.
    pub moves: usize,
}

/// The running client.
#[derive(Debug)]
pub struct EchoProber {
    questions: Arc<Mutex<Vec<Question>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EchoProber {
    /// Starts to ask `target` from `client`.
    pub fn start(client: &Node, target: SocketAddrV4, asker: Asker) -> Result<Self, LabError> {
        let sender = client.address();
        let conversation = client
            .within(|| match asker {
                Asker::Known => Conversation::known(target),
                Asker::New => Conversation::new(target, sender),
            })?
            .map_err(LabError::io(format!("asking {target} from {}", client.name())))?;
        let (questions, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (written, stopped) = (Arc::clone(&questions), Arc::clone(&stop));
        // The sockets stay in the node's namespace, whichever thread uses them.
        let thread = std::thread::spawn(move || {
            realtime::hurry();
            conversation.go_on(&written, &stopped);
        });
        Ok(Self { questions, stop, thread: Some(thread) })
    }

    /// What became of the datagrams sent between two moments, as far as is known now.
    pub fn between(&self, from: Instant, to: Instant) -> EchoReport {
        let questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        let first = questions.partition_point(|question| question.sent < from);
        let end = questions.partition_point(|question| question.sent < to);
        report(&questions[first..end], &questions[end..], to)
    }

    /// Forgets what was sent until now.
    pub fn forget(&self) {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for EchoProber {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic shows as missing questions.
            let _ = thread.join();
        }
    }
}

fn report(questions: &[Question], later: &[Question], to: Instant) -> EchoReport {
    let mut report = EchoReport { asked: questions.len(), ..EchoReport::default() };
    let arrivals = |question: &Question| question.answer.as_ref().map(|(arrived, _)| *arrived);
    // The next answer after the question at hand, looked for from the end.
    let mut next = later.iter().filter_map(arrivals).min();
    for question in questions.iter().rev() {
        next = [next, arrivals(question)].into_iter().flatten().min();
        let wait = next.unwrap_or(to).saturating_duration_since(question.sent);
        if wait > report.longest_wait {
            report.longest_wait = wait;
            report.still_waiting = next.is_none();
        }
        match &question.answer {
            Some((arrived, node)) if *arrived - question.sent <= LATE => {
                *report.answered.entry(node.to_string()).or_default() += 1;
            }
            _ => report.lost += 1,
        }
        report.claimants.extend(&question.claimants);
        report.most_claimants =
            report.most_claimants.max(question.claimants.iter().collect::<BTreeSet<_>>().len());
    }
    let firsts: Vec<&MacAddress> = questions.iter().filter_map(|q| q.claimants.first()).collect();
    report.moves = firsts.windows(2).filter(|pair| pair[0] != pair[1]).count();
    report
}

/// The sockets of a client.
struct Conversation {
    target: SocketAddrV4,
    /// Where the answers come in, and where the datagrams go out unless there is an `arp`.
    socket: UdpSocket,
    arp: Option<Arp>,
    names: BTreeSet<Arc<str>>,
}

struct Arp {
    socket: PacketSocket,
    sender: Ipv4Addr,
}

impl Conversation {
    fn known(target: SocketAddrV4) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(target)?;
        Self::over(target, socket, None)
    }

    fn new(target: SocketAddrV4, sender: Ipv4Addr) -> io::Result<Self> {
        let socket = UdpSocket::bind((sender, NEWCOMER_PORT))?;
        let arp = Arp { socket: PacketSocket::open("eth0", ETHERTYPE_ARP)?, sender };
        Self::over(target, socket, Some(arp))
    }

    fn over(target: SocketAddrV4, socket: UdpSocket, arp: Option<Arp>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { target, socket, arp, names: BTreeSet::new() })
    }

    fn go_on(mut self, questions: &Mutex<Vec<Question>>, stop: &AtomicBool) {
        // Counts what was sent since the beginning; the list may have been emptied meanwhile.
        let (mut number, mut next) = (0_u64, Instant::now());
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now >= next {
                // After a stall it goes on from now; it does not make up for what it missed.
                next = (next + PERIOD).max(now);
                let question = Question { sent: now, answer: None, claimants: Vec::new() };
                lock(questions).push(question);
                // What cannot be sent is not answered either, and that is what counts.
                let _ = self.ask(number);
                number += 1;
            }
            self.wait(next);
            self.hear_claims(number, questions);
            self.hear_answers(number, questions);
        }
    }

    fn ask(&self, number: u64) -> io::Result<()> {
        match &self.arp {
            None => self.socket.send(&number.to_be_bytes()).map(drop),
            Some(arp) => {
                let request = arp::request(arp.socket.mac, arp.asker(number), *self.target.ip());
                arp.socket.send(&request)
            }
        }
    }

    fn wait(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        let mut descriptors = vec![PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        descriptors.extend(self.arp.as_ref().map(|arp| PollFd::new(arp.socket.as_fd(), PollFlags::POLLIN)));
        // Interrupted or not, what is ready is found out by trying.
        let _ = ppoll(&mut descriptors, Some(TimeSpec::from_duration(left)), None);
    }

    /// Sends the datagram to whoever answers the ARP request first.
    fn hear_claims(&self, sent: u64, questions: &Mutex<Vec<Question>>) {
        let Some(arp) = &self.arp else { return };
        let mut buffer = [0; 128];
        while let Ok(Some(frame)) = arp.socket.receive_now(&mut buffer) {
            let Some(claimant) = arp::answer(frame, arp.socket.mac, *self.target.ip()) else { continue };
            let asked_from = arp::asked_from(frame);
            let newest = (0..sent).rev().take(ASKERS);
            let Some(number) = newest.into_iter().find(|n| Some(arp.asker(*n)) == asked_from) else {
                continue;
            };
            let mut questions = lock(questions);
            let Some(question) = at(&mut questions, sent, number) else { continue };
            question.claimants.push(claimant);
            if question.claimants.len() == 1 {
                let source = SocketAddrV4::new(arp.sender, NEWCOMER_PORT);
                let payload = number.to_be_bytes();
                let _ = arp.socket.send(&udp_frame(arp.socket.mac, claimant, source, self.target, &payload));
            }
        }
    }

    fn hear_answers(&mut self, sent: u64, questions: &Mutex<Vec<Question>>) {
        let mut buffer = [0; 256];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let Some((node, number)) = parse(&buffer[..length]) else { continue };
                    let node = self.name(node);
                    let mut questions = lock(questions);
                    let Some(question) = at(&mut questions, sent, number) else { continue };
                    question.answer.get_or_insert((Instant::now(), node));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error about an earlier datagram: it is not answered.
                Err(_) => (),
            }
        }
    }

    /// One string for each node, not for each answer.
    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(name);
        self.names.insert(Arc::clone(&new));
        new
    }
}

impl Arp {
    /// The sender address of an ARP request: the client's own and the next ones. Nobody else has them.
    fn asker(&self, number: u64) -> Ipv4Addr {
        let turn = (number % ASKERS as u64) as u32;
        Ipv4Addr::from_bits(self.sender.to_bits() + turn)
    }
}

fn lock(questions: &Mutex<Vec<Question>>) -> std::sync::MutexGuard<'_, Vec<Question>> {
    questions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The question of a number, when `sent` have been asked and the latest of them are in the list.
fn at(questions: &mut [Question], sent: u64, number: u64) -> Option<&mut Question> {
    let back = usize::try_from(sent.checked_sub(number)?).ok()?;
    let at = questions.len().checked_sub(back)?;
    questions.get_mut(at)
}

/// The node and the number in an answer.
fn parse(answer: &[u8]) -> Option<(&str, u64)> {
    let colon = answer.iter().position(|byte| *byte == b':')?;
    let number = answer[colon + 1..].try_into().ok()?;
    Some((std::str::from_utf8(&answer[..colon]).ok()?, u64::from_be_bytes(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const B: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// (sent, answered, claimants).
    fn questions(origin: Instant, rows: &[(u64, Option<u64>, &[MacAddress])]) -> Vec<Question> {
        let question = |(sent, answered, claimants): &(u64, Option<u64>, &[MacAddress])| Question {
            sent: origin + ms(*sent),
            answer: answered.map(|at| (origin + ms(at), Arc::from("node-a"))),
            claimants: claimants.to_vec(),
        };
        rows.iter().map(question).collect()
    }

    #[test]
    fn the_wait_is_for_the_answer_to_this_or_a_later_question() {
        let origin = Instant::now();
        let all = questions(
            origin,
            &[
                (0, Some(1), &[]),
                (10, None, &[]),
                (20, None, &[]),
                // Kept for too long by somebody.
                (30, Some(1900), &[]),
                (40, Some(45), &[]),
                (50, Some(51), &[]),
            ],
        );
        let whole = report(&all, &[], origin + ms(2_000));
        assert_eq!((whole.longest_wait, whole.still_waiting), (ms(35), false));
        assert_eq!((whole.asked, whole.lost, whole.answered["node-a"]), (6, 3, 3));
        // What was asked afterwards ends a wait as well.
        let beginning = report(&all[..3], &all[3..], origin + ms(30));
        assert_eq!((beginning.longest_wait, beginning.still_waiting), (ms(35), false));
        let open = report(&all[1..3], &[], origin + ms(500));
        assert_eq!((open.longest_wait, open.still_waiting), (ms(490), true));
    }

    #[test]
    fn everybody_who_claims_the_address_is_counted() {
        let origin = Instant::now();
        let all = questions(
            origin,
            &[
                (0, Some(1), &[A]),
                (2, Some(3), &[A, B]),
                (4, Some(5), &[B, A]),
                (6, None, &[]),
                (8, None, &[A, A]),
            ],
        );
        let report = report(&all, &[], origin + ms(10));
        assert_eq!(report.claimants, BTreeSet::from([A, B]));
        assert_eq!((report.most_claimants, report.moves), (2, 2));
    }

    #[test]
    fn an_answer_finds_its_question_after_the_others_were_forgotten() {
        let origin = Instant::now();
        let mut left = questions(origin, &[(0, None, &[]), (2, None, &[])]);
        // Ten have been sent, the last two are in the list.
        assert!(at(&mut left, 10, 7).is_none());
        assert_eq!(at(&mut left, 10, 9).map(|question| question.sent), Some(origin + ms(2)));
        assert!(at(&mut left, 10, 10).is_none());
        assert_eq!(parse(b"node-a:\0\0\0\0\0\0\0\x07"), Some(("node-a", 7)));
        assert_eq!(parse(b"node-a:7"), None);
    }
}
