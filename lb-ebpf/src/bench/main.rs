//! Programs that measure the XDP program: wrappers that give every run of BPF_PROG_TEST_RUN a fresh packet, the least that
//! a program could do (the floors), and what sends and counts live frames. Not part of `lb`; `lb-user/src/bench` loads it.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod floors;
#[cfg(target_arch = "bpf")]
mod live;
#[cfg(target_arch = "bpf")]
mod wrapper;

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::programs::XdpContext;
    use lb_ebpf::packet::Packet;

    pub(crate) fn packet(context: &XdpContext) -> Packet {
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
    eprintln!("these are XDP programs for measuring; `cargo xtask bench` loads them");
}
