//! Connections that nobody remembers, in unsettled slots, and the sockets of this node.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use lb::dataplane::{
    Dataplane as _,
    Program::{Generic, Native},
};
use lb_common::{Be16, Service, ServiceKey6, UNSETTLED};

use crate::{
    namespace::{ip, isolated},
    packets::{Packet, Protocol, tcp, udp},
    world::{DR, DR_FAR, LOCAL, VIP, VIP6, World, backend_of, build_network},
};

/// Where the previous backends are.
const PREVIOUS: u32 = 120;

/// The slots of [`DR`] move from one backend to another.
fn unsettle(world: &mut World, vip: IpAddr, protocol: u8, previous: u16, current: u16) {
    let key = ServiceKey6 { address: vip.into(), port: Be16::new(DR), protocol, reserved: 0 };
    let service =
        Service { ring: u32::from(DR), ring_size: 1, lease: 1, previous: PREVIOUS, ..Service::default() };
    world.dataplane.put_ring(PREVIOUS, &[backend_of(previous)]).expect("put_ring");
    world.dataplane.put_service(key, service).expect("put_service");
    world.dataplane.put_ring(service.ring, &[backend_of(current) | UNSETTLED]).expect("put_ring");
}

/// The service whose backend a packet goes to.
fn taker(world: &mut World, program: lb::dataplane::Program, packet: &Packet) -> u16 {
    let seen = world.see(program, &packet.bytes());
    assert_eq!(seen.backends.len(), 1, "{seen:?}");
    u16::try_from(seen.backends[0].0).expect("backends are numbered by ports")
}

/// A connection of this node with itself: its accepting end and the port of the other.
fn connect(listener: &TcpListener) -> (TcpStream, TcpStream, u16) {
    let client = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    let (accepted, from) = listener.accept().expect("one waits");
    (client, accepted, from.port())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn connection_nobody_remembers_is_with_this_node_if_it_has_the_socket() {
    isolated(|| {
        build_network();
        ip("address add 172.20.128.4/32 dev lo");
        ip("address add 2001:db8::4/128 dev lo nodad");
        for program in [Native, Generic] {
            for vip in [IpAddr::from(VIP), VIP6.into()] {
                for (previous, current) in [(LOCAL, DR_FAR), (DR_FAR, LOCAL)] {
                    let mut world = World::load();
                    unsettle(&mut world, vip, 6, previous, current);
                    let listener = TcpListener::bind(SocketAddr::new(vip, DR)).expect("the VIP is on lo");
                    let (client, accepted, port) = connect(&listener);
                    // A node that talks with one of its own addresses does so from that address.
                    let going_on = |port| Packet {
                        protocol: Protocol::Tcp { syn: false, ack: true },
                        ..tcp(vip, DR).source(vip).source_port(port)
                    };
                    assert_eq!(taker(&mut world, program, &going_on(port)), LOCAL, "it has the socket");
                    let other = port.wrapping_add(1).max(1_024);
                    assert_eq!(taker(&mut world, program, &going_on(other)), DR_FAR, "it only listens");
                    assert_eq!(
                        taker(&mut world, program, &going_on(7).syn()),
                        current,
                        "a new one goes where new ones go"
                    );
                    drop((client, accepted));
                    assert_eq!(taker(&mut world, program, &going_on(port)), LOCAL, "remembered");
                }
            }
        }
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn datagram_nobody_remembers_goes_to_the_previous_backend() {
    isolated(|| {
        build_network();
        let mut world = World::load();
        unsettle(&mut world, VIP.into(), 17, LOCAL, DR_FAR);
        let datagram = udp(VIP, DR).source_port(1);
        assert_eq!(taker(&mut world, Native, &datagram), LOCAL);
    });
}
