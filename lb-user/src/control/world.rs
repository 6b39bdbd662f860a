//! What the kernel's network stack tells about this node and its neighbours.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use lb_common::{Interface, Mac, NextHop, limits};
use tracing::error;

use crate::{
    config::{Config, HostFacts, HostInterface, Transport},
    net::{self, InterfaceAddress, Link, Neighbour, NetEvent, Snapshot},
};

/// The network as last heard of.
#[derive(Debug, Default)]
pub(super) struct World {
    links: BTreeMap<u32, Link>,
    addresses: BTreeSet<InterfaceAddress>,
    neighbours: BTreeMap<net::NextHop, Mac>,
    /// Destination → next hop, for what packets are sent to.
    routes: BTreeMap<Ipv4Addr, net::NextHop>,
    /// Interface index → slot of the data plane; a slot is never given to another interface.
    slots: BTreeMap<u32, u16>,
}

/// What an event means for the control task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing it needs to know.
    Nothing,
    /// Something the desired state depends on.
    Desired,
    /// Links or addresses, and so perhaps routes.
    Network,
    /// An address went away.
    AddressGone {
        /// The interface's name.
        interface: String,
        /// The address.
        address: Ipv4Net,
    },
}

impl World {
    /// Takes an event.
    pub(super) fn event(&mut self, event: NetEvent) -> Change {
        match event {
            NetEvent::Resync(snapshot) => {
                self.resync(snapshot);
                Change::Network
            }
            NetEvent::Link(link) => {
                let changed = self.links.get(&link.index) != Some(&link);
                self.links.insert(link.index, link);
                if changed { Change::Network } else { Change::Nothing }
            }
            NetEvent::LinkRemoved { index, .. } => {
                self.links.remove(&index);
                self.addresses.retain(|address| address.index != index);
                self.neighbours.retain(|next_hop, _| next_hop.index != index);
                Change::Network
            }
            NetEvent::AddressAdded(address) => {
                if self.addresses.insert(address) {
                    Change::Network
                } else {
                    Change::Nothing
                }
            }
            NetEvent::AddressRemoved(address) => {
                if !self.addresses.remove(&address) {
                    return Change::Nothing;
                }
                match self.links.get(&address.index) {
                    Some(link) => {
                        Change::AddressGone { interface: link.name.clone(), address: address.address }
                    }
                    None => Change::Network,
                }
            }
            NetEvent::Neighbour(Neighbour { next_hop, mac }) => {
                let before = match mac {
                    Some(mac) => self.neighbours.insert(next_hop, mac),
                    None => self.neighbours.remove(&next_hop),
                };
                let wanted = self.routes.values().any(|wanted| *wanted == next_hop);
                if wanted && before != mac { Change::Desired } else { Change::Nothing }
            }
        }
    }

    fn resync(&mut self, snapshot: Snapshot) {
        self.links = snapshot.links.into_iter().map(|link| (link.index, link)).collect();
        self.addresses = snapshot.addresses.into_iter().collect();
        self.neighbours =
            snapshot.neighbours.into_iter().filter_map(|n| Some((n.next_hop, n.mac?))).collect();
    }

    /// Notes where packets for `destination` go next; `None`: nowhere.
    pub(super) fn route(&mut self, destination: Ipv4Addr, next_hop: Option<net::NextHop>) {
        match next_hop {
            Some(next_hop) => {
                self.slot(next_hop.index);
                self.routes.insert(destination, next_hop);
            }
            None => {
                self.routes.remove(&destination);
            }
        }
    }

    /// Forgets the routes of all other destinations, and returns the next hops of these.
    pub(super) fn keep_routes(&mut self, destinations: &BTreeSet<Ipv4Addr>) -> BTreeSet<net::NextHop> {
        self.routes.retain(|destination, _| destinations.contains(destination));
        self.routes.values().copied().collect()
    }

    /// The link of that name.
    pub(super) fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// Whether the address is on an interface now.
    pub(super) fn has_address(&self, interface: &str, address: Ipv4Net) -> bool {
        self.link_named(interface)
            .is_some_and(|link| self.addresses.contains(&InterfaceAddress { index: link.index, address }))
    }

    /// Whether the address is on any interface.
    pub(super) fn is_own(&self, address: Ipv4Addr) -> bool {
        self.addresses.iter().any(|own| own.address.addr() == address)
    }

    /// The MAC address of a directly connected neighbour.
    pub(super) fn neighbour(&self, address: Ipv4Addr) -> Option<Mac> {
        let next_hop = self.routes.get(&address).filter(|next_hop| next_hop.address == address)?;
        self.neighbours.get(next_hop).copied()
    }

    /// The next hop towards an address.
    pub(super) fn next_hop(&self, address: Ipv4Addr) -> NextHop {
        let resolve = || {
            let next_hop = self.routes.get(&address)?;
            let mac = self.neighbours.get(next_hop)?;
            Some(NextHop::new(*mac, *self.slots.get(&next_hop.index)?))
        };
        resolve().unwrap_or(NextHop::UNRESOLVED)
    }

    /// The interfaces that have a slot.
    pub(super) fn interfaces(&self) -> BTreeMap<u16, Interface> {
        let described = |(index, slot): (&u32, &u16)| {
            let link = self.links.get(index)?;
            Some((
                *slot,
                Interface {
                    ifindex: *index,
                    mac: link.mac?,
                    mtu: link.mtu.min(u32::from(u16::MAX)) as u16,
                    ..Interface::default()
                },
            ))
        };
        self.slots.iter().filter_map(described).collect()
    }

    /// Gives an interface a slot.
    fn slot(&mut self, index: u32) {
        let next = self.slots.len();
        if next >= limits::INTERFACES as usize && !self.slots.contains_key(&index) {
            error!(
                index,
                limit = limits::INTERFACES,
                "too many interfaces: nothing is sent through this one"
            );
            return;
        }
        self.slots.entry(index).or_insert(next as u16);
    }

    /// What `Parsed::check_host` wants to know.
    pub(super) fn host_facts(&self) -> HostFacts {
        let addresses =
            |index| self.addresses.iter().filter(|own| own.index == index).map(|own| own.address).collect();
        let interfaces = self
            .links
            .values()
            .map(|link| HostInterface {
                name: link.name.clone(),
                index: link.index,
                addresses: addresses(link.index),
            })
            .collect();
        HostFacts { interfaces }
    }
}

/// Every address whose MAC the data plane needs: the backends that are not this node, and the VRRP peers.
pub(super) fn wanted_neighbours(config: &Config, world: &World) -> BTreeSet<Ipv4Addr> {
    let mut wanted = BTreeSet::new();
    for router in &config.virtual_routers {
        let Transport::Unicast { peers, .. } = &router.transport;
        wanted.extend(peers);
    }
    for backend in config.services.iter().flat_map(|service| &service.backends) {
        if let std::net::IpAddr::V4(address) = backend.address
            && !world.is_own(address)
        {
            wanted.insert(address);
        }
    }
    wanted
}
