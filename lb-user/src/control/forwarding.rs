//! The reconciler of the data plane: brings the maps from what was applied to what is desired.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use lb_common::{
    Address, Backend, BackendCounters, Be16, Interface, MODE_DR, MODE_GUE, MODE_IPIP, MODE_LOCAL, MODE_NAT,
    Mac, NatReply, NatReplyKey6, NextHop, RangeKey, Service, ServiceKey6, Vip, limits,
};

use super::{
    desired::{Desired, DesiredService, DesiredVip, Outer, ServiceId},
    identifiers::Identifiers,
};
use crate::{
    balance::{Member, MemberKey, Ring},
    config::Mode,
    dataplane::{Dataplane, DataplaneError},
    time::Timestamp,
};

/// A failure to bring something about; the rest was still applied, and the next run tries again.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardingError {
    /// The kernel refused.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// A map is full.
    #[error("all {limit} {what} are in use; the change was not applied (after a restart there is more room)")]
    Full {
        /// Which kind of identifier.
        what: &'static str,
        /// How many there are.
        limit: u32,
    },
}

/// What a backend identifier stands for; anything else is another identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BackendKey {
    service: ServiceId,
    address: IpAddr,
    port: u16,
    mode: u8,
    outer: Outer,
}

#[derive(Clone, Copy, Debug)]
struct AppliedBackend {
    id: u32,
    next_hop: NextHop,
}

/// What a ring was built from; the same members give the same ring.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RingSource {
    size: u32,
    /// Those of a weight above 0.
    members: Vec<Member>,
}

#[derive(Clone, Debug)]
struct AppliedService {
    value: Service,
    source: RingSource,
}

/// The applied state of the data plane's maps, and the only code that changes them.
#[derive(Debug)]
pub(super) struct Forwarding {
    interfaces: BTreeMap<u16, Interface>,
    vips: BTreeMap<IpAddr, DesiredVip>,
    services: BTreeMap<ServiceId, AppliedService>,
    backends: BTreeMap<BackendKey, AppliedBackend>,
    nat_replies: BTreeMap<NatReplyKey6, NatReply>,
    directors: BTreeSet<Mac>,
    backend_ids: Identifiers,
    /// How many backend identifiers there are.
    room: u32,
    ring_ids: Identifiers,
    /// Identifiers whose counters still count for a service.
    retired: BTreeMap<u32, ServiceId>,
    /// Counts of identifiers that were recycled.
    folded: BTreeMap<ServiceId, BackendCounters>,
}

impl Forwarding {
    /// Nothing applied; `room` is how many backend identifiers the maps have, number 0 included.
    pub(super) fn new(room: u32) -> Self {
        Self {
            interfaces: BTreeMap::new(),
            vips: BTreeMap::new(),
            services: BTreeMap::new(),
            backends: BTreeMap::new(),
            nat_replies: BTreeMap::new(),
            directors: BTreeSet::new(),
            // Identifier 0 of a backend means "none" in a ring.
            backend_ids: Identifiers::new(1, room),
            room,
            ring_ids: Identifiers::new(0, limits::SERVICES),
            retired: BTreeMap::new(),
            folded: BTreeMap::new(),
        }
    }
}

impl Forwarding {
    /// Applies the difference. Everything that can be applied is; each failure is returned and leaves its
    /// part as it was, so that calling again tries again.
    ///
    /// The order keeps every packet on solid ground: what is named exists before its name does, and a name
    /// goes before what it named.
    pub(super) fn reconcile(
        &mut self,
        dataplane: &mut dyn Dataplane,
        desired: &Desired,
        now: Timestamp,
    ) -> Vec<ForwardingError> {
        let mut errors = Vec::new();
        self.recycle(dataplane, now, &mut errors);
        self.interfaces(dataplane, &desired.interfaces, &mut errors);
        self.directors(dataplane, &desired.directors, &mut errors);
        for (key, service) in &desired.services {
            if let Err(error) = self.service(dataplane, *key, service, now) {
                errors.push(error);
            }
        }
        self.vips(dataplane, &desired.vips, &mut errors);
        let gone: Vec<ServiceId> =
            self.services.keys().filter(|key| !desired.services.contains_key(key)).copied().collect();
        for key in gone {
            if let Err(error) = self.remove_service(dataplane, key, now) {
                errors.push(error);
            }
        }
        errors
    }

    /// Forgets the VIPs that are not desired. Called once they are addresses of this node no more: until then
    /// the guard must know them.
    pub(super) fn forget_vips(
        &mut self,
        dataplane: &mut dyn Dataplane,
        desired: &Desired,
    ) -> Vec<ForwardingError> {
        let mut errors = Vec::new();
        let desired = &desired.vips;
        let gone: Vec<IpAddr> = self.vips.keys().filter(|a| !desired.contains_key(a)).copied().collect();
        for address in gone {
            match dataplane.delete_vip(address.into()) {
                Ok(()) => {
                    self.vips.remove(&address);
                }
                Err(error) => errors.push(error.into()),
            }
        }
        errors
    }

    /// The counters of a service's backend; zeroes for one that is not applied.
    pub(super) fn backend_counters(
        &self,
        dataplane: &dyn Dataplane,
        service: ServiceId,
        address: IpAddr,
        port: u16,
    ) -> Result<BackendCounters, DataplaneError> {
        let mut sum = BackendCounters::default();
        for (_, backend) in
            self.backends_of(service).filter(|(key, _)| (key.address, key.port) == (address, port))
        {
            add(&mut sum, dataplane.backend_counters(backend.id)?);
        }
        Ok(sum)
    }

    /// The counters of a service: of its backends, those it had before included.
    pub(super) fn service_counters(
        &self,
        dataplane: &dyn Dataplane,
        service: ServiceId,
    ) -> Result<BackendCounters, DataplaneError> {
        let mut sum = self.folded.get(&service).copied().unwrap_or_default();
        let current = self.backends_of(service).map(|(_, backend)| backend.id);
        let retired = self.retired.iter().filter(|(_, key)| **key == service).map(|(id, _)| *id);
        for id in current.chain(retired) {
            add(&mut sum, dataplane.backend_counters(id)?);
        }
        Ok(sum)
    }

    /// The backends of a service: keys are in the order of services.
    fn backends_of(&self, service: ServiceId) -> impl Iterator<Item = (&BackendKey, &AppliedBackend)> {
        let first = BackendKey {
            service,
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 0,
            mode: 0,
            outer: Outer::default(),
        };
        self.backends.range(first..).take_while(move |(key, _)| key.service == service)
    }

    fn recycle(&mut self, dataplane: &mut dyn Dataplane, now: Timestamp, errors: &mut Vec<ForwardingError>) {
        while let Some(id) = self.backend_ids.rested(now) {
            let counters = dataplane.backend_counters(id);
            match counters.and_then(|counters| dataplane.reset_backend_counters(id).map(|()| counters)) {
                Ok(counters) => {
                    if let Some(service) = self.retired.remove(&id) {
                        add(self.folded.entry(service).or_default(), counters);
                    }
                    self.backend_ids.recycle(id);
                }
                Err(error) => {
                    self.backend_ids.release(id, now);
                    errors.push(error.into());
                }
            }
        }
        while let Some(index) = self.ring_ids.rested(now) {
            match dataplane.delete_ring(index) {
                Ok(()) => self.ring_ids.recycle(index),
                Err(error) => {
                    self.ring_ids.release(index, now);
                    errors.push(error.into());
                }
            }
        }
    }

    /// A slot keeps its last interface: next hops may name it a moment longer.
    fn interfaces(
        &mut self,
        dataplane: &mut dyn Dataplane,
        desired: &BTreeMap<u16, Interface>,
        errors: &mut Vec<ForwardingError>,
    ) {
        for (slot, interface) in desired {
            if self.interfaces.get(slot) == Some(interface) {
                continue;
            }
            match dataplane.put_interface(*slot, *interface) {
                Ok(()) => {
                    self.interfaces.insert(*slot, *interface);
                }
                Err(error) => errors.push(error.into()),
            }
        }
    }

    fn directors(
        &mut self,
        dataplane: &mut dyn Dataplane,
        desired: &BTreeSet<Mac>,
        errors: &mut Vec<ForwardingError>,
    ) {
        for mac in desired.difference(&self.directors.clone()) {
            match dataplane.put_director(*mac) {
                Ok(()) => {
                    self.directors.insert(*mac);
                }
                Err(error) => errors.push(error.into()),
            }
        }
        for mac in self.directors.clone().difference(desired) {
            match dataplane.delete_director(*mac) {
                Ok(()) => {
                    self.directors.remove(mac);
                }
                Err(error) => errors.push(error.into()),
            }
        }
    }

    fn vips(
        &mut self,
        dataplane: &mut dyn Dataplane,
        desired: &BTreeMap<IpAddr, DesiredVip>,
        errors: &mut Vec<ForwardingError>,
    ) {
        for (address, vip) in desired {
            if self.vips.get(address) == Some(vip) {
                continue;
            }
            let flags = if vip.has_ranges { Vip::HAS_RANGES } else { 0 };
            match dataplane.put_vip((*address).into(), Vip { lease: vip.lease, flags }) {
                Ok(()) => {
                    self.vips.insert(*address, *vip);
                }
                Err(error) => errors.push(error.into()),
            }
        }
    }

    fn service(
        &mut self,
        dataplane: &mut dyn Dataplane,
        key: ServiceId,
        desired: &DesiredService,
        now: Timestamp,
    ) -> Result<(), ForwardingError> {
        let mut source = RingSource { size: desired.ring_size, members: Vec::new() };
        let mut kept = BTreeSet::new();
        let mut flags = 0;
        for ((address, port), backend) in &desired.backends {
            let backend_key = BackendKey {
                service: key,
                address: *address,
                port: *port,
                mode: mode_number(backend.mode),
                outer: backend.outer,
            };
            let id = self.backend(dataplane, backend_key, backend.next_hop)?;
            kept.insert(backend_key);
            if backend.weight > 0 {
                let member_key = MemberKey { address: *address, port: *port, protocol: key.protocol };
                source.members.push(Member { key: member_key, weight: backend.weight, id });
            }
            if backend.mode == Mode::Local {
                flags |= Service::HAS_LOCAL;
            }
        }
        self.ring_and_service(dataplane, key, source, desired.lease, flags, now)?;
        self.retire_backends(dataplane, now, key, |candidate| !kept.contains(candidate))
    }

    /// Writes a backend, or its next hop where only that changed. Returns its identifier.
    fn backend(
        &mut self,
        dataplane: &mut dyn Dataplane,
        key: BackendKey,
        next_hop: NextHop,
    ) -> Result<u32, ForwardingError> {
        if let Some(applied) = self.backends.get_mut(&key) {
            if applied.next_hop != next_hop {
                dataplane.set_next_hop(applied.id, next_hop)?;
                applied.next_hop = next_hop;
            }
            return Ok(applied.id);
        }
        let id = self
            .backend_ids
            .allocate()
            .ok_or(ForwardingError::Full { what: "backend identifiers", limit: self.room })?;
        let backend = Backend {
            next_hop,
            address: key.address.into(),
            source: key.outer.source.map(Address::from).unwrap_or_default(),
            port: Be16::new(key.port),
            mode: key.mode,
            mtu: key.outer.mtu,
            ..Backend::default()
        };
        let written = dataplane.put_backend(id, backend).and_then(|()| match key.mode {
            MODE_NAT => self.put_nat_reply(dataplane, key, id),
            _ => Ok(()),
        });
        if let Err(error) = written {
            self.backend_ids.recycle(id);
            return Err(error.into());
        }
        self.backends.insert(key, AppliedBackend { id, next_hop });
        Ok(id)
    }

    fn put_nat_reply(
        &mut self,
        dataplane: &mut dyn Dataplane,
        key: BackendKey,
        backend: u32,
    ) -> Result<(), DataplaneError> {
        let reply_key = nat_reply_key(key);
        let ServiceId { vip, ports, .. } = key.service;
        // The configuration has no `nat` backends behind several ports.
        let (port, _) = ports.bounds();
        let reply = NatReply { address: vip.into(), port: Be16::new(port), reserved: 0, backend };
        dataplane.put_nat_reply(reply_key, reply)?;
        self.nat_replies.insert(reply_key, reply);
        Ok(())
    }

    fn ring_and_service(
        &mut self,
        dataplane: &mut dyn Dataplane,
        key: ServiceId,
        source: RingSource,
        lease: u32,
        flags: u32,
        now: Timestamp,
    ) -> Result<(), ForwardingError> {
        let applied = self.services.get(&key);
        // A ring index keeps its size for as long as a service names it.
        let keeps_ring = applied.is_some_and(|applied| applied.source.size == source.size);
        let ring = match applied {
            Some(applied) if keeps_ring => applied.value.ring,
            _ => self
                .ring_ids
                .allocate()
                .ok_or(ForwardingError::Full { what: "rings", limit: limits::SERVICES })?,
        };
        let ring_size = if source.members.is_empty() { 0 } else { source.size };
        let value = Service { ring, ring_size, lease, flags, ..Service::default() };
        let mut written = Ok(());
        if !keeps_ring || applied.is_none_or(|applied| applied.source != source) {
            written = dataplane.put_ring(ring, &ring_slots(&source));
        }
        if written.is_ok() && applied.is_none_or(|applied| applied.value != value) {
            written = put_service(dataplane, key, value, applied.map(|applied| applied.value));
        }
        if let Err(error) = written {
            if !keeps_ring {
                self.ring_ids.recycle(ring);
            }
            return Err(error.into());
        }
        let old = self.services.insert(key, AppliedService { value, source });
        if let Some(old) = old.filter(|old| old.value.ring != ring) {
            self.ring_ids.release(old.value.ring, now);
        }
        Ok(())
    }

    fn remove_service(
        &mut self,
        dataplane: &mut dyn Dataplane,
        key: ServiceId,
        now: Timestamp,
    ) -> Result<(), ForwardingError> {
        delete_service(dataplane, key)?;
        if let Some(applied) = self.services.remove(&key) {
            self.ring_ids.release(applied.value.ring, now);
        }
        self.retire_backends(dataplane, now, key, |_| true)
    }

    fn retire_backends(
        &mut self,
        dataplane: &mut dyn Dataplane,
        now: Timestamp,
        service: ServiceId,
        gone: impl Fn(&BackendKey) -> bool,
    ) -> Result<(), ForwardingError> {
        let keys: Vec<BackendKey> =
            self.backends_of(service).map(|(key, _)| *key).filter(|key| gone(key)).collect();
        for key in keys {
            let Some(backend) = self.backends.get(&key).copied() else { continue };
            let reply_key = nat_reply_key(key);
            if self.nat_replies.get(&reply_key).is_some_and(|reply| reply.backend == backend.id) {
                dataplane.delete_nat_reply(reply_key)?;
                self.nat_replies.remove(&reply_key);
            }
            self.backends.remove(&key);
            self.backend_ids.release(backend.id, now);
            self.retired.insert(backend.id, key.service);
        }
        Ok(())
    }
}

fn ring_slots(source: &RingSource) -> Vec<u32> {
    Ring::build(&source.members, source.size).ids(&source.members)
}

fn nat_reply_key(key: BackendKey) -> NatReplyKey6 {
    NatReplyKey6 {
        address: key.address.into(),
        port: Be16::new(key.port),
        protocol: key.service.protocol.number(),
        reserved: 0,
    }
}

fn mode_number(mode: Mode) -> u8 {
    match mode {
        Mode::Local => MODE_LOCAL,
        Mode::Dr => MODE_DR,
        Mode::Ipip => MODE_IPIP,
        Mode::Gue => MODE_GUE,
        Mode::Nat => MODE_NAT,
    }
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

fn delete_service(dataplane: &mut dyn Dataplane, id: ServiceId) -> Result<(), DataplaneError> {
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

fn add(sum: &mut BackendCounters, more: BackendCounters) {
    sum.packets += more.packets;
    sum.bytes += more.bytes;
    sum.connections += more.connections;
}
