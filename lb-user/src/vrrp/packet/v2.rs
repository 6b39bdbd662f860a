//! VRRPv2 (RFC 3768 §5), over IPv4 only.
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

use std::time::Duration;

use super::{Acceptance, Advert, DecodeError, EncodeError, HEADER_LENGTH, begin, checksum};
use crate::config::{Password, VrrpVersion};

const AUTHENTICATION_LENGTH: usize = 8;
const AUTHENTICATION_NONE: u8 = 0;
const AUTHENTICATION_SIMPLE: u8 = 1;

/// The length of a message with so many addresses.
pub(super) const fn length(addresses: usize) -> usize {
    HEADER_LENGTH + addresses * super::address_length(true) + AUTHENTICATION_LENGTH
}

pub(super) fn encode(advert: &Advert, password: Option<Password>) -> Result<Vec<u8>, EncodeError> {
    let interval = advert.advert_interval;
    let seconds = u8::try_from(interval.as_secs())
        .ok()
        .filter(|seconds| *seconds > 0 && interval.subsec_nanos() == 0)
        .ok_or(EncodeError::Interval { interval, expected: "1 to 255 whole seconds" })?;
    let mut bytes = Vec::with_capacity(length(advert.addresses.len()));
    bytes.extend(begin(VrrpVersion::V2, advert)?);
    bytes.extend([authentication_type(password), seconds, 0, 0]);
    super::write_addresses(&mut bytes, &advert.addresses, true)?;
    bytes.extend(password.map_or([0; AUTHENTICATION_LENGTH], |password| password.0));
    let checksum = checksum::of_message(&bytes);
    checksum::put(&mut bytes, checksum);
    Ok(bytes)
}

/// The advert in a message whose version, length and checksum are right.
pub(super) fn decode(message: &[u8], acceptance: &Acceptance) -> Result<Advert, DecodeError> {
    let (header, rest) = message.split_at(HEADER_LENGTH);
    let (addresses, data) = rest.split_at(rest.len() - AUTHENTICATION_LENGTH);
    check_password(acceptance.password, header[4], data)?;
    let interval = Duration::from_secs(u64::from(header[5]));
    if interval != acceptance.advert_interval {
        return Err(DecodeError::BadInterval { interval, expected: acceptance.advert_interval });
    }
    let addresses = super::read_addresses(addresses, true);
    let advert = Advert { router_id: header[1], priority: header[2], advert_interval: interval, addresses };
    // RFC 3768 §7.1: drop, unless the sender has priority 255.
    let excused = advert.priority == 255 && !advert.addresses.is_empty();
    if excused || acceptance.names(&advert.addresses) {
        return Ok(advert);
    }
    Err(DecodeError::BadAddresses { addresses: advert.addresses, expected: acceptance.addresses.clone() })
}

fn check_password(password: Option<Password>, kind: u8, data: &[u8]) -> Result<(), DecodeError> {
    let expected = authentication_type(password);
    if kind != expected {
        return Err(DecodeError::BadAuthenticationType { kind, expected });
    }
    // Without a password the data is ignored (RFC 3768 §5.3.10).
    if password.is_some_and(|password| password.0 != data) {
        return Err(DecodeError::BadAuthentication);
    }
    Ok(())
}

const fn authentication_type(password: Option<Password>) -> u8 {
    if password.is_some() { AUTHENTICATION_SIMPLE } else { AUTHENTICATION_NONE }
}
