//! Packet-level debugging: one line about a packet, after the decision about it.

use aya_ebpf::{Global, programs::XdpContext};
use aya_log_ebpf::{log, macro_support::Level};
use lb_common::Verdict;
use lb_ebpf::{
    decision::{Severity, severity},
    maps::Maps,
};

/// `lb_common::names::LOG_LEVEL`; set before loading. At 0 the verifier sees that nothing below can be reached.
#[unsafe(no_mangle)]
static LOG_LEVEL: Global<u8> = Global::new(0);

/// Logs a decision.
#[inline(always)]
pub(crate) fn decision(context: &XdpContext, verdict: Verdict) {
    let wanted = LOG_LEVEL.load();
    if wanted != 0 {
        Maps::note_ends(context);
        line(context, verdict, wanted);
    }
}

/// A function of its own, so that the logging of 19 verdicts is in each program once.
#[inline(never)]
fn line(context: &XdpContext, verdict: Verdict, wanted: u8) {
    let level = match severity(verdict) {
        Severity::Fault => Level::Warn,
        Severity::Ownership => Level::Info,
        Severity::Ordinary => Level::Debug,
        Severity::Silent => return,
    };
    if level as u8 > wanted {
        return;
    }
    let Some(ends) = Maps::noted_ends() else { return };
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
}
