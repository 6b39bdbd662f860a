//! Which service a packet is for, and which of its backends takes the flow.

use lb_common::{Backend, Flow, Ownership, RangeKey, Service, Verdict, slot, slot_backend};

use crate::{guard, kernel::Kernel, parse::Ethernet};

/// The service of a range of ports that a flow is addressed to.
#[inline(always)]
pub(crate) fn range<K: Kernel>(kernel: &K, flow: &Flow) -> Option<Service> {
    kernel.service_range(RangeKey {
        address: flow.destination,
        protocol: flow.protocol,
        reserved: 0,
        port: flow.destination_port,
    })
}

/// Whether a packet to a service may be steered; `Err` with what happens to it instead.
#[inline(always)]
pub(crate) fn admit<K: Kernel>(kernel: &K, service: &Service, ethernet: Ethernet) -> Result<(), Verdict> {
    // What another director sent here it has steered here: steering it again could send it round in circles.
    if service.flags & Service::HAS_LOCAL != 0 && kernel.is_director(ethernet.source_key()) {
        return Err(Verdict::Delivered);
    }
    match guard::owner(kernel, service.lease)? {
        Ownership::Owner | Ownership::Backup => Ok(()),
        Ownership::Expired => Err(Verdict::LeaseExpired),
    }
}

/// The identifier of the backend the ring names for a flow, and the backend.
#[inline(always)]
pub(crate) fn backend<K: Kernel>(
    kernel: &K,
    service: &Service,
    hash: u32,
) -> Result<(u32, Backend), Verdict> {
    if service.ring_size == 0 {
        return Err(Verdict::NoBackend);
    }
    match kernel.slot(service.ring, slot(hash, service.ring_size)).map(slot_backend) {
        None => Err(Verdict::Internal),
        Some(0) => Err(Verdict::NoBackend),
        Some(id) => kernel.backend(id).map(|backend| (id, backend)).ok_or(Verdict::Internal),
    }
}
