//! BFD control packets on the wire (RFC 5880 §4.1), and the checks a received one must pass (§6.8.6).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
//! |                       My Discriminator                        |
//! |                      Your Discriminator                       |
//! |                    Desired Min TX Interval                    |
//! |                   Required Min RX Interval                    |
//! |                 Required Min Echo RX Interval                 |
//! ```
//!
//! All numbers are big-endian, intervals in microseconds.

use std::{net::IpAddr, time::Duration};

/// The UDP port control packets are sent to (RFC 5881 §4).
pub const PORT: u16 = 3784;
/// The only TTL a packet of a single-hop session may arrive with (RFC 5881 §5).
pub const TTL: u8 = 255;
/// The length of a control packet without an authentication section.
pub const LENGTH: usize = 24;

/// The authentication section is at least its type and its length (§4.1).
const LENGTH_WITH_AUTHENTICATION: usize = LENGTH + 2;
const VERSION: u8 = 1;
const POLL: u8 = 1 << 5;
const FINAL: u8 = 1 << 4;
const CONTROL_PLANE_INDEPENDENT: u8 = 1 << 3;
const AUTHENTICATION_PRESENT: u8 = 1 << 2;
const DEMAND: u8 = 1 << 1;
const MULTIPOINT: u8 = 1;

/// A received UDP datagram of port [`PORT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The source address of the IP header.
    pub source: IpAddr,
    /// The TTL or hop limit of the IP header.
    pub ttl: u8,
    /// What follows the UDP header.
    pub payload: Vec<u8>,
}

/// The state of a session (§4.1, Sta).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// Held down by the operator; the other end must not take it for a failure.
    AdminDown,
    /// Not up, or just created.
    Down,
    /// The other end is heard; whether it hears this one is not known yet.
    Init,
    /// Each end hears the other.
    Up,
}

impl SessionState {
    /// The name in status, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AdminDown => "admin_down",
            Self::Down => "down",
            Self::Init => "init",
            Self::Up => "up",
        }
    }
}

/// Why a session last left [`SessionState::Up`] (§4.1, Diag): any of 0–31, of which this node says three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    /// Nothing happened yet.
    pub const NONE: Self = Self(0);
    /// Nothing was heard for the detection time.
    pub const DETECTION_TIME_EXPIRED: Self = Self(1);
    /// The other end says that it is down.
    pub const NEIGHBOUR_SIGNALLED_DOWN: Self = Self(3);
    /// The operator said so.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);
}

/// What a control packet says.
#[expect(clippy::struct_excessive_bools, reason = "they are the flags of the wire format")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender's session last went down.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: SessionState,
    /// The sender wants an answer at once.
    pub poll: bool,
    /// This is that answer.
    pub final_: bool,
    /// The sender's BFD does not share the fate of its control plane.
    pub control_plane_independent: bool,
    /// The sender wants no periodic packets while the session is up.
    pub demand: bool,
    /// Of how many of the sender's packets in a row the loss means that it is gone; never 0.
    pub multiplier: u8,
    /// The sender's number of this session; never 0.
    pub my_discriminator: u32,
    /// The receiver's number of this session; 0 as long as the sender does not know it.
    pub your_discriminator: u32,
    /// The sender would like to send this seldom.
    pub desired_min_tx: Duration,
    /// The sender takes no more than one packet in this time; zero: none at all.
    pub required_min_rx: Duration,
}

/// Why a received packet is not believed. Checked in the order of the variants, §6.8.6's, so that the first one
/// that does not hold is what is wrong; every variant has a counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The packet has crossed a router, or was made by somebody who hopes to look as if he were near.
    #[error("TTL {ttl} instead of 255: the packet was routed or forged")]
    BadTtl {
        /// The TTL it arrived with.
        ttl: u8,
    },
    /// Shorter than any control packet.
    #[error("{length} bytes, at least {LENGTH} expected")]
    Truncated {
        /// Bytes received.
        length: usize,
    },
    /// A version other than 1.
    #[error("BFD version {version} instead of 1")]
    BadVersion {
        /// The version received.
        version: u8,
    },
    /// The length field is too small, or larger than the datagram.
    #[error("its length field says {says}, the datagram has {length} bytes")]
    BadLength {
        /// What the field says.
        says: u8,
        /// Bytes received.
        length: usize,
    },
    /// A multiplier of 0.
    #[error("detection multiplier 0")]
    ZeroMultiplier,
    /// The multipoint bit, which is reserved.
    #[error("the multipoint bit is set")]
    Multipoint,
    /// The sender's discriminator is 0.
    #[error("the sender's discriminator is 0")]
    ZeroDiscriminator,
    /// For a session this node does not have: it restarted a moment ago, or somebody guesses.
    #[error("no session has discriminator {discriminator} and peer {source_address}")]
    UnknownDiscriminator {
        /// The receiver's discriminator in the packet.
        discriminator: u32,
        /// Who sent it.
        source_address: IpAddr,
    },
    /// Only a sender whose session is down may not know the receiver's discriminator.
    #[error("the sender's session is {} although it does not know this node's discriminator", state.name())]
    NoDiscriminator {
        /// The sender's state.
        state: SessionState,
    },
    /// No session with that peer is configured.
    #[error("no session with {source_address} is configured on this interface")]
    UnknownPeer {
        /// Who sent it.
        source_address: IpAddr,
    },
    /// Authentication, which is not configured (it cannot be).
    #[error("the packet is authenticated, which this node does not do: configure the peer without")]
    Authenticated,
}

impl Rejection {
    /// The names of all variants, as counters are called, in the order of [`Rejection::index`].
    pub const NAMES: [&'static str; 11] = [
        "bad_ttl",
        "truncated",
        "bad_version",
        "bad_length",
        "zero_multiplier",
        "multipoint",
        "zero_discriminator",
        "unknown_discriminator",
        "no_discriminator",
        "unknown_peer",
        "authenticated",
    ];

    /// The place of the variant in [`Rejection::NAMES`].
    pub const fn index(&self) -> usize {
        match self {
            Self::BadTtl { .. } => 0,
            Self::Truncated { .. } => 1,
            Self::BadVersion { .. } => 2,
            Self::BadLength { .. } => 3,
            Self::ZeroMultiplier => 4,
            Self::Multipoint => 5,
            Self::ZeroDiscriminator => 6,
            Self::UnknownDiscriminator { .. } => 7,
            Self::NoDiscriminator { .. } => 8,
            Self::UnknownPeer { .. } => 9,
            Self::Authenticated => 10,
        }
    }

    /// The name of the variant's counter.
    pub const fn name(&self) -> &'static str {
        Self::NAMES[self.index()]
    }
}

/// How often each [`Rejection`] occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters([u64; Rejection::NAMES.len()]);

impl Counters {
    /// Counts a rejection and returns how often it has occurred now.
    pub fn count(&mut self, rejection: &Rejection) -> u64 {
        let counter = &mut self.0[rejection.index()];
        *counter += 1;
        *counter
    }

    /// Names and counts, zeros too.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Rejection::NAMES.into_iter().zip(self.0)
    }
}

/// Checks a datagram and returns the packet in it, and the session that it is for.
///
/// `find` looks for the session among those of the interface it came by: by this node's discriminator where the
/// packet names it (first argument), and in any case by the peer's address.
pub fn decode<S>(
    datagram: &Datagram,
    find: impl FnOnce(Option<u32>, IpAddr) -> Option<S>,
) -> Result<(Packet, S), Rejection> {
    let Datagram { source, ttl, ref payload } = *datagram;
    if ttl != TTL {
        return Err(Rejection::BadTtl { ttl });
    }
    let length = payload.len();
    let Some((header, rest)) = payload.split_first_chunk::<4>() else {
        return Err(Rejection::Truncated { length });
    };
    let [version_and_diagnostic, state_and_flags, multiplier, says] = *header;
    let version = version_and_diagnostic >> 5;
    if version != VERSION {
        return Err(Rejection::BadVersion { version });
    }
    let has = |flag| state_and_flags & flag != 0;
    let least = if has(AUTHENTICATION_PRESENT) { LENGTH_WITH_AUTHENTICATION } else { LENGTH };
    if usize::from(says) < least || usize::from(says) > length {
        return Err(Rejection::BadLength { says, length });
    }
    let Some(words) = rest.first_chunk::<20>() else {
        return Err(Rejection::Truncated { length });
    };
    let (words, _) = words.as_chunks::<4>();
    let word = |index: usize| u32::from_be_bytes(words[index]);
    if multiplier == 0 {
        return Err(Rejection::ZeroMultiplier);
    }
    if has(MULTIPOINT) {
        return Err(Rejection::Multipoint);
    }
    let (my_discriminator, your_discriminator) = (word(0), word(1));
    if my_discriminator == 0 {
        return Err(Rejection::ZeroDiscriminator);
    }
    let state = match state_and_flags >> 6 {
        0 => SessionState::AdminDown,
        1 => SessionState::Down,
        2 => SessionState::Init,
        _ => SessionState::Up,
    };
    let session = if your_discriminator != 0 {
        find(Some(your_discriminator), source).ok_or(Rejection::UnknownDiscriminator {
            discriminator: your_discriminator,
            source_address: source,
        })?
    } else {
        if !matches!(state, SessionState::Down | SessionState::AdminDown) {
            return Err(Rejection::NoDiscriminator { state });
        }
        find(None, source).ok_or(Rejection::UnknownPeer { source_address: source })?
    };
    if has(AUTHENTICATION_PRESENT) {
        return Err(Rejection::Authenticated);
    }
    let packet = Packet {
        diagnostic: Diagnostic(version_and_diagnostic & 0x1f),
        state,
        poll: has(POLL),
        final_: has(FINAL),
        control_plane_independent: has(CONTROL_PLANE_INDEPENDENT),
        demand: has(DEMAND),
        multiplier,
        my_discriminator,
        your_discriminator,
        desired_min_tx: Duration::from_micros(word(2).into()),
        required_min_rx: Duration::from_micros(word(3).into()),
    };
    Ok((packet, session))
}

impl Packet {
    /// The bytes that follow the UDP header. Echo packets are never asked for; intervals beyond 71 minutes do not
    /// fit, and become that.
    pub fn encode(&self) -> [u8; LENGTH] {
        let state = match self.state {
            SessionState::AdminDown => 0,
            SessionState::Down => 1,
            SessionState::Init => 2,
            SessionState::Up => 3,
        };
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.poll, POLL)
            | flag(self.final_, FINAL)
            | flag(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | flag(self.demand, DEMAND);
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(&[
            VERSION << 5 | self.diagnostic.0 & 0x1f,
            state << 6 | flags,
            self.multiplier,
            LENGTH as u8,
        ]);
        let words = [
            self.my_discriminator,
            self.your_discriminator,
            microseconds(self.desired_min_tx),
            microseconds(self.required_min_rx),
        ];
        for (bytes, word) in bytes[4..].chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}

fn microseconds(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
