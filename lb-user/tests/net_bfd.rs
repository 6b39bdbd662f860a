//! BFD's sockets against the real kernel, each test in a network namespace of its own.

#[expect(dead_code, reason = "other tests need more of it")]
mod net_support;

use std::{
    future::poll_fn,
    net::{IpAddr, Ipv4Addr, UdpSocket},
};

use lb::{
    bfd::Datagram,
    net::{BfdSocket, BfdSocketError},
};
use net_support::{FAR as FAR_V4, NEAR as NEAR_V4, PATIENCE, in_new_namespace, ip, pair};
use tokio::time::timeout;

const NEAR: IpAddr = IpAddr::V4(NEAR_V4);
const FAR: IpAddr = IpAddr::V4(FAR_V4);

async fn received(socket: &BfdSocket) -> Datagram {
    let wait = async {
        loop {
            if let Some(datagram) = socket.try_recv().expect("received") {
                return datagram;
            }
            poll_fn(|context| socket.poll_readable(context)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("a packet in time")
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn packets_travel_both_ways_with_ttl_255_and_none_comes_back() {
    in_new_namespace(async || {
        let far = pair();
        let near = BfdSocket::open("near0", NEAR, &[FAR]).expect("opened");
        let far = far.enter(|| BfdSocket::open("far0", FAR, &[NEAR]).expect("opened"));
        near.send(FAR, b"there").expect("sent");
        let there = Datagram { source: NEAR, ttl: 255, payload: b"there".to_vec() };
        assert_eq!(received(&far).await, there);
        far.send(NEAR, b"back").expect("sent");
        assert_eq!(received(&near).await, Datagram { source: FAR, ttl: 255, payload: b"back".to_vec() });
        assert_eq!((near.try_recv().unwrap(), far.try_recv().unwrap()), (None, None));
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn ipv6_works_with_global_and_link_local_addresses() {
    in_new_namespace(async || {
        let far = pair();
        for (near_address, far_address) in [("2001:db8::2", "2001:db8::3"), ("fe80::2", "fe80::3")] {
            ip(&format!("address add {near_address}/64 dev near0 nodad"));
            far.enter(|| ip(&format!("address add {far_address}/64 dev far0 nodad")));
            let (near_address, far_address): (IpAddr, IpAddr) =
                (near_address.parse().unwrap(), far_address.parse().unwrap());
            let near = BfdSocket::open("near0", near_address, &[far_address]).expect("opened");
            let far = far.enter(|| BfdSocket::open("far0", far_address, &[near_address]).expect("opened"));
            near.send(far_address, b"there").expect("sent");
            let expected = Datagram { source: near_address, ttl: 255, payload: b"there".to_vec() };
            assert_eq!(received(&far).await, expected);
        }
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn the_ttl_a_packet_came_with_is_told() {
    in_new_namespace(async || {
        let far = pair();
        let near = BfdSocket::open("near0", NEAR, &[FAR]).expect("opened");
        far.enter(|| {
            let stranger = UdpSocket::bind((FAR_V4, 0)).expect("bound");
            stranger.set_ttl(254).expect("set");
            stranger.send_to(b"forged", (NEAR_V4, 3784)).expect("sent");
        });
        assert_eq!(received(&near).await, Datagram { source: FAR, ttl: 254, payload: b"forged".to_vec() });
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn each_peer_has_a_source_port_of_its_own_in_the_range_of_the_rfc() {
    in_new_namespace(async || {
        let far = pair();
        let other = Ipv4Addr::new(172, 20, 128, 5);
        let (first, second) = far.enter(|| {
            ip("address add 172.20.128.5/16 dev far0");
            let listen = |address| UdpSocket::bind((address, 3784)).expect("bound");
            (listen(FAR_V4), listen(other))
        });
        let near = BfdSocket::open("near0", NEAR, &[FAR, other.into()]).expect("opened");
        assert_eq!(near.peers().collect::<Vec<_>>(), [FAR, other.into()]);
        let ports = [(first, FAR), (second, other.into())].map(|(listener, peer)| {
            listener.set_read_timeout(Some(PATIENCE)).unwrap();
            [(); 2].map(|()| {
                near.send(peer, b"x").expect("sent");
                listener.recv_from(&mut [0; 8]).expect("received").1.port()
            })
        });
        let [[first, first_again], [second, second_again]] = ports;
        assert!(first >= 49_152 && second >= 49_152 && first != second, "{ports:?}");
        assert_eq!((first, second), (first_again, second_again));
    });
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_port_that_is_taken_and_an_interface_that_is_not_there_are_named() {
    in_new_namespace(async || {
        let _far = pair();
        let _first = BfdSocket::open("near0", NEAR, &[FAR]).expect("opened");
        let error = BfdSocket::open("near0", NEAR, &[FAR]).expect_err("taken").to_string();
        assert!(error.contains("near0") && error.contains("3784"), "{error}");
        let error = BfdSocket::open("gone0", NEAR, &[FAR]).expect_err("no interface");
        assert!(matches!(error, BfdSocketError::Open { .. }), "{error}");
        assert!(error.to_string().contains("gone0"), "{error}");
    });
}
