//! ICMP errors: those about steered flows, and those that too big packets get.

use std::net::IpAddr;

use lb_common::{Backend, Be16, Flow, MODE_DR, MODE_GUE, MODE_IPIP, MODE_LOCAL, MODE_NAT, Verdict, slot};

use super::{
    Expected, Hop, Model, REDIRECT, Route, drop,
    parse::{Ip, Kind, Segment, word},
    pass, route,
    send::{self, put, same, sum, without},
};
use crate::{
    packets::ones_complement_sum,
    world::{INGRESS_MTU, PASS, TX, address},
};

/// Whether the ICMP message at `start` is an error.
pub(super) fn is_error(frame: &[u8], ip: &Ip, start: usize) -> bool {
    let kinds: &[u8] = if ip.source.is_ipv4() { &[3, 11, 12] } else { &[1, 2, 3, 4] };
    frame.len() >= start + 8 && kinds.contains(&frame[start])
}

/// The TCP or UDP packet that an error quotes.
struct Quote {
    source: IpAddr,
    destination: IpAddr,
    /// Where its IP header begins in the frame, and where its transport header.
    at: usize,
    transport: usize,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
    /// Where the transport's checksum is, if it is quoted.
    checksum: Option<usize>,
}

impl Quote {
    fn of(frame: &[u8], ip: &Ip, start: usize) -> Option<Self> {
        let at = start + 8;
        let imagined = [&frame[..14], frame.get(at..)?].concat();
        let mut imagined = imagined;
        imagined[12..14].copy_from_slice(if ip.source.is_ipv4() { &[8, 0] } else { &[0x86, 0xdd] });
        let quoted = Ip::of(&imagined)?;
        let (protocol, offset) = if ip.source.is_ipv4() {
            let header = usize::from(imagined[14] & 15) * 4;
            let is_later = word(&imagined, 20) & 0x1fff != 0;
            if imagined[14] >> 4 != 4 || header < 20 || is_later {
                return None;
            }
            (imagined[23], 14 + header)
        } else {
            behind_extensions(&imagined)?
        };
        let transport = at + offset - 14;
        if ![6, 17].contains(&protocol) || ip.end < transport + 8 {
            return None;
        }
        let field = transport + if protocol == 6 { 16 } else { 6 };
        let is_quoted = ip.end >= field + 2 && (protocol == 6 || word(frame, field) != 0);
        Some(Self {
            source: quoted.source,
            destination: quoted.destination,
            at,
            transport,
            protocol,
            source_port: word(frame, transport),
            destination_port: word(frame, transport + 2),
            checksum: is_quoted.then_some(field),
        })
    }

    /// The flow of the packets it answers.
    fn reversed(&self) -> Flow {
        Flow {
            source: address(self.destination),
            destination: address(self.source),
            source_port: Be16::new(self.destination_port),
            destination_port: Be16::new(self.source_port),
            protocol: self.protocol,
        }
    }
}

/// The protocol behind a quoted packet's extension headers, and where it begins.
fn behind_extensions(frame: &[u8]) -> Option<(u8, usize)> {
    if frame[14] >> 4 != 6 {
        return None;
    }
    let (mut next, mut at) = (frame[20], 54);
    for _ in 0..6 {
        if ![0, 43, 44, 60].contains(&next) {
            break;
        }
        let header = frame.get(at..at + 8)?;
        let place = if next == 44 { word(header, 2) & 0xfff9 } else { 0 };
        at += if next == 44 { 8 } else { (usize::from(header[1]) + 1) * 8 };
        next = header[0];
        if place & 0xfff8 != 0 {
            return None;
        }
        if place != 0 {
            break;
        }
    }
    Some((next, at))
}

impl Model {
    /// An ICMP error at `start`.
    pub(super) fn icmp_error(&self, generic: bool, frame: &[u8], ip: &Ip, start: usize) -> Expected {
        let vip = self.vips.get(&ip.destination);
        let elsewhere = || match vip {
            Some(vip) => self.no_service(vip.lease, &Kind::Icmp { start }, frame),
            None => pass(Verdict::NotOurs, frame),
        };
        let Some(quote) = Quote::of(frame, ip, start).filter(|quote| quote.source == ip.destination) else {
            return elsewhere();
        };
        if vip.is_none() {
            return self.error_to_client(generic, frame, ip, start, &quote);
        }
        // What the quoted packet answers was sent to where it comes from.
        let answered = Segment {
            start,
            end: ip.end,
            protocol: quote.protocol,
            source_port: quote.destination_port,
            destination_port: quote.source_port,
            opens: false,
            checksum: 0,
        };
        let Some(service) = self.service(ip, &answered) else { return elsewhere() };
        if let Some(other) = self.admit(frame, service) {
            return other;
        }
        let flow = quote.reversed();
        let slot = service.ring.get(slot(flow.hash(), service.ring.len() as u32) as usize);
        let Some(slot) = slot else { return drop(Verdict::NoBackend, frame) };
        let id = if slot.unsettled {
            self.remembered(&flow.key()).unwrap_or_else(|| self.previous(&flow.key(), *slot))
        } else {
            slot.current
        };
        if id == 0 {
            return drop(Verdict::NoBackend, frame);
        }
        let Some(backend) = self.backends.get(&id) else { return drop(Verdict::Internal, frame) };
        let expected = self.error_to_backend(generic, frame, ip, start, &quote, backend, flow.hash());
        let is_sent = matches!(expected.verdict, Verdict::IcmpError | Verdict::IcmpErrorLocal);
        Expected { counted: is_sent.then_some((id, ip.end as u64, false)), ..expected }
    }

    #[expect(clippy::too_many_arguments, reason = "a frame and what was found out about it")]
    fn error_to_backend(
        &self,
        generic: bool,
        frame: &[u8],
        ip: &Ip,
        start: usize,
        quote: &Quote,
        backend: &Backend,
        hash: u32,
    ) -> Expected {
        if backend.mode == MODE_LOCAL {
            return pass(Verdict::IcmpErrorLocal, frame);
        }
        let hop = match self.hop(frame, ip, backend) {
            Ok(hop) => hop,
            Err(verdict) => return drop(verdict, frame),
        };
        if ip.end - 14 > longest(generic, backend, hop) {
            return drop(Verdict::TooBigDropped, frame);
        }
        let to = (IpAddr::from(backend.address), backend.port.get());
        let change = |out: &mut Vec<u8>| {
            if backend.mode == MODE_NAT {
                replace(out, ip, 14, End::Destination, to.0);
                replace(out, ip, quote.at, End::Source, to.0);
                put(out, quote.transport, to.1);
            }
        };
        let error = rewritten(Verdict::IcmpError, frame, ip, start, quote, change);
        let sent = forwarded(error, ip, hop);
        if matches!(backend.mode, MODE_DR | MODE_NAT) {
            return sent;
        }
        send::wrapped(&sent, frame, ip, backend, hop, hash)
    }

    /// An error about what was sent to a `nat` backend.
    fn error_to_client(&self, generic: bool, frame: &[u8], ip: &Ip, start: usize, quote: &Quote) -> Expected {
        let key = (quote.destination, quote.destination_port, quote.protocol);
        let Some(&(vip, port)) = self.nat_replies.get(&key) else { return pass(Verdict::NotOurs, frame) };
        let hop = match route(ip.destination) {
            Route::Neighbour(hop) => hop,
            Route::Nowhere => return drop(Verdict::NoRoute, frame),
            Route::NotForwarded => return pass(Verdict::NotOurs, frame),
        };
        if ip.hops(frame) <= 1 {
            return drop(Verdict::TtlExpired, frame);
        }
        let error = rewritten(Verdict::IcmpErrorReply, frame, ip, start, quote, |out| {
            if ip.source == quote.destination {
                replace(out, ip, 14, End::Source, vip);
            }
            replace(out, ip, quote.at, End::Destination, vip);
            put(out, quote.transport + 2, port);
        });
        if generic && ip.end - 14 > usize::from(hop.mtu) {
            return Expected { action: PASS, ..error };
        }
        forwarded(error, ip, hop)
    }
}

#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// Replaces one address of the IP header at `at`.
fn replace(out: &mut [u8], ip: &Ip, at: usize, end: End, by: IpAddr) {
    let (first, length) = if ip.source.is_ipv4() { (12, 4) } else { (8, 16) };
    let at = at + first + if matches!(end, End::Source) { 0 } else { length };
    let bytes = match by {
        IpAddr::V4(by) => by.octets().to_vec(),
        IpAddr::V6(by) => by.octets().to_vec(),
    };
    out[at..at + length].copy_from_slice(&bytes);
}

/// The error after a change of addresses and ports, with checksums as right or wrong as they were.
fn rewritten(
    verdict: Verdict,
    frame: &[u8],
    ip: &Ip,
    start: usize,
    quote: &Quote,
    change: impl FnOnce(&mut Vec<u8>),
) -> Expected {
    let mut out = frame.to_vec();
    change(&mut out);
    let mut either_zero = vec![start + 2];
    let is_v4 = ip.source.is_ipv4();
    // What a sum over the words in `range` has lost and gained.
    let difference = |out: &[u8], range: std::ops::Range<usize>| {
        ones_complement_sum([sum(&out[range.clone()]), !sum(&frame[range])])
    };
    let addresses = |at: usize| if is_v4 { at + 12..at + 20 } else { at + 8..at + 40 };
    let adjust = |out: &mut Vec<u8>, field: usize, difference: u16| {
        let old = word(frame, field);
        put(out, field, !ones_complement_sum([!old, difference]));
    };
    if let Some(field) = quote.checksum {
        let ports = difference(&out, quote.transport..quote.transport + 4);
        let both = ones_complement_sum([difference(&out, addresses(quote.at)), ports]);
        adjust(&mut out, field, both);
        // UDP says "no checksum" by 0 (RFC 768).
        if quote.protocol == 17 && word(&out, field) == 0 {
            put(&mut out, field, 0xffff);
        }
        either_zero.push(field);
    }
    if is_v4 {
        for header in [14, quote.at] {
            let changed = difference(&out, addresses(header));
            adjust(&mut out, header + 10, changed);
            either_zero.push(header + 10);
        }
    }
    let pseudo = if is_v4 { 0 } else { difference(&out, addresses(14)) };
    let message = ones_complement_sum([
        sum(&without(&out, start + 2)[start..ip.end]),
        !sum(&without(frame, start + 2)[start..ip.end]),
    ]);
    adjust(&mut out, start + 2, ones_complement_sum([message, pseudo]));
    Expected { verdict, action: 0, frame: out, either_zero, counted: None }
}

/// New Ethernet addresses, one hop fewer.
fn forwarded(error: Expected, ip: &Ip, hop: Hop) -> Expected {
    let mut frame = error.frame;
    frame[..6].copy_from_slice(&hop.destination.0);
    frame[6..12].copy_from_slice(&hop.source.0);
    frame[ip.hops_at()] -= 1;
    if ip.source.is_ipv4() {
        // The sum has lost 1 in the upper byte of a word.
        let checksum = ones_complement_sum([word(&frame, 24), 0x0100]);
        put(&mut frame, 24, checksum);
    }
    Expected { frame, action: hop.action, ..error }
}

/// The longest packet that the way to a backend takes.
pub(super) fn longest(generic: bool, backend: &Backend, hop: Hop) -> usize {
    let mtu = usize::from(hop.mtu);
    if ![MODE_IPIP, MODE_GUE].contains(&backend.mode) {
        return if hop.action == REDIRECT { mtu } else { usize::MAX };
    }
    let overhead = if IpAddr::from(backend.address).is_ipv4() { 20 } else { 40 }
        + if backend.mode == MODE_GUE { 8 } else { 0 };
    let room = match backend.mtu {
        0 => usize::MAX,
        mtu => usize::from(mtu).saturating_sub(overhead),
    };
    if generic { room.min(mtu) } else { room }
}

/// What becomes of a packet that is longer than `mtu`.
pub(super) fn too_big(generic: bool, frame: &[u8], ip: &Ip, segment: &Segment, mtu: usize) -> Expected {
    let length = ip.end - 14;
    if generic && length > INGRESS_MTU {
        return drop(Verdict::TooLong, frame);
    }
    let (least, quoted) = if ip.source.is_ipv4() { (68, 548) } else { (1_280, 1_232) };
    let is_host = match ip.source {
        IpAddr::V4(source) => ![0, 127].contains(&source.octets()[0]) && source.octets()[0] < 224,
        IpAddr::V6(source) => !source.is_multicast() && !source.is_unspecified(),
    };
    let is_unicast = frame[0] & 1 == 0 && frame[6] & 1 == 0;
    if mtu < least || length <= quoted || !is_host || !is_unicast {
        return drop(Verdict::TooBigDropped, frame);
    }
    let mut out = [&frame[6..12], &frame[..6], &frame[12..14]].concat();
    match (ip.source, ip.destination) {
        (IpAddr::V4(client), IpAddr::V4(vip)) => {
            out.extend([0x45, 0xc0]);
            out.extend((quoted as u16 + 28).to_be_bytes());
            out.extend([0, 0, 0x40, 0, 64, 1, 0, 0]);
            out.extend(vip.octets());
            out.extend(client.octets());
            let checksum = !sum(&out[14..]);
            put(&mut out, 24, checksum);
            out.extend([3, 4, 0, 0]);
        }
        (IpAddr::V6(client), IpAddr::V6(vip)) => {
            out.extend([0x6c, 0, 0, 0]);
            out.extend((quoted as u16 + 8).to_be_bytes());
            out.extend([58, 64]);
            out.extend(vip.octets());
            out.extend(client.octets());
            out.extend([2, 0, 0, 0]);
        }
        _ => panic!("a packet is of one family"),
    }
    let icmp = out.len() - 4;
    out.extend((mtu as u32).to_be_bytes());
    out.extend(&frame[14..14 + quoted]);

    // In generic mode the kernel finishes a partial checksum, in the quote too; then everything must be right.
    let mut finished = out.clone();
    let (partial, whole) = send::sums(frame, ip, segment);
    let field = word(frame, segment.checksum);
    if generic && field == partial && !same(field, whole) {
        let moved = icmp + 8 - 14;
        let rest = !sum(&finished[segment.start + moved..]);
        put(&mut finished, segment.checksum + moved, rest);
    }
    let pseudo =
        if ip.source.is_ipv4() { 0 } else { ones_complement_sum([sum(&out[22..54]), 58, quoted as u16 + 8]) };
    let checksum = !ones_complement_sum([sum(&finished[icmp..]), pseudo]);
    put(&mut out, icmp + 2, checksum);
    Expected {
        verdict: Verdict::TooBigAnswered,
        action: TX,
        frame: out,
        either_zero: vec![icmp + 2],
        counted: None,
    }
}
