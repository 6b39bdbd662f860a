use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3));

/// Diagnostic 1, state Up, poll; discriminators 7 and 9; 50 ms both ways.
const UP: [u8; LENGTH] =
    [0x21, 0xe0, 3, 24, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50, 0, 0, 0, 0];

fn datagram(payload: &[u8]) -> Datagram {
    Datagram { source: PEER, ttl: 255, payload: payload.to_vec() }
}

/// One session: this node's discriminator 9, with [`PEER`].
fn find(discriminator: Option<u32>, source: IpAddr) -> Option<()> {
    (discriminator.is_none_or(|discriminator| discriminator == 9) && source == PEER).then_some(())
}

fn decoded(datagram: &Datagram) -> Result<Packet, Rejection> {
    decode(datagram, find).map(|(packet, ())| packet)
}

/// The bytes of [`UP`] with some replaced.
fn edited(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = UP.to_vec();
    for (index, byte) in changes {
        bytes[*index] = *byte;
    }
    bytes
}

fn up() -> Packet {
    Packet {
        diagnostic: Diagnostic::DETECTION_TIME_EXPIRED,
        state: SessionState::Up,
        poll: true,
        final_: false,
        control_plane_independent: false,
        demand: false,
        multiplier: 3,
        my_discriminator: 7,
        your_discriminator: 9,
        desired_min_tx: Duration::from_millis(50),
        required_min_rx: Duration::from_millis(50),
    }
}

#[test]
fn a_packet_is_these_bytes() {
    assert_eq!(up().encode(), UP);
    assert_eq!(decoded(&datagram(&UP)), Ok(up()));
}

#[test]
fn each_flag_and_state_has_its_bit() {
    let down = Packet { state: SessionState::Down, poll: false, final_: true, ..up() };
    for (packet, byte) in [
        (down, 0x50),
        (Packet { state: SessionState::AdminDown, ..down }, 0x10),
        (Packet { state: SessionState::Init, ..down }, 0x90),
        (Packet { control_plane_independent: true, ..down }, 0x58),
        (Packet { demand: true, ..down }, 0x52),
    ] {
        assert_eq!(packet.encode()[1], byte, "{packet:?}");
        assert_eq!(decoded(&datagram(&packet.encode())), Ok(packet));
    }
}

#[test]
fn an_interval_that_does_not_fit_is_the_longest_there_is() {
    let packet = Packet { desired_min_tx: Duration::from_hours(2), ..up() };
    assert_eq!(packet.encode()[12..16], [0xff; 4]);
}

#[test]
fn what_follows_the_packet_is_ignored() {
    let mut bytes = UP.to_vec();
    bytes.extend([1, 2, 3]);
    assert_eq!(decoded(&datagram(&bytes)), Ok(up()));
}

#[test]
fn the_first_check_that_fails_names_the_fault() {
    let at = |bytes: Vec<u8>| datagram(&bytes);
    // Each has also every later fault that can be had beside it.
    let wrong = [(1, 0xe5), (2, 0), (7, 0), (11, 8)];
    let cases = [
        (Datagram { ttl: 254, ..at(vec![]) }, Rejection::BadTtl { ttl: 254 }),
        (at(vec![0x20, 0, 3]), Rejection::Truncated { length: 3 }),
        (at(edited(&[(0, 0x41), (3, 9)])), Rejection::BadVersion { version: 2 }),
        (at(edited(&[(3, 23), wrong[1]])), Rejection::BadLength { says: 23, length: 24 }),
        (at(edited(&[(3, 25), wrong[1]])), Rejection::BadLength { says: 25, length: 24 }),
        (at(edited(&[wrong[0]])), Rejection::BadLength { says: 24, length: 24 }),
        (at(UP[..20].to_vec()), Rejection::BadLength { says: 24, length: 20 }),
        (at(edited(&[(1, 0xe1), wrong[1], wrong[2], wrong[3]])), Rejection::ZeroMultiplier),
        (at(edited(&[(1, 0xe1), wrong[2], wrong[3]])), Rejection::Multipoint),
        (at(edited(&[wrong[2], wrong[3]])), Rejection::ZeroDiscriminator),
        (at(edited(&[wrong[3]])), Rejection::UnknownDiscriminator { discriminator: 8, source_address: PEER }),
        (at(edited(&[(11, 0)])), Rejection::NoDiscriminator { state: SessionState::Up }),
        (at(edited(&[(1, 0x80), (11, 0)])), Rejection::NoDiscriminator { state: SessionState::Init }),
    ];
    for (datagram, rejection) in cases {
        assert_eq!(decoded(&datagram), Err(rejection), "{datagram:x?}");
    }
    let stranger = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66));
    let first = Datagram { source: stranger, ..datagram(&edited(&[(1, 0x40), (11, 0)])) };
    assert_eq!(decoded(&first), Err(Rejection::UnknownPeer { source_address: stranger }));
    let guess = Datagram { source: stranger, ..datagram(&UP) };
    let unknown = Rejection::UnknownDiscriminator { discriminator: 9, source_address: stranger };
    assert_eq!(decoded(&guess), Err(unknown));
}

#[test]
fn a_sender_that_is_down_need_not_know_the_discriminator() {
    for state in [SessionState::Down, SessionState::AdminDown] {
        let packet = Packet { state, your_discriminator: 0, ..up() };
        assert_eq!(decoded(&datagram(&packet.encode())), Ok(packet));
    }
}

#[test]
fn an_authenticated_packet_is_refused() {
    let mut bytes = edited(&[(1, 0xe4), (3, 27)]);
    bytes.extend([1, 3, 1]);
    assert_eq!(decoded(&datagram(&bytes)), Err(Rejection::Authenticated));
}

#[test]
fn every_rejection_has_a_counter_of_its_own() {
    let mut counters = Counters::default();
    assert_eq!(counters.count(&Rejection::Multipoint), 1);
    assert_eq!(counters.count(&Rejection::Multipoint), 2);
    let set: Vec<_> = counters.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(set, [("multipoint", 2)]);
    let mut names = Rejection::NAMES.to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Rejection::NAMES.len());
}

proptest! {
    #[test]
    fn random_bytes_never_panic(ttl in prop_oneof![Just(255u8), any::<u8>()], payload in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = decode(&Datagram { source: PEER, ttl, payload }, |_, _| Some(()));
    }

    #[test]
    fn nearly_right_bytes_never_panic_and_what_is_accepted_is_said_again(
        changes in proptest::collection::vec((0..LENGTH, any::<u8>()), 0..4), cut in 0..=LENGTH,
    ) {
        let datagram = datagram(&edited(&changes)[..cut.max(1)]);
        if let Ok((packet, ())) = decode(&datagram, |_, _| Some(())) {
            prop_assert_eq!(decode(&self::datagram(&packet.encode()), |_, _| Some(())), Ok((packet, ())));
        }
    }
}
