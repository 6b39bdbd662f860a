//! The signature behind an advert, between nodes of this program.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |      'L'      |      'B'      |  Format (1)   |    Key ID     |
//! |                     Sequence (8 bytes)                        |
//! |                     HMAC-SHA256 (32 bytes)                    |
//! ```
//!
//! The trailer follows the VRRP message, which neither counts it nor sums it up. The HMAC (RFC 2104, FIPS 180-4) covers
//! [`LABEL`], the source and the destination address of the IP header (16 bytes each, IPv4-mapped where they are IPv4),
//! the whole message, and the trailer up to itself.
//!
//! The sequence grows with every advert of a node, over restarts too: it is the time in nanoseconds since the epoch, or
//! one more than before, if the clock has not moved on. Who has heard a node before accepts what is greater only. Who
//! has not heard it since it started accepts what is within the configured window of its own clock.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::net::IpAddr;

use super::{Datagram, DecodeError, EncodeError};
use crate::config::{Authentication, Secret};

/// What a signed advert is longer by.
pub const TRAILER_LENGTH: usize = HEADER_LENGTH + HMAC_LENGTH;

/// Magic, format, key and sequence.
const HEADER_LENGTH: usize = 12;
const HMAC_LENGTH: usize = 32;
const MAGIC_AND_FORMAT: [u8; 3] = [b'L', b'B', 1];
/// Keeps the secret's other uses, if there are any, apart from this one.
const LABEL: &[u8] = b"lb vrrp 1";

type HmacSha256 = Hmac<Sha256>;

/// Signs `message`, which is to go from `source` to `destination`: appends the trailer.
pub(super) fn sign(
    authentication: &Authentication,
    sequence: u64,
    (source, destination): (IpAddr, IpAddr),
    message: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let id = authentication.send;
    let key = hmac(authentication, id).ok_or(EncodeError::NoKey { id })?;
    let message_length = message.len();
    message.extend(MAGIC_AND_FORMAT);
    message.push(id);
    message.extend(sequence.to_be_bytes());
    let (signed, header) = message.split_at(message_length);
    let code = cover(key, (source, destination), signed, header).finalize().into_bytes();
    message.extend(code);
    Ok(())
}

/// The sequence in a trailer of [`TRAILER_LENGTH`] bytes, if it is signed by one of the keys.
pub(super) fn verify(
    authentication: &Authentication,
    datagram: &Datagram,
    message: &[u8],
    trailer: &[u8],
) -> Result<u64, DecodeError> {
    let (header, code) = trailer.split_at(HEADER_LENGTH);
    let (&[magic @ .., id], sequence) = header.split_first_chunk::<4>().ok_or(DecodeError::Unsigned)?;
    if magic != MAGIC_AND_FORMAT {
        return Err(DecodeError::Unsigned);
    }
    let key = hmac(authentication, id).ok_or(DecodeError::UnknownKey { id })?;
    // Takes as long for every wrong code.
    cover(key, (datagram.source, datagram.destination), message, header)
        .verify_slice(code)
        .map_err(|_| DecodeError::BadSignature { id })?;
    // Invariant: the header is 12 bytes long, of which 4 are split off.
    Ok(u64::from_be_bytes(sequence.try_into().expect("8 bytes")))
}

fn hmac(authentication: &Authentication, id: u8) -> Option<HmacSha256> {
    let key = authentication.keys.iter().find(|key| key.id == id)?;
    match &key.secret {
        // An HMAC takes keys of every length.
        Secret::Known(bytes) => HmacSha256::new_from_slice(bytes).ok(),
        Secret::File(_) => None,
    }
}

fn cover(
    mut key: HmacSha256,
    (source, destination): (IpAddr, IpAddr),
    message: &[u8],
    header: &[u8],
) -> HmacSha256 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    key.update(LABEL);
    key.update(&octets(source));
    key.update(&octets(destination));
    key.update(message);
    key.update(header);
    key
}
