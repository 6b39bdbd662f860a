//! Bidirectional forwarding detection (RFC 5880) of a neighbour on the same link (RFC 5881): whether a peer is
//! alive, known within three packets of 50 ms where adverts come every second.
//!
//! * [`packet`] checks and decodes control packets, and encodes ours.
//! * [`session`] is the state machine of one session, and what its peer's patience means for this node's lease.
//! * [`timers`] holds every time they are made of.
//!
//! Left out, as RFC 5880 §6 permits: the echo function, demand mode of this node's own, authentication.

pub mod packet;
pub mod session;
pub mod timers;

#[cfg(test)]
mod simulation;

pub use packet::{Counters, Datagram, Diagnostic, Packet, Rejection, SessionState};
pub use session::{Action, DownReason, Input, Role, Session, Settings};
