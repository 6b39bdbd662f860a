//! Fail-silent ownership: who may speak for a VIP.

use lb_common::{Address, Ownership, Verdict, Vip, ownership};

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
        Some(device) if !ethernet.is_for(device.mac) => Err(Verdict::OtherMac),
        _ => Ok(()),
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
    if let Err(verdict) = mac(kernel, ethernet) {
        return verdict;
    }
    let state = match owner(kernel, vip.lease) {
        Ok(state) => state,
        Err(verdict) => return verdict,
    };
    match (payload, state) {
        (Kind::Malformed, _) => Verdict::Malformed,
        (_, Ownership::Expired) => Verdict::LeaseExpired,
        (Kind::Fragment, _) => Verdict::Fragment,
        (_, Ownership::Owner) => Verdict::VipStack,
        (_, Ownership::Backup) => Verdict::VipNotOwner,
    }
}

/// Reads a lease with the clock that is cheap enough for every packet.
#[inline(always)]
pub(crate) fn owner<K: Kernel>(kernel: &K, lease: u32) -> Result<Ownership, Verdict> {
    kernel.ownership(lease).ok_or(Verdict::Internal)
}
