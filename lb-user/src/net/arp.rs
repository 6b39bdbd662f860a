//! Gratuitous ARP: the frames.
//!
//! Both forms are sent, one after the other: the request (RFC 3768 §6.4.1, RFC 5227 §3: an ARP announcement)
//! and the reply, with the sender as target too. Some stacks update their caches by one form only; Linux
//! takes either.

use std::net::Ipv4Addr;

use lb_common::Mac;

const ETHERTYPE_ARP: u16 = 0x0806;
const OPERATION_REQUEST: u8 = 1;
const OPERATION_REPLY: u8 = 2;
const BROADCAST: [u8; 6] = [0xff; 6];
/// Ethernet and ARP header, without padding, which the driver adds.
const FRAME_LENGTH: usize = 42;

/// The two forms that say that `address` is at `mac`.
pub(super) fn frames(mac: Mac, address: Ipv4Addr) -> [[u8; FRAME_LENGTH]; 2] {
    [OPERATION_REQUEST, OPERATION_REPLY].map(|operation| frame(operation, mac, address))
}

/// A broadcast Ethernet frame with the gratuitous ARP. The target MAC is unknown in a request (zeros), and
/// the sender's in a reply: Linux takes a reply for gratuitous only then.
fn frame(operation: u8, mac: Mac, address: Ipv4Addr) -> [u8; FRAME_LENGTH] {
    let target_mac = if operation == OPERATION_REPLY { mac.0 } else { [0; 6] };
    let mut frame = [0; FRAME_LENGTH];
    frame[..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&mac.0);
    frame[12..14].copy_from_slice(&ETHERTYPE_ARP.to_be_bytes());
    // Ethernet (1), IPv4 (0x0800), lengths 6 and 4, operation.
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
    frame[22..28].copy_from_slice(&mac.0);
    frame[28..32].copy_from_slice(&address.octets());
    frame[32..38].copy_from_slice(&target_mac);
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 4);

    #[test]
    fn request_and_reply_are_gratuitous_as_written_on_the_wire() {
        let expected = [
            (OPERATION_REQUEST, [0; 6]), // RFC 5227 §3: the target hardware address is not used
            (OPERATION_REPLY, MAC.0),
        ];
        for (operation, target_mac) in expected {
            let mut bytes = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 0x08, 0x06];
            bytes.extend([0, 1, 0x08, 0x00, 6, 4, 0, operation]);
            bytes.extend([2, 0, 0, 0, 0, 7, 192, 0, 2, 4]);
            bytes.extend(target_mac);
            bytes.extend([192, 0, 2, 4]);
            assert_eq!(frame(operation, MAC, ADDRESS).as_slice(), bytes);
        }
    }
}
