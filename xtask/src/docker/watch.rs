//! What clients see while something is done to a container: 500 requests a second straight to the VIP, as many through
//! haproxy, and everyone who answers ARP for the VIP.

use std::{
    fmt,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::containers::{Containers, PORT, host};
use crate::lab::{
    LabError, MacAddress, Node, VIP, pause,
    probe::{
        arp,
        load::{LoadProber, LoadReport},
    },
};

/// How long is watched after everything has settled.
const LOOK: Duration = Duration::from_secs(3);
/// Longer than an unanswered request is waited for.
const LAST_ANSWERS: Duration = Duration::from_millis(600);
/// Nothing takes longer: the health checks, an election, haproxy's two checks of 2 s.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// The running clients.
#[derive(Debug)]
pub struct Watch {
    direct: LoadProber,
    front: LoadProber,
    claims: Claims,
}

/// What was seen of one step.
#[derive(Clone, Debug)]
pub struct Report {
    /// The step.
    pub what: String,
    /// How long the command took.
    pub took: Duration,
    /// Requests to the VIP since the command was given.
    pub direct: LoadReport,
    /// Those through haproxy.
    pub front: LoadReport,
    /// Requests to the VIP after all had settled.
    pub steady: LoadReport,
    /// Those through haproxy.
    pub steady_front: LoadReport,
    /// Who answered each ARP request since the command was given.
    pub claims: arp::ArpReport,
    /// The last of them, after all had settled.
    pub steady_claims: arp::ArpReport,
}

impl Watch {
    /// Starts them; returns when all are answered.
    pub fn start(containers: &Containers) -> Result<Self, LabError> {
        let client = containers.client();
        let watch = Self {
            direct: LoadProber::start(client, VIP, 80),
            front: LoadProber::start(&host(), Ipv4Addr::LOCALHOST, PORT),
            claims: Claims::start(client.clone()),
        };
        watch.direct.wait_for_answer(ANSWERED_WITHIN)?;
        watch.front.wait_for_answer(ANSWERED_WITHIN)?;
        Ok(watch)
    }

    /// Does something, waits until it has `settled` and both clients are answered, and watches a while longer.
    pub fn step(
        &self,
        what: &str,
        act: impl FnOnce() -> Result<(), LabError>,
        settled: impl FnOnce() -> Result<(), LabError>,
    ) -> Result<Report, LabError> {
        let start = Instant::now();
        act()?;
        let took = start.elapsed();
        settled()?;
        self.direct.wait_for_answer(ANSWERED_WITHIN)?;
        self.front.wait_for_answer(ANSWERED_WITHIN)?;
        let steady = Instant::now();
        pause(LOOK)?;
        let end = Instant::now();
        pause(LAST_ANSWERS)?;
        Ok(Report {
            what: what.to_owned(),
            took,
            direct: self.direct.between(start, end),
            front: self.front.between(start, end),
            steady: self.direct.between(steady, end),
            steady_front: self.front.between(steady, end),
            claims: self.claims.between(start, end),
            steady_claims: self.claims.between(steady, end),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "── {} ({} ms)", self.what, self.took.as_millis())?;
        for (name, load, steady) in
            [("to the VIP", &self.direct, &self.steady), ("by haproxy", &self.front, &self.steady_front)]
        {
            let shares: Vec<String> = steady
                .answered
                .keys()
                .map(|node| format!("{node} {:.1} %", steady.share(node) * 100.0))
                .collect();
            let reasons: Vec<String> =
                load.failed.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            writeln!(
                f,
                "   {name}  gap {:>5} ms  failed {:>4} of {} (the last {} ms after the command) {}  then {}",
                load.longest_gap.as_millis(),
                load.failures(),
                load.requests,
                load.failing_for.as_millis(),
                reasons.join(", "),
                shares.join(", "),
            )?;
        }
        let most = self.claims.rounds.iter().map(Vec::len).max().unwrap_or_default();
        let none = self.claims.rounds.iter().filter(|answers| answers.is_empty()).count();
        write!(
            f,
            "   ARP  {} requests, at most {most} answer each, {none} without any",
            self.claims.rounds.len()
        )
    }
}

/// One ARP request.
type Round = (Instant, Vec<MacAddress>);

/// Asks by ARP who has the VIP, all the time.
#[derive(Debug)]
struct Claims {
    rounds: Arc<Mutex<Vec<Round>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Claims {
    fn start(client: Node) -> Self {
        let (rounds, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (written, stopped) = (Arc::clone(&rounds), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let asked = Instant::now();
                // Without answers there are no rounds, which every report shows.
                let Ok(report) = arp::ask(&client, VIP, Duration::ZERO) else { return };
                let rounds: &Mutex<Vec<Round>> = &written;
                let answers = report.rounds.into_iter().map(|answers| (asked, answers));
                rounds.lock().unwrap_or_else(PoisonError::into_inner).extend(answers);
            }
        });
        Self { rounds, stop, thread: Some(thread) }
    }

    fn between(&self, from: Instant, to: Instant) -> arp::ArpReport {
        let rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        let within = rounds.iter().filter(|(asked, _)| (from..to).contains(asked));
        arp::ArpReport { rounds: within.map(|(_, answers)| answers.clone()).collect() }
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic shows as missing rounds.
            let _ = thread.join();
        }
    }
}
