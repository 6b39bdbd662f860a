//! VLAN tags (IEEE 802.1Q): taken off before the pipeline, and put on after it.
//!
//! A tagged frame is a rare stage's: that of the VLAN device on top of the interface it came in by. The tags are taken off
//! and kept aside, the pipeline sees what that device would, and what leaves gets the tag of where it leaves.

use lb_common::{Tag, Verdict, VlanKey};

use crate::{
    decide,
    decision::{Action, Decision, Way, action},
    kernel::Kernel,
    packet::Packet,
};

/// EtherType of a tag, as it stands in the packet.
pub(crate) const ETHERTYPE_VLAN: u16 = Tag::PROTOCOL.to_be();
/// EtherType of a provider's tag, as it stands in the packet.
pub(crate) const ETHERTYPE_PROVIDER_VLAN: u16 = Tag::PROTOCOL_PROVIDER.to_be();
/// Bytes of a tag.
const LENGTH: i32 = 4;

/// The tags of the running packet, which has come untagged where there are none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// The outer one.
    pub first: Tag,
    /// The inner one; [`Tag::NONE`] if there is one only.
    pub second: Tag,
    /// The index of the VLAN device they belong to.
    pub device: u32,
}

impl Tags {
    /// It came without any.
    pub const NONE: Self = Self { first: Tag::NONE, second: Tag::NONE, device: 0 };
}

/// Decides about a tagged frame. What belongs to no VLAN device of this node, or has more than two tags, is not ours.
#[inline(always)]
pub(crate) fn run<K: Kernel, const GENERIC: bool>(kernel: &K, packet: Packet) -> Result<Decision, Verdict> {
    kernel.keep_tags(&Tags::NONE);
    let tags = read(kernel, packet).ok_or(Verdict::NotOurs)?;
    let mut untagged = take_off(kernel, packet).ok_or(Verdict::NotOurs)?;
    if tags.second != Tag::NONE {
        // Invariant: it was just read.
        untagged = take_off(kernel, untagged).ok_or(Verdict::Internal)?;
    }
    kernel.keep_tags(&tags);
    decide::<K, GENERIC>(kernel, untagged)
}

/// Gives the packet the tags it leaves with; whether it has got them.
#[inline(always)]
pub fn leave<K: Kernel>(kernel: &K, decision: Decision) -> bool {
    let came = kernel.tags();
    let tag = decision.egress.tag;
    let as_it_came = match action(decision.verdict) {
        Action::Drop => return true,
        Action::Pass => true,
        Action::Send => tag == Tag::AS_IT_CAME || decision.egress.way == Way::Stack,
    };
    if !as_it_came {
        return tag == Tag::NONE || put_on(kernel, tag.with_priority_of(came.first));
    }
    (came.second == Tag::NONE || put_on(kernel, came.second))
        && (came.first == Tag::NONE || put_on(kernel, came.first))
}

/// The frame without its tags, but also without whom it is for and from: for whoever does not ask for that.
#[inline(always)]
pub fn within_tags(mut packet: Packet) -> Packet {
    for _ in 0..2 {
        match packet.header::<14>() {
            Some(header) if is_tag(header.read::<u16, 12>()) => {
                packet = packet.behind(LENGTH.cast_unsigned());
            }
            _ => break,
        }
    }
    packet
}

/// Reads the tags and finds the device they belong to.
#[inline(always)]
fn read<K: Kernel>(kernel: &K, packet: Packet) -> Option<Tags> {
    let header = packet.header::<18>()?;
    let first = Tag(header.read::<u32, 12>());
    let device = device(kernel, kernel.ingress(), first)?;
    if !is_tag(header.read::<u16, 16>()) {
        return Some(Tags { first, second: Tag::NONE, device });
    }
    let header = packet.header::<22>()?;
    let second = Tag(header.read::<u32, 16>());
    if is_tag(header.read::<u16, 20>()) {
        return None;
    }
    Some(Tags { first, second, device: self::device(kernel, device, second)? })
}

#[inline(always)]
fn is_tag(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_PROVIDER_VLAN
}

#[inline(always)]
fn device<K: Kernel>(kernel: &K, parent: u32, tag: Tag) -> Option<u32> {
    if tag.is_priority_only() {
        return Some(parent);
    }
    kernel.vlan(&VlanKey { parent, tag: tag.identity() })
}

/// Takes the outer tag off.
#[inline(always)]
fn take_off<K: Kernel>(kernel: &K, packet: Packet) -> Option<Packet> {
    let header = packet.header::<16>()?;
    let addresses = (header.read::<u32, 0>(), header.read::<u32, 4>(), header.read::<u32, 8>());
    let packet = kernel.grow(-LENGTH)?;
    let header = packet.header::<12>()?;
    header.write::<u32, 0>(addresses.0);
    header.write::<u32, 4>(addresses.1);
    header.write::<u32, 8>(addresses.2);
    Some(packet)
}

/// Puts a tag on, before any other.
///
/// A function of its own, because it is rare.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub fn put_on<K: Kernel>(kernel: &K, tag: Tag) -> bool {
    let Some(header) = kernel.grow(LENGTH).and_then(Packet::header::<16>) else { return false };
    let addresses = (header.read::<u32, 4>(), header.read::<u32, 8>(), header.read::<u32, 12>());
    header.write::<u32, 0>(addresses.0);
    header.write::<u32, 4>(addresses.1);
    header.write::<u32, 8>(addresses.2);
    header.write::<u32, 12>(tag.0);
    true
}
