//! Unsettled slots: the only ones whose flows are remembered.

use lb_common::{Backend, Flow, FlowState, Service, Verdict, slot_backend};

use crate::{kernel::Kernel, service};

/// The backend of a flow in the unsettled slot `number`: the remembered one; otherwise the `current` one for a new
/// connection, and for any other packet the previous one, which is the current one as soon as the learning window is
/// over. Either is remembered.
#[inline(always)]
pub(crate) fn backend<K: Kernel>(
    kernel: &K,
    service: &Service,
    flow: &Flow,
    number: u32,
    current: u32,
    opens: bool,
) -> Result<(u32, Backend), Verdict> {
    let key = flow.key();
    let now = kernel.now_coarse();
    if let Some(id) = kernel.recall(&key, now)
        && let Ok((id, backend)) = service::named(kernel, id)
        && backend.flags & Backend::FAILED == 0
    {
        return Ok((id, backend));
    }
    let chosen = if opens {
        current
    } else {
        slot_backend(kernel.slot(service.previous, number).ok_or(Verdict::Internal)?)
    };
    let (id, backend) = service::named(kernel, chosen)?;
    kernel.remember(&key, &FlowState { backend: id, reserved: 0, last_seen: now });
    Ok((id, backend))
}
