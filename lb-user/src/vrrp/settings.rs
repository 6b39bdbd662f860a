//! What the state machine of a virtual router must know.

use std::{net::IpAddr, time::Duration};

use crate::config::{VirtualRouter, VrrpVersion};

/// The lowest priority a node may advertise while it takes part; 0 means "I am leaving" (RFC 3768 §5.3.4).
pub const PRIORITY_MIN: u8 = 1;
/// The highest priority of a node that is not the owner of the addresses in the RFC's sense, which is 255.
pub const PRIORITY_MAX: u8 = 254;

/// The settings of one virtual router that its state machine needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The protocol version, which decides the skew.
    pub version: VrrpVersion,
    /// The configured priority, before tracking; kept within [`PRIORITY_MIN`] and [`PRIORITY_MAX`].
    pub priority: u8,
    /// Whether this node takes the VIP from a living owner of lower priority.
    pub preempt: bool,
    /// Time between adverts.
    pub advert_interval: Duration,
    /// The address this node's adverts come from; it breaks ties (RFC 3768 §6.4.3).
    pub primary: IpAddr,
}

impl From<&VirtualRouter> for Settings {
    fn from(router: &VirtualRouter) -> Self {
        Self {
            version: router.version,
            priority: router.priority,
            preempt: router.preempt,
            advert_interval: router.advert_interval,
            primary: router.source(),
        }
    }
}
