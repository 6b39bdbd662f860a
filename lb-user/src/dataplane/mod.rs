//! The edge to the kernel's data plane. The reconciler is the only caller of [`Dataplane`].

use std::{io, path::PathBuf};

use ipnet::IpNet;
use lb_common::{
    Address, Backend, BackendCounters, Device, FlowKey, FlowState, Interface, Mac, NatReply, NatReplyKey6,
    NextHop, RangeKey, Service, ServiceKey6, Vip, VirtualMac,
};
use serde::Serialize;

use crate::config::XdpMode;

mod attach;
mod batch;
#[cfg(feature = "bench")]
mod bench;
mod driver;
mod explain;
mod flows;
mod leases;
mod link;
mod loading;
mod log;
mod mapped;
mod maps;
pub mod memory;
mod reset;
mod rights;
mod runner;
mod sizes;
mod stages;
mod xdp;

pub use attach::Program;
pub use explain::Explained;
pub use flows::FlowCursor;
pub use leases::Leases;
pub use link::LinkState;
pub use log::spawn_packet_log;
pub use memory::MemoryDataplane;
pub use runner::Runner;
pub use sizes::ProgramSize;
pub use xdp::{LoadOptions, TestOutcome, XdpDataplane};

/// The maps and attachments of one loaded program. Every operation is idempotent: putting what is there or
/// deleting what is not is a success. IPv4 addresses are v4-mapped.
pub trait Dataplane: Send {
    /// Makes `address` one of ours.
    fn put_vip(&mut self, address: Address, vip: Vip) -> Result<(), DataplaneError>;
    /// Forgets it.
    fn delete_vip(&mut self, address: Address) -> Result<(), DataplaneError>;
    /// Creates or atomically replaces a service.
    fn put_service(&mut self, key: ServiceKey6, service: Service) -> Result<(), DataplaneError>;
    /// Forgets it.
    fn delete_service(&mut self, key: ServiceKey6) -> Result<(), DataplaneError>;
    /// Creates or atomically replaces the service of all ports that agree with that of `key` in the upper `port_bits`
    /// (at most 16) bits. Only asked for VIPs with `Vip::HAS_RANGES`, and for what `put_service` does not name.
    fn put_service_range(
        &mut self,
        key: RangeKey,
        port_bits: u8,
        service: Service,
    ) -> Result<(), DataplaneError>;
    /// Forgets it.
    fn delete_service_range(&mut self, key: RangeKey, port_bits: u8) -> Result<(), DataplaneError>;
    /// Replaces the ring at `index` as a whole: a packet meets the old one or the new one. `slots` are backend
    /// identifiers.
    fn put_ring(&mut self, index: u32, slots: &[u32]) -> Result<(), DataplaneError>;
    /// The same for many, in this order, which takes the kernel little longer than one.
    fn put_rings(&mut self, rings: &[(u32, &[u32])]) -> Result<(), DataplaneError>;
    /// Frees the ring's memory; no service may name it any more.
    fn delete_ring(&mut self, index: u32) -> Result<(), DataplaneError>;
    /// Writes a backend that no ring names yet.
    fn put_backend(&mut self, id: u32, backend: Backend) -> Result<(), DataplaneError>;
    /// Replaces the flags of a backend in one store.
    fn set_backend_flags(&mut self, id: u32, flags: u8) -> Result<(), DataplaneError>;
    /// Replaces the next hop of a backend in one store.
    fn set_next_hop(&mut self, id: u32, next_hop: NextHop) -> Result<(), DataplaneError>;
    /// The leases, which others than the reconciler write.
    fn leases(&self) -> Leases;
    /// Describes the interface behind a slot.
    fn put_interface(&mut self, slot: u16, interface: Interface) -> Result<(), DataplaneError>;
    /// Describes one of the node's own devices, in place of any other that has the same [`Device::place`].
    fn put_device(&mut self, device: Device) -> Result<(), DataplaneError>;
    /// Forgets it.
    fn delete_device(&mut self, device: Device) -> Result<(), DataplaneError>;
    /// Has a device take frames for a virtual router's MAC address while this node owns a lease.
    fn put_virtual_mac(&mut self, mac: VirtualMac, lease: u32) -> Result<(), DataplaneError>;
    /// Forgets it.
    fn delete_virtual_mac(&mut self, mac: VirtualMac) -> Result<(), DataplaneError>;
    /// Notes the MAC address of another director.
    fn put_director(&mut self, mac: Mac) -> Result<(), DataplaneError>;
    /// Forgets it.
    fn delete_director(&mut self, mac: Mac) -> Result<(), DataplaneError>;
    /// Takes out what comes encapsulated from a network.
    fn put_tunnel_source(&mut self, network: IpNet) -> Result<(), DataplaneError>;
    /// No longer does.
    fn delete_tunnel_source(&mut self, network: IpNet) -> Result<(), DataplaneError>;
    /// Tells how to rewrite the replies of a `nat` backend.
    fn put_nat_reply(&mut self, key: NatReplyKey6, reply: NatReply) -> Result<(), DataplaneError>;
    /// Forgets it.
    fn delete_nat_reply(&mut self, key: NatReplyKey6) -> Result<(), DataplaneError>;

    /// Reads some of the remembered flows, from `cursor` on, and moves it; about `most` at a time. Flows that come or go
    /// meanwhile may be missed, the others are not.
    fn read_flows(
        &mut self,
        cursor: &mut FlowCursor,
        most: u32,
    ) -> Result<Vec<(FlowKey, FlowState)>, DataplaneError>;
    /// Forgets flows.
    fn forget_flows(&mut self, keys: &[FlowKey]) -> Result<(), DataplaneError>;

    /// Asks the program how it would decide about a frame that came in through an interface, by index. Nothing is sent,
    /// counted or remembered.
    fn explain(&mut self, ingress: u32, frame: &[u8]) -> Result<Explained, DataplaneError>;

    /// Attaches the program to an interface, or replaces atomically what an earlier `lb` left attached there.
    /// Called once the maps are filled.
    fn attach(&mut self, interface: &str, mode: XdpMode) -> Result<Attachment, DataplaneError>;
    /// Detaches from an interface and removes the pin.
    fn detach(&mut self, interface: &str) -> Result<(), DataplaneError>;

    /// The verdict counters, summed over CPUs, in the order of `Verdict::ALL`.
    fn verdicts(&self) -> Result<Vec<u64>, DataplaneError>;
    /// A backend's counters, summed over CPUs.
    fn backend_counters(&self, id: u32) -> Result<BackendCounters, DataplaneError>;
    /// Zeroes them, before an identifier is used again.
    fn reset_backend_counters(&mut self, id: u32) -> Result<(), DataplaneError>;
}

/// How an interface is attached, and why so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// `native` or `generic`.
    pub mode: &'static str,
    /// One sentence for `lb status`.
    pub reason: String,
}

/// What can go wrong at the edge to the kernel.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The process lacks a right.
    #[error("{what} needs {capabilities}; run as root, or give the process these capabilities")]
    Rights {
        /// What was attempted.
        what: &'static str,
        /// For instance `CAP_BPF and CAP_NET_ADMIN`.
        capabilities: &'static str,
    },
    /// The program did not load.
    #[error("the XDP program does not load on this kernel ({release}): {source}")]
    Load {
        /// `uname -r`.
        release: String,
        /// The verifier's or loader's words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A map operation failed.
    #[error("map {map}: {operation} {key}: {source}")]
    Map {
        /// The map's name.
        map: &'static str,
        /// For instance `insert`.
        operation: &'static str,
        /// The key, readable.
        key: String,
        /// The kernel's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The program that explains could not be asked.
    #[error("the XDP program cannot be asked: {source}")]
    Explain {
        /// The kernel's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No such interface.
    #[error("interface {0} does not exist")]
    NoInterface(String),
    /// Attaching failed in every allowed mode.
    #[error("attaching XDP to {interface} in {mode} mode failed: {source}; {remedy}")]
    Attach {
        /// The interface.
        interface: String,
        /// The mode tried last.
        mode: &'static str,
        /// The kernel's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What the operator can do.
        remedy: String,
    },
    /// The folder for pins is unusable.
    #[error("{path}: {source}; mount a bpffs there (mount -t bpf bpf /sys/fs/bpf) or set daemon.pin_dir")]
    Pin {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DataplaneError {
    fn explain(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Explain { source: source.into() }
    }
}
