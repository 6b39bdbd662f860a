//! What the stages ask of the kernel: maps, clocks and the routing table.
//!
//! In the XDP program it is `maps::Maps`; tests on the host bring their own.

use lb_common::{
    Address, Be16, Be32, Device, FlowKey, FlowState, FragmentKey, FragmentState, Interface, Mac, NatReply,
    NatReplyKey, NatReplyKey6, Ownership, RangeKey, Service, ServiceKey, ServiceKey6, Verdict, Vip,
    VirtualMac, VlanKey,
};

use crate::{backend::BackendEntry, packet::Packet, vlan::Tags};

/// The maps and helpers, seen from one packet.
pub trait Kernel {
    /// Index of the interface the packet came in through.
    fn ingress(&self) -> u32;
    /// Index of the VLAN device on top of it that the packet belongs to; of a packet that came untagged the same.
    fn logical_ingress(&self) -> u32;
    /// Keeps the running packet's tags aside.
    fn keep_tags(&self, tags: &Tags);
    /// The running packet's tags.
    fn tags(&self) -> Tags;
    /// CLOCK_MONOTONIC in nanoseconds.
    fn now(&self) -> u64;
    /// The same clock as of the last tick: up to 10 ms behind, and a fraction of the cost.
    fn now_coarse(&self) -> u64;

    /// Whether `VIP_FILTER` has this bit.
    fn may_be_vip(&self, bit: u32) -> bool;
    /// Looks up `VIPS`.
    fn vip(&self, address: Be32) -> Option<Vip>;
    /// Looks up `SERVICES`.
    fn service(&self, key: &ServiceKey) -> Option<Service>;
    /// What is kept of `SERVICES` and `SERVICE_RANGES`, in this CPU's own small table.
    fn kept(&self, key: &ServiceKey) -> Kept<'_>;
    /// Keeps a service that was looked up after `version` was told.
    fn keep(&self, key: &ServiceKey, service: &Service, version: u32);
    /// The same of IPv6.
    fn kept6(&self, key: &ServiceKey6) -> Kept<'_>;
    /// The same of IPv6.
    fn keep6(&self, key: &ServiceKey6, service: &Service, version: u32);
    /// Looks up `VIPS6`.
    fn vip6(&self, address: &Address) -> Option<Vip>;
    /// Looks up `SERVICES6`.
    fn service6(&self, key: &ServiceKey6) -> Option<Service>;
    /// Looks up `SERVICE_RANGES`.
    fn service_range(&self, key: RangeKey) -> Option<Service>;
    /// Looks up `LEASES`: when a lease ends.
    fn lease(&self, number: u32) -> Option<u64>;
    /// What a lease says by [`Self::now_coarse`].
    fn ownership(&self, number: u32) -> Option<Ownership>;
    /// A slot of a ring: a backend identifier, and whether it is unsettled.
    fn slot(&self, ring: u32, slot: u32) -> Option<u32>;
    /// The backend identifier that `FLOWS` has for a flow that was seen `since` then, and whose latest packet came `now`
    /// (as of [`Self::now_coarse`]).
    fn recall(&self, key: &FlowKey, now: u64, since: u64) -> Option<u32>;
    /// The same without a trace.
    fn peek(&self, key: &FlowKey, since: u64) -> Option<u32>;
    /// Looks up `FRAGMENTS`.
    fn recall_fragment(&self, key: &FragmentKey) -> Option<FragmentState>;
    /// Writes to `FRAGMENTS`.
    fn remember_fragment(&self, key: &FragmentKey, state: &FragmentState);
    /// Writes to `FLOWS`.
    fn remember(&self, key: &FlowKey, state: &FlowState);
    /// Whether this node has a TCP socket that is an end of a flow; one that only listens is none.
    fn has_connection(&self, key: &FlowKey) -> bool;
    /// Looks up `BACKENDS`.
    fn backend(&self, id: u32) -> Option<BackendEntry<'_>>;
    /// Looks up `INTERFACES`.
    fn interface(&self, slot: u16) -> Option<Interface>;
    /// Looks up `DEVICES`.
    fn device(&self, ifindex: u32) -> Option<Device>;
    /// Looks up `VLANS`: the index of a VLAN device.
    fn vlan(&self, key: &VlanKey) -> Option<u32>;
    /// Looks up `VIRTUAL_MACS`: a lease number.
    fn virtual_mac(&self, key: &VirtualMac) -> Option<u32>;
    /// Whether a MAC address (as `Mac::key`) is another director's.
    fn is_director(&self, mac_key: u64) -> bool;
    /// Whether `TUNNEL_SOURCES` names an address.
    fn is_tunnel_source(&self, address: Address) -> bool;
    /// Whether `NAT_REPLIES` holds anything at all.
    fn has_nat_replies(&self) -> bool;
    /// Whether any service has a local backend.
    fn has_local_services(&self) -> bool;
    /// Looks up `NAT_REPLIES`.
    fn nat_reply(&self, key: &NatReplyKey) -> Option<NatReply>;
    /// Looks up `NAT_REPLIES6`.
    fn nat_reply6(&self, key: &NatReplyKey6) -> Option<NatReply>;
    /// Asks the routing and neighbour tables where a packet that came in here goes.
    fn route(&self, question: &Question) -> Route;

    /// The one's complement sum of `length` bytes of the packet from `offset` on, as they stand in it now;
    /// `None` beyond [`LONGEST_SUM`] or the end of the packet.
    fn sum(&self, offset: u32, length: u32) -> Option<u32>;

    /// Makes room for so many bytes before the frame, or with a negative number takes bytes from its start. Every
    /// address taken of the packet before is void; `None`: there is no room.
    fn grow(&self, bytes: i32) -> Option<Packet>;

    /// Takes bytes from the end of the frame so that `length` are left; as [`Self::grow`] else.
    fn cut(&self, length: u32) -> Option<Packet>;
    /// The longest IP packet that an interface takes, in bytes.
    fn interface_mtu(&self, index: u32) -> Option<u32>;
    /// Whether this CPU may send one more message of its own now; if so it is counted as sent.
    fn may_answer(&self) -> bool;

    /// Counts a verdict.
    fn count(&self, verdict: Verdict);
    /// Counts a packet of `bytes` bytes for a backend.
    fn count_backend(&self, id: u32, bytes: u32, opens_connection: bool);
}

/// What a CPU has kept of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept<'a> {
    /// The service where it is kept, until another is kept there; no service has changed since.
    Fresh(&'a Service),
    /// Nothing that is still good; the present `Settings::services_version`.
    Nothing(u32),
}

/// The most bytes [`Kernel::sum`] takes: a jumbo frame.
pub const LONGEST_SUM: u32 = 9_216;

/// A packet as the routing table sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Its source as it will leave.
    pub source: Address,
    /// Its destination.
    pub destination: Address,
    /// Source port as it will leave, for multipath hashing.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// The IP protocol number.
    pub protocol: u8,
    /// Type of service or traffic class.
    pub traffic_class: u8,
}

/// What the routing and neighbour tables answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Through this interface to this neighbour.
    Forward {
        /// Index of the interface it leaves through.
        interface: u32,
        /// That interface's address.
        source: Mac,
        /// The neighbour's.
        destination: Mac,
        /// The longest IP packet that way, in bytes.
        mtu: u16,
    },
    /// It is for this node itself, or there is no route; the stack knows which.
    NotForwarded,
    /// The kernel does not forward what comes in through this interface.
    ForwardingOff,
    /// There is a route but it leads nowhere now: unreachable, prohibited, neighbour not resolved.
    Nowhere,
}
