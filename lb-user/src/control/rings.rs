//! The rings of services, and what leads to them.

use lb_common::{Be16, RangeKey, Service, ServiceKey6, UNSETTLED, limits};

use super::{
    desired::{Condition, DesiredService, ServiceId},
    forwarding::{AppliedService, Forwarding, ForwardingError, RingSource},
};
use crate::{
    balance::{Ring, Slots},
    dataplane::{Dataplane, DataplaneError},
    time::Timestamp,
};

/// New services whose rings are written together: the kernel waits for all packets under way once for all of them, instead
/// of once for each. Their slots are in memory meanwhile, 256 KiB each.
const AT_ONCE: usize = 64;

/// A service that gets rings of its own, to which nothing leads yet.
struct New<'a> {
    key: ServiceId,
    desired: &'a DesiredService,
    source: RingSource,
    value: Service,
    slots: Vec<u32>,
}

impl Forwarding {
    /// Applies services that are not there yet, or with rings of another size: a ring index keeps its size for as long as a
    /// service names it, and slots of another size have nothing in common. What fails is tried again with the next run.
    pub(super) fn new_services(
        &mut self,
        dataplane: &mut dyn Dataplane,
        services: &[(ServiceId, &DesiredService)],
        now: Timestamp,
        errors: &mut Vec<ForwardingError>,
    ) {
        for services in services.chunks(AT_ONCE) {
            let mut all = Vec::new();
            for (key, desired) in services {
                match self.prepare(dataplane, *key, desired, now) {
                    Ok(new) => all.push(new),
                    Err(error) => errors.push(error),
                }
            }
            let rings: Vec<(u32, &[u32])> =
                all.iter().map(|new| (new.value.ring, new.slots.as_slice())).collect();
            if let Err(error) = dataplane.put_rings(&rings) {
                for new in &all {
                    self.give_back(&new.value);
                }
                errors.push(error.into());
                continue;
            }
            for new in all {
                let before = self.services.get(&new.key).map(|applied| applied.value);
                if let Err(error) = put_service(dataplane, new.key, new.value, before) {
                    self.give_back(&new.value);
                    errors.push(error.into());
                    continue;
                }
                if let Some(before) = before {
                    self.ring_ids.release(before.ring, now);
                    self.ring_ids.release(before.previous, now);
                }
                self.names_changed(new.key, now);
                let complete = is_known(new.desired);
                let flow_timeout = new.desired.flow_timeout;
                let New { value, source, .. } = new;
                let applied =
                    AppliedService { value, source, slots: None, complete, flow_timeout, at_rest: None };
                self.services.insert(new.key, applied);
                self.note_rest(new.key, new.desired);
            }
        }
    }

    fn prepare<'a>(
        &mut self,
        dataplane: &mut dyn Dataplane,
        key: ServiceId,
        desired: &'a DesiredService,
        now: Timestamp,
    ) -> Result<New<'a>, ForwardingError> {
        let (source, flags) = self.members(dataplane, key, desired, now)?;
        let (ring, previous) = self.two_rings()?;
        let ring_size = if source.members.is_empty() { 0 } else { source.size };
        let value = Service { ring, ring_size, lease: desired.lease, flags, previous, ..Service::default() };
        let slots = ring_slots(&source);
        Ok(New { key, desired, source, value, slots })
    }

    /// Takes back ring indexes that nothing leads to.
    fn give_back(&mut self, value: &Service) {
        self.ring_ids.recycle(value.ring);
        self.ring_ids.recycle(value.previous);
    }

    /// Brings a service that is there, with a ring of that size, to what is desired.
    pub(super) fn change_service(
        &mut self,
        dataplane: &mut dyn Dataplane,
        key: ServiceId,
        desired: &DesiredService,
        now: Timestamp,
    ) -> Result<(), ForwardingError> {
        // What fails half-way has brought about neither this nor what was before.
        if let Some(applied) = self.services.get_mut(&key) {
            applied.at_rest = None;
        }
        let (source, flags) = self.members(dataplane, key, desired, now)?;
        let failed = self.failed_of(key);
        // Invariant: the caller has looked.
        let Some(applied) = self.services.get(&key) else { return Ok(()) };
        let slots = match &applied.slots {
            // The same members and nothing to take back: the slots stay as they are.
            known
                if applied.source == source
                    && known.as_ref().is_none_or(|slots| !slots.previous_is_any(&failed)) =>
            {
                None
            }
            _ if !applied.complete => Some(Slots::settled(ring_slots(&source))),
            known => {
                let old = known.clone().unwrap_or_else(|| Slots::settled(ring_slots(&applied.source)));
                let lease = dataplane.leases().expiry(applied.value.lease);
                let steering = lease.is_some_and(|expiry| now.0 < expiry);
                Some(old.change(ring_slots(&source), &failed, now, desired.learning_window, steering))
            }
        };
        let unsettled = slots.as_ref().map_or(applied.slots.is_some(), |slots| slots.unsettled() > 0);
        let ring_size = if source.members.is_empty() && !unsettled { 0 } else { source.size };
        let value = Service { ring_size, lease: desired.lease, flags, ..applied.value };
        if let Some(slots) = &slots {
            put_slots(dataplane, &value, slots)?;
        }
        if applied.value != value {
            put_service(dataplane, key, value, Some(applied.value))?;
        }
        if slots.is_some() {
            self.names_changed(key, now);
        }
        if unsettled {
            self.memory.begin(now);
        }
        if let Some(applied) = self.services.get_mut(&key) {
            if let Some(slots) = slots {
                applied.slots = Some(slots).filter(|slots| slots.unsettled() > 0);
            }
            applied.value = value;
            applied.source = source;
            applied.complete |= is_known(desired);
            applied.flow_timeout = desired.flow_timeout;
        }
        self.note_rest(key, desired);
        Ok(())
    }

    /// Remembers what was brought about, where that leaves nothing to do.
    fn note_rest(&mut self, key: ServiceId, desired: &DesiredService) {
        let at_rest = self.is_at_rest(key, desired).then(|| desired.clone());
        if let Some(applied) = self.services.get_mut(&key) {
            applied.at_rest = at_rest;
        }
    }

    /// Indexes for a service's ring and for the ring of its previous backends.
    fn two_rings(&mut self) -> Result<(u32, u32), ForwardingError> {
        let full = ForwardingError::Full { what: "rings", limit: limits::RINGS };
        let Some(ring) = self.ring_ids.allocate() else { return Err(full) };
        let Some(previous) = self.ring_ids.allocate() else {
            self.ring_ids.recycle(ring);
            return Err(full);
        };
        Ok((ring, previous))
    }
}

/// Whether every check of a service has concluded once.
fn is_known(desired: &DesiredService) -> bool {
    desired.backends.values().all(|backend| backend.condition != Condition::Checking)
}

/// Writes a service's slots. The previous backends go first: a slot says that it is unsettled only once its previous
/// backend can be read. They say nothing new about slots that were unsettled before, so that a packet that meets the new
/// previous backends with the old ring is steered as the old state or the new one would have it.
pub(super) fn put_slots(
    dataplane: &mut dyn Dataplane,
    value: &Service,
    slots: &Slots,
) -> Result<(), DataplaneError> {
    let marked = slots.marked(|id| id | UNSETTLED);
    if slots.unsettled() == 0 {
        return dataplane.put_ring(value.ring, &marked);
    }
    // In this order, and the kernel waits for the packets under way only once.
    dataplane.put_rings(&[(value.previous, &slots.previous()), (value.ring, &marked)])
}

fn ring_slots(source: &RingSource) -> Vec<u32> {
    Ring::build(&source.members, source.size).ids(&source.members)
}

/// Writes what leads to a service: one entry, or one for each block of its ports. After a failure everything leads
/// where it led `before`.
fn put_service(
    dataplane: &mut dyn Dataplane,
    id: ServiceId,
    service: Service,
    before: Option<Service>,
) -> Result<(), DataplaneError> {
    if id.ports.one().is_some() {
        return dataplane.put_service(service_key(id), service);
    }
    let blocks = blocks(id);
    for (written, (key, bits)) in blocks.iter().enumerate() {
        let Err(error) = dataplane.put_service_range(*key, *bits, service) else { continue };
        for (key, bits) in &blocks[..written] {
            // A second failure changes nothing: the next run writes all of them again.
            let _ = match before {
                Some(before) => dataplane.put_service_range(*key, *bits, before),
                None => dataplane.delete_service_range(*key, *bits),
            };
        }
        return Err(error);
    }
    Ok(())
}

pub(super) fn delete_service(dataplane: &mut dyn Dataplane, id: ServiceId) -> Result<(), DataplaneError> {
    if id.ports.one().is_some() {
        return dataplane.delete_service(service_key(id));
    }
    blocks(id).into_iter().try_for_each(|(key, bits)| dataplane.delete_service_range(key, bits))
}

/// The key of a service of one port.
fn service_key(id: ServiceId) -> ServiceKey6 {
    let (port, _) = id.ports.bounds();
    ServiceKey6 { address: id.vip.into(), port: Be16::new(port), protocol: id.protocol.number(), reserved: 0 }
}

/// The keys of a service of several ports, each with the number of port bits that are compared.
fn blocks(id: ServiceId) -> Vec<(RangeKey, u8)> {
    let key = |port| RangeKey {
        address: id.vip.into(),
        protocol: id.protocol.number(),
        reserved: 0,
        port: Be16::new(port),
    };
    id.ports.prefixes().into_iter().map(|(port, bits)| (key(port), bits)).collect()
}
