//! Live frames: a generator for test runs with the live flag, and what counts where they end.

use aya_ebpf::{
    bindings::xdp_action,
    macros::{map, xdp},
    maps::{DevMap, PerCpuArray},
    programs::XdpContext,
};

use crate::{
    programs::packet,
    wrapper::{LENGTH, STIMULUS, across, client_and_port, next_flow},
};

/// [`SUNK`]: every IPv4 packet, and those whose destination is no longer the generator's.
const ALL: u32 = 0;
const REWRITTEN: u32 = 1;

/// What arrived.
#[map]
static SUNK: PerCpuArray<u64> = PerCpuArray::with_max_entries(2, 0);

/// Number 0 is where `bench_redirect` sends.
#[map]
static ONWARD: DevMap = DevMap::with_max_entries(1, 0);

/// Makes the frame the next flow's TCP segment to the stimulus' VIP over IPv4, with right checksums (conntrack and IPVS look
/// at them), and sends it. The kernel does not restore frames that it uses again.
#[xdp]
pub(crate) fn bench_generate(context: XdpContext) -> u32 {
    let Some(stimulus) = STIMULUS.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    let (start, end) = (context.data(), context.data_end());
    if start + LENGTH > end {
        return xdp_action::XDP_ABORTED;
    }
    let to = start as *mut u64;
    // SAFETY: the kernel returned the address of an element that nobody else uses meanwhile; the frame is long enough, and
    // its address is a multiple of 8 in a test run.
    let (flow, words) = unsafe {
        for index in 0..LENGTH / 8 {
            to.add(index).write_volatile((*stimulus).packet[index]);
        }
        let run = (*stimulus).runs;
        (*stimulus).runs = run.wrapping_add(1);
        (next_flow(run, (*stimulus).mask), &(*stimulus).packet)
    };
    let Some(header) = packet(&context).header::<LENGTH>() else { return xdp_action::XDP_ABORTED };
    let (client, port) = client_and_port(flow);
    header.write::<u32, 26>((0x6440_0000 | client).to_be());
    header.write::<u16, 34>(port);
    // The stimulus' packet has the sums of client 0 and port 0; the address' bits that change were 0.
    let address = (client >> 16) + (client & 0xffff);
    header.write::<u16, 24>(updated(words[3] as u16, address));
    header.write::<u16, 50>(updated((words[6] >> 16) as u16, address + u32::from(u16::from_be(port))));
    xdp_action::XDP_TX
}

/// A checksum as it stands in a packet, once the words it covers have grown by `more` in sum.
#[inline(always)]
fn updated(sum: u16, more: u32) -> u16 {
    let sum = u32::from(!u16::from_be(sum)) + more;
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_be()
}

/// Counts what arrives over IPv4, and drops it; the stack gets the rest.
#[xdp]
pub(crate) fn bench_sink(context: XdpContext) -> u32 {
    let Some(header) = packet(&context).header::<34>() else { return xdp_action::XDP_PASS };
    let Some(stimulus) = STIMULUS.get_ptr(0) else { return xdp_action::XDP_PASS };
    if header.read::<u16, 12>() != 0x0800_u16.to_be() {
        return xdp_action::XDP_PASS;
    }
    count(ALL);
    // SAFETY: user space writes the packet before anything is sent.
    if header.read::<u32, 30>() != across(unsafe { &(*stimulus).packet }, 3) {
        count(REWRITTEN);
    }
    xdp_action::XDP_DROP
}

/// The least that forwards to another interface.
#[xdp]
pub(crate) fn bench_redirect(_context: XdpContext) -> u32 {
    ONWARD.redirect(0, 0).unwrap_or(xdp_action::XDP_ABORTED)
}

#[inline(always)]
fn count(what: u32) {
    if let Some(counter) = SUNK.get_ptr_mut(what) {
        // SAFETY: the counter is this CPU's, and programs of one CPU don't interrupt each other here.
        unsafe { *counter += 1 };
    }
}
