//! The XDP program of lb: what happens to a packet, stage by stage.
//!
//! [`decide`] is the whole way, but for rare stages ([`run_stage`]), which are programs of their own; each stage is a module. The stages reach maps and helpers through
//! [`kernel::Kernel`], so they compile and run on the host too, where the unit tests are.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(
    clippy::inline_always,
    reason = "the verifier follows packet addresses through one function, and knows nothing of the caller's checks"
)]

pub mod backend;
pub mod budget;
pub mod checksum;
mod decapsulate;
pub mod decision;
mod extension;
mod forward;
mod fragment;
mod guard;
#[cfg(target_arch = "bpf")]
mod helpers;
mod icmp_error;
pub mod ip;
#[cfg(target_arch = "bpf")]
mod kept;
pub mod kernel;
#[cfg(target_arch = "bpf")]
pub mod maps;
mod outer;
pub mod packet;
pub mod parse;
mod quote;
mod reply;
pub mod rewrite;
mod service;
mod too_big;
pub mod traced;
mod track;
mod tunnel;
pub mod vlan;

#[cfg(test)]
mod tests;

use core::mem::MaybeUninit;

use lb_common::{Stage, Verdict};

use crate::{
    decision::Decision,
    ip::{Ip, Ipv4, Ipv6},
    kernel::Kernel,
    packet::Packet,
    parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Kind, Parse, Payload, Segment, UDP},
};

/// Decides about one packet and rewrites it if it is forwarded; or says which rare stage decides. Counting is the
/// caller's part.
///
/// `GENERIC` says that the kernel runs the program on socket buffers, which keep their note of a partial checksum.
#[inline(always)]
pub fn run<K: Kernel, const GENERIC: bool>(kernel: &K, packet: Packet) -> Decision {
    decide::<K, GENERIC>(kernel, packet).unwrap_or_else(Decision::ended)
}

/// The same in a rare stage, which reads the packet again.
#[inline(always)]
pub fn run_stage<K: Kernel, const GENERIC: bool>(kernel: &K, packet: Packet, stage: Stage) -> Decision {
    match stage {
        Stage::IcmpError => icmp_error::run::<K, GENERIC>(kernel, packet),
        Stage::TooBig => too_big::run::<K, GENERIC>(kernel, packet),
        Stage::Decapsulate => Err(decapsulate::run(kernel, packet)),
        Stage::Fragment => fragment::run::<K, GENERIC>(kernel, packet),
        Stage::Tagged => vlan::run::<K, GENERIC>(kernel, packet),
        // It comes after the decision.
        Stage::Log => Err(Verdict::Internal),
    }
    .unwrap_or_else(Decision::from)
}

#[inline(always)]
fn decide<K: Kernel, const GENERIC: bool>(kernel: &K, packet: Packet) -> Result<Decision, Verdict> {
    let ethernet = Ethernet(packet.header().ok_or(Verdict::NotOurs)?);
    match ethernet.kind() {
        ETHERTYPE_IPV4 => {
            let ip = Ipv4::new(packet).ok_or(Verdict::NotOurs)?;
            if let Some(segment) = ip.segment(packet) {
                return Ok(
                    steer::<K, Ipv4, GENERIC>(kernel, ethernet, &segment).unwrap_or_else(Decision::ended)
                );
            }
            let packet = packet.anew();
            let ip = Ipv4::new(packet).ok_or(Verdict::NotOurs)?;
            other(kernel, packet, ethernet, ip, &ip.payload(packet))
        }
        ETHERTYPE_IPV6 => {
            let ip = Ipv6::new(packet).ok_or(Verdict::NotOurs)?;
            if let Some(segment) = ip.segment(packet) {
                return Ok(
                    steer::<K, Ipv6, GENERIC>(kernel, ethernet, &segment).unwrap_or_else(Decision::ended)
                );
            }
            let packet = packet.anew();
            let ip = Ipv6::new(packet).ok_or(Verdict::NotOurs)?;
            let payload = ip.payload(packet);
            if payload.kind == Kind::Icmp
                && let Some(target) = parse::solicitation_target(packet, payload.segment.offset)
                && let Some(verdict) = guard::solicitation(kernel, &target, ethernet)
            {
                return Err(verdict);
            }
            other(kernel, packet, ethernet, ip, &payload)
        }
        ETHERTYPE_ARP => Err(guard::arp(kernel, packet, ethernet)),
        vlan::ETHERTYPE_VLAN | vlan::ETHERTYPE_PROVIDER_VLAN => Ok(Decision::go_on_in(Stage::Tagged)),
        _ => Err(Verdict::NotOurs),
    }
}

/// A whole TCP or UDP header: to a service, most of the time.
#[inline(always)]
fn steer<K: Kernel, I: Ip, const GENERIC: bool>(
    kernel: &K,
    ethernet: Ethernet,
    segment: &Segment<I>,
) -> Result<Decision, Verdict> {
    let flow = segment.flow();
    let mut place = MaybeUninit::uninit();
    if kernel.may_be_vip(flow.destination.filter_bit())
        && let Some(service) = service::find::<K, I>(kernel, &flow, ethernet, &mut place)?
    {
        let hash = flow.hash();
        let (id, backend) = service::backend(kernel, service, &flow, hash, segment.opens_connection)?;
        return forward::to_backend::<K, I, GENERIC>(kernel, ethernet, segment, id, backend, hash);
    }
    if flow.protocol == UDP && flow.destination_port.0 == tunnel::GUE_PORT && kernel.has_local_services() {
        return Ok(Decision::go_on_in(Stage::Decapsulate));
    }
    if kernel.has_nat_replies() {
        return reply::to_client::<K, I, GENERIC>(kernel, ethernet, segment);
    }
    Err(Verdict::NotOurs)
}

/// Everything else within IP.
#[inline(always)]
fn other<K: Kernel, I: Ip>(
    kernel: &K,
    packet: Packet,
    ethernet: Ethernet,
    ip: I,
    payload: &Payload<I>,
) -> Result<Decision, Verdict> {
    let offset = payload.segment.offset;
    let is_error = payload.kind == Kind::Icmp && parse::is_icmp_error::<I>(packet, offset);
    let destination = ip.destination();
    if kernel.may_be_vip(destination.filter_bit())
        && let Some(vip) = I::vip(kernel, destination)
    {
        if is_error {
            return Ok(Decision::go_on_in(Stage::IcmpError));
        }
        if payload.kind == Kind::Fragment {
            return Ok(Decision::go_on_in(Stage::Fragment));
        }
        let verdict = guard::vip(kernel, vip, payload.kind, ethernet);
        // Who asks on behalf of a VIP is to hear the answer (RFC 9568 section 6.1, Accept_Mode).
        let is_answer = verdict == Verdict::NotAccepted
            && ethernet.kind() == ETHERTYPE_IPV6
            && payload.kind == Kind::Icmp
            && parse::is_neighbour_advertisement(packet, offset);
        return Err(if is_answer { Verdict::VipStack } else { verdict });
    }
    if is_error && kernel.has_nat_replies() {
        return Ok(Decision::go_on_in(Stage::IcmpError));
    }
    if payload.kind == Kind::Fragment && kernel.has_nat_replies() {
        return Ok(Decision::go_on_in(Stage::Fragment));
    }
    if payload.kind == Kind::Packet && kernel.has_local_services() {
        return Ok(Decision::go_on_in(Stage::Decapsulate));
    }
    Err(Verdict::NotOurs)
}
