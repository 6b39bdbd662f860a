//! The entry points of the XDP programs. For the host there is nothing to run: `lb` loads the object file.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod log;

#[cfg(target_arch = "bpf")]
mod entry {
    use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
    use lb_common::{Stage, Variant};
    use lb_ebpf::{
        decision::{Action, Decision, Way, action},
        kernel::Kernel as _,
        maps::Maps,
        traced::Traced,
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

    /// `Stage::Log.program(Variant::Native)`
    #[xdp]
    #[inline(always)]
    pub(crate) fn lb_log_native(context: XdpContext) -> u32 {
        log::line(&context)
    }

    /// `Stage::Log.program(Variant::Generic)`
    #[xdp]
    #[inline(always)]
    pub(crate) fn lb_log_generic(context: XdpContext) -> u32 {
        log::line(&context)
    }

    #[inline(always)]
    fn run<const GENERIC: bool>(context: &XdpContext) -> u32 {
        let kernel = Maps::<false>::new(context);
        let decision = lb_ebpf::run::<_, GENERIC>(&kernel, Maps::packet(context));
        if decision.egress.way == Way::Stage {
            kernel.forget_tags();
            enter::<GENERIC>(context, decision);
        }
        kernel.count(decision.verdict);
        if decision.egress.needs_tag() && !vlan::put_on(&kernel, decision.egress.tag) {
            return xdp_action::XDP_ABORTED;
        }
        finish::<GENERIC>(context, decision)
    }

    #[inline(always)]
    fn run_stage<const GENERIC: bool>(context: &XdpContext, stage: Stage) -> u32 {
        let kernel = Maps::<true>::new(context);
        let decision = lb_ebpf::run_stage::<_, GENERIC>(&kernel, Maps::packet(context), stage);
        if decision.egress.way == Way::Stage {
            enter::<GENERIC>(context, decision);
        }
        kernel.count(decision.verdict);
        if !vlan::leave(&kernel, decision) {
            return xdp_action::XDP_ABORTED;
        }
        finish::<GENERIC>(context, decision)
    }

    /// Goes on in a rare stage. It does not return unless the stage is missing, which the verdict says.
    #[inline(always)]
    fn enter<const GENERIC: bool>(context: &XdpContext, decision: Decision) {
        Maps::enter(context, decision.egress.number, variant::<GENERIC>());
    }

    /// Carries a decision out.
    #[inline(always)]
    fn finish<const GENERIC: bool>(context: &XdpContext, decision: Decision) -> u32 {
        let action = match (decision.egress.way, action(decision.verdict)) {
            // A stage that was not there is where the pipeline ends.
            (Way::None | Way::Stage, Action::Pass) => xdp_action::XDP_PASS,
            (Way::None | Way::Stage, Action::Drop) => xdp_action::XDP_DROP,
            _ => Maps::send(decision.egress),
        };
        log::decision(context, decision.verdict, action, variant::<GENERIC>());
        action
    }

    const fn variant<const GENERIC: bool>() -> Variant {
        if GENERIC { Variant::Generic } else { Variant::Native }
    }

    /// `lb_common::names::PROGRAM_EXPLAIN`
    ///
    /// Native and generic mode differ for packets that are long or have a partial checksum only, and those that user space
    /// makes up are neither. This one is as generic mode has it, which the verifier is done with sooner.
    #[xdp]
    #[inline(always)]
    pub(crate) fn lb_xdp_explain(context: XdpContext) -> u32 {
        let Some(trace) = Maps::trace() else { return xdp_action::XDP_ABORTED };
        // SAFETY: the kernel returned the address of the one element, and user space runs one packet at a time.
        let kernel = unsafe { Traced::new(Maps::<false>::new(&context), trace) };
        let decision = lb_ebpf::run::<_, true>(&kernel, Maps::packet(&context));
        // A rare stage is only named: those there are would count.
        kernel.note_decision(decision);
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
