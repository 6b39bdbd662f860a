//! Building the control task with its edges, in the order that leaves nothing behind when a step fails.

use std::{collections::BTreeSet, path::PathBuf};

use nix::unistd::Uid;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tracing::{info, warn};

use super::{
    apply::{carriers, wanted_mode},
    controller::{Controller, Edges, Inputs, Signal, StartError, room_for_backends},
    world::World,
};
use crate::{
    api::{Server, ServerError},
    config::{self, ConfigErrors, HostFacts, PacketLog, Parsed},
    dataplane::{Dataplane as _, DataplaneError, LoadOptions, Program, XdpDataplane, spawn_packet_log},
    guardian,
    health::Checker,
    net::{
        AnnounceError, Announcer, NeighbourKeeper, NetEvent, Netlink, NetlinkError, OwnRoutes, OwnRules,
        follow,
    },
    node_lock::{NodeLock, NodeLockError},
    notify::Notifier,
    protocol::{self, Grant, Scheduling},
    track::{Runner, Watcher, Witnesses},
};

/// Results that may wait for the control task before their senders wait for it.
const QUEUE: usize = 256;

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong, or wrong for this node.
    #[error("{0}")]
    Config(ConfigErrors),
    /// Another daemon runs here.
    #[error(transparent)]
    Locked(#[from] NodeLockError),
    /// The kernel's network cannot be used.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// VIPs cannot be announced.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    /// The data plane or a socket refuses.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The thread that keeps the leases has ended, by a fault of lb.
    #[error("the protocol thread has ended unexpectedly")]
    ProtocolThread,
    /// The control socket cannot be made.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The process cannot be set up.
    #[error("{what}: {source}")]
    Process {
        /// What was attempted.
        what: &'static str,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
}

impl From<DataplaneError> for RunError {
    fn from(error: DataplaneError) -> Self {
        Self::Start(error.into())
    }
}

impl RunError {
    /// Whether a right is missing.
    pub fn is_rights(&self) -> bool {
        matches!(self, Self::Start(StartError::Dataplane(DataplaneError::Rights { .. })))
    }
}

/// What the kernel says about this node, for `Parsed::check_host`.
pub async fn host_facts(netlink: &Netlink) -> Result<HostFacts, NetlinkError> {
    let mut world = World::default();
    world.event(NetEvent::Resync(netlink.snapshot().await?));
    Ok(world.host_facts())
}

/// Runs the daemon, which the files together configure, until a signal ends it. `json_log`: its guardian is to log as JSON too.
pub async fn run(config_paths: &[PathBuf], json_log: bool) -> Result<(), RunError> {
    let parsed = config::load_all(config_paths).map_err(RunError::Config)?;
    for warning in &parsed.warnings {
        warn!("{warning}");
    }
    let _lock = NodeLock::take()?;
    let predecessor = guardian::Predecessor::find();
    let signals = signals()?;
    let netlink = Netlink::open()?;
    let mut world = World::default();
    world.event(NetEvent::Resync(netlink.snapshot().await?));
    parsed.check_host(&world.host_facts()).map_err(RunError::Config)?;
    if !Uid::effective().is_root() {
        info!("not root: relying on capabilities");
    }
    // The programs take a second or two, longer than an earlier daemon's guardian needs to finish.
    let dataplane = load(&parsed, &world)?;
    predecessor.ended().await;
    world.event(NetEvent::Resync(netlink.snapshot().await?));
    let leases = dataplane
        .leases()
        .descriptor()
        .map_err(|source| RunError::Process { what: "lending LEASES to the guardian", source })?;
    let (mut controller, inputs) = build(config_paths.to_owned(), parsed, &netlink, world, dataplane)?;
    let (calls, receiver) = mpsc::channel(QUEUE);
    let _server = Server::start(controller.runtime_dir(), calls)?;
    let mut inputs = Inputs { calls: receiver, ..inputs };
    controller.edges.guardian = Some(guardian::Keeper::start(leases, json_log));
    if let Err(error) = controller.start(&mut inputs).await {
        controller.withdraw().await;
        return Err(error.into());
    }
    info!(config = %controller.config_files(), "running");
    controller.run(inputs, signals).await
}

fn load(parsed: &Parsed, world: &World) -> Result<XdpDataplane, RunError> {
    let config::Daemon { pin_dir, packet_log, .. } = parsed.config.daemon.clone();
    let backends = room_for_backends(&parsed.config);
    let first_choice = |name: &String| Program::first_choice(name, wanted_mode(&parsed.config, world, name));
    let programs: BTreeSet<Program> = carriers(&parsed.config, world).iter().map(first_choice).collect();
    let options = LoadOptions {
        packet_log,
        backends,
        programs: programs.into_iter().collect(),
        explain: true,
        ..LoadOptions::new(pin_dir)
    };
    let mut dataplane = XdpDataplane::load(options)?;
    if packet_log != PacketLog::Off {
        spawn_packet_log(&mut dataplane)?;
    }
    Ok(dataplane)
}

fn build(
    config_paths: Vec<PathBuf>,
    parsed: Parsed,
    netlink: &Netlink,
    world: World,
    dataplane: XdpDataplane,
) -> Result<(Controller, Inputs), RunError> {
    let (health_sender, health) = mpsc::channel(QUEUE);
    let (track_sender, track) = mpsc::channel(QUEUE);
    let (watch_sender, watch) = mpsc::channel(QUEUE);
    let (witness_sender, witness) = mpsc::channel(QUEUE);
    let (_, calls) = mpsc::channel(1);
    let leases = dataplane.leases();
    let edges = Edges {
        dataplane: Box::new(dataplane),
        neighbours: NeighbourKeeper::new(netlink.clone()),
        announcer: Announcer::open()?,
        checker: Checker::new(health_sender)
            .map_err(|source| RunError::Process { what: "starting the thread of check commands", source })?,
        runner: Runner::new(track_sender)
            .map_err(|source| RunError::Process { what: "starting the thread of track scripts", source })?,
        watcher: Watcher::new(watch_sender).map_err(|source| RunError::Process {
            what: "starting the thread that watches processes and files",
            source,
        })?,
        witnesses: Witnesses::new(witness_sender),
        notifier: Notifier::new(parsed.config.daemon.notify_fifo.as_deref())
            .map_err(|source| RunError::Process { what: "starting the thread of notify commands", source })?,
        netlink: netlink.clone(),
        own_routes: OwnRoutes::open()?,
        own_rules: OwnRules::new(netlink.clone()),
        guardian: None,
        protocol: protocol::start(leases, parsed.config.daemon.realtime)
            .map_err(|source| RunError::Process { what: "starting the protocol thread", source })?,
    };
    report(edges.protocol.scheduling());
    // A socket of its own: the kernel lists one thing at a time on each, and a resync may come at any moment.
    let inputs = Inputs { net: follow(&Netlink::open()?)?, health, track, watch, witness, calls };
    Ok((Controller::new(config_paths, parsed, edges, world), inputs))
}

fn report(scheduling: &Scheduling) {
    let refused = |what, grant: &Grant| {
        if let Grant::Refused(why) = grant {
            warn!("{what} was refused, so adverts may be late on a busy machine: {why}");
        }
    };
    refused("the real-time class of the protocol thread", &scheduling.realtime);
    refused("locking memory", &scheduling.memory);
}

fn signals() -> Result<mpsc::Receiver<Signal>, RunError> {
    let (sender, receiver) = mpsc::channel(8);
    let wanted = [
        (SignalKind::terminate(), Signal::Stop),
        (SignalKind::interrupt(), Signal::Stop),
        (SignalKind::hangup(), Signal::Reload),
    ];
    for (kind, meaning) in wanted {
        let mut stream =
            signal(kind).map_err(|source| RunError::Process { what: "listening for signals", source })?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if sender.send(meaning).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}
