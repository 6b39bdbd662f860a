//! What the program decided about a packet: one counter each, in the order a packet meets the decisions.

macro_rules! verdicts {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// The decision about one packet. Its discriminant is the index of its counter in `VERDICTS`.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Verdict {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Verdict {
            /// Every verdict, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in `lb status`, metrics and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// One sentence for the operator.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+)),+ }
            }
        }
    };
}

verdicts! {
    /// Nothing to do with any VIP; passed to the stack untouched.
    NotOurs = "not_ours",
    /// To a VIP or from a `nat` backend, but in a frame for another machine's MAC address, which a switch flooded or this
    /// interface takes because it is promiscuous; passed to the stack untouched, which leaves it alone.
    OtherMac = "other_mac",
    /// In a frame for the virtual MAC address of a virtual router that another node owns, which a switch flooded or sent
    /// where the VIP was; dropped, the owner gets it.
    VirtualMacNotOwner = "virtual_mac_not_owner",
    /// An ARP request for a VIP this node owns; passed to the stack, which answers.
    ArpOwner = "arp_owner",
    /// An ARP request for a VIP this node does not own; dropped, so that only the owner answers.
    ArpNotOwner = "arp_not_owner",
    /// An ARP request for a VIP whose lease has run out; dropped, another node answers by now.
    ArpLeaseExpired = "arp_lease_expired",
    /// To a VIP but to no service of it, and this node owns the VIP; passed to the stack.
    VipStack = "vip_stack",
    /// To a VIP but to no service of it; this node owns the VIP and is told not to accept such packets (`accept = false`);
    /// dropped.
    NotAccepted = "not_accepted",
    /// To a VIP but to no service of it, and this node does not own the VIP; dropped.
    VipNotOwner = "vip_not_owner",
    /// To a VIP whose lease has run out; dropped.
    LeaseExpired = "lease_expired",
    /// A fragment to a VIP but to no service of it, whose lease has not run out; passed to the stack.
    Fragment = "fragment",
    /// A fragment to a VIP whose first fragment was not seen, or more than 30 s ago; passed to the stack.
    FragmentUnknown = "fragment_unknown",
    /// To a VIP, but too short, inconsistent, or with an unfinished checksum over more bytes than can be summed;
    /// dropped.
    Malformed = "malformed",
    /// Steered here by another director; delivered to this node's own backend.
    Delivered = "delivered",
    /// Steered to this node's own backend.
    Local = "local",
    /// Forwarded to a backend by L2 direct routing.
    Dr = "dr",
    /// Forwarded to a backend with the destination rewritten.
    Nat = "nat",
    /// Forwarded to a backend within another IP packet.
    Ipip = "ipip",
    /// Forwarded to a backend within a UDP datagram.
    Gue = "gue",
    /// Encapsulated by another director for this node's own backend; stripped and delivered.
    Decapsulated = "decapsulated",
    /// Encapsulated for this node's own backend, but by somebody whom `tunnel_sources` does not name; passed to the stack
    /// untouched, which has no tunnel for it.
    TunnelStranger = "tunnel_stranger",
    /// Too big for the way to the backend; the sender was told the path's MTU by an ICMP error from the VIP.
    TooBigAnswered = "too_big_answered",
    /// Too big for the way to the backend, and this node has told senders so as often as it may for now; dropped.
    TooBigLimited = "too_big_limited",
    /// Too big for the way to the backend, and nobody can be told: an ICMP error, a sender that is not one host, a path
    /// too narrow for the family; dropped.
    TooBigDropped = "too_big_dropped",
    /// A backend's reply, its source rewritten to the VIP.
    NatReply = "nat_reply",
    /// An ICMP error about a flow of a service; sent to the flow's backend.
    IcmpError = "icmp_error",
    /// An ICMP error about a flow of a service whose backend is this node; passed to the stack.
    IcmpErrorLocal = "icmp_error_local",
    /// An ICMP error about a packet to a `nat` backend, rewritten to be about the client's packet; sent to the client.
    IcmpErrorReply = "icmp_error_reply",
    /// The service has no usable backend; dropped.
    NoBackend = "no_backend",
    /// The chosen backend's MAC address is not resolved; dropped.
    NoNeighbour = "no_neighbour",
    /// A `nat` reply for which the kernel knows no route or next hop; dropped.
    NoRoute = "no_route",
    /// From a `nat` backend, but the kernel does not forward what comes in through this interface, so that nobody
    /// can tell a client's reply from the answer to this node's own probe; passed to the stack untouched.
    ForwardingOff = "forwarding_off",
    /// Merged from several packets by the kernel's GRO or not yet cut by its TSO, and so longer than the other
    /// interface takes in generic mode; dropped. Switch GRO off where it came in, or use native mode.
    TooLong = "too_long",
    /// The TTL ran out here; dropped.
    TtlExpired = "ttl_expired",
    /// A rare stage of the program is not there: a fault of lb itself; passed to the stack untouched.
    StageMissing = "stage_missing",
    /// A map that must hold an entry does not: a fault of lb itself; dropped.
    Internal = "internal",
}

impl Verdict {
    /// The number of counters in `VERDICTS`.
    pub const COUNT: u32 = Self::ALL.len() as u32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_are_counter_indexes() {
        for (index, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, index, "{}", verdict.name());
        }
    }
}
