//! ICMP errors about steered flows (RFC 792, RFC 4443): a client's path MTU reaches the backend that has to know it.
//!
//! A rare stage, and so a program of its own.

use lb_common::{MODE_DR, MODE_GUE, MODE_IPIP, MODE_LOCAL, MODE_NAT, Verdict};

use crate::{
    backend::BackendEntry,
    checksum,
    decision::Decision,
    forward::{self, Hop, require_ttl},
    guard,
    ip::{Ipv4, Ipv6},
    kernel::{Kernel, Question},
    packet::{Header, Packet},
    parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Kind, Segment},
    quote::{Quote, Quoted},
    rewrite::Side,
    service, tunnel,
};

/// Decides about an ICMP error to a VIP, or to a client of a `nat` backend.
#[inline(always)]
pub(crate) fn run<K: Kernel, const GENERIC: bool>(kernel: &K, packet: Packet) -> Result<Decision, Verdict> {
    let ethernet = Ethernet(packet.header().ok_or(Verdict::Internal)?);
    match ethernet.kind() {
        ETHERTYPE_IPV4 => Error::<Ipv4>::read(packet, ethernet)?.decide::<K, GENERIC>(kernel, packet),
        ETHERTYPE_IPV6 => Error::<Ipv6>::read(packet, ethernet)?.decide::<K, GENERIC>(kernel, packet),
        _ => Err(Verdict::Internal),
    }
}

/// The error as it came.
struct Error<I> {
    ethernet: Ethernet,
    /// Its type, code, checksum.
    icmp: Header<4>,
    /// Where it is.
    message: Segment<I>,
}

impl<I: Quoted> Error<I> {
    #[inline(always)]
    fn read(packet: Packet, ethernet: Ethernet) -> Result<Self, Verdict> {
        let payload = I::new(packet).ok_or(Verdict::Internal)?.payload(packet);
        let message = payload.segment;
        if payload.kind != Kind::Icmp {
            return Err(Verdict::Internal);
        }
        let icmp = packet.header_at(message.offset).ok_or(Verdict::Internal)?;
        Ok(Self { ethernet, icmp, message })
    }

    #[inline(always)]
    fn decide<K: Kernel, const GENERIC: bool>(
        &self,
        kernel: &K,
        packet: Packet,
    ) -> Result<Decision, Verdict> {
        let destination = self.message.ip.destination();
        let vip = I::vip(kernel, destination);
        let elsewhere =
            || vip.map_or(Verdict::NotOurs, |vip| guard::vip(kernel, vip, Kind::Icmp, self.ethernet));
        // What is quoted was sent by whom the error is sent to.
        let quote = Quote::read(packet, &self.message).ok_or_else(elsewhere)?;
        if quote.ip.source() != destination {
            return Err(elsewhere());
        }
        match vip {
            Some(_) => self.to_backend::<K, GENERIC>(kernel, &quote),
            None => self.to_client::<K, GENERIC>(kernel, &quote),
        }
    }

    /// Sends the error to the backend that sent what is quoted, and counts it for that backend.
    #[inline(always)]
    fn to_backend<K: Kernel, const GENERIC: bool>(
        &self,
        kernel: &K,
        quote: &Quote<I>,
    ) -> Result<Decision, Verdict> {
        let flow = quote.reversed();
        let service = service::look_up::<K, I>(kernel, &flow, self.ethernet)?.ok_or(Verdict::NotOurs)?;
        guard::mac_in_stage(kernel, self.ethernet)?;
        service::admit_addressed(kernel, &service, self.ethernet)?;
        let hash = flow.hash();
        let (id, backend) = service::backend_untraced(kernel, &service, &flow, hash, false)?;
        let ip = self.message.ip;
        let bytes = self.message.frame_length();
        let decision = match backend.mode() {
            MODE_LOCAL => Verdict::IcmpErrorLocal.into(),
            MODE_DR => {
                let hop = self.hop::<K, GENERIC>(kernel, backend)?;
                hop.take(self.ethernet, ip);
                Decision { verdict: Verdict::IcmpError, egress: hop.egress }
            }
            MODE_NAT => {
                let hop = self.hop::<K, GENERIC>(kernel, backend)?;
                self.rewrite(quote, || {
                    ip.replace_address(Side::Destination, backend.address());
                    quote.replace(Side::Source, backend.address(), backend.port());
                });
                let egress = hop.take_or_leave_to_stack::<I, GENERIC>(self.ethernet, ip, bytes);
                Decision { verdict: Verdict::IcmpError, egress }
            }
            MODE_IPIP | MODE_GUE => {
                let hop = self.hop::<K, GENERIC>(kernel, backend)?;
                ip.spend_hop();
                let sent = tunnel::encapsulate(kernel, ip, ip.packet_length(), backend, &hop, hash)?;
                Decision { verdict: Verdict::IcmpError, ..sent }
            }
            _ => return Err(Verdict::Internal),
        };
        kernel.count_backend(id, bytes, false);
        Ok(decision)
    }

    /// Sends an error about what this node sent to a `nat` backend to the client, who sent it to the VIP.
    #[inline(always)]
    fn to_client<K: Kernel, const GENERIC: bool>(
        &self,
        kernel: &K,
        quote: &Quote<I>,
    ) -> Result<Decision, Verdict> {
        let ip = self.message.ip;
        let flow = quote.reversed();
        let reply = I::nat_reply(kernel, &flow).ok_or(Verdict::NotOurs)?;
        guard::mac_in_stage(kernel, self.ethernet)?;
        let is_backends_own = ip.source() == flow.source;
        // Errors about this node's own probes are for this node: untouched, like the answers to them.
        let question = Question {
            source: if is_backends_own { reply.address } else { ip.source() },
            destination: flow.destination,
            protocol: I::ICMP,
            traffic_class: ip.traffic_class(),
            ..Question::default()
        };
        let hop = Hop::by_route(kernel, &question)?;
        require_ttl(ip)?;
        self.rewrite(quote, || {
            if is_backends_own {
                ip.replace_address(Side::Source, reply.address);
            }
            quote.replace(Side::Destination, reply.address, reply.port);
        });
        let bytes = self.message.frame_length();
        let egress = hop.take_or_leave_to_stack::<I, GENERIC>(self.ethernet, ip, bytes);
        Ok(Decision { verdict: Verdict::IcmpErrorReply, egress })
    }

    #[inline(always)]
    fn hop<K: Kernel, const GENERIC: bool>(
        &self,
        kernel: &K,
        backend: BackendEntry<'_>,
    ) -> Result<Hop, Verdict> {
        let ip = self.message.ip;
        let hop = Hop::to_backend(kernel, backend, ip)?;
        // Errors are never answered.
        if ip.packet_length() > forward::longest::<GENERIC>(backend, &hop) {
            return Err(Verdict::TooBigDropped);
        }
        Ok(hop)
    }

    /// Changes addresses and ports, and the ICMP checksum with them.
    #[inline(always)]
    fn rewrite(&self, quote: &Quote<I>, change: impl FnOnce()) {
        let sum = || quote.sum() + self.message.ip.icmp_pseudo_header();
        let old = sum();
        change();
        let checksum = checksum::replace(self.icmp.read::<u16, 2>(), old, sum());
        self.icmp.write::<u16, 2>(checksum);
    }
}
