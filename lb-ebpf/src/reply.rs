//! A `nat` backend's reply on its way back to the client.

use lb_common::Verdict;

use crate::{
    decision::Decision,
    forward::{Hop, require_ttl},
    guard,
    ip::Ip,
    kernel::{Kernel, Question},
    parse::{Ethernet, Segment},
    rewrite::{self, Side},
};

/// Gives a reply the VIP as its source and sends it to the client; what is no such reply is not ours.
///
/// The backend also answers this node itself, when it probes the backend's health: those answers reach the
/// stack untouched, so the route is asked before anything is rewritten.
#[inline(always)]
pub(crate) fn to_client<K: Kernel, I: Ip, const GENERIC: bool>(
    kernel: &K,
    ethernet: Ethernet,
    segment: &Segment<I>,
) -> Result<Decision, Verdict> {
    let flow = segment.flow();
    let reply = I::nat_reply(kernel, &flow).ok_or(Verdict::NotOurs)?;
    guard::mac(kernel, ethernet)?;
    let question = Question {
        source: reply.address,
        destination: flow.destination,
        source_port: reply.port,
        destination_port: flow.destination_port,
        protocol: flow.protocol,
        traffic_class: segment.ip.traffic_class(),
    };
    let hop = Hop::by_route(kernel, &question)?;
    require_ttl(segment.ip)?;
    rewrite::endpoint::<K, I, GENERIC>(kernel, segment, Side::Source, reply.address, reply.port)?;
    // The reply's source is an address of this node now, which the stack takes from others where `accept_local` is set.
    let egress = hop.take_or_leave_to_stack::<I, GENERIC>(ethernet, segment.ip, segment.frame_length());
    Ok(Decision { verdict: Verdict::NatReply, egress })
}
