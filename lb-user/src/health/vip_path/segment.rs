//! The packets of a connection that is begun and broken off (RFC 9293): SYN, what may answer it, RST.

use std::net::SocketAddrV4;

use etherparse::{Ipv4Slice, PacketBuilder, PacketBuilderStep, TcpHeader, TcpSlice};

const TTL: u8 = 64;
const WINDOW: u16 = 64_240;
/// The option "maximum segment size 1460" (RFC 9293 §3.7.1): some stacks distrust a SYN without any.
const MAXIMUM_SEGMENT_SIZE: [u8; 4] = [2, 4, 0x05, 0xb4];

/// A connection about to be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// This node's end.
    pub(super) source: SocketAddrV4,
    /// The other end.
    pub(super) vip: SocketAddrV4,
    /// The initial sequence number.
    pub(super) sequence: u32,
}

/// What a SYN can be answered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// SYN and ACK: somebody listens.
    Accepted,
    /// RST: nobody does.
    Refused,
}

impl Opening {
    /// The IPv4 packet that begins the connection.
    pub(super) fn syn(&self) -> Vec<u8> {
        let builder = self.builder(self.sequence, WINDOW).syn();
        // Invariant: a TCP header has room for 40 bytes of options.
        bytes(builder.options_raw(&MAXIMUM_SEGMENT_SIZE).expect("four bytes are not too many"))
    }

    /// The IPv4 packet that breaks it off, whether or not it was answered (RFC 9293 §3.10.7.4: the sequence
    /// number is the next the other end expects).
    pub(super) fn reset(&self) -> Vec<u8> {
        bytes(self.builder(self.sequence.wrapping_add(1), 0).rst())
    }

    /// What an IPv4 packet from the VIP says; `None` if it answers something else.
    pub(super) fn answer(&self, packet: &[u8]) -> Option<Answer> {
        let ip = Ipv4Slice::from_slice(packet).ok()?;
        let header = ip.header();
        let tcp = TcpSlice::from_slice(ip.payload().payload).ok()?;
        let from = SocketAddrV4::new(header.source_addr(), tcp.source_port());
        let to = SocketAddrV4::new(header.destination_addr(), tcp.destination_port());
        let acknowledges = tcp.ack() && tcp.acknowledgment_number() == self.sequence.wrapping_add(1);
        if (from, to) != (self.vip, self.source) || !acknowledges {
            return None;
        }
        match (tcp.syn(), tcp.rst()) {
            (_, true) => Some(Answer::Refused),
            (true, false) => Some(Answer::Accepted),
            (false, false) => None,
        }
    }

    fn builder(&self, sequence: u32, window: u16) -> PacketBuilderStep<TcpHeader> {
        PacketBuilder::ipv4(self.source.ip().octets(), self.vip.ip().octets(), TTL).tcp(
            self.source.port(),
            self.vip.port(),
            sequence,
            window,
        )
    }
}

fn bytes(builder: PacketBuilderStep<TcpHeader>) -> Vec<u8> {
    let mut packet = Vec::with_capacity(builder.size(0));
    // Invariant: writing headers without payload to a vector cannot fail.
    builder.write(&mut packet, &[]).expect("headers fit a vector");
    packet
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const SOURCE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(172, 20, 128, 2), 61_000);
    const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(172, 20, 128, 4), 80);

    fn opening(sequence: u32) -> Opening {
        Opening { source: SOURCE, vip: VIP, sequence }
    }

    /// An answer with flags: bytes from the VIP to the source.
    fn answer(
        acknowledgment: u32,
        flags: fn(PacketBuilderStep<TcpHeader>) -> PacketBuilderStep<TcpHeader>,
    ) -> Vec<u8> {
        let builder = PacketBuilder::ipv4(VIP.ip().octets(), SOURCE.ip().octets(), TTL)
            .tcp(VIP.port(), SOURCE.port(), 77, 1000)
            .ack(acknowledgment);
        bytes(flags(builder))
    }

    /// The Internet checksum over 16-bit words (RFC 1071); 0 over data that carries the right one.
    fn checksum(bytes: &[u8]) -> u16 {
        let sum: u32 = bytes
            .chunks(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])))
            .sum();
        !((sum & 0xffff) + (sum >> 16)) as u16
    }

    fn assert_checksums(packet: &[u8]) {
        assert_eq!(checksum(&packet[..20]), 0, "IPv4 header {packet:x?}");
        let mut covered = packet[12..20].to_vec();
        covered.extend([0, 6]);
        covered.extend(((packet.len() - 20) as u16).to_be_bytes());
        covered.extend(&packet[20..]);
        assert_eq!(checksum(&covered), 0, "TCP {packet:x?}");
    }

    #[test]
    fn syn_and_reset_are_as_written_on_the_wire() {
        let opening = opening(0xffff_ffff);
        let syn = opening.syn();
        assert_checksums(&syn);
        assert_eq!(syn[..10], [0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6]);
        assert_eq!(syn[12..20], [172, 20, 128, 2, 172, 20, 128, 4]);
        // Ports, sequence, acknowledgment, 6 words, SYN, window.
        assert_eq!(syn[20..36], [0xee, 0x48, 0, 80, 255, 255, 255, 255, 0, 0, 0, 0, 0x60, 0x02, 0xfa, 0xf0]);
        assert_eq!(syn[40..], MAXIMUM_SEGMENT_SIZE);

        let reset = opening.reset();
        assert_checksums(&reset);
        assert_eq!(reset[20..34], [0xee, 0x48, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x04]);
    }

    #[test]
    fn only_what_acknowledges_the_syn_is_an_answer() {
        let cases = [
            ("SYN and ACK", answer(8, PacketBuilderStep::syn), Some(Answer::Accepted)),
            ("RST and ACK", answer(8, PacketBuilderStep::rst), Some(Answer::Refused)),
            ("of another SYN", answer(9, PacketBuilderStep::syn), None),
            ("of another connection's RST", answer(7, PacketBuilderStep::rst), None),
            ("a bare ACK", answer(8, |builder| builder), None),
            ("our own SYN", opening(7).syn(), None),
            ("nothing", Vec::new(), None),
        ];
        for (what, packet, expected) in cases {
            assert_eq!(opening(7).answer(&packet), expected, "{what}");
        }
    }

    #[test]
    fn padding_and_ip_options_are_passed_over() {
        let mut packet = answer(8, PacketBuilderStep::syn);
        packet.extend([0xee; 6]);
        assert_eq!(opening(7).answer(&packet), Some(Answer::Accepted));

        let mut optioned = packet.clone();
        optioned.splice(20..20, [1, 1, 1, 0]);
        optioned[0] = 0x46;
        optioned[3] += 4;
        assert_eq!(opening(7).answer(&optioned), Some(Answer::Accepted));
    }

    proptest! {
        #[test]
        fn every_syn_is_whole_and_its_answer_recognised(sequence: u32) {
            assert_checksums(&opening(sequence).syn());
            assert_checksums(&opening(sequence).reset());
            let packet = answer(sequence.wrapping_add(1), PacketBuilderStep::syn);
            prop_assert_eq!(opening(sequence).answer(&packet), Some(Answer::Accepted));
        }

        #[test]
        fn random_bytes_never_panic(packet in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = opening(7).answer(&packet);
        }
    }
}
