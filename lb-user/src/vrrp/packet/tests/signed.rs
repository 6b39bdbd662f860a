//! Signed adverts: who is believed, and what is not believed twice.

use proptest::prelude::*;

use super::{KEEPALIVED, MASTER, NOW, SECOND, SLAVE, bytes, from_master, receive, slave};
use crate::{
    config::{Authentication, AuthenticationMode, Key, Secret, VrrpVersion},
    time::UnixTime,
    vrrp::packet::{Acceptance, Datagram, DecodeError, Duration, EncodeError, Endpoint, TRAILER_LENGTH, TTL},
};

const WINDOW: Duration = Duration::from_secs(10);

fn keys(list: &[(u8, &str)], send: u8) -> Authentication {
    let key = |(id, secret): &(u8, &str)| Key { id: *id, secret: Secret::parse(secret).expect("a secret") };
    let (mode, window) = (AuthenticationMode::Enforce, WINDOW);
    Authentication { keys: list.iter().map(key).collect(), send, mode, window }
}

const FIRST: (u8, &str) = (1, "correct horse battery staple");
const SECOND_KEY: (u8, &str) = (2, "hex:000102030405060708090a0b0c0d0e0f10111213");

fn receiver(authentication: Option<Authentication>) -> Endpoint {
    Endpoint::new(Acceptance { authentication, ..slave() })
}

fn sender(authentication: Option<Authentication>) -> Endpoint {
    Endpoint::new(Acceptance { source: MASTER.into(), peers: vec![SLAVE.into()], authentication, ..slave() })
}

fn signed(sender: &mut Endpoint, now: UnixTime) -> Datagram {
    from_master(&sender.encode(200, SLAVE.into(), now).expect("it fits"))
}

fn later(duration: Duration) -> UnixTime {
    UnixTime(NOW.0 + duration.as_nanos() as u64)
}

#[test]
fn trailer_follows_the_message_which_stays_as_it_is() {
    let datagram = signed(&mut sender(Some(keys(&[FIRST], 1))), NOW);
    let (message, trailer) = datagram.payload.split_at(KEEPALIVED.len());
    assert_eq!(message, KEEPALIVED);
    assert_eq!(trailer.len(), TRAILER_LENGTH);
    assert_eq!(trailer[..4], [b'L', b'B', 1, 1]);
    assert_eq!(trailer[4..12], NOW.0.to_be_bytes());
}

/// By OpenSSL: `printf …| openssl dgst -sha256 -mac HMAC -macopt hexkey:…` over label, addresses, message and header.
#[test]
fn code_is_what_another_implementation_makes_of_it() {
    let datagram = signed(&mut sender(Some(keys(&[SECOND_KEY], 2))), NOW);
    assert_eq!(
        datagram.payload[KEEPALIVED.len() + 12..],
        bytes("e7f7dcc73138d17c8bfc8fdbcc6dd122b8c5c86661b3d22620cdf542c0ce7d53")
    );
}

#[test]
fn signed_adverts_are_believed_once_and_in_their_order() {
    let mut sender = sender(Some(keys(&[FIRST], 1)));
    let mut receiver = receiver(Some(keys(&[FIRST], 1)));
    // The clock may stand still or go back under a running node: the sequence grows.
    let adverts = [NOW, NOW, UnixTime(NOW.0 - 5), later(SECOND)].map(|now| signed(&mut sender, now));
    for advert in &adverts {
        assert!(receive(&mut receiver, advert, NOW).is_ok());
        let behind = Duration::ZERO;
        assert_eq!(receive(&mut receiver, advert, NOW), Err(DecodeError::Replayed { behind }));
    }
    let behind = SECOND;
    assert_eq!(receive(&mut receiver, &adverts[0], NOW), Err(DecodeError::Replayed { behind }));
}

#[test]
fn what_was_rejected_for_another_reason_is_not_believed_later() {
    let mut sender = sender(Some(keys(&[FIRST], 1)));
    let mut receiver = receiver(Some(keys(&[FIRST], 1)));
    receiver.change(Acceptance { advert_interval: SECOND * 2, ..receiver.acceptance().clone() });
    let advert = signed(&mut sender, NOW);
    assert!(matches!(receive(&mut receiver, &advert, NOW), Err(DecodeError::BadInterval { .. })));
    receiver.change(Acceptance { advert_interval: SECOND, ..receiver.acceptance().clone() });
    assert!(matches!(receive(&mut receiver, &advert, NOW), Err(DecodeError::Replayed { .. })));
}

#[test]
fn who_started_anew_believes_nothing_beyond_the_window() {
    let advert = signed(&mut sender(Some(keys(&[FIRST], 1))), NOW);
    let nanosecond = Duration::from_nanos(1);
    for (now, apart) in [
        (later(WINDOW), None),
        (later(WINDOW + nanosecond), Some(WINDOW + nanosecond)),
        (UnixTime(NOW.0 - WINDOW.as_nanos() as u64 - 1), Some(WINDOW + nanosecond)),
    ] {
        let received = receive(&mut receiver(Some(keys(&[FIRST], 1))), &advert, now);
        match apart {
            None => assert!(received.is_ok()),
            Some(apart) => assert_eq!(received, Err(DecodeError::Stale { apart, window: WINDOW })),
        }
    }
}

#[test]
fn who_was_heard_is_believed_whatever_the_clocks_say() {
    let mut sender = sender(Some(keys(&[FIRST], 1)));
    let mut receiver = receiver(Some(keys(&[FIRST], 1)));
    assert!(receive(&mut receiver, &signed(&mut sender, NOW), NOW).is_ok());
    let jumped = later(Duration::from_hours(24));
    assert!(receive(&mut receiver, &signed(&mut sender, later(SECOND)), jumped).is_ok());
}

#[test]
fn keys_are_changed_one_node_after_the_other() {
    let both = |send| Some(keys(&[FIRST, SECOND_KEY], send));
    let only = |key: (u8, &str)| Some(keys(&[key], key.0));
    for (sends, receives) in
        [(only(FIRST), both(1)), (both(1), both(2)), (both(2), both(1)), (both(2), only(SECOND_KEY))]
    {
        let advert = signed(&mut sender(sends), NOW);
        assert!(receive(&mut receiver(receives), &advert, NOW).is_ok());
    }
    let advert = signed(&mut sender(both(1)), NOW);
    let received = receive(&mut receiver(only(SECOND_KEY)), &advert, NOW);
    assert_eq!(received, Err(DecodeError::UnknownKey { id: 1 }));
}

#[test]
fn unsigned_and_forged_adverts_count_for_nothing() {
    let enforcing = || receiver(Some(keys(&[FIRST], 1)));
    let unsigned = signed(&mut sender(None), NOW);
    assert_eq!(receive(&mut enforcing(), &unsigned, NOW), Err(DecodeError::Unsigned));

    let other = (1, "another secret of sixteen bytes");
    let forged = signed(&mut sender(Some(keys(&[other], 1))), NOW);
    assert_eq!(receive(&mut enforcing(), &forged, NOW), Err(DecodeError::BadSignature { id: 1 }));

    let advert = signed(&mut sender(Some(keys(&[FIRST], 1))), NOW);
    assert_eq!(receive(&mut receiver(None), &advert, NOW), Err(DecodeError::UnexpectedSignature));
    let mut cut = advert.clone();
    cut.payload.pop();
    let expected = KEEPALIVED.len();
    let length = expected + TRAILER_LENGTH - 1;
    assert_eq!(receive(&mut enforcing(), &cut, NOW), Err(DecodeError::BadLength { length, expected }));
    let mut unmarked = advert;
    unmarked.payload[expected] = b'X';
    assert_eq!(receive(&mut enforcing(), &unmarked, NOW), Err(DecodeError::Unsigned));
}

#[test]
fn permissive_node_believes_and_counts_what_is_unsigned_but_nothing_forged() {
    let permissive = Authentication { mode: AuthenticationMode::Permissive, ..keys(&[FIRST], 1) };
    let mut receiver = receiver(Some(permissive));
    assert!(receive(&mut receiver, &from_master(&KEEPALIVED), NOW).is_ok());
    assert_eq!(receiver.observed().unsigned_accepted, 1);
    let forged = signed(&mut sender(Some(keys(&[(1, "another secret of sixteen bytes")], 1))), NOW);
    assert_eq!(receive(&mut receiver, &forged, NOW), Err(DecodeError::BadSignature { id: 1 }));
    assert_eq!(receiver.observed().unsigned_accepted, 1);
}

#[test]
fn secret_that_was_never_read_signs_and_believes_nothing() {
    let unread = Authentication {
        keys: vec![Key { id: 1, secret: Secret::File("/etc/lb/vrrp.key".into()) }],
        ..keys(&[FIRST], 1)
    };
    let encoded = sender(Some(unread.clone())).encode(200, SLAVE.into(), NOW);
    assert_eq!(encoded, Err(EncodeError::NoKey { id: 1 }));
    let advert = signed(&mut sender(Some(keys(&[FIRST], 1))), NOW);
    let received = receive(&mut receiver(Some(unread)), &advert, NOW);
    assert_eq!(received, Err(DecodeError::UnknownKey { id: 1 }));
}

#[test]
fn nothing_prints_a_secret() {
    let endpoint = sender(Some(keys(&[FIRST, SECOND_KEY], 1)));
    let text = format!("{endpoint:?}");
    assert!(!text.contains("horse") && !text.contains("[0, 1, 2") && text.contains("Secret(…)"), "{text}");
}

proptest! {
    #[test]
    fn any_flipped_bit_and_any_other_address_is_rejected(
        is_v3: bool,
        priority: u8,
        bit: prop::sample::Index,
        other: [u8; 4],
    ) {
        let version = if is_v3 { VrrpVersion::V3 } else { VrrpVersion::V2 };
        let acceptance = |endpoint: Endpoint| Acceptance {
            version,
            // A source that is believed whoever it is.
            group: Some(SLAVE.into()),
            password: None,
            authentication: Some(keys(&[FIRST], 1)),
            ..endpoint.acceptance().clone()
        };
        let mut sender = Endpoint::new(acceptance(sender(None)));
        let receiver = acceptance(receiver(None));
        let payload = sender.encode(priority, SLAVE.into(), NOW).expect("it fits");
        let good = Datagram { source: MASTER.into(), destination: SLAVE.into(), ttl: TTL, payload };
        prop_assert!(receive(&mut Endpoint::new(receiver.clone()), &good, NOW).is_ok());

        let mut flipped = good.clone();
        let bit = bit.index(flipped.payload.len() * 8);
        flipped.payload[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(receive(&mut Endpoint::new(receiver.clone()), &flipped, NOW).is_err());

        let moved = Datagram { source: other.into(), ..good.clone() };
        prop_assert!(other == MASTER.octets() || receive(&mut Endpoint::new(receiver), &moved, NOW).is_err());
    }
}
