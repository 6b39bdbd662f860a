//! The edge to the kernel's network: raw sockets, gratuitous ARP and neighbour advertisements, rtnetlink, sysctls. No decisions here.
//!
//! * [`vrrp_socket`] carries adverts, [`bfd_socket`] the packets of BFD.
//! * [`announce`] tells a network where an address lives now, and when to repeat it.
//! * [`packet_socket`] carries single TCP packets to a MAC of the caller's choice, and their answers.
//! * [`netlink`] reads and changes links and addresses, looks routes up; [`events`] follows the changes.
//! * [`macvlan`] makes interfaces for virtual MAC addresses; [`own_routes`] and [`own_rules`] have the routes and policy rules that are ours.
//! * [`neighbour`] makes the kernel resolve next hops and keep them resolved.
//! * [`sysctl`] sets what an interface needs and puts it back; [`tag_offload`] keeps VLAN tags on what it receives.

mod advertisement;
pub mod announce;
mod arp;
pub mod bfd_socket;
mod ethtool;
pub mod events;
pub mod macvlan;
pub mod neighbour;
pub mod netlink;
pub mod own_routes;
pub mod own_rules;
pub mod packet_socket;
pub mod sysctl;
pub mod tag_offload;
pub mod vrrp_socket;

pub use announce::{AnnounceError, AnnounceSchedule, Announcer};
pub use bfd_socket::{BfdSocket, BfdSocketError};
pub(crate) use ethtool::ethtool;
pub use events::{NetEvent, Snapshot, follow};
pub use neighbour::{Failure, Neighbour, NeighbourKeeper, NextHop, REFRESH};
pub use netlink::{AddressOptions, InterfaceAddress, Link, Netlink, NetlinkError, Path, Route, Vlan};
pub use own_routes::{OwnRoute, OwnRoutes, ROUTE_PROTOCOL};
pub use own_rules::OwnRules;
pub use packet_socket::{PacketSocket, PacketSocketError};
pub use sysctl::{InterfaceSysctl, SysctlError, SysctlGuard};
pub use tag_offload::{TagOffload, TagOffloadError};
pub use vrrp_socket::{Listen, VrrpSocket, VrrpSocketError};
