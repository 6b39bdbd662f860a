//! The entry points of the XDP program. For the host there is nothing to run: `lb` loads the object file.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod log;

#[cfg(target_arch = "bpf")]
mod entry {
    use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
    use lb_ebpf::{
        decision::{Action, action},
        maps::Maps,
        traced::Traced,
    };

    use crate::log;

    /// `lb_common::names::PROGRAM_NATIVE`
    #[xdp]
    pub(crate) fn lb_xdp_native(context: XdpContext) -> u32 {
        run::<false>(&context)
    }

    /// `lb_common::names::PROGRAM_GENERIC`
    #[xdp]
    pub(crate) fn lb_xdp_generic(context: XdpContext) -> u32 {
        run::<true>(&context)
    }

    #[inline(always)]
    fn run<const GENERIC: bool>(context: &XdpContext) -> u32 {
        let decision = lb_ebpf::run::<_, GENERIC>(&Maps::new(context), Maps::packet(context));
        log::decision(context, decision.verdict);
        match action(decision.verdict) {
            Action::Pass => xdp_action::XDP_PASS,
            Action::Drop => xdp_action::XDP_DROP,
            Action::Send => Maps::send(decision.egress),
        }
    }

    /// `lb_common::names::PROGRAM_EXPLAIN`
    ///
    /// Native and generic mode differ for packets that are long or have a partial checksum only, and those that user space
    /// makes up are neither. This one is as generic mode has it, which the verifier is done with sooner.
    #[xdp]
    pub(crate) fn lb_xdp_explain(context: XdpContext) -> u32 {
        let Some(trace) = Maps::trace() else { return xdp_action::XDP_ABORTED };
        // SAFETY: the kernel returned the address of the one element, and user space runs one packet at a time.
        let kernel = unsafe { Traced::new(Maps::new(&context), trace) };
        let decision = lb_ebpf::run::<_, true>(&kernel, Maps::packet(&context));
        kernel.note_egress(decision.egress);
        match action(decision.verdict) {
            Action::Pass => xdp_action::XDP_PASS,
            Action::Drop => xdp_action::XDP_DROP,
            // Wherever it would leave: a test run sends nothing.
            Action::Send => xdp_action::XDP_TX,
        }
    }

    /// The kernel lends some helpers to programs with a GPL-compatible licence only.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        // Nothing in the program panics; the linker wants a handler all the same.
        loop {}
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this is the XDP program of lb; `lb run` loads it");
}
