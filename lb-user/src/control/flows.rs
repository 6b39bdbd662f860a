//! What is remembered of flows, and how it is forgotten again: closing learning windows, looking through the flow table,
//! settling slots. All in small pieces between the turns of the control task, so that no advert is late for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    time::Duration,
};

use lb_common::{Flow, FlowKey, FlowState, slot};

use super::{desired::ServiceId, forwarding::Forwarding};
use crate::{
    balance::Slots,
    config::{Ports, Protocol},
    dataplane::{Dataplane, DataplaneError, FlowCursor},
    time::Timestamp,
};

/// Time from the end of one look through the flow table to the next, while anything is unsettled.
const LOOK: Duration = Duration::from_secs(5);
/// Flows read at once: a millisecond's work.
const SLICE: u32 = 1_024;
/// When a step failed, the next one waits for this long.
const PAUSE: Duration = Duration::from_secs(1);

/// What is known of the flow table.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Something may be in it.
    used: bool,
    /// When the next look begins.
    next: Timestamp,
    look: Option<Look>,
    last: Option<Found>,
    /// Services whose slots a finished look may settle, each with its slots that it may not.
    settling: BTreeMap<ServiceId, BTreeSet<u32>>,
    not_before: Timestamp,
}

/// A look through the whole table that is going on.
#[derive(Debug)]
struct Look {
    cursor: FlowCursor,
    found: Found,
    held: BTreeMap<ServiceId, BTreeSet<u32>>,
}

/// What a look found.
#[derive(Debug)]
struct Found {
    began: Timestamp,
    /// The backends that flows name.
    backends: BTreeSet<u32>,
    /// Flows by service.
    flows: BTreeMap<ServiceId, usize>,
}

impl Memory {
    /// Some slot is unsettled from now on.
    pub(super) fn begin(&mut self, now: Timestamp) {
        if !self.used {
            self.used = true;
            self.next = now + LOOK;
        }
    }

    /// Has the table looked through without waiting.
    pub(super) fn look_soon(&mut self, now: Timestamp) {
        self.next = self.next.min(now);
    }

    /// Whether all flows of backends that failed at `moment` are forgotten.
    pub(super) fn has_looked_since(&self, moment: Timestamp) -> bool {
        !self.used || self.last.as_ref().is_some_and(|found| found.began > moment)
    }

    /// Whether a flow may name a backend that no slot has named since `left`.
    pub(super) fn may_name(&self, backend: u32, left: Timestamp) -> bool {
        self.used
            && self.last.as_ref().is_none_or(|found| found.began <= left || found.backends.contains(&backend))
    }

    /// The flows of a service, as of the last look.
    pub(super) fn flows(&self, service: ServiceId) -> usize {
        self.last.as_ref().and_then(|found| found.flows.get(&service)).copied().unwrap_or(0)
    }
}

impl Forwarding {
    /// When [`settle`](Self::settle) has something to do; `None` while every slot is settled.
    pub(super) fn next_settling(&self) -> Option<Timestamp> {
        if !self.memory.used {
            return None;
        }
        let busy = self.memory.look.is_some() || !self.memory.settling.is_empty();
        let windows = self.services.values().filter_map(|service| service.slots.as_ref()?.next_close());
        let next = if busy { Timestamp(0) } else { windows.chain([self.memory.next]).min()? };
        Some(next.max(self.memory.not_before))
    }

    /// Does one small piece of what is due. Says whether a backend may have become free to come back or to go.
    pub(super) fn settle(
        &mut self,
        dataplane: &mut dyn Dataplane,
        now: Timestamp,
    ) -> Result<bool, DataplaneError> {
        if self.next_settling().is_none_or(|due| due > now) {
            return Ok(false);
        }
        let done = self.step(dataplane, now);
        if done.is_err() {
            self.memory.not_before = now + PAUSE;
        }
        done
    }

    /// Unsettled slots and remembered flows of a service.
    pub(super) fn remembered(&self, service: ServiceId) -> (usize, usize) {
        let slots = self.services.get(&service).and_then(|service| service.slots.as_ref());
        (slots.map_or(0, Slots::unsettled), self.memory.flows(service))
    }

    fn step(&mut self, dataplane: &mut dyn Dataplane, now: Timestamp) -> Result<bool, DataplaneError> {
        let closing = self.services.iter().find(|(_, service)| {
            service.slots.as_ref().and_then(Slots::next_close).is_some_and(|at| at <= now)
        });
        if let Some((key, _)) = closing {
            let key = *key;
            return self.close(dataplane, key, now).map(|()| false);
        }
        if let Some((key, held)) = self.memory.settling.pop_first() {
            let settled = self.settle_service(dataplane, key, &held);
            if settled.is_err() {
                self.memory.settling.insert(key, held);
            }
            return settled.map(|()| false);
        }
        if self.memory.look.is_none() {
            let found = Found { began: now, backends: BTreeSet::new(), flows: BTreeMap::new() };
            self.memory.look = Some(Look { cursor: FlowCursor::default(), found, held: BTreeMap::new() });
        }
        self.look(dataplane, now)
    }

    fn close(
        &mut self,
        dataplane: &mut dyn Dataplane,
        key: ServiceId,
        now: Timestamp,
    ) -> Result<(), DataplaneError> {
        let Some(service) = self.services.get_mut(&key) else { return Ok(()) };
        let Some(mut slots) = service.slots.clone() else { return Ok(()) };
        if slots.close(now) {
            dataplane.put_ring(service.value.previous, &slots.previous())?;
            service.slots = Some(slots);
            self.names_changed(key, now);
        }
        Ok(())
    }

    /// Reads some flows, forgets what is not needed, and draws the conclusions after the last ones.
    fn look(&mut self, dataplane: &mut dyn Dataplane, now: Timestamp) -> Result<bool, DataplaneError> {
        let Some(mut look) = self.memory.look.take() else { return Ok(false) };
        let failed: BTreeSet<u32> =
            self.backends.values().filter(|backend| backend.failed.is_some()).map(|b| b.id).collect();
        // A look that fails is begun anew.
        let flows = dataplane.read_flows(&mut look.cursor, SLICE)?;
        let mut forget = Vec::new();
        for (key, state) in flows {
            let Some((service, number, current)) = self.needs(&key, state, &failed, now) else {
                forget.push(key);
                continue;
            };
            look.found.backends.insert(state.backend);
            *look.found.flows.entry(service).or_default() += 1;
            if state.backend != current {
                look.held.entry(service).or_default().insert(number);
            }
        }
        if !forget.is_empty() {
            dataplane.forget_flows(&forget)?;
        }
        if !look.cursor.finished() {
            self.memory.look = Some(look);
            return Ok(false);
        }
        let unsettled: Vec<ServiceId> = self
            .services
            .iter()
            .filter(|(_, service)| service.slots.is_some())
            .map(|(key, _)| *key)
            .collect();
        self.memory.used = !unsettled.is_empty() || !look.found.flows.is_empty();
        self.memory.next = now + LOOK;
        for key in unsettled {
            self.memory.settling.insert(key, look.held.remove(&key).unwrap_or_default());
        }
        self.memory.last = Some(look.found);
        Ok(true)
    }

    /// The service and slot that a flow is remembered for, with the slot's current backend; `None` if it need not be.
    fn needs(
        &self,
        key: &FlowKey,
        state: FlowState,
        failed: &BTreeSet<u32>,
        now: Timestamp,
    ) -> Option<(ServiceId, u32, u32)> {
        let id = self.service_of(key)?;
        let service = self.services.get(&id)?;
        let slots = service.slots.as_ref()?;
        let flow = Flow {
            source: key.source,
            destination: key.destination,
            source_port: key.source_port,
            destination_port: key.destination_port,
            protocol: key.protocol,
        };
        let number = slot(flow.hash(), service.source.size);
        let idle = now.since(Timestamp(state.last_seen));
        let needed =
            slots.is_unsettled(number) && !failed.contains(&state.backend) && idle < service.flow_timeout;
        let current = slots.current().get(number as usize).copied()?;
        needed.then_some((id, number, current))
    }

    /// The service of a flow, as the program finds it: by its port, by a range, by the whole VIP.
    pub(super) fn service_of(&self, key: &FlowKey) -> Option<ServiceId> {
        let vip = Ipv6Addr::from(key.destination.octets()).to_canonical();
        let port = key.destination_port.get();
        let protocol = Protocol::from_number(key.protocol)?;
        let id = |ports| ServiceId { vip, ports, protocol };
        let known = |ports| Some(id(ports)).filter(|id| self.services.contains_key(id));
        // Ranges do not overlap: the last that begins at or before the port, if any, has it.
        let range = || {
            let begun = id(Ports::Range(0, 0))..=ServiceId {
                protocol: Protocol::Udp,
                ..id(Ports::Range(port, u16::MAX))
            };
            let last =
                self.services.range(begun).rev().map(|(id, _)| *id).find(|id| id.protocol == protocol)?;
            (port <= last.ports.bounds().1).then_some(last)
        };
        known(Ports::One(port)).or_else(range).or_else(|| known(Ports::Any))
    }

    fn settle_service(
        &mut self,
        dataplane: &mut dyn Dataplane,
        key: ServiceId,
        held: &BTreeSet<u32>,
    ) -> Result<(), DataplaneError> {
        let Some(looked) = self.memory.last.as_ref().map(|found| found.began) else { return Ok(()) };
        let Some(service) = self.services.get_mut(&key) else { return Ok(()) };
        let Some(mut slots) = service.slots.clone() else { return Ok(()) };
        if !slots.settle(held, looked) {
            return Ok(());
        }
        // The previous backends stay as they are: nothing reads those of settled slots.
        dataplane.put_ring(service.value.ring, &slots.marked(|id| id | lb_common::UNSETTLED))?;
        service.slots = Some(slots).filter(|slots| slots.unsettled() > 0);
        if service.slots.is_none() {
            // No packet reads it any more. Left there after a failure, it costs memory only.
            dataplane.delete_ring(service.value.previous)?;
        }
        Ok(())
    }
}
