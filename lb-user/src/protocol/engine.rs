//! What the protocol thread does: commands, packets and timers in; adverts, leases and events out. It is the adapter that
//! keeps the rules at the head of [`vrrp::machine`](crate::vrrp::machine).

use std::{
    collections::VecDeque,
    net::IpAddr,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    channel::{Channel, Received},
    detector::Detector,
    messages::{Command, Event, FaultCause, Plan, Report, RouterKey, Trouble},
    queue::Sender,
    router::Router,
};
use crate::{
    dataplane::Leases,
    time::{Timestamp, UnixTime},
    vrrp::{Action, Input, State},
};

/// How long the control task may say nothing. It keeps what an owner must have beside its lease: the rings follow the
/// backends' health, the address is on the interface. Applying the largest configuration takes it some seconds.
const UNATTENDED_AFTER: Duration = Duration::from_secs(30);

/// More packets than a socket's buffer holds: all that waited when a turn began are read in it, and a flood does not
/// keep the turn from ending.
const PACKETS_PER_TURN: usize = 1_024;

/// The virtual routers of this node, on the thread that keeps their leases.
#[derive(Debug)]
pub(super) struct Engine {
    /// CLOCK_MONOTONIC, but for tests.
    clock: fn() -> Timestamp,
    leases: Leases,
    events: Sender<Event>,
    routers: Vec<Router>,
    channels: Vec<Channel>,
    detectors: Vec<Detector>,
    /// How many there were since the start.
    sessions_begun: u64,
    /// When the control task last said that it is alive, if it ever has.
    alive: Option<Timestamp>,
    /// It has said nothing for too long, and the virtual routers are in fault for that.
    unattended: bool,
    /// Every machine has been told to stop.
    stopping: bool,
    /// Virtual routers that stopped as owner and that nobody took over.
    alone: Vec<RouterKey>,
}

impl Engine {
    /// An engine without virtual routers.
    pub(super) fn new(leases: Leases, events: Sender<Event>, clock: fn() -> Timestamp) -> Self {
        Self {
            clock,
            leases,
            events,
            routers: Vec::new(),
            channels: Vec::new(),
            detectors: Vec::new(),
            sessions_begun: 0,
            alive: None,
            unattended: false,
            stopping: false,
            alone: Vec::new(),
        }
    }

    /// Does what the control task says.
    pub(super) fn command(&mut self, command: Command) {
        match command {
            // What is left to do is to hand over.
            Command::Configure { .. } | Command::Detect(_) | Command::Tell(..) if self.stopping => {}
            Command::Configure { routers, opened } => self.configure(routers, opened),
            Command::Detect(opened) => self.detect(opened),
            Command::Tell(key, input) => self.told(key, input),
            Command::Report => self.report(),
            Command::Alive => {
                self.alive = Some((self.clock)());
                self.attend(false);
            }
            Command::Stop => self.leave(),
        }
    }

    /// Everything that is due now: packets, then timeouts.
    pub(super) fn turn(&mut self) {
        self.receive();
        self.receive_bfd();
        // A lease is renewed before anybody looks at it.
        self.time_out_sessions();
        let now = (self.clock)();
        for index in 0..self.routers.len() {
            if self.routers[index].next_timeout().is_some_and(|at| at <= now) {
                self.input(index, Input::Timeout);
            }
        }
        if self.unattended_at().is_some_and(|at| at <= now) {
            self.attend(true);
        }
    }

    /// When the next turn is due, if no packet comes first.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let routers = self.routers.iter().filter_map(Router::next_timeout);
        let sessions = detection::next_timeout(&self.detectors);
        routers.chain(sessions).chain(self.unattended_at()).min()
    }

    /// Whether everything is handed over, or as good as. To be asked after each turn; it says so once.
    pub(super) fn has_ended(&mut self) -> bool {
        if !self.stopping || self.routers.iter().any(|router| router.machine.state() == State::Leaving) {
            return false;
        }
        self.events.send(Event::Ended { alone: std::mem::take(&mut self.alone) });
        true
    }

    /// Ready when a packet may wait.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        // Each is asked, so that each wakes.
        let channels = self.channels.iter().filter(|channel| channel.wire.poll_readable(context).is_ready());
        let channels = channels.count();
        let detectors = self.detectors.iter().filter(|place| place.wire.poll_readable(context).is_ready());
        if channels + detectors.count() > 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Engine {
    /// Virtual routers that say the same as before go on undisturbed, under the lease number of their new place; the
    /// others leave and come back.
    fn configure(&mut self, plans: Vec<Plan>, opened: Vec<Channel>) {
        for index in 0..self.routers.len() {
            if !plans.iter().any(|plan| plan.key == self.routers[index].key) {
                self.input(index, Input::Stop);
                // Its successor on this node needs its addresses and its lease.
                self.input(index, Input::FaultSet { hand_over: false });
            }
        }
        let mut before = std::mem::take(&mut self.routers);
        for plan in plans {
            let router = match before.iter().position(|router| router.key == plan.key) {
                Some(position) => Router { lease: plan.lease, ..before.swap_remove(position) },
                None => Router::new(plan),
            };
            self.routers.push(router);
        }
        for router in &self.routers {
            write_lease(&self.leases, &self.events, router, router.machine.lease_expiry());
        }
        self.exchange_channels(opened);
        self.choose_sessions();
    }

    fn exchange_channels(&mut self, opened: Vec<Channel>) {
        let mut retired = Vec::new();
        for channel in opened {
            match self.channels.iter_mut().find(|old| channel.replaces(old)) {
                Some(old) => retired.push(old.replace(channel)),
                None => self.channels.push(channel),
            }
        }
        let routers = &self.routers;
        retired.extend(
            self.channels
                .extract_if(.., |channel| !routers.iter().any(|router| channel.serves(&router.config))),
        );
        if !retired.is_empty() {
            self.events.send(Event::Retired(retired));
        }
    }

    fn told(&mut self, key: RouterKey, input: Input) {
        let Some(index) = self.routers.iter().position(|router| router.key == key) else { return };
        match input {
            Input::Start => self.routers[index].started = true,
            Input::FaultSet { .. } => self.routers[index].told_fault = true,
            Input::FaultCleared => {
                self.routers[index].told_fault = false;
                if self.unattended {
                    return;
                }
            }
            _ => {}
        }
        self.input(index, input);
    }

    fn report(&self) {
        let none = crate::vrrp::DecodeCounters::default();
        let report = |router: &Router| {
            let channel = self.channels.iter().find(|channel| channel.serves(&router.config));
            let detector = self.detectors.iter().find(|detector| detector.serves(&router.config));
            let sessions = detector.map(|detector| detector.report(router.config.peers()));
            router.report(channel.map_or(none, |channel| channel.unattributed), sessions.unwrap_or_default())
        };
        self.events.send(Event::Report(Report { routers: self.routers.iter().map(report).collect() }));
    }

    fn unattended_at(&self) -> Option<Timestamp> {
        self.alive.filter(|_| !self.unattended).map(|alive| alive + UNATTENDED_AFTER)
    }

    /// A node whose control task hangs owns nothing; it takes part again once the task is back.
    fn attend(&mut self, unattended: bool) {
        if std::mem::replace(&mut self.unattended, unattended) == unattended || self.stopping {
            return;
        }
        for index in 0..self.routers.len() {
            if !self.routers[index].told_fault {
                let fault = Input::FaultSet { hand_over: false };
                self.input(index, if unattended { fault } else { Input::FaultCleared });
            }
        }
    }

    /// Make before break: the machines that own VIPs answer for them until another does, or a bound passes.
    fn leave(&mut self) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        self.alone.clear();
        for index in 0..self.routers.len() {
            self.input(index, Input::Stop);
        }
        self.stop_sessions();
    }

    /// Feeds every waiting packet to its state machine. Called before any timeout is (vrrp::machine, rule 2): a node that
    /// was frozen hears who owns the VIPs now before it decides anything.
    fn receive(&mut self) {
        for channel in 0..self.channels.len() {
            for _ in 0..PACKETS_PER_TURN {
                match self.channels[channel].receive(&mut self.routers, (self.clock)()) {
                    Received::Nothing => break,
                    Received::Rejected(trouble) => trouble.into_iter().for_each(|t| self.trouble(t)),
                    Received::Advert { index, advert, source } => {
                        if self.routers[index].meet(source) {
                            self.events.send(Event::Met { node: source });
                        }
                        if self.routers[index].started {
                            self.input(index, Input::AdvertReceived { advert, source });
                        }
                    }
                }
            }
        }
    }

    /// Hands an input to a state machine and performs what it asks for.
    fn input(&mut self, index: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = (self.clock)();
            let actions = self.routers[index].machine.handle(now, input);
            let router = &self.routers[index];
            write_lease(&self.leases, &self.events, router, router.machine.lease_expiry());
            for action in actions {
                if let Action::SendAdvert { priority, not_after } = action {
                    let sent = self.send_advert(index, priority, not_after);
                    inputs.extend(sent.map(|sent| Input::AdvertSent { sent }));
                } else if let Action::HandedOver { successor: None } = action {
                    self.alone.push(self.routers[index].key);
                } else if let Some(event) = self.event(&self.routers[index], action, now) {
                    self.events.send(event);
                }
            }
        }
    }

    fn event(&self, router: &Router, action: Action, now: Timestamp) -> Option<Event> {
        let key = router.key;
        Some(match action {
            // The control task knows it as owner until it is something else.
            Action::SendAdvert { .. } | Action::HandOver => return None,
            Action::StayOwner => Event::Kept { router: key },
            Action::HandedOver { successor } => Event::HandedOver { router: key, source: successor? },
            Action::BecomeOwner => Event::BecameOwner { router: key, reason: router.owner_reason(now) },
            Action::BecomeBackup { reason } => Event::BecameBackup { router: key, reason },
            Action::EnterFault => {
                let cause = if self.unattended && !router.told_fault {
                    FaultCause::Unattended
                } else {
                    FaultCause::Told
                };
                Event::EnteredFault { router: key, cause }
            }
            Action::Stop => Event::Stopped { router: key },
            Action::AnnounceAddresses => Event::Announce { router: key },
            Action::RefreshAddresses => Event::Refresh { router: key },
        })
    }

    /// Sends an advert to every peer, or to the group; the moment before the first sending if each succeeded.
    fn send_advert(&mut self, index: usize, priority: u8, not_after: Timestamp) -> Option<Timestamp> {
        let router = &mut self.routers[index];
        let channel = self.channels.iter().find(|channel| channel.serves(&router.config))?;
        let failed = |router: &mut Router, error: String| {
            router.send_errors += 1;
            if router.send_errors.is_power_of_two() {
                let trouble = Trouble::NotSent { router: router.key, count: router.send_errors, error };
                self.events.send(Event::Trouble(trouble));
            }
        };
        let source = router.endpoint.acceptance().source;
        let destinations: Vec<IpAddr> = router.endpoint.acceptance().destinations().collect();
        let mut messages = Vec::with_capacity(destinations.len());
        for destination in destinations {
            match router.endpoint.encode(priority, destination, UnixTime::now()) {
                Ok(message) => messages.push((destination, message)),
                Err(error) => {
                    failed(router, error.to_string());
                    return None;
                }
            }
        }
        let before = (self.clock)();
        if before > not_after {
            return None;
        }
        let mut all = true;
        for (destination, message) in messages {
            if let Err(error) = channel.wire.send(source, destination, &message) {
                all = false;
                failed(router, error.to_string());
            }
        }
        router.adverts_sent += u64::from(all);
        all.then_some(before)
    }

    fn trouble(&self, trouble: Trouble) {
        self.events.send(Event::Trouble(trouble));
    }
}

fn write_lease(leases: &Leases, events: &Sender<Event>, router: &Router, expiry: u64) {
    if let Err(error) = leases.set(router.lease, expiry) {
        let (router, error) = (router.key, error.to_string());
        events.send(Event::Trouble(Trouble::LeaseNotWritten { router, error }));
    }
}

mod detection;
#[cfg(test)]
pub(super) mod tests;
