//! From a verdict to what becomes of the packet.

use lb_common::{Stage, Tag, Verdict};

/// What was decided about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is counted.
    pub verdict: Verdict,
    /// Where the packet leaves, if the verdict sends it.
    pub egress: Egress,
}

/// Where a packet leaves.
///
/// A structure rather than an enum with values: of a value that some ways do not set the compiler would save a register
/// that the verifier has never seen written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Which way.
    pub way: Way,
    /// The number that [`Way`] speaks of; otherwise 0.
    pub number: u32,
    /// The VLAN tag it leaves with; [`Tag::NONE`]: none, [`Tag::AS_IT_CAME`]: those it came with.
    pub tag: Tag,
}

/// Which way a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// None: it does not.
    None,
    /// Through the interface it came in.
    Back,
    /// Through the interface in the slot of `EGRESS` with the number.
    Slot,
    /// Through the interface that has the number as its index.
    Interface,
    /// By way of this node's stack, which forwards it.
    Stack,
    /// It is not decided yet: the rare stage with the number, a program of its own, takes the packet over, which is
    /// untouched so far.
    Stage,
}

impl Egress {
    /// It does not.
    pub const NONE: Self = Self { way: Way::None, number: 0, tag: Tag::NONE };
    /// Back where it came from: through the interface it came in, with the tags it came with.
    pub const BACK: Self = Self { way: Way::Back, number: 0, tag: Tag::AS_IT_CAME };
    /// By way of this node's stack.
    pub const STACK: Self = Self { way: Way::Stack, number: 0, tag: Tag::AS_IT_CAME };

    /// Through the interface it came in, with a tag or none.
    #[inline(always)]
    pub const fn back(tag: Tag) -> Self {
        Self { way: Way::Back, number: 0, tag }
    }

    /// Through the interface in a slot of `EGRESS`.
    #[inline(always)]
    pub const fn slot(number: u32, tag: Tag) -> Self {
        Self { way: Way::Slot, number, tag }
    }

    /// Through the interface with an index.
    #[inline(always)]
    pub const fn interface(number: u32, tag: Tag) -> Self {
        Self { way: Way::Interface, number, tag }
    }

    /// Whether the packet has to get a tag that it did not come with, where it came untagged.
    #[inline(always)]
    pub const fn needs_tag(self) -> bool {
        self.tag.0 > Tag::AS_IT_CAME.0
    }
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

impl Decision {
    /// The pipeline goes on in a rare stage; the verdict is what is decided if that is not there.
    #[inline(always)]
    pub const fn go_on_in(stage: Stage) -> Self {
        Self {
            verdict: Verdict::StageMissing,
            egress: Egress { way: Way::Stage, number: stage as u32, tag: Tag::NONE },
        }
    }
}

impl Decision {
    /// The decision of a packet that goes nowhere. All ways that end so meet here, with their verdict in a register: the
    /// optimiser would otherwise have each of them, on the way of every packet, prepare all the fields.
    #[inline(always)]
    pub fn ended(verdict: Verdict) -> Self {
        Self::from(opaque(verdict))
    }
}

/// Hides from the optimiser which verdict it is.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn opaque(verdict: Verdict) -> Verdict {
    let mut number = verdict as u64;
    // One real instruction: the kernel refuses line information about none.
    // SAFETY: a register is copied to itself, so the number is still the verdict's.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) number, options(nomem, nostack, preserves_flags));
        core::mem::transmute::<u32, Verdict>(number as u32)
    }
}

#[cfg(not(target_arch = "bpf"))]
fn opaque(verdict: Verdict) -> Verdict {
    verdict
}

impl From<Verdict> for Decision {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        Self { verdict, egress: Egress::NONE }
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
        | Verdict::FragmentUnknown
        | Verdict::Delivered
        | Verdict::Decapsulated
        | Verdict::TunnelStranger
        | Verdict::Local
        | Verdict::IcmpErrorLocal
        | Verdict::ForwardingOff
        | Verdict::StageMissing => Action::Pass,
        Verdict::Dr
        | Verdict::Nat
        | Verdict::Ipip
        | Verdict::Gue
        | Verdict::NatReply
        | Verdict::IcmpError
        | Verdict::IcmpErrorReply
        | Verdict::TooBigAnswered => Action::Send,
        Verdict::VirtualMacNotOwner
        | Verdict::ArpNotOwner
        | Verdict::ArpLeaseExpired
        | Verdict::NotAccepted
        | Verdict::VipNotOwner
        | Verdict::LeaseExpired
        | Verdict::Malformed
        | Verdict::NoBackend
        | Verdict::NoNeighbour
        | Verdict::NoRoute
        | Verdict::TooLong
        | Verdict::TooBigDropped
        | Verdict::TooBigLimited
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
        | Verdict::TooBigLimited
        | Verdict::TtlExpired
        | Verdict::Malformed
        | Verdict::TunnelStranger
        | Verdict::StageMissing
        | Verdict::Internal => Severity::Fault,
        Verdict::VirtualMacNotOwner
        | Verdict::ArpOwner
        | Verdict::ArpNotOwner
        | Verdict::ArpLeaseExpired
        | Verdict::VipNotOwner
        | Verdict::LeaseExpired => Severity::Ownership,
        Verdict::OtherMac
        | Verdict::VipStack
        | Verdict::NotAccepted
        | Verdict::Fragment
        | Verdict::FragmentUnknown
        | Verdict::Delivered
        | Verdict::Local
        | Verdict::Dr
        | Verdict::Nat
        | Verdict::Ipip
        | Verdict::Gue
        | Verdict::Decapsulated
        | Verdict::NatReply
        | Verdict::IcmpError
        | Verdict::IcmpErrorLocal
        | Verdict::IcmpErrorReply
        | Verdict::TooBigAnswered => Severity::Ordinary,
    }
}
