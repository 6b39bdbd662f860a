//! The validated model of a configuration. Whoever holds a [`Config`] need not check it again.

mod authentication;
mod group;
mod placement;
mod router;
mod rule;
mod service;
mod track;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

pub use authentication::{Authentication, AuthenticationMode, Key, Password, Secret};
pub use group::{Notify, SyncGroup};
pub use placement::{NodeAddress, Place, Placement, Route, Scope};
pub use router::{Bfd, ChecksumForm, Transport, VirtualRouter, VrrpVersion};
pub use rule::Rule;
pub use service::{
    Authorities, Backend, Check, CheckKind, CommandCheck, HealthNotify, HttpCheck, Mode, Protocol, Service,
    Tls,
};
pub use track::{ProcessMatch, TrackFile, TrackProcess, TrackScript, Tracked, Tracker, Weight};

/// Everything a node is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the daemon keeps its socket, lock and pins.
    pub daemon: Daemon,
    /// Interfaces that need other than default settings, by name.
    pub interfaces: BTreeMap<String, InterfaceSettings>,
    /// Virtual routers; names, and (interface, router id) pairs, are unique.
    pub virtual_routers: Vec<VirtualRouter>,
    /// Track scripts that virtual routers name; names are unique.
    pub track_scripts: Vec<TrackScript>,
    /// Processes that virtual routers name; names are unique.
    pub track_processes: Vec<TrackProcess>,
    /// Files that virtual routers name; names are unique.
    pub track_files: Vec<TrackFile>,
    /// Groups of virtual routers; names are unique.
    pub sync_groups: Vec<SyncGroup>,
    /// Services; names, and (vip, ports, protocol) triples, are unique.
    pub services: Vec<Service>,
    /// Addresses that the node has while the daemon runs.
    pub addresses: Vec<NodeAddress>,
    /// Routes that the node has while the daemon runs.
    pub routes: Vec<Route>,
    /// Policy rules that the node has while the daemon runs.
    pub rules: Vec<Rule>,
}

/// Settings of the process itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Folder of the control socket `lb.sock` and the lock `lb.lock`. Default `/run/lb`.
    pub runtime_dir: PathBuf,
    /// Folder on a bpffs for pinned links. Default `/sys/fs/bpf/lb`.
    pub pin_dir: PathBuf,
    /// Packet-level debugging in the XDP program; off costs nothing. Default off.
    pub packet_log: PacketLog,
    /// A FIFO that gets a line for each change of state; made if it is not there. Default none.
    pub notify_fifo: Option<PathBuf>,
    /// Whether the protocol thread asks for a real-time class and for memory that is never on disk. Default true.
    pub realtime: bool,
    /// How long the daemon still delivers what other nodes steer here after it has told them that it ends.
    pub drain: Duration,
    /// Networks that may send packets for this node's own backends in `ipip` and `gue`. Default: all, of both families.
    pub tunnel_sources: Vec<IpNet>,
}

/// The level of aya-log in the XDP program, in the order of verbosity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PacketLog {
    /// Compiled out by the verifier.
    #[default]
    Off,
    /// Drops that hint at a fault (no neighbour, no backend, internal).
    Warn,
    /// ARP and lease decisions too.
    Info,
    /// Every packet to a VIP.
    Debug,
}

/// How the XDP program is attached to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum XdpMode {
    /// Native where the driver does it right, generic otherwise.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the stack.
    Generic,
}

/// What may be said about an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceSettings {
    /// How to attach.
    pub xdp: XdpMode,
}

impl Config {
    /// The virtual router that owns `vip`, if any.
    pub fn router_of(&self, vip: IpAddr) -> Option<&VirtualRouter> {
        self.virtual_routers.iter().find(|r| r.all_vips().any(|v| v.addr() == vip))
    }

    /// The group of the virtual router with that name, if it is in one.
    pub fn group_of(&self, router: &str) -> Option<&SyncGroup> {
        self.sync_groups.iter().find(|group| group.routers.iter().any(|name| name == router))
    }

    /// Every interface the XDP program must be attached to, in order of name, without repeats: those of the
    /// virtual routers, those that VIPs are on, and those listed under `interface`. An interface with a virtual MAC address is
    /// none of them: what is for it comes in below.
    pub fn attached_interfaces(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .virtual_routers
            .iter()
            .flat_map(|r| {
                let of_vips = r.placement.places.values().filter_map(|place| place.interface.as_deref());
                of_vips.chain([r.interface.as_str()])
            })
            .chain(self.interfaces.keys().map(String::as_str))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
