//! Unsolicited neighbour advertisements: the frame (RFC 4861 §4.4 and §7.2.6, RFC 9568 §6.4.1).

use std::net::Ipv6Addr;

use lb_common::Mac;

/// All nodes of the link, as an Ethernet group (RFC 2464 §7).
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
/// Receivers drop what has crossed a router.
const HOP_LIMIT: u8 = 255;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// A router says it, unasked, and it replaces what was known: RFC 9568 §6.4.1 sets R and O, not S.
const ROUTER_AND_OVERRIDE: u8 = 0xa0;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
/// The advertisement with the one option.
const MESSAGE: usize = 32;
const FRAME_LENGTH: usize = ETHERNET + IPV6 + MESSAGE;

/// The frame that tells every host of the link that `address` is at `mac`.
pub(super) fn frame(mac: Mac, address: Ipv6Addr) -> [u8; FRAME_LENGTH] {
    let mut frame = [0; FRAME_LENGTH];
    frame[..6].copy_from_slice(&ALL_NODES_MAC);
    frame[6..12].copy_from_slice(&mac.0);
    frame[12..14].copy_from_slice(&ETHERTYPE_IPV6.to_be_bytes());

    let packet = &mut frame[ETHERNET..];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&(MESSAGE as u16).to_be_bytes());
    packet[6..8].copy_from_slice(&[ICMPV6, HOP_LIMIT]);
    packet[8..24].copy_from_slice(&address.octets());
    packet[24..40].copy_from_slice(&ALL_NODES.octets());

    let message = &mut packet[IPV6..];
    message[0] = NEIGHBOUR_ADVERTISEMENT;
    message[4] = ROUTER_AND_OVERRIDE;
    message[8..24].copy_from_slice(&address.octets());
    // The option's length counts units of 8 bytes.
    message[24..26].copy_from_slice(&[TARGET_LINK_LAYER_ADDRESS, 1]);
    message[26..32].copy_from_slice(&mac.0);
    let checksum = checksum(address, message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// The checksum over the pseudo header (RFC 8200 §8.1) and a message whose own checksum field is 0.
fn checksum(source: Ipv6Addr, message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
    };
    let mut sum = words(&source.octets()) + words(&ALL_NODES.octets()) + words(message);
    sum += MESSAGE as u32 + u32::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv6Slice, NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    #[test]
    fn frame_is_an_unsolicited_advertisement_with_a_right_checksum() {
        let address: Ipv6Addr = "2001:db8::4".parse().unwrap();
        let frame = frame(Mac([2, 0, 0, 0, 0, 7]), address);
        assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 0x86, 0xdd]);
        let sliced = SlicedPacket::from_ethernet(&frame).expect("a packet");
        let Some(NetSlice::Ipv6(ip)) = &sliced.net else { panic!("{sliced:?}") };
        assert_eq!((ip.header().hop_limit(), ip.header().source_addr()), (255, address));
        assert_eq!(ip.header().destination_addr(), "ff02::1".parse::<Ipv6Addr>().unwrap());
        let Some(TransportSlice::Icmpv6(message)) = &sliced.transport else { panic!("{sliced:?}") };
        let message: &Icmpv6Slice<'_> = message;
        assert!(message.is_checksum_valid(address.octets(), ALL_NODES.octets()));
        let mut expected = vec![136, 0, frame[56], frame[57], 0xa0, 0, 0, 0];
        expected.extend(address.octets());
        expected.extend([2, 1, 2, 0, 0, 0, 0, 7]);
        assert_eq!(message.slice(), expected);
    }
}
