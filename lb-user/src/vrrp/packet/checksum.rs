//! The Internet checksum (RFC 1071) of adverts, with and without a pseudo header.

use std::net::IpAddr;

use super::IP_PROTOCOL;

/// Where the checksum stands in a message of either version.
pub(super) const PLACE: std::ops::Range<usize> = 6..8;

/// Of the message alone; an even number of bytes. 0 over a message that carries its own.
pub(super) fn of_message(message: &[u8]) -> u16 {
    !fold(sum(message))
}

/// As [`of_message`], of the pseudo header too (RFC 8200 §8.1; for IPv4 its like of RFC 9293 §3.1). Both addresses are
/// of one family.
pub(super) fn with_pseudo_header(source: IpAddr, destination: IpAddr, message: &[u8]) -> u16 {
    let length = message.len() as u32;
    !fold(sum_of(source) + sum_of(destination) + length + u32::from(IP_PROTOCOL) + sum(message))
}

/// Writes the checksum into a message whose checksum field is zero.
pub(super) fn put(message: &mut [u8], checksum: u16) {
    message[PLACE].copy_from_slice(&checksum.to_be_bytes());
}

fn sum_of(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    }
}

/// Does not overflow below 128 KiB.
fn sum(bytes: &[u8]) -> u32 {
    let (words, _) = bytes.as_chunks::<2>();
    words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
