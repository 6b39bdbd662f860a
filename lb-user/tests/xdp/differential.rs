//! Random frames against random maps: the program and the reference model must agree on verdict, action, every byte of
//! what is sent, and the counters.

use std::{collections::HashMap, net::Ipv4Addr};

use lb::dataplane::{
    Dataplane as _, LoadOptions,
    Program::{self, Generic, Native},
    XdpDataplane,
};
use lb_common::{
    Backend, BackendCounters, Be16, Device, Interface, LEASE_BACKUP, LEASE_FOREVER, MODE_DR, MODE_LOCAL,
    MODE_NAT, Mac, NatReply, NatReplyKey6, NextHop, Service, ServiceKey6, Verdict, Vip,
};
use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRunner};

use crate::{
    model::{Expected, LeaseModel, Model, ServiceModel, same},
    namespace::{index, isolated},
    packets::{CLIENT, CLIENT_MAC, Checksum, OWN_MAC, Packet, Protocol, arp, tcp},
    world::{
        DIRECTOR, DROP, FAR, FAR_MAC, NAT_BACKEND, NEAR, NEAR_MAC, OTHER, OWN_ADDRESS, SILENT_CLIENT, VIP,
        VIP_BACKUP, VIP_EXPIRED, address, build_network,
    },
};

const CONFIGURATIONS: u32 = 40;
const FRAMES: usize = 120;
const VIPS: [Ipv4Addr; 3] = [VIP, VIP_BACKUP, VIP_EXPIRED];
const PORTS: [u16; 4] = [53, 80, 443, 8_080];
const BACKENDS: u32 = 12;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn program_agrees_with_the_model() {
    isolated(|| {
        build_network();
        let interfaces = HashMap::from([(1, (1, NEAR_MAC)), (2, (index("far"), FAR_MAC))]);
        let mut runner = TestRunner::new(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(CONFIGURATIONS)
        });
        let result = runner.run(&(model(interfaces), vec(frame(), FRAMES)), |(model, frames)| {
            for program in [Native, Generic] {
                compare(&model, program, &frames)?;
            }
            Ok(())
        });
        if let Err(error) = result {
            panic!("{error}");
        }
    });
}

fn compare(model: &Model, program: Program, frames: &[Vec<u8>]) -> Result<(), TestCaseError> {
    let mut dataplane = load(model);
    let mut verdicts = vec![0; Verdict::ALL.len()];
    let mut backends: HashMap<u32, BackendCounters> = HashMap::new();
    // Pieces are remembered, which the model does not: `fixtures_fragments` has them.
    let whole = |frame: &&Vec<u8>| {
        frame.len() < 22
            || frame[12..14] != [8, 0]
            || u16::from_be_bytes([frame[20], frame[21]]) & 0x3fff == 0
    };
    for frame in frames.iter().filter(whole) {
        let expected = model.decide(program == Generic, frame);
        let seen = dataplane.test_run(program, frame).expect("the kernel runs the program");
        prop_assert_eq!(
            seen.action,
            expected.action,
            "{:?} expected of {} for {}",
            expected.verdict,
            program.name(),
            hex(frame)
        );
        if expected.action != DROP {
            prop_assert!(
                equal(&seen.frame, &expected, frame),
                "{:?} of {}: {} became {}, not {}",
                expected.verdict,
                program.name(),
                hex(frame),
                hex(&seen.frame),
                hex(&expected.frame)
            );
        }
        verdicts[expected.verdict as usize] += 1;
        prop_assert_eq!(
            &dataplane.verdicts().expect("verdicts"),
            &verdicts,
            "{:?} expected of {} for {}",
            expected.verdict,
            program.name(),
            hex(frame)
        );
        if let Some((id, bytes, opens)) = expected.counted {
            let counters = backends.entry(id).or_default();
            counters.packets += 1;
            counters.bytes += bytes;
            counters.connections += u64::from(opens);
        }
    }
    for id in 1..=BACKENDS {
        let expected = backends.get(&id).copied().unwrap_or_default();
        prop_assert_eq!(
            dataplane.backend_counters(id).expect("backend_counters"),
            expected,
            "backend {}",
            id
        );
    }
    Ok(())
}

/// Whether two frames are the same. Where the checksum came in wrong, the zero of one's complement may come out in
/// either form: both are as wrong as before.
fn equal(seen: &[u8], expected: &Expected, came: &[u8]) -> bool {
    if seen == expected.frame {
        return true;
    }
    let transport = 14 + usize::from(came[14] & 15) * 4;
    let fields = [24, if came[23] == 6 { transport + 16 } else { transport + 6 }];
    let (mut seen, mut wanted) = (seen.to_vec(), expected.frame.clone());
    for field in fields {
        let of = |frame: &[u8]| u16::from_be_bytes([frame[field], frame[field + 1]]);
        if same(of(&seen), of(&wanted)) {
            seen[field..field + 2].fill(0);
            wanted[field..field + 2].fill(0);
        }
    }
    seen == wanted
}

fn load(model: &Model) -> XdpDataplane {
    let options = LoadOptions { backends: 64, services: 64, ..LoadOptions::new("/nonexistent") };
    let mut dataplane = XdpDataplane::load(options).expect("the program loads");
    for (&slot, &(ifindex, mac)) in &model.interfaces {
        dataplane
            .put_interface(slot, Interface { ifindex, mac, mtu: 1500, ..Interface::default() })
            .expect("put_interface");
        dataplane.put_device(Device { ifindex, mac, ..Device::default() }).expect("put_device");
    }
    for (&lease, state) in &model.leases {
        let expiry = match state {
            LeaseModel::Owner => LEASE_FOREVER,
            LeaseModel::Backup => LEASE_BACKUP,
            LeaseModel::Expired => 1,
        };
        dataplane.set_lease(lease, expiry).expect("set_lease");
    }
    for (&vip, &lease) in &model.vips {
        dataplane.put_vip(address(vip), Vip { lease, flags: 0 }).expect("put_vip");
    }
    for mac in &model.directors {
        dataplane.put_director(*mac).expect("put_director");
    }
    for (&id, backend) in &model.backends {
        dataplane.put_backend(id, *backend).expect("put_backend");
    }
    for (ring, (&(vip, port, protocol), service)) in (0..).zip(&model.services) {
        if !service.ring.is_empty() {
            dataplane.put_ring(ring, &service.ring).expect("put_ring");
        }
        let key = ServiceKey6 { address: address(vip), port: Be16::new(port), protocol, reserved: 0 };
        let value = Service {
            ring,
            ring_size: service.ring.len() as u32,
            lease: service.lease,
            flags: if service.has_local { Service::HAS_LOCAL } else { 0 },
            ..Service::default()
        };
        dataplane.put_service(key, value).expect("put_service");
    }
    for (&(from, port, protocol), &(vip, vip_port)) in &model.nat_replies {
        let key = NatReplyKey6 { address: address(from), port: Be16::new(port), protocol, reserved: 0 };
        let reply = NatReply { address: address(vip), port: Be16::new(vip_port), reserved: 0, backend: 0 };
        dataplane.put_nat_reply(key, reply).expect("put_nat_reply");
    }
    dataplane
}

fn model(interfaces: HashMap<u16, (u32, Mac)>) -> impl Strategy<Value = Model> {
    let lease = select(vec![LeaseModel::Owner, LeaseModel::Owner, LeaseModel::Backup, LeaseModel::Expired]);
    let next_hop =
        select(vec![NextHop::new(NEAR, 1), NextHop::new(NEAR, 1), NextHop::new(FAR, 2), NextHop::UNRESOLVED]);
    let mode = select(vec![MODE_DR, MODE_DR, MODE_NAT, MODE_NAT, MODE_LOCAL]);
    let backend =
        (next_hop, mode, any::<[u8; 4]>(), any::<u16>()).prop_map(|(next_hop, mode, octets, port)| Backend {
            next_hop,
            address: address(Ipv4Addr::from(octets)),
            port: Be16::new(port),
            mode,
            ..Backend::default()
        });
    let service = (vec(0..=BACKENDS, 0..40), any::<bool>());
    (
        vec(lease, VIPS.len()),
        vec(backend, BACKENDS as usize),
        vec(proptest::option::weighted(0.7, service), VIPS.len() * PORTS.len() * 2),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(move |(leases, backends, services, director, replies)| {
            let lease_of = |vip: usize| vip as u32 + 1;
            let keys = (0..VIPS.len()).flat_map(|vip| {
                PORTS.iter().flat_map(move |&port| [6, 17].map(|protocol| (vip, port, protocol)))
            });
            Model {
                vips: (0..VIPS.len()).map(|vip| (VIPS[vip], lease_of(vip))).collect(),
                leases: (0..).map(lease_of).zip(leases).collect(),
                services: keys
                    .zip(services)
                    .filter_map(|((vip, port, protocol), service)| {
                        let (ring, has_local) = service?;
                        let service = ServiceModel { ring, lease: lease_of(vip), has_local };
                        Some(((VIPS[vip], port, protocol), service))
                    })
                    .collect(),
                backends: (1..).zip(backends).collect(),
                interfaces: interfaces.clone(),
                directors: director.then_some(DIRECTOR).into_iter().collect(),
                nat_replies: if replies {
                    [6, 17].map(|protocol| ((NAT_BACKEND, 8_080, protocol), (VIP, 80))).into()
                } else {
                    HashMap::new()
                },
            }
        })
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => packet().prop_map(|packet| packet.bytes()),
        3 => (packet(), any::<prop::sample::Index>()).prop_map(|(packet, length)| {
            let mut frame = packet.bytes();
            frame.truncate(14 + length.index(frame.len() - 14));
            frame
        }),
        4 => (packet(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(packet, at, value)| {
            // Headers are where a change matters.
            let mut frame = packet.bytes();
            let at = at.index(frame.len().min(70));
            frame[at] = value;
            frame
        }),
        2 => (1_u16..4, select(vec![VIP, VIP_BACKUP, VIP_EXPIRED, OTHER]), 42_usize..60).prop_map(
            |(opcode, target, length)| {
                let mut frame = arp(opcode, CLIENT, target);
                frame.truncate(length);
                frame
            }
        ),
        1 => vec(any::<u8>(), 14..200),
    ]
}

fn packet() -> impl Strategy<Value = Packet> {
    let protocol = prop_oneof![
        3 => (any::<bool>(), any::<bool>()).prop_map(|(syn, ack)| Protocol::Tcp { syn, ack }),
        2 => Just(Protocol::Udp),
    ];
    let checksum = prop_oneof![
        4 => Just(Checksum::Whole),
        3 => Just(Checksum::Partial),
        1 => Just(Checksum::Is(0)),
        1 => any::<u16>().prop_map(Checksum::Is),
    ];
    let destination = prop_oneof![
        6 => select(VIPS.to_vec()),
        2 => select(vec![CLIENT, OWN_ADDRESS, SILENT_CLIENT, OTHER]),
    ];
    // Clients, and the backend whose answers are rewritten.
    let source = prop_oneof![
        3 => any::<[u8; 4]>().prop_map(|octets| (Ipv4Addr::from(octets), None)),
        2 => Just((NAT_BACKEND, Some(8_080_u16))),
    ];
    let payload = prop_oneof![3 => 0_usize..80, 1 => 480_usize..560, 1 => 900_usize..1_440];
    (
        (source, any::<u16>(), destination, prop_oneof![8 => select(PORTS.to_vec()), 1 => any::<u16>()]),
        (protocol, checksum, payload, 0_usize..=10),
        prop_oneof![8 => Just(64_u8), 1 => any::<u8>(), 1 => 0_u8..3],
        (
            select(vec![CLIENT_MAC, CLIENT_MAC, DIRECTOR]),
            prop_oneof![12 => Just(OWN_MAC), 1 => Just(DIRECTOR)],
            prop_oneof![4 => Just(0_usize), 1 => 0_usize..30],
        ),
    )
        .prop_map(
            |(
                ((source, fixed_port), source_port, destination, port),
                (protocol, checksum, payload, option_words),
                ttl,
                (source_mac, destination_mac, padding),
            )| {
                let packet = Packet {
                    source_mac,
                    destination_mac,
                    source: source.into(),
                    source_port: fixed_port.unwrap_or(source_port),
                    protocol,
                    checksum,
                    ttl,
                    padding,
                    // Most packets have no options.
                    options: vec![1; 4 * option_words.saturating_sub(4)],
                    ..tcp(destination, port)
                };
                packet.payload(payload)
            },
        )
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
