//! What can be wrong with an advert, and how often it was.

use std::{net::IpAddr, time::Duration};

/// Why an advert cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The count of addresses is one byte on the wire.
    #[error("{count} addresses in one VRRP advert, 255 fit: split the virtual router")]
    TooManyAddresses {
        /// How many there are.
        count: usize,
    },
    /// The interval is one byte of seconds on the wire, or twelve bits of hundredths.
    #[error("an advert interval of {interval:?}: it must be {expected}")]
    Interval {
        /// What was asked for.
        interval: Duration,
        /// What the version has room for.
        expected: &'static str,
    },
    /// An address of the other family.
    #[error("{address} cannot be named in an advert of the other family")]
    Family {
        /// The address.
        address: IpAddr,
    },
    /// The interface has no address to send from.
    #[error("the interface has no address that adverts could come from: add one, then `lb reload`")]
    NoSource,
    /// The key to sign with is not known.
    #[error("the secret of key {id} is not known, so nothing can be signed with it")]
    NoKey {
        /// The key's identifier.
        id: u8,
    },
}

/// Why a received packet is not believed. Every variant has a counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The packet has crossed a router, or was made by somebody who hopes to look as if he were near.
    #[error(
        "TTL {ttl} instead of {least}: the packet was routed or forged, or its sender needs `unicast_ttl 255` \
         (keepalived sends unicast over IPv6 with 64)"
    )]
    BadTtl {
        /// The TTL it arrived with.
        ttl: u8,
        /// The lowest that is accepted.
        least: u8,
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
    #[error("VRRP version {version} instead of {expected}: both nodes must be configured for the same")]
    BadVersion {
        /// The version received.
        version: u8,
        /// The version configured.
        expected: u8,
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
    #[error(
        "router id {router_id} is not configured on this interface, for adverts that travel like this one"
    )]
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
    /// It carries no signature, and must.
    #[error("not signed: the sender must have the keys too, or `mode` be \"permissive\" until it has")]
    Unsigned,
    /// It is signed, and this node has no keys to tell by whom.
    #[error("signed, but this node has no keys: give it [virtual_router.authentication] as the sender has")]
    UnexpectedSignature,
    /// Signed with a key this node does not have.
    #[error("signed with key {id}, which this node does not have")]
    UnknownKey {
        /// The key's identifier.
        id: u8,
    },
    /// Forged, or signed with another secret of the same identifier.
    #[error("the signature with key {id} is wrong: forged, changed on its way, or the secrets differ")]
    BadSignature {
        /// The key's identifier.
        id: u8,
    },
    /// Heard before, or older than what was heard.
    #[error(
        "replayed: {behind:?} older than the latest of this sender, or its clock was put back before it restarted"
    )]
    Replayed {
        /// By how much.
        behind: Duration,
    },
    /// The first of its sender, and too far from this node's clock to be new.
    #[error(
        "sent {apart:?} apart from this node's clock, {window:?} are allowed: replayed, or the clocks differ"
    )]
    Stale {
        /// By how much.
        apart: Duration,
        /// How much is allowed.
        window: Duration,
    },
    /// The intervals differ in version 2 (RFC 3768 §7.1: discard), or it is zero in version 3.
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
    pub const NAMES: [&'static str; 18] = [
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
        "unsigned",
        "unexpected_signature",
        "unknown_key",
        "bad_signature",
        "replayed",
        "stale",
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
            Self::Unsigned => 10,
            Self::UnexpectedSignature => 11,
            Self::UnknownKey { .. } => 12,
            Self::BadSignature { .. } => 13,
            Self::Replayed { .. } => 14,
            Self::Stale { .. } => 15,
            Self::BadInterval { .. } => 16,
            Self::BadAddresses { .. } => 17,
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
