//! Fail-silent ownership: who may speak for a VIP.

use lb_common::{Address, Ownership, Verdict, Vip, VirtualMac, ownership};

use crate::{
    kernel::Kernel,
    packet::Packet,
    parse::{self, Ethernet, Kind},
};

/// Decides about an ARP packet. Only a request for a VIP is our business: replies and announcements teach this
/// node about others.
#[inline(always)]
pub(crate) fn arp<K: Kernel>(kernel: &K, packet: Packet, ethernet: Ethernet) -> Verdict {
    let Some(target) = parse::arp_request_target(packet) else { return Verdict::NotOurs };
    kernel.vip(target).map_or(Verdict::NotOurs, |vip| asked_for(kernel, vip, ethernet))
}

/// Decides about a neighbour solicitation for an address: `None` if the address is none of ours.
#[inline(always)]
pub(crate) fn solicitation<K: Kernel>(kernel: &K, target: &Address, ethernet: Ethernet) -> Option<Verdict> {
    kernel.vip6(target).map(|vip| asked_for(kernel, vip, ethernet))
}

/// Passes what is in a frame for another machine. Asked only once a packet has turned out to be our business, so that
/// other traffic does not pay for it.
///
/// An interface that the control plane has not described takes everything: one that has several addresses, because it is
/// made of other interfaces, and those that it is made of, when the program runs in their drivers.
#[inline(always)]
pub(crate) fn mac<K: Kernel>(kernel: &K, ethernet: Ethernet) -> Result<(), Verdict> {
    match kernel.device(kernel.logical_ingress()) {
        Some(device) if !ethernet.is_for(device.mac) => virtual_mac(kernel, device.ifindex, ethernet),
        _ => Ok(()),
    }
}

/// Passes what is in a frame for another machine than a virtual router of this node's, and drops what is for one that
/// another node owns: a switch that floods the frame brings it to the owner too. What is for one whose lease ran out
/// goes on to where leases are asked about.
#[inline(always)]
fn virtual_mac<K: Kernel>(kernel: &K, ifindex: u32, ethernet: Ethernet) -> Result<(), Verdict> {
    match router_of(kernel, ifindex, ethernet.destination_key()) {
        OWN => Ok(()),
        ANOTHERS => Err(Verdict::VirtualMacNotOwner),
        _ => Err(Verdict::OtherMac),
    }
}

/// As [`mac`], for the rare stages: one call on all ways, since the verifier follows no value that has a meaning on some of
/// them only.
#[inline(always)]
pub(crate) fn mac_in_stage<K: Kernel>(kernel: &K, ethernet: Ethernet) -> Result<(), Verdict> {
    match whose(kernel, ethernet.destination_key()) {
        OWN => Ok(()),
        ANOTHERS => Err(Verdict::VirtualMacNotOwner),
        _ => Err(Verdict::OtherMac),
    }
}

/// Whose a MAC address is: this interface's, or a virtual router's.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn whose<K: Kernel>(kernel: &K, mac_key: u64) -> u32 {
    match kernel.device(kernel.logical_ingress()) {
        Some(device) if device.mac.key() != mac_key => router_of(kernel, device.ifindex, mac_key),
        _ => OWN,
    }
}

/// No virtual router of this node has the address.
const NOBODYS: u32 = 0;
/// Another node owns the VIPs.
const ANOTHERS: u32 = 1;
/// This node owns them, or did until the lease ran out.
const OWN: u32 = 2;

/// Whose a MAC address is, if it is a virtual one. A function of its own, so that the way of frames for the interface's
/// address has nothing of it.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn router_of<K: Kernel>(kernel: &K, ifindex: u32, mac_key: u64) -> u32 {
    let [a, b, c, d, family, number, ..] = mac_key.to_ne_bytes();
    if [a, b, c, d] != VirtualMac::PREFIX {
        return NOBODYS;
    }
    let key = VirtualMac { ifindex, end: [family, number], reserved: 0 };
    let Some(lease) = kernel.virtual_mac(&key) else { return NOBODYS };
    match kernel.ownership(lease) {
        Some(Ownership::Owner | Ownership::Expired) => OWN,
        Some(Ownership::Backup) | None => ANOTHERS,
    }
}

/// Whether somebody who asks for a VIP's MAC address gets an answer.
#[inline(always)]
fn asked_for<K: Kernel>(kernel: &K, vip: Vip, ethernet: Ethernet) -> Verdict {
    // Whoever asks everybody asks us too.
    if !ethernet.is_for_a_group()
        && let Err(verdict) = mac(kernel, ethernet)
    {
        return verdict;
    }
    let Some(expiry) = kernel.lease(vip.lease) else { return Verdict::Internal };
    // The precise clock: an answer given a tick too late would draw a client to a node that lost the VIP.
    match ownership(expiry, kernel.now()) {
        Ownership::Owner => Verdict::ArpOwner,
        Ownership::Backup => Verdict::ArpNotOwner,
        Ownership::Expired => Verdict::ArpLeaseExpired,
    }
}

/// Decides about an IP packet to a VIP that no service takes.
#[inline(always)]
pub(crate) fn vip<K: Kernel>(kernel: &K, vip: Vip, payload: Kind, ethernet: Ethernet) -> Verdict {
    match mac(kernel, ethernet) {
        Ok(()) => addressed_vip(kernel, vip, payload),
        Err(verdict) => verdict,
    }
}

/// The same of a packet in a frame that is for this node.
#[inline(always)]
pub(crate) fn addressed_vip<K: Kernel>(kernel: &K, vip: Vip, payload: Kind) -> Verdict {
    let state = match owner(kernel, vip.lease) {
        Ok(state) => state,
        Err(verdict) => return verdict,
    };
    match (payload, state) {
        (Kind::Malformed, _) => Verdict::Malformed,
        (_, Ownership::Expired) => Verdict::LeaseExpired,
        (Kind::Fragment, _) | (_, Ownership::Owner) if vip.flags & Vip::NOT_ACCEPTED != 0 => {
            Verdict::NotAccepted
        }
        (Kind::Fragment, _) => Verdict::Fragment,
        (_, Ownership::Owner) => Verdict::VipStack,
        // Nobody is told any more to send it here. What does come was sent before that, and nobody else will answer it.
        (_, Ownership::Backup) if vip.flags & (Vip::HELD | Vip::NOT_ACCEPTED) == Vip::HELD => {
            Verdict::VipStack
        }
        (_, Ownership::Backup) => Verdict::VipNotOwner,
    }
}

/// Reads a lease with the clock that is cheap enough for every packet.
#[inline(always)]
pub(crate) fn owner<K: Kernel>(kernel: &K, lease: u32) -> Result<Ownership, Verdict> {
    kernel.ownership(lease).ok_or(Verdict::Internal)
}
