//! What this node says of a virtual router, and so what it accepts about it.

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{DecodeError, checksum, v2, v3};
use crate::config::{Authentication, ChecksumForm, Password, Transport, VirtualRouter, VrrpVersion};

/// What this node says of a virtual router, and so what it accepts about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// The protocol version.
    pub version: VrrpVersion,
    /// VRID.
    pub router_id: u8,
    /// This node's address, of the family of the adverts.
    pub source: IpAddr,
    /// The nodes adverts may come from; empty where they are multicast, and so come from anybody on the link.
    pub peers: Vec<IpAddr>,
    /// The group adverts go to, where they are multicast.
    pub group: Option<IpAddr>,
    /// The lowest TTL or hop limit they may arrive with.
    pub min_ttl: u8,
    /// VRRPv2's password, if there is one.
    pub password: Option<Password>,
    /// The keys adverts are signed with, if they are.
    pub authentication: Option<Authentication>,
    /// What the checksum of a version-3 advert over IPv4 covers when this node sends it.
    pub checksum: ChecksumForm,
    /// Time between adverts.
    pub advert_interval: Duration,
    /// The VIPs that adverts name, in the order of the configuration.
    pub addresses: Vec<IpAddr>,
}

impl From<&VirtualRouter> for Acceptance {
    fn from(router: &VirtualRouter) -> Self {
        Self {
            version: router.version,
            router_id: router.router_id,
            source: router.source(),
            peers: router.peers().to_vec(),
            group: match router.transport {
                Transport::Unicast { .. } => None,
                Transport::Multicast { group, .. } => Some(group),
            },
            min_ttl: router.transport.min_ttl(),
            password: router.password,
            authentication: router.authentication.clone(),
            checksum: router.checksum,
            advert_interval: router.advert_interval,
            addresses: router.advertised().collect(),
        }
    }
}

impl Acceptance {
    /// Where an advert goes: to each peer, or to the group.
    pub fn destinations(&self) -> impl Iterator<Item = IpAddr> {
        self.group.into_iter().chain(self.peers.iter().copied())
    }

    /// Whether `addresses` are the VIPs, in whatever order.
    pub(super) fn names(&self, addresses: &[IpAddr]) -> bool {
        let sorted = |list: &[IpAddr]| {
            let mut list = list.to_vec();
            list.sort_unstable();
            list.dedup();
            list
        };
        sorted(addresses) == sorted(&self.addresses)
    }

    pub(super) fn check_ttl(&self, ttl: u8) -> Result<(), DecodeError> {
        if ttl < self.min_ttl { Err(DecodeError::BadTtl { ttl, least: self.min_ttl }) } else { Ok(()) }
    }

    pub(super) fn check_source(&self, source_address: IpAddr) -> Result<(), DecodeError> {
        if source_address == self.source {
            return Err(DecodeError::OwnAddress { source_address });
        }
        if self.group.is_none() && !self.peers.contains(&source_address) {
            return Err(DecodeError::UnknownPeer { source_address });
        }
        Ok(())
    }

    /// The length of a message of this version with so many addresses.
    pub(super) fn message_length(&self, addresses: u8) -> usize {
        match self.version {
            VrrpVersion::V2 => v2::length(usize::from(addresses)),
            VrrpVersion::V3 => v3::length(usize::from(addresses), self.source.is_ipv4()),
        }
    }

    /// Checks the checksum; the form it has, where there are several.
    pub(super) fn check_checksum(
        &self,
        destination: IpAddr,
        source: IpAddr,
        message: &[u8],
    ) -> Result<Option<ChecksumForm>, DecodeError> {
        let wrong = || DecodeError::BadChecksum {
            checksum: u16::from_be_bytes([
                message[checksum::PLACE.start],
                message[checksum::PLACE.start + 1],
            ]),
        };
        match self.version {
            VrrpVersion::V2 if checksum::of_message(message) == 0 => Ok(None),
            VrrpVersion::V2 => Err(wrong()),
            VrrpVersion::V3 => {
                let form = v3::checksum_form(source, destination, message).ok_or_else(wrong)?;
                Ok(destination.is_ipv4().then_some(form))
            }
        }
    }
}
