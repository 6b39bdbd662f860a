//! Pieces of a packet (RFC 791, RFC 8200 section 4.5): all of them go where the first one does.
//!
//! Only the first piece has ports. It is steered as the whole packet would be, and remembered, so that the later ones can
//! follow. A rare stage, and so a program of its own.

use lb_common::{
    Address, Be16, FRAGMENT_LIFETIME, FRAGMENT_OF_REPLY, FRAGMENT_TO_BACKEND, FRAGMENT_TO_STACK, FragmentKey,
    FragmentState, MODE_DR, MODE_GUE, MODE_IPIP, MODE_LOCAL, MODE_NAT, Ownership, Verdict, Vip,
};

use crate::{
    backend::BackendEntry,
    decision::Decision,
    forward::{self, Hop, require_ttl},
    guard,
    ip::{Ipv4, Ipv6},
    kernel::{Kernel, Question},
    packet::Packet,
    parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Kind, Parse, Segment, TCP, Transport, UDP},
    rewrite::{self, Side},
    service, tunnel,
};

/// Decides about a piece of a packet to a VIP, or of a `nat` backend's reply.
#[inline(always)]
pub(crate) fn run<K: Kernel, const GENERIC: bool>(kernel: &K, packet: Packet) -> Result<Decision, Verdict> {
    let ethernet = Ethernet(packet.header().ok_or(Verdict::Internal)?);
    match ethernet.kind() {
        ETHERTYPE_IPV4 => decide::<K, Ipv4, GENERIC>(kernel, packet, ethernet),
        ETHERTYPE_IPV6 => decide::<K, Ipv6, GENERIC>(kernel, packet, ethernet),
        _ => Err(Verdict::Internal),
    }
}

#[inline(always)]
fn decide<K: Kernel, I: Pieces, const GENERIC: bool>(
    kernel: &K,
    packet: Packet,
    ethernet: Ethernet,
) -> Result<Decision, Verdict> {
    // Not a `Result`: a verdict in the place of a pointer is something that the verifier does not follow.
    let Some(piece) = Piece::<I>::read(packet, ethernet) else { return Err(Verdict::Internal) };
    piece.decide::<K, GENERIC>(kernel, packet)
}

/// Where a piece belongs.
pub(crate) struct Place {
    /// Offset of its payload in that of the packet, in bytes.
    offset: u32,
    /// Whether it is not the last one.
    more: bool,
    /// What it has in common with the other pieces, as it stands in the packet.
    id: u32,
    /// The protocol of the packet; it is true for the first piece only in IPv6.
    protocol: u8,
}

/// IP headers of pieces.
pub(crate) trait Pieces: Parse {
    /// The protocol tells packets apart that have the same identification.
    const PROTOCOL_COUNTS: bool;

    /// Where the piece belongs whose payload begins `offset` bytes from the start of the frame.
    fn place(self, packet: Packet, offset: u32) -> Option<Place>;
}

impl Pieces for Ipv4 {
    const PROTOCOL_COUNTS: bool = true;

    #[inline(always)]
    fn place(self, _: Packet, _: u32) -> Option<Place> {
        let field = u32::from(self.fragmentation());
        let (offset, more) = ((field & 0x1fff) * 8, field & 0x2000 != 0);
        Some(Place { offset, more, id: u32::from(self.id()), protocol: self.protocol() })
    }
}

impl Pieces for Ipv6 {
    const PROTOCOL_COUNTS: bool = false;

    /// Reads the fragment header, the 8 bytes before the payload.
    #[inline(always)]
    fn place(self, packet: Packet, offset: u32) -> Option<Place> {
        let header = packet.header_at::<8>((offset - 8) & 0x3fff)?;
        let field = u32::from(u16::from_be(header.read::<u16, 2>()));
        let (offset, more) = (field & 0xfff8, field & 1 != 0);
        Some(Place { offset, more, id: header.read::<u32, 4>(), protocol: header.read::<u8, 0>() })
    }
}

/// A piece of a packet.
struct Piece<I> {
    ethernet: Ethernet,
    ip: I,
    /// Where its payload begins, in bytes from the start of the frame.
    start: u32,
    /// Bytes of its payload.
    length: u32,
    place: Place,
}

impl<I: Pieces> Piece<I> {
    #[inline(always)]
    fn read(packet: Packet, ethernet: Ethernet) -> Option<Self> {
        let ip = I::new(packet)?;
        let payload = ip.payload(packet);
        if payload.kind != Kind::Fragment {
            return None;
        }
        let (start, length) = (payload.segment.offset, payload.segment.length);
        let place = ip.place(packet, start)?;
        Some(Self { ethernet, ip, start, length, place })
    }

    #[inline(always)]
    fn decide<K: Kernel, const GENERIC: bool>(
        &self,
        kernel: &K,
        packet: Packet,
    ) -> Result<Decision, Verdict> {
        match I::vip(kernel, self.ip.destination()) {
            Some(vip) => self.to_vip::<K, GENERIC>(kernel, packet, vip),
            None => self.to_client::<K, GENERIC>(kernel, packet),
        }
    }

    #[inline(always)]
    fn to_vip<K: Kernel, const GENERIC: bool>(
        &self,
        kernel: &K,
        packet: Packet,
        vip: Vip,
    ) -> Result<Decision, Verdict> {
        guard::mac_in_stage(kernel, self.ethernet)?;
        if self.is_malformed() {
            return Err(Verdict::Malformed);
        }
        let stack = || guard::addressed_vip(kernel, vip, Kind::Fragment);
        if self.place.offset != 0 {
            let Some(known) = self.recall(kernel) else { return Err(self.unknown(kernel, vip)) };
            if known.kind != FRAGMENT_TO_BACKEND {
                return Err(stack());
            }
            if guard::owner(kernel, vip.lease)? == Ownership::Expired {
                return Err(Verdict::LeaseExpired);
            }
            let backend = kernel.backend(known.backend).ok_or(Verdict::Internal)?;
            return self.to_backend::<K, GENERIC>(kernel, None, known.backend, backend, known.hash);
        }
        let segment = self.segment(packet)?;
        let found = segment.and_then(|segment| {
            service::of_vip::<K, I>(kernel, vip, &segment.flow()).map(|it| (segment, it))
        });
        let Some((segment, service)) = found else {
            self.remember(kernel, FRAGMENT_TO_STACK, 0, 0, Address::default());
            return Err(stack());
        };
        service::admit_addressed(kernel, &service, self.ethernet)?;
        let flow = segment.flow();
        let hash = flow.hash();
        let opens = segment.opens_connection;
        let (id, backend) = service::backend(kernel, &service, &flow, hash, opens)?;
        self.remember(kernel, FRAGMENT_TO_BACKEND, id, hash, Address::default());
        self.to_backend::<K, GENERIC>(kernel, Some(&segment), id, backend, hash)
    }

    /// A later piece of a packet whose first piece was not seen, or too long ago.
    #[inline(always)]
    fn unknown<K: Kernel>(&self, kernel: &K, vip: Vip) -> Verdict {
        // Whoever has steered it here has seen the first.
        if kernel.has_local_services() && kernel.is_director(self.ethernet.source_key()) {
            return Verdict::Delivered;
        }
        match guard::owner(kernel, vip.lease) {
            Err(verdict) => verdict,
            Ok(Ownership::Expired) => Verdict::LeaseExpired,
            Ok(Ownership::Owner | Ownership::Backup) => Verdict::FragmentUnknown,
        }
    }

    /// The same as [`crate::forward::to_backend`] for a piece: its checksum covers the other pieces too, so it is neither
    /// looked at nor finished. `first` is the segment that the first piece begins with.
    #[inline(always)]
    fn to_backend<K: Kernel, const GENERIC: bool>(
        &self,
        kernel: &K,
        first: Option<&Segment<I>>,
        id: u32,
        backend: BackendEntry<'_>,
        hash: u32,
    ) -> Result<Decision, Verdict> {
        let (ip, bytes) = (self.ip, self.start + self.length);
        let opens = first.is_some_and(|segment| segment.opens_connection);
        let decision = match backend.mode() {
            MODE_LOCAL => Verdict::Local.into(),
            MODE_DR => {
                let hop = Hop::to_backend(kernel, backend, ip)?;
                if hop.is_too_long(bytes) {
                    return Err(Verdict::TooBigDropped);
                }
                hop.take(self.ethernet, ip);
                Decision { verdict: Verdict::Dr, egress: hop.egress }
            }
            MODE_NAT => {
                let hop = Hop::to_backend(kernel, backend, ip)?;
                if !GENERIC && hop.is_too_long(bytes) {
                    return Err(Verdict::TooBigDropped);
                }
                self.rewrite(first, Side::Destination, backend.address(), backend.port());
                let egress = hop.take_or_leave_to_stack::<I, GENERIC>(self.ethernet, ip, bytes);
                Decision { verdict: Verdict::Nat, egress }
            }
            MODE_IPIP | MODE_GUE => {
                let hop = Hop::to_backend(kernel, backend, ip)?;
                if ip.packet_length() > forward::longest::<GENERIC>(backend, &hop) {
                    return Err(Verdict::TooBigDropped);
                }
                ip.spend_hop();
                tunnel::encapsulate(kernel, ip, ip.packet_length(), backend, &hop, hash)?
            }
            _ => return Err(Verdict::Internal),
        };
        kernel.count_backend(id, bytes, opens);
        Ok(decision)
    }

    /// The same as [`crate::reply::to_client`] for a piece.
    #[inline(always)]
    fn to_client<K: Kernel, const GENERIC: bool>(
        &self,
        kernel: &K,
        packet: Packet,
    ) -> Result<Decision, Verdict> {
        let (mut question, mut first) = (Question::default(), None);
        if self.place.offset == 0 {
            let segment = self.segment(packet).ok().flatten().ok_or(Verdict::NotOurs)?;
            let flow = segment.flow();
            let reply = I::nat_reply(kernel, &flow).ok_or(Verdict::NotOurs)?;
            (question.source, question.source_port) = (reply.address, reply.port);
            question.destination_port = flow.destination_port;
            first = Some(segment);
        } else {
            let known = self.recall(kernel).filter(|known| known.kind == FRAGMENT_OF_REPLY);
            question.source = known.ok_or(Verdict::NotOurs)?.address;
        }
        // Whatever is wrong with it, it is for no VIP.
        if self.is_malformed() {
            return Err(Verdict::NotOurs);
        }
        guard::mac_in_stage(kernel, self.ethernet)?;
        question.destination = self.ip.destination();
        question.protocol = self.place.protocol;
        question.traffic_class = self.ip.traffic_class();
        let hop = Hop::by_route(kernel, &question)?;
        require_ttl(self.ip)?;
        if first.is_some() {
            self.remember(kernel, FRAGMENT_OF_REPLY, 0, 0, question.source);
        }
        self.rewrite(first.as_ref(), Side::Source, question.source, question.source_port);
        let bytes = self.start + self.length;
        let egress = hop.take_or_leave_to_stack::<I, GENERIC>(self.ethernet, self.ip, bytes);
        Ok(Decision { verdict: Verdict::NatReply, egress })
    }

    /// Only the first piece has ports, and the checksum.
    #[inline(always)]
    fn rewrite(&self, first: Option<&Segment<I>>, side: Side, address: Address, port: Be16) {
        match first {
            Some(segment) => rewrite::whole(segment, side, address, port),
            None => self.ip.replace_address(side, address),
        }
    }

    /// The header that the first piece begins with; `None` for a protocol without ports. One that is cut within the header
    /// hides from whoever looks at headers (RFC 1858).
    #[inline(always)]
    fn segment(&self, packet: Packet) -> Result<Option<Segment<I>>, Verdict> {
        let transport = match self.place.protocol {
            TCP if self.length >= 20 => packet.header_at(self.start).map(Transport::Tcp),
            UDP if self.length >= 8 => packet.header_at(self.start).map(Transport::Udp),
            TCP | UDP => None,
            _ => return Ok(None),
        };
        let transport = transport.ok_or(Verdict::Malformed)?;
        Ok(Some(Segment::new(self.ip, self.start, self.length, transport)))
    }

    /// Whether no packet could be put together with it, or one that is not what its first piece says (RFC 3128).
    #[inline(always)]
    fn is_malformed(&self) -> bool {
        let Place { offset, more, protocol, .. } = self.place;
        let overwrites_flags = protocol == TCP && offset == 8;
        self.length == 0
            || (more && !self.length.is_multiple_of(8))
            || offset + self.length > 0xffff
            || overwrites_flags
    }

    #[inline(always)]
    fn recall<K: Kernel>(&self, kernel: &K) -> Option<FragmentState> {
        let known = kernel.recall_fragment(&self.key())?;
        (kernel.now_coarse().wrapping_sub(known.since) < FRAGMENT_LIFETIME).then_some(known)
    }

    #[inline(always)]
    fn remember<K: Kernel>(&self, kernel: &K, kind: u32, backend: u32, hash: u32, address: Address) {
        let state = FragmentState { since: kernel.now_coarse(), kind, backend, hash, reserved: 0, address };
        kernel.remember_fragment(&self.key(), &state);
    }

    #[inline(always)]
    fn key(&self) -> FragmentKey {
        FragmentKey {
            source: self.ip.source(),
            destination: self.ip.destination(),
            id: self.place.id,
            protocol: if I::PROTOCOL_COUNTS { self.place.protocol } else { 0 },
            reserved: [0; 3],
        }
    }
}
