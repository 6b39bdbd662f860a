//! Packets in pieces: what the tables of `lb-user/tests/xdp` cannot set, time and unsettled slots.

use lb_common::{FRAGMENT_LIFETIME, UNSETTLED};

use super::*;

/// The piece of a frame's packet from `from` to `to` (bytes of its payload, the last of which are missing if there are no
/// more).
fn piece(frame: &[u8], from: usize, to: usize) -> Vec<u8> {
    let payload = &frame[34..];
    let more = to < payload.len();
    let mut piece = [&frame[..34], &payload[from..to]].concat();
    let total = (20 + to - from) as u16;
    piece[16..18].copy_from_slice(&total.to_be_bytes());
    piece[18..20].copy_from_slice(&[0x12, 0x34]);
    piece[20..22].copy_from_slice(&(u16::from(more) << 13 | (from / 8) as u16).to_be_bytes());
    piece[24..26].fill(0);
    let header = checksum::finish(sum(&piece[14..34]));
    piece[24..26].copy_from_slice(&header.to_ne_bytes());
    piece
}

/// A packet to the service, or a reply, with 40 bytes of payload behind its 20 of TCP.
fn long(mut frame: Vec<u8>) -> Vec<u8> {
    frame.truncate(54);
    frame.extend((0..40).map(|n| n * 5));
    frame[50..52].fill(0);
    let transport = checksum::finish(sum(&frame[34..]) + pseudo(&frame));
    frame[50..52].copy_from_slice(&transport.to_ne_bytes());
    frame
}

fn pseudo(frame: &[u8]) -> u64 {
    sum(&frame[26..34]) + u64::from(6_u16.to_be()) + u64::from(60_u16.to_be())
}

fn pieces(frame: &[u8]) -> [Vec<u8>; 3] {
    [piece(frame, 0, 24), piece(frame, 24, 48), piece(frame, 48, 60)]
}

#[test]
fn rewritten_pieces_make_a_packet_with_a_right_checksum() {
    for (frame, verdict) in [(to_service(), Verdict::Nat), (reply(), Verdict::NatReply)] {
        let frame = long(frame);
        let mut maps = Maps::new(MODE_NAT);
        maps.route = Route::Forward { interface: 9, source: OWN, destination: NEIGHBOUR, mtu: 1500 };
        let mut together = Vec::new();
        for (number, piece) in pieces(&frame).iter_mut().enumerate() {
            assert_eq!(maps.run::<false>(piece).verdict, verdict, "{number}");
            assert_eq!(checksum::fold(sum(&piece[14..34])), 0xffff, "header of {number}");
            if number == 0 {
                together.extend_from_slice(&piece[..34]);
            }
            together.extend_from_slice(&piece[34..]);
        }
        assert_eq!(checksum::fold(sum(&together[34..]) + pseudo(&together)), 0xffff);
        assert_eq!(together[54..], frame[54..]);
    }
}

#[test]
fn later_pieces_follow_the_first_for_a_while() {
    let frame = long(to_service());
    let [first, middle, last] = pieces(&frame);
    let mut maps = Maps::new(MODE_DR);
    maps.lease = u64::MAX;
    maps.run::<false>(&mut first.clone());
    for (after, verdict) in [
        (0, Verdict::Dr),
        (FRAGMENT_LIFETIME - 1, Verdict::Dr),
        (FRAGMENT_LIFETIME, Verdict::FragmentUnknown),
    ] {
        maps.now_coarse = 500 + after;
        assert_eq!(maps.run::<false>(&mut middle.clone()).verdict, verdict, "{after}");
        assert_eq!(maps.run::<false>(&mut last.clone()).verdict, verdict, "{after}");
    }
}

#[test]
fn pieces_of_an_unsettled_slot_go_where_the_first_goes() {
    let mut frame = long(to_service());
    frame[47] = 0x10;
    let mut maps = Maps { slot: 2 | UNSETTLED, previous: 1, ..Maps::new(MODE_DR) };
    let [first, middle, last] = pieces(&frame);
    maps.run::<false>(&mut first.clone());
    (maps.slot, maps.previous) = (3, 3);
    maps.run::<false>(&mut middle.clone());
    maps.run::<false>(&mut last.clone());
    let ids: Vec<u32> = maps.counted.borrow().iter().map(|(id, _, _)| *id).collect();
    assert_eq!(ids, [1, 1, 1]);
    assert_eq!(maps.flows.borrow().len(), 1, "only the first piece's flow is known");
}

#[test]
fn lease_that_runs_out_between_two_pieces_ends_it() {
    let [first, middle, _] = pieces(&long(to_service()));
    let mut maps = Maps::new(MODE_DR);
    assert_eq!(maps.run::<false>(&mut first.clone()).verdict, Verdict::Dr);
    maps.now_coarse = maps.lease;
    assert_eq!(maps.run::<false>(&mut middle.clone()).verdict, Verdict::LeaseExpired);
}

#[test]
fn pieces_from_a_director_are_delivered() {
    let mut maps = Maps::new(MODE_DR);
    maps.directors.insert(Mac([2, 0, 0, 0, 0, 9]).key());
    for lease in [0, 1, u64::MAX] {
        maps.lease = lease;
        for piece in &mut pieces(&long(to_service())) {
            assert_eq!(maps.run::<false>(piece).verdict, Verdict::Delivered);
        }
    }
    assert!(maps.fragments.borrow().is_empty());
}

#[test]
fn packets_with_different_identification_do_not_mix() {
    let [first, mut middle, _] = pieces(&long(to_service()));
    let mut maps = Maps::new(MODE_DR);
    maps.run::<false>(&mut first.clone());
    middle[18] ^= 1;
    assert_eq!(maps.run::<false>(&mut middle).verdict, Verdict::FragmentUnknown);
}
