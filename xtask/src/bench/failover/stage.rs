//! The lab with its cast and its clients, and one round of a measurement.

use std::{
    net::SocketAddrV4,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;

use super::{
    fault::{Fault, parent},
    system::{ECHO, System, with_priority},
};
use crate::lab::{
    Daemon, GUARDIAN, Lab, LabError, MacAddress, Node, VIP, pause,
    probe::{
        advert::Advert,
        download::{Downloaded, Downloads},
        echo::{Asker, EchoProber, EchoReport},
        flood,
        load::LoadProber,
        standing::{Standing, Survivors},
    },
    wait_until,
};

/// Time from one HTTP request to the next.
const WEB_PERIOD: Duration = Duration::from_millis(5);
/// How long clients must have been answered for the pair to be well.
const CALM: Duration = Duration::from_secs(1);
/// How long an answer may be on its way.
const ON_THE_WAY: Duration = Duration::from_millis(200);
/// How long everything may take to be as it was.
const SETTLE_WITHIN: Duration = Duration::from_mins(2);

/// Connections of each kind that stand when the fault strikes.
const STANDING: usize = 200;
/// Where they lead.
const WEB: SocketAddrV4 = SocketAddrV4::new(VIP, 80);

/// Downloads under way meanwhile.
const DOWNLOADS: usize = 16;

/// Time from one forged advert to the next.
const FORGED_EVERY: Duration = Duration::from_millis(50);
/// The priority of who has the VIPs as addresses of its own: nobody is better.
const FORGED_PRIORITY: u8 = 255;
/// Of an owner that is to hand over; the backup's is 100.
const LOW_PRIORITY: u8 = 50;

/// This part of a flood must have been sent for it to be one.
const LEAST_FLOOD: u128 = 2;

/// What one round showed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Round {
    /// Datagrams to the VIP from a client whose kernel knows its MAC address.
    pub(super) known: Seen,
    /// The same from one that asks by ARP before each.
    pub(super) newcomer: Seen,
    /// HTTP requests to the VIP, each over a new connection.
    pub(super) web: Seen,
    /// Nodes that answered ARP requests for the VIP.
    pub(super) claimants: usize,
    /// The most that answered one request.
    pub(super) most_claimants: usize,
    /// Requests that more than one answered.
    pub(super) claimed_twice: usize,
    /// How often another node answered first than the time before.
    pub(super) moves: usize,
    /// Nodes that answered ARP requests in the last second.
    pub(super) claimants_after: Vec<String>,
    /// Nodes that had the VIP as an address at the end.
    pub(super) holders_after: Vec<String>,
    /// Connections that stood before and answer after it.
    pub(super) survivors: Survivors,
    /// Downloads that were under way.
    pub(super) downloads: Downloaded,
    /// Adverts that the nodes under `lb` refused.
    pub(super) refused: u64,
}

/// What a client met.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Seen {
    /// The longest time without an answer; of HTTP, until the beginning of the last request that failed.
    pub(super) milliseconds: f64,
    /// Whether it was not over at the end.
    pub(super) to_the_end: bool,
    pub(super) asked: usize,
    pub(super) lost: usize,
}

pub(super) struct Stage {
    pub(super) lab: Lab,
    pub(super) owner: Node,
    pub(super) backup: Node,
    client: Node,
    known: EchoProber,
    newcomer: EchoProber,
    web: LoadProber,
    system: System,
}

impl Stage {
    /// The one that is there, or a new one.
    pub(super) fn provide<'a>(
        stage: &'a mut Option<Self>,
        system: System,
        lb: Option<&Path>,
    ) -> Result<&'a Self, LabError> {
        let there = match stage.take() {
            Some(there) => there,
            None => Self::new(&format!("bench-{}", std::process::id()), system, lb)?,
        };
        Ok(stage.insert(there))
    }

    /// Builds the lab; its clients begin to ask.
    fn new(name: &str, system: System, lb: Option<&Path>) -> Result<Self, LabError> {
        let xtask = std::env::current_exe().map_err(LabError::io("finding this program"))?;
        let lab = Lab::start(&system.lab(name, lb)?, &xtask, |_| ())?;
        let (client, stranger) = (lab.node("client")?, lab.node("newcomer")?);
        let known = EchoProber::start(&client, ECHO, Asker::Known)?;
        let newcomer = EchoProber::start(&stranger, ECHO, Asker::New)?;
        let web = LoadProber::start_every(WEB_PERIOD, &client, VIP, 80);
        let (owner, backup) = (lab.node("node-a")?, lab.node("node-b")?);
        Ok(Self { lab, owner, backup, client, known, newcomer, web, system })
    }

    /// Waits until everything is well, strikes, looks and repairs.
    pub(super) fn round(&self, fault: Fault, note: &impl Fn(&str)) -> Result<Round, LabError> {
        note("waiting until the pair is well");
        self.settle()?;
        // Between two adverts, not always at the same moment.
        pause(self.system.interval().mul_f64(any_fraction()))?;
        note("preparing");
        fault.prepare(self)?;
        note("opening connections");
        let standing = Standing::open(&self.client, WEB, STANDING)?;
        let downloads = Downloads::begin(&self.client, WEB, DOWNLOADS)?;
        let refused = self.refused();
        note("measuring");
        self.forget();
        let start = Instant::now();
        fault.strike(self)?;
        let [least, most] = fault.watch(self.system);
        while start.elapsed() < most && !(start.elapsed() >= least && self.is_calm()) {
            pause(Duration::from_millis(100))?;
        }
        let end = Instant::now();
        let holders_after = self.lab.holders(VIP)?;
        pause(ON_THE_WAY)?;
        let mut round = self.report(start, end, holders_after);
        // Both wait for the last answers: at the same time.
        downloads.end();
        round.survivors = standing.finish();
        round.downloads = downloads.finish();
        round.refused = self.refused().saturating_sub(refused);
        note("repairing");
        fault.undo(self)?;
        Ok(round)
    }

    fn report(&self, start: Instant, end: Instant, holders_after: Vec<String>) -> Round {
        let newcomer = self.newcomer.between(start, end);
        let last = self.newcomer.between(before(end, CALM), end);
        let web = self.web.between(start, end);
        let web_last = self.web.between(before(end, CALM), end);
        Round {
            known: Seen::of(&self.known.between(start, end)),
            claimants: newcomer.claimants.len(),
            most_claimants: newcomer.most_claimants,
            claimed_twice: newcomer.claimed_twice,
            moves: newcomer.moves,
            claimants_after: last.claimants.iter().map(|mac| self.name_of(*mac)).collect(),
            newcomer: Seen::of(&newcomer),
            web: Seen {
                milliseconds: milliseconds(web.failing_for),
                to_the_end: web_last.failures() > 0,
                asked: web.requests,
                lost: web.failures(),
            },
            holders_after,
            survivors: Survivors::default(),
            downloads: Downloaded::default(),
            refused: 0,
        }
    }

    fn name_of(&self, mac: MacAddress) -> String {
        self.lab.state().spec.node_of(mac).map_or_else(|| mac.to_string(), str::to_owned)
    }

    fn forget(&self) {
        self.known.forget();
        self.newcomer.forget();
        self.web.forget();
    }

    /// Whether clients that have asked before were answered in the last second.
    fn is_calm(&self) -> bool {
        let end = before(Instant::now(), ON_THE_WAY);
        let (echo, web) =
            (self.known.between(before(end, CALM), end), self.web.between(before(end, CALM), end));
        echo.asked > 0 && echo.lost == 0 && web.answers() > 0 && web.failures() == 0
    }

    /// Waits until node-a alone owns the VIP and all clients are answered.
    fn settle(&self) -> Result<(), LabError> {
        // Whoever still believes in the wrong node is of no interest.
        self.client.run(&["ip", "neighbour", "flush", "dev", "eth0"])?;
        self.forget();
        let mut last = String::new();
        let well = wait_until("the pair is well", SETTLE_WITHIN, || {
            let end = before(Instant::now(), ON_THE_WAY);
            let newcomer = self.newcomer.between(before(end, CALM), end);
            let claimants: Vec<String> = newcomer.claimants.iter().map(|mac| self.name_of(*mac)).collect();
            let holders = self.lab.holders(VIP).unwrap_or_default();
            let alone = claimants == [self.owner.name()] && holders == [self.owner.name()];
            let well = self.is_calm() && newcomer.lost == 0 && alone && self.daemons_are_well();
            last = format!(
                "ARP is answered by {claimants:?}, the VIP is an address of {holders:?}, clients: {:?}, {:?}",
                self.known.between(before(end, CALM), end),
                self.web.between(before(end, CALM), end),
            );
            well.then_some(())
        });
        well.map_err(|error| match error {
            LabError::Timeout { what, after } => {
                LabError::Timeout { what: format!("{what}\n{last}\n{}", self.lab.log_tails(25)), after }
            }
            other => other,
        })
    }

    /// Two daemons of `lb` have their BFD sessions too: one that failed often is held down for a minute, and what is measured
    /// then is not what the first failure costs.
    fn daemons_are_well(&self) -> bool {
        let both = self.under_lb().count() == 2;
        self.under_lb().all(|node| {
            node.status().is_ok_and(|status| {
                let detects = !both || status.bfd_sessions().values().all(|state| *state == "up");
                status.all_backends_up() && detects
            })
        })
    }

    /// The nodes that `lb` runs on.
    fn under_lb(&self) -> impl Iterator<Item = &Node> {
        [&self.owner, &self.backup].into_iter().filter(|node| matches!(node.spec.daemon, Daemon::Lb { .. }))
    }

    /// Adverts that they have refused; those of a daemon that cannot be asked, because it was killed, are missing.
    fn refused(&self) -> u64 {
        let of = |node: &Node| node.status().map_or(0, |status| status.refused_adverts().values().sum());
        self.under_lb().map(of).sum()
    }

    /// Waits until the backup has the VIP as an address.
    pub(super) fn wait_for_takeover(&self, within: Duration) -> Result<(), LabError> {
        wait_until(&format!("{} has the VIP", self.backup.name()), within, || {
            self.backup.has_address("eth0", VIP).ok()?.then_some(())
        })
    }

    /// All processes of the owner's daemon.
    fn daemon(&self) -> Vec<i32> {
        [self.owner.daemon_processes(), self.owner.processes(GUARDIAN)].concat()
    }

    /// The one of them that speaks VRRP: keepalived's is the child of another one.
    pub(super) fn speaker(&self) -> Option<i32> {
        let all = self.owner.daemon_processes();
        let mut candidates = all.iter().copied();
        if self.system.is_lb() {
            return candidates.next();
        }
        candidates.find(|pid| parent(*pid).is_some_and(|parent| all.contains(&parent)))
    }

    /// The process that outlives a dead daemon, if it has one.
    pub(super) fn guardian(&self) -> Option<i32> {
        self.owner.processes(GUARDIAN).first().copied()
    }

    /// Whether the owner's daemon must be started again by somebody else when the one that speaks VRRP is killed.
    pub(super) fn is_alone(&self) -> bool {
        self.system.is_lb()
    }

    pub(super) fn signal_daemon(&self, signal: Signal) -> Result<(), LabError> {
        for pid in self.daemon() {
            match kill(Pid::from_raw(pid), signal) {
                // One that has just ended.
                Ok(()) | Err(Errno::ESRCH) => (),
                Err(errno) => return Err(LabError::sys(format!("sending {signal} to process {pid}"))(errno)),
            }
        }
        Ok(())
    }

    /// Sends datagrams that nobody waits for to the owner; fails if they were far fewer than asked for.
    pub(super) fn flood(&self, rate: u32, duration: Duration) -> Result<(), LabError> {
        let sent = flood::flood(&self.client, &self.owner, rate, duration)?;
        let wanted = duration.as_micros() * u128::from(rate) / 1_000_000;
        if sent < wanted / LEAST_FLOOD {
            let detail = format!("{sent} packets of {wanted} were sent, the machine is too slow or too busy");
            return Err(LabError::Unexpected { what: "the flood".to_owned(), detail });
        }
        Ok(())
    }

    /// Sends both nodes adverts of the highest priority from a third host, which knows the password and says who it is:
    /// every other one as if it had crossed routers.
    pub(super) fn forge(&self, duration: Duration) -> Result<(), LabError> {
        let start = Instant::now();
        for ttl in [64, 255].into_iter().cycle() {
            if start.elapsed() >= duration {
                break;
            }
            for node in [&self.owner, &self.backup] {
                let advert = self.system.advert(FORGED_PRIORITY);
                let (source, destination) = (self.client.address(), node.address());
                Advert { source, destination, ttl, ..advert }.send(&self.client)?;
            }
            pause(FORGED_EVERY)?;
        }
        Ok(())
    }

    /// Has the owner's daemon read a configuration that makes it worse than the backup.
    pub(super) fn lower_the_owner(&self) -> Result<(), LabError> {
        self.reload_as(|config| with_priority(config, LOW_PRIORITY))
    }

    /// Has the daemon read its configuration, which is the same as when it was started.
    pub(super) fn reload(&self) -> Result<(), LabError> {
        self.reload_as(str::to_owned)
    }

    fn reload_as(&self, change: impl Fn(&str) -> String) -> Result<(), LabError> {
        match &self.owner.spec.daemon {
            Daemon::Lb { config, .. } => return self.owner.reload(&change(config)).map(drop),
            Daemon::Keepalived { config } => self.owner.write_config(&change(config))?,
            Daemon::None => (),
        }
        let all = self.daemon();
        // Its first process passes the signal on.
        let first = all.iter().find(|pid| parent(**pid).is_none_or(|parent| !all.contains(&parent)));
        let first = first.ok_or_else(|| LabError::NoDaemon { node: self.owner.name().to_owned() })?;
        kill(Pid::from_raw(*first), Signal::SIGHUP).map_err(LabError::sys("sending SIGHUP"))
    }
}

impl Seen {
    fn of(report: &EchoReport) -> Self {
        Self {
            milliseconds: milliseconds(report.longest_wait),
            to_the_end: report.still_waiting,
            asked: report.asked,
            lost: report.lost,
        }
    }
}

/// The clock began longer ago.
fn before(moment: Instant, duration: Duration) -> Instant {
    moment.checked_sub(duration).unwrap_or(moment)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// From 0 to 1, good enough for a phase.
fn any_fraction() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    f64::from(since.subsec_micros() % 1_000) / 1e3
}
