//! The contract between the XDP program (`lb-ebpf`) and the control plane (`lb-user`): map keys and
//! values, limits, the flow hash and the verdicts. Nothing here needs a map or the standard library.
//!
//! Byte order: every field that is compared with bytes of a packet is kept **as it stands in the packet**
//! (network order, loaded natively), and its type says so: [`Be16`], [`Be32`], [`Mac`]. Everything else is
//! in host order.
//!
//! A change of any type, limit or meaning here is a change of [`LAYOUT_VERSION`].
#![cfg_attr(not(any(test, feature = "user")), no_std)]
#![expect(
    clippy::inline_always,
    reason = "a call costs more than these functions, and registers are few in BPF"
)]

mod address;
mod backend;
mod device;
mod flow;
mod fragment;
mod keys;
mod ownership;
mod stage;
mod trace;
mod verdict;

pub use address::Address;
pub use backend::{
    Backend, BackendCounters, Interface, MODE_DR, MODE_GUE, MODE_IPIP, MODE_LOCAL, MODE_NAT, MODE_NONE,
    NextHop, OUTER_HOPS, outer_sum,
};
pub use device::{Device, Tag, VirtualMac, VlanKey};
pub use flow::{Flow, slot};
pub use fragment::{
    FRAGMENT_LIFETIME, FRAGMENT_OF_REPLY, FRAGMENT_TO_BACKEND, FRAGMENT_TO_STACK, FragmentKey, FragmentState,
};
pub use keys::{
    Be16, Be32, FlowKey, FlowState, Mac, NatReply, NatReplyKey, NatReplyKey6, RangeKey, Service, ServiceKey,
    ServiceKey6, Settings, SlotPair, TunnelSource, UNSETTLED, Vip, slot_backend, slot_is_unsettled,
};
pub use ownership::{LEASE_BACKUP, LEASE_FOREVER, Lease, Ownership, ownership};
pub use stage::{Stage, Variant};
pub use trace::Trace;
pub use verdict::Verdict;

/// The version of everything in this crate; pinned maps of another version are not adopted.
pub const LAYOUT_VERSION: u32 = 3;

/// Ring slots of a service unless its configuration says otherwise (a prime, as Maglev wants it).
pub const DEFAULT_RING_SIZE: u32 = 65_537;

/// The number of entries of each map, unless the loader overrides it.
pub mod limits {
    /// Virtual IP addresses.
    pub const VIPS: u32 = 1_024;
    /// Bits of the filter that most addresses of others fall through. A power of two.
    pub const FILTER_BITS: u32 = 65_536;
    /// Services (VIP address + port + protocol), and so rings.
    pub const SERVICES: u32 = 4_096;
    /// Backends of all services together; identifier 0 is never used. Their counters take 32 bytes each on
    /// every possible CPU: 32 MiB on 64 of them.
    pub const BACKENDS: u32 = 16_384;
    /// The most backends a configuration can have; the loader makes room by how many there are.
    pub const MOST_BACKENDS: u32 = 131_072;
    /// Rings: two for each service, one of them for the previous backends of unsettled slots.
    pub const RINGS: u32 = 2 * SERVICES;
    /// Leases, one per virtual router, and number 0 for VIPs without one.
    pub const LEASES: u32 = 256;
    /// Network interfaces the program may send through.
    pub const INTERFACES: u32 = 64;
    /// VLAN devices of this node.
    pub const VLANS: u32 = 4_096;
    /// Directors that share a service with this node.
    pub const DIRECTORS: u32 = 256;
    /// Networks whose encapsulated packets are taken out.
    pub const TUNNEL_SOURCES: u32 = 256;
    /// Backends in `nat` mode, whose replies are rewritten.
    pub const NAT_REPLIES: u32 = 16_384;
    /// Prefixes of port ranges; a range is at most 30 of them.
    pub const SERVICE_RANGES: u32 = 4_096;
    /// Packets in pieces that are remembered.
    pub const FRAGMENTS: u32 = 16_384;
    /// Flows of unsettled slots that are remembered.
    pub const FLOWS: u32 = 131_072;
}

/// The names of maps and load-time globals in the eBPF object; [`Variant`] and [`Stage`] know those of the programs.
pub mod names {
    /// The program that explains: the pipeline as in generic mode, which counts and remembers nothing and writes down how it
    /// decides. Never attached.
    pub const PROGRAM_EXPLAIN: &str = "lb_xdp_explain";
    /// `ProgramArray`, by [`Stage::slot`](crate::Stage::slot).
    pub const STAGES: &str = "STAGES";
    /// `HashMap<Be32, Vip>`: which addresses are ours, and which lease guards each.
    pub const VIPS: &str = "VIPS";
    /// `HashMap<Address, Vip>`: the IPv6 ones.
    pub const VIPS6: &str = "VIPS6";
    /// `Array<u64>` (memory-mappable): bit [`Address::filter_bit`](crate::Address::filter_bit) is set if a VIP has it, so
    /// that what is for nobody here is spared every other look-up.
    pub const VIP_FILTER: &str = "VIP_FILTER";
    /// `HashMap<ServiceKey, Service>`.
    pub const SERVICES: &str = "SERVICES";
    /// `HashMap<ServiceKey6, Service>`: those of IPv6 VIPs.
    pub const SERVICES6: &str = "SERVICES6";
    /// `LpmTrie<RangeKey, Service>`: port ranges of VIPs of both families.
    pub const SERVICE_RANGES: &str = "SERVICE_RANGES";
    /// `LruHashMap<FlowKey, FlowState>`: flows of unsettled slots.
    pub const FLOWS: &str = "FLOWS";
    /// `LruHashMap<FragmentKey, FragmentState>`: packets in pieces.
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// `ArrayOfMaps<Array<SlotPair>>`: service ring index → ring of backend identifiers.
    pub const RINGS: &str = "RINGS";
    /// `Array<Backend>` (memory-mappable), by backend identifier.
    pub const BACKENDS: &str = "BACKENDS";
    /// `PerCpuArray<BackendCounters>`, by backend identifier.
    pub const BACKEND_COUNTERS: &str = "BACKEND_COUNTERS";
    /// `PerCpuArray<u64>` with one entry: how often the program has answered of late.
    pub const ANSWERS: &str = "ANSWERS";
    /// `PerCpuArray<u64>`, by [`Verdict`](crate::Verdict).
    pub const VERDICTS: &str = "VERDICTS";
    /// `Array<Lease>` (memory-mappable), by lease number.
    pub const LEASES: &str = "LEASES";
    /// `Array<Interface>`, by interface slot.
    pub const INTERFACES: &str = "INTERFACES";
    /// `DevMap`, by interface slot.
    pub const EGRESS: &str = "EGRESS";
    /// `Array<Device>`, by [`Device::place`](crate::Device::place).
    pub const DEVICES: &str = "DEVICES";
    /// `HashMap<VlanKey, u32>`: the indexes of VLAN devices.
    pub const VLANS: &str = "VLANS";
    /// `HashMap<VirtualMac, u32>`: the leases that virtual MAC addresses go with.
    pub const VIRTUAL_MACS: &str = "VIRTUAL_MACS";
    /// `HashMap<u64, u8>`: the MAC addresses (as [`Mac::key`](crate::Mac::key)) of the other directors.
    pub const DIRECTORS: &str = "DIRECTORS";
    /// `LpmTrie<TunnelSource, u8>`: the networks that encapsulated packets are taken out from.
    pub const TUNNEL_SOURCES: &str = "TUNNEL_SOURCES";
    /// `HashMap<NatReplyKey, NatReply>`.
    pub const NAT_REPLIES: &str = "NAT_REPLIES";
    /// `HashMap<NatReplyKey6, NatReply>`.
    pub const NAT_REPLIES6: &str = "NAT_REPLIES6";
    /// `Array<Settings>` with one entry: a section of variables, of which the program knows the address.
    pub const SETTINGS: &str = ".data.settings";
    /// `Array<Trace>` with one entry.
    pub const TRACE: &str = "TRACE";
    /// `u8` load-time global: aya-log level of packet debugging, 0 = off (costs nothing).
    pub const LOG_LEVEL: &str = "LOG_LEVEL";
}
