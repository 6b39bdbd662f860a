//! The reconciler of the data plane: brings the maps from what was applied to what is desired. What a service's ring is made
//! of is here, the rings themselves are in [`super::rings`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use ipnet::IpNet;
use lb_common::{
    Address, Backend, BackendCounters, Be16, Device, Interface, MODE_DR, MODE_GUE, MODE_IPIP, MODE_LOCAL,
    MODE_NAT, Mac, NatReply, NatReplyKey6, NextHop, Service, Vip, VirtualMac, limits,
};

use super::{
    desired::{Condition, Desired, DesiredService, DesiredVip, Left, Outer, ServiceId},
    flows::Memory,
    identifiers::Identifiers,
    rings::delete_service,
};
use crate::{
    balance::{Member, MemberKey, Slots},
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
    /// Two devices share a place of `DEVICES`.
    #[error(
        "the interfaces with the indexes {first} and {second} (`ip link`) cannot both be described: frames that come in by \
         {second} are not checked for whose MAC address they are for; an interface made anew has another index"
    )]
    Place {
        /// The one that is described.
        first: u32,
        /// The one that is not.
        second: u32,
    },
}

/// What a backend identifier stands for; anything else is another identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BackendKey {
    pub(super) service: ServiceId,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// One of the `MODE_*` constants.
    pub(super) mode: u8,
    outer: Outer,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct AppliedBackend {
    pub(super) id: u32,
    next_hop: NextHop,
    /// When it failed, if it has.
    pub(super) failed: Option<Timestamp>,
    /// When it stopped being desired. It stays for as long as a slot or a flow names it.
    pub(super) left: Option<Timestamp>,
}

/// What a ring was built from; the same members give the same ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RingSource {
    pub(super) size: u32,
    /// Those of a weight above 0.
    pub(super) members: Vec<Member>,
}

#[derive(Clone, Debug)]
pub(super) struct AppliedService {
    pub(super) value: Service,
    pub(super) source: RingSource,
    /// Its slots while some are unsettled; otherwise they are what the source says.
    pub(super) slots: Option<Slots>,
    /// Every backend's health has been known once. Until then the ring is still being put together, and slots change
    /// hands at once: the connections that may be there belong to the finished ring, as every other node has it.
    pub(super) complete: bool,
    pub(super) flow_timeout: Duration,
    /// What was desired when it was brought about, if nothing was left to do: as long as the same is desired, nothing is.
    pub(super) at_rest: Option<DesiredService>,
}

/// The applied state of the data plane's maps, and the only code that changes them.
#[derive(Debug)]
pub(super) struct Forwarding {
    interfaces: BTreeMap<u16, Interface>,
    /// By place.
    devices: BTreeMap<u32, Device>,
    vips: BTreeMap<IpAddr, DesiredVip>,
    pub(super) services: BTreeMap<ServiceId, AppliedService>,
    pub(super) backends: BTreeMap<BackendKey, AppliedBackend>,
    nat_replies: BTreeMap<NatReplyKey6, NatReply>,
    /// The lease that each goes with.
    virtual_macs: BTreeMap<VirtualMac, u32>,
    directors: BTreeSet<Mac>,
    tunnel_sources: BTreeSet<IpNet>,
    backend_ids: Identifiers,
    /// How many backend identifiers there are.
    room: u32,
    pub(super) ring_ids: Identifiers,
    /// Identifiers whose counters still count for a service.
    retired: BTreeMap<u32, ServiceId>,
    /// Counts of identifiers that were recycled.
    folded: BTreeMap<ServiceId, BackendCounters>,
    pub(super) memory: Memory,
    /// Flows that this node remembered when it lost the VIP of their service.
    left_behind: BTreeMap<ServiceId, u64>,
}

impl Forwarding {
    /// Nothing applied; `room` is how many backend identifiers the maps have, number 0 included.
    pub(super) fn new(room: u32) -> Self {
        Self {
            interfaces: BTreeMap::new(),
            devices: BTreeMap::new(),
            vips: BTreeMap::new(),
            services: BTreeMap::new(),
            backends: BTreeMap::new(),
            nat_replies: BTreeMap::new(),
            virtual_macs: BTreeMap::new(),
            directors: BTreeSet::new(),
            tunnel_sources: BTreeSet::new(),
            // Identifier 0 of a backend means "none" in a ring.
            backend_ids: Identifiers::new(1, room),
            room,
            ring_ids: Identifiers::new(0, limits::RINGS),
            retired: BTreeMap::new(),
            folded: BTreeMap::new(),
            memory: Memory::default(),
            left_behind: BTreeMap::new(),
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
        self.devices(dataplane, &desired.devices, &mut errors);
        self.virtual_macs(dataplane, &desired.virtual_leases, &mut errors);
        self.directors(dataplane, &desired.directors, &mut errors);
        self.tunnel_sources(dataplane, &desired.tunnel_sources, &mut errors);
        let mut new = Vec::new();
        for (key, service) in &desired.services {
            match self.services.get(key) {
                Some(applied) if applied.at_rest.as_ref() == Some(service) => {}
                Some(applied) if applied.source.size == service.ring_size => {
                    if let Err(error) = self.change_service(dataplane, *key, service, now) {
                        errors.push(error);
                    }
                }
                _ => new.push((*key, service)),
            }
        }
        self.new_services(dataplane, &new, now, &mut errors);
        self.follow_left(dataplane, &desired.left, &mut errors);
        self.vips(dataplane, &desired.vips, &mut errors);
        let gone: Vec<ServiceId> =
            self.services.keys().filter(|key| !desired.services.contains_key(key)).copied().collect();
        for key in gone {
            if let Err(error) = self.remove_service(dataplane, key, now) {
                errors.push(error);
            }
        }
        if let Err(error) = self.release_left(dataplane, now) {
            errors.push(error.into());
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

    /// The backends that are not desired any more and that a slot or a flow may name.
    pub(super) fn left(&self) -> impl Iterator<Item = Left> {
        self.backends.iter().filter(|(_, backend)| backend.left.is_some()).map(|(key, _)| Left {
            vip: key.service.vip,
            address: key.address,
            is_local: key.mode == MODE_LOCAL,
        })
    }

    /// Notes that this node does not own the VIPs of a lease any more: what it remembers of their flows the new owner
    /// does not know. Returns how many flows that is.
    pub(super) fn leave_behind(&mut self, lease: u32) -> usize {
        let of_lease = self.services.iter().filter(|(_, service)| service.value.lease == lease);
        let services: Vec<ServiceId> = of_lease.map(|(id, _)| *id).collect();
        let mut all = 0;
        for id in services {
            let flows = self.memory.flows(id);
            *self.left_behind.entry(id).or_default() += flows as u64;
            all += flows;
        }
        all
    }

    /// How many remembered flows of a service were left behind so far.
    pub(super) fn left_behind(&self, service: ServiceId) -> u64 {
        self.left_behind.get(&service).copied().unwrap_or(0)
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

    /// The service that has the ring with this index.
    pub(super) fn service_of_ring(&self, ring: u32) -> Option<ServiceId> {
        self.services.iter().find(|(_, service)| service.value.ring == ring).map(|(id, _)| *id)
    }

    /// What a backend identifier stands for.
    pub(super) fn backend_key(&self, id: u32) -> Option<BackendKey> {
        self.backends.iter().find(|(_, backend)| backend.id == id).map(|(key, _)| *key)
    }

    /// The backends of a service: keys are in the order of services.
    fn backends_of(&self, service: ServiceId) -> impl Iterator<Item = (&BackendKey, &AppliedBackend)> {
        self.backends.range(first_of(service)..).take_while(move |(key, _)| key.service == service)
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

    fn devices(
        &mut self,
        dataplane: &mut dyn Dataplane,
        desired: &BTreeMap<u32, Device>,
        errors: &mut Vec<ForwardingError>,
    ) {
        let mut wanted: BTreeMap<u32, Device> = BTreeMap::new();
        for device in desired.values() {
            let first = *wanted.entry(Device::place(device.ifindex)).or_insert(*device);
            if first.ifindex != device.ifindex {
                errors.push(ForwardingError::Place { first: first.ifindex, second: device.ifindex });
            }
        }
        for (place, device) in &wanted {
            if self.devices.get(place) == Some(device) {
                continue;
            }
            // Only the MAC address changes in place; any other change is another device.
            let forgotten = match self.devices.get(place) {
                Some(before) if before.vlan_key() != device.vlan_key() => dataplane.delete_device(*before),
                _ => Ok(()),
            };
            match forgotten.and_then(|()| dataplane.put_device(*device)) {
                Ok(()) => {
                    self.devices.insert(*place, *device);
                }
                Err(error) => errors.push(error.into()),
            }
        }
        let gone: Vec<Device> =
            self.devices.iter().filter(|(place, _)| !wanted.contains_key(place)).map(|(_, d)| *d).collect();
        for device in gone {
            match dataplane.delete_device(device) {
                Ok(()) => {
                    self.devices.remove(&Device::place(device.ifindex));
                }
                Err(error) => errors.push(error.into()),
            }
        }
    }

    fn virtual_macs(
        &mut self,
        dataplane: &mut dyn Dataplane,
        desired: &BTreeMap<VirtualMac, u32>,
        errors: &mut Vec<ForwardingError>,
    ) {
        for (mac, lease) in desired {
            if self.virtual_macs.get(mac) == Some(lease) {
                continue;
            }
            match dataplane.put_virtual_mac(*mac, *lease) {
                Ok(()) => {
                    self.virtual_macs.insert(*mac, *lease);
                }
                Err(error) => errors.push(error.into()),
            }
        }
        let gone: Vec<VirtualMac> =
            self.virtual_macs.keys().filter(|mac| !desired.contains_key(mac)).copied().collect();
        for mac in gone {
            match dataplane.delete_virtual_mac(mac) {
                Ok(()) => {
                    self.virtual_macs.remove(&mac);
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

    fn tunnel_sources(
        &mut self,
        dataplane: &mut dyn Dataplane,
        desired: &BTreeSet<IpNet>,
        errors: &mut Vec<ForwardingError>,
    ) {
        for network in desired.difference(&self.tunnel_sources.clone()) {
            match dataplane.put_tunnel_source(*network) {
                Ok(()) => {
                    self.tunnel_sources.insert(*network);
                }
                Err(error) => errors.push(error.into()),
            }
        }
        for network in self.tunnel_sources.clone().difference(desired) {
            match dataplane.delete_tunnel_source(*network) {
                Ok(()) => {
                    self.tunnel_sources.remove(network);
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
            let flag = |set, flag| if set { flag } else { 0 };
            let flags = flag(vip.has_ranges, Vip::HAS_RANGES)
                | flag(vip.not_accepted, Vip::NOT_ACCEPTED)
                | flag(vip.held, Vip::HELD);
            match dataplane.put_vip((*address).into(), Vip { lease: vip.lease, flags }) {
                Ok(()) => {
                    self.vips.insert(*address, *vip);
                }
                Err(error) => errors.push(error.into()),
            }
        }
    }

    /// Writes the backends of a service. Returns what its ring is built from, and the service's flags.
    pub(super) fn members(
        &mut self,
        dataplane: &mut dyn Dataplane,
        key: ServiceId,
        desired: &DesiredService,
        now: Timestamp,
    ) -> Result<(RingSource, u32), ForwardingError> {
        let mut source = RingSource { size: desired.ring_size, members: Vec::new() };
        let mut kept = BTreeSet::new();
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
            let failed = self.failed(dataplane, backend_key, backend.condition == Condition::Failed, now)?;
            if backend.weight > 0 && !failed {
                let member_key = MemberKey { address: *address, port: *port, protocol: key.protocol };
                source.members.push(Member { key: member_key, weight: backend.weight, id });
            }
        }
        let mut flags = 0;
        for (backend_key, applied) in self.backends_of_mut(key) {
            applied.left = if kept.contains(backend_key) { None } else { applied.left.or(Some(now)) };
            if backend_key.mode == MODE_LOCAL {
                flags |= Service::HAS_LOCAL;
            }
        }
        Ok((source, flags))
    }

    /// Keeps the way to backends that left: they have connections.
    fn follow_left(
        &mut self,
        dataplane: &mut dyn Dataplane,
        next_hops: &BTreeMap<IpAddr, NextHop>,
        errors: &mut Vec<ForwardingError>,
    ) {
        for (key, backend) in
            self.backends.iter_mut().filter(|(key, backend)| backend.left.is_some() && key.mode != MODE_LOCAL)
        {
            let Some(&next_hop) = next_hops.get(&key.address).filter(|hop| **hop != backend.next_hop) else {
                continue;
            };
            match dataplane.set_next_hop(backend.id, next_hop) {
                Ok(()) => backend.next_hop = next_hop,
                Err(error) => errors.push(error.into()),
            }
        }
    }

    /// The backends of a service, those included that are no longer desired.
    fn backends_of_mut(
        &mut self,
        service: ServiceId,
    ) -> impl Iterator<Item = (&BackendKey, &mut AppliedBackend)> {
        self.backends.range_mut(first_of(service)..).take_while(move |(key, _)| key.service == service)
    }

    /// Notes whether a backend failed; says whether it still counts as failed. One that recovered does until its
    /// flows of before are forgotten: meanwhile they may have gone elsewhere.
    fn failed(
        &mut self,
        dataplane: &mut dyn Dataplane,
        key: BackendKey,
        failed: bool,
        now: Timestamp,
    ) -> Result<bool, DataplaneError> {
        let Some(applied) = self.backends.get_mut(&key) else { return Ok(failed) };
        match applied.failed {
            None if failed => {
                dataplane.set_backend_flags(applied.id, Backend::FAILED)?;
                applied.failed = Some(now);
            }
            Some(since) if !failed && self.memory.has_looked_since(since) => {
                dataplane.set_backend_flags(applied.id, 0)?;
                applied.failed = None;
            }
            Some(_) if !failed => self.memory.look_soon(now),
            _ => {}
        }
        Ok(applied.failed.is_some())
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
        self.backends.insert(key, AppliedBackend { id, next_hop, failed: None, left: None });
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

    /// The slots of a service name other backends than before: whoever left may have been named until now.
    pub(super) fn names_changed(&mut self, service: ServiceId, now: Timestamp) {
        for (_, backend) in self.backends_of_mut(service) {
            backend.left = backend.left.map(|_| now);
        }
    }

    /// Whether `desired`, which was brought about, is all there is to do: no slot is unsettled, no backend waits to go or to
    /// come back.
    pub(super) fn is_at_rest(&self, service: ServiceId, desired: &DesiredService) -> bool {
        let is_settled = self.services.get(&service).is_some_and(|applied| applied.slots.is_none());
        is_settled
            && self.backends_of(service).all(|(key, applied)| {
                let wanted = desired.backends.get(&(key.address, key.port));
                let has_failed = wanted.is_some_and(|backend| backend.condition == Condition::Failed);
                applied.left.is_none() && applied.failed.is_some() == has_failed
            })
    }

    /// The identifiers of a service's failed backends.
    pub(super) fn failed_of(&mut self, service: ServiceId) -> BTreeSet<u32> {
        self.backends_of_mut(service).filter(|(_, b)| b.failed.is_some()).map(|(_, b)| b.id).collect()
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
            self.ring_ids.release(applied.value.previous, now);
        }
        for (_, backend) in self.backends_of_mut(key) {
            backend.left = Some(now);
        }
        Ok(())
    }

    /// Gives the identifiers back of backends that left and that neither a slot nor a flow names any more.
    pub(super) fn release_left(
        &mut self,
        dataplane: &mut dyn Dataplane,
        now: Timestamp,
    ) -> Result<(), DataplaneError> {
        let mut named: BTreeMap<ServiceId, BTreeSet<u32>> = BTreeMap::new();
        let mut free = Vec::new();
        for (key, backend) in &self.backends {
            let Some(left) = backend.left else { continue };
            let slots = self.services.get(&key.service).and_then(|service| service.slots.as_ref());
            let by_slots = named
                .entry(key.service)
                .or_insert_with(|| slots.map(Slots::named).unwrap_or_default())
                .contains(&backend.id);
            if !by_slots && !self.memory.may_name(backend.id, left) {
                free.push(*key);
            }
        }
        for key in free {
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

fn nat_reply_key(key: BackendKey) -> NatReplyKey6 {
    NatReplyKey6 {
        address: key.address.into(),
        port: Be16::new(key.port),
        protocol: key.service.protocol.number(),
        reserved: 0,
    }
}

/// Before every backend of a service, in the order of keys.
fn first_of(service: ServiceId) -> BackendKey {
    let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    BackendKey { service, address, port: 0, mode: 0, outer: Outer::default() }
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

/// The mode that one of the `MODE_*` constants stands for.
pub(super) fn mode_of(number: u8) -> Option<Mode> {
    let all = [Mode::Local, Mode::Dr, Mode::Ipip, Mode::Gue, Mode::Nat];
    all.into_iter().find(|mode| mode_number(*mode) == number)
}

fn add(sum: &mut BackendCounters, more: BackendCounters) {
    sum.packets += more.packets;
    sum.bytes += more.bytes;
    sum.connections += more.connections;
}
