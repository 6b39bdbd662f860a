//! A [`Kernel`] that changes nothing that outlives the packet, and writes down how the stages decided.

use lb_common::{
    Address, Be32, Device, FlowKey, FlowState, FragmentKey, FragmentState, Interface, NatReply, NatReplyKey,
    NatReplyKey6, Ownership, RangeKey, Service, ServiceKey, ServiceKey6, Trace, Verdict, Vip, VirtualMac,
    VlanKey, ownership, slot_backend, slot_is_unsettled,
};

use crate::{
    backend::BackendEntry,
    decision::{Decision, Way},
    kernel::{Kept, Kernel, Question, Route},
    packet::Packet,
    vlan::Tags,
};

/// Another kernel, asked and not changed: what would count or remember is noted in the trace instead.
pub struct Traced<K> {
    pub(crate) kernel: K,
    trace: *mut Trace,
}

impl<K: Kernel> Traced<K> {
    /// Asks `kernel` and writes to `trace`.
    ///
    /// # Safety
    ///
    /// `trace` must be valid, and nobody else may use it, for as long as the value is used.
    #[inline(always)]
    pub unsafe fn new(kernel: K, trace: *mut Trace) -> Self {
        Self { kernel, trace }
    }

    /// Notes what was decided.
    #[inline(always)]
    pub fn note_decision(&self, decision: Decision) {
        self.count(decision.verdict);
        let out = match decision.egress.way {
            Way::None => Trace::OUT_NOWHERE,
            Way::Back => Trace::OUT_BACK,
            Way::Slot => Trace::OUT_SLOT,
            Way::Interface => Trace::OUT_INTERFACE,
            Way::Stack => Trace::OUT_STACK,
            Way::Stage => Trace::OUT_STAGE,
        };
        self.note(|trace| {
            trace.out = out;
            trace.out_through = decision.egress.number;
        });
    }

    #[inline(always)]
    fn note(&self, write: impl FnOnce(&mut Trace)) {
        // SAFETY: valid and ours alone by the contract of `new`; the reference ends with the call.
        write(unsafe { &mut *self.trace });
    }

    #[inline(always)]
    fn found_service(&self, service: Option<Service>) -> Option<Service> {
        if let Some(service) = service {
            self.note(|trace| {
                trace.found |= Trace::FOUND_SERVICE;
                trace.service = service;
            });
        }
        service
    }

    #[inline(always)]
    fn found_vip(&self, vip: Option<Vip>) -> Option<Vip> {
        if vip.is_some() {
            self.note(|trace| trace.found |= Trace::FOUND_VIP);
        }
        vip
    }
}

impl<K: Kernel> Kernel for Traced<K> {
    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.kernel.ingress()
    }

    #[inline(always)]
    fn logical_ingress(&self) -> u32 {
        self.kernel.logical_ingress()
    }

    /// Rare stages are not entered, and so no tags are handed over.
    #[inline(always)]
    fn keep_tags(&self, _: &Tags) {}

    #[inline(always)]
    fn tags(&self) -> Tags {
        self.kernel.tags()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        self.kernel.now()
    }

    #[inline(always)]
    fn now_coarse(&self) -> u64 {
        self.kernel.now_coarse()
    }

    #[inline(always)]
    fn may_be_vip(&self, bit: u32) -> bool {
        self.kernel.may_be_vip(bit)
    }

    /// Nothing is kept, so that each look-up is seen.
    #[inline(always)]
    fn kept(&self, _: &ServiceKey) -> Kept<'_> {
        Kept::Nothing(0)
    }

    #[inline(always)]
    fn keep(&self, _: &ServiceKey, _: &Service, _: u32) {}

    #[inline(always)]
    fn kept6(&self, _: &ServiceKey6) -> Kept<'_> {
        Kept::Nothing(0)
    }

    #[inline(always)]
    fn keep6(&self, _: &ServiceKey6, _: &Service, _: u32) {}

    #[inline(always)]
    fn vip(&self, address: Be32) -> Option<Vip> {
        self.found_vip(self.kernel.vip(address))
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<Service> {
        self.found_service(self.kernel.service(key))
    }

    #[inline(always)]
    fn vip6(&self, address: &Address) -> Option<Vip> {
        self.found_vip(self.kernel.vip6(address))
    }

    #[inline(always)]
    fn service6(&self, key: &ServiceKey6) -> Option<Service> {
        self.found_service(self.kernel.service6(key))
    }

    #[inline(always)]
    fn service_range(&self, key: RangeKey) -> Option<Service> {
        self.found_service(self.kernel.service_range(key))
    }

    #[inline(always)]
    fn lease(&self, number: u32) -> Option<u64> {
        self.note(|trace| {
            trace.found |= Trace::FOUND_LEASE;
            trace.lease = number;
        });
        self.kernel.lease(number)
    }

    /// Without a note in the lease of the tick in which it ran.
    #[inline(always)]
    fn ownership(&self, number: u32) -> Option<Ownership> {
        self.lease(number).map(|expiry| ownership(expiry, self.now_coarse()))
    }

    /// Notes the previous backend of an unsettled slot too, whether or not it is going to be asked for.
    #[inline(always)]
    fn slot(&self, ring: u32, slot: u32) -> Option<u32> {
        let value = self.kernel.slot(ring, slot);
        // SAFETY: as for `note`.
        let service = unsafe { (*self.trace).service };
        if ring != service.ring {
            return value;
        }
        if let Some(value) = value {
            let previous = if slot_is_unsettled(value) {
                self.kernel.slot(service.previous, slot).map_or(0, slot_backend)
            } else {
                0
            };
            self.note(|trace| {
                trace.found |= Trace::FOUND_SLOT;
                trace.slot = slot;
                trace.current = value;
                trace.previous = previous;
            });
        }
        value
    }

    /// Renews nothing.
    #[inline(always)]
    fn recall(&self, key: &FlowKey, _: u64, since: u64) -> Option<u32> {
        let id = self.kernel.peek(key, since);
        if let Some(id) = id {
            self.note(|trace| trace.remembered = id);
        }
        id
    }

    #[inline(always)]
    fn peek(&self, key: &FlowKey, since: u64) -> Option<u32> {
        self.kernel.peek(key, since)
    }

    /// Remembers nothing.
    #[inline(always)]
    fn remember(&self, _: &FlowKey, state: &FlowState) {
        self.note(|trace| trace.would_remember = state.backend);
    }

    #[inline(always)]
    fn recall_fragment(&self, key: &FragmentKey) -> Option<FragmentState> {
        self.kernel.recall_fragment(key)
    }

    /// Remembers nothing.
    #[inline(always)]
    fn remember_fragment(&self, _: &FragmentKey, _: &FragmentState) {}

    #[inline(always)]
    fn has_connection(&self, key: &FlowKey) -> bool {
        let has = self.kernel.has_connection(key);
        self.note(|trace| trace.found |= if has { Trace::FOUND_SOCKET } else { Trace::FOUND_NO_SOCKET });
        has
    }

    #[inline(always)]
    fn backend(&self, id: u32) -> Option<BackendEntry<'_>> {
        self.note(|trace| trace.backend = id);
        self.kernel.backend(id)
    }

    #[inline(always)]
    fn interface(&self, slot: u16) -> Option<Interface> {
        self.kernel.interface(slot)
    }

    #[inline(always)]
    fn device(&self, ifindex: u32) -> Option<Device> {
        self.kernel.device(ifindex)
    }

    #[inline(always)]
    fn vlan(&self, key: &VlanKey) -> Option<u32> {
        self.kernel.vlan(key)
    }

    #[inline(always)]
    fn virtual_mac(&self, key: &VirtualMac) -> Option<u32> {
        self.kernel.virtual_mac(key)
    }

    #[inline(always)]
    fn is_director(&self, mac_key: u64) -> bool {
        self.kernel.is_director(mac_key)
    }

    #[inline(always)]
    fn is_tunnel_source(&self, address: Address) -> bool {
        self.kernel.is_tunnel_source(address)
    }

    #[inline(always)]
    fn has_nat_replies(&self) -> bool {
        self.kernel.has_nat_replies()
    }

    #[inline(always)]
    fn has_local_services(&self) -> bool {
        self.kernel.has_local_services()
    }

    #[inline(always)]
    fn nat_reply(&self, key: &NatReplyKey) -> Option<NatReply> {
        self.kernel.nat_reply(key)
    }

    #[inline(always)]
    fn nat_reply6(&self, key: &NatReplyKey6) -> Option<NatReply> {
        self.kernel.nat_reply6(key)
    }

    #[inline(always)]
    fn route(&self, question: &Question) -> Route {
        self.kernel.route(question)
    }

    #[inline(always)]
    fn sum(&self, offset: u32, length: u32) -> Option<u32> {
        self.kernel.sum(offset, length)
    }

    #[inline(always)]
    fn grow(&self, bytes: i32) -> Option<Packet> {
        self.kernel.grow(bytes)
    }

    #[inline(always)]
    fn cut(&self, length: u32) -> Option<Packet> {
        self.kernel.cut(length)
    }

    #[inline(always)]
    fn interface_mtu(&self, index: u32) -> Option<u32> {
        self.kernel.interface_mtu(index)
    }

    /// Nothing is sent, so there is nothing to be sparing of.
    #[inline(always)]
    fn may_answer(&self) -> bool {
        true
    }

    /// Counts nothing.
    #[inline(always)]
    fn count(&self, verdict: Verdict) {
        self.note(|trace| trace.verdict = verdict as u32);
    }

    /// Counts nothing.
    #[inline(always)]
    fn count_backend(&self, _: u32, _: u32, _: bool) {}
}
