//! Packet-level debugging: one line about a packet, after the decision about it.
//!
//! A program of its own, for its need of stack; what it logs waits for it in a map.

use aya_ebpf::{Global, bindings::xdp_action, programs::XdpContext};
use aya_log_ebpf::{log, macro_support::Level};
use lb_common::{Stage, Variant, Verdict};
use lb_ebpf::{
    decision::{Severity, severity},
    maps::{Logged, Maps},
    parse, vlan,
};

/// `lb_common::names::LOG_LEVEL`; set before loading. At 0 the verifier sees that nothing is ever logged.
#[unsafe(no_mangle)]
static LOG_LEVEL: Global<u8> = Global::new(0);

/// The level of a line about a verdict, if it is wanted.
#[inline(always)]
fn level(verdict: Verdict) -> Option<Level> {
    let wanted = LOG_LEVEL.load();
    let level = match severity(verdict) {
        Severity::Fault => Level::Warn,
        Severity::Ownership => Level::Info,
        Severity::Ordinary => Level::Debug,
        Severity::Silent => return None,
    };
    (level as u8 <= wanted).then_some(level)
}

/// Logs a decision, if that is wanted: then the program of the log returns the action. It returns nothing itself but
/// where that is missing.
#[inline(always)]
pub(crate) fn decision(context: &XdpContext, verdict: Verdict, action: u32, variant: Variant) {
    if LOG_LEVEL.load() != 0 && level(verdict).is_some() {
        Maps::note(Logged { verdict, action });
        Maps::enter(context, Stage::Log as u32, variant);
    }
}

/// Logs what was noted last on this CPU; the XDP action.
#[inline(always)]
pub(crate) fn line(context: &XdpContext) -> u32 {
    let Some(Logged { verdict, action }) = Maps::noted() else { return xdp_action::XDP_ABORTED };
    let Some(level) = level(verdict) else { return action };
    let ends = parse::ends(vlan::within_tags(Maps::packet(context)));
    // `lb` turns the leading number into the verdict's name: tables of strings need relocations that programs
    // cannot have.
    log!(
        context,
        level,
        "{} {} {:i} {} {:i} {} {}",
        verdict as u32,
        context.ingress_ifindex() as u32,
        ends.source.octets(),
        ends.source_port,
        ends.destination.octets(),
        ends.destination_port,
        ends.protocol
    );
    action
}
