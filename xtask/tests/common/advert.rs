//! VRRPv2 adverts, right and wrong, made by hand.

use std::net::Ipv4Addr;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use xtask::lab::Node;

/// An advert (RFC 3768 §5.1 with the authentication of RFC 2338 §5.3.6) and what may be wrong with it. The default is one
/// that the tutorial's node-a accepts and yields to.
#[derive(Clone, Debug)]
pub(crate) struct Advert {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) ttl: u8,
    pub(crate) version: u8,
    pub(crate) router_id: u8,
    pub(crate) priority: u8,
    pub(crate) vips: Vec<Ipv4Addr>,
    pub(crate) interval: u8,
    pub(crate) password: [u8; 8],
    /// Added to the right checksum.
    pub(crate) checksum_error: u16,
    /// Bytes cut off the end; the checksum is right for what is left.
    pub(crate) cut: usize,
}

impl Default for Advert {
    fn default() -> Self {
        Self {
            source: xtask::lab::NODE_B,
            destination: xtask::lab::NODE_A,
            ttl: 255,
            version: 2,
            router_id: 33,
            priority: 254,
            vips: vec![xtask::lab::VIP],
            interval: 1,
            password: *b"letmein\0",
            checksum_error: 0,
            cut: 0,
        }
    }
}

impl Advert {
    /// Sends it from `node`, whatever its source address says.
    pub(crate) fn send(&self, node: &Node) {
        let packet = self.packet();
        let destination = SockaddrIn::from(std::net::SocketAddrV4::new(self.destination, 0));
        let sent = node.within(|| -> nix::Result<usize> {
            // IPPROTO_RAW: the header is in the packet; the kernel fills in its checksum and total length.
            let socket =
                socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
            sendto(std::os::fd::AsRawFd::as_raw_fd(&socket), &packet, &destination, MsgFlags::empty())
        });
        assert_eq!(sent.expect("the node lives"), Ok(packet.len()), "{self:?}");
    }

    fn packet(&self) -> Vec<u8> {
        let mut message = vec![
            self.version << 4 | 1,
            self.router_id,
            self.priority,
            u8::try_from(self.vips.len()).expect("few VIPs"),
            1, // simple password
            self.interval,
            0,
            0,
        ];
        message.extend(self.vips.iter().flat_map(Ipv4Addr::octets));
        message.extend(self.password);
        message.truncate(message.len() - self.cut);
        let checksum = checksum(&message).wrapping_add(self.checksum_error).to_be_bytes();
        message[6..8].copy_from_slice(&checksum);

        let mut packet = vec![0x45, 0xc0, 0, 0, 0, 0, 0, 0, self.ttl, 112, 0, 0];
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(message);
        packet
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
