//! The least that a program could do.

use aya_ebpf::{
    EbpfContext as _, bindings::xdp_action, helpers::bpf_xdp_adjust_head, macros::xdp, programs::XdpContext,
};
use lb_ebpf::packet::Header;

use crate::programs::packet;

/// What an outer IPv4 header takes.
const OUTER: i32 = 20;

/// The least: leaves the packet to the stack.
#[xdp]
pub(crate) fn bench_pass(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The least that sends: returns the action.
#[xdp]
pub(crate) fn bench_transmit(_context: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// The least that forwards: exchanges the MAC addresses.
#[xdp]
pub(crate) fn bench_swap(context: XdpContext) -> u32 {
    let Some(header): Option<Header<14>> = packet(&context).header() else {
        return xdp_action::XDP_ABORTED;
    };
    let (to, to_rest) = (header.read::<u32, 0>(), header.read::<u16, 4>());
    let (from, from_rest) = (header.read::<u32, 6>(), header.read::<u16, 10>());
    header.write::<u32, 0>(from);
    header.write::<u16, 4>(from_rest);
    header.write::<u32, 6>(to);
    header.write::<u16, 10>(to_rest);
    xdp_action::XDP_TX
}

/// The least that encapsulates: 20 bytes more, an Ethernet and an IPv4 header of constants.
#[xdp]
pub(crate) fn bench_encapsulate(context: XdpContext) -> u32 {
    // SAFETY: the context is the running packet's.
    if unsafe { bpf_xdp_adjust_head(context.as_ptr().cast(), -OUTER) } != 0 {
        return xdp_action::XDP_ABORTED;
    }
    let Some(header): Option<Header<34>> = packet(&context).header() else {
        return xdp_action::XDP_ABORTED;
    };
    header.write::<u32, 0>(0x0000_0002);
    header.write::<u16, 4>(0x2000);
    header.write::<u32, 6>(0x0000_0002);
    header.write::<u16, 10>(0xa100);
    header.write::<u16, 12>(0x0008);
    header.write::<u32, 14>(u32::from_be(0x4500_0056));
    header.write::<u32, 18>(u32::from_be(0x0000_4000));
    header.write::<u32, 22>(u32::from_be(0x4004_0000));
    header.write::<u32, 26>(u32::from_be(0x0a00_0001));
    header.write::<u32, 30>(u32::from_be(0x0a00_0002));
    xdp_action::XDP_TX
}
