//! Interfaces with the MAC address of a virtual router. They exist while the configuration names them, and are up while
//! this node owns the VIPs: one that is down neither hears nor says anything.

use lb_common::Mac;
use tracing::{debug, info, warn};

use super::{controller::Controller, desired::Desired};
use crate::net::{NetEvent, macvlan};

/// An interface that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DesiredMac {
    /// The interface below.
    pub(super) parent: String,
    /// Its address.
    pub(super) mac: Mac,
    /// Whether it is up.
    pub(super) up: bool,
    /// Some of the VIPs are IPv6.
    pub(super) has_ipv6: bool,
}

impl Controller {
    /// Makes the interfaces that are not there, and switches on those of VIPs that this node owns: before the VIPs come.
    pub(super) async fn raise_virtual_macs(&mut self, desired: &Desired) -> bool {
        let mut all = true;
        for (name, wanted) in &desired.virtual_macs {
            let result = self.raise_virtual_mac(name, wanted).await;
            all &= self.problem(&format!("virtual MAC address on {name}"), result);
        }
        all
    }

    async fn raise_virtual_mac(&mut self, name: &str, wanted: &DesiredMac) -> Result<(), String> {
        let parent = self.world.link_named(&wanted.parent).map(|link| link.index);
        let parent = parent.ok_or_else(|| format!("interface {} does not exist", wanted.parent))?;
        if let Some(link) = self.world.link_named(name)
            && (link.macvlan_on, link.mac) != (Some(parent), Some(wanted.mac))
        {
            if !self.virtual_macs.contains(name) {
                return Err(format!(
                    "there is an interface {name} that is not {} on {}: delete it, or write another name under \
                     `virtual_mac`",
                    wanted.mac, wanted.parent
                ));
            }
            self.delete_link(name).await?;
        }
        if self.world.link_named(name).is_none() {
            let made = self.edges.netlink.add_macvlan(name, parent, wanted.mac).await;
            made.map_err(|error| error.to_string())?;
            self.look_at(name).await?;
            info!(interface = name, mac = %wanted.mac, on = %wanted.parent, "virtual MAC address made");
        }
        if self.virtual_macs.insert(name.to_owned()) {
            macvlan::quieten(name, wanted.has_ipv6).map_err(|error| error.to_string())?;
            let changed = macvlan::leave_to_macvlan(&wanted.parent).map_err(|error| error.to_string())?;
            self.sysctls.extend(changed);
        }
        if wanted.up { self.switch(name, true).await } else { Ok(()) }
    }

    /// Switches the interfaces off whose VIPs are another's, and deletes those that are not wanted: after the VIPs have gone.
    pub(super) async fn quiet_virtual_macs(&mut self, desired: &Desired) -> bool {
        let mut all = true;
        for name in self.virtual_macs.clone() {
            let result = match desired.virtual_macs.get(&name) {
                Some(wanted) if wanted.up => continue,
                Some(_) => self.switch(&name, false).await,
                None => self.delete_link(&name).await,
            };
            all &= self.problem(&format!("virtual MAC address on {name}"), result);
        }
        all
    }

    async fn switch(&mut self, name: &str, on: bool) -> Result<(), String> {
        let Some(link) = self.world.link_named(name).filter(|link| link.up != on) else { return Ok(()) };
        let switched = self.edges.netlink.switch_link(link.index, on).await;
        switched.map_err(|error| error.to_string())?;
        debug!(interface = name, on, "switched");
        self.look_at(name).await
    }

    async fn delete_link(&mut self, name: &str) -> Result<(), String> {
        if let Some(index) = self.world.link_named(name).map(|link| link.index) {
            self.edges.netlink.delete_link(index).await.map_err(|error| error.to_string())?;
            self.world.event(NetEvent::LinkRemoved { index, name: name.to_owned() });
        }
        self.virtual_macs.remove(name);
        Ok(())
    }

    /// Takes what an operation did to an interface at once; the kernel tells of it later.
    async fn look_at(&mut self, name: &str) -> Result<(), String> {
        match self.edges.netlink.link(name).await {
            Ok(Some(link)) => {
                self.world.event(NetEvent::Link(link));
                Ok(())
            }
            Ok(None) => Err(format!("interface {name} is gone again")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Notes the interfaces that are gone, or that somebody made anew: their settings are to be made again.
    pub(super) fn forget_lost_macs(&mut self) {
        let world = &self.world;
        let lost = |name: &String| world.link_named(name).is_none();
        for name in self.virtual_macs.iter().filter(|name| lost(name)) {
            warn!(interface = %name, "the interface of a virtual MAC address is gone; it is made again");
        }
        self.virtual_macs.retain(|name| !lost(name));
    }
}
