//! Unsettled slots: the only ones whose flows are remembered.

use lb_common::{Backend, FlowKey, FlowState, MODE_LOCAL, slot_backend};

use crate::{kernel::Kernel, parse::TCP};

/// Nanoseconds within which a packet that opens a connection may be one of a remembered flow: TCP repeats it after 1 s.
const OPENS_AGAIN: u64 = 1_200_000_000;

/// A packet that meets an unsettled slot.
pub(crate) struct Unsettled {
    /// Its flow.
    pub(crate) key: FlowKey,
    /// The ring of the service's previous backends.
    pub(crate) previous: u32,
    /// The slot.
    pub(crate) number: u32,
    /// The slot's current backend.
    pub(crate) current: u32,
    /// Whether the packet opens a TCP connection.
    pub(crate) opens: u32,
}

/// The backend of a flow in an unsettled slot, 0 for nobody: the remembered one, unless it is long ago and the packet opens a
/// connection; otherwise the current one for a new
/// connection, and for any other packet the previous one, which is the current one as soon as the learning window is
/// over. Either is remembered.
///
/// A node that has just become owner remembers nothing, and its previous backends may be those of a change that the owner
/// before never saw. Where one of the two is this node itself, its sockets know better.
///
/// A function of its own: it is called seldom, and the others need the registers.
#[inline(never)]
pub(crate) fn backend<K: Kernel>(kernel: &K, packet: &Unsettled) -> u32 {
    let now = kernel.now_coarse();
    if let Some(id) = kernel.recall(&packet.key, now, since(packet, now)).filter(|id| is_usable(kernel, *id))
    {
        return id;
    }
    let id = unknown(kernel, packet);
    if id != 0 {
        kernel.remember(&packet.key, &FlowState { backend: id, reserved: 0, last_seen: now });
    }
    id
}

/// The same without a trace: nothing is remembered and no time renewed.
#[inline(always)]
pub(crate) fn backend_untraced<K: Kernel>(kernel: &K, packet: &Unsettled) -> u32 {
    let since = since(packet, kernel.now_coarse());
    kernel
        .peek(&packet.key, since)
        .filter(|id| is_usable(kernel, *id))
        .unwrap_or_else(|| unknown(kernel, packet))
}

/// Since when the flow must have been seen to be the one that is remembered. A client's port comes round again: what opens a
/// connection is another one's packet, unless it is sent once more because nobody answered. Another node, which remembers
/// nothing, must be able to tell where that connection is.
#[inline(always)]
fn since(packet: &Unsettled, now: u64) -> u64 {
    if packet.opens != 0 { now.saturating_sub(OPENS_AGAIN) } else { 0 }
}

/// The backend of a packet that nobody remembers.
#[inline(always)]
fn unknown<K: Kernel>(kernel: &K, packet: &Unsettled) -> u32 {
    if packet.opens != 0 { packet.current } else { previous(kernel, packet) }
}

#[inline(always)]
fn is_usable<K: Kernel>(kernel: &K, id: u32) -> bool {
    kernel.backend(id).is_some_and(|backend| backend.flags() & Backend::FAILED == 0)
}

/// Where a connection nobody remembers belongs. User space writes the previous backends before a slot says that it has one.
#[inline(always)]
fn previous<K: Kernel>(kernel: &K, packet: &Unsettled) -> u32 {
    let previous = kernel.slot(packet.previous, packet.number).map_or(0, slot_backend);
    if previous == packet.current || packet.key.protocol != TCP {
        return previous;
    }
    let previous_is_here = is_local(kernel, previous);
    if !previous_is_here && !is_local(kernel, packet.current) {
        return previous;
    }
    if kernel.has_connection(&packet.key) == previous_is_here { previous } else { packet.current }
}

#[inline(always)]
fn is_local<K: Kernel>(kernel: &K, id: u32) -> bool {
    kernel.backend(id).is_some_and(|backend| backend.mode() == MODE_LOCAL)
}
