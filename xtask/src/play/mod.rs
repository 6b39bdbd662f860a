//! `cargo xtask run`: the tutorial, played in a lab. Every line with a tick was checked.

mod narrate;
pub(crate) mod signals;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use self::narrate::Narrator;
use crate::lab::{
    Lab, LabError, Node, VIP, XdpMode, interrupt, pause,
    probe::{
        arp,
        load::{LoadProber, LoadReport},
    },
    wait_until,
};

const PORT: u16 = 80;

/// How long the first look at the answers takes.
const LOOK: Duration = Duration::from_secs(2);
/// Adverts come every second: a backup waits 3 of them and its skew, 3.6 s for priority 100. The rest is for slow machines.
const TAKEOVER_WITHIN: Duration = Duration::from_secs(8);
/// How long the frozen node is watched by ARP after the takeover.
const WATCH: Duration = Duration::from_secs(3);
/// The thawed node waits for adverts, preempts, and its nginx passes its checks again.
const RETURN_WITHIN: Duration = Duration::from_secs(15);
/// How long requests are watched after that.
const AFTERWARDS: Duration = Duration::from_secs(3);
/// A smaller share of the answers than this is not a fair one for one of two nginx of equal weight.
const LEAST_SHARE: f64 = 0.35;
/// While nothing is broken no client waits longer than this: half an advert interval.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How the play is given.
#[derive(Clone, Debug)]
pub struct PlayOptions {
    /// End after the play instead of staying up until Ctrl-C.
    pub once: bool,
    /// The lab's name.
    pub name: String,
    /// How `lb` attaches its XDP program.
    pub xdp: XdpMode,
    /// This project's xtask executable; `None`: the running one.
    pub xtask: Option<PathBuf>,
}

impl Default for PlayOptions {
    fn default() -> Self {
        Self { once: false, name: "lab".to_owned(), xdp: XdpMode::Auto, xtask: None }
    }
}

/// Why the play failed.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The lab could not be built or used.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Something that should be true was not.
    #[error("{claim}: not so, {found}\n{logs}")]
    Claim {
        /// What should have been.
        claim: String,
        /// What was.
        found: String,
        /// The ends of the daemons' logs.
        logs: String,
    },
}

/// Gives the play with the daemon `lb_binary`. Returns after it with [`PlayOptions::once`], else when the user stops it; the
/// lab is gone either way.
pub fn run(options: &PlayOptions, lb_binary: &Path) -> Result<(), PlayError> {
    signals::on_stop(interrupt)?;
    let xtask = match &options.xtask {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(LabError::io("finding this program"))?,
    };
    let narrator = Narrator::new();
    let outcome = perform(options, lb_binary, &xtask, &narrator);
    match outcome {
        // Asked to stop while staying up is the normal end; before that there is nothing to report either.
        Err(PlayError::Lab(LabError::Interrupted)) if !options.once => Ok(()),
        outcome => outcome,
    }
}

fn perform(options: &PlayOptions, lb: &Path, xtask: &Path, narrator: &Narrator) -> Result<(), PlayError> {
    narrator.scene("The pair");
    let lab = narrator.during("building the lab", |progress| {
        Lab::start_tutorial(&options.name, lb, options.xdp, xtask, progress)
    })?;
    let stage = Stage::new(lab, narrator)?;
    stage.introduce(options);

    let prober = LoadProber::start(&stage.client, VIP, PORT);
    let (owner, other) = stage.at_rest(&prober)?;
    stage.freeze(&prober, &owner, &other)?;
    stage.thaw(&prober, &owner, &other)?;
    drop(prober);

    narrator.scene("All of it was so");
    if !options.once {
        narrator
            .say("The lab stays up. Try the commands above in another terminal; Ctrl-C removes everything.");
        while pause(Duration::from_mins(1)).is_ok() {}
        narrator.say("");
    }
    narrator.during("removing the lab", |_| {
        drop(stage.lab);
        Ok(())
    })?;
    Ok(())
}

/// The lab with its cast.
struct Stage<'a> {
    lab: Lab,
    client: Node,
    nodes: [Node; 2],
    narrator: &'a Narrator,
}

impl<'a> Stage<'a> {
    fn new(lab: Lab, narrator: &'a Narrator) -> Result<Self, LabError> {
        let (client, a, b) = (lab.node("client")?, lab.node("node-a")?, lab.node("node-b")?);
        Ok(Self { lab, client, nodes: [a, b], narrator })
    }

    /// What is where, and how to reach it.
    fn introduce(&self, options: &PlayOptions) {
        for node in &self.nodes {
            let title = node.spec.web.as_ref().map_or("", |web| web.title.as_str());
            self.narrator.say(&format!("{}  {}  nginx “{title}”, lb", node.name(), node.address()));
        }
        self.narrator.say(&format!("client  {}", self.client.address()));
        self.narrator.say(&format!("VIP     {VIP}  on port {PORT}, whoever owns it steers to both nginx"));
        let name = if options.name == "lab" { String::new() } else { format!(" --name {}", options.name) };
        let exec = format!("cargo xtask lab exec{name}");
        self.narrator.command("ask the VIP", &format!("{exec} client -- curl -s http://{VIP}/"));
        self.narrator.command("ask a daemon", &format!("{exec} node-a -- {} status", self.lb()));
        self.narrator.command("look around", &format!("{exec} node-b -- ip address"));
    }

    /// The daemon's path, for messages.
    fn lb(&self) -> String {
        match &self.nodes[0].spec.daemon {
            crate::lab::Daemon::Lb { binary, .. } => binary.display().to_string(),
            _ => "lb".to_owned(),
        }
    }

    /// Who owns the VIP and which nginx answers. Returns owner and backup.
    fn at_rest(&self, prober: &LoadProber) -> Result<(Node, Node), PlayError> {
        self.narrator.scene("Who serves");
        let owner = self.lab.wait_until_ready()?;
        let other = self.other(&owner);
        let others = self.answerers()?;
        self.claim(
            &format!("{} owns the VIP and alone answers ARP for it", owner.name()),
            owner.name() == "node-a" && others == [owner.name()],
            || format!("owner {}, answered by {others:?}", owner.name()),
        )?;
        prober.wait_for_answer(TAKEOVER_WITHIN)?;
        let start = Instant::now();
        self.narrator.during(&format!("asking every 2 ms for {} s", LOOK.as_secs()), |_| pause(LOOK))?;
        let report = prober.since(start);
        self.claim(&served(&report), report.failures() == 0 && report.answers() > 0, || failures(&report))?;
        let fair = self.nodes.iter().all(|node| report.share(node.name()) >= LEAST_SHARE);
        self.claim("both nginx get their share of the connections", fair, || shares(&report))?;
        Ok((owner, other))
    }

    /// The owner is frozen as `docker pause` does.
    fn freeze(&self, prober: &LoadProber, owner: &Node, other: &Node) -> Result<(), PlayError> {
        self.narrator
            .scene(&format!("{} freezes: every process in it is stopped, as by docker pause", owner.name()));
        let start = Instant::now();
        owner.freeze()?;
        let taken = format!("{} owns the VIP", other.name());
        self.narrator.during("waiting for the other to notice", |_| {
            wait_until(&taken, TAKEOVER_WITHIN, || {
                other.status().is_ok_and(|status| status.is_owner()).then_some(())
            })?;
            prober.wait_for_answer(TAKEOVER_WITHIN)
        })?;
        let report = prober.since(start);
        self.narrator.tick(&format!(
            "{taken} now; the longest time without an answer was {}",
            seconds(report.longest_gap)
        ));
        self.narrator.say(&format!(
            "  {} of {} requests failed, all within {} of the freeze",
            report.failures(),
            report.requests,
            seconds(report.failing_for)
        ));

        let after = Instant::now();
        let answers =
            self.narrator.during("asking by ARP who has the VIP", |_| arp::ask(&self.client, VIP, WATCH))?;
        let rounds = answers.rounds.len();
        self.claim(
            &format!("{rounds} of {rounds} ARP requests got one answer each, from {}", other.name()),
            other.mac().is_some_and(|mac| answers.always_only(mac)),
            || format!("answers were {}", self.name_rounds(&answers)),
        )?;
        let report = prober.since(after);
        let only = report.failures() == 0 && report.share(other.name()) >= 1.0;
        self.claim(&served(&report), only, || failures(&report))
    }

    /// The frozen node comes back.
    fn thaw(&self, prober: &LoadProber, owner: &Node, other: &Node) -> Result<(), PlayError> {
        self.narrator.scene(&format!("{} thaws", owner.name()));
        let start = Instant::now();
        owner.thaw()?;
        self.narrator.during("waiting until the pair is as it was", |_| {
            wait_until(&format!("{} owns the VIP again", owner.name()), RETURN_WITHIN, || {
                let settled = owner.status().is_ok_and(|s| s.is_owner() && s.all_backends_up())
                    && other.status().is_ok_and(|s| s.all_are("backup") && s.all_backends_up());
                settled.then_some(())
            })
        })?;
        self.narrator.during("watching", |_| pause(AFTERWARDS))?;
        let report = prober.since(start);
        self.claim(
            &format!(
                "the service went on: {} of {} requests since the thaw answered, longest pause {}",
                report.answers(),
                report.requests,
                seconds(report.longest_gap)
            ),
            report.failures() == 0 && report.longest_gap <= LONGEST_PAUSE,
            || failures(&report),
        )?;
        let answered_by = self.answerers()?;
        self.claim(
            &format!("{} owns the VIP again (its priority is higher), and it alone answers", owner.name()),
            answered_by == [owner.name()],
            || format!("answered by {answered_by:?}"),
        )?;
        let start = Instant::now();
        pause(LOOK)?;
        let report = prober.since(start);
        let both = self.nodes.iter().all(|node| report.share(node.name()) >= LEAST_SHARE);
        self.claim(&format!("both nginx serve: {}", shares(&report)), both, || failures(&report))
    }

    fn other(&self, node: &Node) -> Node {
        let [a, b] = &self.nodes;
        if node.name() == a.name() { b.clone() } else { a.clone() }
    }

    /// The names of the nodes that answer an ARP request for the VIP.
    fn answerers(&self) -> Result<Vec<String>, LabError> {
        Ok(arp::ask_once(&self.client, VIP)?.into_iter().map(|mac| self.name_of(mac)).collect())
    }

    fn name_of(&self, mac: crate::lab::MacAddress) -> String {
        self.lab.state().spec.node_of(mac).map_or_else(|| mac.to_string(), str::to_owned)
    }

    fn name_rounds(&self, report: &arp::ArpReport) -> String {
        let mut rounds: Vec<String> = report
            .rounds
            .iter()
            .map(|macs| macs.iter().map(|mac| self.name_of(*mac)).collect::<Vec<_>>().join("+"))
            .map(|names| if names.is_empty() { "none".to_owned() } else { names })
            .collect();
        rounds.dedup();
        rounds.join(", then ")
    }

    fn claim(&self, claim: &str, holds: bool, found: impl FnOnce() -> String) -> Result<(), PlayError> {
        if holds {
            self.narrator.tick(claim);
            return Ok(());
        }
        self.narrator.cross(claim);
        Err(PlayError::Claim { claim: claim.to_owned(), found: found(), logs: self.lab.log_tails(25) })
    }
}

fn served(report: &LoadReport) -> String {
    format!("{} of {} requests answered: {}", report.answers(), report.requests, shares(report))
}

fn shares(report: &LoadReport) -> String {
    let parts: Vec<String> = report
        .answered
        .iter()
        .map(|(node, count)| format!("{node} {count} ({:.0} %)", report.share(node) * 100.0))
        .collect();
    parts.join(", ")
}

fn failures(report: &LoadReport) -> String {
    let reasons: Vec<String> = report.failed.iter().map(|(why, count)| format!("{count} × {why}")).collect();
    format!(
        "{} of {} requests failed ({}), answers: {}, longest time without an answer {}",
        report.failures(),
        report.requests,
        reasons.join(", "),
        shares(report),
        seconds(report.longest_gap)
    )
}

fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.2} s", duration.as_secs_f64())
    }
}
