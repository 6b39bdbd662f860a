//! An interface with a MAC address of its own on top of another one: where VIPs with a virtual MAC address are.

use std::{io, path::PathBuf};

use lb_common::Mac;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode},
};

use super::{
    netlink::{Netlink, NetlinkError},
    sysctl::{self, InterfaceSysctl, SysctlError},
};

/// ARP requests are answered on the interface that has the address, and on no other.
const ARP_IGNORE_OTHERS: u32 = 1;
/// A packet's source may be reached by any interface, not only by the one it came in by.
const RP_FILTER_LOOSE: u32 = 2;

impl Netlink {
    /// Makes an interface with the address `mac` on the interface number `parent`; it is down. In private mode, where
    /// interfaces on one parent do not hear each other.
    pub async fn add_macvlan(&self, name: &str, parent: u32, mac: Mac) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Link(parent),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::MacVlan),
                LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Private)])),
            ]),
        ];
        let operation = format!("making the interface {name} with the address {mac}");
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.acknowledged(&operation, RouteNetlinkMessage::NewLink(message), flags).await
    }

    /// Switches an interface on or off.
    pub async fn switch_link(&self, index: u32, on: bool) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if on { LinkFlags::Up } else { LinkFlags::empty() };
        let operation = format!("switching interface number {index} {}", if on { "on" } else { "off" });
        self.acknowledged(&operation, RouteNetlinkMessage::SetLink(message), 0).await
    }

    /// Deletes an interface; one that is gone is deleted already.
    pub async fn delete_link(&self, index: u32) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let operation = format!("deleting interface number {index}");
        match self.acknowledged(&operation, RouteNetlinkMessage::DelLink(message), 0).await {
            Err(error) if error.code() != Some(libc::ENODEV) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Settings of the interface `name`, so that it has the VIPs and says nothing else: it answers ARP for its own addresses
/// only, takes packets whose way back is by another interface, and has no IPv6 address that nobody asked for.
pub fn quieten(name: &str, has_ipv6: bool) -> Result<(), SysctlError> {
    // The settings go with the interface.
    let _ = InterfaceSysctl::ArpIgnore.raise(name, ARP_IGNORE_OTHERS)?;
    if InterfaceSysctl::RpFilter.effective(name)? == 1 {
        let _ = InterfaceSysctl::RpFilter.raise(name, RP_FILTER_LOOSE)?;
    }
    let ipv6: &[(&str, u32)] = if has_ipv6 {
        &[("disable_ipv6", 0), ("addr_gen_mode", 1), ("autoconf", 0), ("accept_ra", 0), ("forwarding", 0)]
    } else {
        &[("disable_ipv6", 1)]
    };
    for (key, value) in ipv6 {
        let path = PathBuf::from("/proc/sys/net/ipv6/conf").join(name).join(key);
        match sysctl::write(&path, key, *value) {
            // A kernel without IPv6.
            Err(SysctlError::Write { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}

/// Has the interface below answer ARP for its own addresses only; what was changed.
pub fn leave_to_macvlan(parent: &str) -> Result<Option<sysctl::SysctlGuard>, SysctlError> {
    InterfaceSysctl::ArpIgnore.raise(parent, ARP_IGNORE_OTHERS)
}
