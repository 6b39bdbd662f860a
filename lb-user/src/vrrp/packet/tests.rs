use proptest::{collection::vec, prelude::*};

use super::*;

const MASTER: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 2);
const SLAVE: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 3);
const VIP: Ipv4Addr = Ipv4Addr::new(172, 20, 128, 4);
const SECOND: Duration = Duration::from_secs(1);

/// Recorded from Debian's keepalived 2.2.7 with the tutorial's configuration of the master (less its track
/// script): protocol 112, TTL 255, from 172.20.128.2 to 172.20.128.3.
const KEEPALIVED: [u8; 20] = [
    0x21, 0x21, 0xc8, 0x01, 0x01, 0x01, 0x35, 0x86, 0xac, 0x14, 0x80, 0x04, 0x6c, 0x65, 0x74, 0x6d, 0x65,
    0x69, 0x6e, 0x00,
];
/// The same, when that keepalived was stopped.
const KEEPALIVED_FAREWELL: [u8; 20] = [
    0x21, 0x21, 0x00, 0x01, 0x01, 0x01, 0xfd, 0x86, 0xac, 0x14, 0x80, 0x04, 0x6c, 0x65, 0x74, 0x6d, 0x65,
    0x69, 0x6e, 0x00,
];
/// By RFC 3768 §5.1, two addresses, no authentication: the words 2105 6402 0003 c000 0201 c000 0202 sum to
/// 2690d, folded 690f, and the checksum is its complement.
const BY_RFC: [u8; 24] = [
    0x21, 0x05, 0x64, 0x02, 0x00, 0x03, 0xf6, 0xf0, 0xc0, 0x00, 0x02, 0x01, 0xc0, 0x00, 0x02, 0x02, 0, 0, 0,
    0, 0, 0, 0, 0,
];

/// The tutorial's slave.
fn slave() -> Acceptance {
    Acceptance {
        version: VrrpVersion::V2,
        router_id: 33,
        source: SLAVE.into(),
        peers: vec![MASTER.into()],
        authentication: Some(Password(*b"letmein\0")),
        advert_interval: SECOND,
        addresses: vec![VIP.into()],
    }
}

fn from_master(payload: &[u8]) -> Datagram {
    Datagram { source: MASTER.into(), ttl: TTL, payload: payload.to_vec() }
}

fn decode_by(acceptance: &Acceptance, datagram: &Datagram) -> Result<Advert, DecodeError> {
    decode(datagram, |router_id| (router_id == acceptance.router_id).then_some(acceptance))
}

/// Changes bytes and makes the checksum right again.
fn changed(payload: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut payload = payload.to_vec();
    change(&mut payload);
    payload[6..8].fill(0);
    let checksum = checksum(&payload);
    payload[6..8].copy_from_slice(&checksum.to_be_bytes());
    payload
}

#[test]
fn recorded_adverts_of_keepalived_are_read_and_written_to_the_byte() {
    for (bytes, priority) in [(KEEPALIVED, 200), (KEEPALIVED_FAREWELL, 0)] {
        let advert = Advert { router_id: 33, priority, advert_interval: SECOND, addresses: vec![VIP.into()] };
        assert_eq!(decode_by(&slave(), &from_master(&bytes)), Ok(advert));
        assert_eq!(slave().encode(priority), Ok(bytes.to_vec()));
    }
}

#[test]
fn advert_by_the_rfc_has_eight_zero_bytes_of_authentication() {
    let (first, second) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    let advert_interval = SECOND * 3;
    let advert =
        Advert { router_id: 5, priority: 100, advert_interval, addresses: vec![first.into(), second.into()] };
    assert_eq!(advert.encode(None), Ok(BY_RFC.to_vec()));

    // The order of the addresses does not matter.
    let addresses = vec![second.into(), first.into()];
    let acceptance = Acceptance { router_id: 5, authentication: None, advert_interval, addresses, ..slave() };
    assert_eq!(decode_by(&acceptance, &from_master(&BY_RFC)), Ok(advert));
    // Without a password the data is ignored.
    let noise = changed(&BY_RFC, |bytes| bytes[16..].fill(7));
    assert!(decode_by(&acceptance, &from_master(&noise)).is_ok());
}

#[test]
fn each_fault_has_its_own_error() {
    let good = from_master(&KEEPALIVED);
    let ttl = |ttl| Datagram { ttl, ..good.clone() };
    let source = |source| Datagram { source, ..good.clone() };
    let payload = |change: fn(&mut Vec<u8>)| from_master(&changed(&KEEPALIVED, change));
    let cases = [
        (ttl(254), DecodeError::BadTtl { ttl: 254 }),
        (from_master(&[]), DecodeError::BadLength { length: 0, expected: 20 }),
        (from_master(&KEEPALIVED[..7]), DecodeError::BadLength { length: 7, expected: 20 }),
        (from_master(&KEEPALIVED[..19]), DecodeError::BadLength { length: 19, expected: 20 }),
        (payload(|bytes| bytes.extend([0, 0])), DecodeError::BadLength { length: 22, expected: 20 }),
        (payload(|bytes| bytes[3] = 2), DecodeError::BadLength { length: 20, expected: 24 }),
        (payload(|bytes| bytes[0] = 0x31), DecodeError::BadVersion { version: 3 }),
        (payload(|bytes| bytes[0] = 0x22), DecodeError::BadType { kind: 2 }),
        (
            from_master(&[&KEEPALIVED[..6], &[0x35, 0x87], &KEEPALIVED[8..]].concat()),
            DecodeError::BadChecksum { checksum: 0x3587 },
        ),
        (payload(|bytes| bytes[1] = 34), DecodeError::BadRouterId { router_id: 34 }),
        (source(SLAVE.into()), DecodeError::OwnAddress { source_address: SLAVE.into() }),
        (source(VIP.into()), DecodeError::UnknownPeer { source_address: VIP.into() }),
        (payload(|bytes| bytes[4] = 0), DecodeError::BadAuthenticationType { kind: 0, expected: 1 }),
        (payload(|bytes| bytes[4] = 2), DecodeError::BadAuthenticationType { kind: 2, expected: 1 }),
        (payload(|bytes| bytes[12] = b'L'), DecodeError::BadAuthentication),
        (payload(|bytes| bytes[19] = b'!'), DecodeError::BadAuthentication),
        (payload(|bytes| bytes[5] = 2), DecodeError::BadInterval { interval: SECOND * 2, expected: SECOND }),
        (
            payload(|bytes| bytes[11] = 5),
            DecodeError::BadAddresses {
                addresses: vec![Ipv4Addr::new(172, 20, 128, 5).into()],
                expected: vec![VIP.into()],
            },
        ),
        (
            payload(|bytes| {
                bytes[3] = 0;
                bytes.drain(8..12);
            }),
            DecodeError::BadAddresses { addresses: vec![], expected: vec![VIP.into()] },
        ),
    ];
    let mut seen = [false; DecodeError::NAMES.len()];
    for (datagram, expected) in cases {
        seen[expected.index()] = true;
        assert_eq!(decode_by(&slave(), &datagram), Err(expected));
    }
    assert_eq!(seen, [true; DecodeError::NAMES.len()], "every error has a case");
}

#[test]
fn addresses_of_the_address_owner_are_not_compared() {
    let payload = changed(&KEEPALIVED, |bytes| {
        bytes[2] = 255;
        bytes[11] = 5;
    });
    let advert = decode_by(&slave(), &from_master(&payload)).expect("RFC 3768 §7.1: continue processing");
    assert_eq!((advert.priority, advert.addresses), (255, vec![Ipv4Addr::new(172, 20, 128, 5).into()]));
}

#[test]
fn what_does_not_fit_on_the_wire_is_refused() {
    let advert = |advert_interval, count| Advert {
        router_id: 1,
        priority: 1,
        advert_interval,
        addresses: vec![VIP.into(); count],
    };
    assert_eq!(advert(SECOND, 255).encode(None).map(|bytes| bytes.len()), Ok(1036));
    assert_eq!(advert(SECOND, 256).encode(None), Err(EncodeError::TooManyAddresses { count: 256 }));
    for interval in [Duration::ZERO, SECOND / 2, SECOND * 3 / 2, SECOND * 256] {
        assert_eq!(advert(interval, 1).encode(None), Err(EncodeError::Interval { interval }));
    }
}

#[test]
fn counters_count_by_name() {
    let mut counters = DecodeCounters::default();
    assert_eq!(counters.count(&DecodeError::BadTtl { ttl: 1 }), 1);
    assert_eq!(counters.count(&DecodeError::BadTtl { ttl: 64 }), 2);
    assert_eq!(counters.count(&DecodeError::BadAuthentication), 1);
    let counted: Vec<_> = counters.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [("bad_ttl", 2), ("bad_authentication", 1)]);
}

#[test]
fn errors_never_show_a_password() {
    let wrong = changed(&KEEPALIVED, |bytes| bytes[12..].copy_from_slice(b"sesame!!"));
    let error = decode_by(&slave(), &from_master(&wrong)).expect_err("a wrong password");
    let text = format!("{error} {error:?} {:?}", slave());
    assert!(!text.contains("letmein") && !text.contains("sesame"), "{text}");
}

fn acceptance() -> impl Strategy<Value = Acceptance> {
    let password = proptest::option::of(any::<[u8; 8]>().prop_map(Password));
    (any::<u8>(), password, 1u64..=255, vec(any::<Ipv4Addr>().prop_map(IpAddr::from), 1..20)).prop_map(
        |(router_id, authentication, seconds, addresses)| Acceptance {
            router_id,
            authentication,
            advert_interval: Duration::from_secs(seconds),
            addresses,
            ..slave()
        },
    )
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(acceptance in acceptance(), priority: u8) {
        let datagram = from_master(&acceptance.encode(priority).expect("it fits"));
        let expected = Advert {
            router_id: acceptance.router_id,
            priority,
            advert_interval: acceptance.advert_interval,
            addresses: acceptance.addresses.clone(),
        };
        prop_assert_eq!(decode_by(&acceptance, &datagram), Ok(expected));
    }

    #[test]
    fn any_flipped_bit_is_rejected(acceptance in acceptance(), priority: u8, bit: prop::sample::Index) {
        let mut datagram = from_master(&acceptance.encode(priority).expect("it fits"));
        let bit = bit.index(datagram.payload.len() * 8);
        datagram.payload[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(decode_by(&acceptance, &datagram).is_err());
    }

    #[test]
    fn random_bytes_never_panic(payload in vec(any::<u8>(), 0..100), ttl: u8, acceptance in acceptance()) {
        let _ = decode(&Datagram { source: MASTER.into(), ttl, payload }, |_| Some(&acceptance));
    }

    /// Past the checks that random bytes hardly ever pass.
    #[test]
    fn random_bytes_behind_a_right_header_never_panic(
        rest in vec(any::<u8>(), 0..100),
        count: u8,
        acceptance in acceptance(),
    ) {
        let header = [0x21, acceptance.router_id, 100, count, 1, 1, 0, 0];
        let payload = changed(&[header.as_slice(), &rest].concat(), |_| {});
        let _ = decode(&from_master(&payload), |_| Some(&acceptance));
    }
}
