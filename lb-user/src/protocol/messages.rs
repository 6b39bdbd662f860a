//! What the control task and the protocol thread tell each other.

use std::{net::IpAddr, time::Duration};

use super::{channel::Channel, detector::Detector};
use crate::{
    bfd::{Counters, Diagnostic, DownReason, Rejection, SessionState},
    config::VirtualRouter,
    time::Timestamp,
    vrrp::{BackupReason, DecodeCounters, DecodeError, Input, Observations, State},
};

/// Names a virtual router from the moment it is configured until it is taken out. One that is configured anew, with
/// other settings, has another key; so an event that was on its way is never taken for its successor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouterKey(pub u64);

/// A virtual router as it should be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A key that is known already means the virtual router that has it: its machine goes on undisturbed.
    pub key: RouterKey,
    /// The number of its lease.
    pub lease: u32,
    /// What the configuration says.
    pub config: VirtualRouter,
}

/// From the control task.
#[derive(Debug)]
pub enum Command {
    /// These are all virtual routers. One that is not named stops; a new one waits for [`Input::Start`].
    Configure {
        /// The virtual routers, each served by a channel that was opened earlier or is now.
        routers: Vec<Plan>,
        /// Channels that were opened for them. One at the place of another takes its turn; those that serve nobody
        /// come back by [`Event::Retired`].
        opened: Vec<Channel>,
    },
    /// Detectors that were opened for the virtual routers. One at the place of another takes its wire; the others, and those
    /// that nobody needs any more, come back by [`Event::DetectorsRetired`].
    Detect(Vec<Detector>),
    /// An input for a machine.
    Tell(RouterKey, Input),
    /// Asks for a report, which comes by [`Event::Report`].
    Report,
    /// The control task is alive. Once it has said so it must go on, or this node gives its VIPs up.
    Alive,
    /// Hand everything over, then end.
    Stop,
}

/// To the control task.
#[derive(Debug)]
pub enum Event {
    /// The claim is out and the lease runs.
    BecameOwner {
        /// Which.
        router: RouterKey,
        /// Why.
        reason: OwnerReason,
    },
    /// It listens now, whatever it was before.
    BecameBackup {
        /// Which.
        router: RouterKey,
        /// Why.
        reason: BackupReason,
    },
    /// It takes no part.
    EnteredFault {
        /// Which.
        router: RouterKey,
        /// Why.
        cause: FaultCause,
    },
    /// It has stopped.
    Stopped {
        /// Which.
        router: RouterKey,
    },
    /// Clients may have learned another's MAC address: announce the VIPs.
    Announce {
        /// Which.
        router: RouterKey,
    },
    /// Its addresses are to be announced once more, in case somebody else claimed them unheard.
    Refresh {
        /// Which.
        router: RouterKey,
    },
    /// A new owner was heard after this one had stopped.
    HandedOver {
        /// Which.
        router: RouterKey,
        /// The new owner.
        source: IpAddr,
    },
    /// A node that the configuration does not name sent an advert: it is, or was, owner.
    Met {
        /// Its address.
        node: IpAddr,
    },
    /// Nobody took over what was to be handed over: this node goes on as owner.
    Kept {
        /// Which.
        router: RouterKey,
    },
    /// Something worth a line in the log.
    Trouble(Trouble),
    /// The answer to [`Command::Report`]. Every event that the report knows of comes before it.
    Report(Report),
    /// Channels that are not used any more. They are the receiver's to close, which may wait for locks of the kernel.
    Retired(Vec<Channel>),
    /// Detectors that are not used any more, as above.
    DetectorsRetired(Vec<Detector>),
    /// A BFD session came up or went down.
    SessionChanged {
        /// With whom.
        peer: IpAddr,
        /// What became of it.
        change: SessionChange,
    },
    /// The thread ends. `alone` are those that nobody took over.
    Ended {
        /// Virtual routers this node owned to the end.
        alone: Vec<RouterKey>,
    },
}

/// What became of a BFD session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// Each end hears the other.
    Up,
    /// It is no longer up.
    Down(DownReason),
}

/// Why this node became owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerReason {
    /// The owner fell silent without a farewell.
    Silence(IpAddr),
    /// The owner said farewell.
    Farewell(IpAddr),
    /// It preempts a living owner.
    Priority {
        /// The other's priority.
        of: u8,
        /// The other's address.
        source: IpAddr,
    },
    /// Nobody else was heard.
    Alone,
}

/// Why a virtual router is in fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultCause {
    /// The control task says so, and knows why.
    Told,
    /// The control task has said nothing for too long.
    Unattended,
}

/// What does not work. Counted each time, told at each power of two: the first is seen at once, and a flood does not
/// flood the log.
#[derive(Debug)]
pub enum Trouble {
    /// A packet was rejected.
    Rejected {
        /// The interface it came in by.
        interface: String,
        /// Who sent it.
        source: IpAddr,
        /// How many were rejected so.
        count: u64,
        /// Why.
        error: DecodeError,
    },
    /// An advert was not sent to a peer.
    NotSent {
        /// Whose.
        router: RouterKey,
        /// How many were not sent.
        count: u64,
        /// What it was to whom, and the kernel's words.
        error: String,
    },
    /// A BFD packet was rejected.
    BfdRejected {
        /// The interface it came in by.
        interface: String,
        /// Who sent it.
        source: IpAddr,
        /// How many were rejected so.
        count: u64,
        /// Why.
        error: Rejection,
    },
    /// A BFD packet was not sent.
    BfdNotSent {
        /// How many were not sent.
        count: u64,
        /// To whom, and the kernel's words.
        error: String,
    },
    /// A lease was not written, which is a fault of lb. The kernel's guard keeps the last one, which runs out.
    LeaseNotWritten {
        /// Whose.
        router: RouterKey,
        /// What the data plane says.
        error: String,
    },
}

/// The virtual routers at a moment, in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The virtual routers.
    pub routers: Vec<RouterReport>,
}

/// A virtual router at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterReport {
    /// Which.
    pub router: RouterKey,
    /// Where its machine stands.
    pub state: State,
    /// The priority in force.
    pub priority: u8,
    /// When its lease runs out, or `LEASE_BACKUP`.
    pub lease: Timestamp,
    /// Adverts sent, each to every peer.
    pub adverts_sent: u64,
    /// Adverts that could not be sent, by peer.
    pub send_errors: u64,
    /// Adverts that passed every check.
    pub adverts_received: u64,
    /// Rejected adverts that named it.
    pub rejected: DecodeCounters,
    /// What was worth counting in adverts that were believed.
    pub observed: Observations,
    /// Rejected packets of the same socket that named none of this node's.
    pub unattributed: DecodeCounters,
    /// Its BFD sessions.
    pub sessions: Vec<SessionReport>,
}

/// A BFD session at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionReport {
    /// With whom.
    pub peer: IpAddr,
    /// The state of this end.
    pub state: SessionState,
    /// The state the peer named last.
    pub remote_state: SessionState,
    /// Why it last went down.
    pub diagnostic: Diagnostic,
    /// Whether it is held down because it failed too often.
    pub damped: bool,
    /// After how long without a packet the peer counts as gone.
    pub detection_time: Duration,
    /// Packets sent.
    pub sent: u64,
    /// Packets that passed every check.
    pub received: u64,
    /// Packets that could not be sent.
    pub send_errors: u64,
    /// How often it ceased to be up.
    pub downs: u64,
    /// Rejected packets of the same socket.
    pub rejected: Counters,
}
