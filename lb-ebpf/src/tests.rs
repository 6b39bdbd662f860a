//! The whole way of a packet on the host, with maps that are collections. The loaded program has the larger tables, in
//! `lb-user/tests/xdp`; here is what they cannot set: clocks and routes.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
};

use lb_common::{
    Address, Backend, Be16, Be32, Device, FlowKey, FlowState, FragmentKey, FragmentState, Interface, MODE_DR,
    MODE_LOCAL, MODE_NAT, Mac, NatReply, NatReplyKey, NatReplyKey6, NextHop, Ownership, RangeKey, Service,
    ServiceKey, ServiceKey6, Stage, Tag, Verdict, Vip, VirtualMac, VlanKey, ownership,
};

use crate::{
    backend::BackendEntry,
    checksum,
    decision::{Action, Decision, Egress, Way, action},
    kernel::{Kept, Kernel, LONGEST_SUM, Question, Route},
    packet::{Header, Packet},
    vlan::Tags,
};

mod addressed;
mod fragments;
mod icmp;
mod too_big;
mod traced;
mod track;
mod vlan;

const CLIENT: Be32 = Be32::from_octets([10, 0, 0, 9]);
const VIP: Be32 = Be32::from_octets([172, 20, 128, 4]);
const BACKEND: Be32 = Be32::from_octets([10, 0, 0, 20]);
const NEIGHBOUR: Mac = Mac([2, 0, 0, 0, 0, 0x20]);
const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
const INGRESS: u32 = 7;

/// One VIP with one TCP service on port 80, one backend with the identifier 1.
struct Maps {
    lease: u64,
    now: u64,
    now_coarse: u64,
    backend: Backend,
    /// Every slot of the service's ring.
    slot: u32,
    /// Every slot of the ring of previous backends.
    previous: u32,
    flows: RefCell<HashMap<FlowKey, FlowState>>,
    fragments: RefCell<HashMap<FragmentKey, FragmentState>>,
    failed: HashSet<u32>,
    /// The backend that is this node itself.
    own: Option<u32>,
    connections: HashSet<FlowKey>,
    interfaces: HashMap<u16, Interface>,
    directors: HashSet<u64>,
    devices: Vec<Device>,
    virtual_macs: HashMap<VirtualMac, u32>,
    /// The flags of the VIP.
    vip_flags: u32,
    tags: Cell<Tags>,
    route: Route,
    asked: Cell<Option<Question>>,
    /// The buffer the frame is in, and where in it the frame starts and ends.
    buffer: Cell<*mut u8>,
    frame: Cell<(usize, usize)>,
    /// The MTU of every interface.
    mtu: u32,
    may_answer: bool,
    verdicts: RefCell<Vec<Verdict>>,
    counted: RefCell<Vec<(u32, u32, bool)>>,
}

impl Maps {
    fn new(mode: u8) -> Self {
        Self {
            lease: 1_000,
            now: 500,
            now_coarse: 500,
            backend: Backend {
                next_hop: NextHop::new(NEIGHBOUR, 1),
                address: BACKEND.into(),
                port: Be16::new(8_080),
                mode,
                ..Backend::default()
            },
            slot: 1,
            previous: 0,
            flows: RefCell::default(),
            fragments: RefCell::default(),
            failed: HashSet::new(),
            own: None,
            connections: HashSet::new(),
            interfaces: HashMap::from([(
                1,
                Interface { ifindex: INGRESS, mac: OWN, mtu: 1500, ..Interface::default() },
            )]),
            directors: HashSet::new(),
            virtual_macs: HashMap::new(),
            vip_flags: 0,
            devices: vec![Device { ifindex: INGRESS, mac: OWN, ..Device::default() }],
            tags: Cell::new(Tags::NONE),
            route: Route::NotForwarded,
            asked: Cell::new(None),
            buffer: Cell::new(core::ptr::null_mut()),
            frame: Cell::new((0, 0)),
            mtu: 1500,
            may_answer: true,
            verdicts: RefCell::default(),
            counted: RefCell::default(),
        }
    }

    fn run<const GENERIC: bool>(&mut self, frame: &mut [u8]) -> Decision {
        self.run_within::<GENERIC>(frame, 0)
    }

    /// The same where there is room before the frame; what the frame is then.
    fn run_with_room<const GENERIC: bool>(&mut self, frame: &[u8]) -> (Decision, Vec<u8>) {
        const ROOM: usize = 64;
        let mut buffer = [&[0; ROOM], frame].concat();
        let decision = self.run_within::<GENERIC>(&mut buffer, ROOM);
        assert!(crate::vlan::leave(&*self, decision), "there is room");
        let (start, end) = self.frame.get();
        (decision, buffer[start..end].to_vec())
    }

    fn run_within<const GENERIC: bool>(&mut self, buffer: &mut [u8], start: usize) -> Decision {
        self.buffer.set(buffer.as_mut_ptr());
        self.frame.set((start, buffer.len()));
        self.tags.set(Tags::NONE);
        let mut decision = crate::run::<_, GENERIC>(&*self, self.packet());
        while decision.egress.way == Way::Stage {
            let stage = Stage::ALL[decision.egress.number as usize];
            decision = crate::run_stage::<_, GENERIC>(&*self, self.packet(), stage);
        }
        self.count(decision.verdict);
        decision
    }

    fn packet(&self) -> Packet {
        let (start, end) = self.frame.get();
        // SAFETY: the buffer outlives the run, the frame lies in it, and only the packet is used meanwhile.
        unsafe { Packet::new(self.buffer.get().add(start), self.buffer.get().add(end)) }
    }
}

impl Kernel for Maps {
    fn ingress(&self) -> u32 {
        INGRESS
    }

    fn logical_ingress(&self) -> u32 {
        let tags = self.tags.get();
        if tags == Tags::NONE { INGRESS } else { tags.device }
    }

    fn keep_tags(&self, tags: &Tags) {
        self.tags.set(*tags);
    }

    fn tags(&self) -> Tags {
        self.tags.get()
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn now_coarse(&self) -> u64 {
        self.now_coarse
    }

    fn may_be_vip(&self, bit: u32) -> bool {
        bit == Address::from(VIP).filter_bit()
    }

    fn kept(&self, _: &ServiceKey) -> Kept<'_> {
        Kept::Nothing(0)
    }

    fn keep(&self, _: &ServiceKey, _: &Service, _: u32) {}

    fn kept6(&self, _: &ServiceKey6) -> Kept<'_> {
        Kept::Nothing(0)
    }

    fn keep6(&self, _: &ServiceKey6, _: &Service, _: u32) {}

    fn vip(&self, address: Be32) -> Option<Vip> {
        (address == VIP).then_some(Vip { lease: 1, flags: self.vip_flags })
    }

    fn service(&self, key: &ServiceKey) -> Option<Service> {
        let service = ServiceKey { address: VIP, port: Be16::new(80), protocol: 6, reserved: 0 };
        (*key == service).then_some(Service {
            ring: 3,
            ring_size: 5,
            lease: 1,
            flags: Service::HAS_LOCAL,
            previous: 4,
            ..Service::default()
        })
    }

    fn vip6(&self, _: &Address) -> Option<Vip> {
        None
    }

    fn service6(&self, _: &ServiceKey6) -> Option<Service> {
        None
    }

    fn service_range(&self, _: RangeKey) -> Option<Service> {
        None
    }

    fn nat_reply6(&self, _: &NatReplyKey6) -> Option<NatReply> {
        None
    }

    fn lease(&self, number: u32) -> Option<u64> {
        (number == 1).then_some(self.lease)
    }

    fn ownership(&self, number: u32) -> Option<Ownership> {
        self.lease(number).map(|expiry| ownership(expiry, self.now_coarse()))
    }

    fn slot(&self, ring: u32, slot: u32) -> Option<u32> {
        let value = if ring == 4 { self.previous } else { self.slot };
        (ring == 3 || ring == 4).then_some(value).filter(|_| slot < 5)
    }

    fn recall(&self, key: &FlowKey, now: u64, since: u64) -> Option<u32> {
        let mut flows = self.flows.borrow_mut();
        let state = flows.get_mut(key).filter(|state| state.last_seen >= since)?;
        state.last_seen = now;
        Some(state.backend)
    }

    fn peek(&self, key: &FlowKey, since: u64) -> Option<u32> {
        self.flows.borrow().get(key).filter(|state| state.last_seen >= since).map(|state| state.backend)
    }

    fn remember(&self, key: &FlowKey, state: &FlowState) {
        self.flows.borrow_mut().insert(*key, *state);
    }

    fn recall_fragment(&self, key: &FragmentKey) -> Option<FragmentState> {
        self.fragments.borrow().get(key).copied()
    }

    fn remember_fragment(&self, key: &FragmentKey, state: &FragmentState) {
        self.fragments.borrow_mut().insert(*key, *state);
    }

    fn has_connection(&self, key: &FlowKey) -> bool {
        self.connections.contains(key)
    }

    fn backend(&self, id: u32) -> Option<BackendEntry<'_>> {
        let flags = if self.failed.contains(&id) { Backend::FAILED } else { 0 };
        let mode = if self.own == Some(id) { MODE_LOCAL } else { self.backend.mode };
        // It must stand somewhere.
        let backend = Backend { flags, mode, ..self.backend }.complete();
        let backend = Box::leak(Box::new(backend));
        (1..=3).contains(&id).then(|| (&*backend).into())
    }

    fn interface(&self, slot: u16) -> Option<Interface> {
        self.interfaces.get(&slot).copied()
    }

    fn device(&self, ifindex: u32) -> Option<Device> {
        self.devices.iter().find(|device| device.ifindex == ifindex).copied()
    }

    fn vlan(&self, key: &VlanKey) -> Option<u32> {
        let is_vlan = |device: &&Device| device.tag != Tag::NONE && device.vlan_key() == *key;
        self.devices.iter().find(is_vlan).map(|device| device.ifindex)
    }

    fn virtual_mac(&self, key: &VirtualMac) -> Option<u32> {
        self.virtual_macs.get(key).copied()
    }

    fn is_director(&self, mac_key: u64) -> bool {
        self.directors.contains(&mac_key)
    }

    fn is_tunnel_source(&self, _: Address) -> bool {
        true
    }

    fn has_nat_replies(&self) -> bool {
        true
    }

    fn has_local_services(&self) -> bool {
        true
    }

    fn nat_reply(&self, key: &NatReplyKey) -> Option<NatReply> {
        let from = NatReplyKey { address: BACKEND, port: Be16::new(8_080), protocol: 6, reserved: 0 };
        (*key == from).then_some(NatReply {
            address: VIP.into(),
            port: Be16::new(80),
            reserved: 0,
            backend: 1,
        })
    }

    fn route(&self, question: &Question) -> Route {
        self.asked.set(Some(*question));
        self.route
    }

    fn sum(&self, offset: u32, length: u32) -> Option<u32> {
        let packet = self.packet();
        if length > LONGEST_SUM || !packet.holds(offset + length) {
            return None;
        }
        let byte = |at: u32| packet.header_at::<1>(at).map(Header::read::<u8, 0>);
        (0..length).step_by(2).try_fold(0, |sum: u32, at| {
            let second = if at + 1 < length { byte(offset + at + 1)? } else { 0 };
            Some(sum + u32::from(u16::from_ne_bytes([byte(offset + at)?, second])))
        })
    }

    fn grow(&self, bytes: i32) -> Option<Packet> {
        let (start, end) = self.frame.get();
        self.frame.set((start.checked_add_signed(-bytes as isize)?, end));
        Some(self.packet())
    }

    fn cut(&self, length: u32) -> Option<Packet> {
        let (start, end) = self.frame.get();
        self.frame.set((start, end.min(start + length as usize)));
        (end >= start + length as usize).then(|| self.packet())
    }

    fn interface_mtu(&self, _: u32) -> Option<u32> {
        Some(self.mtu)
    }

    fn may_answer(&self) -> bool {
        self.may_answer
    }

    fn count(&self, verdict: Verdict) {
        self.verdicts.borrow_mut().push(verdict);
    }

    fn count_backend(&self, id: u32, bytes: u32, opens_connection: bool) {
        self.counted.borrow_mut().push((id, bytes, opens_connection));
    }
}

/// A SYN with three bytes of payload and right checksums.
fn segment(source: (Be32, u16), destination: (Be32, u16)) -> Vec<u8> {
    let mut frame = vec![0; 14 + 20 + 20 + 3];
    frame[..6].copy_from_slice(&OWN.0);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[17] = 43;
    frame[22] = 64;
    frame[23] = 6;
    frame[26..30].copy_from_slice(&source.0.octets());
    frame[30..34].copy_from_slice(&destination.0.octets());
    frame[34..36].copy_from_slice(&source.1.to_be_bytes());
    frame[36..38].copy_from_slice(&destination.1.to_be_bytes());
    frame[46] = 0x50;
    frame[47] = 2;
    frame[54..57].copy_from_slice(b"abc");
    let header = checksum::finish(sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&header.to_ne_bytes());
    let transport = checksum::finish(sum(&frame[34..]) + pseudo_header(&frame));
    frame[50..52].copy_from_slice(&transport.to_ne_bytes());
    frame
}

fn to_service() -> Vec<u8> {
    segment((CLIENT, 40_000), (VIP, 80))
}

fn reply() -> Vec<u8> {
    segment((BACKEND, 8_080), (CLIENT, 40_000))
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|c| u64::from(u16::from_ne_bytes([c[0], *c.get(1).unwrap_or(&0)]))).sum()
}

fn pseudo_header(frame: &[u8]) -> u64 {
    sum(&frame[26..34]) + u64::from(6_u16.to_be()) + u64::from(23_u16.to_be())
}

fn assert_checksums(frame: &[u8]) {
    assert_eq!(checksum::fold(sum(&frame[14..34])), 0xffff, "IPv4 header");
    assert_eq!(checksum::fold(sum(&frame[34..]) + pseudo_header(frame)), 0xffff, "TCP");
}

#[test]
fn dr_changes_ethernet_and_ttl_only() {
    let mut maps = Maps::new(MODE_DR);
    let (before, mut frame) = (to_service(), to_service());
    let decision = maps.run::<false>(&mut frame);

    assert_eq!(decision, Decision { verdict: Verdict::Dr, egress: Egress::back(Tag::NONE) });
    assert_eq!(frame[..6], NEIGHBOUR.0);
    assert_eq!(frame[6..12], OWN.0);
    assert_eq!(frame[22], 63);
    assert_eq!(frame[26..], before[26..]);
    assert_checksums(&frame);
    assert_eq!(*maps.counted.borrow(), [(1, 57, true)]);
    assert_eq!(*maps.verdicts.borrow(), [Verdict::Dr]);
}

#[test]
fn header_checksum_stays_right_whatever_it_was() {
    let mut maps = Maps::new(MODE_DR);
    for identification in 0..=u16::MAX {
        let mut frame = to_service();
        frame[18..20].copy_from_slice(&identification.to_ne_bytes());
        frame[24..26].fill(0);
        let header = checksum::finish(sum(&frame[14..34]));
        frame[24..26].copy_from_slice(&header.to_ne_bytes());

        maps.run::<false>(&mut frame);
        assert_eq!(frame[22], 63);
        assert_checksums(&frame);
    }
}

#[test]
fn another_interface_is_reached_through_its_slot() {
    let mut maps = Maps::new(MODE_DR);
    maps.interfaces
        .insert(1, Interface { ifindex: INGRESS + 1, mac: OWN, mtu: 1500, ..Interface::default() });
    assert_eq!(maps.run::<false>(&mut to_service()).egress, Egress::slot(1, Tag::NONE));
}

#[test]
fn what_generic_mode_cannot_redirect_goes_by_the_stack_or_is_counted() {
    let length = to_service().len();
    let mtu = length as u16 - 14 - 1;
    let back = Egress::back(Tag::NONE);
    // (mode, out through, verdict and egress in generic mode, in native mode)
    let cases = [
        (MODE_NAT, INGRESS + 1, (Verdict::Nat, Egress::STACK), (Verdict::TooBigDropped, Egress::NONE)),
        (MODE_NAT, INGRESS, (Verdict::Nat, back), (Verdict::Nat, back)),
        (MODE_DR, INGRESS + 1, (Verdict::TooLong, Egress::NONE), (Verdict::TooBigDropped, Egress::NONE)),
        (MODE_DR, INGRESS, (Verdict::Dr, back), (Verdict::Dr, back)),
    ];
    for (mode, ifindex, generic, native) in cases {
        let mut maps = Maps { mtu: u32::from(mtu), ..Maps::new(mode) };
        maps.interfaces.insert(1, Interface { ifindex, mac: OWN, mtu, ..Interface::default() });
        let mut frame = to_service();
        let decision = maps.run::<true>(&mut frame);
        assert_eq!((decision.verdict, decision.egress), generic, "{mode} {ifindex}");
        if decision.egress == Egress::STACK {
            // The stack takes it (the frame is still for this node) and counts the hop itself.
            assert_eq!((&frame[..12], frame[22]), (&to_service()[..12], to_service()[22]));
            assert_eq!(frame[30..34], BACKEND.octets());
            assert_checksums(&frame);
        }
        let decision = maps.run::<false>(&mut to_service());
        assert_eq!((decision.verdict, decision.egress), native, "{mode} {ifindex}");
        maps.interfaces.insert(1, Interface { ifindex, mac: OWN, mtu: mtu + 1, ..Interface::default() });
        assert_ne!(maps.run::<true>(&mut to_service()).egress, Egress::STACK, "a frame of the MTU fits");
    }
}

#[test]
fn nat_keeps_checksums_right_in_both_modes() {
    for generic in [false, true] {
        let mut maps = Maps::new(MODE_NAT);
        let mut frame = to_service();
        let decision = if generic { maps.run::<true>(&mut frame) } else { maps.run::<false>(&mut frame) };
        assert_eq!(decision.verdict, Verdict::Nat);
        assert_eq!(frame[30..34], BACKEND.octets());
        assert_eq!(frame[36..38], 8_080_u16.to_be_bytes());
        assert_checksums(&frame);
    }
}

#[test]
fn partial_checksum_is_finished_in_native_mode_and_kept_in_generic_mode() {
    for mode in [MODE_DR, MODE_NAT] {
        let mut partial = to_service();
        let field = checksum::fold(pseudo_header(&partial));
        partial[50..52].copy_from_slice(&field.to_ne_bytes());

        let mut native = partial.clone();
        Maps::new(mode).run::<false>(&mut native);
        assert_checksums(&native);

        let mut generic = partial;
        Maps::new(mode).run::<true>(&mut generic);
        let field = u16::from_ne_bytes([generic[50], generic[51]]);
        assert_eq!(field, checksum::fold(pseudo_header(&generic)));
    }
}

#[test]
fn local_leaves_the_packet_alone() {
    let mut maps = Maps::new(MODE_LOCAL);
    let mut frame = to_service();
    assert_eq!(maps.run::<false>(&mut frame), Verdict::Local.into());
    assert_eq!(frame, to_service());
    assert_eq!(maps.counted.borrow().len(), 1);
}

#[test]
fn lease_ends_for_data_by_the_coarse_clock_and_for_arp_by_the_precise_one() {
    let mut arp = vec![0; 42];
    arp[..6].fill(0xff);
    arp[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp[38..42].copy_from_slice(&VIP.octets());
    for (now, now_coarse, data, about_arp) in [
        (999, 999, Verdict::Dr, Verdict::ArpOwner),
        (1_000, 999, Verdict::Dr, Verdict::ArpLeaseExpired),
        (1_000, 1_000, Verdict::LeaseExpired, Verdict::ArpLeaseExpired),
    ] {
        let mut maps = Maps::new(MODE_DR);
        (maps.now, maps.now_coarse) = (now, now_coarse);
        assert_eq!(maps.run::<false>(&mut to_service()).verdict, data, "{now} {now_coarse}");
        assert_eq!(maps.run::<false>(&mut arp.clone()).verdict, about_arp, "{now} {now_coarse}");
    }
}

#[test]
fn directors_packets_are_delivered_whatever_the_lease() {
    for lease in [0, 1, u64::MAX] {
        let mut maps = Maps::new(MODE_DR);
        maps.lease = lease;
        maps.directors.insert(Mac([2, 0, 0, 0, 0, 9]).key());
        assert_eq!(maps.run::<false>(&mut to_service()).verdict, Verdict::Delivered);
    }
}

#[test]
fn reply_asks_for_the_route_of_what_will_leave() {
    let mut maps = Maps::new(MODE_NAT);
    maps.route = Route::Forward { interface: 9, source: OWN, destination: NEIGHBOUR, mtu: 1500 };
    let mut frame = reply();
    let decision = maps.run::<false>(&mut frame);

    assert_eq!(decision, Decision { verdict: Verdict::NatReply, egress: Egress::interface(9, Tag::NONE) });
    assert_eq!(frame[26..30], VIP.octets());
    assert_eq!(frame[34..36], 80_u16.to_be_bytes());
    assert_checksums(&frame);
    let question = maps.asked.get().expect("the route was asked for");
    assert_eq!(
        (question.source, question.source_port, question.destination),
        (VIP.into(), Be16::new(80), CLIENT.into())
    );
}

#[test]
fn reply_leaves_through_the_interface_it_came_in_by() {
    let mut maps = Maps::new(MODE_NAT);
    maps.route = Route::Forward { interface: INGRESS, source: OWN, destination: NEIGHBOUR, mtu: 1500 };
    assert_eq!(maps.run::<false>(&mut reply()).egress, Egress::BACK);
}

#[test]
fn reply_that_cannot_be_forwarded_is_untouched() {
    for (route, verdict) in [
        (Route::NotForwarded, Verdict::NotOurs),
        (Route::ForwardingOff, Verdict::ForwardingOff),
        (Route::Nowhere, Verdict::NoRoute),
    ] {
        let mut maps = Maps::new(MODE_NAT);
        maps.route = route;
        let mut frame = reply();
        assert_eq!(maps.run::<false>(&mut frame).verdict, verdict);
        assert_eq!(frame, reply());
    }
}

#[test]
fn partial_checksum_over_too_many_bytes_is_malformed() {
    let total = u16::try_from(LONGEST_SUM + 41).expect("fits");
    let mut frame = to_service();
    frame.resize(14 + usize::from(total), 0);
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    let pseudo = sum(&frame[26..34]) + u64::from(6_u16.to_be()) + u64::from((total - 20).to_be());
    frame[50..52].copy_from_slice(&checksum::fold(pseudo).to_ne_bytes());

    let mut native = frame.clone();
    assert_eq!(Maps::new(MODE_DR).run::<false>(&mut native).verdict, Verdict::Malformed);
    // The kernel finishes it in generic mode, however long it is.
    assert_eq!(Maps::new(MODE_NAT).run::<true>(&mut frame).verdict, Verdict::Nat);
    assert_eq!(frame[30..34], BACKEND.octets());
}

#[test]
fn only_forwarding_sends() {
    let sending: Vec<_> =
        Verdict::ALL.iter().filter(|verdict| action(**verdict) == Action::Send).copied().collect();
    let to_backends = [Verdict::Dr, Verdict::Nat, Verdict::Ipip, Verdict::Gue];
    let back = [Verdict::TooBigAnswered, Verdict::NatReply];
    let errors = [Verdict::IcmpError, Verdict::IcmpErrorReply];
    assert_eq!(sending, [&to_backends[..], &back, &errors].concat());
}
