//! ICMP errors about steered flows: who gets them, and that every checksum in them is right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb::dataplane::{
    Dataplane as _,
    Program::{Generic, Native},
};
use lb_common::{
    Be16, Flow, Mac,
    Verdict::{self, *},
};

use crate::{
    fixtures::{Frame, Row, drops, passes, run, table},
    namespace::isolated,
    packets::{
        CLIENT, CLIENT_MAC, CLIENT6, Checksum, OWN_MAC, Packet, Protocol, ones_complement_sum, tcp,
        truncated, udp, within_bytes,
    },
    world::{
        CLOSED, DIRECTOR, DR, DR_FAR, DR_UDP, EMPTY, FAR, FAR_MAC, GUE, GUE6, IPIP, IPIP6, LOCAL, NARROW,
        NARROWER, NAT, NAT_BACKEND, NAT_BACKEND6, NAT_FAR, NAT_PORT, NAT_UDP, NAT_UDP_PORT, NEAR, NEAR_MAC,
        OTHER, OTHER6, OWN_ADDRESS, OWN_ADDRESS6, PASS, RANGE, REDIRECT, SILENT_CLIENT, TUNNEL, TUNNEL6, TX,
        UNRESOLVED, VIP, VIP_BACKUP, VIP_EXPIRED, VIP6, VIP6_BACKUP, VIP6_EXPIRED, World, address,
        backend_of, backend_of6, build_network,
    },
};

/// An ICMP or ICMPv6 error.
#[derive(Clone)]
struct Error {
    destination_mac: Mac,
    source_mac: Mac,
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    /// Options of IPv4; for IPv6 a destination options header of 8 bytes if there are any.
    options: Vec<u8>,
    kind: u8,
    code: u8,
    /// What follows the checksum: an MTU, a pointer.
    rest: [u8; 4],
    quote: Vec<u8>,
    padding: usize,
    /// As this program says it: network control, DF, no identification.
    own: bool,
}

/// A router on the way to the clients.
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// "The packet `sent` is too big", said to its sender by a router. It quotes `length` bytes of what follows the IP header.
fn too_big(sent: &Packet, length: usize) -> Error {
    let bytes = sent.bytes();
    let is_v4 = sent.source.is_ipv4();
    let header = if is_v4 { 20 + sent.options.len() } else { 40 };
    let header = header + sent.extensions.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    let quote = bytes[14..].iter().take(header + length).copied().collect();
    Error {
        destination_mac: OWN_MAC,
        source_mac: CLIENT_MAC,
        source: if is_v4 { ROUTER.into() } else { ROUTER6.into() },
        destination: sent.source,
        ttl: 64,
        options: Vec::new(),
        kind: if is_v4 { 3 } else { 2 },
        code: if is_v4 { 4 } else { 0 },
        rest: [0, 0, 5, 0x14],
        quote,
        padding: 0,
        own: false,
    }
}

impl Error {
    fn kind(self, kind: u8, code: u8) -> Self {
        Self { kind, code, ..self }
    }

    fn source(self, source: impl Into<IpAddr>) -> Self {
        Self { source: source.into(), ..self }
    }

    fn to(self, destination: impl Into<IpAddr>) -> Self {
        Self { destination: destination.into(), ..self }
    }

    fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    fn source_mac(self, source_mac: Mac) -> Self {
        Self { source_mac, ..self }
    }

    fn options(self) -> Self {
        Self { options: vec![1; 8], ..self }
    }

    fn padding(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    fn hop(self, destination_mac: Mac, source_mac: Mac) -> Self {
        Self { destination_mac, source_mac, ttl: self.ttl - 1, ..self }
    }

    /// The same about another packet, as much of which is quoted.
    fn about(self, sent: &Packet) -> Self {
        let mut quote = sent.bytes()[14..].to_vec();
        quote.truncate(self.quote.len());
        Self { quote, ..self }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut icmp = vec![self.kind, self.code, 0, 0];
        icmp.extend(self.rest);
        icmp.extend(&self.quote);
        let mut frame = [self.destination_mac.0, self.source_mac.0].concat();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let checksum = !sum(&icmp);
                icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
                let header = 20 + self.options.len();
                let mut ip = vec![0x40 | (header / 4) as u8, if self.own { 0xc0 } else { 0 }];
                ip.extend(((header + icmp.len()) as u16).to_be_bytes());
                ip.extend(if self.own { [0, 0, 0x40, 0] } else { [0x12, 0x34, 0, 0] });
                ip.extend([self.ttl, 1, 0, 0]);
                ip.extend(source.octets());
                ip.extend(destination.octets());
                ip.extend(&self.options);
                let checksum = !sum(&ip);
                ip[10..12].copy_from_slice(&checksum.to_be_bytes());
                frame.extend([8, 0]);
                frame.extend(ip);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut pseudo = [source.octets(), destination.octets()].concat();
                pseudo.extend((icmp.len() as u32).to_be_bytes());
                pseudo.extend([0, 0, 0, 58]);
                let checksum = !ones_complement_sum([sum(&pseudo), sum(&icmp)]);
                icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
                let extension: &[u8] = if self.options.is_empty() { &[] } else { &[58, 0, 1, 4, 0, 0, 0, 0] };
                frame.extend([0x86, 0xdd, if self.own { 0x6c } else { 0x60 }, 0, 0, 0]);
                frame.extend(((extension.len() + icmp.len()) as u16).to_be_bytes());
                frame.extend([if extension.is_empty() { 58 } else { 60 }, self.ttl]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                frame.extend(extension);
            }
            _ => panic!("two families in one packet"),
        }
        frame.extend(icmp);
        frame.extend(std::iter::repeat_n(0xee, self.padding));
        frame
    }
}

fn sum(bytes: &[u8]) -> u16 {
    ones_complement_sum(
        bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])),
    )
}

impl From<Error> for Frame {
    fn from(error: Error) -> Self {
        Self(error.bytes())
    }
}

/// What the backend behind a service of `vip` sent to the client, as the client and the routers before it see it.
fn sent(vip: impl Into<IpAddr>, port: u16) -> Packet {
    let vip = vip.into();
    let client: IpAddr = if vip.is_ipv4() { CLIENT.into() } else { CLIENT6.into() };
    let packet = if port == DR_UDP || port == NAT_UDP { udp(client, 40_000) } else { tcp(client, 40_000) };
    packet.source(vip).source_port(port)
}

/// What this node sent to the `nat` backend.
fn forwarded(protocol: Protocol, v4: bool) -> Packet {
    let port = if protocol == Protocol::Udp { NAT_UDP_PORT } else { NAT_PORT };
    let packet = if v4 { tcp(NAT_BACKEND, port) } else { tcp(NAT_BACKEND6, port) };
    packet.protocol(protocol)
}

const TCP: Protocol = Protocol::Tcp { syn: false, ack: true };

/// The error goes on, changed by `change`, and is counted for the backend behind `port`.
fn sends(
    what: &'static str,
    error: Error,
    action: u32,
    verdict: Verdict,
    port: u16,
    change: impl FnOnce(Error) -> Error,
) -> Row {
    wraps(what, error, action, verdict, port, |error| change(error).bytes())
}

fn wraps(
    what: &'static str,
    error: Error,
    action: u32,
    verdict: Verdict,
    port: u16,
    change: impl FnOnce(Error) -> Vec<u8>,
) -> Row {
    let frame = error.bytes();
    let id = if error.destination.is_ipv4() { backend_of(port) } else { backend_of6(port) };
    let counted = Some((id, frame.len() - error.padding, false));
    Row { what, frame, action, verdict, out: Some(change(error)), counted }
}

/// An error from behind this node, which goes to the client.
fn returns(what: &'static str, error: Error, change: impl FnOnce(Error) -> Error) -> Row {
    let error = error.source_mac(NEAR);
    let frame = error.bytes();
    let out = change(error).hop(CLIENT_MAC, FAR_MAC).bytes();
    Row { what, frame, action: REDIRECT, verdict: IcmpErrorReply, out: Some(out), counted: None }
}

fn near(error: Error) -> Error {
    error.hop(NEAR, NEAR_MAC)
}

fn far(error: Error) -> Error {
    error.hop(FAR, FAR_MAC)
}

/// To the `nat` backend, about what it sent itself, which was `packet` before its source became the VIP.
fn nat(packet: Packet) -> impl FnOnce(Error) -> Error {
    move |error| {
        let (backend, port): (IpAddr, u16) = match packet.source {
            IpAddr::V4(_) => (NAT_BACKEND.into(), NAT_PORT),
            IpAddr::V6(_) => (NAT_BACKEND6.into(), NAT_PORT),
        };
        let port = if packet.protocol == Protocol::Udp { NAT_UDP_PORT } else { port };
        near(error.about(&packet.source(backend).source_port(port)).to(backend))
    }
}

fn tunnel(ends: (IpAddr, IpAddr), gue: bool, far_away: bool) -> impl FnOnce(Error) -> Vec<u8> {
    move |error| {
        let flow = Flow {
            source: address(if error.destination.is_ipv4() { IpAddr::from(CLIENT) } else { CLIENT6.into() }),
            destination: address(error.destination),
            source_port: Be16::new(40_000),
            destination_port: Be16::new(if ends == TUNNEL6 { GUE6 } else { GUE }),
            protocol: 6,
        };
        let port = gue.then(|| 0xc000 | flow.hash() as u16 & 0x3fff);
        let padding = error.padding;
        let error = if far_away { far(error) } else { near(error) };
        within_bytes(&error.bytes(), padding, ends.0, ends.1, port)
    }
}

/// What a packet too big for the way to its backend gets instead: an error from the VIP.
#[expect(clippy::needless_pass_by_value, reason = "rows build their packets in place")]
fn answers(what: &'static str, packet: Packet, mtu: u16) -> Row {
    let length = if packet.source.is_ipv4() { 576 - 28 } else { 1_280 - 48 };
    let [high, low] = mtu.to_be_bytes();
    let answer = Error {
        destination_mac: packet.source_mac,
        source_mac: packet.destination_mac,
        source: packet.destination,
        rest: [0, 0, high, low],
        quote: packet.bytes()[14..14 + length].to_vec(),
        own: true,
        ..too_big(&packet, 8)
    };
    let out = Some(answer.bytes());
    Row { what, frame: packet.bytes(), action: TX, verdict: TooBigAnswered, out, counted: None }
}

/// Not an error, though its payload looks as if it quoted something.
fn echo() -> Error {
    too_big(&sent(VIP, DR), 28).kind(8, 0)
}

table! {
    /// As much as routers may quote, and as little.
    icmp_errors_follow_their_flow = [
        sends("8 bytes quoted", too_big(&sent(VIP, DR), 8), TX, IcmpError, DR, near),
        sends("12 bytes quoted", too_big(&sent(VIP, DR), 12), TX, IcmpError, DR, near),
        sends("all of it quoted", too_big(&sent(VIP, DR), 99), TX, IcmpError, DR, near),
        sends("another interface", too_big(&sent(VIP, DR_FAR), 8), REDIRECT, IcmpError, DR_FAR, far),
        sends("UDP", too_big(&sent(VIP, DR_UDP), 8), TX, IcmpError, DR_UDP, near),
        sends("a range of ports", too_big(&sent(VIP, 9).protocol(Protocol::Udp), 8), TX, IcmpError, DR, near),
        sends("port unreachable", too_big(&sent(VIP, DR_UDP), 8).kind(3, 3), TX, IcmpError, DR_UDP, near),
        sends("time exceeded", too_big(&sent(VIP, DR), 8).kind(11, 0), TX, IcmpError, DR, near),
        sends("parameter problem", too_big(&sent(VIP, DR), 8).kind(12, 0), TX, IcmpError, DR, near),
        sends("said by the client", too_big(&sent(VIP, DR), 8).source(CLIENT), TX, IcmpError, DR, near),
        sends("options", too_big(&sent(VIP, DR), 8).options(), TX, IcmpError, DR, near),
        sends("quoted options", too_big(&sent(VIP, DR).options(vec![1; 40]), 8), TX, IcmpError, DR, near),
        sends("padding", too_big(&sent(VIP, DR), 8).padding(7), TX, IcmpError, DR, near),
        sends(
            "a quoted first fragment",
            too_big(&sent(VIP, DR_UDP).more_fragments(true), 8), TX, IcmpError, DR_UDP, near
        ),
        sends("backup", too_big(&sent(VIP_BACKUP, DR), 8), TX, IcmpError, DR, near),
        sends("local", too_big(&sent(VIP, LOCAL), 8), PASS, IcmpErrorLocal, LOCAL, |e| e),
        passes("from another director", too_big(&sent(VIP, LOCAL), 8).source_mac(DIRECTOR), Delivered),
        passes(
            "from another director, lease ran out",
            too_big(&sent(VIP_EXPIRED, LOCAL), 8).source_mac(DIRECTOR), Delivered
        ),
        drops("lease ran out", too_big(&sent(VIP_EXPIRED, DR), 8), LeaseExpired),
        drops("no backend", too_big(&sent(VIP, EMPTY), 8), NoBackend),
        drops("next hop not resolved", too_big(&sent(VIP, UNRESOLVED), 8), NoNeighbour),
        drops("TTL 1", too_big(&sent(VIP, DR), 8).ttl(1), TtlExpired),
    ];

    icmp_that_is_about_no_flow_goes_to_the_stack = [
        passes("no service", too_big(&sent(VIP, CLOSED), 8), VipStack),
        drops("no service, backup", too_big(&sent(VIP_BACKUP, CLOSED), 8), VipNotOwner),
        drops("no service, lease ran out", too_big(&sent(VIP_EXPIRED, CLOSED), 8), LeaseExpired),
        passes("another protocol's port", too_big(&sent(VIP, DR_UDP).protocol(TCP), 8), VipStack),
        passes("a later fragment", too_big(&sent(VIP, DR_UDP).fragment_offset(5), 8), VipStack),
        passes("another sender", too_big(&sent(OTHER, DR), 8).to(VIP), VipStack),
        passes("7 bytes quoted", too_big(&sent(VIP, DR), 7), VipStack),
        passes("7 bytes quoted, padding", too_big(&sent(VIP, DR), 7).padding(9), VipStack),
        passes("nothing quoted", Error { quote: vec![], ..too_big(&sent(VIP, DR), 8) }, VipStack),
        passes("a quoted IPv6 packet", Error { quote: vec![0x60; 60], ..too_big(&sent(VIP, DR), 8) }, VipStack),
        passes("echo request", echo(), VipStack),
        passes("echo reply", echo().kind(0, 0), VipStack),
        passes("source quench", echo().kind(4, 0), VipStack),
        passes("redirect", echo().kind(5, 1), VipStack),
        passes("about nobody", too_big(&sent(OTHER, DR), 8), NotOurs),
        passes("cut short", truncated(too_big(&sent(OTHER, DR), 8).bytes(), 40), NotOurs),
        drops("cut short, to a VIP", truncated(too_big(&sent(VIP, DR), 8).bytes(), 60), Malformed),
    ];

    icmp_errors_reach_nat_backends_about_what_they_sent = [
        sends("8 bytes quoted", too_big(&sent(VIP, NAT), 8), TX, IcmpError, NAT, nat(sent(VIP, NAT))),
        sends("16 bytes quoted", too_big(&sent(VIP, NAT), 16), TX, IcmpError, NAT, nat(sent(VIP, NAT))),
        sends("half a checksum quoted", too_big(&sent(VIP, NAT), 17), TX, IcmpError, NAT, |e| {
            let half = e.quote[36];
            let mut error = nat(sent(VIP, NAT))(e);
            error.quote[36] = half;
            error
        }),
        sends("18 bytes quoted", too_big(&sent(VIP, NAT), 18), TX, IcmpError, NAT, nat(sent(VIP, NAT))),
        sends("all of it quoted", too_big(&sent(VIP, NAT), 99), TX, IcmpError, NAT, nat(sent(VIP, NAT))),
        sends("UDP", too_big(&sent(VIP, NAT_UDP), 8), TX, IcmpError, NAT_UDP, nat(sent(VIP, NAT_UDP))),
        sends(
            "UDP without a checksum",
            too_big(&sent(VIP, NAT_UDP).checksum(Checksum::Is(0)), 8), TX, IcmpError, NAT_UDP,
            nat(sent(VIP, NAT_UDP).checksum(Checksum::Is(0)))
        ),
        sends(
            "quoted options",
            too_big(&sent(VIP, NAT).options(vec![1; 8]), 18).options(), TX, IcmpError, NAT,
            nat(sent(VIP, NAT).options(vec![1; 8]))
        ),
        sends(
            "an odd length and padding",
            too_big(&sent(VIP, NAT), 21).padding(4), TX, IcmpError, NAT, nat(sent(VIP, NAT))
        ),
        sends("another interface", too_big(&sent(VIP, NAT_FAR), 8), REDIRECT, IcmpError, NAT_FAR, |e| {
            far(e.about(&sent(NAT_BACKEND, NAT_PORT)).to(NAT_BACKEND))
        }),
        sends("a range of ports", too_big(&sent(VIP, RANGE), 8), TX, IcmpError, NAT, nat(sent(VIP, RANGE))),
        drops("TTL 1", too_big(&sent(VIP, NAT), 8).ttl(1), TtlExpired),
    ];

    icmp_errors_about_what_nat_forwarded_reach_the_client = [
        returns("port unreachable", unreachable(8), |e| {
            e.about(&udp(VIP, NAT_UDP).payload(8)).source(VIP)
        }),
        returns("all of it quoted", unreachable(99), |e| {
            e.about(&udp(VIP, NAT_UDP).payload(8)).source(VIP)
        }),
        returns("a router's", too_big(&forwarded(TCP, true), 8).to(CLIENT), |e| e.about(&tcp(VIP, NAT))),
        returns("a router's, 20 bytes", too_big(&forwarded(TCP, true), 20).to(CLIENT), |e| {
            e.about(&tcp(VIP, NAT))
        }),
        passes("about this node's own probe", too_big(&own_probe(), 8).to(OWN_ADDRESS), NotOurs),
        passes("about another port", too_big(&forwarded(TCP, true).destination_port(22), 8).to(CLIENT), NotOurs),
        passes("to another than its sender", too_big(&forwarded(TCP, true), 8).to(OTHER), NotOurs),
        drops(
            "a client nobody knows the MAC address of",
            too_big(&forwarded(TCP, true).source(SILENT_CLIENT), 8).to(SILENT_CLIENT), NoRoute
        ),
        drops("TTL 1", unreachable(8).ttl(1), TtlExpired),
    ];

    icmp_errors_are_encapsulated_as_their_flow_is = [
        wraps("4 in 4", too_big(&sent(VIP, IPIP), 8), TX, IcmpError, IPIP, tunnel(TUNNEL, false, false)),
        wraps("padding", too_big(&sent(VIP, IPIP), 8).padding(9), TX, IcmpError, IPIP, tunnel(TUNNEL, false, false)),
        wraps("4 in 6", too_big(&sent(VIP, IPIP6), 8), REDIRECT, IcmpError, IPIP6, tunnel(TUNNEL6, false, true)),
        wraps("6 in 4", too_big(&sent(VIP6, IPIP), 8), TX, IcmpError, IPIP, tunnel(TUNNEL, false, false)),
        wraps("4 in a datagram", too_big(&sent(VIP, GUE), 8), TX, IcmpError, GUE, tunnel(TUNNEL, true, false)),
        wraps("6 in a datagram over 6", too_big(&sent(VIP6, GUE6), 8), TX, IcmpError, GUE6, tunnel(TUNNEL6, true, false)),
        drops("too big", too_big(&sent(VIP, NARROW).payload(1_400), 1_400), TooBigDropped),
    ];

    icmpv6_errors_follow_their_flow = [
        sends("8 bytes quoted", too_big(&sent(VIP6, DR), 8), TX, IcmpError, DR, near),
        sends("all of it quoted", too_big(&sent(VIP6, DR), 99), TX, IcmpError, DR, near),
        sends("UDP", too_big(&sent(VIP6, DR_UDP), 8).kind(1, 4), TX, IcmpError, DR_UDP, near),
        sends("time exceeded", too_big(&sent(VIP6, DR), 8).kind(3, 0), TX, IcmpError, DR, near),
        sends("parameter problem", too_big(&sent(VIP6, DR), 8).kind(4, 1), TX, IcmpError, DR, near),
        sends("an extension header", too_big(&sent(VIP6, DR), 8).options(), TX, IcmpError, DR, near),
        sends(
            "quoted extension headers",
            too_big(&sent(VIP6, DR).extension(0, 1).extension(60, 2), 8), TX, IcmpError, DR, near
        ),
        sends("a quoted first fragment", too_big(&fragment6(1), 8), TX, IcmpError, DR_UDP, near),
        sends("local", too_big(&sent(VIP6, LOCAL), 8), PASS, IcmpErrorLocal, LOCAL, |e| e),
        sends("backup", too_big(&sent(VIP6_BACKUP, DR), 8), TX, IcmpError, DR, near),
        sends("nat", too_big(&sent(VIP6, NAT), 8), TX, IcmpError, NAT, nat(sent(VIP6, NAT))),
        sends("nat, 18 bytes", too_big(&sent(VIP6, NAT), 18), TX, IcmpError, NAT, nat(sent(VIP6, NAT))),
        sends("nat, UDP", too_big(&sent(VIP6, NAT_UDP), 8), TX, IcmpError, NAT_UDP, nat(sent(VIP6, NAT_UDP))),
        sends(
            "nat, extension headers",
            too_big(&sent(VIP6, NAT).extension(60, 1), 18).options(), TX, IcmpError, NAT,
            nat(sent(VIP6, NAT).extension(60, 1))
        ),
        returns("nat, back", unreachable6(8), |e| e.about(&udp(VIP6, NAT_UDP).payload(8)).source(VIP6)),
        returns("nat, back, a router's", too_big(&forwarded(TCP, false), 20).to(CLIENT6), |e| {
            e.about(&tcp(VIP6, NAT))
        }),
        passes("a later fragment", too_big(&fragment6(8), 8), VipStack),
        passes("no service", too_big(&sent(VIP6, CLOSED), 8), VipStack),
        passes("7 bytes quoted", too_big(&sent(VIP6, DR), 7).padding(3), VipStack),
        passes("another sender", too_big(&sent(OTHER6, DR), 8).to(VIP6), VipStack),
        passes("echo request", too_big(&sent(VIP6, DR), 8).kind(128, 0), VipStack),
        passes("this node's own probe", too_big(&own_probe6(), 8).to(OWN_ADDRESS6), NotOurs),
        passes("about nobody", too_big(&sent(OTHER6, DR), 8), NotOurs),
        drops("lease ran out", too_big(&sent(VIP6_EXPIRED, DR), 8), LeaseExpired),
        drops("hop limit 1", too_big(&sent(VIP6, DR), 8).ttl(1), TtlExpired),
    ];

    who_sends_too_big_packets_is_told = [
        answers("ipip", tcp(VIP, NARROW).payload(1_341), 1_380),
        answers("the largest", tcp(VIP, NARROW).payload(1_460), 1_380),
        answers("SYN", tcp(VIP, NARROW).payload(1_400).syn(), 1_380),
        answers("options", tcp(VIP, NARROW).payload(1_400).options(vec![1; 40]), 1_380),
        answers("padding", tcp(VIP, NARROW).payload(1_400).padding(11), 1_380),
        answers("a wrong checksum", tcp(VIP, NARROW).payload(1_400).checksum(Checksum::Is(0x1234)), 1_380),
        answers("backup", tcp(VIP_BACKUP, NARROW).payload(1_400), 1_380),
        answers("a narrower way", tcp(VIP, NARROWER).payload(1_300), 1_270),
        answers("dr, another interface", tcp(VIP, DR_FAR).payload(1_461), 1_500),
        answers("IPv6", tcp(VIP6, NARROW).payload(1_321), 1_380),
        answers("IPv6, the largest", tcp(VIP6, NARROW).payload(1_440), 1_380),
        answers("IPv6, extension headers", tcp(VIP6, NARROW).payload(1_400).extension(60, 3), 1_380),
        answers("IPv6, dr, another interface", tcp(VIP6, DR_FAR).payload(1_441), 1_500),
        drops("IPv6, too narrow a way", tcp(VIP6, NARROWER).payload(1_300), TooBigDropped),
        drops("from nobody", tcp(VIP, NARROW).payload(1_400).source([0; 4]), TooBigDropped),
        drops("from a group", tcp(VIP, NARROW).payload(1_400).source([224, 0, 0, 5]), TooBigDropped),
        drops("from everybody", tcp(VIP, NARROW).payload(1_400).source([255; 4]), TooBigDropped),
        drops("from the loopback", tcp(VIP, NARROW).payload(1_400).source([127, 0, 0, 1]), TooBigDropped),
        drops("IPv6, from nobody", tcp(VIP6, NARROW).payload(1_400).source([0_u16; 8]), TooBigDropped),
        drops(
            "IPv6, from a group",
            tcp(VIP6, NARROW).payload(1_400).source([0xff02, 0, 0, 0, 0, 0, 0, 5]), TooBigDropped
        ),
        passes("to everybody", tcp(VIP, NARROW).payload(1_400).destination_mac(Mac([0xff; 6])), OtherMac),
        drops("lease ran out", tcp(VIP_EXPIRED, NARROW).payload(1_400), LeaseExpired),
        drops("TTL 1", tcp(VIP, NARROW).payload(1_400).ttl(1), TtlExpired),
        drops("the first fragment", tcp(VIP, NARROW).payload(1_380).more_fragments(true), TooBigDropped),
    ];

    encapsulated_icmp_errors_are_delivered = [
        delivers("4 in 4", too_big(&sent(VIP, LOCAL), 8), (ROUTER.into(), OWN_ADDRESS.into()), None),
        delivers("in a datagram", too_big(&sent(VIP, LOCAL), 8), (ROUTER.into(), OWN_ADDRESS.into()), Some(50_000)),
        delivers("6 in 4", too_big(&sent(VIP6, LOCAL), 8), (ROUTER.into(), OWN_ADDRESS.into()), None),
        delivers("6 in 6", too_big(&sent(VIP6, LOCAL), 8), (ROUTER6.into(), OWN_ADDRESS6.into()), None),
        passes("an echo request", inside(&echo(), OWN_ADDRESS.into(), None), NotOurs),
        passes("to nobody", inside(&too_big(&sent(OTHER, LOCAL), 8), OWN_ADDRESS.into(), None), NotOurs),
        passes("for another node", inside(&too_big(&sent(VIP, LOCAL), 8), CLIENT.into(), None), NotOurs),
    ];
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn merged_packets_are_not_too_big_in_generic_mode() {
    // The interface they came in by takes 2,000 bytes.
    let too_long = |port| tcp(VIP, port).payload(2_000);
    run(Native, [answers("dr", too_long(DR_FAR), 1_500), answers("ipip", too_long(NARROW), 1_380)]);
    run(Generic, [drops("dr", too_long(DR_FAR), TooLong), drops("ipip", too_long(NARROW), TooLong)]);
    run(Native, [answers("nat", too_long(NAT_FAR), 1_500)]);
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn senders_are_told_so_often_and_no_more() {
    const PACKETS: u64 = 3_000;
    let cpus = std::thread::available_parallelism().expect("the kernel counts").get() as u64;
    isolated(|| {
        build_network();
        let mut world = World::load();
        let frame = tcp(VIP, NARROW).payload(1_400).bytes();
        let start = std::time::Instant::now();
        for _ in 0..PACKETS {
            world.dataplane.test_run(Native, &frame).expect("the kernel runs the program");
        }
        let elapsed = start.elapsed().as_millis() as u64 + 1;
        let counts = world.dataplane.verdicts().expect("verdicts");
        let (answered, limited) = (counts[TooBigAnswered as usize], counts[TooBigLimited as usize]);
        assert_eq!(answered + limited, PACKETS);
        // 50 at once and then one each millisecond, on each CPU that the test was moved to.
        assert!(answered >= 50 && answered <= cpus * (50 + elapsed), "{answered} in {elapsed} ms");
    });
}

/// The backend has nobody at the port; it quotes so much of the datagram.
fn unreachable(length: usize) -> Error {
    let datagram = forwarded(Protocol::Udp, true).payload(8);
    too_big(&datagram, length).kind(3, 3).source(NAT_BACKEND).to(CLIENT)
}

fn unreachable6(length: usize) -> Error {
    let datagram = forwarded(Protocol::Udp, false).payload(8);
    too_big(&datagram, length).kind(1, 4).source(NAT_BACKEND6).to(CLIENT6)
}

fn own_probe() -> Packet {
    forwarded(TCP, true).source(OWN_ADDRESS)
}

fn own_probe6() -> Packet {
    forwarded(TCP, false).source(OWN_ADDRESS6)
}

/// A datagram's fragment; the last three bits of `place` are flags, the others its offset.
fn fragment6(place: u16) -> Packet {
    let mut packet = sent(VIP6, DR_UDP).extension(44, 1);
    packet.extensions[0].1[1] = 0;
    packet.extensions[0].1[2..4].copy_from_slice(&place.to_be_bytes());
    packet
}

fn inside(error: &Error, destination: IpAddr, port: Option<u16>) -> Vec<u8> {
    within_bytes(&error.bytes(), error.padding, ROUTER.into(), destination, port)
}

#[expect(clippy::needless_pass_by_value, reason = "rows build their packets in place")]
fn delivers(what: &'static str, error: Error, outer: (IpAddr, IpAddr), port: Option<u16>) -> Row {
    let frame = within_bytes(&error.bytes(), 0, outer.0, outer.1, port);
    Row { what, frame, action: PASS, verdict: Decapsulated, out: Some(error.bytes()), counted: None }
}
