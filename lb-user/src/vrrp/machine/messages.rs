//! What goes into the machine of a virtual router and what comes out, and the names of its states.

use std::{net::IpAddr, time::Duration};

use crate::{time::Timestamp, vrrp::packet::Advert};

/// Where a virtual router stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not started, or stopped.
    Stopped,
    /// Listens to the owner, or is about to claim.
    Backup,
    /// Owns the VIPs for as long as the lease runs (RFC 3768: Master; RFC 9568: Active).
    Owner,
    /// Has said farewell and still answers for the VIPs, until another does.
    Leaving,
    /// Takes no part: a track script of weight 0 failed, the interface is down or the like.
    Fault,
}

impl State {
    /// The name in status, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Backup => "backup",
            Self::Owner => "owner",
            Self::Leaving => "leaving",
            Self::Fault => "fault",
        }
    }

    /// Whether the node has the VIPs and answers for them while the lease runs.
    pub const fn has_vips(self) -> bool {
        matches!(self, Self::Owner | Self::Leaving)
    }
}

/// Whether peers live and can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Nobody can say.
    #[default]
    Unknown,
    /// One of them at least: whoever leaves can wait for it to take over.
    Alive,
    /// None of those that were there. An owner without peers and without its witness is the one that is cut off, and
    /// gives up.
    Lost,
}

/// Something the machine must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Take part from now on. A node that still hands over because of [`Input::Stop`] goes on.
    Start,
    /// The moment of [`Machine::next_timeout`](super::Machine::next_timeout) has come. Too early or too often does
    /// no harm.
    Timeout,
    /// A peer's advert that passed every check of [`packet::decode`](crate::vrrp::packet::decode).
    AdvertReceived {
        /// The advert.
        advert: Advert,
        /// The source address of its IP packet.
        source: IpAddr,
    },
    /// The advert of the last [`Action::SendAdvert`] went out to every peer.
    AdvertSent {
        /// The clock before the first sending.
        sent: Timestamp,
    },
    /// Something that forbids owning the VIPs has happened. Repeating it does no harm.
    FaultSet {
        /// Whether the node can still answer for the VIPs until another does. False (the link is down, an address is
        /// gone) ends ownership at once, also a hand-over that is going on, whatever it is for.
        hand_over: bool,
    },
    /// Nothing forbids owning the VIPs any more.
    FaultCleared,
    /// The priority after tracking; kept within 1 and 254. Ignored where the configured priority is 255.
    PriorityChanged(u8),
    /// The operator: give the VIPs up, and don't take them from a living owner. Ends a claim. Over when this node
    /// becomes owner because nobody else lives, or goes on because nobody took over.
    Release,
    /// The operator: take the VIPs now, and have priority 254 until [`Input::Release`] or [`Input::Stop`]. Ends a
    /// release. An owner that is better even then keeps them. A node in fault claims nothing.
    Claim,
    /// Whether the witness answers, or there is none to ask. True at the beginning. Without it a backup doesn't claim
    /// because of silence; it does after a farewell.
    Witness(bool),
    /// What BFD knows of the peers (a lost advert tells nothing of them). [`Reach::Unknown`] at the beginning.
    Peers(Reach),
    /// Another virtual router of the sync group became owner here: claim without waiting.
    ClaimWithGroup,
    /// Another virtual router of the sync group became backup here: hand over, and be backup in any case.
    YieldWithGroup,
    /// BFD has heard nothing of `source` for `detection_time`, although it had: claim without waiting for more adverts
    /// to be missed, if that is whom this node believes to be owner, and says nothing within `delay` either.
    OwnerLost {
        /// The silent peer.
        source: IpAddr,
        /// How long it has been silent.
        detection_time: Duration,
        /// How long to wait for its advert, by the priority of this node
        /// ([`bfd::timers::claim_delay`](crate::bfd::timers::claim_delay)).
        delay: Duration,
    },
    /// A peer says that it has lost sight of this node: an owner lets it know at once that it is one.
    PeerDoubts,
    /// The lease must not run past this, because a peer may take this node for dead; `None`: adverts alone bound it.
    LeaseCap(Option<Timestamp>),
    /// Take part no more.
    Stop,
}

/// Something the adapter must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send an advert to every peer.
    SendAdvert {
        /// Its priority; 0 says farewell.
        priority: u8,
        /// Past this moment it must not be sent any more.
        not_after: Timestamp,
    },
    /// The claim is out and the lease runs: take the VIPs, and announce them by gratuitous ARP.
    BecomeOwner,
    /// Keep the VIPs and answer for them while the lease runs, though the farewell has been said.
    HandOver,
    /// The hand-over is over; one of the next three follows.
    HandedOver {
        /// Who answers for the VIPs now; nobody, if it took too long or was broken off.
        successor: Option<IpAddr>,
    },
    /// The hand-over is over, and this node goes on as owner.
    StayOwner,
    /// Give the VIPs up, if this node has them, and listen.
    BecomeBackup {
        /// Why.
        reason: BackupReason,
    },
    /// Give the VIPs up, if this node has them, and take no part.
    EnterFault,
    /// Give the VIPs up, if this node has them; the machine has stopped.
    Stop,
    /// Repeat the gratuitous ARP, as after [`Action::BecomeOwner`]: another node claimed the VIPs, and clients may
    /// have believed it.
    AnnounceAddresses,
    /// Send one gratuitous ARP for each VIP: another node may have claimed them without this node's hearing of it.
    RefreshAddresses,
}

/// Why a node became backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupReason {
    /// It started.
    Started,
    /// What forbade it to take part is over.
    FaultCleared,
    /// It was owner and heard a better one.
    BetterOwner {
        /// The other's priority.
        priority: u8,
        /// The other's address.
        source: IpAddr,
    },
    /// It was owner and did not renew its lease in time: frozen, starved, or unable to send.
    LeaseExpired,
    /// It handed the VIPs over because the operator released them.
    Released,
    /// It handed the VIPs over because another virtual router of its sync group became backup.
    Group,
    /// It was owner and lost both its peers and its witness.
    Isolated,
}

impl BackupReason {
    /// The name in status, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::FaultCleared => "fault_cleared",
            Self::BetterOwner { .. } => "better_owner",
            Self::LeaseExpired => "lease_expired",
            Self::Released => "released",
            Self::Group => "group",
            Self::Isolated => "isolated",
        }
    }
}
