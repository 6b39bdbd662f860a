//! What a frame looks like when it leaves.

use std::net::IpAddr;

use lb_common::{Backend, MODE_GUE, Verdict};

use super::{
    Expected, GUE_PORT, Hop, PASS,
    parse::{Ip, Segment, word},
};
use crate::packets::ones_complement_sum;

/// An address and a port.
type End = (IpAddr, u16);

/// `dr`: new Ethernet addresses, one hop fewer.
pub(super) fn on(generic: bool, frame: &[u8], ip: &Ip, segment: &Segment, hop: Hop) -> Expected {
    let mut change = Change::new(frame, ip);
    if !generic {
        change.finish(segment);
    }
    change.take_hop();
    change.address(hop);
    change.expected(Verdict::Dr, hop.action)
}

/// `nat` and its replies: new ends (source, destination) too. What generic mode cannot redirect the stack forwards by them,
/// and counts the hop.
pub(super) fn rewritten(
    verdict: Verdict,
    generic: bool,
    frame: &[u8],
    ip: &Ip,
    segment: &Segment,
    hop: Hop,
    ends: (End, End),
) -> Expected {
    let mut change = Change::new(frame, ip);
    change.rewrite(generic, segment, ends);
    if generic && hop.action != super::TX && ip.end - 14 > usize::from(hop.mtu) {
        return change.expected(verdict, PASS);
    }
    change.take_hop();
    change.address(hop);
    change.expected(verdict, hop.action)
}

/// `ipip` and `gue`: RFC 2003, RFC 2473, RFC 4213, variant 1 of GUE. A partial checksum of the segment, if it is one, is
/// finished in native mode.
pub(super) fn within(
    generic: bool,
    frame: &[u8],
    ip: &Ip,
    segment: Option<&Segment>,
    backend: &Backend,
    hop: Hop,
    hash: u32,
) -> Expected {
    let is_gue = backend.mode == MODE_GUE;
    let carried = if ip.source.is_ipv4() { 4 } else { 41 };
    let protocol = if is_gue { 17 } else { carried };
    let traffic_class = if ip.source.is_ipv4() { frame[15] } else { (word(frame, 14) >> 4) as u8 };
    let inner_length = ip.end - 14 + if is_gue { 8 } else { 0 };

    let mut outer = Vec::new();
    match (IpAddr::from(backend.source), IpAddr::from(backend.address)) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            outer.extend([8, 0, 0x45, traffic_class]);
            outer.extend(((inner_length + 20) as u16).to_be_bytes());
            // Identification 0, DF, 64 hops, and the checksum's place.
            outer.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            outer.extend(source.octets());
            outer.extend(destination.octets());
            let checksum = !sum(&outer[2..]);
            outer[12..14].copy_from_slice(&checksum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            outer.extend([0x86, 0xdd]);
            outer.extend((0x6000_0000 | u32::from(traffic_class) << 20).to_be_bytes());
            outer.extend((inner_length as u16).to_be_bytes());
            outer.extend([protocol, 64]);
            outer.extend(source.octets());
            outer.extend(destination.octets());
        }
        _ => panic!("the ends of a tunnel are of one family"),
    }
    if is_gue {
        let port = 0xc000 | (hash & 0x3fff) as u16;
        for word in [port, GUE_PORT, inner_length as u16, 0] {
            outer.extend(word.to_be_bytes());
        }
    }
    let mut change = Change::new(frame, ip);
    if let Some(segment) = segment.filter(|_| !generic) {
        change.finish(segment);
    }
    change.take_hop();
    let verdict = if is_gue { Verdict::Gue } else { Verdict::Ipip };
    let inner = change.expected(verdict, hop.action);
    let mut out = [hop.destination.0, hop.source.0].concat();
    out.extend(&outer);
    out.extend(&inner.frame[14..]);
    let either_zero = inner.either_zero.iter().map(|at| at + outer.len() - 2).collect();
    Expected { frame: out, either_zero, ..inner }
}

/// A frame as it came and as it leaves.
pub(super) struct Change<'a> {
    came: &'a [u8],
    pub(super) out: Vec<u8>,
    is_v4: bool,
    either_zero: Vec<usize>,
}

impl<'a> Change<'a> {
    pub(super) fn new(frame: &'a [u8], ip: &Ip) -> Self {
        Self { came: frame, out: frame.to_vec(), is_v4: ip.source.is_ipv4(), either_zero: Vec::new() }
    }

    pub(super) fn address(&mut self, hop: Hop) {
        self.out[..6].copy_from_slice(&hop.destination.0);
        self.out[6..12].copy_from_slice(&hop.source.0);
    }

    pub(super) fn take_hop(&mut self) {
        self.out[if self.is_v4 { 22 } else { 21 }] -= 1;
    }

    /// Native mode: a partial checksum is finished, any other stays.
    fn finish(&mut self, segment: &Segment) {
        if self.is_partial(segment) {
            let whole = self.whole(self.came, segment);
            put(&mut self.out, segment.checksum, whole);
        }
    }

    /// A checksum field that is partial, or looks like it.
    pub(super) fn is_partial(&self, segment: &Segment) -> bool {
        let covers_all = segment.protocol != 17
            || usize::from(word(self.came, segment.start + 4)) == segment.end - segment.start;
        word(self.came, segment.checksum) == self.pseudo_header(self.came, segment) && covers_all
    }

    /// Gives the packet new ends. The transport's checksum is as right or wrong, whole or partial, as it was; but native
    /// mode finishes a partial one.
    fn rewrite(&mut self, generic: bool, segment: &Segment, (source, destination): (End, End)) {
        let start = if self.is_v4 { 26 } else { 22 };
        let addresses = [octets(source.0), octets(destination.0)].concat();
        self.out[start..start + addresses.len()].copy_from_slice(&addresses);
        put(&mut self.out, segment.start, source.1);
        put(&mut self.out, segment.start + 2, destination.1);

        let at = segment.checksum;
        let field = word(self.came, at);
        if segment.protocol == 17 && field == 0 {
            return;
        }
        let right = self.whole(self.came, segment);
        let partial = self.is_partial(segment);
        let new = if partial && !generic {
            self.whole(&self.out, segment)
        } else if partial && !same(field, right) {
            self.pseudo_header(&self.out, segment)
        } else {
            self.carry_over(at, right, self.whole(&self.out, segment))
        };
        // UDP says "no checksum" by 0 (RFC 768).
        put(&mut self.out, at, if segment.protocol == 17 && new == 0 { 0xffff } else { new });
    }

    /// The checksum that should be `new` and is wrong by as much as the one that came in, which should be `right`.
    pub(super) fn carry_over(&mut self, at: usize, right: u16, new: u16) -> u16 {
        let field = word(self.came, at);
        if same(field, right) {
            return new;
        }
        self.either_zero.push(at);
        ones_complement_sum([new, field, !right])
    }

    pub(super) fn expected(mut self, verdict: Verdict, action: u32) -> Expected {
        if self.is_v4 {
            let header = |frame: &[u8]| !sum(&without(frame, 24)[14..14 + usize::from(frame[14] & 15) * 4]);
            let checksum = self.carry_over(24, header(self.came), header(&self.out));
            put(&mut self.out, 24, checksum);
        }
        Expected { verdict, action, frame: self.out, either_zero: self.either_zero, counted: None }
    }

    /// The right checksum of the transport.
    pub(super) fn whole(&self, frame: &[u8], segment: &Segment) -> u16 {
        let bytes = without(frame, segment.checksum);
        let sum = sum(&bytes[segment.start..segment.end]);
        match !ones_complement_sum([self.pseudo_header(frame, segment), sum]) {
            0 if segment.protocol == 17 => 0xffff,
            checksum => checksum,
        }
    }

    pub(super) fn pseudo_header(&self, frame: &[u8], segment: &Segment) -> u16 {
        let addresses = if self.is_v4 { &frame[26..34] } else { &frame[22..54] };
        let length = (segment.end - segment.start) as u16;
        ones_complement_sum([sum(addresses), u16::from(segment.protocol), length])
    }
}

/// An address as it stands in a packet.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Whether two values are the same in one's complement, which has two zeros.
pub(super) fn same(a: u16, b: u16) -> bool {
    a == b || (a == 0 && b == 0xffff) || (a == 0xffff && b == 0)
}

pub(super) fn sum(bytes: &[u8]) -> u16 {
    ones_complement_sum(
        bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])),
    )
}

pub(super) fn without(frame: &[u8], field: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    put(&mut frame, field, 0);
    frame
}

pub(super) fn put(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
