//! VRRPv2 adverts on the wire (RFC 3768 §5), and the checks a received one must pass (§7.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |Version| Type  | Virtual Rtr ID|   Priority    | Count IP Addrs|
//! |   Auth Type   |   Adver Int   |          Checksum             |
//! |                         IP Address (1)  … (n)                 |
//! |                     Authentication Data (8 bytes)             |
//! ```
//!
//! The eight bytes of authentication data are there whatever the type is; the password is RFC 2338's simple
//! text authentication (§5.3.6, §5.3.10), which RFC 3768 abolished and everybody still speaks.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::config::{Password, VirtualRouter, VrrpVersion};

/// The IP protocol number of VRRP.
pub const IP_PROTOCOL: u8 = 112;
/// The only TTL an advert may arrive with: it has crossed no router (RFC 3768 §5.2.3).
pub const TTL: u8 = 255;

const HEADER_LENGTH: usize = 8;
const AUTHENTICATION_LENGTH: usize = 8;
const ADDRESS_LENGTH: usize = 4;
const VERSION_2: u8 = 2;
const TYPE_ADVERTISEMENT: u8 = 1;
const AUTHENTICATION_NONE: u8 = 0;
const AUTHENTICATION_SIMPLE: u8 = 1;

/// A received IP packet of protocol 112.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The source address of the IP header.
    pub source: IpAddr,
    /// The TTL of the IP header.
    pub ttl: u8,
    /// What follows the IP header.
    pub payload: Vec<u8>,
}

/// What an advert says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// VRID.
    pub router_id: u8,
    /// 0: the owner is leaving; 255: the sender owns the addresses in the RFC's sense.
    pub priority: u8,
    /// Time between adverts; whole seconds, 1–255, in version 2.
    pub advert_interval: Duration,
    /// The addresses of the virtual router; at most 255.
    pub addresses: Vec<IpAddr>,
}

/// What this node says of a virtual router, and so what it accepts about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// The protocol version.
    pub version: VrrpVersion,
    /// VRID.
    pub router_id: u8,
    /// This node's address.
    pub source: IpAddr,
    /// The nodes adverts may come from.
    pub peers: Vec<IpAddr>,
    /// The password, if there is one.
    pub authentication: Option<Password>,
    /// Time between adverts.
    pub advert_interval: Duration,
    /// The VIPs, in the order of the configuration.
    pub addresses: Vec<IpAddr>,
}

/// Why an advert cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The count of addresses is one byte on the wire.
    #[error("{count} addresses in one VRRP advert, 255 fit: split the virtual router")]
    TooManyAddresses {
        /// How many there are.
        count: usize,
    },
    /// The interval is one byte of seconds on the wire.
    #[error("a VRRPv2 advert interval of {interval:?}: it must be 1 to 255 whole seconds")]
    Interval {
        /// What was asked for.
        interval: Duration,
    },
    /// An IPv6 address in an IPv4 advert.
    #[error("{address} cannot be named in an IPv4 advert")]
    Family {
        /// The address.
        address: Ipv6Addr,
    },
}

/// Why a received packet is not believed. Checked in the order of the variants, so that the first one that
/// does not hold is what is wrong; every variant has a counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The packet has crossed a router, or was made by somebody who hopes to look as if he were near.
    #[error("TTL {ttl} instead of 255: the packet was routed or forged")]
    BadTtl {
        /// The TTL it arrived with.
        ttl: u8,
    },
    /// Shorter than any advert, or another length than its count of addresses asks for.
    #[error("{length} bytes, {expected} expected")]
    BadLength {
        /// Bytes received.
        length: usize,
        /// Bytes that should be there.
        expected: usize,
    },
    /// A VRRP version this virtual router does not speak.
    #[error("VRRP version {version} instead of 2: both nodes must be configured for the same")]
    BadVersion {
        /// The version received.
        version: u8,
    },
    /// Not an advertisement, the only type there is.
    #[error("VRRP packet type {kind}, which does not exist")]
    BadType {
        /// The type received.
        kind: u8,
    },
    /// Damaged on its way.
    #[error("wrong checksum {checksum:#06x}")]
    BadChecksum {
        /// The checksum field.
        checksum: u16,
    },
    /// This node has no such virtual router on this interface.
    #[error("router id {router_id} is not configured on this interface")]
    BadRouterId {
        /// The VRID received.
        router_id: u8,
    },
    /// Our own address as source: a duplicate address, a reflection or a forgery.
    #[error("an advert from {source_address}, which is this node's own address")]
    OwnAddress {
        /// The source address.
        source_address: IpAddr,
    },
    /// Not one of the configured peers.
    #[error("{source_address} is not a configured peer")]
    UnknownPeer {
        /// The source address.
        source_address: IpAddr,
    },
    /// One side has a password and the other has none, or a kind of authentication nobody speaks.
    #[error("authentication type {kind} instead of {expected} (0: none, 1: password)")]
    BadAuthenticationType {
        /// The type received.
        kind: u8,
        /// The type configured.
        expected: u8,
    },
    /// The passwords differ.
    #[error("wrong password")]
    BadAuthentication,
    /// The intervals differ (RFC 3768 §7.1: discard).
    #[error(
        "advert interval {interval:?} instead of {expected:?}: all nodes must be configured with the same"
    )]
    BadInterval {
        /// The interval received.
        interval: Duration,
        /// The interval configured.
        expected: Duration,
    },
    /// The VIPs differ, in whatever order (RFC 3768 §7.1: drop, unless the sender has priority 255).
    #[error("VIPs {addresses:?} instead of {expected:?}: all nodes must be configured with the same")]
    BadAddresses {
        /// The addresses received.
        addresses: Vec<IpAddr>,
        /// The addresses configured.
        expected: Vec<IpAddr>,
    },
}

impl DecodeError {
    /// The names of all variants, as counters are called, in the order of [`DecodeError::index`].
    pub const NAMES: [&'static str; 12] = [
        "bad_ttl",
        "bad_length",
        "bad_version",
        "bad_type",
        "bad_checksum",
        "bad_router_id",
        "own_address",
        "unknown_peer",
        "bad_authentication_type",
        "bad_authentication",
        "bad_interval",
        "bad_addresses",
    ];

    /// The place of the variant in [`DecodeError::NAMES`].
    pub const fn index(&self) -> usize {
        match self {
            Self::BadTtl { .. } => 0,
            Self::BadLength { .. } => 1,
            Self::BadVersion { .. } => 2,
            Self::BadType { .. } => 3,
            Self::BadChecksum { .. } => 4,
            Self::BadRouterId { .. } => 5,
            Self::OwnAddress { .. } => 6,
            Self::UnknownPeer { .. } => 7,
            Self::BadAuthenticationType { .. } => 8,
            Self::BadAuthentication => 9,
            Self::BadInterval { .. } => 10,
            Self::BadAddresses { .. } => 11,
        }
    }

    /// The name of the variant's counter.
    pub const fn name(&self) -> &'static str {
        Self::NAMES[self.index()]
    }
}

/// How often each [`DecodeError`] occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeCounters([u64; DecodeError::NAMES.len()]);

impl DecodeCounters {
    /// Counts an error and returns how often it has occurred now.
    pub fn count(&mut self, error: &DecodeError) -> u64 {
        let counter = &mut self.0[error.index()];
        *counter += 1;
        *counter
    }

    /// Names and counts, zeros too.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        DecodeError::NAMES.into_iter().zip(self.0)
    }
}

impl From<&VirtualRouter> for Acceptance {
    fn from(router: &VirtualRouter) -> Self {
        Self {
            version: router.version,
            router_id: router.router_id,
            source: router.source(),
            peers: router.peers().to_vec(),
            authentication: router.authentication,
            advert_interval: router.advert_interval,
            addresses: router.advertised().collect(),
        }
    }
}

impl Acceptance {
    /// The bytes of this node's advert with `priority`, as [`Datagram::payload`] holds them.
    pub fn encode(&self, priority: u8) -> Result<Vec<u8>, EncodeError> {
        let Self { router_id, advert_interval, .. } = *self;
        let advert = Advert { router_id, priority, advert_interval, addresses: self.addresses.clone() };
        advert.encode(self.authentication)
    }

    fn check_source(&self, source_address: IpAddr) -> Result<(), DecodeError> {
        if source_address == self.source {
            return Err(DecodeError::OwnAddress { source_address });
        }
        if !self.peers.contains(&source_address) {
            return Err(DecodeError::UnknownPeer { source_address });
        }
        Ok(())
    }

    fn check_authentication(&self, kind: u8, data: &[u8]) -> Result<(), DecodeError> {
        let expected = authentication_type(self.authentication);
        if kind != expected {
            return Err(DecodeError::BadAuthenticationType { kind, expected });
        }
        // Without a password the data is ignored (RFC 3768 §5.3.10).
        if self.authentication.is_some_and(|password| password.0 != data) {
            return Err(DecodeError::BadAuthentication);
        }
        Ok(())
    }

    fn check_addresses(&self, priority: u8, addresses: &[IpAddr]) -> Result<(), DecodeError> {
        if priority == 255 && !addresses.is_empty() {
            return Ok(());
        }
        let sorted = |list: &[IpAddr]| {
            let mut list = list.to_vec();
            list.sort_unstable();
            list.dedup();
            list
        };
        if sorted(addresses) == sorted(&self.addresses) {
            return Ok(());
        }
        Err(DecodeError::BadAddresses { addresses: addresses.to_vec(), expected: self.addresses.clone() })
    }
}

impl Advert {
    /// The bytes that follow the IP header.
    pub fn encode(&self, authentication: Option<Password>) -> Result<Vec<u8>, EncodeError> {
        let count = self.addresses.len();
        let interval = self.advert_interval;
        let count_byte = u8::try_from(count).map_err(|_| EncodeError::TooManyAddresses { count })?;
        let seconds = u8::try_from(interval.as_secs())
            .ok()
            .filter(|seconds| *seconds > 0 && interval.subsec_nanos() == 0)
            .ok_or(EncodeError::Interval { interval })?;

        let mut bytes = Vec::with_capacity(length_of(count));
        bytes.extend([VERSION_2 << 4 | TYPE_ADVERTISEMENT, self.router_id, self.priority, count_byte]);
        bytes.extend([authentication_type(authentication), seconds, 0, 0]);
        for address in &self.addresses {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => return Err(EncodeError::Family { address: *address }),
            }
        }
        bytes.extend(authentication.map_or([0; AUTHENTICATION_LENGTH], |password| password.0));
        let checksum = checksum(&bytes);
        bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
        Ok(bytes)
    }
}

/// The VRID of a packet, checked or not: tells whose counters an error belongs to.
pub fn router_id(payload: &[u8]) -> Option<u8> {
    payload.get(1).copied()
}

/// Checks a packet and returns the advert in it.
///
/// `find` looks up what this node accepts for a VRID on the interface the packet came from.
pub fn decode<'a>(
    datagram: &Datagram,
    find: impl FnOnce(u8) -> Option<&'a Acceptance>,
) -> Result<Advert, DecodeError> {
    let Datagram { source, ttl, ref payload } = *datagram;
    if ttl != TTL {
        return Err(DecodeError::BadTtl { ttl });
    }
    let length = payload.len();
    let Some((header, rest)) = payload.split_first_chunk::<HEADER_LENGTH>() else {
        return Err(DecodeError::BadLength { length, expected: length_of(1) });
    };
    let [version_and_type, router_id, priority, count, authentication, seconds, checksum_high, checksum_low] =
        *header;
    let (version, kind) = (version_and_type >> 4, version_and_type & 0x0f);
    if version != VERSION_2 {
        return Err(DecodeError::BadVersion { version });
    }
    if kind != TYPE_ADVERTISEMENT {
        return Err(DecodeError::BadType { kind });
    }
    let expected = length_of(usize::from(count));
    if length != expected {
        return Err(DecodeError::BadLength { length, expected });
    }
    if checksum(payload) != 0 {
        return Err(DecodeError::BadChecksum { checksum: u16::from_be_bytes([checksum_high, checksum_low]) });
    }
    let acceptance = find(router_id).ok_or(DecodeError::BadRouterId { router_id })?;
    acceptance.check_source(source)?;
    let (addresses, authentication_data) = rest.split_at(usize::from(count) * ADDRESS_LENGTH);
    acceptance.check_authentication(authentication, authentication_data)?;
    let interval = Duration::from_secs(u64::from(seconds));
    if interval != acceptance.advert_interval {
        return Err(DecodeError::BadInterval { interval, expected: acceptance.advert_interval });
    }
    let (addresses, _) = addresses.as_chunks::<ADDRESS_LENGTH>();
    let addresses: Vec<IpAddr> = addresses.iter().map(|octets| Ipv4Addr::from(*octets).into()).collect();
    acceptance.check_addresses(priority, &addresses)?;
    Ok(Advert { router_id, priority, advert_interval: interval, addresses })
}

const fn length_of(addresses: usize) -> usize {
    HEADER_LENGTH + addresses * ADDRESS_LENGTH + AUTHENTICATION_LENGTH
}

const fn authentication_type(authentication: Option<Password>) -> u8 {
    if authentication.is_some() { AUTHENTICATION_SIMPLE } else { AUTHENTICATION_NONE }
}

/// The Internet checksum (RFC 1071) of an even number of bytes; 0 over a message that carries its own.
fn checksum(bytes: &[u8]) -> u16 {
    let (words, _) = bytes.as_chunks::<2>();
    let mut sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests;
