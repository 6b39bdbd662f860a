//! ICMP errors: those about steered flows, on their way to whom they concern, and those that say what was too big.

use std::net::IpAddr;

use lb_common::{Backend, Be16, Flow, MODE_DR, MODE_GUE, MODE_IPIP, MODE_LOCAL, MODE_NAT, Verdict, slot};

use super::{
    Expected, Hop, Model, PASS, Route, TX, drop, longest,
    parse::{Extensions, Ip, Kind, Segment, mac, word},
    pass, route,
    send::{self, Change, octets, put, same, sum, without},
};
use crate::{packets::ones_complement_sum, world::address};

/// Whether the ICMP message at `start` is an error (RFC 792, RFC 4443): 8 bytes of it at least.
pub(super) fn is_error(frame: &[u8], ip: &Ip, start: usize) -> bool {
    let errors: &[u8] = if ip.source.is_ipv4() { &[3, 11, 12] } else { &[1, 2, 3, 4] };
    frame.get(start..start + 8).is_some_and(|icmp| errors.contains(&icmp[0]))
}

/// The TCP or UDP packet that an error quotes.
struct Quote {
    /// Where its addresses are.
    source_at: usize,
    destination_at: usize,
    /// Of its IPv4 header.
    header_checksum: Option<usize>,
    /// Where its transport header begins.
    ports: usize,
    /// The checksum field of that header, if it is quoted and says anything.
    checksum: Option<usize>,
    /// Of the packets that it answers.
    flow: Flow,
}

impl Quote {
    fn of(frame: &[u8], ip: &Ip, start: usize) -> Option<Self> {
        // As if it were a frame: at the same distances.
        let quoted = [&frame[..14], &frame[start + 8..]].concat();
        let base = start + 8 - 14;
        let inner = Ip::of(&quoted)?;
        let (protocol, at) = if inner.source.is_ipv4() {
            let header = usize::from(quoted[14] & 15) * 4;
            let is_first = (word(&quoted, 20) << 3) == 0;
            (quoted[14] >> 4 == 4 && header >= 20 && is_first).then_some((quoted[23], 14 + header))?
        } else {
            let last = Extensions::read(&quoted)?;
            (quoted[14] >> 4 == 6 && !last.later).then_some((last.protocol, last.end))?
        };
        let field = match protocol {
            6 => at + 16,
            17 => at + 6,
            _ => return None,
        };
        // Where the error ends; behind it is padding.
        let end = ip.end - base;
        if at + 8 > end {
            return None;
        }
        let (source_at, destination_at) = if inner.source.is_ipv4() { (26, 30) } else { (22, 38) };
        Some(Self {
            source_at: base + source_at,
            destination_at: base + destination_at,
            header_checksum: inner.source.is_ipv4().then_some(base + 24),
            ports: base + at,
            checksum: (field + 2 <= end && (protocol == 6 || word(&quoted, field) != 0))
                .then_some(base + field),
            flow: Flow {
                source: address(inner.destination),
                destination: address(inner.source),
                source_port: Be16::new(word(&quoted, at + 2)),
                destination_port: Be16::new(word(&quoted, at)),
                protocol,
            },
        })
    }

    /// Replaces one end (its address's place, its port's), with the checksums over it.
    fn replace(&self, frame: &mut [u8], (address_at, port_at): (usize, usize), to: (IpAddr, u16)) {
        let new = octets(to.0);
        let old = frame[address_at..address_at + new.len()].to_vec();
        let (old_port, new_port) = (word(frame, port_at), to.1);
        frame[address_at..address_at + new.len()].copy_from_slice(&new);
        put(frame, port_at, new_port);
        if let Some(at) = self.header_checksum {
            put(frame, at, adjusted(word(frame, at), [sum(&old), 0], [sum(&new), 0]));
        }
        if let Some(at) = self.checksum {
            let checksum = adjusted(word(frame, at), [sum(&old), old_port], [sum(&new), new_port]);
            put(frame, at, if self.flow.protocol == 17 && checksum == 0 { 0xffff } else { checksum });
        }
    }
}

/// A checksum after `old` became `new` (RFC 1624).
fn adjusted(checksum: u16, old: [u16; 2], new: [u16; 2]) -> u16 {
    let old = ones_complement_sum(old);
    !ones_complement_sum([!checksum, !old, new[0], new[1]])
}

impl Model {
    /// An error to a VIP or, perhaps, about what a `nat` backend was sent or has sent.
    pub(super) fn error(&self, generic: bool, frame: &[u8], ip: &Ip, start: usize) -> Expected {
        let vip = self.vips.get(&ip.destination);
        let quote = Quote::of(frame, ip, start);
        let quote = quote.filter(|quote| IpAddr::from(quote.flow.destination) == ip.destination);
        match (vip, quote) {
            (Some(vip), None) => self.no_service(vip.lease, &Kind::Icmp { start }, frame),
            (Some(vip), Some(quote)) => self.error_to_vip(generic, frame, ip, start, &quote, vip.lease),
            (None, Some(quote)) => self.error_to_client(generic, frame, ip, start, &quote),
            (None, None) => pass(Verdict::NotOurs, frame),
        }
    }

    /// To the backend that sent what is quoted.
    fn error_to_vip(
        &self,
        generic: bool,
        frame: &[u8],
        ip: &Ip,
        start: usize,
        quote: &Quote,
        lease: u32,
    ) -> Expected {
        let flow = quote.flow;
        let (port, protocol) = (flow.destination_port.get(), flow.protocol);
        let Some(service) = self.service(ip.destination, port, protocol) else {
            return self.no_service(lease, &Kind::Other, frame);
        };
        if let Some(expected) = self.refused(frame, service) {
            return expected;
        }
        if service.ring.is_empty() {
            return drop(Verdict::NoBackend, frame);
        }
        let slot = service.ring[slot(flow.hash(), service.ring.len() as u32) as usize];
        let id = self.belongs(flow.key(), slot);
        let backend = match self.backend(id) {
            Ok(backend) => backend,
            Err(verdict) => return drop(verdict, frame),
        };
        let expected = self.error_to_backend(generic, frame, ip, start, quote, backend);
        let steered = matches!(expected.verdict, Verdict::IcmpError | Verdict::IcmpErrorLocal);
        Expected { counted: steered.then_some((id, ip.end as u64, false)), ..expected }
    }

    fn error_to_backend(
        &self,
        generic: bool,
        frame: &[u8],
        ip: &Ip,
        start: usize,
        quote: &Quote,
        backend: &Backend,
    ) -> Expected {
        if backend.mode == MODE_LOCAL {
            return pass(Verdict::IcmpErrorLocal, frame);
        }
        if ![MODE_DR, MODE_NAT, MODE_IPIP, MODE_GUE].contains(&backend.mode) {
            return drop(Verdict::Internal, frame);
        }
        let hop = match self.hop(backend) {
            Ok(hop) => hop,
            Err(verdict) => return drop(verdict, frame),
        };
        if ip.hops(frame) <= 1 {
            return drop(Verdict::TtlExpired, frame);
        }
        if ip.end - 14 > longest(generic, backend, hop) {
            return drop(Verdict::TooBigDropped, frame);
        }
        let mut change = Change::new(frame, ip);
        match backend.mode {
            MODE_IPIP | MODE_GUE => {
                let sent = send::within(generic, frame, ip, None, backend, hop, quote.flow.hash());
                return Expected { verdict: Verdict::IcmpError, ..sent };
            }
            MODE_NAT => {
                let to = (IpAddr::from(backend.address), backend.port.get());
                let outer = if ip.source.is_ipv4() { 30 } else { 38 };
                let octets = octets(to.0);
                change.out[outer..outer + octets.len()].copy_from_slice(&octets);
                quote.replace(&mut change.out, (quote.source_at, quote.ports), to);
                message(&mut change, frame, ip, start);
            }
            _ => {}
        }
        sent(change, Verdict::IcmpError, generic, ip, hop)
    }

    /// About what this node sent to a `nat` backend, or on behalf of a client: to the client.
    fn error_to_client(&self, generic: bool, frame: &[u8], ip: &Ip, start: usize, quote: &Quote) -> Expected {
        let backend = (IpAddr::from(quote.flow.source), quote.flow.source_port.get(), quote.flow.protocol);
        let Some(&to) = self.nat_replies.get(&backend) else { return pass(Verdict::NotOurs, frame) };
        if self.is_for_another(frame) {
            return pass(Verdict::OtherMac, frame);
        }
        let hop = match route(ip.destination) {
            Route::Neighbour(hop) => hop,
            Route::Nowhere => return drop(Verdict::NoRoute, frame),
            Route::NotForwarded => return pass(Verdict::NotOurs, frame),
        };
        if ip.hops(frame) <= 1 {
            return drop(Verdict::TtlExpired, frame);
        }
        let mut change = Change::new(frame, ip);
        if ip.source == backend.0 {
            let octets = octets(to.0);
            let outer = if ip.source.is_ipv4() { 26 } else { 22 };
            change.out[outer..outer + octets.len()].copy_from_slice(&octets);
        }
        quote.replace(&mut change.out, (quote.destination_at, quote.ports + 2), to);
        message(&mut change, frame, ip, start);
        sent(change, Verdict::IcmpErrorReply, generic, ip, hop)
    }
}

/// Sends an error on; what generic mode cannot redirect the stack forwards.
fn sent(mut change: Change<'_>, verdict: Verdict, generic: bool, ip: &Ip, hop: Hop) -> Expected {
    if generic && hop.action != TX && ip.end - 14 > usize::from(hop.mtu) {
        return change.expected(verdict, PASS);
    }
    change.take_hop();
    change.address(hop);
    change.expected(verdict, hop.action)
}

/// The checksum of the ICMP message, as right or wrong as it was.
fn message(change: &mut Change<'_>, came: &[u8], ip: &Ip, start: usize) {
    let right = |frame: &[u8]| {
        let addresses = if ip.source.is_ipv4() { 0 } else { sum(&frame[22..54]) };
        let rest = if ip.source.is_ipv4() { [0, 0] } else { [58, (ip.end - start) as u16] };
        !ones_complement_sum([addresses, rest[0], rest[1], sum(&without(frame, start + 2)[start..ip.end])])
    };
    let (old, new) = (right(came), right(&change.out));
    let checksum = change.carry_over(start + 2, old, new);
    put(&mut change.out, start + 2, checksum);
}

/// "Fragmentation needed" or "packet too big" to the sender of a packet; `None` if it gets none.
pub(super) fn answer(
    generic: bool,
    frame: &[u8],
    ip: &Ip,
    segment: &Segment,
    mtu: usize,
) -> Option<Expected> {
    let (quoted, least) = if ip.source.is_ipv4() { (576 - 28, 68) } else { (1_280 - 48, 1_280) };
    let length = ip.end - 14;
    let is_host = match ip.source {
        IpAddr::V4(source) => ![0, 127].contains(&source.octets()[0]) && source.octets()[0] < 224,
        IpAddr::V6(source) => !source.is_multicast() && !source.is_unspecified(),
    };
    let is_unicast = (frame[0] | frame[6]) & 1 == 0;
    if length <= mtu || mtu < least || length <= quoted || !is_host || !is_unicast {
        return None;
    }
    let mut out = [mac(frame, 6).0, mac(frame, 0).0].concat();
    out.extend(&frame[12..14]);
    let icmp_length = (8 + quoted) as u16;
    let mut message = if ip.source.is_ipv4() { vec![3, 4, 0, 0, 0, 0] } else { vec![2, 0, 0, 0, 0, 0] };
    message.extend((mtu as u16).to_be_bytes());
    let quote = &frame[14..14 + quoted];
    let pseudo = if ip.source.is_ipv4() {
        out.extend([0x45, 0xc0]);
        out.extend((20 + icmp_length).to_be_bytes());
        out.extend([0, 0, 0x40, 0, 64, 1, 0, 0]);
        out.extend(octets(ip.destination));
        out.extend(octets(ip.source));
        let checksum = !sum(&out[14..]);
        put(&mut out, 24, checksum);
        0
    } else {
        out.extend((0x6000_0000_u32 | 0xc0 << 20).to_be_bytes());
        out.extend(icmp_length.to_be_bytes());
        out.extend([58, 64]);
        out.extend(octets(ip.destination));
        out.extend(octets(ip.source));
        ones_complement_sum([sum(&out[22..54]), icmp_length, 58])
    };
    let change = Change::new(frame, ip);
    let field = word(frame, segment.checksum);
    let is_partial = change.is_partial(segment);
    let covered = if generic && is_partial && !same(field, change.whole(frame, segment)) {
        // The kernel finishes it over what is quoted; what it then covers sums up to the complement of the field.
        ones_complement_sum([sum(quote.get(..segment.start - 14)?), !field])
    } else {
        sum(quote)
    };
    let checksum = !ones_complement_sum([pseudo, sum(&message), covered]);
    put(&mut message, 2, checksum);
    out.extend(message);
    out.extend(quote);
    let expected = drop(Verdict::TooBigAnswered, &out);
    Some(Expected { action: TX, ..expected })
}
