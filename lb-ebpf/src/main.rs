//! The entry points of the XDP programs, inlined into what the kernel calls: each call takes 32 bytes of the stack at least. For the host there is nothing to run: `lb` loads the object file.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod log;

#[cfg(target_arch = "bpf")]
mod entry {
    use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
    use lb_common::{Stage, Variant};
    use lb_ebpf::{
        decision::{Action, Decision, Way, action},
        kernel::Kernel,
        maps::Maps,
        vlan,
    };

    use crate::log;

    /// `Variant::Native.program()`
    #[xdp]
    #[inline(always)]
    pub(crate) fn lb_xdp_native(context: XdpContext) -> u32 {
        run::<false>(&context)
    }

    /// `Variant::Generic.program()`
    #[xdp]
    #[inline(always)]
    pub(crate) fn lb_xdp_generic(context: XdpContext) -> u32 {
        run::<true>(&context)
    }

    /// `Stage::Fragment.program(Variant::Native)`
    #[xdp]
    #[inline(always)]
    pub(crate) fn lb_fragment_native(context: XdpContext) -> u32 {
        run_stage::<false>(&context, Stage::Fragment)
    }

    /// `Stage::Fragment.program(Variant::Generic)`
    #[xdp]
    #[inline(always)]
    pub(crate) fn lb_fragment_generic(context: XdpContext) -> u32 {
        run_stage::<true>(&context, Stage::Fragment)
    }

    /// `Stage::Tagged.program(Variant::Native)`
    #[xdp]
    #[inline(always)]
    pub(crate) fn lb_tagged_native(context: XdpContext) -> u32 {
        run_stage::<false>(&context, Stage::Tagged)
    }

    /// `Stage::Tagged.program(Variant::Generic)`
    #[xdp]
    #[inline(always)]
    pub(crate) fn lb_tagged_generic(context: XdpContext) -> u32 {
        run_stage::<true>(&context, Stage::Tagged)
    }

    /// `Stage::IcmpError.program(Variant::Native)`
    #[xdp]
    #[inline(always)]
    pub(crate) fn lb_icmp_error_native(context: XdpContext) -> u32 {
        run_stage::<false>(&context, Stage::IcmpError)
    }

    /// `Stage::IcmpError.program(Variant::Generic)`
    #[xdp]
    #[inline(always)]
    pub(crate) fn lb_icmp_error_generic(context: XdpContext) -> u32 {
        run_stage::<true>(&context, Stage::IcmpError)
    }

    /// `Stage::TooBig.program(Variant::Native)`
    #[xdp]
    #[inline(always)]
    pub(crate) fn lb_too_big_native(context: XdpContext) -> u32 {
        run_stage::<false>(&context, Stage::TooBig)
    }

    /// `Stage::TooBig.program(Variant::Generic)`
    #[xdp]
    #[inline(always)]
    pub(crate) fn lb_too_big_generic(context: XdpContext) -> u32 {
        run_stage::<true>(&context, Stage::TooBig)
    }

    /// `Stage::Decapsulate.program(Variant::Native)`
    #[xdp]
    #[inline(always)]
    pub(crate) fn lb_decapsulate_native(context: XdpContext) -> u32 {
        run_stage::<false>(&context, Stage::Decapsulate)
    }

    /// `Stage::Decapsulate.program(Variant::Generic)`
    #[xdp]
    #[inline(always)]
    pub(crate) fn lb_decapsulate_generic(context: XdpContext) -> u32 {
        run_stage::<true>(&context, Stage::Decapsulate)
    }

    #[inline(always)]
    fn run<const GENERIC: bool>(context: &XdpContext) -> u32 {
        let kernel = Maps::<false>::new(context);
        let decision = lb_ebpf::run::<_, GENERIC>(&kernel, Maps::packet(context));
        if decision.egress.way == Way::Stage {
            kernel.forget_tags();
            enter::<GENERIC>(context, decision);
        }
        count(context, &kernel, decision);
        if decision.egress.needs_tag() && !vlan::put_on(&kernel, decision.egress.tag) {
            return xdp_action::XDP_ABORTED;
        }
        carry_out(decision)
    }

    #[inline(always)]
    fn run_stage<const GENERIC: bool>(context: &XdpContext, stage: Stage) -> u32 {
        let kernel = Maps::<true>::new(context);
        let decision = lb_ebpf::run_stage::<_, GENERIC>(&kernel, Maps::packet(context), stage);
        if decision.egress.way == Way::Stage {
            enter::<GENERIC>(context, decision);
        }
        count(context, &kernel, decision);
        if !vlan::leave(&kernel, decision) {
            return xdp_action::XDP_ABORTED;
        }
        carry_out(decision)
    }

    /// Goes on in a rare stage. It does not return unless the stage is missing, which the verdict says.
    #[inline(always)]
    fn enter<const GENERIC: bool>(context: &XdpContext, decision: Decision) {
        let variant = if GENERIC { Variant::Generic } else { Variant::Native };
        Maps::enter(context, decision.egress.number, variant);
    }

    #[inline(always)]
    fn count<K: Kernel>(context: &XdpContext, kernel: &K, decision: Decision) {
        kernel.count(decision.verdict);
        log::decision(context, decision.verdict);
    }

    #[inline(always)]
    fn carry_out(decision: Decision) -> u32 {
        match action(decision.verdict) {
            Action::Pass => xdp_action::XDP_PASS,
            Action::Drop => xdp_action::XDP_DROP,
            Action::Send => Maps::send(decision.egress),
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
