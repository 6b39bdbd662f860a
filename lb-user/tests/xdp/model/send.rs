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
    let mut change = Change::new(frame, ip, segment);
    if !generic {
        change.finish();
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
    let mut change = Change::new(frame, ip, segment);
    change.rewrite(generic, ends);
    if generic && hop.action != super::TX && ip.end - 14 > usize::from(hop.mtu) {
        return change.expected(verdict, PASS);
    }
    change.take_hop();
    change.address(hop);
    change.expected(verdict, hop.action)
}

/// `ipip` and `gue`: one hop fewer, within another packet.
pub(super) fn within(
    generic: bool,
    frame: &[u8],
    ip: &Ip,
    segment: &Segment,
    backend: &Backend,
    hop: Hop,
    hash: u32,
) -> Expected {
    let mut change = Change::new(frame, ip, segment);
    if !generic {
        change.finish();
    }
    change.take_hop();
    let verdict = if backend.mode == MODE_GUE { Verdict::Gue } else { Verdict::Ipip };
    wrapped(&change.expected(verdict, hop.action), frame, ip, backend, hop, hash)
}

/// The same packet within another: RFC 2003, RFC 2473, RFC 4213, variant 1 of GUE.
pub(super) fn wrapped(
    inner: &Expected,
    frame: &[u8],
    ip: &Ip,
    backend: &Backend,
    hop: Hop,
    hash: u32,
) -> Expected {
    let is_gue = backend.mode == MODE_GUE;
    let carried = if ip.source.is_ipv4() { 4 } else { 41 };
    let protocol = if is_gue { 17 } else { carried };
    let traffic_class = if ip.source.is_ipv4() { frame[15] } else { (word(frame, 14) >> 4) as u8 };
    let inner_length = ip.end - 14 + if is_gue { 8 } else { 0 };

    let mut outer = [hop.destination.0, hop.source.0].concat();
    match (IpAddr::from(backend.source), IpAddr::from(backend.address)) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            outer.extend([8, 0, 0x45, traffic_class]);
            outer.extend(((inner_length + 20) as u16).to_be_bytes());
            // Identification 0, DF, 64 hops, and the checksum's place.
            outer.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            outer.extend(source.octets());
            outer.extend(destination.octets());
            let checksum = !sum(&outer[14..]);
            put(&mut outer, 24, checksum);
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
    let either_zero = inner.either_zero.iter().map(|at| at + outer.len() - 14).collect();
    outer.extend(&inner.frame[14..]);
    Expected { frame: outer, either_zero, ..*inner }
}

/// The folded pseudo header of a packet that came, and the right checksum of its transport.
pub(super) fn sums(frame: &[u8], ip: &Ip, segment: &Segment) -> (u16, u16) {
    let change = Change::new(frame, ip, segment);
    (change.pseudo_header(frame), change.whole(frame))
}

/// A frame as it came and as it leaves.
struct Change<'a> {
    came: &'a [u8],
    out: Vec<u8>,
    is_v4: bool,
    segment: &'a Segment,
    either_zero: Vec<usize>,
}

impl<'a> Change<'a> {
    fn new(frame: &'a [u8], ip: &Ip, segment: &'a Segment) -> Self {
        Self {
            came: frame,
            out: frame.to_vec(),
            is_v4: ip.source.is_ipv4(),
            segment,
            either_zero: Vec::new(),
        }
    }

    fn address(&mut self, hop: Hop) {
        self.out[..6].copy_from_slice(&hop.destination.0);
        self.out[6..12].copy_from_slice(&hop.source.0);
    }

    fn take_hop(&mut self) {
        self.out[if self.is_v4 { 22 } else { 21 }] -= 1;
    }

    /// Native mode: a partial checksum is finished, any other stays.
    fn finish(&mut self) {
        if word(self.came, self.segment.checksum) == self.pseudo_header(self.came) {
            let whole = self.whole(self.came);
            put(&mut self.out, self.segment.checksum, whole);
        }
    }

    /// Gives the packet new ends. The transport's checksum is as right or wrong, whole or partial, as it was; but native
    /// mode finishes a partial one.
    fn rewrite(&mut self, generic: bool, (source, destination): (End, End)) {
        let (first, second) = match (source.0, destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                (source.octets().to_vec(), destination.octets().to_vec())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                (source.octets().to_vec(), destination.octets().to_vec())
            }
            _ => panic!("a packet is of one family"),
        };
        let start = if self.is_v4 { 26 } else { 22 };
        let addresses = [first, second].concat();
        self.out[start..start + addresses.len()].copy_from_slice(&addresses);
        put(&mut self.out, self.segment.start, source.1);
        put(&mut self.out, self.segment.start + 2, destination.1);

        let at = self.segment.checksum;
        let field = word(self.came, at);
        if self.segment.protocol == 17 && field == 0 {
            return;
        }
        let right = self.whole(self.came);
        let partial = field == self.pseudo_header(self.came);
        let new = if partial && !generic {
            self.whole(&self.out)
        } else if partial && !same(field, right) {
            self.pseudo_header(&self.out)
        } else {
            self.carry_over(at, right, self.whole(&self.out))
        };
        // UDP says "no checksum" by 0 (RFC 768).
        put(&mut self.out, at, if self.segment.protocol == 17 && new == 0 { 0xffff } else { new });
    }

    /// The checksum that should be `new` and is wrong by as much as the one that came in, which should be `right`.
    fn carry_over(&mut self, at: usize, right: u16, new: u16) -> u16 {
        let field = word(self.came, at);
        if same(field, right) {
            return new;
        }
        self.either_zero.push(at);
        ones_complement_sum([new, field, !right])
    }

    fn expected(mut self, verdict: Verdict, action: u32) -> Expected {
        if self.is_v4 {
            let header = |frame: &[u8]| !sum(&without(frame, 24)[14..14 + usize::from(frame[14] & 15) * 4]);
            let checksum = self.carry_over(24, header(self.came), header(&self.out));
            put(&mut self.out, 24, checksum);
        }
        Expected { verdict, action, frame: self.out, either_zero: self.either_zero, counted: None }
    }

    /// The right checksum of the transport.
    fn whole(&self, frame: &[u8]) -> u16 {
        let bytes = without(frame, self.segment.checksum);
        let segment = sum(&bytes[self.segment.start..self.segment.end]);
        match !ones_complement_sum([self.pseudo_header(frame), segment]) {
            0 if self.segment.protocol == 17 => 0xffff,
            checksum => checksum,
        }
    }

    fn pseudo_header(&self, frame: &[u8]) -> u16 {
        let addresses = if self.is_v4 { &frame[26..34] } else { &frame[22..54] };
        let length = (self.segment.end - self.segment.start) as u16;
        ones_complement_sum([sum(addresses), u16::from(self.segment.protocol), length])
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
