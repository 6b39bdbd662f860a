//! A data plane in memory, for tests of the reconciler: it holds what the maps would hold, and remembers in which order
//! it was told.

use std::collections::BTreeMap;

use ipnet::IpNet;
use lb_common::{
    Address, Backend, BackendCounters, Device, FlowKey, FlowState, Interface, Mac, NatReply, NatReplyKey6,
    NextHop, RangeKey, Service, ServiceKey6, Verdict, Vip, VirtualMac,
};

use super::{Attachment, Dataplane, DataplaneError, Explained, FlowCursor, Leases};
use crate::config::XdpMode;

/// What a [`Dataplane`] was told, in the order it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the call of the same name")]
pub enum Operation {
    PutVip(Address, Vip),
    DeleteVip(Address),
    PutService(ServiceKey6, Service),
    DeleteService(ServiceKey6),
    PutServiceRange(RangeKey, u8, Service),
    DeleteServiceRange(RangeKey, u8),
    PutRing(u32, Vec<u32>),
    DeleteRing(u32),
    PutBackend(u32, Backend),
    SetBackendFlags(u32, u8),
    SetNextHop(u32, NextHop),
    PutInterface(u16, Interface),
    PutDevice(Device),
    DeleteDevice(Device),
    PutVirtualMac(VirtualMac, u32),
    DeleteVirtualMac(VirtualMac),
    PutDirector(Mac),
    DeleteDirector(Mac),
    PutTunnelSource(IpNet),
    DeleteTunnelSource(IpNet),
    PutNatReply(NatReplyKey6, NatReply),
    DeleteNatReply(NatReplyKey6),
    Attach(String, XdpMode),
    Detach(String),
    ResetBackendCounters(u32),
    ForgetFlows(Vec<FlowKey>),
}

/// The maps as collections. Everything is public: a test may look at it and prepare it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDataplane {
    /// `VIPS` and `VIPS6`
    pub vips: BTreeMap<Address, Vip>,
    /// `SERVICES` and `SERVICES6`
    pub services: BTreeMap<ServiceKey6, Service>,
    /// `SERVICE_RANGES`, with the number of port bits compared
    pub service_ranges: BTreeMap<(RangeKey, u8), Service>,
    /// `RINGS`
    pub rings: BTreeMap<u32, Vec<u32>>,
    /// `BACKENDS`
    pub backends: BTreeMap<u32, Backend>,
    /// `LEASES`
    pub leases: Leases,
    /// `INTERFACES` and `EGRESS`
    pub interfaces: BTreeMap<u16, Interface>,
    /// `DEVICES`, by place
    pub devices: BTreeMap<u32, Device>,
    /// `VIRTUAL_MACS`
    pub virtual_macs: BTreeMap<VirtualMac, u32>,
    /// `DIRECTORS`
    pub directors: std::collections::BTreeSet<Mac>,
    /// `TUNNEL_SOURCES`
    pub tunnel_sources: std::collections::BTreeSet<IpNet>,
    /// `NAT_REPLIES` and `NAT_REPLIES6`
    pub nat_replies: BTreeMap<NatReplyKey6, NatReply>,
    /// `FLOWS`
    pub flows: BTreeMap<FlowKey, FlowState>,
    /// Attachments by interface.
    pub attached: BTreeMap<String, XdpMode>,
    /// What [`Dataplane::backend_counters`] tells.
    pub counters: BTreeMap<u32, BackendCounters>,
    /// What [`Dataplane::verdicts`] tells, where it is not 0.
    pub verdict_counts: BTreeMap<Verdict, u64>,
    /// Every operation, the first first.
    pub operations: Vec<Operation>,
    /// The operation with this index (counted from the first ever) fails, and changes nothing.
    pub fail_at: Option<usize>,
    performed: usize,
}

impl MemoryDataplane {
    /// Hands out the operations so far and forgets them.
    pub fn take_operations(&mut self) -> Vec<Operation> {
        std::mem::take(&mut self.operations)
    }

    /// Has one operation fail, that many operations from now on.
    pub fn fail_after(&mut self, operations: usize) {
        self.fail_at = Some(self.performed + operations);
    }

    fn record(&mut self, operation: Operation) -> Result<(), DataplaneError> {
        let index = self.performed;
        self.performed += 1;
        if self.fail_at == Some(index) {
            return Err(DataplaneError::Map {
                map: "memory",
                operation: "perform",
                key: format!("{operation:?}"),
                source: "a failure the test asked for".into(),
            });
        }
        self.operations.push(operation);
        Ok(())
    }
}

impl Dataplane for MemoryDataplane {
    fn put_vip(&mut self, address: Address, vip: Vip) -> Result<(), DataplaneError> {
        self.record(Operation::PutVip(address, vip))?;
        self.vips.insert(address, vip);
        Ok(())
    }

    fn delete_vip(&mut self, address: Address) -> Result<(), DataplaneError> {
        self.record(Operation::DeleteVip(address))?;
        self.vips.remove(&address);
        Ok(())
    }

    fn put_service(&mut self, key: ServiceKey6, service: Service) -> Result<(), DataplaneError> {
        self.record(Operation::PutService(key, service))?;
        self.services.insert(key, service);
        Ok(())
    }

    fn delete_service(&mut self, key: ServiceKey6) -> Result<(), DataplaneError> {
        self.record(Operation::DeleteService(key))?;
        self.services.remove(&key);
        Ok(())
    }

    fn put_service_range(
        &mut self,
        key: RangeKey,
        port_bits: u8,
        service: Service,
    ) -> Result<(), DataplaneError> {
        self.record(Operation::PutServiceRange(key, port_bits, service))?;
        self.service_ranges.insert((key, port_bits), service);
        Ok(())
    }

    fn delete_service_range(&mut self, key: RangeKey, port_bits: u8) -> Result<(), DataplaneError> {
        self.record(Operation::DeleteServiceRange(key, port_bits))?;
        self.service_ranges.remove(&(key, port_bits));
        Ok(())
    }

    fn put_ring(&mut self, index: u32, slots: &[u32]) -> Result<(), DataplaneError> {
        self.record(Operation::PutRing(index, slots.to_vec()))?;
        self.rings.insert(index, slots.to_vec());
        Ok(())
    }

    fn put_rings(&mut self, rings: &[(u32, &[u32])]) -> Result<(), DataplaneError> {
        rings.iter().try_for_each(|(index, slots)| self.put_ring(*index, slots))
    }

    fn delete_ring(&mut self, index: u32) -> Result<(), DataplaneError> {
        self.record(Operation::DeleteRing(index))?;
        self.rings.remove(&index);
        Ok(())
    }

    fn put_backend(&mut self, id: u32, backend: Backend) -> Result<(), DataplaneError> {
        self.record(Operation::PutBackend(id, backend))?;
        self.backends.insert(id, backend);
        Ok(())
    }

    fn set_backend_flags(&mut self, id: u32, flags: u8) -> Result<(), DataplaneError> {
        self.record(Operation::SetBackendFlags(id, flags))?;
        self.backends.entry(id).or_default().flags = flags;
        Ok(())
    }

    fn set_next_hop(&mut self, id: u32, next_hop: NextHop) -> Result<(), DataplaneError> {
        self.record(Operation::SetNextHop(id, next_hop))?;
        self.backends.entry(id).or_default().next_hop = next_hop;
        Ok(())
    }

    fn leases(&self) -> Leases {
        self.leases.clone()
    }

    fn put_interface(&mut self, slot: u16, interface: Interface) -> Result<(), DataplaneError> {
        self.record(Operation::PutInterface(slot, interface))?;
        self.interfaces.insert(slot, interface);
        Ok(())
    }

    fn put_device(&mut self, device: Device) -> Result<(), DataplaneError> {
        self.record(Operation::PutDevice(device))?;
        self.devices.insert(Device::place(device.ifindex), device);
        Ok(())
    }

    fn delete_device(&mut self, device: Device) -> Result<(), DataplaneError> {
        self.record(Operation::DeleteDevice(device))?;
        self.devices.remove(&Device::place(device.ifindex));
        Ok(())
    }

    fn put_virtual_mac(&mut self, mac: VirtualMac, lease: u32) -> Result<(), DataplaneError> {
        self.record(Operation::PutVirtualMac(mac, lease))?;
        self.virtual_macs.insert(mac, lease);
        Ok(())
    }

    fn delete_virtual_mac(&mut self, mac: VirtualMac) -> Result<(), DataplaneError> {
        self.record(Operation::DeleteVirtualMac(mac))?;
        self.virtual_macs.remove(&mac);
        Ok(())
    }

    fn put_director(&mut self, mac: Mac) -> Result<(), DataplaneError> {
        self.record(Operation::PutDirector(mac))?;
        self.directors.insert(mac);
        Ok(())
    }

    fn delete_director(&mut self, mac: Mac) -> Result<(), DataplaneError> {
        self.record(Operation::DeleteDirector(mac))?;
        self.directors.remove(&mac);
        Ok(())
    }

    fn put_tunnel_source(&mut self, network: IpNet) -> Result<(), DataplaneError> {
        self.record(Operation::PutTunnelSource(network))?;
        self.tunnel_sources.insert(network);
        Ok(())
    }

    fn delete_tunnel_source(&mut self, network: IpNet) -> Result<(), DataplaneError> {
        self.record(Operation::DeleteTunnelSource(network))?;
        self.tunnel_sources.remove(&network);
        Ok(())
    }

    fn put_nat_reply(&mut self, key: NatReplyKey6, reply: NatReply) -> Result<(), DataplaneError> {
        self.record(Operation::PutNatReply(key, reply))?;
        self.nat_replies.insert(key, reply);
        Ok(())
    }

    fn delete_nat_reply(&mut self, key: NatReplyKey6) -> Result<(), DataplaneError> {
        self.record(Operation::DeleteNatReply(key))?;
        self.nat_replies.remove(&key);
        Ok(())
    }

    fn read_flows(
        &mut self,
        cursor: &mut FlowCursor,
        most: u32,
    ) -> Result<Vec<(FlowKey, FlowState)>, DataplaneError> {
        // Flows are told apart by their key here, not by a bucket: those from the cursor on are those behind the first
        // so many, which is as good as long as no flow goes meanwhile.
        let first = cursor.next.unwrap_or(0) as usize;
        let flows: Vec<_> =
            self.flows.iter().skip(first).take(most as usize).map(|(k, s)| (*k, *s)).collect();
        cursor.next = Some((first + flows.len()) as u32);
        cursor.finished = flows.len() < most as usize;
        Ok(flows)
    }

    fn forget_flows(&mut self, keys: &[FlowKey]) -> Result<(), DataplaneError> {
        self.record(Operation::ForgetFlows(keys.to_vec()))?;
        self.flows.retain(|key, _| !keys.contains(key));
        Ok(())
    }

    fn explain(&mut self, _: u32, _: &[u8]) -> Result<Explained, DataplaneError> {
        Err(DataplaneError::explain("there is none: these maps are in memory"))
    }

    fn attach(&mut self, interface: &str, mode: XdpMode) -> Result<Attachment, DataplaneError> {
        self.record(Operation::Attach(interface.into(), mode))?;
        self.attached.insert(interface.into(), mode);
        let mode = if mode == XdpMode::Generic { "generic" } else { "native" };
        Ok(Attachment { mode, reason: "in memory".into() })
    }

    fn detach(&mut self, interface: &str) -> Result<(), DataplaneError> {
        self.record(Operation::Detach(interface.into()))?;
        self.attached.remove(interface);
        Ok(())
    }

    fn verdicts(&self) -> Result<Vec<u64>, DataplaneError> {
        Ok(Verdict::ALL
            .iter()
            .map(|verdict| self.verdict_counts.get(verdict).copied().unwrap_or(0))
            .collect())
    }

    fn backend_counters(&self, id: u32) -> Result<BackendCounters, DataplaneError> {
        Ok(self.counters.get(&id).copied().unwrap_or_default())
    }

    fn reset_backend_counters(&mut self, id: u32) -> Result<(), DataplaneError> {
        self.record(Operation::ResetBackendCounters(id))?;
        self.counters.remove(&id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_it_was_told_and_in_which_order() {
        let mut dataplane = MemoryDataplane::default();
        dataplane.put_director(Mac([2, 0, 0, 0, 0, 1])).expect("nothing fails");
        dataplane.put_ring(0, &[1, 2]).expect("nothing fails");
        dataplane.delete_ring(0).expect("nothing fails");

        assert!(dataplane.rings.is_empty());
        assert_eq!(
            dataplane.take_operations(),
            [
                Operation::PutDirector(Mac([2, 0, 0, 0, 0, 1])),
                Operation::PutRing(0, vec![1, 2]),
                Operation::DeleteRing(0)
            ]
        );
        assert!(dataplane.take_operations().is_empty());
    }

    #[test]
    fn fails_when_asked_to() {
        let mut dataplane = MemoryDataplane { fail_at: Some(1), ..MemoryDataplane::default() };
        dataplane.put_ring(1, &[5]).expect("the first succeeds");
        dataplane.put_ring(1, &[6]).expect_err("the second fails");
        assert_eq!(dataplane.rings[&1], [5]);
        dataplane.put_ring(1, &[7]).expect("the third succeeds");
        assert_eq!(dataplane.rings[&1], [7]);
    }
}
