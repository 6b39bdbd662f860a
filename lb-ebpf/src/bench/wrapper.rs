//! The wrappers: each run gets a fresh packet of the next flow, and goes on in what is measured.

use aya_ebpf::{
    bindings::xdp_action,
    helpers::bpf_xdp_adjust_head,
    macros::{map, xdp},
    maps::{Array, ProgramArray},
    programs::XdpContext,
};

use crate::programs::packet;

/// Bytes of the packet: TCP over IPv6 and some.
pub(crate) const LENGTH: usize = 80;
/// Bytes of a long one: an ICMPv6 error that quotes TCP and some.
const LONG: usize = 128;
/// The EtherType of IPv6, as it stands in the packet.
const IPV6: u64 = 0xdd86;

/// What the wrapper works by; `lb-user/src/bench/program.rs` has its twin.
#[repr(C)]
pub(crate) struct Stimulus {
    /// The packet as each run meets it, its source address and ports aside.
    pub(crate) packet: [u64; LENGTH / 8],
    /// One less than the number of flows, which is a power of two.
    pub(crate) mask: u32,
    /// How many runs there were.
    pub(crate) runs: u32,
    /// One less than the number of services, a power of two, whose ports follow the packet's.
    services: u32,
    /// How many bytes a run makes the packet longer, by which the next one shortens it.
    grown: u32,
}

/// What the wrapper of long packets works by; its twin is in the same place.
#[repr(C)]
struct Long {
    /// The packet as each run meets it.
    packet: [u64; LONG / 8],
    mask: u32,
    runs: u32,
    grown: u32,
    /// Where the client's address, or the last four bytes of it, stands in the packet.
    client_at: u32,
    /// Where its port stands.
    port_at: u32,
    /// The first client, in host order.
    first_client: u32,
}

#[map]
pub(crate) static STIMULUS: Array<Stimulus> = Array::with_max_entries(1, 0);
#[map]
static STIMULUS_LONG: Array<Long> = Array::with_max_entries(1, 0);
/// Number 0 is what is measured.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Restores the packet, gives it the next flow, and goes on to the target.
#[xdp]
pub(crate) fn bench_wrapper(context: XdpContext) -> u32 {
    let Some(stimulus) = STIMULUS.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: the kernel returned the address of an element that nobody else uses meanwhile.
    let grown = unsafe { (*stimulus).grown };
    if !shorten::<LENGTH>(&context, grown) {
        return xdp_action::XDP_ABORTED;
    }
    let (start, end) = (context.data(), context.data_end());
    if start + LENGTH > end {
        return xdp_action::XDP_ABORTED;
    }
    let words = start as *mut u64;
    // SAFETY: the element is ours as above; the packet has been checked to be long enough and begins at a multiple of 256
    // bytes in a test run.
    let (flow, service, words) = unsafe {
        for index in 0..LENGTH / 8 {
            words.add(index).write_volatile((*stimulus).packet[index]);
        }
        let run = (*stimulus).runs;
        (*stimulus).runs = run.wrapping_add(1);
        let service = run.wrapping_mul(0x85eb_ca6b) >> 8 & (*stimulus).services;
        (next_flow(run, (*stimulus).mask), service, &(*stimulus).packet)
    };
    if let Some(header) = packet(&context).header::<LENGTH>() {
        let (client, port) = client_and_port(flow);
        // A load waits for the stores whose bytes it meets in part only, which no packet from a wire makes it do: fields
        // across the words of above are stored once more, as they will be read.
        header.write::<u32, 6>(across(words, 0));
        header.write::<u32, 30>(across(words, 3));
        if words[1] >> 32 & 0xffff == IPV6 {
            header.write::<u32, 22>(across(words, 2));
            header.write::<u32, 38>(across(words, 4));
            header.write::<u32, 46>(across(words, 5));
            header.write::<u32, 34>(client.to_be());
            header.write::<u16, 54>(port);
            header.write::<u16, 56>(plus(words[7] as u16, service));
        } else {
            // 100.64.0.0/10
            header.write::<u32, 26>((0x6440_0000 | client).to_be());
            header.write::<u16, 34>(port);
            header.write::<u16, 36>(plus((words[4] >> 32) as u16, service));
        }
    }
    go_on(&context)
}

/// The same for packets of any kind: the flow's address and port stand where the stimulus says.
#[xdp]
pub(crate) fn bench_wrapper_long(context: XdpContext) -> u32 {
    let Some(stimulus) = STIMULUS_LONG.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: the kernel returned the address of an element that nobody else uses meanwhile.
    let grown = unsafe { (*stimulus).grown };
    if !shorten::<LONG>(&context, grown) {
        return xdp_action::XDP_ABORTED;
    }
    let (start, end) = (context.data(), context.data_end());
    if start + LONG > end {
        return xdp_action::XDP_ABORTED;
    }
    let words = start as *mut u64;
    // SAFETY: as in the other wrapper.
    let (flow, client_at, port_at, first) = unsafe {
        for index in 0..LONG / 8 {
            words.add(index).write_volatile((*stimulus).packet[index]);
        }
        let run = (*stimulus).runs;
        (*stimulus).runs = run.wrapping_add(1);
        let Long { mask, client_at, port_at, first_client, .. } = &*stimulus;
        (next_flow(run, *mask), *client_at, *port_at, *first_client)
    };
    let (client, port) = client_and_port(flow);
    let places =
        (packet(&context).header_at::<4>(client_at & 0x7f), packet(&context).header_at::<2>(port_at & 0x7f));
    if let (Some(address), Some(ports)) = places {
        address.write::<u32, 0>((first | client).to_be());
        ports.write::<u16, 0>(port);
    }
    go_on(&context)
}

/// Takes back what the run before has put before the packet.
#[inline(always)]
fn shorten<const LENGTH: usize>(context: &XdpContext, grown: u32) -> bool {
    if !packet(context).holds(LENGTH as u32 + 1) {
        return true;
    }
    // SAFETY: the context is the running packet's.
    unsafe { bpf_xdp_adjust_head(context.ctx, (grown & 0xff) as i32) == 0 }
}

/// An odd factor visits all flows once before it repeats one, and neighbours don't follow each other.
#[inline(always)]
pub(crate) fn next_flow(run: u32, mask: u32) -> u32 {
    run.wrapping_mul(0x9e37_79b1) & mask
}

/// 22 bits of the flow are the client, the others its port, as it stands in the packet.
#[inline(always)]
pub(crate) fn client_and_port(flow: u32) -> (u32, u16) {
    (flow & 0x3f_ffff, (1_024 + (flow >> 22) as u16).to_be())
}

/// A port as it stands in a packet, some further.
#[inline(always)]
fn plus(port: u16, more: u32) -> u16 {
    u16::from_be(port).wrapping_add(more as u16).to_be()
}

/// The four bytes that begin in the last two of a word.
#[inline(always)]
pub(crate) fn across(words: &[u64; LENGTH / 8], first: usize) -> u32 {
    (words[first] >> 48 | words[first + 1] << 16) as u32
}

#[inline(always)]
fn go_on(context: &XdpContext) -> u32 {
    // SAFETY: it does not return unless there is no target.
    unsafe { TARGET.tail_call(context, 0) };
    xdp_action::XDP_ABORTED
}
