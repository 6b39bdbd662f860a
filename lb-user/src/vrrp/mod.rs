//! VRRP without a socket or a clock: the packet codec and the state machine of a virtual router.
//!
//! * [`packet`] checks and decodes adverts, and encodes ours.
//! * [`machine`] decides who owns the VIPs, and for how long the lease runs.
//! * [`timers`] holds every time the protocol and the lease are made of.
//!
//! Built: VRRPv2 (RFC 3768) with simple text authentication (RFC 2338 §5.3.6), VRRPv3 (RFC 9568) over IPv4 and IPv6,
//! unicast and multicast, and signed adverts between nodes of this program.

pub mod machine;
pub mod packet;
pub mod settings;
pub mod timers;

#[cfg(test)]
mod simulation;

pub use machine::{Action, BackupReason, Input, Machine, Reach, State};
pub use packet::{Acceptance, Advert, Datagram, DecodeCounters, DecodeError, Endpoint, Observations};
pub use settings::Settings;
