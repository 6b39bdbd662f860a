//! What a frame says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::Mac;

/// An IP header behind an Ethernet header.
pub(super) struct Ip {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Where the packet ends by its own word; it may be beyond the frame.
    pub(super) end: usize,
}

/// What follows it.
pub(super) enum Kind {
    Segment(Segment),
    Icmp {
        start: usize,
    },
    /// Another IP packet.
    Packet {
        start: usize,
    },
    Fragment,
    Other,
    Malformed,
}

/// A TCP or UDP segment: where it is and what it says.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) protocol: u8,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) opens: bool,
    /// Where the checksum field is.
    pub(super) checksum: usize,
}

impl Ip {
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        match frame.get(12..14)? {
            [8, 0] if frame.len() >= 34 => Some(Self {
                source: ipv4(frame, 26),
                destination: ipv4(frame, 30),
                end: 14 + usize::from(word(frame, 16)),
            }),
            [0x86, 0xdd] if frame.len() >= 54 => Some(Self {
                source: ipv6(frame, 22),
                destination: ipv6(frame, 38),
                end: 54 + usize::from(word(frame, 18)),
            }),
            _ => None,
        }
    }

    /// Where the TTL or hop limit is.
    pub(super) fn hops_at(&self) -> usize {
        if self.source.is_ipv4() { 22 } else { 21 }
    }

    pub(super) fn hops(&self, frame: &[u8]) -> u8 {
        frame[self.hops_at()]
    }
}

impl Kind {
    pub(super) fn of(ip: &Ip, frame: &[u8]) -> Self {
        if ip.end > frame.len() {
            return Self::Malformed;
        }
        if ip.source.is_ipv4() {
            let header = usize::from(frame[14] & 15) * 4;
            if frame[14] >> 4 != 4 || header < 20 || ip.end < 14 + header {
                return Self::Malformed;
            }
            if word(frame, 20) & 0x3fff != 0 {
                return Self::Fragment;
            }
            return Self::upper(ip, frame, frame[23], 14 + header);
        }
        if frame[14] >> 4 != 6 {
            return Self::Malformed;
        }
        Self::behind_extensions(ip, frame)
    }

    /// RFC 8200 section 4, six extension headers at most.
    fn behind_extensions(ip: &Ip, frame: &[u8]) -> Self {
        let (mut next, mut at, mut headers) = (frame[20], 54, 0);
        while [0, 43, 44, 60].contains(&next) {
            let (is_fragment_header, length) = match (next, frame.get(at + 1)) {
                (_, None) => return Self::Malformed,
                (44, _) => (true, 8),
                (_, Some(words)) => (false, (usize::from(*words) + 1) * 8),
            };
            headers += 1;
            if headers > 6 || at + length > ip.end {
                return Self::Malformed;
            }
            // More fragments, or not the first.
            if is_fragment_header && word(frame, at + 2) & 0xfff9 != 0 {
                return Self::Fragment;
            }
            next = frame[at];
            at += length;
        }
        Self::upper(ip, frame, next, at)
    }

    fn upper(ip: &Ip, frame: &[u8], protocol: u8, start: usize) -> Self {
        let (shortest, checksum) = match protocol {
            6 => (20, start + 16),
            17 => (8, start + 6),
            1 if ip.source.is_ipv4() => return Self::Icmp { start },
            58 if ip.source.is_ipv6() => return Self::Icmp { start },
            4 | 41 => return Self::Packet { start },
            // Reserved; of IPv6 extension headers the program takes it for a sign that something is wrong.
            255 if ip.source.is_ipv6() => return Self::Malformed,
            _ => return Self::Other,
        };
        if ip.end - start < shortest {
            return Self::Malformed;
        }
        Self::Segment(Segment {
            start,
            end: ip.end,
            protocol,
            source_port: word(frame, start),
            destination_port: word(frame, start + 2),
            opens: protocol == 6 && frame[start + 13] & 0x12 == 0x02,
            checksum,
        })
    }
}

pub(super) fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

pub(super) fn mac(frame: &[u8], at: usize) -> Mac {
    let mut mac = Mac::default();
    mac.0.copy_from_slice(&frame[at..at + 6]);
    mac
}

fn ipv4(frame: &[u8], at: usize) -> IpAddr {
    Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3]).into()
}

fn ipv6(frame: &[u8], at: usize) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&frame[at..at + 16]);
    Ipv6Addr::from(octets).into()
}
