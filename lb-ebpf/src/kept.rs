//! What each CPU keeps of `SERVICES` and `SERVICE_RANGES` for itself: an array whose index is computed is found in a fraction
//! of the time of a hash map's entry.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use lb_common::{Be16, Service, ServiceKey, ServiceKey6};

use crate::kernel::Kept;

#[btf_map]
static KEPT: PerCpuArray<Entry<ServiceKey>, { KEPT_SERVICES as usize }> = PerCpuArray::new();
#[btf_map]
static KEPT6: PerCpuArray<Entry<ServiceKey6>, { KEPT_SERVICES as usize }> = PerCpuArray::new();

/// Services a CPU keeps of each family, a power of two: two that fall into one entry take turns.
const KEPT_SERVICES: u32 = 256;

/// A service that is kept.
#[repr(C, align(8))]
struct Entry<Key> {
    version: u32,
    key: Key,
    service: Service,
}

/// The service of a key, if it was kept at this version of the services.
#[inline(always)]
pub(crate) fn kept(key: &ServiceKey, version: u32) -> Kept {
    // SAFETY: the kernel returned this CPU's element.
    unsafe { read(KEPT.get_ptr(place4(key)), key, version) }
}

/// Keeps it.
#[inline(always)]
pub(crate) fn keep(key: &ServiceKey, service: &Service, version: u32) {
    // SAFETY: the kernel returned this CPU's element.
    unsafe { write(KEPT.get_ptr_mut(place4(key)), key, service, version) }
}

/// The same of IPv6.
#[inline(always)]
pub(crate) fn kept6(key: &ServiceKey6, version: u32) -> Kept {
    // SAFETY: the kernel returned this CPU's element.
    unsafe { read(KEPT6.get_ptr(place6(key)), key, version) }
}

/// The same of IPv6.
#[inline(always)]
pub(crate) fn keep6(key: &ServiceKey6, service: &Service, version: u32) {
    // SAFETY: the kernel returned this CPU's element.
    unsafe { write(KEPT6.get_ptr_mut(place6(key)), key, service, version) }
}

/// # Safety
///
/// `entry` must be this CPU's element.
#[inline(always)]
unsafe fn read<Key: PartialEq>(entry: Option<*const Entry<Key>>, key: &Key, version: u32) -> Kept {
    let Some(entry) = entry else { return Kept::Nothing(version) };
    // SAFETY: nothing else on this CPU runs meanwhile.
    let entry = unsafe { &*entry };
    if entry.version == version && entry.key == *key {
        Kept::Fresh(entry.service)
    } else {
        Kept::Nothing(version)
    }
}

/// # Safety
///
/// `entry` must be this CPU's element.
#[inline(always)]
unsafe fn write<Key: Copy>(entry: Option<*mut Entry<Key>>, key: &Key, service: &Service, version: u32) {
    let Some(entry) = entry else { return };
    // SAFETY: nothing else on this CPU runs meanwhile.
    unsafe { *entry = Entry { version, key: *key, service: *service } };
}

/// Where a service is kept.
#[inline(always)]
fn place(address: u32, port: Be16, protocol: u8) -> u32 {
    let number = u64::from(address) | u64::from(port.0) << 32 | u64::from(protocol) << 48;
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - KEPT_SERVICES.ilog2())) as u32
}

#[inline(always)]
fn place4(key: &ServiceKey) -> u32 {
    place(key.address.0, key.port, key.protocol)
}

#[inline(always)]
fn place6(key: &ServiceKey6) -> u32 {
    let [a, b, c, d] = key.address.0;
    place(a.0 ^ b.0 ^ c.0 ^ d.0, key.port, key.protocol)
}
