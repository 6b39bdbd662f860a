//! What a frame says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::Mac;

use crate::packets::ones_complement_sum;

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

    /// The two bits of ECN.
    pub(super) fn ecn(&self, frame: &[u8]) -> u8 {
        if self.source.is_ipv4() { frame[15] & 3 } else { frame[15] >> 4 & 3 }
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

    fn behind_extensions(ip: &Ip, frame: &[u8]) -> Self {
        match Extensions::read(frame) {
            Some(last) if last.end <= ip.end && last.fragment => Self::Fragment,
            Some(last) if last.end <= ip.end => Self::upper(ip, frame, last.protocol, last.end),
            _ => Self::Malformed,
        }
    }

    fn upper(ip: &Ip, frame: &[u8], protocol: u8, start: usize) -> Self {
        let (shortest, checksum) = match protocol {
            6 => (20, start + 16),
            17 => (8, start + 6),
            1 if ip.source.is_ipv4() => return Self::Icmp { start },
            58 if ip.source.is_ipv6() => return Self::Icmp { start },
            4 | 41 => return Self::Packet { start },
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

/// IPv6 extension headers (RFC 8200 section 4), six at most.
pub(super) struct Extensions {
    /// What follows them.
    pub(super) protocol: u8,
    /// Where.
    pub(super) end: usize,
    /// The packet is a piece of another, of which nothing is read on.
    pub(super) fragment: bool,
    /// And not its first.
    pub(super) later: bool,
}

impl Extensions {
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let mut last = Self { protocol: frame[20], end: 54, fragment: false, later: false };
        let mut headers = 0;
        while !last.fragment && [0, 43, 44, 60].contains(&last.protocol) {
            let header = frame.get(last.end..last.end + 8)?;
            headers += 1;
            if last.protocol == 44 {
                let place = word(header, 2);
                // More fragments, or not the first.
                (last.fragment, last.later) = (place & 0xfff9 != 0, place & 0xfff8 != 0);
                last.end += 8;
            } else {
                last.end += (usize::from(header[1]) + 1) * 8;
            }
            last.protocol = header[0];
        }
        // 255 is reserved; the program takes it for a sign that something is wrong.
        (headers <= 6 && last.protocol != 255).then_some(last)
    }
}

/// Sets both bits of ECN; the checksum of IPv4 stays as right as it was.
pub(super) fn mark_congestion(frame: &mut [u8]) {
    if frame[14] >> 4 == 6 {
        frame[15] |= 0x30;
        return;
    }
    // What is added to the second byte is taken from the checksum (RFC 1624).
    let more = u16::from(3 - (frame[15] & 3));
    if more == 0 {
        return;
    }
    frame[15] |= 3;
    let sum = ones_complement_sum([!word(frame, 24), more]);
    frame[24..26].copy_from_slice(&(!sum).to_be_bytes());
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
