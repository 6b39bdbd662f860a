//! The XDP program of lb: what happens to a packet, stage by stage.
//!
//! [`decide`] is the whole way; each stage is a module. The stages reach maps and helpers through
//! [`kernel::Kernel`], so they compile and run on the host too, where the unit tests are.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(
    clippy::inline_always,
    reason = "the verifier follows packet addresses through one function, and knows nothing of the caller's checks"
)]

pub mod checksum;
pub mod decision;
mod forward;
mod guard;
pub mod kernel;
#[cfg(target_arch = "bpf")]
pub mod maps;
pub mod packet;
pub mod parse;
mod reply;
mod rewrite;
mod service;
mod track;

#[cfg(test)]
mod tests;

use lb_common::Verdict;

use crate::{
    decision::Decision,
    kernel::Kernel,
    packet::Packet,
    parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet, Ipv4, Payload},
};

/// Decides about one packet, rewrites it if it is forwarded, and counts the verdict.
///
/// `GENERIC` says that the kernel runs the program on socket buffers, which keep their note of a partial checksum.
#[inline(always)]
pub fn run<K: Kernel, const GENERIC: bool>(kernel: &K, packet: Packet) -> Decision {
    let decision = decide::<K, GENERIC>(kernel, packet).unwrap_or_else(Decision::from);
    kernel.count(decision.verdict);
    decision
}

#[inline(always)]
fn decide<K: Kernel, const GENERIC: bool>(kernel: &K, packet: Packet) -> Result<Decision, Verdict> {
    let ethernet = Ethernet(packet.header().ok_or(Verdict::NotOurs)?);
    match ethernet.kind() {
        ETHERTYPE_IPV4 => ipv4::<K, GENERIC>(kernel, packet, ethernet),
        ETHERTYPE_ARP => Err(guard::arp(kernel, packet)),
        _ => Err(Verdict::NotOurs),
    }
}

#[inline(always)]
fn ipv4<K: Kernel, const GENERIC: bool>(
    kernel: &K,
    packet: Packet,
    ethernet: Ethernet,
) -> Result<Decision, Verdict> {
    let ip = Ipv4(packet.header().ok_or(Verdict::NotOurs)?);
    let payload = parse::payload(packet, ip);
    // Services first: what is steered costs one hash look-up, what is not ours two.
    if let Payload::Segment(segment) = payload {
        let flow = segment.flow();
        if let Some(service) = service::find(kernel, &flow) {
            service::admit(kernel, &service, ethernet)?;
            let (id, backend) = service::backend(kernel, &service, &flow, segment.opens_connection())?;
            return forward::to_backend::<K, GENERIC>(kernel, ethernet, &segment, id, &backend);
        }
    }
    if let Some(vip) = kernel.vip(ip.destination()) {
        return Err(guard::vip(kernel, vip, &payload));
    }
    match payload {
        Payload::Segment(segment) if kernel.has_nat_replies() => {
            reply::to_client::<K, GENERIC>(kernel, ethernet, &segment)
        }
        _ => Err(Verdict::NotOurs),
    }
}
