//! The maps of one loaded program, typed, with errors that name map, operation and key.

use std::{
    borrow::Borrow,
    fmt, io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::atomic::{AtomicU64, Ordering},
};

use aya::{
    Ebpf, Pod,
    maps::{
        Array, DevMap, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues, lpm_trie::Key,
    },
};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY;
use ipnet::IpNet;
use lb_common::{
    Address, Backend, BackendCounters, Be32, Device, FragmentKey, FragmentState, Interface, Lease, NatReply,
    NatReplyKey, NatReplyKey6, RangeKey, Service, ServiceKey, ServiceKey6, Settings, SlotPair, Trace,
    TunnelSource, Vip, VirtualMac, VlanKey, names,
};

use super::{
    DataplaneError,
    batch::{self, Batch},
    flows::Flows,
    leases::Leases,
    mapped::Mapped,
};

/// `BPF_F_MMAPABLE | BPF_F_INNER_MAP`: what the pattern of an inner map in `RINGS` says.
const RING_FLAGS: u32 = 1 << 10 | 1 << 12;

/// Every map that user space reads or writes.
pub(super) struct Maps {
    pub(super) vips: Hash<Be32, Vip>,
    pub(super) vips6: Hash<Address, Vip>,
    pub(super) vip_filter: Words,
    pub(super) services: Hash<ServiceKey, Service>,
    pub(super) services6: Hash<ServiceKey6, Service>,
    pub(super) service_ranges: LpmTrie<MapData, RangeKey, Service>,
    pub(super) directors: Hash<u64, u8>,
    pub(super) tunnel_sources: LpmTrie<MapData, TunnelSource, u8>,
    pub(super) nat_replies: Hash<NatReplyKey, NatReply>,
    pub(super) nat_replies6: Hash<NatReplyKey6, NatReply>,
    pub(super) interfaces: Array<MapData, Interface>,
    pub(super) egress: DevMap<MapData>,
    pub(super) devices: Array<MapData, Device>,
    pub(super) vlans: Hash<VlanKey, u32>,
    pub(super) virtual_macs: Hash<VirtualMac, u32>,
    pub(super) fragments: Hash<FragmentKey, FragmentState>,
    pub(super) settings: Array<MapData, Settings>,
    pub(super) backends: Words,
    pub(super) leases: Leases,
    pub(super) answers: PerCpuArray<MapData, u64>,
    pub(super) verdicts: PerCpuArray<MapData, u64>,
    pub(super) backend_counters: PerCpuArray<MapData, BackendCounters>,
    pub(super) flows: Flows,
    pub(super) trace: Array<MapData, Trace>,
    pub(super) rings: MapData,
    /// Takes the place of rings that are gone, because `RINGS` cannot have holes once filled.
    pub(super) no_ring: MapData,
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        let no_ring = ring(names::RINGS, &[0])?;
        Ok(Self {
            vips: Hash::take(ebpf, names::VIPS)?,
            vips6: Hash::take(ebpf, names::VIPS6)?,
            vip_filter: Words::take::<u64>(ebpf, names::VIP_FILTER)?,
            services: Hash::take(ebpf, names::SERVICES)?,
            services6: Hash::take(ebpf, names::SERVICES6)?,
            service_ranges: take(ebpf, names::SERVICE_RANGES)?,
            directors: Hash::take(ebpf, names::DIRECTORS)?,
            tunnel_sources: take(ebpf, names::TUNNEL_SOURCES)?,
            nat_replies: Hash::take(ebpf, names::NAT_REPLIES)?,
            nat_replies6: Hash::take(ebpf, names::NAT_REPLIES6)?,
            interfaces: take(ebpf, names::INTERFACES)?,
            egress: take(ebpf, names::EGRESS)?,
            devices: take(ebpf, names::DEVICES)?,
            vlans: Hash::take(ebpf, names::VLANS)?,
            virtual_macs: Hash::take(ebpf, names::VIRTUAL_MACS)?,
            fragments: Hash::take(ebpf, names::FRAGMENTS)?,
            settings: take(ebpf, names::SETTINGS)?,
            backends: Words::take::<Backend>(ebpf, names::BACKENDS)?,
            leases: Words::take::<Lease>(ebpf, names::LEASES)?.into(),
            answers: take(ebpf, names::ANSWERS)?,
            verdicts: take(ebpf, names::VERDICTS)?,
            backend_counters: take(ebpf, names::BACKEND_COUNTERS)?,
            flows: Flows::take(ebpf)?,
            trace: take(ebpf, names::TRACE)?,
            rings: match ebpf.take_map(names::RINGS) {
                Some(Map::ArrayOfMaps(rings)) => rings,
                _ => return Err(missing(names::RINGS)),
            },
            no_ring,
        })
    }

    /// Replaces rings, each as a whole. When this returns no packet uses the old ones any more: newer kernels wait
    /// for that once for many rings, which takes as long as for one.
    pub(super) fn put_rings(&mut self, rings: &[(u32, &[u32])]) -> Result<(), DataplaneError> {
        /// Each inner map is a file descriptor meanwhile.
        const AT_ONCE: usize = 256;
        for rings in rings.chunks(AT_ONCE) {
            let inner =
                rings.iter().map(|(_, slots)| ring(names::RINGS, slots)).collect::<Result<Vec<_>, _>>()?;
            let indexes: Vec<u32> = rings.iter().map(|(index, _)| *index).collect();
            self.set_rings(&indexes, inner.iter())?;
        }
        Ok(())
    }

    /// Replaces rings by inner maps, one for each index.
    pub(super) fn set_rings<'a>(
        &self,
        indexes: &[u32],
        inner: impl Iterator<Item = &'a MapData>,
    ) -> Result<(), DataplaneError> {
        let values: Vec<i32> = inner.map(|map| map.fd().as_fd().as_raw_fd()).collect();
        if let (&[index], &[value]) = (indexes, &values[..]) {
            return batch::replace_one(&self.rings, index, value).map_err(failed(
                names::RINGS,
                "insert",
                index,
            ));
        }
        let mut batch = Batch {
            keys: indexes.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count: indexes.len().min(values.len()) as u32,
            ..Batch::default()
        };
        // SAFETY: so many keys and values are there, which the kernel only reads.
        unsafe { batch.run(batch::UPDATE, &self.rings) }
            .map_err(|error| failed(names::RINGS, "insert", indexes[batch.count as usize])(error))
    }

    /// Writes the service of a range of ports.
    pub(super) fn put_range(
        &mut self,
        key: RangeKey,
        bits: u8,
        service: Service,
    ) -> Result<(), DataplaneError> {
        let shown = format!("{key:?}/{bits}");
        let key = Key::new(RangeKey::prefix(bits), key);
        self.service_ranges.insert(&key, service, 0).map_err(failed(names::SERVICE_RANGES, "insert", shown))
    }

    /// Forgets it.
    pub(super) fn delete_range(&mut self, key: RangeKey, bits: u8) -> Result<(), DataplaneError> {
        let shown = format!("{key:?}/{bits}");
        let key = Key::new(RangeKey::prefix(bits), key);
        absent_is_fine(self.service_ranges.remove(&key)).map_err(failed(
            names::SERVICE_RANGES,
            "delete",
            shown,
        ))
    }

    /// Names a network that may encapsulate.
    pub(super) fn put_tunnel_source(&mut self, network: IpNet) -> Result<(), DataplaneError> {
        let key = tunnel_source(network);
        self.tunnel_sources.insert(&key, 1, 0).map_err(failed(names::TUNNEL_SOURCES, "insert", network))
    }

    /// Forgets it.
    pub(super) fn delete_tunnel_source(&mut self, network: IpNet) -> Result<(), DataplaneError> {
        absent_is_fine(self.tunnel_sources.remove(&tunnel_source(network))).map_err(failed(
            names::TUNNEL_SOURCES,
            "delete",
            network,
        ))
    }

    /// Frees a ring.
    pub(super) fn delete_ring(&mut self, index: u32) -> Result<(), DataplaneError> {
        self.set_rings(&[index], std::iter::once(&self.no_ring))
    }
}

fn tunnel_source(network: IpNet) -> Key<TunnelSource> {
    let host_bits = network.max_prefix_len() - network.prefix_len();
    Key::new(TunnelSource::prefix(host_bits), TunnelSource::new(network.network().into()))
}

/// Makes an inner map and fills it by memory mapping: one system call instead of one per slot.
fn ring(name: &'static str, slots: &[u32]) -> Result<MapData, DataplaneError> {
    let pairs = slots.chunks(2).map(|pair| SlotPair::new(pair[0], pair.get(1).copied().unwrap_or(0)));
    let length = u32::try_from(pairs.len()).map_err(failed(name, "create ring of", slots.len()))?;
    let (key, value) = (size_of::<u32>() as u32, size_of::<SlotPair>() as u32);
    let definition = aya_obj::Map::new_from_params(BPF_MAP_TYPE_ARRAY as u32, key, value, length, RING_FLAGS);
    let data =
        MapData::create(definition, "lb_ring", None).map_err(failed(name, "create ring of", slots.len()))?;
    let mapped = Mapped::new(data.fd().as_fd(), length, size_of::<SlotPair>()).map_err(failed(
        name,
        "map ring of",
        slots.len(),
    ))?;
    for (word, pair) in mapped.words().iter().zip(pairs) {
        word.store(pair.0, Ordering::Relaxed);
    }
    Ok(data)
}

/// A hash map whose operations are idempotent.
pub(super) struct Hash<K: Pod, V: Pod> {
    name: &'static str,
    map: HashMap<MapData, K, V>,
}

impl<K: Pod + fmt::Debug, V: Pod> Hash<K, V> {
    fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        Ok(Self { name, map: take(ebpf, name)? })
    }

    pub(super) fn put(&mut self, key: K, value: impl Borrow<V>) -> Result<(), DataplaneError> {
        self.map.insert(key, value, 0).map_err(failed(self.name, "insert", Shown(key)))
    }

    pub(super) fn delete(&mut self, key: K) -> Result<(), DataplaneError> {
        absent_is_fine(self.map.remove(&key)).map_err(failed(self.name, "delete", Shown(key)))
    }

    pub(super) fn clear(&mut self) -> Result<(), DataplaneError> {
        let keys: Result<Vec<K>, MapError> = self.map.keys().collect();
        keys.map_err(failed(self.name, "list", "all keys"))?.into_iter().try_for_each(|key| self.delete(key))
    }
}

/// A memory-mapped array of elements that are whole words.
pub(super) struct Words {
    name: &'static str,
    /// Words of one element.
    stride: usize,
    memory: Mapped,
    /// Its descriptor stands in programs that are not loaded yet.
    map: MapData,
}

impl Words {
    fn take<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        let map = ebpf.take_map(name).ok_or_else(|| missing(name))?;
        let Map::Array(data) = map else { return Err(missing(name)) };
        let elements = data.info().map_err(failed(name, "inspect", ""))?.max_entries();
        let memory =
            Mapped::new(data.fd().as_fd(), elements, size_of::<T>()).map_err(failed(name, "map", ""))?;
        Ok(Self { name, stride: size_of::<T>().div_ceil(size_of::<u64>()), memory, map: data })
    }

    /// Writes one byte of one element in one store.
    pub(super) fn store_byte(&self, element: u32, offset: usize, byte: u8) -> Result<(), DataplaneError> {
        let at = element as usize * self.stride * size_of::<u64>() + offset;
        let memory = self.memory.bytes().get(at).ok_or_else(|| self.no_element(element))?;
        memory.store(byte, Ordering::Release);
        Ok(())
    }

    /// Writes words of one element, from the `first` on, each in one store.
    pub(super) fn store(&self, element: u32, first: usize, words: &[u64]) -> Result<(), DataplaneError> {
        let start = element as usize * self.stride + first;
        let memory =
            self.memory.words().get(start..start + words.len()).ok_or_else(|| self.no_element(element))?;
        for (to, &word) in memory.iter().zip(words) {
            to.store(word, Ordering::Release);
        }
        Ok(())
    }
}

impl Words {
    /// A descriptor of the map, for somebody else to map it by.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.map.fd().as_fd().try_clone_to_owned()
    }

    /// The elements, one after the other.
    pub(super) fn words(&self) -> &[AtomicU64] {
        self.memory.words()
    }

    /// Fills the map with zeros.
    pub(super) fn clear(&self) {
        self.memory.words().iter().for_each(|word| word.store(0, Ordering::Release));
    }

    fn no_element(&self, element: u32) -> DataplaneError {
        let size = self.memory.words().len() / self.stride;
        failed(self.name, "write", element)(io::Error::other(format!("the map has {size} entries")))
    }
}

/// Deleting what is not there is a success.
fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A per-CPU value that is the same on every CPU.
pub(super) fn on_every_cpu<T: Pod>(value: T) -> io::Result<PerCpuValues<T>> {
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    PerCpuValues::try_from(vec![value; cpus])
}

/// Adds map, operation and key to an error.
pub(super) fn failed<E>(
    map: &'static str,
    operation: &'static str,
    key: impl fmt::Display,
) -> impl FnOnce(E) -> DataplaneError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |error| DataplaneError::Map { map, operation, key: key.to_string(), source: error.into() }
}

struct Shown<T>(T);

impl<T: fmt::Debug> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn take<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, DataplaneError>
where
    T: TryFrom<Map, Error = MapError>,
{
    ebpf.take_map(name).ok_or_else(|| missing(name))?.try_into().map_err(failed(name, "open", ""))
}

pub(super) fn missing(name: &'static str) -> DataplaneError {
    failed(name, "open", "")(io::Error::other("the object file has no such map"))
}
