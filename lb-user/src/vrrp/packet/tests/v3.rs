//! VRRPv3 over both families, against what keepalived 2.2.7 (Debian's) was recorded sending.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::{collection::vec, prelude::*};

use super::{NOW, bytes, receive};
use crate::{
    config::{ChecksumForm, Transport, VrrpVersion},
    vrrp::packet::{
        Acceptance, Advert, Datagram, DecodeError, Duration, EncodeError, Endpoint, IpAddr, Observations,
        TTL, checksum,
    },
};

const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const NEAR6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 3));
const FAR6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
const FAR_LINK_LOCAL: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0xa));
const GROUP: IpAddr = IpAddr::V4(Transport::GROUP);
const GROUP6: IpAddr = IpAddr::V6(Transport::GROUP6);

/// What keepalived sent, from whom to whom with which TTL, and what it was configured to.
struct Recorded {
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    payload: &'static str,
    centiseconds: u32,
    vips: &'static [&'static str],
}

/// Priority 200, VRID 33. Its hop limit of unicast over IPv6 is 64.
const RECORDED: [Recorded; 5] = [
    Recorded {
        source: FAR,
        destination: GROUP,
        ttl: 255,
        payload: "3121c802000ae031c0000204c0000205",
        centiseconds: 10,
        vips: &["192.0.2.4", "192.0.2.5"],
    },
    Recorded {
        source: FAR,
        destination: NEAR,
        ttl: 255,
        payload: "3121c8010096bfbfc0000204",
        centiseconds: 150,
        vips: &["192.0.2.4"],
    },
    Recorded {
        source: FAR_LINK_LOCAL,
        destination: GROUP6,
        ttl: 255,
        payload: "3121c8020064dcfdfe80000000000000000000000000000420010db8000000000000000000000004",
        centiseconds: 100,
        vips: &["fe80::4", "2001:db8::4"],
    },
    // Its only VIP is not link-local; keepalived warns and does it.
    Recorded {
        source: FAR_LINK_LOCAL,
        destination: GROUP6,
        ttl: 255,
        payload: "3121c8010064db9320010db8000000000000000000000004",
        centiseconds: 100,
        vips: &["2001:db8::4"],
    },
    Recorded {
        source: FAR6,
        destination: NEAR6,
        ttl: 64,
        payload: "3121c80200057e85fe80000000000000000000000000000420010db8000000000000000000000004",
        centiseconds: 5,
        vips: &["fe80::4", "2001:db8::4"],
    },
];

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|address| address.parse().expect("an address")).collect()
}

impl Recorded {
    fn datagram(&self) -> Datagram {
        let (source, destination, ttl) = (self.source, self.destination, self.ttl);
        Datagram { source, destination, ttl, payload: bytes(self.payload) }
    }

    fn advert(&self) -> Advert {
        Advert {
            router_id: 33,
            priority: 200,
            advert_interval: Duration::from_millis(10) * self.centiseconds,
            addresses: addresses(self.vips),
        }
    }

    /// Who sends it, or whom it is sent to.
    fn acceptance(&self, is_sender: bool) -> Acceptance {
        let group = [GROUP, GROUP6].contains(&self.destination).then_some(self.destination);
        let near = if self.source.is_ipv4() { NEAR } else { NEAR6 };
        let (source, peer) = if is_sender { (self.source, near) } else { (near, self.source) };
        Acceptance {
            version: VrrpVersion::V3,
            router_id: 33,
            source,
            peers: if group.is_some() { vec![] } else { vec![peer] },
            group,
            min_ttl: self.ttl,
            password: None,
            authentication: None,
            checksum: ChecksumForm::default(),
            advert_interval: Duration::from_millis(10) * self.centiseconds,
            addresses: addresses(self.vips),
        }
    }
}

#[test]
fn recorded_adverts_of_keepalived_are_read_and_written_to_the_byte() {
    for recorded in &RECORDED {
        let mut receiver = Endpoint::new(recorded.acceptance(false));
        assert_eq!(receive(&mut receiver, &recorded.datagram(), NOW), Ok(recorded.advert()));
        let expected = u64::from(recorded.source.is_ipv4());
        let observed = Observations { checksum_pseudo_header: expected, ..Observations::default() };
        assert_eq!(*receiver.observed(), observed);

        let mut sender = Endpoint::new(recorded.acceptance(true));
        assert_eq!(sender.encode(200, recorded.destination, NOW), Ok(bytes(recorded.payload)));
    }
}

#[test]
fn checksum_of_the_rfc_is_accepted_counted_and_sent_where_it_is_configured() {
    // The words 3121 c801 0096 c000 0204 sum to 1bbbc, folded bbbd; the checksum is its complement.
    let alone = bytes("3121c80100964442c0000204");
    let recorded = &RECORDED[1];
    let datagram = Datagram { payload: alone.clone(), ..recorded.datagram() };
    let mut receiver = Endpoint::new(recorded.acceptance(false));
    assert_eq!(receive(&mut receiver, &datagram, NOW), Ok(recorded.advert()));
    let observed = Observations { checksum_message_only: 1, ..Observations::default() };
    assert_eq!(*receiver.observed(), observed);

    let acceptance = Acceptance { checksum: ChecksumForm::MessageOnly, ..recorded.acceptance(true) };
    assert_eq!(Endpoint::new(acceptance).encode(200, NEAR, NOW), Ok(alone));

    // There is no such form over IPv6, whatever the configuration says.
    let recorded = &RECORDED[2];
    let mut message = bytes(recorded.payload);
    checksum::put(&mut message, 0);
    let sum = checksum::of_message(&message);
    checksum::put(&mut message, sum);
    let datagram = Datagram { payload: message, ..recorded.datagram() };
    let error = receive(&mut Endpoint::new(recorded.acceptance(false)), &datagram, NOW);
    assert_eq!(error, Err(DecodeError::BadChecksum { checksum: sum }));
    let acceptance = Acceptance { checksum: ChecksumForm::MessageOnly, ..recorded.acceptance(true) };
    assert_eq!(Endpoint::new(acceptance).encode(200, GROUP6, NOW), Ok(bytes(recorded.payload)));
}

#[test]
fn checksum_covers_the_addresses_of_the_ip_header() {
    for recorded in &RECORDED {
        let group = Acceptance { group: Some(recorded.destination), ..recorded.acceptance(false) };
        let good = recorded.datagram();
        let other = if recorded.source.is_ipv4() { "198.51.100.1" } else { "2001:db8:77::1" };
        let other: IpAddr = other.parse().expect("an address");
        for datagram in [Datagram { source: other, ..good.clone() }, Datagram { destination: other, ..good }]
        {
            let decoded = receive(&mut Endpoint::new(group.clone()), &datagram, NOW);
            assert!(matches!(decoded, Err(DecodeError::BadChecksum { .. })), "{decoded:?}");
        }
    }
}

#[test]
fn another_interval_and_other_vips_are_no_reason_to_discard() {
    let recorded = &RECORDED[0];
    let acceptance = Acceptance {
        advert_interval: Duration::from_secs(1),
        addresses: addresses(&["192.0.2.4"]),
        ..recorded.acceptance(false)
    };
    let mut receiver = Endpoint::new(acceptance);
    assert_eq!(receive(&mut receiver, &recorded.datagram(), NOW), Ok(recorded.advert()));
    assert_eq!(receiver.observed().addresses_differ, 1);
}

#[test]
fn each_fault_has_its_own_error() {
    let recorded = &RECORDED[1];
    let good = recorded.datagram();
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut message = bytes(recorded.payload);
        change(&mut message);
        checksum::put(&mut message, 0);
        let sum = checksum::with_pseudo_header(FAR, NEAR, &message);
        checksum::put(&mut message, sum);
        Datagram { payload: message, ..good.clone() }
    };
    let other: IpAddr = "192.0.2.9".parse().expect("an address");
    let cases = [
        (Datagram { ttl: 254, ..good.clone() }, DecodeError::BadTtl { ttl: 254, least: 255 }),
        (Datagram { source: NEAR, ..good.clone() }, DecodeError::OwnAddress { source_address: NEAR }),
        (Datagram { source: other, ..good.clone() }, DecodeError::UnknownPeer { source_address: other }),
        (changed(|bytes| bytes[0] = 0x21), DecodeError::BadVersion { version: 2, expected: 3 }),
        (changed(|bytes| bytes[0] = 0x32), DecodeError::BadType { kind: 2 }),
        (changed(|bytes| bytes[1] = 34), DecodeError::BadRouterId { router_id: 34 }),
        (changed(|bytes| bytes[3] = 2), DecodeError::BadLength { length: 12, expected: 16 }),
        (changed(|bytes| bytes.extend([0; 4])), DecodeError::BadLength { length: 16, expected: 12 }),
        (
            changed(|bytes| bytes[4..6].fill(0)),
            DecodeError::BadInterval { interval: Duration::ZERO, expected: Duration::from_millis(10) },
        ),
    ];
    for (datagram, expected) in cases {
        let mut receiver = Endpoint::new(recorded.acceptance(false));
        assert_eq!(receive(&mut receiver, &datagram, NOW), Err(expected));
    }
}

#[test]
fn what_does_not_fit_on_the_wire_is_refused() {
    let recorded = &RECORDED[1];
    let acceptance = |interval| Acceptance { advert_interval: interval, ..recorded.acceptance(true) };
    for (milliseconds, fits) in
        [(0, false), (5, false), (10, true), (15, false), (40_950, true), (40_960, false)]
    {
        let interval = Duration::from_millis(milliseconds);
        let encoded = Endpoint::new(acceptance(interval)).encode(100, NEAR, NOW);
        assert_eq!(encoded.is_ok(), fits, "{interval:?}: {encoded:?}");
    }
    let named = |vips| Acceptance { addresses: addresses(vips), ..recorded.acceptance(true) };
    let encoded = Endpoint::new(named(&["fe80::4"])).encode(100, NEAR, NOW);
    assert_eq!(encoded, Err(EncodeError::Family { address: addresses(&["fe80::4"])[0] }));
}

fn address_of(is_ipv4: bool) -> impl Strategy<Value = IpAddr> {
    any::<(u32, u128)>().prop_map(move |(four, six)| {
        if is_ipv4 { Ipv4Addr::from(four).into() } else { Ipv6Addr::from(six).into() }
    })
}

/// A sender and a receiver who know each other, and the sender's destination.
fn pair() -> impl Strategy<Value = (Acceptance, Acceptance, IpAddr)> {
    let forms = prop_oneof![Just(ChecksumForm::PseudoHeader), Just(ChecksumForm::MessageOnly)];
    (any::<bool>(), any::<bool>(), 1u32..=4095, any::<u8>(), forms).prop_flat_map(
        |(is_ipv4, is_unicast, centiseconds, router_id, checksum)| {
            let addresses = vec(address_of(is_ipv4), 1..20);
            let ends = (address_of(is_ipv4), address_of(is_ipv4)).prop_filter("two nodes", |(a, b)| a != b);
            (addresses, ends).prop_map(move |(addresses, (source, peer))| {
                let group = if is_ipv4 { GROUP } else { GROUP6 };
                let sender = Acceptance {
                    version: VrrpVersion::V3,
                    router_id,
                    source,
                    peers: if is_unicast { vec![peer] } else { vec![] },
                    group: (!is_unicast).then_some(group),
                    min_ttl: TTL,
                    password: None,
                    authentication: None,
                    checksum,
                    advert_interval: Duration::from_millis(10) * centiseconds,
                    addresses,
                };
                let peers = if is_unicast { vec![source] } else { vec![] };
                let receiver = Acceptance { source: peer, peers, ..sender.clone() };
                (sender, receiver, if is_unicast { peer } else { group })
            })
        },
    )
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same((sender, receiver, destination) in pair(), priority: u8) {
        let payload = Endpoint::new(sender.clone()).encode(priority, destination, NOW).expect("it fits");
        let datagram = Datagram { source: sender.source, destination, ttl: TTL, payload };
        let expected = Advert {
            router_id: sender.router_id,
            priority,
            advert_interval: sender.advert_interval,
            addresses: sender.addresses.clone(),
        };
        prop_assert_eq!(receive(&mut Endpoint::new(receiver), &datagram, NOW), Ok(expected));
    }

    #[test]
    fn any_flipped_bit_is_rejected(
        (sender, receiver, destination) in pair(),
        priority: u8,
        bit: prop::sample::Index,
    ) {
        let mut payload = Endpoint::new(sender.clone()).encode(priority, destination, NOW).expect("it fits");
        let bit = bit.index(payload.len() * 8);
        payload[bit / 8] ^= 1 << (bit % 8);
        let datagram = Datagram { source: sender.source, destination, ttl: TTL, payload };
        prop_assert!(receive(&mut Endpoint::new(receiver), &datagram, NOW).is_err());
    }

    #[test]
    fn changed_packets_never_panic(
        (sender, receiver, destination) in pair(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in 0..200usize,
        is_resized: bool,
    ) {
        let mut payload = Endpoint::new(sender.clone()).encode(100, destination, NOW).expect("it fits");
        if is_resized {
            payload.resize(length, 0x5a);
        }
        for (place, value) in changes {
            if !payload.is_empty() {
                let place = place.index(payload.len());
                payload[place] = value;
            }
        }
        if payload.len() >= 8 {
            checksum::put(&mut payload, 0);
            let sum = checksum::with_pseudo_header(sender.source, destination, &payload);
            checksum::put(&mut payload, sum);
        }
        let datagram = Datagram { source: sender.source, destination, ttl: TTL, payload };
        let _ = receive(&mut Endpoint::new(receiver), &datagram, NOW);
    }
}
