//! VRRP adverts over IPv4, right and wrong, made by hand: what anybody on the network can send.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use super::packet::{PacketSocket, checksum};
use crate::lab::{NODE_A, NODE_B, VIP, error::LabError, node::Node};

/// VRRP's number (RFC 9568 §5.1.1.4).
const PROTOCOL: u8 = 112;
const ETHERTYPE_IPV4: u16 = 0x0800;
/// Where the message begins in a frame.
const MESSAGE: usize = 14 + 20;

/// An advert: version 2 (RFC 3768 §5.1 with the authentication of RFC 2338 §5.3.6) or 3 (RFC 9568 §5.1), and what may be
/// wrong with it. The default is one of version 2 that the tutorial's node-a accepts and yields to.
#[derive(Clone, Debug)]
pub struct Advert {
    /// The sender's address, as the packet says.
    pub source: Ipv4Addr,
    /// Where it goes.
    pub destination: Ipv4Addr,
    /// Of the packet.
    pub ttl: u8,
    /// 2 or 3, or what is neither, in the form of 2.
    pub version: u8,
    /// The VRID.
    pub router_id: u8,
    /// 0 is a farewell.
    pub priority: u8,
    /// The VIPs it names.
    pub vips: Vec<Ipv4Addr>,
    /// In seconds, or in hundredths of a second in version 3.
    pub interval: u8,
    /// Of version 2.
    pub password: [u8; 8],
    /// Added to the right checksum.
    pub checksum_error: u16,
    /// Bytes cut off the end; the checksum is right for what is left.
    pub cut: usize,
}

impl Default for Advert {
    fn default() -> Self {
        Self {
            source: NODE_B,
            destination: NODE_A,
            ttl: 255,
            version: 2,
            router_id: 33,
            priority: 254,
            vips: vec![VIP],
            interval: 1,
            password: *b"letmein\0",
            checksum_error: 0,
            cut: 0,
        }
    }
}

impl Advert {
    /// Sends it from `node`, whatever its source address says.
    pub fn send(&self, node: &Node) -> Result<(), LabError> {
        let packet = self.packet();
        let destination = SockaddrIn::from(SocketAddrV4::new(self.destination, 0));
        let sent = node.within(|| -> nix::Result<usize> {
            // IPPROTO_RAW: the header is in the packet; the kernel fills in its checksum and total length.
            let socket =
                socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
            sendto(socket.as_raw_fd(), &packet, &destination, MsgFlags::empty())
        })?;
        sent.map(drop).map_err(LabError::sys(format!("sending an advert from {}", node.name())))
    }

    fn packet(&self) -> Vec<u8> {
        let count = u8::try_from(self.vips.len()).unwrap_or(u8::MAX);
        let mut message = vec![self.version << 4 | 1, self.router_id, self.priority, count];
        // Version 2: simple password; version 3: the upper bits of the interval.
        message.extend([u8::from(self.version != 3), self.interval, 0, 0]);
        message.extend(self.vips.iter().flat_map(Ipv4Addr::octets));
        if self.version != 3 {
            message.extend(self.password);
        }
        message.truncate(message.len() - self.cut);
        let checksum = self.checksum(&message).wrapping_add(self.checksum_error).to_be_bytes();
        message[6..8].copy_from_slice(&checksum);

        let mut packet = vec![0x45, 0xc0, 0, 0, 0, 0, 0, 0, self.ttl, PROTOCOL, 0, 0];
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(message);
        packet
    }

    /// In version 3 with the pseudo header, as keepalived has it over IPv4 too.
    fn checksum(&self, message: &[u8]) -> u16 {
        let mut covered = Vec::new();
        if self.version == 3 {
            covered.extend(self.source.octets());
            covered.extend(self.destination.octets());
            covered.extend([0, PROTOCOL]);
            covered.extend((message.len() as u16).to_be_bytes());
        }
        covered.extend(message);
        checksum(&covered)
    }
}

/// Somebody on the network who writes down adverts and sends them again.
pub struct Recorder {
    socket: PacketSocket,
    place: String,
}

/// A frame with an advert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded(Vec<u8>);

impl Recorder {
    /// Listens at `node` to what comes to every machine.
    pub fn open(node: &Node) -> Result<Self, LabError> {
        let place = format!("recording adverts at {}", node.name());
        let socket = node.within(|| PacketSocket::open("eth0", ETHERTYPE_IPV4))?;
        Ok(Self { socket: socket.map_err(LabError::io(place.clone()))?, place })
    }

    /// The adverts that have come from `source` since it was opened, or since this was asked last.
    pub fn recorded(&self, source: Ipv4Addr) -> Result<Vec<Recorded>, LabError> {
        let mut all = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            match self.socket.receive_now(&mut buffer).map_err(LabError::io(self.place.clone()))? {
                Some(frame) if is_advert(frame, source) => all.push(Recorded(frame.to_vec())),
                Some(_) => (),
                None => return Ok(all),
            }
        }
    }

    /// Sends one again, from the MAC address of this machine: the switch must not look for the other one here.
    pub fn send(&self, advert: &Recorded) -> Result<(), LabError> {
        let mut frame = advert.0.clone();
        frame[6..12].copy_from_slice(&self.socket.mac.0);
        self.socket.send(&frame).map_err(|error: io::Error| LabError::io(self.place.clone())(error))
    }
}

impl Recorded {
    /// The priority it names.
    pub fn priority(&self) -> u8 {
        self.0[MESSAGE + 2]
    }

    /// The same with another last byte, which is one of the signature if there is one.
    #[must_use]
    pub fn spoilt(mut self) -> Self {
        if let Some(last) = self.0.last_mut() {
            *last ^= 1;
        }
        self
    }
}

fn is_advert(frame: &[u8], source: Ipv4Addr) -> bool {
    // A header without options, as all of them have it.
    frame.len() > MESSAGE + 8
        && frame[14] == 0x45
        && frame[23] == PROTOCOL
        && frame[26..30] == source.octets()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advert_of_each_version_is_these_bytes() {
        let second = Advert::default().packet();
        assert_eq!(second[20..28], [0x21, 33, 254, 1, 1, 1, second[26], second[27]]);
        assert_eq!(second[28..], [&[172, 20, 128, 4][..], b"letmein\0"].concat());
        assert_eq!(checksum(&second[20..]), 0, "over itself");

        let third = Advert { version: 3, interval: 100, ..Advert::default() }.packet();
        assert_eq!(third[20..28], [0x31, 33, 254, 1, 0, 100, third[26], third[27]]);
        assert_eq!(third[28..], [172, 20, 128, 4]);
        let pseudo = [&third[12..20], &[0, 112, 0, 12], &third[20..]].concat();
        assert_eq!(checksum(&pseudo), 0, "over itself and the addresses");
    }
}
