//! The reference model: what the XDP program should do, written the plain way over whole byte strings, with every
//! checksum computed from nothing.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use lb_common::{Backend, Be16, Flow, MODE_DR, MODE_LOCAL, MODE_NAT, Mac, NextHop, Verdict, slot};

use crate::{
    packets::{CLIENT, CLIENT_MAC, ones_complement_sum},
    world::{DROP, FAR_MAC, OWN_ADDRESS, PASS, REDIRECT, TX, address},
};

/// The maps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// Address → lease.
    pub(crate) vips: HashMap<Ipv4Addr, u32>,
    /// Address, port, protocol → service.
    pub(crate) services: HashMap<(Ipv4Addr, u16, u8), ServiceModel>,
    /// Number → state.
    pub(crate) leases: HashMap<u32, LeaseModel>,
    pub(crate) backends: HashMap<u32, Backend>,
    /// Slot → index and MAC address.
    pub(crate) interfaces: HashMap<u16, (u32, Mac)>,
    pub(crate) directors: HashSet<Mac>,
    /// Address, port, protocol → VIP and port.
    pub(crate) nat_replies: HashMap<(Ipv4Addr, u16, u8), (Ipv4Addr, u16)>,
}

#[derive(Clone, Debug)]
pub(crate) struct ServiceModel {
    pub(crate) ring: Vec<u32>,
    pub(crate) lease: u32,
    pub(crate) has_local: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseModel {
    Owner,
    Backup,
    Expired,
}

/// What the model says becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) verdict: Verdict,
    pub(crate) action: u32,
    pub(crate) frame: Vec<u8>,
    /// The backend counted, with the bytes and whether a connection was opened.
    pub(crate) counted: Option<(u32, u64, bool)>,
}

/// The index of the interface packets come in by.
const INGRESS: u32 = 1;

impl Model {
    /// Decides about one frame.
    pub(crate) fn decide(&self, generic: bool, frame: &[u8]) -> Expected {
        let pass = |verdict| Expected { verdict, action: PASS, frame: frame.to_vec(), counted: None };
        let drop = |verdict| Expected { verdict, action: DROP, frame: frame.to_vec(), counted: None };

        match frame.get(12..14) {
            Some([8, 6]) => return self.arp(frame),
            Some([8, 0]) if frame.len() >= 34 => {}
            _ => return pass(Verdict::NotOurs),
        }
        let source = ipv4(frame, 26);
        let destination = ipv4(frame, 30);
        let payload = Payload::of(frame);

        if let Payload::Segment(segment) = &payload
            && let Some(service) =
                self.services.get(&(destination, segment.destination_port, segment.protocol))
        {
            if self.is_for_another(frame) {
                return pass(Verdict::OtherMac);
            }
            if service.has_local && self.directors.contains(&mac(frame, 6)) {
                return pass(Verdict::Delivered);
            }
            if self.leases[&service.lease] == LeaseModel::Expired {
                return drop(Verdict::LeaseExpired);
            }
            return self.steer(generic, frame, segment, service);
        }
        if let Some(lease) = self.vips.get(&destination) {
            if self.is_for_another(frame) {
                return pass(Verdict::OtherMac);
            }
            return match (payload, self.leases[lease]) {
                (Payload::Malformed, _) => drop(Verdict::Malformed),
                (_, LeaseModel::Expired) => drop(Verdict::LeaseExpired),
                (_, LeaseModel::Owner) => pass(Verdict::VipStack),
                (_, LeaseModel::Backup) => drop(Verdict::VipNotOwner),
            };
        }
        let Payload::Segment(segment) = payload else { return pass(Verdict::NotOurs) };
        let Some(&(vip, port)) = self.nat_replies.get(&(source, segment.source_port, segment.protocol))
        else {
            return pass(Verdict::NotOurs);
        };
        if self.is_for_another(frame) {
            return pass(Verdict::OtherMac);
        }
        // The routes and neighbours of `world::build_network`.
        match destination {
            CLIENT if frame[22] <= 1 => drop(Verdict::TtlExpired),
            CLIENT => Expected {
                verdict: Verdict::NatReply,
                action: REDIRECT,
                frame: segment.forward(
                    generic,
                    frame,
                    (CLIENT_MAC, FAR_MAC),
                    Some(((vip, port), (destination, segment.destination_port))),
                ),
                counted: None,
            },
            OWN_ADDRESS => pass(Verdict::NotOurs),
            other if other.octets()[..3] == [10, 0, 0] => drop(Verdict::NoRoute),
            _ => pass(Verdict::NotOurs),
        }
    }

    /// Whether the frame is for another address than that of the interface it came in by.
    fn is_for_another(&self, frame: &[u8]) -> bool {
        !self.interfaces.values().any(|&(ifindex, own)| ifindex == INGRESS && mac(frame, 0) == own)
    }

    fn arp(&self, frame: &[u8]) -> Expected {
        let expected = |verdict, action| Expected { verdict, action, frame: frame.to_vec(), counted: None };
        let lease = (frame.len() >= 42 && frame[14..22] == [0, 1, 8, 0, 6, 4, 0, 1])
            .then(|| self.vips.get(&ipv4(frame, 38)))
            .flatten();
        match lease.map(|lease| self.leases[lease]) {
            None => expected(Verdict::NotOurs, PASS),
            _ if frame[0] & 1 == 0 && self.is_for_another(frame) => expected(Verdict::OtherMac, PASS),
            Some(LeaseModel::Owner) => expected(Verdict::ArpOwner, PASS),
            Some(LeaseModel::Backup) => expected(Verdict::ArpNotOwner, DROP),
            Some(LeaseModel::Expired) => expected(Verdict::ArpLeaseExpired, DROP),
        }
    }

    fn steer(&self, generic: bool, frame: &[u8], segment: &Segment, service: &ServiceModel) -> Expected {
        let expected = |verdict, action, frame: Vec<u8>| Expected { verdict, action, frame, counted: None };
        let drop = |verdict| expected(verdict, DROP, frame.to_vec());
        let (source, destination) = (ipv4(frame, 26), ipv4(frame, 30));
        if service.ring.is_empty() {
            return drop(Verdict::NoBackend);
        }
        let flow = Flow {
            source: address(source),
            destination: address(destination),
            source_port: Be16::new(segment.source_port),
            destination_port: Be16::new(segment.destination_port),
            protocol: segment.protocol,
        };
        let id = service.ring[slot(flow.hash(), service.ring.len() as u32) as usize];
        if id == 0 {
            return drop(Verdict::NoBackend);
        }
        let backend = self.backends[&id];
        let counted = Some((id, segment.end as u64, segment.opens));
        if backend.mode == MODE_LOCAL {
            return Expected { counted, ..expected(Verdict::Local, PASS, frame.to_vec()) };
        }
        assert!(
            backend.mode == MODE_DR || backend.mode == MODE_NAT,
            "the configurations have no other modes"
        );
        if backend.next_hop == NextHop::UNRESOLVED {
            return drop(Verdict::NoNeighbour);
        }
        if frame[22] <= 1 {
            return drop(Verdict::TtlExpired);
        }
        let (ifindex, own_mac) = self.interfaces[&backend.next_hop.slot()];
        let action = if ifindex == INGRESS { TX } else { REDIRECT };
        let macs = (backend.next_hop.mac(), own_mac);
        let (verdict, ends) = if backend.mode == MODE_DR {
            (Verdict::Dr, None)
        } else {
            let to = (Ipv4Addr::from(backend.address.0[3].octets()), backend.port.get());
            (Verdict::Nat, Some(((source, segment.source_port), to)))
        };
        Expected { counted, ..expected(verdict, action, segment.forward(generic, frame, macs, ends)) }
    }
}

/// What follows an IPv4 header.
enum Payload {
    Segment(Segment),
    Other,
    Malformed,
}

/// A TCP or UDP segment: where it is and what it says.
struct Segment {
    start: usize,
    end: usize,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
    opens: bool,
    /// Where the checksum field is.
    checksum: usize,
}

type End = (Ipv4Addr, u16);

impl Payload {
    fn of(frame: &[u8]) -> Self {
        let header = usize::from(frame[14] & 15) * 4;
        let total = usize::from(word(frame, 16));
        if frame[14] >> 4 != 4 || header < 20 || total < header || 14 + total > frame.len() {
            return Self::Malformed;
        }
        let (start, end, protocol) = (14 + header, 14 + total, frame[23]);
        let (shortest, checksum) = match protocol {
            6 => (20, start + 16),
            17 => (8, start + 6),
            _ => return Self::Other,
        };
        if end - start < shortest {
            return Self::Malformed;
        }
        Self::Segment(Segment {
            start,
            end,
            protocol,
            source_port: word(frame, start),
            destination_port: word(frame, start + 2),
            opens: protocol == 6 && frame[start + 13] & 0x12 == 0x02,
            checksum,
        })
    }
}

impl Segment {
    /// The frame with new Ethernet addresses (destination, source), one hop fewer, new ends (source, destination) if
    /// any, and its checksums as right or wrong as they were.
    fn forward(&self, generic: bool, frame: &[u8], macs: (Mac, Mac), ends: Option<(End, End)>) -> Vec<u8> {
        let mut out = frame.to_vec();
        out[..6].copy_from_slice(&macs.0.0);
        out[6..12].copy_from_slice(&macs.1.0);
        out[22] -= 1;
        if let Some((source, destination)) = ends {
            out[26..30].copy_from_slice(&source.0.octets());
            out[30..34].copy_from_slice(&destination.0.octets());
            put(&mut out, self.start, source.1);
            put(&mut out, self.start + 2, destination.1);
        }

        let header = |frame: &[u8]| !sum(&without(frame, 24)[14..self.start]);
        let in_header = word(frame, 24);
        let out_header = carry_over(in_header, header(frame), header(&out));
        put(&mut out, 24, out_header);

        let field = word(frame, self.checksum);
        let whole = |frame: &[u8]| {
            let bytes = without(frame, self.checksum);
            let sum = !ones_complement_sum([self.pseudo_header(frame), sum(&bytes[self.start..self.end])]);
            if self.protocol == 17 && sum == 0 { 0xffff } else { sum }
        };
        let partial = field == self.pseudo_header(frame);
        let new = if self.protocol == 17 && field == 0 {
            0
        } else if partial && !generic {
            whole(&out)
        } else if partial && generic && !same(field, whole(frame)) && ends.is_some() {
            self.pseudo_header(&out)
        } else if ends.is_none() {
            field
        } else {
            let new = carry_over(field, whole(frame), whole(&out));
            if self.protocol == 17 && new == 0 { 0xffff } else { new }
        };
        put(&mut out, self.checksum, new);
        out
    }

    fn pseudo_header(&self, frame: &[u8]) -> u16 {
        let addresses = frame[26..34].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        let length = (self.end - self.start) as u16;
        ones_complement_sum(addresses.chain([u16::from(self.protocol), length]))
    }
}

/// The checksum that is wrong by as much as `field` is, where it should be `right`, and that should be `new`.
fn carry_over(field: u16, right: u16, new: u16) -> u16 {
    if same(field, right) { new } else { ones_complement_sum([new, field, !right]) }
}

/// Whether two values are the same in one's complement, which has two zeros.
pub(crate) fn same(a: u16, b: u16) -> bool {
    a == b || (a == 0 && b == 0xffff) || (a == 0xffff && b == 0)
}

fn sum(bytes: &[u8]) -> u16 {
    ones_complement_sum(
        bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])),
    )
}

fn without(frame: &[u8], field: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    put(&mut frame, field, 0);
    frame
}

fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn ipv4(frame: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3])
}

fn mac(frame: &[u8], at: usize) -> Mac {
    let mut mac = Mac::default();
    mac.0.copy_from_slice(&frame[at..at + 6]);
    mac
}
