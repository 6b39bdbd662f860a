//! Programs that measure the XDP program: a wrapper that gives every run of BPF_PROG_TEST_RUN a fresh packet, and the
//! least that a program could do (the floors). Not part of `lb`; `lb-user/src/bench` loads it.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        EbpfContext as _,
        bindings::xdp_action,
        helpers::bpf_xdp_adjust_head,
        macros::{map, xdp},
        maps::{Array, ProgramArray},
        programs::XdpContext,
    };
    use lb_ebpf::packet::{Header, Packet};

    /// Bytes of the packet: TCP over IPv6 and some.
    const LENGTH: usize = 80;
    /// The EtherType of IPv6, as it stands in the packet.
    const IPV6: u64 = 0xdd86;
    /// What an outer IPv4 header takes.
    const OUTER: i32 = 20;

    /// What the wrapper works by; `lb-user/src/bench/program.rs` has its twin.
    #[repr(C)]
    struct Stimulus {
        /// The packet as each run meets it, its source address and port aside.
        packet: [u64; LENGTH / 8],
        /// One less than the number of flows, which is a power of two.
        mask: u32,
        /// How many runs there were.
        runs: u32,
    }

    #[map]
    static STIMULUS: Array<Stimulus> = Array::with_max_entries(1, 0);
    /// Number 0 is what is measured.
    #[map]
    static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

    /// Restores the packet, gives it the next flow, and goes on to the target.
    #[xdp]
    pub(crate) fn bench_wrapper(context: XdpContext) -> u32 {
        let Some(stimulus) = STIMULUS.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
        if packet(&context).holds(LENGTH as u32 + 1) {
            // The run before has encapsulated it.
            // SAFETY: the context is the running packet's.
            if unsafe { bpf_xdp_adjust_head(context.ctx, OUTER) } != 0 {
                return xdp_action::XDP_ABORTED;
            }
        }
        let (start, end) = (context.data(), context.data_end());
        if start + LENGTH > end {
            return xdp_action::XDP_ABORTED;
        }
        let words = start as *mut u64;
        // SAFETY: the kernel returned the address of an element that nobody else uses meanwhile; the packet has been
        // checked to be long enough and begins at a multiple of 256 bytes in a test run.
        let (flow, words) = unsafe {
            for index in 0..LENGTH / 8 {
                words.add(index).write_volatile((*stimulus).packet[index]);
            }
            let run = (*stimulus).runs;
            (*stimulus).runs = run.wrapping_add(1);
            // An odd factor visits all flows once before it repeats one, and neighbours don't follow each other.
            let flow = run.wrapping_mul(0x9e37_79b1) & (*stimulus).mask;
            (flow, &(*stimulus).packet)
        };
        if let Some(header) = packet(&context).header::<LENGTH>() {
            // 22 bits of the flow are the client, the others its port.
            let (client, port) = (flow & 0x3f_ffff, (1_024 + (flow >> 22) as u16).to_be());
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
            } else {
                // 100.64.0.0/10
                header.write::<u32, 26>((0x6440_0000 | client).to_be());
                header.write::<u16, 34>(port);
            }
        }
        // SAFETY: it does not return unless there is no target.
        unsafe { TARGET.tail_call(&context, 0) };
        xdp_action::XDP_ABORTED
    }

    /// The four bytes that begin in the last two of a word.
    #[inline(always)]
    fn across(words: &[u64; LENGTH / 8], first: usize) -> u32 {
        (words[first] >> 48 | words[first + 1] << 16) as u32
    }

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

    fn packet(context: &XdpContext) -> Packet {
        // SAFETY: the kernel lends the program the bytes between the two for this one run.
        unsafe { Packet::new(context.data() as *mut u8, context.data_end() as *mut u8) }
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        // Nothing in the programs panics; the linker wants a handler all the same.
        loop {}
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("these are XDP programs for measuring; `cargo xtask bench packet` loads them");
}
