//! What notices the death of peers: the BFD sessions of an interface and source address, and what they travel through.

use std::{
    fmt,
    net::IpAddr,
    task::{Context, Poll},
    time::Duration,
};

use super::messages::{SessionReport, Trouble};
use crate::{
    bfd::{Counters, Datagram, Input, Packet, Rejection, Role, Session, SessionState, Settings, packet},
    config::{Bfd, VirtualRouter},
    net::{BfdSocket, BfdSocketError, Listen},
    time::Timestamp,
    vrrp::Reach,
};

/// What carries packets: [`BfdSocket`], or a test's. Nothing here waits.
pub trait BfdWire: fmt::Debug + Send {
    /// A packet that has already arrived, if there is one.
    fn try_recv(&self) -> Result<Option<Datagram>, BfdSocketError>;
    /// Sends a packet to a peer.
    fn send(&self, peer: IpAddr, payload: &[u8]) -> Result<(), BfdSocketError>;
    /// Ready when a packet may have arrived; then it is emptied by [`try_recv`](Self::try_recv).
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()>;
}

impl BfdWire for BfdSocket {
    fn try_recv(&self) -> Result<Option<Datagram>, BfdSocketError> {
        Self::try_recv(self)
    }

    fn send(&self, peer: IpAddr, payload: &[u8]) -> Result<(), BfdSocketError> {
        Self::send(self, peer, payload)
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        Self::poll_readable(self, context)
    }
}

/// The sessions of an interface and source address.
#[derive(Debug)]
pub struct Detector {
    interface: String,
    source: IpAddr,
    pub(super) wire: Box<dyn BfdWire>,
    pub(super) watched: Vec<Watched>,
    /// Packets that were not believed.
    rejected: Counters,
}

/// A session and its counters.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) peer: IpAddr,
    pub(super) bfd: Bfd,
    pub(super) session: Session,
    pub(super) sent: u64,
    pub(super) send_errors: u64,
    received: u64,
    /// How often it ceased to be up.
    pub(super) downs: u64,
    /// It was up, and nothing was heard since.
    pub(super) lost: bool,
}

/// What [`Detector::receive`] found.
#[derive(Debug)]
pub(super) enum Seen {
    Nothing,
    Rejected(Option<Trouble>),
    /// A packet for the session at `index`.
    Packet {
        index: usize,
        packet: Packet,
    },
}

impl Detector {
    /// The detector for the virtual routers of an interface and source address; it watches nobody yet.
    pub fn new((interface, source): (&str, IpAddr), wire: impl BfdWire + 'static) -> Self {
        Self {
            interface: interface.to_owned(),
            source,
            wire: Box::new(wire),
            watched: Vec::new(),
            rejected: Counters::default(),
        }
    }

    /// Whether another is of the same interface and source address.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        (&self.interface, self.source) == (&other.interface, other.source)
    }

    /// Takes another's wire and goes on with its sessions; returns the other with the wire that was here.
    pub(super) fn rewire(&mut self, mut by: Self) -> Self {
        std::mem::swap(&mut self.wire, &mut by.wire);
        by
    }

    /// Whether this virtual router is of its interface and source address.
    pub(super) fn serves(&self, router: &VirtualRouter) -> bool {
        super::place(router) == (self.interface.as_str(), Listen::Unicast(self.source))
    }

    /// Begins to watch a peer. `seed` makes it a session of its own.
    pub(super) fn watch(&mut self, peer: IpAddr, bfd: Bfd, seed: u64, now: Timestamp) {
        // Any number that is not 0, and not one a peer may remember of an earlier session.
        let discriminator = (seed ^ seed >> 32) as u32 | 1;
        let Bfd { interval, multiplier } = bfd;
        let settings = Settings { discriminator, interval, multiplier, role: Role::Active, seed };
        let session = Session::new(settings, now);
        self.watched.push(Watched {
            peer,
            bfd,
            session,
            sent: 0,
            send_errors: 0,
            received: 0,
            downs: 0,
            lost: false,
        });
    }

    /// What is known of these peers.
    pub(super) fn reach(&self, peers: &[IpAddr]) -> Reach {
        let mut sessions = self.watched.iter().filter(|watched| peers.contains(&watched.peer)).peekable();
        if sessions.clone().any(|watched| watched.session.state() == SessionState::Up) {
            return Reach::Alive;
        }
        // A peer without BFD was never there, and one that ended its session is not lost.
        if sessions.peek().is_some() && sessions.all(|watched| watched.lost) {
            Reach::Lost
        } else {
            Reach::Unknown
        }
    }

    /// Ends what is not `wanted`; the peers are told.
    pub(super) fn forget(&mut self, now: Timestamp, wanted: impl Fn(IpAddr, Bfd) -> bool) {
        for mut gone in self.watched.extract_if(.., |watched| !wanted(watched.peer, watched.bfd)) {
            for action in gone.session.handle(now, Input::Stop) {
                if let crate::bfd::Action::Send(packet) = action {
                    // A peer that does not hear of it takes this node for dead, and asks before it claims.
                    let _sent = self.wire.send(gone.peer, &packet.encode());
                }
            }
        }
    }

    /// When one of the sessions needs attention next.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.watched.iter().filter_map(|watched| watched.session.next_timeout()).min()
    }

    /// Takes what waits in the wire, one packet; counts it where it did not pass every check.
    pub(super) fn receive(&mut self) -> Seen {
        let Ok(Some(datagram)) = self.wire.try_recv() else { return Seen::Nothing };
        let decoded = packet::decode(&datagram, |discriminator, source| {
            self.watched.iter().position(|watched| {
                let own = watched.session.settings().discriminator;
                watched.peer == source && discriminator.is_none_or(|discriminator| discriminator == own)
            })
        });
        match decoded {
            Ok((packet, index)) => {
                self.watched[index].received += 1;
                Seen::Packet { index, packet }
            }
            Err(error) => Seen::Rejected(self.count(datagram.source, error)),
        }
    }

    fn count(&mut self, source: IpAddr, error: Rejection) -> Option<Trouble> {
        let count = self.rejected.count(&error);
        count.is_power_of_two().then(|| Trouble::BfdRejected {
            interface: self.interface.clone(),
            source,
            count,
            error,
        })
    }

    /// The earliest moment a lease may run to because one of these peers may take this node for dead.
    pub(super) fn lease_cap(&self, peers: &[IpAddr]) -> Option<Timestamp> {
        let watched = self.watched.iter().filter(|watched| peers.contains(&watched.peer));
        watched.filter_map(|watched| watched.session.lease_cap()).min()
    }

    /// What the control task tells the operator about the sessions with these peers.
    pub(super) fn report(&self, peers: &[IpAddr]) -> Vec<SessionReport> {
        let watched = self.watched.iter().filter(|watched| peers.contains(&watched.peer));
        watched.map(|watched| watched.report(self.rejected)).collect()
    }
}

impl Watched {
    fn report(&self, rejected: Counters) -> SessionReport {
        SessionReport {
            peer: self.peer,
            state: self.session.state(),
            remote_state: self.session.remote_state(),
            diagnostic: self.session.diagnostic(),
            damped: self.session.is_damped(),
            detection_time: self.session.detection_time().max(Duration::from_millis(1)),
            sent: self.sent,
            received: self.received,
            send_errors: self.send_errors,
            downs: self.downs,
            rejected,
        }
    }
}
