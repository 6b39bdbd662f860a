//! The state machine of one session (RFC 5880 §6.8), and what its peer's patience means for the lease.
//!
//! It takes *now* and an [`Input`], changes its state and returns [`Action`]s. It never touches a socket, a clock or
//! a virtual router. The adapter's part of the contract:
//!
//! 1. After **every** [`Session::handle`], first hand [`Session::lease_cap`] (the least of all sessions) to the
//!    virtual routers with this peer, which write their leases, then perform the actions in their order. So a lease
//!    is short before the packet leaves that lets the peer rely on it.
//! 2. **Received packets before timeouts**, as in [`vrrp::machine`](crate::vrrp::machine): of BFD and of VRRP alike.
//! 3. [`Action::Send`]: read the clock, send; if that succeeded hand over [`Input::Sent`] with that moment. If it
//!    failed, count it and do no more.
//! 4. [`Action::PeerSilent`] and [`Action::PeerDoubts`] go to every virtual router with this peer.
//! 5. Call again at [`Session::next_timeout`].
//!
//! **The lease.** The peer may take this node for dead, and claim, only if its session is up, and it can be up only
//! once it was sent Init or Up. So from the first of those until a Down or AdminDown went out the lease is capped:
//! [`timers::lease_term`] after the last packet that was sent to the peer. A peer that is told Down in time does
//! not claim for that; one that the network keeps it from learns of nothing else either.
//!
//! So the death of a *peer* costs the owner nothing: it sends on and on, renews the cap with every packet, says Down
//! when its own detection time is over, and from then on only adverts bound its lease.
//!
//! **The question.** A session whose peer fell silent says Down at once, with the diagnostic that its detection time is
//! over. A peer that is alive hears that it is doubted ([`Action::PeerDoubts`]), and if it is owner it sends an advert
//! before a claim is due ([`timers::claim_delay`]): the claim is off. One that is alive and no longer owner, because it
//! was frozen for a moment longer than its lease, says nothing, and the claim goes on.
//!
//! **A late reader.** If the end of the detection time is noticed late by more than an interval, this node itself
//! stood still, perhaps with its network card. Then it waits for one more detection time before it believes it.

use std::{collections::VecDeque, time::Duration};

use super::{
    packet::{Diagnostic, Packet, SessionState},
    timers,
};
use crate::time::Timestamp;

/// Who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends from the start.
    Active,
    /// Sends nothing until it has heard the peer.
    Passive,
}

/// What a session must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This node's number of the session: not 0, and no other session's.
    pub discriminator: u32,
    /// The least time between packets in either direction while the session is up.
    pub interval: Duration,
    /// Of how many packets in a row the loss means that this node is gone; not 0.
    pub multiplier: u8,
    /// Who begins.
    pub role: Role,
    /// What the jitter is made of.
    pub seed: u64,
}

/// Something the session must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The moment of [`Session::next_timeout`] has come. Too early or too often does no harm.
    Timeout,
    /// A packet that passed every check of [`packet::decode`](super::packet::decode).
    Received(Packet),
    /// The packet of the last [`Action::Send`] went out.
    Sent {
        /// The clock before.
        sent: Timestamp,
        /// The packet.
        packet: Packet,
    },
    /// End the session: the peer is told that this is no failure.
    Stop,
}

/// Something the adapter must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this to the peer.
    Send(Packet),
    /// The session is up: note it.
    Up,
    /// The session is no longer up: note it.
    Down(DownReason),
    /// The peer was up and nothing came from it for the detection time: it may be dead.
    PeerSilent,
    /// The peer is alive, and heard nothing of this node for its own detection time.
    PeerDoubts,
}

/// Why a session is no longer up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// Nothing came for the detection time.
    TimedOut,
    /// The peer says that it is down.
    Signalled(Diagnostic),
    /// The peer holds it down on purpose, for what it says.
    PeerAdminDown(Diagnostic),
    /// It failed so often that it is held down for a while.
    Damped,
    /// This node ends it.
    Stopped,
}

impl DownReason {
    /// The name in status, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::Signalled(_) => "signalled",
            Self::PeerAdminDown(_) => "peer_admin_down",
            Self::Damped => "damped",
            Self::Stopped => "stopped",
        }
    }
}

/// One session with one peer.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is about something else, and any may hold beside any other"
)]
#[derive(Clone, Debug)]
pub struct Session {
    settings: Settings,
    state: SessionState,
    diagnostic: Diagnostic,
    remote: Remote,
    /// A change of interval is on its way to the peer, which has not confirmed it.
    polling: bool,
    /// When the peer was last heard, or the wait for it last began; `None`: forgotten.
    heard: Option<Timestamp>,
    /// The wait has begun anew because this node was late.
    spared: bool,
    /// The peer fell silent and has not been heard since.
    silent: bool,
    next_packet: Timestamp,
    /// How long the peer is patient at least, if it may be up.
    cap: Option<Timestamp>,
    /// When the session failed of late.
    failures: VecDeque<Timestamp>,
    /// Until when it is held down.
    held: Option<Timestamp>,
    stopped: bool,
    random: u64,
}

/// What the peer said last (§6.8.1).
#[derive(Clone, Copy, Debug)]
struct Remote {
    state: SessionState,
    discriminator: u32,
    multiplier: u8,
    desired_min_tx: Duration,
    required_min_rx: Duration,
    demand: bool,
}

impl Remote {
    const UNKNOWN: Self = Self {
        state: SessionState::Down,
        discriminator: 0,
        multiplier: 1,
        desired_min_tx: Duration::ZERO,
        // §6.8.1: "This variable MUST be initialized to 1", so that it is not 0.
        required_min_rx: Duration::from_micros(1),
        demand: false,
    };
}

impl Session {
    /// A session that is down and, if active, wants to send at once.
    pub fn new(settings: Settings, now: Timestamp) -> Self {
        let random = settings.seed | 1;
        Self {
            settings,
            state: SessionState::Down,
            diagnostic: Diagnostic::NONE,
            remote: Remote::UNKNOWN,
            polling: false,
            heard: None,
            spared: false,
            silent: false,
            next_packet: now,
            cap: None,
            failures: VecDeque::new(),
            held: None,
            stopped: false,
            random,
        }
    }

    /// Takes an input and returns what must be done, in order. `now` never goes back.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            _ if self.stopped && !matches!(input, Input::Sent { .. }) => {}
            Input::Timeout => self.timeout(now, &mut actions),
            Input::Received(packet) => self.received(now, &packet, &mut actions),
            Input::Sent { sent, packet } => self.sent(sent.min(now), &packet),
            Input::Stop => {
                self.stopped = true;
                self.leave_up(DownReason::Stopped, &mut actions);
                self.enter(now, SessionState::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN, &mut actions);
            }
        }
        actions
    }

    /// When to hand over [`Input::Timeout`]; `None`: not until another input.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        if self.stopped {
            return None;
        }
        let packet = self.is_sending().then_some(self.next_packet);
        [packet, self.detect_at(), self.held].into_iter().flatten().min()
    }

    /// No lease of a virtual router with this peer may run past this; `None`: the peer does not claim by BFD.
    pub fn lease_cap(&self) -> Option<Timestamp> {
        // A peer that wants no periodic packets does not measure their absence.
        self.cap.filter(|_| !self.remote.demand && !self.remote.required_min_rx.is_zero())
    }

    /// The state of this end.
    pub fn state(&self) -> SessionState {
        self.state
    }

    /// The state the peer named last.
    pub fn remote_state(&self) -> SessionState {
        self.remote.state
    }

    /// Why this end last went down.
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// Whether it failed so often that it is held down for a while.
    pub fn is_damped(&self) -> bool {
        self.held.is_some()
    }

    /// Whether the peer was up, fell silent, and has not been heard since.
    pub fn is_peer_lost(&self) -> bool {
        self.silent
    }

    /// After how long without a packet the peer counts as gone (§6.8.4).
    pub fn detection_time(&self) -> Duration {
        self.settings.interval.max(self.remote.desired_min_tx) * u32::from(self.remote.multiplier)
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Session {
    fn timeout(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if self.held.is_some_and(|until| now >= until) {
            self.held = None;
            self.enter(now, SessionState::Down, Diagnostic::ADMINISTRATIVELY_DOWN, actions);
        }
        if let Some(due) = self.detect_at()
            && now >= due
        {
            self.detection_time_is_over(now, due, actions);
        }
        if self.is_sending() && now >= self.next_packet {
            self.send(now, actions);
        }
    }

    fn detection_time_is_over(&mut self, now: Timestamp, due: Timestamp, actions: &mut Vec<Action>) {
        let interval = self.settings.interval.max(self.remote.desired_min_tx);
        if self.state == SessionState::Up && !self.spared && now.since(due) > interval {
            self.spared = true;
            self.heard = Some(now);
            return;
        }
        // §6.8.1: the discriminator must be forgotten; what else the peer said may be as old.
        self.heard = None;
        self.remote = Remote::UNKNOWN;
        match self.state {
            SessionState::Up => {
                self.silent = true;
                self.fail(now, DownReason::TimedOut, Diagnostic::DETECTION_TIME_EXPIRED, actions);
                actions.push(Action::PeerSilent);
            }
            SessionState::Init => {
                self.enter(now, SessionState::Down, Diagnostic::DETECTION_TIME_EXPIRED, actions);
            }
            SessionState::Down | SessionState::AdminDown => {}
        }
    }

    fn received(&mut self, now: Timestamp, packet: &Packet, actions: &mut Vec<Action>) {
        let interval = self.transmit_interval();
        self.remote = Remote {
            state: packet.state,
            discriminator: packet.my_discriminator,
            multiplier: packet.multiplier,
            desired_min_tx: packet.desired_min_tx,
            required_min_rx: packet.required_min_rx,
            demand: packet.demand,
        };
        if packet.final_ {
            self.polling = false;
        }
        self.silent = false;
        let asks = match packet.state {
            SessionState::Down => true,
            // One that is held down repeats it every second.
            SessionState::AdminDown => self.state == SessionState::Up,
            SessionState::Init | SessionState::Up => false,
        };
        if asks && packet.diagnostic == Diagnostic::DETECTION_TIME_EXPIRED {
            actions.push(Action::PeerDoubts);
        }
        if self.state == SessionState::AdminDown {
            return;
        }
        self.heard = Some(now);
        self.spared = false;
        let before = self.state;
        self.follow(now, packet, actions);
        if self.state == before && self.transmit_interval() < interval {
            self.next_packet = self.next_packet.min(now + self.jittered(self.transmit_interval()));
        }
        if packet.poll && self.state != SessionState::AdminDown {
            let packet = Packet { poll: false, final_: true, ..self.packet() };
            self.note_exposure(now);
            actions.push(Action::Send(packet));
        }
    }

    /// The transitions of §6.8.6.
    fn follow(&mut self, now: Timestamp, packet: &Packet, actions: &mut Vec<Action>) {
        use SessionState::{AdminDown, Down, Init, Up};
        match (self.state, packet.state) {
            (Down, Down) => self.enter(now, Init, self.diagnostic, actions),
            (Down, Init) | (Init, Init | Up) => {
                self.enter(now, Up, self.diagnostic, actions);
                actions.push(Action::Up);
            }
            (Init | Up, AdminDown) => {
                self.leave_up(DownReason::PeerAdminDown(packet.diagnostic), actions);
                self.enter(now, Down, Diagnostic::NEIGHBOUR_SIGNALLED_DOWN, actions);
            }
            (Up, Down) => {
                let reason = DownReason::Signalled(packet.diagnostic);
                self.fail(now, reason, Diagnostic::NEIGHBOUR_SIGNALLED_DOWN, actions);
            }
            (Down, AdminDown | Up) | (Init, Down) | (Up, Init | Up) | (AdminDown, _) => {}
        }
    }

    /// From Up to Down, or to AdminDown if that happens too often.
    fn fail(
        &mut self,
        now: Timestamp,
        reason: DownReason,
        diagnostic: Diagnostic,
        actions: &mut Vec<Action>,
    ) {
        // A peer that restarted says Down for no reason of its own; that is no flapping of the path.
        if matches!(reason, DownReason::TimedOut | DownReason::Signalled(Diagnostic::DETECTION_TIME_EXPIRED))
        {
            self.failures.push_back(now);
        }
        self.failures.retain(|at| now.since(*at) <= timers::DAMPING_WINDOW);
        if self.failures.len() < timers::DAMPING_FAILURES {
            self.leave_up(reason, actions);
            self.enter(now, SessionState::Down, diagnostic, actions);
        } else {
            self.failures.clear();
            self.held = Some(now + timers::DAMPING_HOLD);
            self.leave_up(DownReason::Damped, actions);
            self.enter(now, SessionState::AdminDown, diagnostic, actions);
        }
    }

    fn leave_up(&self, reason: DownReason, actions: &mut Vec<Action>) {
        if self.state == SessionState::Up {
            actions.push(Action::Down(reason));
        }
    }

    /// Changes the state and says so at once (§6.8.7).
    fn enter(
        &mut self,
        now: Timestamp,
        state: SessionState,
        diagnostic: Diagnostic,
        actions: &mut Vec<Action>,
    ) {
        let interval = self.desired_min_tx();
        self.state = state;
        self.diagnostic = diagnostic;
        // The new interval takes effect when the peer has confirmed it; sending sooner than agreed does no harm.
        self.polling = state == SessionState::Up && self.desired_min_tx() != interval;
        if self.may_send() {
            self.send(now, actions);
        }
    }

    fn send(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        self.next_packet = now + self.jittered(self.transmit_interval());
        self.note_exposure(now);
        actions.push(Action::Send(self.packet()));
    }

    /// From the decision on: the packet may be sent, and this node be frozen, before anything else happens here.
    fn note_exposure(&mut self, now: Timestamp) {
        if matches!(self.state, SessionState::Init | SessionState::Up) {
            let cap = now + self.term(self.desired_min_tx());
            self.cap = Some(self.cap.map_or(cap, |before| before.min(cap)));
        }
    }

    fn sent(&mut self, sent: Timestamp, packet: &Packet) {
        let down = |state| matches!(state, SessionState::Down | SessionState::AdminDown);
        if !down(packet.state) {
            // Unless Down went out since, as an answer to a packet that was read meanwhile.
            self.cap = self.cap.map(|_| sent + self.term(packet.desired_min_tx));
        } else if down(self.state) {
            self.cap = None;
        }
    }

    /// How long a packet that names this interval keeps the lease (§6.8.4, as the peer reckons it).
    fn term(&self, desired_min_tx: Duration) -> Duration {
        let agreed = desired_min_tx.max(self.remote.required_min_rx);
        timers::lease_term(agreed * u32::from(self.settings.multiplier))
    }

    fn packet(&self) -> Packet {
        Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: self.polling,
            final_: false,
            control_plane_independent: false,
            demand: false,
            multiplier: self.settings.multiplier,
            my_discriminator: self.settings.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: self.desired_min_tx(),
            required_min_rx: self.settings.interval,
        }
    }

    /// Whether packets may be sent at all (§6.8.7).
    fn may_send(&self) -> bool {
        self.settings.role == Role::Active || self.remote.discriminator != 0
    }

    /// Whether periodic packets are sent (§6.8.7).
    fn is_sending(&self) -> bool {
        let demanded = self.remote.demand
            && self.state == SessionState::Up
            && self.remote.state == SessionState::Up
            && !self.polling;
        self.may_send() && !self.remote.required_min_rx.is_zero() && !demanded
    }

    fn desired_min_tx(&self) -> Duration {
        if self.state == SessionState::Up {
            self.settings.interval
        } else {
            self.settings.interval.max(timers::SLOW)
        }
    }

    fn transmit_interval(&self) -> Duration {
        self.desired_min_tx().max(self.remote.required_min_rx)
    }

    fn detect_at(&self) -> Option<Timestamp> {
        self.heard.map(|heard| heard + self.detection_time())
    }

    fn jittered(&mut self, interval: Duration) -> Duration {
        // xorshift64: good enough to keep nodes out of step.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let span = timers::jitter_most(self.settings.multiplier) - timers::JITTER_LEAST + 1;
        let percent = timers::JITTER_LEAST + self.random % span;
        // Invariant: the remainder is below 26, so it fits.
        interval * u32::try_from(percent).unwrap_or(100) / 100
    }
}

#[cfg(test)]
mod tests;
