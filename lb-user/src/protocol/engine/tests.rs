//! The engine with wires in memory and a clock that stands still until it is moved.

use std::{
    cell::Cell,
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

use lb_common::LEASE_BACKUP;

use super::*;
use crate::{
    config::{Config, Transport, VirtualRouter, VrrpVersion},
    net::VrrpSocketError,
    protocol::{
        channel::{Wire, place},
        messages::OwnerReason,
        queue::{Receiver, queue},
    },
    vrrp::{
        Acceptance, BackupReason, Datagram, Endpoint,
        timers::{LEAVING_LEASE, leaving_bound},
    },
};

const NODE_B: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 20, 128, 3));
const KEY: RouterKey = RouterKey(7);
const SECOND: Duration = Duration::from_secs(1);

thread_local! {
    static NOW: Cell<Timestamp> = const { Cell::new(Timestamp(0)) };
}

fn clock() -> Timestamp {
    NOW.get()
}

/// What goes over a wire, as the other end of it.
#[derive(Clone, Debug, Default)]
pub(in crate::protocol) struct Cable {
    to_node: Arc<Mutex<VecDeque<Datagram>>>,
    /// When, to whom and with which priority.
    pub(in crate::protocol) from_node: Arc<Mutex<Vec<(Timestamp, IpAddr, u8)>>>,
    is_cut: Arc<Mutex<bool>>,
    clock: Option<fn() -> Timestamp>,
}

impl Cable {
    fn receive(&self, priority: u8) {
        let mut theirs = config();
        let destination = theirs.source();
        theirs.transport = Transport::Unicast { source: NODE_B, peers: vec![destination], min_ttl: 255 };
        let mut endpoint = Endpoint::new(Acceptance::from(&theirs));
        let payload = endpoint.encode(priority, destination, UnixTime::now()).unwrap();
        let datagram = Datagram { source: NODE_B, destination, ttl: 255, payload };
        self.to_node.lock().unwrap().push_back(datagram);
    }

    /// The priorities sent since it was asked last.
    fn sent(&self) -> Vec<u8> {
        let sent = std::mem::take(&mut *self.from_node.lock().unwrap());
        assert!(sent.iter().all(|(_, to, _)| *to == NODE_B), "{sent:?}");
        sent.into_iter().map(|(.., priority)| priority).collect()
    }
}

impl Wire for Cable {
    fn try_recv(&self) -> Result<Option<Datagram>, VrrpSocketError> {
        Ok(self.to_node.lock().unwrap().pop_front())
    }

    fn send(
        &self,
        source_address: IpAddr,
        destination: IpAddr,
        payload: &[u8],
    ) -> Result<(), VrrpSocketError> {
        if *self.is_cut.lock().unwrap() {
            let error = std::io::Error::from_raw_os_error(libc::ENETDOWN);
            let interface = "eth0".to_owned();
            return Err(VrrpSocketError::Send { interface, source_address, destination, error });
        }
        // The priority is the third byte in every version (RFC 3768 §5.1).
        let now = self.clock.unwrap_or(clock)();
        self.from_node.lock().unwrap().push((now, destination, payload[2]));
        Ok(())
    }

    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

pub(in crate::protocol) fn config() -> VirtualRouter {
    let text = include_str!("../../../../configs/tutorial-a.toml");
    let router = Config::parse("tutorial-a.toml", text).unwrap().virtual_routers.remove(0);
    // Each event a test sees has a reason of its own.
    VirtualRouter { announce_refresh: None, ..router }
}

/// The command that configures one virtual router with a cable that tells the time by `clock`.
pub(in crate::protocol) fn configure(cable: &Cable, clock: Option<fn() -> Timestamp>) -> Command {
    let config = config();
    let wire = Cable { clock, ..cable.clone() };
    let opened = vec![Channel::new(place(&config), wire)];
    Command::Configure { routers: vec![Plan { key: KEY, lease: 1, config }], opened }
}

pub(in crate::protocol) fn tell(input: Input) -> Command {
    Command::Tell(KEY, input)
}

struct Node {
    engine: Engine,
    events: Receiver<Event>,
    leases: Leases,
    cable: Cable,
}

impl Node {
    /// Started, and backup.
    fn backup() -> Self {
        NOW.set(Timestamp(1_000_000_000_000));
        let leases = Leases::default();
        let (sender, mailbox) = queue().unwrap();
        let mut engine = Engine::new(leases.clone(), sender, clock);
        let cable = Cable::default();
        engine.command(configure(&cable, None));
        engine.command(tell(Input::Start));
        let mut node = Self { engine, events: mailbox.open().unwrap(), leases, cable };
        let events = node.turn();
        assert!(
            matches!(events[..], [Event::BecameBackup { router: KEY, reason: BackupReason::Started }]),
            "{events:?}"
        );
        node
    }

    /// Owner, and its first advert noted.
    fn owner() -> Self {
        let mut node = Self::backup();
        let events = node.after(5 * SECOND);
        assert!(
            matches!(events[..], [Event::BecameOwner { router: KEY, reason: OwnerReason::Alone }]),
            "{events:?}"
        );
        assert_eq!(node.cable.sent(), [config().priority]);
        node
    }

    fn turn(&mut self) -> Vec<Event> {
        self.engine.turn();
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    fn command(&mut self, command: Command) -> Vec<Event> {
        self.engine.command(command);
        self.turn()
    }

    /// A turn after some time in which the node was not there.
    fn after(&mut self, time: Duration) -> Vec<Event> {
        NOW.set(clock() + time);
        self.turn()
    }

    fn lease(&self) -> Timestamp {
        Timestamp(self.leases.expiry(1).unwrap())
    }
}

#[tokio::test]
async fn claim_is_sent_and_the_lease_runs_from_the_moment_before() {
    let mut node = Node::owner();
    assert_eq!(node.lease(), clock() + Duration::from_millis(2_900));
    assert_eq!(node.engine.next_due(), Some(clock() + SECOND));
    assert!(node.after(SECOND).is_empty());
    assert_eq!(node.cable.sent(), [config().priority]);
    assert_eq!(node.lease(), clock() + Duration::from_millis(2_900));
}

#[tokio::test]
async fn packet_that_waits_is_read_before_a_timeout_decides() {
    let mut node = Node::backup();
    node.cable.receive(255 - 1);
    assert!(node.after(60 * SECOND).is_empty());
    assert_eq!((node.cable.sent(), node.lease()), (vec![], Timestamp(LEASE_BACKUP)));
}

#[tokio::test]
async fn reasons_of_an_owner_are_told_apart() {
    let mut node = Node::backup();
    node.cable.receive(config().priority);
    assert!(node.turn().is_empty());
    let events = node.after(5 * SECOND);
    assert!(
        matches!(events[..], [Event::BecameOwner { reason: OwnerReason::Silence(NODE_B), .. }]),
        "{events:?}"
    );

    let mut node = Node::backup();
    // It has listened for longer than a lease runs.
    node.after(Duration::from_millis(3_100));
    for priority in [config().priority, 0] {
        node.cable.receive(priority);
    }
    assert!(node.turn().is_empty());
    let events = node.after(SECOND);
    assert!(
        matches!(events[..], [Event::BecameOwner { reason: OwnerReason::Farewell(NODE_B), .. }]),
        "{events:?}"
    );
}

#[tokio::test]
async fn advert_that_cannot_be_sent_renews_nothing_and_is_told() {
    let mut node = Node::owner();
    let lease = node.lease();
    *node.cable.is_cut.lock().unwrap() = true;
    let events = node.after(SECOND);
    assert!(matches!(&events[..], [Event::Trouble(Trouble::NotSent { count: 1, .. })]), "{events:?}");
    assert_eq!(node.lease(), lease);
    let events = node.after(2 * SECOND);
    assert!(
        matches!(events[..], [Event::BecameBackup { reason: BackupReason::LeaseExpired, .. }]),
        "{events:?}"
    );
    assert_eq!(node.lease(), Timestamp(LEASE_BACKUP));
}

#[tokio::test]
async fn router_that_stays_goes_on_under_the_number_of_its_new_place() {
    let mut node = Node::owner();
    let routers = vec![Plan { key: KEY, lease: 3, config: config() }];
    assert!(node.command(Command::Configure { routers, opened: Vec::new() }).is_empty());
    assert!(node.cable.sent().is_empty());
    assert_eq!(node.leases.expiry(3), Some((clock() + Duration::from_millis(2_900)).0));
}

#[tokio::test]
async fn router_whose_vips_password_and_priority_change_stays_owner_and_says_so() {
    let mut node = Node::owner();
    let lease = node.lease();
    let before = config();
    let mut changed = VirtualRouter { priority: 150, preempt: false, password: None, ..before.clone() };
    changed.vips.push("172.20.128.5/24".parse().unwrap());
    assert!(before.continues_as(&changed));
    let routers = vec![Plan { key: KEY, lease: 1, config: changed.clone() }];
    assert!(node.command(Command::Configure { routers, opened: Vec::new() }).is_empty());
    assert_eq!((node.cable.sent(), node.lease()), (Vec::new(), lease));
    assert!(node.command(tell(Input::PriorityChanged(150))).is_empty());
    assert_eq!(node.cable.sent(), [150]);
    assert_eq!(node.engine.routers[0].endpoint.acceptance(), &(&changed).into());
    assert!(!node.engine.routers[0].machine.settings().preempt);
}

#[tokio::test]
async fn router_that_goes_says_farewell_and_its_channel_comes_back() {
    let mut node = Node::owner();
    let events = node.command(Command::Configure { routers: Vec::new(), opened: Vec::new() });
    assert!(
        matches!(&events[..], [Event::Stopped { router: KEY }, Event::Retired(channels)] if channels.len() == 1),
        "{events:?}"
    );
    assert_eq!((node.cable.sent(), node.lease()), (vec![0], Timestamp(LEASE_BACKUP)));
}

#[tokio::test]
async fn owner_has_its_addresses_announced_anew_as_often_as_configured() {
    let mut node = Node::owner();
    let config = VirtualRouter { announce_refresh: Some(SECOND), ..config() };
    node.engine.routers[0].machine = crate::vrrp::Machine::new((&config).into());
    node.command(tell(Input::Start));
    let mut refreshed = 0;
    for _ in 0..80 {
        let events = node.after(SECOND / 10);
        refreshed += events.iter().filter(|event| matches!(event, Event::Refresh { router: KEY })).count();
    }
    assert!((3..=5).contains(&refreshed), "{refreshed} in the four and a half seconds as owner");
}

#[tokio::test]
async fn channel_that_was_opened_again_takes_the_place_of_the_old_one() {
    let mut node = Node::owner();
    let new = Cable::default();
    let events = node.command(configure(&new, None));
    assert!(matches!(&events[..], [Event::Retired(channels)] if channels.len() == 1), "{events:?}");
    node.after(SECOND);
    assert_eq!((node.cable.sent(), new.sent()), (vec![], vec![config().priority]));
}

#[tokio::test]
async fn leaving_owner_serves_until_another_is_heard() {
    let mut node = Node::owner();
    assert!(node.command(Command::Stop).is_empty());
    assert_eq!(node.cable.sent(), [0]);
    assert!(!node.engine.has_ended() && node.lease() > clock());
    // A farewell is nobody's claim.
    node.cable.receive(0);
    for _ in 0..10 {
        assert!(node.after(LEAVING_LEASE / 2).is_empty());
    }
    assert!(!node.engine.has_ended() && node.lease() > clock());
    node.cable.receive(1);
    let events = node.turn();
    let over = [Event::HandedOver { router: KEY, source: NODE_B }, Event::Stopped { router: KEY }];
    assert_eq!(format!("{events:?}"), format!("{over:?}"));
    assert_eq!(node.lease(), Timestamp(LEASE_BACKUP));
    assert!(node.engine.has_ended());
    assert!(matches!(&node.turn()[..], [Event::Ended { alone }] if alone.is_empty()));
}

#[tokio::test]
async fn leaving_owner_ends_alone_after_a_bounded_time() {
    let mut node = Node::owner();
    node.command(Command::Stop);
    let bound = clock() + leaving_bound(VrrpVersion::V2, SECOND);
    while clock() < bound {
        assert!(!node.engine.has_ended() && node.lease() > clock());
        NOW.set(node.engine.next_due().unwrap());
        node.engine.turn();
    }
    assert!(node.engine.has_ended());
    let events = node.turn();
    assert!(
        matches!(&events[..], [Event::Stopped { .. }, Event::Ended { alone }] if alone[..] == [KEY]),
        "{events:?}"
    );
    assert_eq!(node.lease(), Timestamp(LEASE_BACKUP));
}

#[tokio::test]
async fn node_whose_control_task_hangs_gives_its_vips_up_until_it_is_back() {
    let mut node = Node::owner();
    assert!(node.command(Command::Alive).is_empty());
    let deadline = clock() + UNATTENDED_AFTER;
    let mut events = Vec::new();
    while clock() < deadline {
        assert!(events.is_empty(), "{events:?}");
        events = node.after(SECOND / 2);
    }
    assert!(matches!(events[..], [Event::EnteredFault { cause: FaultCause::Unattended, .. }]), "{events:?}");
    assert_eq!((node.cable.sent().last(), node.lease()), (Some(&0), Timestamp(LEASE_BACKUP)));
    // What tracking says meanwhile neither ends the fault nor is forgotten.
    assert!(node.command(tell(Input::FaultCleared)).is_empty());
    node.command(tell(Input::FaultSet { hand_over: false }));
    assert!(node.command(Command::Alive).is_empty());
    let events = node.command(tell(Input::FaultCleared));
    assert!(
        matches!(events[..], [Event::BecameBackup { reason: BackupReason::FaultCleared, .. }]),
        "{events:?}"
    );
}

#[tokio::test]
async fn report_says_how_things_stand() {
    let mut node = Node::owner();
    let destination = config().source();
    let datagram = Datagram { source: NODE_B, destination, ttl: 1, payload: Vec::new() };
    node.cable.to_node.lock().unwrap().push_back(datagram);
    let events = node.turn();
    assert!(matches!(&events[..], [Event::Trouble(Trouble::Rejected { count: 1, .. })]), "{events:?}");
    let events = node.command(Command::Report);
    let [Event::Report(Report { routers })] = &events[..] else { panic!("{events:?}") };
    let [router] = &routers[..] else { panic!("{routers:?}") };
    assert_eq!((router.router, router.state, router.lease), (KEY, State::Owner, node.lease()));
    assert_eq!((router.adverts_sent, router.send_errors, router.adverts_received), (1, 0, 0));
    assert_eq!(router.unattributed.iter().map(|(_, count)| count).sum::<u64>(), 1);
}
