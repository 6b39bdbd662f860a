//! The control task: events in, desired state out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use lb_common::{LEASE_BACKUP, LEASE_FOREVER, limits};
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use super::{
    addresses::Addresses,
    apply::ROUTES_REFRESH,
    channels::OpenChannel,
    desired::{BACKEND_LEASE, STANDALONE_LEASE},
    detectors::OpenDetectors,
    forwarding::Forwarding,
    health::Health,
    orders::{Order, Orders},
    router::Router,
    routes::KnownRoutes,
    rules::KnownRules,
    start::RunError,
    trackers::Trackers,
    world::{Change, World},
};
use crate::{
    api::{Call, Request, Response},
    config::{Config, Parsed},
    dataplane::{Attachment, Dataplane, DataplaneError},
    guardian,
    health::{Checker, HealthEvent},
    net::{
        Announcer, NeighbourKeeper, NetEvent, Netlink, NetlinkError, OwnRoutes, OwnRules, REFRESH,
        SysctlGuard, TagOffload, VrrpSocketError,
    },
    notify::Notifier,
    protocol::{Command, Link, RouterKey},
    time::Timestamp,
    track::{Runner, TrackEvent, WatchEvent, Watcher, Witness, WitnessEvent, Witnesses},
};

/// When something could not be applied, it is tried again after this long.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// How often the protocol thread is told that the control task is alive.
const ALIVE: Duration = Duration::from_secs(1);

/// How long a starting daemon waits for what it must know before it takes packets: a backend or a peer that is
/// away never answers.
const KNOWLEDGE: Duration = Duration::from_millis(1_500);

/// Of routes that could not be found so many are told.
const MOST_FAILURES: usize = 10;

/// Why a node cannot do what its configuration says.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data plane refuses.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// Adverts cannot be sent or received.
    #[error(transparent)]
    Socket(#[from] VrrpSocketError),
}

/// How many backend identifiers the maps get: twice as many as there are backends, since those that were replaced keep
/// theirs until nothing names them any more, and room for what a reload may add.
pub(super) fn room_for_backends(config: &Config) -> u32 {
    let backends: usize = config.services.iter().map(|service| service.backends.len()).sum();
    let wanted = u32::try_from(backends).unwrap_or(u32::MAX).saturating_mul(2).checked_next_power_of_two();
    wanted.unwrap_or(u32::MAX).clamp(limits::BACKENDS, 2 * limits::MOST_BACKENDS)
}

/// What a signal to the process asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Hand over and end.
    Stop,
    /// Read the configuration again.
    Reload,
}

/// Everything the control task hears of.
#[derive(Debug)]
pub(super) struct Inputs {
    /// From the kernel's network stack.
    pub(super) net: mpsc::Receiver<Result<NetEvent, NetlinkError>>,
    /// Probe results.
    pub(super) health: mpsc::Receiver<HealthEvent>,
    /// Track script results.
    pub(super) track: mpsc::Receiver<TrackEvent>,
    /// Changes of tracked processes and files.
    pub(super) watch: mpsc::Receiver<WatchEvent>,
    /// Witnesses that answer, or no longer do.
    pub(super) witness: mpsc::Receiver<WitnessEvent>,
    /// From the control socket.
    pub(super) calls: mpsc::Receiver<Call>,
}

/// The edges the control task works on.
pub(super) struct Edges {
    /// Maps and attachments.
    pub(super) dataplane: Box<dyn Dataplane>,
    /// Links and addresses.
    pub(super) netlink: Netlink,
    /// The routes that this daemon makes.
    pub(super) own_routes: OwnRoutes,
    /// The policy rules that this daemon makes.
    pub(super) own_rules: OwnRules,
    /// Keeps next hops resolved.
    pub(super) neighbours: NeighbourKeeper,
    /// Sends gratuitous ARP and neighbour advertisements.
    pub(super) announcer: Announcer,
    /// Probes backends.
    pub(super) checker: Checker,
    /// Runs track scripts.
    pub(super) runner: Runner,
    /// Watches tracked processes and files.
    pub(super) watcher: Watcher,
    /// Asks the witnesses.
    pub(super) witnesses: Witnesses,
    /// Tells others of changes of state.
    pub(super) notifier: Notifier,
    /// Keeps the process that outlives this one; none before the start and once there is nothing left to do.
    pub(super) guardian: Option<guardian::Keeper>,
    /// Owns the machines of the virtual routers and their leases.
    pub(super) protocol: Link,
}

/// An interface the program is attached to.
#[derive(Debug)]
pub(super) struct Attached {
    /// The index it had then.
    pub(super) index: u32,
    pub(super) attachment: Attachment,
}

/// The state of the node; owned by one task.
pub(super) struct Controller {
    /// One configuration, in files.
    pub(super) config_paths: Vec<PathBuf>,
    pub(super) config: Config,
    pub(super) started: Timestamp,
    pub(super) edges: Edges,
    pub(super) world: World,
    pub(super) health: Health,
    pub(super) trackers: Trackers,
    pub(super) orders: Orders,
    /// Those that do not answer.
    pub(super) silent_witnesses: BTreeSet<Witness>,
    pub(super) routers: Vec<Router>,
    /// What the protocol thread has open.
    pub(super) channels: Vec<OpenChannel>,
    pub(super) detectors: OpenDetectors,
    /// Of the virtual router that was configured last.
    pub(super) next_key: RouterKey,
    pub(super) forwarding: Forwarding,
    pub(super) addresses: Addresses,
    pub(super) own_routes: KnownRoutes,
    /// Which policy rules are there.
    pub(super) own_rules: KnownRules,
    /// The interfaces of virtual MAC addresses that are there.
    pub(super) virtual_macs: BTreeSet<String>,
    pub(super) attachments: BTreeMap<String, Attached>,
    /// What could not be done, by what it was; cleared when it works.
    pub(super) problems: BTreeMap<String, String>,
    pub(super) sysctls: Vec<SysctlGuard>,
    /// Attached interfaces that carry VLAN interfaces, by name, and what was changed so that they leave the tags on.
    pub(super) tagged: BTreeMap<String, Option<TagOffload>>,
    /// How far asking for routes is.
    pub(super) routes: RouteRound,
    pub(super) dirty: bool,
    /// Somebody took an address away that this daemon put there.
    pub(super) taken: bool,
    pub(super) retry_at: Option<Timestamp>,
    alive_at: Timestamp,
    refresh_at: Timestamp,
    routes_at: Timestamp,
}

/// A round through all destinations, asking for the way to each.
#[derive(Debug, Default)]
pub(super) struct RouteRound {
    /// Something changed since the last round began.
    pub(super) stale: bool,
    /// The destinations left in this round.
    pub(super) left: Vec<IpAddr>,
    /// What went wrong in this round.
    pub(super) failures: Vec<String>,
}

impl RouteRound {
    /// Notes what went wrong, the first few of it.
    pub(super) fn fail(&mut self, failure: Option<String>) {
        if self.failures.len() < MOST_FAILURES {
            self.failures.extend(failure);
        }
    }

    /// Whether there is more to ask.
    fn is_due(&self) -> bool {
        self.stale || !self.left.is_empty()
    }
}

impl Controller {
    /// The control task of a node whose data plane is loaded and empty. Nothing is applied yet.
    pub(super) fn new(config_paths: Vec<PathBuf>, parsed: Parsed, edges: Edges, world: World) -> Self {
        let mut controller = Self {
            config_paths,
            started: Timestamp::now(),
            edges,
            world,
            health: Health::default(),
            trackers: Trackers::default(),
            orders: Orders::default(),
            silent_witnesses: BTreeSet::new(),
            routers: Vec::new(),
            channels: Vec::new(),
            detectors: OpenDetectors::new(),
            next_key: RouterKey(0),
            forwarding: Forwarding::new(room_for_backends(&parsed.config)),
            config: parsed.config,
            addresses: Addresses::default(),
            own_routes: KnownRoutes::default(),
            own_rules: KnownRules::default(),
            virtual_macs: BTreeSet::new(),
            attachments: BTreeMap::new(),
            problems: BTreeMap::new(),
            sysctls: Vec::new(),
            tagged: BTreeMap::new(),
            routes: RouteRound::default(),
            dirty: true,
            taken: false,
            retry_at: None,
            alive_at: Timestamp::now(),
            refresh_at: Timestamp::now() + REFRESH,
            routes_at: Timestamp::now() + ROUTES_REFRESH,
        };
        controller.adopt_addresses();
        controller
    }

    /// Where the control socket is.
    pub(super) fn runtime_dir(&self) -> &std::path::Path {
        &self.config.daemon.runtime_dir
    }

    /// Takes its part in the network: maps, attachments, sockets, checks. An error here means this node
    /// cannot do what the configuration says; nothing has been claimed yet.
    pub(super) async fn start(&mut self, inputs: &mut Inputs) -> Result<(), StartError> {
        let now = Timestamp::now();
        let leases = self.edges.dataplane.leases();
        leases.set(STANDALONE_LEASE, LEASE_FOREVER)?;
        leases.set(BACKEND_LEASE, LEASE_BACKUP)?;
        self.configure(now)?;
        self.learn(inputs).await;
        // The maps are filled and the guard is in place before any address that it guards is added.
        self.apply_forwarding(Timestamp::now());
        self.attach_missing()?;
        self.set_sysctls();
        self.reconcile().await;
        self.notify_of_health();
        self.track();
        Ok(())
    }

    /// Runs until `stop` says so, then hands the VIPs over and takes everything back.
    pub(super) async fn run(
        &mut self,
        mut inputs: Inputs,
        mut stop: mpsc::Receiver<Signal>,
    ) -> Result<(), RunError> {
        let mut outcome = Ok(());
        loop {
            let sleep = self.sleep();
            tokio::select! {
                signal = stop.recv() => match signal {
                    Some(Signal::Reload) => match self.reload().await {
                        Ok(message) => info!("{message}"),
                        Err(message) => error!("reload refused, the running configuration stays: {message}"),
                    },
                    Some(Signal::Stop) | None => break,
                },
                event = self.edges.protocol.event() => {
                    let Some(event) = event else {
                        outcome = Err(RunError::ProtocolThread);
                        break;
                    };
                    self.protocol_event(&event);
                }
                Some(event) = inputs.net.recv() => if !self.net_result(event) { break },
                Some(event) = inputs.health.recv() => {
                    let mut changed = self.health.event(&event);
                    // A turn may be long, and results come fast: those that wait are taken with this one.
                    while let Ok(event) = inputs.health.try_recv() {
                        changed |= self.health.event(&event);
                    }
                    if changed {
                        self.dirty = true;
                        self.track();
                    }
                }
                Some(event) = inputs.track.recv() => {
                    if self.trackers.script_event(&event) {
                        self.track();
                    }
                }
                Some(event) = inputs.watch.recv() => {
                    if self.trackers.watch_event(event) {
                        self.track();
                    }
                }
                Some(event) = inputs.witness.recv() => self.witness_event(event),
                Some(call) = inputs.calls.recv() => self.answer(call).await,
                () = tokio::time::sleep(sleep) => {}
            }
            self.turn().await;
        }
        self.stop(&mut stop).await;
        outcome
    }

    /// Everything that is due now; the reconciler last.
    async fn turn(&mut self) {
        let now = Timestamp::now();
        if self.alive_at <= now {
            self.alive_at = now + ALIVE;
            self.edges.protocol.send(Command::Alive);
        }
        for index in 0..self.routers.len() {
            self.announce(index, now);
            self.dirty |= self.routers[index].forget_ownership(now);
        }
        self.put_back().await;
        if self.refresh_at <= now {
            self.refresh_at = now + REFRESH;
            self.refresh().await;
        }
        if self.routes_at <= now {
            self.routes_at = now + ROUTES_REFRESH;
            self.routes.stale = true;
        }
        self.find_some_routes().await;
        self.settle(now);
        self.orders.give_up(now, &self.routers);
        self.dirty |= self.health.give_up_leaving(now);
        let retry = self.retry_at.is_some_and(|at| at <= now);
        if self.dirty || retry {
            self.reconcile().await;
            self.notify_of_health();
        }
    }

    /// Waits, for a bounded time, until the directors are known and every backend has been asked once. Another
    /// director may steer packets here from the first moment on, and a program that knows neither would drop them;
    /// until then the program of an earlier run, if there is one, goes on.
    async fn learn(&mut self, inputs: &mut Inputs) {
        let deadline = Timestamp::now() + KNOWLEDGE;
        self.find_routes().await;
        loop {
            let left = deadline.since(Timestamp::now());
            if left.is_zero() || (self.health.all_known() && self.directors_known()) {
                return;
            }
            tokio::select! {
                Some(event) = inputs.net.recv() => {
                    if !self.net_result(event) {
                        return;
                    }
                    self.follow_paths();
                }
                Some(event) = inputs.health.recv() => { self.health.event(&event); }
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    fn directors_known(&self) -> bool {
        self.config
            .virtual_routers
            .iter()
            .all(|router| router.peers().iter().all(|peer| self.world.neighbour(*peer).is_some()))
    }

    /// Takes what was heard from the kernel's network; `false` when nothing will be heard any more.
    fn net_result(&mut self, event: Result<NetEvent, NetlinkError>) -> bool {
        match event {
            Ok(event) => {
                self.net_event(event);
                true
            }
            Err(error) => {
                error!("changes of the network can no longer be followed: {error}");
                false
            }
        }
    }

    pub(super) fn net_event(&mut self, event: NetEvent) {
        match self.world.event(event) {
            Change::Nothing => return,
            Change::Desired => {}
            Change::Routes => {
                self.routes.stale = true;
                return;
            }
            Change::OwnRouteGone => {
                self.routes.stale = true;
                self.own_routes.look_again();
                self.own_rules.look_again();
            }
            Change::Network => self.network_changed(),
            Change::AddressGone { interface, address } => {
                if self.addresses.forget(&(interface.clone(), address)) {
                    warn!(%interface, %address, "somebody removed a VIP; it comes back if this node owns it");
                    self.address_taken(address.addr());
                }
                self.network_changed();
            }
        }
        self.dirty = true;
    }

    fn network_changed(&mut self) {
        self.routes.stale = true;
        self.own_routes.look_again();
        self.own_rules.look_again();
        self.forget_lost_macs();
        // An interface that went, and perhaps came back under another index, lost its program and addresses.
        let gone: Vec<String> = self
            .attachments
            .iter()
            .filter(|(name, attached)| {
                self.world.link_named(name).map(|link| link.index) != Some(attached.index)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.attachments.remove(&name);
            self.tagged.remove(&name);
        }
        self.addresses.retain(|interface, address| self.world.has_address(interface, address));
        self.reopen_channels();
        self.open_detectors();
        self.track();
    }

    async fn answer(&mut self, call: Call) {
        if matches!(call.request, Request::Status | Request::Explain(_)) {
            self.inquire().await;
        }
        let response = match call.request {
            Request::Status => Response::Status(Box::new(self.status())),
            Request::Explain(packet) => match self.explain(&packet) {
                Ok(explanation) => Response::Explanation(Box::new(explanation)),
                Err(message) => Response::Error { message },
            },
            Request::Reload => match self.reload().await {
                Ok(message) => Response::Done { message },
                Err(message) => Response::Error { message },
            },
            // Answered once it is known what came of it.
            Request::Release { router } => {
                return self.order(Order::Release, router.as_deref(), call.answer);
            }
            Request::Claim { router } => return self.order(Order::Claim, Some(&router), call.answer),
        };
        if call.answer.send(response).is_err() {
            debug!("control socket: client gone before its answer");
        }
    }

    /// How long nothing is due.
    fn sleep(&self) -> Duration {
        if self.routes.is_due() {
            return Duration::ZERO;
        }
        let now = Timestamp::now();
        let due = self
            .routers
            .iter()
            .flat_map(|router| [router.next_announcement(), router.was_owner_until()])
            .flatten()
            .chain(self.retry_at)
            .chain(self.orders.next_timeout())
            .chain(self.health.next_timeout())
            .chain(self.forwarding.next_settling());
        // Invariant: the last two make it never empty.
        due.chain([self.refresh_at, self.alive_at]).min().map_or(Duration::ZERO, |at| at.since(now))
    }
}
