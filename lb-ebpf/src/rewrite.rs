//! New addresses and ports, with checksums that stay right.
//!
//! A checksum field says one of three things: nothing (UDP, 0); the checksum; or, in a packet that a stack on
//! this machine sent and nobody finished, only the sum of the pseudo header (*partial*). The last is told by
//! its value. In native mode the note that it is partial is lost, so the program finishes the checksum; in
//! generic mode the kernel finishes it later, so the program keeps the pseudo header's sum up to date.

use lb_common::{Address, Be16, Verdict};

use crate::{checksum, ip::Ip, kernel::Kernel, parse::Segment};

/// Which end of a flow is rewritten.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The sender.
    Source,
    /// The receiver.
    Destination,
}

/// Replaces the address and the port of one end. `Err` leaves the packet half rewritten; it must be dropped.
#[inline(always)]
pub(crate) fn endpoint<K: Kernel, I: Ip, const GENERIC: bool>(
    kernel: &K,
    segment: &Segment<I>,
    side: Side,
    address: Address,
    port: Be16,
) -> Result<(), Verdict> {
    let partial = if GENERIC { stays_partial(kernel, segment) } else { is_partial(segment) };
    if !partial {
        whole(segment, side, address, port);
        return Ok(());
    }
    replace(segment, side, address, port);
    if GENERIC {
        segment.transport.set_checksum(checksum::fold(pseudo_header(segment)));
        return Ok(());
    }
    finish(kernel, segment)
}

/// The same where the checksum is not partial.
#[inline(always)]
pub(crate) fn whole<I: Ip>(segment: &Segment<I>, side: Side, address: Address, port: Be16) {
    let flow = segment.flow();
    let (old_address, old_port) = match side {
        Side::Source => (flow.source, flow.source_port),
        Side::Destination => (flow.destination, flow.destination_port),
    };
    let checksum = segment.transport.checksum();
    replace(segment, side, address, port);
    if segment.transport.is_udp() && checksum == 0 {
        return;
    }
    let old = I::sum(old_address) + u64::from(old_port.0);
    let new = I::sum(address) + u64::from(port.0);
    set(segment, checksum::replace(checksum, old, new));
}

/// Replaces them without the transport's checksum.
#[inline(always)]
fn replace<I: Ip>(segment: &Segment<I>, side: Side, address: Address, port: Be16) {
    segment.ip.replace_address(side, address);
    match side {
        Side::Source => segment.transport.set_source_port(port),
        Side::Destination => segment.transport.set_destination_port(port),
    }
}

/// Finishes the checksum if it is partial.
#[inline(always)]
pub(crate) fn finish_partial<K: Kernel, I: Ip>(kernel: &K, segment: &Segment<I>) -> Result<(), Verdict> {
    if is_partial(segment) { finish(kernel, segment) } else { Ok(()) }
}

/// Whether the checksum is one that generic mode leaves partial.
#[inline(always)]
pub(crate) fn stays_partial<K: Kernel, I: Ip>(kernel: &K, segment: &Segment<I>) -> bool {
    is_partial(segment) && !is_whole(kernel, segment)
}

/// Whether the checksum field holds the sum of the pseudo header. One finished checksum in 65,536 does too:
/// finishing that once more changes nothing, if it covers all that is summed up.
#[inline(always)]
fn is_partial<I: Ip>(segment: &Segment<I>) -> bool {
    segment.transport.checksum() == checksum::fold_short(pseudo_header(segment))
        && segment.transport.covers(segment.length)
}

/// Whether the checksum field holds the checksum. Only generic mode must know, where the two kinds are updated
/// differently; what is too long to be summed was merged or not yet cut by the kernel, and so is partial.
#[inline(always)]
fn is_whole<K: Kernel, I: Ip>(kernel: &K, segment: &Segment<I>) -> bool {
    kernel
        .sum(segment.offset, segment.length)
        .is_some_and(|sum| checksum::fold(u64::from(sum) + pseudo_header(segment)) == 0xffff)
}

/// Computes the checksum from nothing.
#[inline(always)]
fn finish<K: Kernel, I: Ip>(kernel: &K, segment: &Segment<I>) -> Result<(), Verdict> {
    segment.transport.set_checksum(0);
    let sum = kernel.sum(segment.offset, segment.length).ok_or(Verdict::Malformed)?;
    set(segment, checksum::finish(u64::from(sum) + pseudo_header(segment)));
    Ok(())
}

#[inline(always)]
fn set<I: Ip>(segment: &Segment<I>, checksum: u16) {
    let checksum = if segment.transport.is_udp() { checksum::udp(checksum) } else { checksum };
    segment.transport.set_checksum(checksum);
}

#[inline(always)]
fn pseudo_header<I: Ip>(segment: &Segment<I>) -> u64 {
    let ip = segment.ip;
    // `payload` has read the length from a 16-bit field.
    checksum::pseudo_header(
        I::sum(ip.source()) + I::sum(ip.destination()),
        segment.transport.protocol(),
        segment.length as u16,
    )
}
