//! IPv6 extension headers (RFC 8200 section 4).

use crate::{packet::Packet, parse::ETHERNET};

/// The most extension headers that are read; a packet with more is malformed.
const MOST: u32 = 6;
/// In place of a protocol: the headers do not end within the frame, or are too many. (255 is reserved.)
pub(crate) const BROKEN: u8 = 255;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// What follows the extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The protocol, or [`BROKEN`].
    pub(crate) protocol: u8,
    /// Where its header begins, in bytes from the start of the frame.
    pub(crate) offset: u32,
    /// Whether the packet is a piece of another: then `offset` is that of the fragment's payload.
    pub(crate) fragment: bool,
    /// Whether it is a piece other than the first, which has no header of the protocol.
    pub(crate) later: bool,
}

/// Reads the extension headers, the first of which is `next`. `noise` is any word of the packet.
///
/// The verifier would follow each way through the headers to the end of the program. It cannot know a word of the packet,
/// so what that is added to and taken from again is unknown to it, and all ways are one.
#[inline(always)]
pub(crate) fn last(packet: Packet, next: u8, noise: u32) -> Found {
    let word = opaque(walk(packet, next) ^ noise) ^ noise;
    // 54 bytes and six headers of at most 2,048 are less than 2^14.
    Found {
        protocol: word as u8,
        offset: word >> 16 & 0x3fff,
        fragment: word & 0x100 != 0,
        later: word & 0x200 != 0,
    }
}

/// Hides a value from the optimiser.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn opaque(word: u32) -> u32 {
    let mut word = u64::from(word);
    // One real instruction: the kernel refuses line information about none.
    // SAFETY: a register is copied to itself.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) word, options(pure, nomem, nostack, preserves_flags));
    }
    word as u32
}

#[cfg(not(target_arch = "bpf"))]
fn opaque(word: u32) -> u32 {
    word
}

/// The same in one word, as a function of its own because it is rare: the protocol, 1 for a fragment and 2 for one other
/// than the first, the offset (16 bits, the upper ones).
#[cfg_attr(target_arch = "bpf", inline(never))]
fn walk(packet: Packet, next: u8) -> u32 {
    let (mut protocol, mut offset) = (next, ETHERNET + 40);
    for _ in 0..MOST {
        match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let Some(header) = packet.header_at::<8>(offset) else { return u32::from(BROKEN) };
                protocol = header.read::<u8, 0>();
                offset += (u32::from(header.read::<u8, 1>()) + 1) * 8;
            }
            FRAGMENT => {
                // An atomic fragment (RFC 6946) is a whole packet.
                const OFFSET_OR_MORE: u16 = 0xfff9_u16.to_be();
                const OFFSET: u16 = 0xfff8_u16.to_be();
                let Some(header) = packet.header_at::<8>(offset) else { return u32::from(BROKEN) };
                protocol = header.read::<u8, 0>();
                offset += 8;
                let place = header.read::<u16, 2>();
                if place & OFFSET_OR_MORE != 0 {
                    let later = u32::from(place & OFFSET != 0) << 9;
                    return u32::from(protocol) | 0x100 | later | offset << 16;
                }
            }
            _ => return u32::from(protocol) | offset << 16,
        }
    }
    match protocol {
        HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION => u32::from(BROKEN),
        _ => u32::from(protocol) | offset << 16,
    }
}
