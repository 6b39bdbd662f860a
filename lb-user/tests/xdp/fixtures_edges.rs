//! What the plain packets of `fixtures` do not have: frames for other machines.

use lb::dataplane::Program::{Generic, Native};
use lb_common::{Mac, Verdict::*};

use crate::{
    fixtures::{answer, answer6, drops, nat, near, passes, run, sends, table},
    packets::{CLIENT, arp, solicitation, tcp, udp, within},
    world::{
        CLOSED, DIRECTOR, DR, DR_UDP, EMPTY, LOCAL, NAT, OTHER, OWN_ADDRESS, TX, VIP, VIP_BACKUP,
        VIP_EXPIRED, VIP6, VIP6_BACKUP, virtual_mac,
    },
};

/// Another machine's address.
const SOMEBODY: Mac = Mac([2, 0, 0, 0, 0, 0x55]);
const EVERYBODY: Mac = Mac([0xff; 6]);

/// The same frame for another address.
fn to(mac: Mac, mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&mac.0);
    frame
}

table! {
    frames_for_other_machines_pass_untouched = [
        passes("dr", tcp(VIP, DR).destination_mac(SOMEBODY), OtherMac),
        passes("dr, UDP", udp(VIP, DR_UDP).destination_mac(SOMEBODY), OtherMac),
        passes("nat", tcp(VIP, NAT).destination_mac(SOMEBODY), OtherMac),
        passes("local", tcp(VIP, LOCAL).destination_mac(SOMEBODY), OtherMac),
        passes("from a director", tcp(VIP, LOCAL).source_mac(DIRECTOR).destination_mac(SOMEBODY), OtherMac),
        passes("the last byte differs", tcp(VIP, DR).destination_mac(Mac([2, 0, 0, 0, 0, 0xa2])), OtherMac),
        passes("the first byte differs", tcp(VIP, DR).destination_mac(Mac([6, 0, 0, 0, 0, 0xa1])), OtherMac),
        passes("for everybody", tcp(VIP, DR).destination_mac(EVERYBODY), OtherMac),
        passes("lease ran out", tcp(VIP_EXPIRED, DR).destination_mac(SOMEBODY), OtherMac),
        passes("no backend", tcp(VIP, EMPTY).destination_mac(SOMEBODY), OtherMac),
        passes("no service", tcp(VIP, CLOSED).destination_mac(SOMEBODY), OtherMac),
        passes("no service, backup", tcp(VIP_BACKUP, CLOSED).destination_mac(SOMEBODY), OtherMac),
        passes("a fragment", tcp(VIP, DR).more_fragments(true).destination_mac(SOMEBODY), OtherMac),
        passes("a reply", answer().destination_mac(SOMEBODY), OtherMac),
        passes("IPv6", tcp(VIP6, DR).destination_mac(SOMEBODY), OtherMac),
        passes("IPv6, no service", tcp(VIP6_BACKUP, CLOSED).destination_mac(SOMEBODY), OtherMac),
        passes("a reply of IPv6", answer6().destination_mac(SOMEBODY), OtherMac),
        passes(
            "encapsulated",
            within(&tcp(VIP, LOCAL).destination_mac(SOMEBODY), CLIENT.into(), OWN_ADDRESS.into(), None),
            OtherMac
        ),
        passes("encapsulated for nobody", within(&tcp(OTHER, 80).destination_mac(SOMEBODY), CLIENT.into(),
            OWN_ADDRESS.into(), None), NotOurs),
        passes("not for a VIP", tcp(OTHER, 80).destination_mac(SOMEBODY), NotOurs),
        sends("for this one", tcp(VIP, DR), TX, Dr, DR, near),
        sends("for this one, nat", tcp(VIP, NAT), TX, Nat, NAT, nat),
    ];

    /// RFC 9568, section 7.3.
    frames_for_a_virtual_mac_are_the_owners = [
        sends("dr", tcp(VIP, DR).destination_mac(virtual_mac(1)), TX, Dr, DR, near),
        sends("nat", tcp(VIP, NAT).destination_mac(virtual_mac(1)), TX, Nat, NAT, nat),
        sends("IPv6", tcp(VIP6, DR).destination_mac(Mac([0, 0, 0x5e, 0, 2, 1])), TX, Dr, DR, near),
        passes("no service", tcp(VIP, CLOSED).destination_mac(virtual_mac(1)), VipStack),
        passes("ARP", to(virtual_mac(1), arp(1, CLIENT, VIP)), ArpOwner),
        passes("solicitation", to(virtual_mac(1), solicitation(VIP6)), ArpOwner),
        drops("another node's", tcp(VIP_BACKUP, DR).destination_mac(virtual_mac(2)), VirtualMacNotOwner),
        drops("another node's, no service", tcp(VIP_BACKUP, CLOSED).destination_mac(virtual_mac(2)), VirtualMacNotOwner),
        drops("another node's, ARP", to(virtual_mac(2), arp(1, CLIENT, VIP_BACKUP)), VirtualMacNotOwner),
        drops("another node's, a reply", answer().destination_mac(virtual_mac(2)), VirtualMacNotOwner),
        drops("lease ran out", tcp(VIP_EXPIRED, DR).destination_mac(virtual_mac(3)), LeaseExpired),
        drops("lease ran out, no service", tcp(VIP_EXPIRED, CLOSED).destination_mac(virtual_mac(3)), LeaseExpired),
        drops("lease ran out, ARP", to(virtual_mac(3), arp(1, CLIENT, VIP_EXPIRED)), ArpLeaseExpired),
        passes("nobody's number", tcp(VIP, DR).destination_mac(virtual_mac(4)), OtherMac),
        passes("nobody's family", tcp(VIP, DR).destination_mac(Mac([0, 0, 0x5e, 0, 2, 2])), OtherMac),
        passes("another range", tcp(VIP, DR).destination_mac(Mac([0, 0, 0x5e, 1, 1, 1])), OtherMac),
        passes("not for a VIP", tcp(OTHER, 80).destination_mac(virtual_mac(2)), NotOurs),
    ];

    questions_to_other_machines_pass_untouched = [
        passes("ARP to everybody", arp(1, CLIENT, VIP), ArpOwner),
        passes("ARP to this node", to(crate::packets::OWN_MAC, arp(1, CLIENT, VIP)), ArpOwner),
        passes("ARP to another", to(SOMEBODY, arp(1, CLIENT, VIP)), OtherMac),
        passes("ARP to another, backup", to(SOMEBODY, arp(1, CLIENT, VIP_BACKUP)), OtherMac),
        drops("ARP to everybody, backup", arp(1, CLIENT, VIP_BACKUP), ArpNotOwner),
        drops("ARP to this node, backup", to(crate::packets::OWN_MAC, arp(1, CLIENT, VIP_BACKUP)), ArpNotOwner),
        passes("solicitation of this node", to(crate::packets::OWN_MAC, solicitation(VIP6)), ArpOwner),
        drops("the same, backup", to(crate::packets::OWN_MAC, solicitation(VIP6_BACKUP)), ArpNotOwner),
        passes("solicitation of another", to(SOMEBODY, solicitation(VIP6_BACKUP)), OtherMac),
    ];
}
