//! Which service a packet is for, and which of its backends takes the flow.

use core::mem::MaybeUninit;

use lb_common::{Flow, Ownership, RangeKey, Service, Verdict, Vip, slot, slot_backend, slot_is_unsettled};

use crate::{
    backend::BackendEntry,
    guard,
    ip::Ip,
    kernel::{Kept, Kernel},
    parse::{Ethernet, Kind},
    track,
};

/// The service that a flow to what may be a VIP is addressed to, if its packets may be steered; `None` if it is no VIP
/// after all, `Err` with what else happens to the packet. It is read where it is kept; `place` is for one that had to be
/// looked up.
#[inline(always)]
pub(crate) fn find<'a, K: Kernel, I: Ip>(
    kernel: &'a K,
    flow: &Flow,
    ethernet: Ethernet,
    place: &'a mut MaybeUninit<Service>,
) -> Result<Option<&'a Service>, Verdict> {
    let service = match I::kept(kernel, flow) {
        Kept::Fresh(service) => service,
        Kept::Nothing(version) => {
            let Some(service) = look_up::<K, I>(kernel, flow, ethernet)? else { return Ok(None) };
            I::keep(kernel, flow, &service, version);
            place.write(service)
        }
    };
    admit(kernel, service, ethernet)?;
    Ok(Some(service))
}

/// The service that a flow to a VIP is addressed to.
#[inline(always)]
pub(crate) fn of_vip<K: Kernel, I: Ip>(kernel: &K, vip: Vip, flow: &Flow) -> Option<Service> {
    I::service(kernel, flow).or_else(|| range(kernel, vip, flow))
}

/// Whether a packet to a service may be steered; `Err` with what happens to it instead.
#[inline(always)]
fn admit<K: Kernel>(kernel: &K, service: &Service, ethernet: Ethernet) -> Result<(), Verdict> {
    guard::mac(kernel, ethernet)?;
    admit_addressed(kernel, service, ethernet)
}

/// The same of a packet in a frame that is for this node.
#[inline(always)]
pub(crate) fn admit_addressed<K: Kernel>(
    kernel: &K,
    service: &Service,
    ethernet: Ethernet,
) -> Result<(), Verdict> {
    // What another director sent here it has steered here: steering it again could send it round in circles.
    if service.flags & Service::HAS_LOCAL != 0 && kernel.is_director(ethernet.source_key()) {
        return Err(Verdict::Delivered);
    }
    match guard::owner(kernel, service.lease)? {
        Ownership::Owner | Ownership::Backup => Ok(()),
        Ownership::Expired => Err(Verdict::LeaseExpired),
    }
}

/// The service that a flow is addressed to; `None` if that is no VIP, `Err` with what happens to a packet to a VIP
/// without such a service.
#[inline(always)]
pub(crate) fn look_up<K: Kernel, I: Ip>(
    kernel: &K,
    flow: &Flow,
    ethernet: Ethernet,
) -> Result<Option<Service>, Verdict> {
    if let Some(service) = I::service(kernel, flow) {
        return Ok(Some(service));
    }
    let Some(vip) = I::vip(kernel, flow.destination) else { return Ok(None) };
    match range(kernel, vip, flow) {
        Some(service) => Ok(Some(service)),
        None => Err(guard::vip(kernel, vip, Kind::Segment, ethernet)),
    }
}

/// The service of a range of ports of a VIP that a flow is addressed to.
#[inline(always)]
fn range<K: Kernel>(kernel: &K, vip: Vip, flow: &Flow) -> Option<Service> {
    if vip.flags & Vip::HAS_RANGES == 0 {
        return None;
    }
    kernel.service_range(RangeKey {
        address: flow.destination,
        protocol: flow.protocol,
        reserved: 0,
        port: flow.destination_port,
    })
}

/// The identifier of the backend that a flow belongs to, and the backend. `opens` says that the packet opens a TCP
/// connection.
#[inline(always)]
pub(crate) fn backend<'k, K: Kernel>(
    kernel: &'k K,
    service: &Service,
    flow: &Flow,
    hash: u32,
    opens: bool,
) -> Result<(u32, BackendEntry<'k>), Verdict> {
    choose(kernel, service, flow, hash, opens, |packet| track::backend(kernel, packet))
}

/// The same without a trace, for what is about the flow, or a second look at its packet.
#[inline(always)]
pub(crate) fn backend_untraced<'k, K: Kernel>(
    kernel: &'k K,
    service: &Service,
    flow: &Flow,
    hash: u32,
    opens: bool,
) -> Result<(u32, BackendEntry<'k>), Verdict> {
    choose(kernel, service, flow, hash, opens, |packet| track::backend_untraced(kernel, packet))
}

#[inline(always)]
fn choose<'k, K: Kernel>(
    kernel: &'k K,
    service: &Service,
    flow: &Flow,
    hash: u32,
    opens: bool,
    unsettled: impl FnOnce(&track::Unsettled) -> u32,
) -> Result<(u32, BackendEntry<'k>), Verdict> {
    if service.ring_size == 0 {
        return Err(Verdict::NoBackend);
    }
    let number = slot(hash, service.ring_size);
    let value = kernel.slot(service.ring, number).ok_or(Verdict::Internal)?;
    let id = if slot_is_unsettled(value) {
        let packet = track::Unsettled {
            key: flow.key(),
            previous: service.previous,
            number,
            current: slot_backend(value),
            opens: u32::from(opens),
        };
        unsettled(&packet)
    } else {
        value
    };
    match id {
        0 => Err(Verdict::NoBackend),
        id => kernel.backend(id).map(|backend| (id, backend)).ok_or(Verdict::Internal),
    }
}
