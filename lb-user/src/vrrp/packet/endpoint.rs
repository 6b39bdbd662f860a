//! This node's end of one virtual router: what it says and believes, and what it must remember for that.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{
    Acceptance, Advert, Datagram, DecodeError, EncodeError, HEADER_LENGTH, TRAILER_LENGTH, authentication,
    number_of, v2, v3,
};
use crate::{
    config::{Authentication, AuthenticationMode, ChecksumForm, VrrpVersion},
    time::UnixTime,
};

/// This node's end of one virtual router.
#[derive(Clone, Debug)]
pub struct Endpoint {
    acceptance: Acceptance,
    /// The sequence of the latest signed advert this node sent.
    sent: u64,
    /// The sequence of the latest signed advert of each node. Only who knows a key gets an entry.
    heard: BTreeMap<IpAddr, u64>,
    /// What is worth counting in adverts that were believed.
    observed: Observations,
}

/// How often something was seen in an advert that was believed nevertheless.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observations {
    /// Version 3 over IPv4 with a checksum over message and pseudo header.
    pub checksum_pseudo_header: u64,
    /// Version 3 over IPv4 with a checksum over the message alone.
    pub checksum_message_only: u64,
    /// Version 3 with other VIPs than this node has (RFC 9568 §7.1: not a reason to discard).
    pub addresses_differ: u64,
    /// Unsigned, and accepted because the mode is permissive.
    pub unsigned_accepted: u64,
}

impl Observations {
    /// Names, as counters are called, and counts, zeros too.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("checksum_pseudo_header", self.checksum_pseudo_header),
            ("checksum_message_only", self.checksum_message_only),
            ("addresses_differ", self.addresses_differ),
            ("unsigned_accepted", self.unsigned_accepted),
        ]
        .into_iter()
    }
}

impl Endpoint {
    /// An end that has neither sent nor heard anything yet.
    pub fn new(acceptance: Acceptance) -> Self {
        Self { acceptance, sent: 0, heard: BTreeMap::new(), observed: Observations::default() }
    }

    /// What it says and believes.
    pub fn acceptance(&self) -> &Acceptance {
        &self.acceptance
    }

    /// Says and believes something else from now on; what was heard stays heard.
    pub fn change(&mut self, acceptance: Acceptance) {
        self.acceptance = acceptance;
    }

    /// What was seen in adverts that were believed.
    pub fn observed(&self) -> &Observations {
        &self.observed
    }

    /// The payload of this node's advert with `priority` for one of [`Acceptance::destinations`].
    pub fn encode(
        &mut self,
        priority: u8,
        destination: IpAddr,
        now: UnixTime,
    ) -> Result<Vec<u8>, EncodeError> {
        let Acceptance { version, router_id, source, advert_interval, .. } = self.acceptance;
        if source.is_unspecified() {
            return Err(EncodeError::NoSource);
        }
        let addresses = self.acceptance.addresses.clone();
        let advert = Advert { router_id, priority, advert_interval, addresses };
        let mut bytes = match version {
            VrrpVersion::V2 => v2::encode(&advert, self.acceptance.password)?,
            VrrpVersion::V3 => v3::encode(&advert, source, destination, self.acceptance.checksum)?,
        };
        if let Some(keys) = &self.acceptance.authentication {
            self.sent = now.0.max(self.sent + 1);
            authentication::sign(keys, self.sent, (source, destination), &mut bytes)?;
        }
        Ok(bytes)
    }

    /// Checks a packet of at least [`HEADER_LENGTH`] bytes with this VRID, and returns the advert in it.
    pub(super) fn believe(&mut self, datagram: &Datagram, now: UnixTime) -> Result<Advert, DecodeError> {
        let Datagram { source, destination, ttl, ref payload } = *datagram;
        let acceptance = &self.acceptance;
        acceptance.check_ttl(ttl)?;
        acceptance.check_source(source)?;
        let (version, expected) = (payload[0] >> 4, number_of(acceptance.version));
        if version != expected {
            return Err(DecodeError::BadVersion { version, expected });
        }
        let (length, expected) = (payload.len(), acceptance.message_length(payload[3]));
        let Some((message, trailer)) = payload.split_at_checked(expected) else {
            return Err(DecodeError::BadLength { length, expected });
        };
        if ![0, TRAILER_LENGTH].contains(&trailer.len()) {
            return Err(DecodeError::BadLength { length, expected });
        }
        debug_assert!(message.len() >= HEADER_LENGTH);
        let form = acceptance.check_checksum(destination, source, message)?;
        let sequence = self.check_signature(datagram, message, trailer, now)?;
        self.heard.extend(sequence.map(|sequence| (source, sequence)));
        let acceptance = &self.acceptance;
        let advert = match acceptance.version {
            VrrpVersion::V2 => v2::decode(message, acceptance)?,
            VrrpVersion::V3 => v3::decode(message, source.is_ipv4())?,
        };

        let differ = !acceptance.names(&advert.addresses);
        self.observed.addresses_differ += u64::from(differ && acceptance.version == VrrpVersion::V3);
        self.observed.unsigned_accepted +=
            u64::from(sequence.is_none() && acceptance.authentication.is_some());
        match form {
            Some(ChecksumForm::PseudoHeader) => self.observed.checksum_pseudo_header += 1,
            Some(ChecksumForm::MessageOnly) => self.observed.checksum_message_only += 1,
            None => {}
        }
        Ok(advert)
    }

    /// The sequence of a signed advert; `None` if it is unsigned and may be.
    fn check_signature(
        &self,
        datagram: &Datagram,
        message: &[u8],
        trailer: &[u8],
        now: UnixTime,
    ) -> Result<Option<u64>, DecodeError> {
        let Some(keys) = &self.acceptance.authentication else {
            return if trailer.is_empty() { Ok(None) } else { Err(DecodeError::UnexpectedSignature) };
        };
        if trailer.is_empty() {
            return match keys.mode {
                AuthenticationMode::Enforce => Err(DecodeError::Unsigned),
                AuthenticationMode::Permissive => Ok(None),
            };
        }
        let sequence = authentication::verify(keys, datagram, message, trailer)?;
        self.check_sequence(keys, datagram.source, sequence, now)?;
        Ok(Some(sequence))
    }

    fn check_sequence(
        &self,
        keys: &Authentication,
        source: IpAddr,
        sequence: u64,
        now: UnixTime,
    ) -> Result<(), DecodeError> {
        match self.heard.get(&source) {
            Some(latest) if sequence > *latest => Ok(()),
            Some(latest) => Err(DecodeError::Replayed { behind: Duration::from_nanos(latest - sequence) }),
            None => {
                let apart = Duration::from_nanos(now.0.abs_diff(sequence));
                if apart <= keys.window {
                    Ok(())
                } else {
                    Err(DecodeError::Stale { apart, window: keys.window })
                }
            }
        }
    }
}
