//! Answers to packets that are too big; the answers themselves are in the larger tables of `lb-user/tests/xdp`.

use lb_common::MODE_IPIP;

use super::*;

/// Bytes of the way to the backend that the outer header leaves.
const ROOM: u16 = 1_380;

fn narrow() -> Maps {
    let mut maps = Maps::new(MODE_IPIP);
    maps.backend.mtu = ROOM + 20;
    maps
}

/// A packet of so many bytes.
fn packet(length: u16) -> Vec<u8> {
    let mut frame = to_service();
    frame.resize(14 + usize::from(length), 0x5a);
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    frame[24..26].fill(0);
    let header = checksum::finish(sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&header.to_ne_bytes());
    frame
}

fn tcp_pseudo_header(frame: &[u8]) -> u64 {
    let length = u16::from_be_bytes([frame[16], frame[17]]) - 20;
    sum(&frame[26..34]) + u64::from(6_u16.to_be()) + u64::from(length.to_be())
}

#[test]
fn what_fits_is_encapsulated() {
    let (decision, frame) = narrow().run_with_room::<false>(&packet(ROOM));
    assert_eq!(decision.verdict, Verdict::Ipip);
    assert_eq!(frame.len(), 14 + 20 + usize::from(ROOM));
}

#[test]
fn answer_is_right_once_the_kernel_has_finished_the_quoted_checksum() {
    let mut partial = packet(ROOM + 1);
    let field = checksum::fold(tcp_pseudo_header(&partial));
    partial[50..52].copy_from_slice(&field.to_ne_bytes());

    let (decision, mut answer) = narrow().run_with_room::<true>(&partial);
    assert_eq!(decision, Decision { verdict: Verdict::TooBigAnswered, egress: Egress::BACK });
    assert_eq!(answer[62..], partial[34..34 + answer.len() - 62], "the quote is as it came");
    // What the kernel does where the note says that the sum begins.
    let finished = checksum::finish(sum(&answer[62..]));
    answer[78..80].copy_from_slice(&finished.to_ne_bytes());
    assert_eq!(checksum::fold(sum(&answer[34..])), 0xffff);
}

#[test]
fn answer_in_native_mode_is_right_at_once() {
    let mut partial = packet(ROOM + 1);
    let field = checksum::fold(tcp_pseudo_header(&partial));
    partial[50..52].copy_from_slice(&field.to_ne_bytes());
    let (decision, answer) = narrow().run_with_room::<false>(&partial);
    assert_eq!(decision.verdict, Verdict::TooBigAnswered);
    assert_eq!(checksum::fold(sum(&answer[34..])), 0xffff);
}

#[test]
fn merged_packet_is_not_answered() {
    let mut maps = narrow();
    maps.mtu = u32::from(ROOM);
    assert_eq!(maps.run_with_room::<true>(&packet(ROOM + 1)).0.verdict, Verdict::TooLong);
    assert_eq!(maps.run_with_room::<false>(&packet(ROOM + 1)).0.verdict, Verdict::TooBigAnswered);
    maps.mtu += 1;
    assert_eq!(maps.run_with_room::<true>(&packet(ROOM + 1)).0.verdict, Verdict::TooBigAnswered);
}

#[test]
fn nothing_is_answered_without_a_token() {
    let mut maps = Maps { may_answer: false, ..narrow() };
    let frame = packet(ROOM + 1);
    let (decision, after) = maps.run_with_room::<false>(&frame);
    assert_eq!((decision.verdict, after), (Verdict::TooBigLimited, frame));
}

#[test]
fn only_one_host_is_answered() {
    let changes: [(usize, &[u8]); 7] = [
        (0, &[0xff; 6]),
        (6, &[3, 0, 0, 0, 0, 9]),
        (26, &[0, 0, 0, 0]),
        (26, &[127, 0, 0, 1]),
        (26, &[224, 0, 0, 1]),
        (26, &[240, 0, 0, 1]),
        (26, &[255, 255, 255, 255]),
    ];
    for (at, bytes) in changes {
        let mut frame = packet(ROOM + 1);
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        // It takes what is for everybody.
        let mut maps = Maps { devices: Vec::new(), ..narrow() };
        let (decision, after) = maps.run_with_room::<false>(&frame);
        assert_eq!((decision.verdict, after), (Verdict::TooBigDropped, frame), "{at} {bytes:?}");
    }
}
