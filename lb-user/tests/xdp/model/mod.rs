//! The reference model: what the XDP program should do, written the plain way over whole byte strings, with every
//! checksum computed from nothing. Of the program's own code it shares nothing but the contract in `lb-common`.

mod icmp;
mod parse;
mod send;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use lb_common::{
    Backend, Be16, Flow, FlowKey, MODE_DR, MODE_GUE, MODE_IPIP, MODE_LOCAL, MODE_NAT, Mac, NextHop, Verdict,
    slot,
};

use self::parse::{Ip, Kind, Segment};
use crate::{
    packets::{CLIENT, CLIENT_MAC, CLIENT6},
    world::{DROP, FAR_MAC, PASS, REDIRECT, TX, address},
};

/// The maps, and what the network namespace adds to them (`world::build_network`).
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) vips: BTreeMap<IpAddr, VipModel>,
    /// Address, port, protocol → service.
    pub(crate) services: BTreeMap<(IpAddr, u16, u8), ServiceModel>,
    /// Services of ranges of ports.
    pub(crate) ranges: BTreeMap<RangeModel, ServiceModel>,
    /// Number → state.
    pub(crate) leases: BTreeMap<u32, LeaseModel>,
    pub(crate) backends: BTreeMap<u32, Backend>,
    /// Slot → index, MAC address and MTU.
    pub(crate) interfaces: BTreeMap<u16, (u32, Mac, u16)>,
    /// That of the interface packets come in by; if it is not known, frames for anybody are taken.
    pub(crate) own_mac: Option<Mac>,
    pub(crate) directors: HashSet<Mac>,
    /// Who may encapsulate.
    pub(crate) tunnel_sources: Vec<IpNet>,
    /// Address, port, protocol → VIP and port.
    pub(crate) nat_replies: BTreeMap<(IpAddr, u16, u8), (IpAddr, u16)>,
    pub(crate) flows: HashMap<FlowKey, Remembered>,
    /// The running packet's time.
    pub(crate) when: When,
    /// What was remembered of the packet's flow before, if the clock does not tell whether that is too long ago.
    pub(crate) doubted: Option<(FlowKey, Remembered)>,
}

/// What is known of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) backend: u32,
    /// When its latest packet came.
    seen: When,
}

/// When the program ran: between these, in nanoseconds of the clock that it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct When {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// What to believe where that does not tell whether something was too long ago.
    pub(crate) doubtful_is_old: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct VipModel {
    pub(crate) lease: u32,
    pub(crate) has_ranges: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RangeModel {
    pub(crate) vip: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) first: u16,
    /// How many of a port's upper bits are those of `first`.
    pub(crate) bits: u8,
}

#[derive(Clone, Debug)]
pub(crate) struct ServiceModel {
    /// Of its ring; that of the previous backends is one behind.
    pub(crate) index: u32,
    pub(crate) ring: Vec<SlotModel>,
    pub(crate) lease: u32,
    pub(crate) has_local: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotModel {
    /// 0: nobody.
    pub(crate) current: u32,
    pub(crate) previous: u32,
    pub(crate) unsettled: bool,
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
    /// Checksum fields of it that came in wrong. One's complement has two zeros, and either is as wrong as before.
    pub(crate) either_zero: Vec<usize>,
    /// The backend counted, with the bytes and whether a connection was opened.
    pub(crate) counted: Option<(u32, u64, bool)>,
}

/// Where a frame goes next.
#[derive(Clone, Copy)]
struct Hop {
    destination: Mac,
    source: Mac,
    mtu: u16,
    action: u32,
}

/// What the routing and neighbour tables say.
enum Route {
    Neighbour(Hop),
    /// Its neighbour is not known, or the route leads nowhere.
    Nowhere,
    /// For this node, for everybody, or no route at all.
    NotForwarded,
}

/// The index of the interface packets come in by.
const INGRESS: u32 = 1;
/// The longest IP packet it takes.
const INGRESS_MTU: usize = 2_000;
const GUE_PORT: u16 = 6_080;

fn untouched(verdict: Verdict, action: u32, frame: &[u8]) -> Expected {
    Expected { verdict, action, frame: frame.to_vec(), either_zero: Vec::new(), counted: None }
}

fn pass(verdict: Verdict, frame: &[u8]) -> Expected {
    untouched(verdict, PASS, frame)
}

fn drop(verdict: Verdict, frame: &[u8]) -> Expected {
    untouched(verdict, DROP, frame)
}

impl Model {
    /// Decides about one frame that the program has met, and remembers its flow if it must be.
    pub(crate) fn decide(&mut self, generic: bool, frame: &[u8], when: When) -> Expected {
        (self.when, self.doubted) = (when, None);
        if frame.get(12..14) == Some(&[8, 6]) {
            return match arp_target(frame).and_then(|target| self.vips.get(&target)) {
                Some(vip) => self.asked_for(vip.lease, frame),
                None => pass(Verdict::NotOurs, frame),
            };
        }
        let Some(ip) = Ip::of(frame) else { return pass(Verdict::NotOurs, frame) };
        let kind = Kind::of(&ip, frame);
        if let Kind::Icmp { start } = kind
            && let Some(vip) = solicited(frame, &ip, start).and_then(|target| self.vips.get(&target))
        {
            return self.asked_for(vip.lease, frame);
        }
        if let Kind::Segment(segment) = &kind
            && let Some(service) =
                self.service(ip.destination, segment.destination_port, segment.protocol).cloned()
        {
            return self.serve(generic, frame, &ip, segment, &service);
        }
        let is_error = matches!(kind, Kind::Icmp { start } if icmp::is_error(frame, &ip, start));
        if let Some(vip) = self.vips.get(&ip.destination).filter(|_| !is_error) {
            return self.no_service(vip.lease, &kind, frame);
        }
        let has_local = self.services.values().chain(self.ranges.values()).any(|service| service.has_local);
        match &kind {
            Kind::Segment(segment)
                if segment.protocol == 17 && segment.destination_port == GUE_PORT && has_local =>
            {
                self.decapsulate(frame, &ip, segment.start + 8)
            }
            Kind::Icmp { start } if is_error => self.error(generic, frame, &ip, *start),
            Kind::Packet { start } if has_local => self.decapsulate(frame, &ip, *start),
            Kind::Segment(segment) => self.reply(generic, frame, &ip, segment),
            _ => pass(Verdict::NotOurs, frame),
        }
    }

    /// Whether a frame has a piece of a packet that may have to follow the piece before.
    pub(crate) fn is_piece(&self, frame: &[u8]) -> bool {
        Ip::of(frame).is_some_and(|ip| {
            let is_ours = self.vips.contains_key(&ip.destination) || !self.nat_replies.is_empty();
            is_ours && matches!(Kind::of(&ip, frame), Kind::Fragment)
        })
    }

    /// Whether the frame is for another machine's MAC address, or for several machines.
    fn is_for_another(&self, frame: &[u8]) -> bool {
        self.own_mac.is_some_and(|own| parse::mac(frame, 0) != own)
    }

    /// An ARP request or a neighbour solicitation for a VIP.
    fn asked_for(&self, lease: u32, frame: &[u8]) -> Expected {
        // Whoever asks everybody asks us too.
        if frame[0] & 1 == 0 && self.is_for_another(frame) {
            return pass(Verdict::OtherMac, frame);
        }
        match self.leases.get(&lease) {
            Some(LeaseModel::Owner) => pass(Verdict::ArpOwner, frame),
            Some(LeaseModel::Backup) => drop(Verdict::ArpNotOwner, frame),
            Some(LeaseModel::Expired) => drop(Verdict::ArpLeaseExpired, frame),
            None => drop(Verdict::Internal, frame),
        }
    }

    /// A packet to a VIP but to no service of it.
    fn no_service(&self, lease: u32, kind: &Kind, frame: &[u8]) -> Expected {
        if self.is_for_another(frame) {
            return pass(Verdict::OtherMac, frame);
        }
        match (kind, self.leases.get(&lease)) {
            (_, None) => drop(Verdict::Internal, frame),
            (Kind::Malformed, _) => drop(Verdict::Malformed, frame),
            (_, Some(LeaseModel::Expired)) => drop(Verdict::LeaseExpired, frame),
            (_, Some(LeaseModel::Owner)) => pass(Verdict::VipStack, frame),
            (_, Some(LeaseModel::Backup)) => drop(Verdict::VipNotOwner, frame),
        }
    }

    /// A service of this one port, or else the one of the smallest range.
    fn service(&self, vip: IpAddr, port: u16, protocol: u8) -> Option<&ServiceModel> {
        let exact = self.services.get(&(vip, port, protocol));
        if exact.is_some() || !self.vips.get(&vip).is_some_and(|vip| vip.has_ranges) {
            return exact;
        }
        self.ranges
            .iter()
            .filter(|(range, _)| (range.vip, range.protocol) == (vip, protocol))
            .filter(|(range, _)| u32::from(port ^ range.first) >> (16 - range.bits) == 0)
            .max_by_key(|(range, _)| range.bits)
            .map(|(_, service)| service)
    }

    /// What becomes of a packet to a service that is not steered.
    fn refused(&self, frame: &[u8], service: &ServiceModel) -> Option<Expected> {
        if self.is_for_another(frame) {
            return Some(pass(Verdict::OtherMac, frame));
        }
        if service.has_local && self.directors.contains(&parse::mac(frame, 6)) {
            return Some(pass(Verdict::Delivered, frame));
        }
        match self.leases.get(&service.lease) {
            None => Some(drop(Verdict::Internal, frame)),
            Some(LeaseModel::Expired) => Some(drop(Verdict::LeaseExpired, frame)),
            Some(LeaseModel::Owner | LeaseModel::Backup) => None,
        }
    }

    /// A packet to a service.
    fn serve(
        &mut self,
        generic: bool,
        frame: &[u8],
        ip: &Ip,
        segment: &Segment,
        service: &ServiceModel,
    ) -> Expected {
        if let Some(expected) = self.refused(frame, service) {
            return expected;
        }
        if service.ring.is_empty() {
            return drop(Verdict::NoBackend, frame);
        }
        let flow = Flow {
            source: address(ip.source),
            destination: address(ip.destination),
            source_port: Be16::new(segment.source_port),
            destination_port: Be16::new(segment.destination_port),
            protocol: segment.protocol,
        };
        let slot = service.ring[slot(flow.hash(), service.ring.len() as u32) as usize];
        let id = self.choose(flow.key(), slot, segment.opens);
        let backend = match self.backend(id) {
            Ok(backend) => backend,
            Err(verdict) => return drop(verdict, frame),
        };
        let Some(expected) = self.forward(generic, frame, ip, segment, backend, flow.hash()) else {
            return self.too_big(generic, frame, ip, segment, id);
        };
        let steered = matches!(
            expected.verdict,
            Verdict::Local | Verdict::Dr | Verdict::Nat | Verdict::Ipip | Verdict::Gue
        );
        Expected { counted: steered.then_some((id, segment.end as u64, segment.opens)), ..expected }
    }

    /// The table in ARCHITECTURE.md, "Unsettled slots".
    fn choose(&mut self, flow: FlowKey, slot: SlotModel, opens: bool) -> u32 {
        if !slot.unsettled {
            return slot.current;
        }
        if let Some(known) = self.flows.get(&flow).copied()
            && !(opens && self.is_old(flow, known))
        {
            self.flows.insert(flow, Remembered { seen: self.when, ..known });
            if self.is_usable(known.backend) {
                return known.backend;
            }
        }
        let id = if opens { slot.current } else { self.belongs(flow, slot) };
        if id != 0 {
            self.flows.insert(flow, Remembered { backend: id, seen: self.when });
        }
        id
    }

    /// Whether a flow's latest packet came so long ago that what opens a connection is another one's.
    fn is_old(&mut self, flow: FlowKey, known: Remembered) -> bool {
        const OPENS_AGAIN: u64 = 1_200_000_000;
        if self.when.from.saturating_sub(known.seen.to) > OPENS_AGAIN {
            return true;
        }
        if self.when.to - known.seen.from <= OPENS_AGAIN {
            return false;
        }
        self.doubted = Some((flow, known));
        self.when.doubtful_is_old
    }

    fn is_usable(&self, id: u32) -> bool {
        self.backends.get(&id).is_some_and(|backend| backend.flags & Backend::FAILED == 0)
    }

    /// The backend a flow belongs to by what is known of it.
    fn belongs(&self, flow: FlowKey, slot: SlotModel) -> u32 {
        let remembered = self.flows.get(&flow).map(|known| known.backend);
        let is_local =
            |id| self.backends.get(&id).is_some_and(|backend: &Backend| backend.mode == MODE_LOCAL);
        if !slot.unsettled {
            slot.current
        } else if let Some(id) = remembered.filter(|id| self.is_usable(*id)) {
            id
        } else if flow.protocol == 6 && slot.previous != slot.current && is_local(slot.previous) {
            // The previous backend is this node's own, which has no socket for the flow: the namespace has none at all.
            slot.current
        } else {
            slot.previous
        }
    }

    fn backend(&self, id: u32) -> Result<&Backend, Verdict> {
        match id {
            0 => Err(Verdict::NoBackend),
            id => self.backends.get(&id).ok_or(Verdict::Internal),
        }
    }

    /// The next station on the way to a backend.
    fn hop(&self, backend: &Backend) -> Result<Hop, Verdict> {
        if backend.next_hop == NextHop::UNRESOLVED {
            return Err(Verdict::NoNeighbour);
        }
        let &(ifindex, source, mtu) =
            self.interfaces.get(&backend.next_hop.slot()).ok_or(Verdict::Internal)?;
        let action = if ifindex == INGRESS { TX } else { REDIRECT };
        Ok(Hop { destination: backend.next_hop.mac(), source, mtu, action })
    }

    /// A packet to a backend; `None` if it is too big for the way there.
    fn forward(
        &self,
        generic: bool,
        frame: &[u8],
        ip: &Ip,
        segment: &Segment,
        backend: &Backend,
        hash: u32,
    ) -> Option<Expected> {
        if backend.mode == MODE_LOCAL {
            return Some(pass(Verdict::Local, frame));
        }
        if ![MODE_DR, MODE_NAT, MODE_IPIP, MODE_GUE].contains(&backend.mode) {
            return Some(drop(Verdict::Internal, frame));
        }
        let hop = match self.hop(backend) {
            Ok(hop) => hop,
            Err(verdict) => return Some(drop(verdict, frame)),
        };
        if ip.hops(frame) <= 1 {
            return Some(drop(Verdict::TtlExpired, frame));
        }
        // What generic mode cannot redirect by `nat` the stack forwards.
        let is_cut = generic && backend.mode == MODE_NAT;
        if ip.end - 14 > longest(generic, backend, hop) && !is_cut {
            return None;
        }
        Some(match backend.mode {
            MODE_DR => send::on(generic, frame, ip, segment, hop),
            MODE_NAT => {
                let to = (IpAddr::from(backend.address), backend.port.get());
                let from = (ip.source, segment.source_port);
                send::rewritten(Verdict::Nat, generic, frame, ip, segment, hop, (from, to))
            }
            _ => send::within(generic, frame, ip, Some(segment), backend, hop, hash),
        })
    }

    /// A packet that does not fit: its sender is told, if that is a host and the packet is one of its own.
    fn too_big(&self, generic: bool, frame: &[u8], ip: &Ip, segment: &Segment, id: u32) -> Expected {
        // Longer than what it came in by takes: the kernel merged it.
        if generic && ip.end - 14 > INGRESS_MTU {
            return drop(Verdict::TooLong, frame);
        }
        let mtu = match self.backend(id).and_then(|backend| Ok((backend, self.hop(backend)?))) {
            Ok((backend, hop)) => longest(generic, backend, hop),
            Err(verdict) => return drop(verdict, frame),
        };
        icmp::answer(generic, frame, ip, segment, mtu).unwrap_or_else(|| drop(Verdict::TooBigDropped, frame))
    }

    /// A packet that carries another one, which begins at `start`.
    fn decapsulate(&self, frame: &[u8], outer: &Ip, start: usize) -> Expected {
        let mut within = frame[..12].to_vec();
        let version = frame.get(start).map(|byte| byte >> 4);
        within.extend(if version == Some(4) { [8, 0] } else { [0x86, 0xdd] });
        within.extend(frame.get(start..).unwrap_or_default());
        let is_for_local_backend = Ip::of(&within).is_some_and(|ip| match Kind::of(&ip, &within) {
            // About a packet of a local backend, or else the stack sees to it.
            Kind::Icmp { start } if icmp::is_error(&within, &ip, start) => {
                self.vips.contains_key(&ip.destination)
            }
            Kind::Segment(segment) => self
                .service(ip.destination, segment.destination_port, segment.protocol)
                .is_some_and(|service| service.has_local),
            Kind::Fragment => self.vips.contains_key(&ip.destination),
            _ => false,
        });
        if is_for_local_backend && self.is_for_another(frame) {
            return pass(Verdict::OtherMac, frame);
        }
        if !is_for_local_backend || !matches!(route(outer.destination), Route::NotForwarded) {
            return pass(Verdict::NotOurs, frame);
        }
        if !self.tunnel_sources.iter().any(|network| network.contains(&outer.source)) {
            return pass(Verdict::TunnelStranger, frame);
        }
        match (outer.ecn(frame), Ip::of(&within).map_or(0, |ip| ip.ecn(&within))) {
            (3, 0) => return drop(Verdict::Malformed, frame),
            (3, _) => parse::mark_congestion(&mut within),
            _ => {}
        }
        pass(Verdict::Decapsulated, &within)
    }

    /// What is perhaps a `nat` backend's reply.
    fn reply(&self, generic: bool, frame: &[u8], ip: &Ip, segment: &Segment) -> Expected {
        let Some(&from) = self.nat_replies.get(&(ip.source, segment.source_port, segment.protocol)) else {
            return pass(Verdict::NotOurs, frame);
        };
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
        let to = (ip.destination, segment.destination_port);
        send::rewritten(Verdict::NatReply, generic, frame, ip, segment, hop, (from, to))
    }
}

/// The longest IP packet that gets to a backend in one piece.
fn longest(generic: bool, backend: &Backend, hop: Hop) -> usize {
    let outer = match (backend.mode, IpAddr::from(backend.address)) {
        (MODE_IPIP, IpAddr::V4(_)) => 20,
        (MODE_IPIP, IpAddr::V6(_)) => 40,
        (MODE_GUE, IpAddr::V4(_)) => 28,
        (MODE_GUE, IpAddr::V6(_)) => 48,
        _ if hop.action == TX => return usize::MAX,
        _ => return usize::from(hop.mtu),
    };
    let room = if backend.mtu == 0 { usize::MAX } else { usize::from(backend.mtu).saturating_sub(outer) };
    // What generic mode cannot send the kernel cannot cut either, not knowing of the outer header.
    if generic { room.min(usize::from(hop.mtu)) } else { room }
}

/// Asks the tables of `world::build_network`.
fn route(to: IpAddr) -> Route {
    let is_near = match to {
        IpAddr::V4(to) => to.octets()[..3] == [10, 0, 0] && ![1, 255].contains(&to.octets()[3]),
        // The first address is the anycast address of all routers.
        IpAddr::V6(to) => {
            to.segments()[..4] == [0x2001, 0xdb8, 0, 0]
                && ![Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), crate::world::OWN_ADDRESS6].contains(&to)
        }
    };
    if to == CLIENT || to == CLIENT6 {
        let hop = Hop { destination: CLIENT_MAC, source: FAR_MAC, mtu: 1500, action: REDIRECT };
        Route::Neighbour(hop)
    } else if is_near || matches!(to, IpAddr::V4(to) if to.octets()[..3] == [203, 0, 113]) {
        Route::Nowhere
    } else {
        Route::NotForwarded
    }
}

/// Whom an ARP request for an IPv4 address over Ethernet is about.
fn arp_target(frame: &[u8]) -> Option<IpAddr> {
    let target: [u8; 4] = frame.get(38..42)?.try_into().ok()?;
    (frame[14..22] == [0, 1, 8, 0, 6, 4, 0, 1]).then(|| Ipv4Addr::from(target).into())
}

/// Whom a neighbour solicitation at `start` is about.
fn solicited(frame: &[u8], ip: &Ip, start: usize) -> Option<IpAddr> {
    let target: [u8; 16] = frame.get(start + 8..start + 24)?.try_into().ok()?;
    (ip.destination.is_ipv6() && frame[start] == 135).then(|| Ipv6Addr::from(target).into())
}
