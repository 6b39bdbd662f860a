//! VRRPv3 (RFC 9568 §5), over IPv4 and IPv6.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |Version| Type  | Virtual Rtr ID|   Priority    |IPvX Addr Count|
//! |Reserve| Max Advertise Interval|          Checksum             |
//! |                       IPvX Address(es)                        |
//! ```

use std::{net::IpAddr, time::Duration};

use super::{Advert, DecodeError, EncodeError, HEADER_LENGTH, begin, checksum};
use crate::config::{ChecksumForm, VrrpVersion};

/// Max Advertise Interval has 12 bits of hundredths of a second (RFC 9568 §5.2.7).
const MOST_CENTISECONDS: u16 = 0x0fff;
const CENTISECOND: Duration = Duration::from_millis(10);

/// The length of a message with so many addresses.
pub(super) const fn length(addresses: usize, is_ipv4: bool) -> usize {
    HEADER_LENGTH + addresses * super::address_length(is_ipv4)
}

/// `source` and `destination` are those of the packet the message is for.
pub(super) fn encode(
    advert: &Advert,
    source: IpAddr,
    destination: IpAddr,
    form: ChecksumForm,
) -> Result<Vec<u8>, EncodeError> {
    let is_ipv4 = destination.is_ipv4();
    let interval = advert.advert_interval;
    let hundredths = u16::try_from(interval.as_millis() / CENTISECOND.as_millis())
        .ok()
        .filter(|hundredths| CENTISECOND * u32::from(*hundredths) == interval)
        .filter(|hundredths| (1..=MOST_CENTISECONDS).contains(hundredths))
        .ok_or(EncodeError::Interval {
            interval,
            expected: "hundredths of a second from 10 ms to 40.95 s",
        })?;
    let mut bytes = Vec::with_capacity(length(advert.addresses.len(), is_ipv4));
    bytes.extend(begin(VrrpVersion::V3, advert)?);
    bytes.extend(hundredths.to_be_bytes());
    bytes.extend([0, 0]);
    super::write_addresses(&mut bytes, &advert.addresses, is_ipv4)?;
    let checksum = match form {
        ChecksumForm::MessageOnly if is_ipv4 => checksum::of_message(&bytes),
        _ => checksum::with_pseudo_header(source, destination, &bytes),
    };
    checksum::put(&mut bytes, checksum);
    Ok(bytes)
}

/// How the checksum is right, if it is.
pub(super) fn checksum_form(source: IpAddr, destination: IpAddr, message: &[u8]) -> Option<ChecksumForm> {
    if checksum::with_pseudo_header(source, destination, message) == 0 {
        return Some(ChecksumForm::PseudoHeader);
    }
    let alone = destination.is_ipv4() && checksum::of_message(message) == 0;
    alone.then_some(ChecksumForm::MessageOnly)
}

/// The advert in a message whose version, length and checksum are right.
pub(super) fn decode(message: &[u8], is_ipv4: bool) -> Result<Advert, DecodeError> {
    let (header, addresses) = message.split_at(HEADER_LENGTH);
    let hundredths = u16::from_be_bytes([header[4], header[5]]) & MOST_CENTISECONDS;
    if hundredths == 0 {
        // A backup that waits three times nothing would claim at once.
        return Err(DecodeError::BadInterval { interval: Duration::ZERO, expected: CENTISECOND });
    }
    Ok(Advert {
        router_id: header[1],
        priority: header[2],
        advert_interval: CENTISECOND * u32::from(hundredths),
        addresses: super::read_addresses(addresses, is_ipv4),
    })
}
