//! The data plane of the kernel, by aya.

use std::{collections::BTreeSet, path::PathBuf};

use aya::{Ebpf, EbpfLoader};
use ipnet::IpNet;
use lb_common::{
    Address, Backend, BackendCounters, Device, FlowKey, FlowState, Interface, Mac, NatReply, NatReplyKey6,
    NextHop, RangeKey, Service, ServiceKey6, Settings, Tag, Verdict, Vip, VirtualMac, limits, names,
};

use super::{
    Attachment, Dataplane, DataplaneError, Explained, FlowCursor, Leases, attach,
    attach::Program,
    link::LinkState,
    loading,
    maps::{Maps, failed, on_every_cpu},
    rights, runner,
};
use crate::config::{PacketLog, XdpMode};

/// The XDP program, built by `build.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LB_XDP_OBJECT"));

/// How to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Folder for the pins of links; made when something is attached.
    pub pin_dir: PathBuf,
    /// How much the program logs about packets.
    pub packet_log: PacketLog,
    /// What to load at once, each with its rare stages; any other is loaded when it is first needed.
    pub programs: Vec<Program>,
    /// Load the program that explains too. Where it does not load, the others do their work without it.
    pub explain: bool,
    /// Room for backends of all services together, number 0 included; their counters take 32 bytes each on
    /// every possible CPU.
    pub backends: u32,
    /// Room for services, and for two rings each.
    pub services: u32,
    /// Room for flows of unsettled slots; when it is full, the one that was silent for the longest time goes.
    pub flows: u32,
}

impl LoadOptions {
    /// The sizes of `lb_common::limits`, no packet log, no program that explains.
    pub fn new(pin_dir: impl Into<PathBuf>) -> Self {
        Self {
            pin_dir: pin_dir.into(),
            packet_log: PacketLog::Off,
            programs: vec![Program::Native, Program::Generic],
            explain: false,
            backends: limits::BACKENDS,
            services: limits::SERVICES,
            flows: limits::FLOWS,
        }
    }
}

/// A loaded program with maps of its own. Dropping it leaves what it has attached in place.
pub struct XdpDataplane {
    /// Owns the programs; the maps were taken out.
    pub(super) ebpf: Ebpf,
    pub(super) maps: Maps,
    /// Whether the program that explains is loaded, or why not.
    pub(super) explain: Result<(), String>,
    /// The VIPs, each behind its bit of `VIP_FILTER`.
    pub(super) vips: BTreeSet<(u32, Address)>,
    services_version: u32,
    pub(super) nat_replies: BTreeSet<NatReplyKey6>,
    pub(super) local_services: BTreeSet<ServiceName>,
    pub(super) pin_dir: PathBuf,
}

impl XdpDataplane {
    /// Loads programs with fresh maps. Nothing that runs is disturbed.
    pub fn load(options: LoadOptions) -> Result<Self, DataplaneError> {
        rights::check("loading the XDP program")?;
        let level = log_level(options.packet_log);
        let mut ebpf = EbpfLoader::new()
            .override_global(names::LOG_LEVEL, &level, true)
            .map_max_entries(names::BACKENDS, options.backends)
            .map_max_entries(names::BACKEND_COUNTERS, options.backends)
            .map_max_entries(names::NAT_REPLIES, options.backends)
            .map_max_entries(names::NAT_REPLIES6, options.backends)
            .map_max_entries(names::SERVICES, options.services)
            .map_max_entries(names::SERVICES6, options.services)
            .map_max_entries(names::SERVICE_RANGES, options.services)
            .map_max_entries(names::RINGS, options.services.saturating_mul(2))
            .map_max_entries(names::FLOWS, options.flows)
            .load(OBJECT)
            .map_err(|error| load_error(error.into()))?;
        let explain = loading::load_with_explain(&mut ebpf, &options.programs, options.explain)?;
        let maps = Maps::take(&mut ebpf)?;
        Ok(Self {
            ebpf,
            maps,
            explain,
            vips: BTreeSet::new(),
            services_version: 0,
            nat_replies: BTreeSet::new(),
            local_services: BTreeSet::new(),
            pin_dir: options.pin_dir,
        })
    }

    /// What is attached to an interface, by this or an earlier run.
    pub fn attached(&self, interface: &str) -> Result<Option<LinkState>, DataplaneError> {
        attach::attached(&self.pin_dir, interface)
    }

    /// Runs a program once on a frame as if it had come in through the loopback. The packet is counted but, whatever
    /// the action, goes nowhere.
    pub fn test_run(&mut self, program: Program, frame: &[u8]) -> Result<TestOutcome, DataplaneError> {
        runner::run(program.of(&mut self.ebpf)?, frame, None).map_err(|error| load_error(error.into()))
    }

    /// Says that a service has changed, and whether it has a local backend.
    fn note_service(&mut self, name: ServiceName, service: Service) -> Result<(), DataplaneError> {
        if service.flags & Service::HAS_LOCAL != 0 {
            self.local_services.insert(name);
        } else {
            self.local_services.remove(&name);
        }
        self.publish_change_of_services()
    }

    pub(super) fn publish_change_of_services(&mut self) -> Result<(), DataplaneError> {
        self.services_version = self.services_version.wrapping_add(1);
        self.publish_settings()
    }

    /// Writes the word of the filter that has this bit.
    fn publish_filter(&self, bit: u32) -> Result<(), DataplaneError> {
        let first = bit & !63;
        let mine = (first, Address::default())..(first + 64, Address::default());
        let word = self.vips.range(mine).fold(0, |word, (bit, _)| word | 1 << (bit & 63));
        self.maps.vip_filter.store(first / 64, 0, &[word])
    }

    fn publish_settings(&mut self) -> Result<(), DataplaneError> {
        let settings = Settings {
            nat_replies: self.nat_replies.len() as u32,
            local_services: self.local_services.len() as u32,
            services_version: self.services_version,
        };
        self.maps.settings.set(0, settings, 0).map_err(failed(names::SETTINGS, "write", 0))
    }
}

/// What a service is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ServiceName {
    One(ServiceKey6),
    Range(RangeKey, u8),
}

/// What became of a test packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestOutcome {
    /// The XDP action: 0 aborted, 1 drop, 2 pass, 3 transmit, 4 redirect.
    pub action: u32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

impl Dataplane for XdpDataplane {
    fn put_vip(&mut self, address: Address, vip: Vip) -> Result<(), DataplaneError> {
        match address.v4() {
            Some(v4) => self.maps.vips.put(v4, vip)?,
            None => self.maps.vips6.put(address, vip)?,
        }
        self.vips.insert((address.filter_bit(), address));
        self.publish_filter(address.filter_bit())
    }

    fn delete_vip(&mut self, address: Address) -> Result<(), DataplaneError> {
        match address.v4() {
            Some(v4) => self.maps.vips.delete(v4)?,
            None => self.maps.vips6.delete(address)?,
        }
        self.vips.remove(&(address.filter_bit(), address));
        self.publish_filter(address.filter_bit())
    }

    fn put_service(&mut self, key: ServiceKey6, service: Service) -> Result<(), DataplaneError> {
        match key.v4() {
            Some(v4) => self.maps.services.put(v4, service)?,
            None => self.maps.services6.put(key, service)?,
        }
        self.note_service(ServiceName::One(key), service)
    }

    fn delete_service(&mut self, key: ServiceKey6) -> Result<(), DataplaneError> {
        match key.v4() {
            Some(v4) => self.maps.services.delete(v4)?,
            None => self.maps.services6.delete(key)?,
        }
        self.note_service(ServiceName::One(key), Service::default())
    }

    fn put_service_range(
        &mut self,
        key: RangeKey,
        port_bits: u8,
        service: Service,
    ) -> Result<(), DataplaneError> {
        self.maps.put_range(key, port_bits, service)?;
        self.note_service(ServiceName::Range(key, port_bits), service)
    }

    fn delete_service_range(&mut self, key: RangeKey, port_bits: u8) -> Result<(), DataplaneError> {
        self.maps.delete_range(key, port_bits)?;
        self.note_service(ServiceName::Range(key, port_bits), Service::default())
    }

    fn put_ring(&mut self, index: u32, slots: &[u32]) -> Result<(), DataplaneError> {
        self.maps.put_rings(&[(index, slots)])
    }

    fn put_rings(&mut self, rings: &[(u32, &[u32])]) -> Result<(), DataplaneError> {
        self.maps.put_rings(rings)
    }

    fn delete_ring(&mut self, index: u32) -> Result<(), DataplaneError> {
        self.maps.delete_ring(index)
    }

    fn put_backend(&mut self, id: u32, backend: Backend) -> Result<(), DataplaneError> {
        self.maps.backends.store(id, 0, &backend_words(&backend))
    }

    fn set_backend_flags(&mut self, id: u32, flags: u8) -> Result<(), DataplaneError> {
        const FLAGS: usize = std::mem::offset_of!(Backend, flags);
        self.maps.backends.store_byte(id, FLAGS, flags)
    }

    fn set_next_hop(&mut self, id: u32, next_hop: NextHop) -> Result<(), DataplaneError> {
        self.maps.backends.store(id, 0, &[next_hop.0])
    }

    fn leases(&self) -> Leases {
        self.maps.leases.clone()
    }

    fn put_interface(&mut self, slot: u16, interface: Interface) -> Result<(), DataplaneError> {
        // The device first: the program redirects only to slots whose interface it finds. Index 0 clears both.
        self.maps.egress.set(u32::from(slot), interface.ifindex, None, 0).map_err(failed(
            names::EGRESS,
            "write",
            slot,
        ))?;
        self.maps.interfaces.set(u32::from(slot), interface, 0).map_err(failed(
            names::INTERFACES,
            "write",
            slot,
        ))
    }

    fn put_device(&mut self, device: Device) -> Result<(), DataplaneError> {
        // Not atomic, and nothing is lost by it: whoever has a MAC address that is half old and half new is nobody.
        self.maps.devices.set(Device::place(device.ifindex), device, 0).map_err(failed(
            names::DEVICES,
            "write",
            device.ifindex,
        ))?;
        if device.tag == Tag::NONE {
            return Ok(());
        }
        self.maps.vlans.put(device.vlan_key(), device.ifindex)
    }

    fn delete_device(&mut self, device: Device) -> Result<(), DataplaneError> {
        if device.tag != Tag::NONE {
            self.maps.vlans.delete(device.vlan_key())?;
        }
        let place = Device::place(device.ifindex);
        self.maps.devices.set(place, Device::default(), 0).map_err(failed(
            names::DEVICES,
            "delete",
            device.ifindex,
        ))
    }

    fn put_virtual_mac(&mut self, mac: VirtualMac, lease: u32) -> Result<(), DataplaneError> {
        self.maps.virtual_macs.put(mac, lease)
    }

    fn delete_virtual_mac(&mut self, mac: VirtualMac) -> Result<(), DataplaneError> {
        self.maps.virtual_macs.delete(mac)
    }

    fn put_director(&mut self, mac: Mac) -> Result<(), DataplaneError> {
        self.maps.directors.put(mac.key(), 1)
    }

    fn delete_director(&mut self, mac: Mac) -> Result<(), DataplaneError> {
        self.maps.directors.delete(mac.key())
    }

    fn put_tunnel_source(&mut self, network: IpNet) -> Result<(), DataplaneError> {
        self.maps.put_tunnel_source(network)
    }

    fn delete_tunnel_source(&mut self, network: IpNet) -> Result<(), DataplaneError> {
        self.maps.delete_tunnel_source(network)
    }

    fn put_nat_reply(&mut self, key: NatReplyKey6, reply: NatReply) -> Result<(), DataplaneError> {
        match key.v4() {
            Some(v4) => self.maps.nat_replies.put(v4, reply)?,
            None => self.maps.nat_replies6.put(key, reply)?,
        }
        self.nat_replies.insert(key);
        self.publish_settings()
    }

    fn delete_nat_reply(&mut self, key: NatReplyKey6) -> Result<(), DataplaneError> {
        self.nat_replies.remove(&key);
        self.publish_settings()?;
        match key.v4() {
            Some(v4) => self.maps.nat_replies.delete(v4),
            None => self.maps.nat_replies6.delete(key),
        }
    }

    fn read_flows(
        &mut self,
        cursor: &mut FlowCursor,
        most: u32,
    ) -> Result<Vec<(FlowKey, FlowState)>, DataplaneError> {
        self.maps.flows.read(cursor, most)
    }

    fn forget_flows(&mut self, keys: &[FlowKey]) -> Result<(), DataplaneError> {
        self.maps.flows.forget(keys)
    }

    fn explain(&mut self, ingress: u32, frame: &[u8]) -> Result<Explained, DataplaneError> {
        self.run_explain(ingress, frame)
    }

    fn attach(&mut self, interface: &str, mode: XdpMode) -> Result<Attachment, DataplaneError> {
        attach::attach(&mut self.ebpf, &self.pin_dir, interface, mode)
    }

    fn detach(&mut self, interface: &str) -> Result<(), DataplaneError> {
        attach::detach(&self.pin_dir, interface)
    }

    fn verdicts(&self) -> Result<Vec<u64>, DataplaneError> {
        (0..Verdict::COUNT)
            .map(|index| {
                let values =
                    self.maps.verdicts.get(&index, 0).map_err(failed(names::VERDICTS, "read", index))?;
                Ok(values.iter().sum())
            })
            .collect()
    }

    fn backend_counters(&self, id: u32) -> Result<BackendCounters, DataplaneError> {
        let values =
            self.maps.backend_counters.get(&id, 0).map_err(failed(names::BACKEND_COUNTERS, "read", id))?;
        Ok(values.iter().fold(BackendCounters::default(), |sum, cpu| BackendCounters {
            packets: sum.packets + cpu.packets,
            bytes: sum.bytes + cpu.bytes,
            connections: sum.connections + cpu.connections,
            reserved: 0,
        }))
    }

    fn reset_backend_counters(&mut self, id: u32) -> Result<(), DataplaneError> {
        let zeros =
            on_every_cpu(BackendCounters::default()).map_err(failed(names::BACKEND_COUNTERS, "reset", id))?;
        self.maps.backend_counters.set(id, zeros, 0).map_err(failed(names::BACKEND_COUNTERS, "reset", id))
    }
}

/// A backend as the words of its map element.
fn backend_words(backend: &Backend) -> [u64; 8] {
    const { assert!(size_of::<Backend>() == 64, "eight words") };
    let backend = backend.complete();
    let mut words = [0; 8];
    words[0] = backend.next_hop.0;
    for (word, half) in
        words[1..5].iter_mut().zip(backend.address.0.chunks(2).chain(backend.source.0.chunks(2)))
    {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&half[0].octets());
        bytes[4..].copy_from_slice(&half[1].octets());
        *word = u64::from_ne_bytes(bytes);
    }
    let (port, mtu) = (backend.port.0.to_ne_bytes(), backend.mtu.to_ne_bytes());
    let (over, room, sum) =
        (backend.overhead.to_ne_bytes(), backend.room.to_ne_bytes(), backend.outer_sum.to_ne_bytes());
    words[5] =
        u64::from_ne_bytes([port[0], port[1], backend.mode, backend.flags, mtu[0], mtu[1], over[0], over[1]]);
    words[6] = u64::from_ne_bytes([room[0], room[1], room[2], room[3], sum[0], sum[1], 0, 0]);
    words
}

/// The level in aya-log's numbers.
const fn log_level(log: PacketLog) -> u8 {
    match log {
        PacketLog::Off => 0,
        PacketLog::Warn => 2,
        PacketLog::Info => 3,
        PacketLog::Debug => 4,
    }
}

/// Wraps an error of loading, with the kernel's release.
pub(super) fn load_error(source: Box<dyn std::error::Error + Send + Sync>) -> DataplaneError {
    let release = nix::sys::utsname::uname()
        .map_or_else(|_| "unknown".into(), |name| name.release().to_string_lossy().into_owned());
    DataplaneError::Load { release, source }
}
