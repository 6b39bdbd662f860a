//! The sockets of VRRP against the real kernel: both families, unicast and multicast, each test in a network namespace
//! of its own.

#[expect(dead_code, reason = "some of it is for the other adapters")]
mod net_support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb::{
    config::{ChecksumForm, Transport, VrrpVersion},
    net::{Listen, VrrpSocket, VrrpSocketError},
    time::UnixTime,
    vrrp::{
        Acceptance, Datagram, Endpoint,
        packet::{self, IP_PROTOCOL},
    },
};
use net_support::{Namespace, PATIENCE, in_new_namespace, ip};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::timeout;

const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3));
const NEAR6: IpAddr = six(0x2001, 0xdb8, 2);
const FAR6: IpAddr = six(0x2001, 0xdb8, 3);
const NEAR_LOCAL: IpAddr = six(0xfe80, 0, 2);
const FAR_LOCAL: IpAddr = six(0xfe80, 0, 3);
const GROUP: IpAddr = IpAddr::V4(Transport::GROUP);
const GROUP6: IpAddr = IpAddr::V6(Transport::GROUP6);

/// Who speaks to whom, where that goes, and back.
const KINDS: [(IpAddr, IpAddr, Option<IpAddr>); 5] = [
    (NEAR, FAR, None),
    (NEAR, FAR, Some(GROUP)),
    (NEAR6, FAR6, None),
    (NEAR_LOCAL, FAR_LOCAL, None),
    (NEAR_LOCAL, FAR_LOCAL, Some(GROUP6)),
];

const fn six(first: u16, second: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, host))
}

/// `near0` here and `far0` in the namespace returned, with two addresses of each kind: the one the kernel would rather
/// choose, and the one the tests want.
fn pair() -> Namespace {
    ip("link add near0 type veth peer name far0");
    let far = Namespace::with_link("far0");
    let dress = |link: &str, host: u8| {
        ip(&format!("link set {link} addrgenmode none"));
        ip(&format!("link set {link} up"));
        for last in [host + 100, host] {
            ip(&format!("address add 192.0.2.{last}/24 dev {link}"));
            ip(&format!("address add 2001:db8::{last}/64 dev {link} nodad"));
            ip(&format!("address add fe80::{last}/64 dev {link} nodad"));
        }
    };
    dress("near0", 2);
    far.enter(|| dress("far0", 3));
    // A link drops what it is given before the kernel has noticed that there is another end.
    let until_up = |link: &str| while !ip(&format!("link show {link}")).contains("state UP") {};
    until_up("near0");
    far.enter(|| until_up("far0"));
    far
}

fn listen(address: IpAddr, group: Option<IpAddr>) -> Listen {
    group.map_or(Listen::Unicast(address), Listen::Multicast)
}

async fn received(socket: &VrrpSocket) -> Datagram {
    timeout(PATIENCE, socket.recv()).await.expect("in time").expect("received")
}

fn acceptance(source: IpAddr, peer: IpAddr, group: Option<IpAddr>) -> Acceptance {
    Acceptance {
        version: VrrpVersion::V3,
        router_id: 33,
        source,
        peers: if group.is_some() { vec![] } else { vec![peer] },
        group,
        min_ttl: 255,
        password: None,
        authentication: None,
        checksum: ChecksumForm::default(),
        advert_interval: std::time::Duration::from_millis(100),
        addresses: if source.is_ipv4() {
            vec![IpAddr::from([192, 0, 2, 4]), IpAddr::from([192, 0, 2, 5])]
        } else {
            vec![six(0xfe80, 0, 4), six(0x2001, 0xdb8, 4)]
        },
    }
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn adverts_cross_as_they_are_with_ttl_255_from_their_source_and_nobody_hears_itself() {
    in_new_namespace(async || {
        let far = pair();
        for (near_address, far_address, group) in KINDS {
            let near_socket = VrrpSocket::open("near0", listen(near_address, group)).expect("a socket");
            let far_socket =
                far.enter(|| VrrpSocket::open("far0", listen(far_address, group))).expect("a socket");
            assert_eq!(far_socket.try_recv().expect("readable"), None);

            let payload = b"an odd number of bytes!".to_vec();
            let (there, back) = (group.unwrap_or(far_address), group.unwrap_or(near_address));
            near_socket.send(near_address, there, &payload).expect("sent");
            let expected =
                Datagram { source: near_address, destination: there, ttl: 255, payload: payload.clone() };
            assert_eq!(received(&far_socket).await, expected);
            far_socket.send(far_address, back, &payload).expect("sent");
            assert_eq!(received(&near_socket).await.source, far_address);
            assert_eq!(near_socket.try_recv().expect("readable"), None);
            assert_eq!(far_socket.try_recv().expect("readable"), None);
        }
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn adverts_of_either_family_and_transport_are_believed_on_the_other_side() {
    in_new_namespace(async || {
        let far = pair();
        for (near_address, far_address, group) in KINDS {
            let near_socket = VrrpSocket::open("near0", listen(near_address, group)).expect("a socket");
            let far_socket =
                far.enter(|| VrrpSocket::open("far0", listen(far_address, group))).expect("a socket");
            let mut sender = Endpoint::new(acceptance(near_address, far_address, group));
            let mut receiver = Endpoint::new(acceptance(far_address, near_address, group));
            let destinations: Vec<IpAddr> = sender.acceptance().destinations().collect();
            for destination in destinations {
                let message = sender.encode(200, destination, UnixTime::now()).expect("it fits");
                near_socket.send(near_address, destination, &message).expect("sent");
            }
            let datagram = received(&far_socket).await;
            let advert = packet::decode(&datagram, UnixTime::now(), |_| Some(&mut receiver));
            assert_eq!(advert.expect("it is right").priority, 200);
        }
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn hop_limit_is_the_one_of_the_packet() {
    in_new_namespace(async || {
        let far = pair();
        for (near_address, far_address, domain) in [(NEAR, FAR, Domain::IPV4), (NEAR6, FAR6, Domain::IPV6)] {
            let far_socket =
                far.enter(|| VrrpSocket::open("far0", Listen::Unicast(far_address))).expect("a socket");
            let protocol = Protocol::from(i32::from(IP_PROTOCOL));
            let sender = Socket::new(domain, Type::RAW, Some(protocol)).expect("a socket");
            sender.bind(&SocketAddr::new(near_address, 0).into()).expect("bound");
            match near_address {
                IpAddr::V4(_) => sender.set_ttl_v4(64),
                IpAddr::V6(_) => sender.set_unicast_hops_v6(64),
            }
            .expect("set");
            sender.send_to(&[0; 8], &SocketAddr::new(far_address, 0).into()).expect("sent");
            assert_eq!(received(&far_socket).await.ttl, 64);
        }
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn one_socket_of_a_group_speaks_for_several_sources() {
    in_new_namespace(async || {
        let far = pair();
        for (group, sources) in
            [(GROUP, [NEAR, IpAddr::from([192, 0, 2, 102])]), (GROUP6, [NEAR_LOCAL, NEAR6])]
        {
            let near_socket = VrrpSocket::open("near0", Listen::Multicast(group)).expect("a socket");
            let far_socket =
                far.enter(|| VrrpSocket::open("far0", Listen::Multicast(group))).expect("a socket");
            for source in sources {
                near_socket.send(source, group, &[1, 2, 3]).expect("sent");
                assert_eq!(received(&far_socket).await.source, source);
            }
        }
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_socket_opened_anew_joins_on_the_interface_that_came_back() {
    in_new_namespace(async || {
        for (near_address, group) in [(NEAR, GROUP), (NEAR_LOCAL, GROUP6)] {
            let before = pair();
            let stale = VrrpSocket::open("near0", Listen::Multicast(group)).expect("a socket");
            ip("link delete near0");
            drop(before);
            let far = pair();
            stale.send(near_address, group, &[1]).expect_err("its interface is gone");
            let near_socket = VrrpSocket::open("near0", Listen::Multicast(group)).expect("a socket");
            let far_socket =
                far.enter(|| VrrpSocket::open("far0", Listen::Multicast(group))).expect("a socket");
            near_socket.send(near_address, group, &[1]).expect("sent");
            assert_eq!(received(&far_socket).await.payload, [1]);
            ip("link delete near0");
        }
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_drained_socket_gives_every_packet_in_order() {
    in_new_namespace(async || {
        let far = pair();
        let near_socket = VrrpSocket::open("near0", Listen::Unicast(NEAR)).expect("a socket");
        let far_socket = far.enter(|| VrrpSocket::open("far0", Listen::Unicast(FAR))).expect("a socket");
        near_socket.send(NEAR, FAR, &[0]).expect("sent");
        received(&far_socket).await;
        // The neighbour is resolved now: what is sent is there when `send` returns.
        for number in 1..=20 {
            near_socket.send(NEAR, FAR, &[number]).expect("sent");
        }
        let mut numbers = Vec::new();
        while let Some(datagram) = far_socket.try_recv().expect("readable") {
            numbers.extend(datagram.payload);
        }
        assert_eq!(numbers, (1..=20).collect::<Vec<u8>>());
        // A peer that does not exist is no reason to fail: nobody can tell it from one that is off.
        for _ in 0..200 {
            near_socket.send(NEAR, IpAddr::from([192, 0, 2, 99]), &[1]).expect("the kernel takes it");
        }
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_source_or_interface_that_is_not_there_is_refused_with_a_remedy() {
    in_new_namespace(async || {
        let _far = pair();
        for (interface, address, call, remedy) in [
            ("near0", FAR, "bind", "`source`"),
            ("near0", FAR6, "bind", "`source`"),
            ("eth7", NEAR, "SO_BINDTODEVICE", "ip link"),
            ("eth7", NEAR6, "SO_BINDTODEVICE", "ip link"),
        ] {
            let error = VrrpSocket::open(interface, Listen::Unicast(address)).expect_err("not there");
            let text = error.to_string();
            assert!(matches!(error, VrrpSocketError::Open { call: at, .. } if at == call), "{text}");
            assert!(text.contains(interface) && text.contains(remedy), "{text}");
        }
        for (source, stranger, peer) in [(NEAR, FAR, GROUP), (NEAR_LOCAL, FAR_LOCAL, GROUP6)] {
            let socket = VrrpSocket::open("near0", Listen::Multicast(peer)).expect("a socket");
            let error = socket.send(stranger, peer, &[1]).expect_err("another's address as the source");
            assert!(error.to_string().contains("source"), "{error}");
            let family = if source.is_ipv4() { FAR6 } else { FAR };
            socket.send(source, family, &[1]).expect_err("the other family");
        }
        let socket = VrrpSocket::open("near0", Listen::Unicast(NEAR)).expect("a socket");
        ip("link set near0 down");
        let error = socket.send(NEAR, FAR, &[1]).expect_err("the interface is down");
        assert!(error.to_string().contains("192.0.2.3"), "{error}");
    });
}
