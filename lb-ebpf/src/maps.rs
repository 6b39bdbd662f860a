//! The maps (as `lb_common::names` describes them), and [`Kernel`] by them and the kernel's helpers.

use core::cell::UnsafeCell;

use aya_ebpf::{
    bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, xdp_action, xdp_md},
    btf_maps::{
        Array, ArrayOfMaps, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, lpm_trie::Key,
    },
    helpers::{
        bpf_check_mtu, bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_redirect,
        bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len,
    },
    macros::btf_map,
    programs::XdpContext,
};
use lb_common::{
    Address, Backend, BackendCounters, Be32, Device, FlowKey, FlowState, FragmentKey, FragmentState,
    Interface, Lease, NatReply, NatReplyKey, NatReplyKey6, Ownership, RangeKey, Service, ServiceKey,
    ServiceKey6, Settings, SlotPair, Stage, Tag, Trace, TunnelSource, Variant, Verdict, Vip, VirtualMac,
    VlanKey, limits, ownership,
};

use crate::{
    backend::BackendEntry,
    budget,
    decision::{Egress, Way},
    helpers, kept,
    kernel::{Kept, Kernel, Question, Route},
    packet::Packet,
    vlan::Tags,
};

const MAPPED: usize = BPF_F_MMAPABLE as usize;
const GROWING: usize = BPF_F_NO_PREALLOC as usize;
/// One slot only: this is the pattern; user space brings rings of any length.
///
/// Its elements are [`SlotPair`]s, and called integers: before Linux 6.2 the kernel takes a map without type information, as
/// those of user space are, for another kind than a pattern of structures.
type Ring = Array<u64, 1, { (BPF_F_MMAPABLE | BPF_F_INNER_MAP) as usize }>;

#[btf_map]
static VIPS: HashMap<Be32, Vip, { limits::VIPS as usize }, GROWING> = HashMap::new();
#[btf_map]
static VIP_FILTER: Array<u64, { limits::FILTER_BITS as usize / 64 }, MAPPED> = Array::new();
#[btf_map]
static SERVICES: HashMap<ServiceKey, Service, { limits::SERVICES as usize }, GROWING> = HashMap::new();
#[btf_map]
static VIPS6: HashMap<Address, Vip, { limits::VIPS as usize }, GROWING> = HashMap::new();
#[btf_map]
static SERVICES6: HashMap<ServiceKey6, Service, { limits::SERVICES as usize }, GROWING> = HashMap::new();
#[btf_map]
static SERVICE_RANGES: LpmTrie<RangeKey, Service, { limits::SERVICE_RANGES as usize }> = LpmTrie::new();
#[btf_map]
static RINGS: ArrayOfMaps<Ring, { limits::RINGS as usize }> = ArrayOfMaps::new();
#[btf_map]
static FLOWS: LruHashMap<FlowKey, FlowState, { limits::FLOWS as usize }> = LruHashMap::new();
#[btf_map]
static FRAGMENTS: LruHashMap<FragmentKey, FragmentState, { limits::FRAGMENTS as usize }> = LruHashMap::new();
#[btf_map]
static BACKENDS: Array<Backend, { limits::BACKENDS as usize }, MAPPED> = Array::new();
#[btf_map]
static BACKEND_COUNTERS: PerCpuArray<BackendCounters, { limits::BACKENDS as usize }> = PerCpuArray::new();
#[btf_map]
static VERDICTS: PerCpuArray<u64, { Verdict::COUNT as usize }> = PerCpuArray::new();
#[btf_map]
static LEASES: Array<Lease, { limits::LEASES as usize }, MAPPED> = Array::new();
#[btf_map]
static INTERFACES: Array<Interface, { limits::INTERFACES as usize }> = Array::new();
#[btf_map]
static EGRESS: DevMap<{ limits::INTERFACES as usize }> = DevMap::new();
#[btf_map]
static DEVICES: Array<Device, { Device::PLACES as usize }> = Array::new();
#[btf_map]
static VLANS: HashMap<VlanKey, u32, { limits::VLANS as usize }, GROWING> = HashMap::new();
#[btf_map]
static VIRTUAL_MACS: HashMap<VirtualMac, u32, { limits::LEASES as usize }, GROWING> = HashMap::new();
#[btf_map]
static DIRECTORS: HashMap<u64, u8, { limits::DIRECTORS as usize }, GROWING> = HashMap::new();
#[btf_map]
static TUNNEL_SOURCES: LpmTrie<TunnelSource, u8, { limits::TUNNEL_SOURCES as usize }> = LpmTrie::new();
#[btf_map]
static NAT_REPLIES: HashMap<NatReplyKey, NatReply, { limits::NAT_REPLIES as usize }, GROWING> =
    HashMap::new();
#[btf_map]
static NAT_REPLIES6: HashMap<NatReplyKey6, NatReply, { limits::NAT_REPLIES as usize }, GROWING> =
    HashMap::new();
#[btf_map]
static STAGES: ProgramArray<{ Stage::SLOTS as usize }> = ProgramArray::new();

/// [`Settings`] as user space changes them while the program runs. A variable, because the program knows where it stands:
/// no look-up.
#[unsafe(link_section = ".data.settings")]
#[unsafe(no_mangle)]
static SETTINGS: Live =
    Live(UnsafeCell::new(Settings { nat_replies: 0, local_services: 0, services_version: 0 }));

struct Live(UnsafeCell<Settings>);

// SAFETY: the program only reads it, each field by one load, and user space may write meanwhile.
unsafe impl Sync for Live {}

macro_rules! live {
    ($($field:ident),+) => {
        impl Live {$(
            #[inline(always)]
            fn $field(&self) -> u32 {
                // SAFETY: as for `Sync`; the field is aligned and always there.
                unsafe { (&raw const (*self.0.get()).$field).read_volatile() }
            }
        )+}
    };
}

live!(nat_replies, local_services, services_version);

/// The state of [`budget`].
#[btf_map]
static ANSWERS: PerCpuArray<u64, 1> = PerCpuArray::new();

/// A decision that waits for the log.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Logged {
    /// What was decided.
    pub verdict: Verdict,
    /// The XDP action it comes to.
    pub action: u32,
}

#[btf_map]
static LOGGED: PerCpuArray<Logged, 1> = PerCpuArray::new();

/// What the program that explains writes down. One value for all CPUs: its user runs it once at a time.
#[btf_map]
static TRACE: Array<Trace, 1> = Array::new();

/// The tags of the packet that runs on this CPU, on their way from a tagged packet's stage to any other.
#[btf_map]
static TAGS: PerCpuArray<Tags, 1> = PerCpuArray::new();

/// The maps, seen from one packet. `RARE`: from a rare stage, which a tagged packet may have come to.
pub struct Maps<const RARE: bool> {
    context: *mut xdp_md,
    ingress: u32,
}

impl<const RARE: bool> Maps<RARE> {
    /// For the packet of `context`.
    #[inline(always)]
    pub fn new(context: &XdpContext) -> Self {
        Self { context: context.ctx, ingress: context.ingress_ifindex() as u32 }
    }

    /// The packet after its start has moved.
    #[inline(always)]
    fn packet_again(&self) -> Packet {
        // SAFETY: the context is the running packet's; the kernel lends the program the bytes between the two.
        unsafe { Packet::new((*self.context).data as *mut u8, (*self.context).data_end as *mut u8) }
    }
}

impl Maps<false> {
    /// Notes that the packet came untagged, for the stage it goes on in.
    #[inline(always)]
    pub fn forget_tags(&self) {
        keep_tags(&Tags::NONE);
    }

    /// The packet of `context`.
    #[inline(always)]
    pub fn packet(context: &XdpContext) -> Packet {
        // SAFETY: the kernel lends the program the bytes between the two for this one run.
        unsafe { Packet::new(context.data() as *mut u8, context.data_end() as *mut u8) }
    }

    /// Notes a decision for the log.
    #[inline(always)]
    pub fn note(logged: Logged) {
        if let Some(noted) = LOGGED.get_ptr_mut(0) {
            // SAFETY: the kernel returned this CPU's element; nothing else on this CPU runs meanwhile.
            unsafe { *noted = logged };
        }
    }

    /// What was noted last on this CPU.
    #[inline(always)]
    pub fn noted() -> Option<Logged> {
        // SAFETY: as above. Zeros are a value of it too.
        LOGGED.get_ptr(0).map(|noted| unsafe { *noted })
    }

    /// Where the program that explains writes.
    #[inline(always)]
    pub fn trace() -> Option<*mut Trace> {
        TRACE.get_ptr_mut(0)
    }

    /// Goes on in the program of the rare stage with that number; returns only if it is not there.
    #[inline(always)]
    pub fn enter(context: &XdpContext, stage: u32, variant: Variant) {
        // SAFETY: whatever the caller holds has nothing to drop.
        unsafe { STAGES.tail_call(context, Stage::slot(stage, variant)) };
    }

    /// Sends the packet out; the XDP action.
    #[inline(always)]
    pub fn send(egress: Egress) -> u32 {
        match egress.way {
            Way::None | Way::Stage => xdp_action::XDP_ABORTED,
            Way::Stack => xdp_action::XDP_PASS,
            Way::Back => xdp_action::XDP_TX,
            // The lower bits of the flags are the action if the slot has no device.
            Way::Slot => match EGRESS.redirect(egress.number, u64::from(xdp_action::XDP_DROP)) {
                Ok(action) | Err(action) => action,
            },
            // SAFETY: the helper has no requirements.
            Way::Interface => unsafe { bpf_redirect(egress.number, 0) as u32 },
        }
    }
}

impl<const RARE: bool> Kernel for Maps<RARE> {
    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.ingress
    }

    #[inline(always)]
    fn logical_ingress(&self) -> u32 {
        let tags = self.tags();
        if tags.first == Tag::NONE { self.ingress } else { tags.device }
    }

    #[inline(always)]
    fn keep_tags(&self, tags: &Tags) {
        keep_tags(tags);
    }

    #[inline(always)]
    fn tags(&self) -> Tags {
        if !RARE {
            return Tags::NONE;
        }
        // SAFETY: the kernel returned this CPU's element; nothing else on this CPU runs meanwhile.
        TAGS.get_ptr(0).map_or(Tags::NONE, |tags| unsafe { *tags })
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper has no requirements.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn now_coarse(&self) -> u64 {
        // SAFETY: the helper has no requirements.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn may_be_vip(&self, bit: u32) -> bool {
        VIP_FILTER.get(bit / 64).is_some_and(|bits| bits >> (bit % 64) & 1 != 0)
    }

    #[inline(always)]
    fn kept(&self, key: &ServiceKey) -> Kept<'_> {
        kept::kept(key, services_version())
    }

    #[inline(always)]
    fn keep(&self, key: &ServiceKey, service: &Service, version: u32) {
        kept::keep(key, service, version);
    }

    #[inline(always)]
    fn kept6(&self, key: &ServiceKey6) -> Kept<'_> {
        kept::kept6(key, services_version())
    }

    #[inline(always)]
    fn keep6(&self, key: &ServiceKey6, service: &Service, version: u32) {
        kept::keep6(key, service, version);
    }

    #[inline(always)]
    fn vip(&self, address: Be32) -> Option<Vip> {
        // SAFETY: the program never changes the map; the value is copied at once.
        unsafe { VIPS.get(address) }.copied()
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<Service> {
        // SAFETY: the program never changes the map; the value is copied at once.
        unsafe { SERVICES.get(key) }.copied()
    }

    #[inline(always)]
    fn vip6(&self, address: &Address) -> Option<Vip> {
        // SAFETY: the program never changes the map; the value is copied at once.
        unsafe { VIPS6.get(address) }.copied()
    }

    #[inline(always)]
    fn service6(&self, key: &ServiceKey6) -> Option<Service> {
        // SAFETY: the program never changes the map; the value is copied at once.
        unsafe { SERVICES6.get(key) }.copied()
    }

    #[inline(always)]
    fn service_range(&self, key: RangeKey) -> Option<Service> {
        SERVICE_RANGES.get(&Key::new(RangeKey::prefix(16), key)).copied()
    }

    #[inline(always)]
    fn lease(&self, number: u32) -> Option<u64> {
        // SAFETY: the kernel returned the address of an aligned u64, which user space replaces in one store.
        LEASES.get_ptr(number).map(|lease| unsafe { (&raw const (*lease).expiry).read_volatile() })
    }

    /// The clock is read once a tick: until the next it says the same.
    #[inline(always)]
    fn ownership(&self, number: u32) -> Option<Ownership> {
        let lease = LEASES.get_ptr_mut(number)?;
        // SAFETY: as above; the program alone writes the tick, on every CPU the same.
        let (expiry, tick) = unsafe { ((&raw const (*lease).expiry).read_volatile(), bpf_jiffies64()) };
        // SAFETY: as above.
        if unsafe { (&raw const (*lease).owner_in).read_volatile() } == tick {
            return Some(Ownership::Owner);
        }
        let says = ownership(expiry, self.now_coarse());
        if says == Ownership::Owner {
            // SAFETY: as above.
            unsafe { (&raw mut (*lease).owner_in).write_volatile(tick) };
        }
        Some(says)
    }

    #[inline(always)]
    fn slot(&self, ring: u32, slot: u32) -> Option<u32> {
        RINGS.get_value(ring, &(slot / 2)).map(|pair| SlotPair(*pair).slot(slot))
    }

    #[inline(always)]
    fn recall(&self, key: &FlowKey, now: u64, since: u64) -> Option<u32> {
        let state = FLOWS.get_ptr_mut(key)?;
        // SAFETY: the kernel returned the address of an aligned value in memory that stays the map's even if the entry is
        // deleted meanwhile. Each field is read or written whole; other CPUs may do the same.
        unsafe {
            let seen = (&raw const (*state).last_seen).read_volatile();
            if seen < since {
                return None;
            }
            // A line that is only read stays in every CPU's cache.
            if seen != now {
                (&raw mut (*state).last_seen).write_volatile(now);
            }
            Some((&raw const (*state).backend).read_volatile())
        }
    }

    #[inline(always)]
    fn peek(&self, key: &FlowKey, since: u64) -> Option<u32> {
        let state = FLOWS.get_ptr(key)?;
        // SAFETY: as for `recall`.
        unsafe {
            let seen = (&raw const (*state).last_seen).read_volatile();
            (seen >= since).then_some((&raw const (*state).backend).read_volatile())
        }
    }

    #[inline(always)]
    fn remember(&self, key: &FlowKey, state: &FlowState) {
        // It fails only when every entry is being replaced on another CPU; the flow's next packet asks again.
        let _ = FLOWS.insert(key, state, 0);
    }

    #[inline(always)]
    fn recall_fragment(&self, key: &FragmentKey) -> Option<FragmentState> {
        // SAFETY: the value is copied at once. An entry is replaced whole, by another in its place; the kernel keeps a
        // deleted one's memory for a while, and another packet's pieces are no more lost by that than by the LRU.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey, state: &FragmentState) {
        // It fails only when every entry is being replaced on another CPU; then the later pieces are unknown.
        let _ = FRAGMENTS.insert(key, state, 0);
    }

    #[inline(always)]
    fn has_connection(&self, key: &FlowKey) -> bool {
        helpers::has_connection(self.context, key)
    }

    #[inline(always)]
    fn backend(&self, id: u32) -> Option<BackendEntry<'_>> {
        // SAFETY: the kernel returned the address of an element. Nothing but next hop and flags changes while a ring
        // names the identifier.
        BACKENDS.get_ptr(id).map(|backend| unsafe { BackendEntry::new(backend) })
    }

    #[inline(always)]
    fn interface(&self, slot: u16) -> Option<Interface> {
        INTERFACES.get(u32::from(slot)).copied()
    }

    #[inline(always)]
    fn device(&self, ifindex: u32) -> Option<Device> {
        DEVICES.get(Device::place(ifindex)).filter(|device| device.ifindex == ifindex).copied()
    }

    #[inline(always)]
    fn vlan(&self, key: &VlanKey) -> Option<u32> {
        // SAFETY: the program never changes the map; the value is copied at once.
        unsafe { VLANS.get(key) }.copied()
    }

    #[inline(always)]
    fn virtual_mac(&self, key: &VirtualMac) -> Option<u32> {
        // SAFETY: the program never changes the map; the value is copied at once.
        unsafe { VIRTUAL_MACS.get(key) }.copied()
    }

    #[inline(always)]
    fn is_director(&self, mac_key: u64) -> bool {
        DIRECTORS.get_ptr(mac_key).is_some()
    }

    #[inline(always)]
    fn is_tunnel_source(&self, address: Address) -> bool {
        TUNNEL_SOURCES.get(&Key::new(TunnelSource::WHOLE, TunnelSource::new(address))).is_some()
    }

    #[inline(always)]
    fn has_nat_replies(&self) -> bool {
        SETTINGS.nat_replies() != 0
    }

    #[inline(always)]
    fn has_local_services(&self) -> bool {
        SETTINGS.local_services() != 0
    }

    #[inline(always)]
    fn nat_reply(&self, key: &NatReplyKey) -> Option<NatReply> {
        // SAFETY: the program never changes the map; the value is copied at once.
        unsafe { NAT_REPLIES.get(key) }.copied()
    }

    #[inline(always)]
    fn nat_reply6(&self, key: &NatReplyKey6) -> Option<NatReply> {
        // SAFETY: the program never changes the map; the value is copied at once.
        unsafe { NAT_REPLIES6.get(key) }.copied()
    }

    #[inline(always)]
    fn route(&self, question: &Question) -> Route {
        helpers::route(self.context, self.logical_ingress(), question)
    }

    #[inline(always)]
    fn sum(&self, offset: u32, length: u32) -> Option<u32> {
        let sum = helpers::sum(self.context, offset, length);
        u32::try_from(sum).ok()
    }

    #[inline(always)]
    fn grow(&self, bytes: i32) -> Option<Packet> {
        // SAFETY: the context is the running packet's.
        let moved = unsafe { bpf_xdp_adjust_head(self.context, -bytes) } == 0;
        moved.then(|| self.packet_again())
    }

    #[inline(always)]
    fn cut(&self, length: u32) -> Option<Packet> {
        // SAFETY: the context is the running packet's.
        let excess = unsafe { bpf_xdp_get_buff_len(self.context) }.checked_sub(u64::from(length))?;
        // SAFETY: as above. A frame's length fits.
        let cut = unsafe { bpf_xdp_adjust_tail(self.context, -(excess as i32)) } == 0;
        cut.then(|| self.packet_again())
    }

    #[inline(always)]
    fn interface_mtu(&self, index: u32) -> Option<u32> {
        let mut mtu = 0;
        // SAFETY: the context is the running packet's; the kernel writes 4 bytes to a variable of that size.
        let answer = unsafe { bpf_check_mtu(self.context.cast(), index, &raw mut mtu, 0, 0) };
        // Whether the packet fits is not the question, but a negative answer is no answer.
        (answer >= 0).then_some(mtu)
    }

    #[inline(always)]
    fn may_answer(&self) -> bool {
        let Some(state) = ANSWERS.get_ptr_mut(0) else { return false };
        // SAFETY: the kernel returned this CPU's element; nothing else on this CPU runs meanwhile.
        let after = budget::take(unsafe { *state }, self.now());
        if let Some(after) = after {
            // SAFETY: as above.
            unsafe { *state = after };
        }
        after.is_some()
    }

    #[inline(always)]
    fn count(&self, verdict: Verdict) {
        if let Some(counter) = VERDICTS.get_ptr_mut(verdict as u32) {
            // SAFETY: the kernel returned this CPU's element; nothing else on this CPU runs meanwhile.
            unsafe { *counter += 1 };
        }
    }

    #[inline(always)]
    fn count_backend(&self, id: u32, bytes: u32, opens_connection: bool) {
        if let Some(counters) = BACKEND_COUNTERS.get_ptr_mut(id) {
            // SAFETY: as for `count`.
            unsafe {
                (*counters).packets += 1;
                (*counters).bytes += u64::from(bytes);
                (*counters).connections += u64::from(opens_connection);
            }
        }
    }
}

#[inline(always)]
fn services_version() -> u32 {
    SETTINGS.services_version()
}

#[inline(always)]
fn keep_tags(tags: &Tags) {
    if let Some(kept) = TAGS.get_ptr_mut(0) {
        // SAFETY: the kernel returned this CPU's element; nothing else on this CPU runs meanwhile.
        unsafe { *kept = *tags };
    }
}
