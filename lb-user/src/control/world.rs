//! What the kernel's network stack tells about this node and its neighbours.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use lb_common::{Device, Interface, Mac, NextHop, Tag, limits};
use tracing::error;

use super::desired::Outer;
use crate::{
    config::{Config, HostFacts, HostInterface},
    net::{self, InterfaceAddress, Link, Neighbour, NetEvent, Path, Snapshot},
};

/// The network as last heard of.
#[derive(Debug, Default)]
pub(super) struct World {
    links: BTreeMap<u32, Link>,
    addresses: BTreeSet<InterfaceAddress>,
    /// The same without interface and prefix.
    own: BTreeSet<IpAddr>,
    neighbours: BTreeMap<net::NextHop, Mac>,
    /// Destination → the way there, for what packets are sent to.
    ways: BTreeMap<IpAddr, Way>,
    /// The next hops of all ways.
    next_hops: BTreeSet<net::NextHop>,
    /// Nodes that no configuration names and that sent adverts.
    met: BTreeSet<IpAddr>,
    /// Interface index → slot of the data plane; a slot is never given to another interface.
    slots: BTreeMap<u32, u16>,
}

/// The way to a destination.
#[derive(Clone, Copy, Debug)]
struct Way {
    path: Path,
    /// `false`: there is none any more; this was the last.
    usable: bool,
}

/// The next station on the way to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    /// The interface it is reached by.
    pub(super) interface: String,
    /// Its address.
    pub(super) neighbour: IpAddr,
    /// Its MAC address, once it is resolved.
    pub(super) mac: Option<Mac>,
}

/// What an event means for the control task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing it needs to know.
    Nothing,
    /// Something the desired state depends on.
    Desired,
    /// Routes.
    Routes,
    /// A route that this daemon made is gone.
    OwnRouteGone,
    /// Links or addresses, and so perhaps routes.
    Network,
    /// An address went away.
    AddressGone {
        /// The interface's name.
        interface: String,
        /// The address.
        address: IpNet,
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
                self.addresses_changed();
                self.neighbours.retain(|next_hop, _| next_hop.index != index);
                Change::Network
            }
            NetEvent::AddressAdded(address) => {
                if self.addresses.insert(address) {
                    self.own.insert(address.address.addr());
                    Change::Network
                } else {
                    Change::Nothing
                }
            }
            NetEvent::AddressRemoved(address) => {
                if !self.addresses.remove(&address) {
                    return Change::Nothing;
                }
                self.addresses_changed();
                match self.links.get(&address.index) {
                    Some(link) => {
                        Change::AddressGone { interface: link.name.clone(), address: address.address }
                    }
                    None => Change::Network,
                }
            }
            NetEvent::RoutesChanged => Change::Routes,
            NetEvent::OwnRouteGone => Change::OwnRouteGone,
            NetEvent::Neighbour(Neighbour { next_hop, mac }) => {
                let before = match mac {
                    Some(mac) => self.neighbours.insert(next_hop, mac),
                    None => self.neighbours.remove(&next_hop),
                };
                if self.next_hops.contains(&next_hop) && before != mac {
                    Change::Desired
                } else {
                    Change::Nothing
                }
            }
        }
    }

    fn resync(&mut self, snapshot: Snapshot) {
        self.links = snapshot.links.into_iter().map(|link| (link.index, link)).collect();
        self.addresses = snapshot.addresses.into_iter().collect();
        self.addresses_changed();
        self.neighbours =
            snapshot.neighbours.into_iter().filter_map(|n| Some((n.next_hop, n.mac?))).collect();
    }

    fn addresses_changed(&mut self) {
        self.own = self.addresses.iter().map(|own| own.address.addr()).collect();
    }

    /// Notes the way to `destination`; `None`: there is none.
    pub(super) fn route(&mut self, destination: IpAddr, path: Option<Path>) {
        match path {
            Some(path) => {
                self.slot(path.index);
                self.ways.insert(destination, Way { path, usable: true });
            }
            None => {
                if let Some(way) = self.ways.get_mut(&destination) {
                    way.usable = false;
                }
            }
        }
    }

    /// Whether the way to a destination has been asked for.
    pub(super) fn knows_way(&self, destination: &IpAddr) -> bool {
        self.ways.contains_key(destination)
    }

    /// Forgets the ways to all other destinations, and returns the next hops of these.
    pub(super) fn keep_routes(&mut self, destinations: &BTreeSet<IpAddr>) -> BTreeSet<net::NextHop> {
        self.ways.retain(|destination, _| destinations.contains(destination));
        self.next_hops = self
            .ways
            .iter()
            .filter(|(_, way)| way.usable)
            .map(|(destination, way)| next_hop(*destination, way.path))
            .collect();
        self.next_hops.clone()
    }

    /// The link of that name.
    pub(super) fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// Whether the address is on an interface now.
    pub(super) fn has_address(&self, interface: &str, address: IpNet) -> bool {
        self.link_named(interface)
            .is_some_and(|link| self.addresses.contains(&InterfaceAddress { index: link.index, address }))
    }

    /// Whether the address is on any interface.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    /// The next hop towards an address, if there is a way.
    fn way(&self, address: IpAddr) -> Option<net::NextHop> {
        let way = self.ways.get(&address).filter(|way| way.usable)?;
        Some(next_hop(address, way.path))
    }

    /// Where the stack sends packets for an address: the interface, and the MAC address once it is resolved.
    pub(super) fn station(&self, address: IpAddr) -> Option<(u32, Option<Mac>)> {
        let next_hop = self.way(address)?;
        Some((next_hop.index, self.neighbours.get(&next_hop).copied()))
    }

    /// The way to an address in words.
    pub(super) fn hop(&self, address: IpAddr) -> Option<Hop> {
        let next_hop = self.way(address)?;
        Some(Hop {
            interface: self.name_of(next_hop.index)?,
            neighbour: next_hop.address,
            mac: self.neighbours.get(&next_hop).copied(),
        })
    }

    /// The name of the interface with an index.
    pub(super) fn name_of(&self, index: u32) -> Option<String> {
        self.links.get(&index).map(|link| link.name.clone())
    }

    /// The name of the interface behind a slot of the data plane.
    pub(super) fn name_of_slot(&self, slot: u32) -> Option<String> {
        let (index, _) = self.slots.iter().find(|(_, known)| u32::from(**known) == slot)?;
        self.name_of(*index)
    }

    /// The MAC address of a directly connected neighbour.
    pub(super) fn neighbour(&self, address: IpAddr) -> Option<Mac> {
        let next_hop = self.way(address).filter(|next_hop| next_hop.address == address)?;
        self.neighbours.get(&next_hop).copied()
    }

    /// The next hop towards an address.
    pub(super) fn next_hop(&self, address: IpAddr) -> NextHop {
        let resolve = || {
            let next_hop = self.way(address)?;
            let mac = self.neighbours.get(&next_hop)?;
            let slot = self.slots.get(&next_hop.index)?;
            // Without a description of the interface the data plane would send who knows where.
            self.describe(next_hop.index)?;
            Some(NextHop::new(*mac, *slot))
        };
        resolve().unwrap_or(NextHop::UNRESOLVED)
    }

    /// What the packets to an address need to know of the way. Where there is none any more, the last way counts: a
    /// route that flaps shall not make another backend of it.
    pub(super) fn outer(&self, address: IpAddr) -> Outer {
        let Some(Way { path, .. }) = self.ways.get(&address) else { return Outer::default() };
        let mtu = path.mtu.or_else(|| self.links.get(&path.index).map(|link| link.mtu)).unwrap_or(0);
        Outer {
            source: path.source.filter(|source| source.is_ipv4() == address.is_ipv4()),
            mtu: u16::try_from(mtu).unwrap_or(0),
        }
    }

    /// The interfaces that have a slot.
    pub(super) fn interfaces(&self) -> BTreeMap<u16, Interface> {
        self.slots.iter().filter_map(|(index, slot)| Some((*slot, self.describe(*index)?))).collect()
    }

    /// What the data plane should know of the interfaces it is attached to, and of all VLAN interfaces.
    ///
    /// Nothing of attached ones that take frames for other addresses than their own: bridges and bonds with the addresses of
    /// their ports, and interfaces that carry a VLAN interface with an address of its own.
    pub(super) fn devices(&self, attached: &BTreeSet<String>) -> BTreeMap<u32, Device> {
        let mut devices = BTreeMap::new();
        for link in attached.iter().filter_map(|name| self.link_named(name)) {
            let mut others = self.links.values().filter(|other| {
                other.master == Some(link.index) || other.vlan.is_some_and(|vlan| vlan.parent == link.index)
            });
            if let Some(mac) = link.mac.filter(|_| others.all(|other| other.mac == link.mac)) {
                devices.insert(link.index, Device { ifindex: link.index, mac, ..Device::default() });
            }
        }
        for link in self.links.values() {
            let (Some(mac), Some(vlan)) = (link.mac, link.vlan) else { continue };
            let tag = Tag::new(vlan.protocol, vlan.id);
            let device = Device { ifindex: link.index, mac, parent: vlan.parent, tag, ..Device::default() };
            devices.insert(link.index, device);
        }
        devices
    }

    /// How the data plane sends through an interface: a VLAN interface is its parent with a tag.
    fn describe(&self, index: u32) -> Option<Interface> {
        let link = self.links.get(&index)?;
        let (ifindex, tag) = match link.vlan {
            None => (index, Tag::NONE),
            // One tag is what is written.
            Some(vlan) if self.links.get(&vlan.parent)?.vlan.is_some() => return None,
            Some(vlan) => (vlan.parent, Tag::new(vlan.protocol, vlan.id)),
        };
        let mtu = link.mtu.min(u32::from(u16::MAX)) as u16;
        Some(Interface { ifindex, mac: link.mac?, mtu, tag })
    }

    /// The interface that the packets of `name` pass as Ethernet frames: its parent if it is a VLAN interface.
    pub(super) fn carrier<'a>(&'a self, name: &'a str) -> &'a str {
        let parent = || self.links.get(&self.link_named(name)?.vlan?.parent);
        parent().map_or(name, |parent| parent.name.as_str())
    }

    /// Whether there are VLAN interfaces on an interface.
    pub(super) fn carries_vlans(&self, name: &str) -> bool {
        let index = self.link_named(name).map(|link| link.index);
        index.is_some() && self.links.values().any(|link| link.vlan.map(|vlan| vlan.parent) == index)
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

impl World {
    /// A node that no configuration names sent an advert, so it is a director; whether that is news.
    pub(super) fn meet(&mut self, node: IpAddr) -> bool {
        self.met.insert(node)
    }

    /// Those nodes.
    pub(super) fn met(&self) -> &BTreeSet<IpAddr> {
        &self.met
    }
}

fn next_hop(destination: IpAddr, path: Path) -> net::NextHop {
    net::NextHop { index: path.index, address: path.gateway.unwrap_or(destination) }
}

/// Every address whose MAC the data plane needs: the backends that are not this node, and the other directors.
pub(super) fn wanted_neighbours(config: &Config, world: &World) -> BTreeSet<IpAddr> {
    let mut wanted = world.met.clone();
    for router in &config.virtual_routers {
        wanted.extend(router.peers());
    }
    let backends = config.services.iter().flat_map(|service| &service.backends);
    wanted.extend(backends.map(|backend| backend.address).filter(|address| !world.is_own(*address)));
    wanted
}
