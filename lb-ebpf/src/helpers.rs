//! The kernel's helpers that take more than a call.

use core::mem::offset_of;

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_SUCCESS,
        bpf_fib_lookup as FibLookup, bpf_sock_tuple, xdp_md,
    },
    btf_maps::PerCpuArray,
    helpers::{bpf_csum_diff, bpf_fib_lookup, bpf_sk_release, bpf_skc_lookup_tcp, bpf_xdp_load_bytes},
    macros::btf_map,
};
use lb_common::{Be16, Be32, FlowKey, Mac};

use crate::{
    kernel::{LONGEST_SUM, Question, Route},
    packet::masked,
};

#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// Where a packet's bytes are summed up: the verifier follows offsets into a map value better than into a packet.
#[repr(C, align(8))]
struct Scratch([u8; SCRATCH_LENGTH as usize + 8]);

/// [`LONGEST_SUM`] up to the next power of two: before Linux 6.8 a mask is the one way to tell the verifier that a
/// length is neither 0 nor too long.
const SCRATCH_LENGTH: u32 = LONGEST_SUM.next_power_of_two();

/// [`Kernel::has_connection`](crate::kernel::Kernel::has_connection)
#[inline(always)]
pub(crate) fn has_connection(context: *mut xdp_md, key: &FlowKey) -> bool {
    const THIS_NAMESPACE: u64 = u64::MAX;
    const LISTENS: u32 = 10;
    /// A `bpf_sock_tuple` of IPv4.
    #[repr(C)]
    struct Tuple4(Be32, Be32, Be16, Be16);

    let tuple4;
    let (tuple, length): (*const bpf_sock_tuple, usize) = match (key.source.v4(), key.destination.v4()) {
        (Some(source), Some(destination)) => {
            tuple4 = Tuple4(source, destination, key.source_port, key.destination_port);
            ((&raw const tuple4).cast(), size_of::<Tuple4>())
        }
        // A key of `FLOWS` begins with addresses and ports as a `bpf_sock_tuple` of IPv6 has them.
        _ => ((&raw const *key).cast(), offset_of!(FlowKey, protocol)),
    };
    // SAFETY: the context is the running packet's, the tuple has the given size and is only read. A socket that is found
    // is read while it is held, and let go.
    unsafe {
        let socket = bpf_skc_lookup_tcp(context.cast(), tuple.cast_mut(), length as u32, THIS_NAMESPACE, 0);
        if socket.is_null() {
            return false;
        }
        let state = (&raw const (*socket).state).read_volatile();
        bpf_sk_release(socket.cast());
        state != LISTENS
    }
}

/// [`Kernel::route`](crate::kernel::Kernel::route) of what came in through an interface.
#[inline(always)]
pub(crate) fn route(context: *mut xdp_md, ingress: u32, question: &Question) -> Route {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    // SAFETY: a C structure of integers; all zeros is a value of it.
    let mut fib: FibLookup = unsafe { core::mem::zeroed() };
    fib.l4_protocol = question.protocol;
    fib.sport = question.source_port.0;
    fib.dport = question.destination_port.0;
    // The length stays 0, which means no check against the MTU: a segment the kernel has yet to cut would fail it.
    fib.ifindex = ingress;
    if let Some(destination) = question.destination.v4() {
        fib.family = AF_INET;
        fib.__bindgen_anon_2.tos = question.traffic_class;
        fib.__bindgen_anon_3.ipv4_src = question.source.0[3].0;
        fib.__bindgen_anon_4.ipv4_dst = destination.0;
    } else {
        fib.family = AF_INET6;
        fib.__bindgen_anon_2.flowinfo = (u32::from(question.traffic_class) << 20).to_be();
        fib.__bindgen_anon_3.ipv6_src = question.source.0.map(|word| word.0);
        fib.__bindgen_anon_4.ipv6_dst = question.destination.0.map(|word| word.0);
    }
    // SAFETY: the context is the running packet's, the structure lives on the stack and has the given size.
    let answer = unsafe { bpf_fib_lookup(context.cast(), &raw mut fib, size_of::<FibLookup>() as i32, 0) };
    match u32::try_from(answer) {
        Ok(BPF_FIB_LKUP_RET_SUCCESS) => {
            // SAFETY: on success the kernel has left the path's MTU where the length was (Linux 5.12).
            let mtu = unsafe { fib.__bindgen_anon_1.mtu_result };
            Route::Forward { interface: fib.ifindex, source: Mac(fib.smac), destination: Mac(fib.dmac), mtu }
        }
        Ok(BPF_FIB_LKUP_RET_NOT_FWDED) => Route::NotForwarded,
        Ok(BPF_FIB_LKUP_RET_FWD_DISABLED) => Route::ForwardingOff,
        _ => Route::Nowhere,
    }
}

/// [`Kernel::sum`](crate::kernel::Kernel::sum), or −1. A function of its own: it is called from three places and seldom.
#[inline(never)]
pub(crate) fn sum(context: *mut xdp_md, offset: u32, length: u32) -> i64 {
    /// What `bpf_csum_diff` takes at once.
    const CHUNK: u32 = 512;
    if length == 0 || length > LONGEST_SUM {
        return -1;
    }
    let length = masked::<{ SCRATCH_LENGTH - 1 }>(length - 1) + 1;
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return -1 };
    let bytes = scratch.cast::<u8>();
    // SAFETY: the buffer is longer than `length`, which was checked above, and belongs to this CPU.
    if unsafe { bpf_xdp_load_bytes(context, offset, bytes.cast(), length) } != 0 {
        return -1;
    }
    // The sum takes whole words.
    // SAFETY: the buffer is 8 bytes longer than the longest `length`.
    unsafe { bytes.add(length as usize).cast::<u32>().write_unaligned(0) };
    let mut sum = 0_u32;
    let mut done = 0;
    while done < LONGEST_SUM {
        if done >= length {
            break;
        }
        let rest = length - done;
        let size = if rest > CHUNK { CHUNK } else { (rest + 3) & 0x3fc };
        // SAFETY: `done + size` is at most three bytes past `length`, and so within the buffer.
        let result =
            unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, bytes.add(done as usize).cast(), size, sum) };
        if result < 0 {
            return -1;
        }
        sum = result as u32;
        done += CHUNK;
    }
    i64::from(sum)
}
