//! Adverts on the wire, and the checks a received one must pass.
//!
//! * [`acceptance`] says what this node says and believes of one virtual router, [`endpoint`] remembers what that takes.
//! * [`v2`] and [`v3`] have the messages of the versions (RFC 3768 §5, RFC 9568 §5), [`checksum`] their checksums.
//! * [`authentication`] is the signature behind the message between nodes of this program.
//! * [`error`] has what can be wrong, and a counter for each.

mod acceptance;
mod authentication;
mod checksum;
mod endpoint;
mod error;
mod v2;
mod v3;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

pub use acceptance::Acceptance;
pub use authentication::TRAILER_LENGTH;
pub use endpoint::{Endpoint, Observations};
pub use error::{DecodeCounters, DecodeError, EncodeError};

use crate::{config::VrrpVersion, time::UnixTime};

/// The IP protocol number of VRRP.
pub const IP_PROTOCOL: u8 = 112;
/// The TTL or hop limit adverts are sent with, and must arrive with if they crossed no router (RFC 3768 §5.2.3, RFC
/// 9568 §5.1.1.3 and §5.1.2.3).
pub const TTL: u8 = 255;
/// The longest payload there is: 255 IPv6 addresses, signed.
pub const MAX_LENGTH: usize = HEADER_LENGTH + 255 * 16 + TRAILER_LENGTH;

/// The part that both versions have.
const HEADER_LENGTH: usize = 8;
const TYPE_ADVERTISEMENT: u8 = 1;

/// A received IP packet of protocol 112.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The source address of the IP header.
    pub source: IpAddr,
    /// The destination address of the IP header, of the same family.
    pub destination: IpAddr,
    /// The TTL or hop limit of the IP header.
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
    /// Time between the sender's adverts: whole seconds, 1–255, in version 2; hundredths, 1–4095, in version 3, where
    /// it need not be the receiver's.
    pub advert_interval: Duration,
    /// The addresses of the virtual router, of the family of the packet; at most 255.
    pub addresses: Vec<IpAddr>,
}

/// The VRID of a packet, checked or not: tells whose counters an error belongs to.
pub fn router_id(payload: &[u8]) -> Option<u8> {
    payload.get(1).copied()
}

/// Checks a packet and returns the advert in it.
///
/// `find` looks up this node's end of the virtual router with that VRID on the interface and in the family the packet
/// came by.
pub fn decode<'a>(
    datagram: &Datagram,
    now: UnixTime,
    find: impl FnOnce(u8) -> Option<&'a mut Endpoint>,
) -> Result<Advert, DecodeError> {
    let length = datagram.payload.len();
    let Some(&[version_and_type, router_id, ..]) = datagram.payload.first_chunk::<HEADER_LENGTH>() else {
        return Err(DecodeError::BadLength { length, expected: HEADER_LENGTH });
    };
    let kind = version_and_type & 0x0f;
    if kind != TYPE_ADVERTISEMENT {
        return Err(DecodeError::BadType { kind });
    }
    find(router_id).ok_or(DecodeError::BadRouterId { router_id })?.believe(datagram, now)
}

const fn number_of(version: VrrpVersion) -> u8 {
    match version {
        VrrpVersion::V2 => 2,
        VrrpVersion::V3 => 3,
    }
}

/// The first four bytes, alike in both versions.
fn begin(version: VrrpVersion, advert: &Advert) -> Result<[u8; 4], EncodeError> {
    let count = advert.addresses.len();
    let count = u8::try_from(count).map_err(|_| EncodeError::TooManyAddresses { count })?;
    Ok([number_of(version) << 4 | TYPE_ADVERTISEMENT, advert.router_id, advert.priority, count])
}

/// How many bytes an address has in the adverts of a family.
const fn address_length(is_ipv4: bool) -> usize {
    if is_ipv4 { size_of::<Ipv4Addr>() } else { size_of::<Ipv6Addr>() }
}

fn write_addresses(bytes: &mut Vec<u8>, addresses: &[IpAddr], is_ipv4: bool) -> Result<(), EncodeError> {
    for address in addresses {
        match address {
            IpAddr::V4(address) if is_ipv4 => bytes.extend(address.octets()),
            IpAddr::V6(address) if !is_ipv4 => bytes.extend(address.octets()),
            address => return Err(EncodeError::Family { address: *address }),
        }
    }
    Ok(())
}

fn read_addresses(bytes: &[u8], is_ipv4: bool) -> Vec<IpAddr> {
    if is_ipv4 {
        bytes.as_chunks::<4>().0.iter().map(|octets| IpAddr::from(*octets)).collect()
    } else {
        bytes.as_chunks::<16>().0.iter().map(|octets| IpAddr::from(*octets)).collect()
    }
}

#[cfg(test)]
mod tests;
