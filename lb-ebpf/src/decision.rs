//! From a verdict to what becomes of the packet.

use lb_common::Verdict;

/// What was decided about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is counted.
    pub verdict: Verdict,
    /// Where the packet leaves, if the verdict sends it.
    pub egress: Egress,
}

/// Where a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// It does not.
    None,
    /// Through the interface it came in.
    Back,
    /// Through the interface in a slot of `EGRESS`.
    Slot(u32),
    /// Through the interface with this index.
    Interface(u32),
    /// By way of this node's stack, which forwards it.
    Stack,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Up this node's stack.
    Pass,
    /// Nowhere.
    Drop,
    /// Out through its [`Egress`].
    Send,
}

impl From<Verdict> for Decision {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        Self { verdict, egress: Egress::None }
    }
}

/// The one place that says what a verdict does to the packet.
#[inline(always)]
pub const fn action(verdict: Verdict) -> Action {
    match verdict {
        Verdict::NotOurs
        | Verdict::OtherMac
        | Verdict::ArpOwner
        | Verdict::VipStack
        | Verdict::Fragment
        | Verdict::Delivered
        | Verdict::Decapsulated
        | Verdict::Local
        | Verdict::ForwardingOff => Action::Pass,
        Verdict::Dr | Verdict::Nat | Verdict::Ipip | Verdict::Gue | Verdict::NatReply => Action::Send,
        Verdict::ArpNotOwner
        | Verdict::ArpLeaseExpired
        | Verdict::VipNotOwner
        | Verdict::LeaseExpired
        | Verdict::Malformed
        | Verdict::NoBackend
        | Verdict::NoNeighbour
        | Verdict::NoRoute
        | Verdict::TooLong
        | Verdict::TooBigDropped
        | Verdict::TtlExpired
        | Verdict::Internal => Action::Drop,
    }
}

/// How much a verdict says to whoever debugs packets; `config::PacketLog` in `lb-user` has the same steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something is wrong with this node, its neighbours or its configuration.
    Fault,
    /// A VIP was asked for, and its owner is known.
    Ownership,
    /// Traffic as it should be.
    Ordinary,
    /// Nothing to do with a VIP: never logged.
    Silent,
}

/// The severity of a verdict.
#[inline(always)]
pub const fn severity(verdict: Verdict) -> Severity {
    match verdict {
        Verdict::NotOurs => Severity::Silent,
        Verdict::NoBackend
        | Verdict::NoNeighbour
        | Verdict::NoRoute
        | Verdict::ForwardingOff
        | Verdict::TooLong
        | Verdict::TooBigDropped
        | Verdict::TtlExpired
        | Verdict::Malformed
        | Verdict::Internal => Severity::Fault,
        Verdict::ArpOwner
        | Verdict::ArpNotOwner
        | Verdict::ArpLeaseExpired
        | Verdict::VipNotOwner
        | Verdict::LeaseExpired => Severity::Ownership,
        Verdict::OtherMac
        | Verdict::VipStack
        | Verdict::Fragment
        | Verdict::Delivered
        | Verdict::Local
        | Verdict::Dr
        | Verdict::Nat
        | Verdict::Ipip
        | Verdict::Gue
        | Verdict::Decapsulated
        | Verdict::NatReply => Severity::Ordinary,
    }
}
