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
    key: Key,
    version: u32,
    service: Service,
}

/// What a service is kept by.
trait KeptBy: Copy {
    /// Where it is kept.
    fn place(&self) -> u32;
    /// Whether it is the same. A few comparisons of long words instead of one for each field.
    fn is(&self, other: &Self) -> bool;
}

/// The service of a key, if it was kept at this version of the services.
#[inline(always)]
pub(crate) fn kept<'a>(key: &ServiceKey, version: u32) -> Kept<'a> {
    // SAFETY: the kernel returned this CPU's element.
    unsafe { read(KEPT.get_ptr(key.place()), key, version) }
}

/// Keeps it.
#[inline(always)]
pub(crate) fn keep(key: &ServiceKey, service: &Service, version: u32) {
    // SAFETY: the kernel returned this CPU's element.
    unsafe { write(KEPT.get_ptr_mut(key.place()), key, service, version) }
}

/// The same of IPv6.
#[inline(always)]
pub(crate) fn kept6<'a>(key: &ServiceKey6, version: u32) -> Kept<'a> {
    // SAFETY: the kernel returned this CPU's element.
    unsafe { read(KEPT6.get_ptr(key.place()), key, version) }
}

/// The same of IPv6.
#[inline(always)]
pub(crate) fn keep6(key: &ServiceKey6, service: &Service, version: u32) {
    // SAFETY: the kernel returned this CPU's element.
    unsafe { write(KEPT6.get_ptr_mut(key.place()), key, service, version) }
}

/// # Safety
///
/// `entry` must be this CPU's element.
#[inline(always)]
unsafe fn read<'a, Key: KeptBy>(entry: Option<*const Entry<Key>>, key: &Key, version: u32) -> Kept<'a> {
    let Some(entry) = entry else { return Kept::Nothing(version) };
    // SAFETY: nothing else on this CPU runs meanwhile.
    let entry = unsafe { &*entry };
    if entry.version == version && entry.key.is(key) {
        Kept::Fresh(&entry.service)
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
    unsafe { *entry = Entry { key: *key, version, service: *service } };
}

/// One of the places, by a number of which all bits count.
#[inline(always)]
fn place(number: u64) -> u32 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - KEPT_SERVICES.ilog2())) as u32
}

/// Port and protocol above an address.
#[inline(always)]
fn number(address: u32, port: Be16, protocol: u8) -> u64 {
    u64::from(address) | u64::from(port.0) << 32 | u64::from(protocol) << 48
}

impl KeptBy for ServiceKey {
    #[inline(always)]
    fn place(&self) -> u32 {
        place(number(self.address.0, self.port, self.protocol))
    }

    #[inline(always)]
    fn is(&self, other: &Self) -> bool {
        const { assert!(size_of::<Self>() == size_of::<u64>()) }
        // SAFETY: an entry's key is aligned to 8 bytes, has as many, and any of them are an integer.
        let kept = unsafe { (&raw const *self).cast::<u64>().read() };
        kept == number(other.address.0, other.port, other.protocol)
    }
}

impl KeptBy for ServiceKey6 {
    #[inline(always)]
    fn place(&self) -> u32 {
        let [a, b, c, d] = self.address.0;
        place(number(a.0 ^ b.0 ^ c.0 ^ d.0, self.port, self.protocol))
    }

    #[inline(always)]
    fn is(&self, other: &Self) -> bool {
        self == other
    }
}
