//! What the state machine of a virtual router must know.

use std::{net::IpAddr, time::Duration};

use crate::config::{VirtualRouter, VrrpVersion};

/// The lowest priority a node may advertise while it takes part; 0 means "I am leaving" (RFC 9568 §5.2.4).
pub const PRIORITY_MIN: u8 = 1;
/// The highest priority of a node that is not the address owner.
pub const PRIORITY_MAX: u8 = 254;
/// The priority of the node that has the VIPs as its own addresses (RFC 9568 §1.7, IPvX address owner).
pub const PRIORITY_ADDRESS_OWNER: u8 = 255;

/// The settings of one virtual router that its state machine needs. Version, interval and primary address hold for the
/// machine's life, since a lease must fit the interval that the adverts before it named, and so does being the address
/// owner: other ones are another machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The protocol version, which decides the skew, and whether backups learn the owner's interval.
    pub version: VrrpVersion,
    /// The configured priority, before tracking, 1–255. At [`PRIORITY_ADDRESS_OWNER`] the node claims when it starts,
    /// yields to nobody but another such, and tracking does not change it.
    pub priority: u8,
    /// Whether this node takes the VIP from a living owner of lower priority.
    pub preempt: bool,
    /// How long it waits before it does, after it became backup or last heard an owner it respects.
    pub preempt_delay: Duration,
    /// Time between the adverts of this node (RFC 9568 §6.1, Advertisement_Interval).
    pub advert_interval: Duration,
    /// The address this node's adverts come from; it breaks ties (RFC 9568 §6.4.3).
    pub primary: IpAddr,
    /// How often an owner announces its addresses anew without being asked; `None`: never.
    pub announce_refresh: Option<Duration>,
}

impl From<&VirtualRouter> for Settings {
    fn from(router: &VirtualRouter) -> Self {
        Self {
            version: router.version,
            priority: router.priority,
            preempt: router.preempt,
            preempt_delay: router.preempt_delay,
            advert_interval: router.advert_interval,
            primary: router.source(),
            announce_refresh: router.announce_refresh,
        }
    }
}
