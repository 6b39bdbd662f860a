//! The reconciler: from the desired state to operations on maps, addresses and attachments.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use futures_util::future::join_all;
use ipnet::IpNet;
use lb_common::{Device, Interface, Mac, NextHop};
use tracing::{debug, error, info, warn};

use super::{
    addresses::Assigned,
    controller::{Attached, Controller, RETRY},
    desired::{Condition, Desired, LOOPBACK, Left, Outer, View, desired},
    forwarding::ForwardingError,
    world::{World, wanted_neighbours},
};
use crate::{
    config::{Config, Mode, NodeAddress, Scope, Service, XdpMode},
    dataplane::DataplaneError,
    net::{
        self, AddressOptions, InterfaceAddress, InterfaceSysctl, NetEvent, NetlinkError, Route, TagOffload,
    },
    time::Timestamp,
};

/// `arp_announce`: use the interface's primary address in the target's network, whatever the packet says.
const ARP_ANNOUNCE_PRIMARY: u32 = 2;
/// How many routes are asked for before the control task turns to its other duties: some milliseconds, so that
/// events are heard in time however many backends there are.
const ROUTES_AT_ONCE: usize = 256;
/// How often all routes are asked for although nothing was heard of a change.
pub(super) const ROUTES_REFRESH: Duration = Duration::from_mins(1);

impl Controller {
    fn view(&self) -> Known<'_> {
        Known { controller: self }
    }

    /// Brings everything to the desired state. What fails is tried again.
    pub(super) async fn reconcile(&mut self) {
        self.dirty = false;
        self.retry_at = None;
        let now = Timestamp::now();
        self.follow_paths();
        let wanted = desired(&self.config, &self.view());
        let forwarding = self.apply_maps(&wanted, now);
        let node = self.apply_node(&wanted).await;
        let left = if node { self.forget_vips(&wanted) } else { true };
        let attached = self.attach_missing();
        let text = attached.as_ref().err().map(ToString::to_string);
        let attached = self.problem("attach XDP", text.map_or(Ok(()), Err));
        if !(forwarding && node && left && attached) {
            self.retry_at = Some(now + RETRY);
        }
    }

    /// Has the checks take the way that packets for the VIPs take now.
    pub(super) fn follow_paths(&mut self) {
        if let Some(targets) = self.health.follow_paths(&self.world) {
            self.edges.checker.set(&targets);
        }
    }

    /// Every destination whose way has to be known: peers and backends, those included that left and have connections.
    fn destinations(&self) -> BTreeSet<IpAddr> {
        let mut all = wanted_neighbours(&self.config, &self.world);
        all.extend(self.forwarding.left().filter(|left| !left.is_local).map(|left| left.address));
        all
    }

    /// Asks the kernel for the way to every backend and peer, all at once: nothing has been claimed yet.
    pub(super) async fn find_routes(&mut self) {
        self.routes.stale = true;
        while self.find_some_routes().await {}
    }

    /// Asks the kernel for the ways to destinations that are new.
    pub(super) async fn find_new_routes(&mut self) {
        let all = self.destinations();
        let new: Vec<IpAddr> = all.into_iter().filter(|address| !self.world.knows_way(address)).collect();
        self.ask_routes(&new).await;
        self.routes.stale = true;
    }

    /// A part of a round through all destinations, where one is due or under way; whether there is more to do. At
    /// the end of a round its next hops are resolved.
    pub(super) async fn find_some_routes(&mut self) -> bool {
        if self.routes.left.is_empty() {
            if !std::mem::take(&mut self.routes.stale) {
                return false;
            }
            self.routes.left = self.destinations().into_iter().collect();
            self.routes.failures.clear();
        }
        let rest = self.routes.left.len().saturating_sub(ROUTES_AT_ONCE);
        let part = self.routes.left.split_off(rest);
        self.ask_routes(&part).await;
        if !self.routes.left.is_empty() {
            return true;
        }
        let failures = std::mem::take(&mut self.routes.failures);
        self.problem("routes", failures.is_empty().then_some(()).ok_or(failures.join("; ")));
        let destinations = self.destinations();
        let next_hops = self.world.keep_routes(&destinations);
        let result = self.edges.neighbours.set(next_hops).await;
        self.neighbours_asked(result);
        self.dirty = true;
        self.routes.stale
    }

    async fn ask_routes(&mut self, destinations: &[IpAddr]) {
        let netlink = &self.edges.netlink;
        let ask = |destination: &IpAddr| {
            let destination = *destination;
            async move { (destination, netlink.route(destination).await) }
        };
        for (destination, answer) in join_all(destinations.iter().map(ask)).await {
            let (path, failure) = match answer {
                Ok(Some(Route::Remote(path))) => (Some(path), None),
                Ok(Some(Route::Local)) => (None, None),
                Ok(None) => (None, Some(format!("no route to {destination}"))),
                Err(error) => (None, Some(error.to_string())),
            };
            self.world.route(destination, path);
            self.routes.fail(failure);
        }
    }

    /// Has the kernel look again after next hops; called every [`REFRESH`](crate::net::REFRESH).
    pub(super) async fn refresh(&mut self) {
        let result = self.edges.neighbours.refresh().await;
        self.neighbours_asked(result);
        self.dirty = true;
    }

    fn neighbours_asked(&mut self, result: Result<Vec<net::Failure>, NetlinkError>) {
        let text = match result {
            Ok(failures) => {
                failures.iter().map(|(_, error)| error.to_string()).collect::<Vec<_>>().join("; ")
            }
            Err(error) => error.to_string(),
        };
        self.problem("neighbours", text.is_empty().then_some(()).ok_or(text));
    }

    /// Brings the maps, but no address, to the desired state.
    pub(super) fn apply_forwarding(&mut self, now: Timestamp) -> bool {
        let wanted = desired(&self.config, &self.view());
        self.apply_maps(&wanted, now)
    }

    fn apply_maps(&mut self, wanted: &Desired, now: Timestamp) -> bool {
        let errors = self.forwarding.reconcile(self.edges.dataplane.as_mut(), wanted, now);
        self.forwarding_problems("data plane", &errors)
    }

    /// Does a piece of what is due for unsettled slots.
    pub(super) fn settle(&mut self, now: Timestamp) {
        if self.forwarding.next_settling().is_none_or(|due| due > now) {
            return;
        }
        let result = self.forwarding.settle(self.edges.dataplane.as_mut(), now);
        self.dirty |= *result.as_ref().unwrap_or(&false);
        self.problem("unsettled slots", result.map(drop).map_err(|error| error.to_string()));
    }

    fn forget_vips(&mut self, wanted: &Desired) -> bool {
        let errors = self.forwarding.forget_vips(self.edges.dataplane.as_mut(), wanted);
        self.forwarding_problems("data plane, former VIPs", &errors)
    }

    fn forwarding_problems(&mut self, what: &str, errors: &[ForwardingError]) -> bool {
        let text = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        self.problem(what, errors.is_empty().then_some(()).ok_or(text))
    }

    /// Brings interfaces, addresses, routes and rules to the desired state, each after what it needs.
    pub(super) async fn apply_node(&mut self, wanted: &Desired) -> bool {
        let ruled_out = self.remove_rules(&wanted.rules).await;
        let removed = self.remove_routes(&wanted.routes).await;
        let raised = self.raise_virtual_macs(wanted).await;
        let addresses = self.apply_addresses(&wanted.addresses).await;
        let quiet = self.quiet_virtual_macs(wanted).await;
        let added = self.add_routes(&wanted.routes).await;
        let ruled_in = self.add_rules(&wanted.rules).await;
        ruled_out && removed && raised && addresses && quiet && added && ruled_in
    }

    pub(super) async fn apply_addresses(&mut self, wanted: &BTreeSet<Assigned>) -> bool {
        let (remove, add) = self.addresses.difference(wanted);
        let mut all = true;
        // An address that moves to another interface is never missing: connections have it.
        for (interface, address) in add {
            let options = address_options(&self.config, &interface, address);
            let result = match self.world.link_named(&interface) {
                Some(link) => self
                    .edges
                    .netlink
                    .add_address_with(link.index, address, &options)
                    .await
                    .map_err(|error| error.to_string()),
                None => Err(format!("interface {interface} does not exist")),
            };
            if let Ok(added) = result {
                if let Some(link) = self.world.link_named(&interface) {
                    // The kernel says so too, later: until then nobody takes the address for gone.
                    let added = InterfaceAddress { index: link.index, address };
                    self.world.event(NetEvent::AddressAdded(added));
                }
                let assigned = (interface.clone(), address);
                if options.of_node && !added {
                    self.addresses.note_found(assigned);
                } else {
                    self.addresses.note(assigned);
                }
                debug!(%interface, %address, "address added");
            }
            all &= self.problem(&format!("add {address} to {interface}"), result.map(drop));
        }
        for (interface, address) in remove {
            let result = match self.world.link_named(&interface) {
                Some(link) => self.edges.netlink.delete_address(link.index, address).await,
                // It went with its interface.
                None => Ok(false),
            };
            if result.is_ok() {
                self.addresses.forget(&(interface.clone(), address));
                debug!(%interface, %address, "address removed");
            }
            all &= self.problem(
                &format!("remove {address} from {interface}"),
                result.map(drop).map_err(|error| error.to_string()),
            );
        }
        all
    }

    /// Somebody took an address from this node that it put there: it goes back, and where it is a VIP of this node's,
    /// the neighbours are told again.
    pub(super) fn address_taken(&mut self, address: IpAddr) {
        self.taken = true;
        let now = Timestamp::now();
        for router in &mut self.routers {
            if router.is_owner() && router.config.all_vips().any(|vip| vip.addr() == address) {
                router.announce_again(now);
            }
        }
    }

    /// Puts back what was taken, ahead of all that may take its time. What fails, [`reconcile`](Self::reconcile) tries
    /// again.
    pub(super) async fn put_back(&mut self) {
        if std::mem::take(&mut self.taken) {
            let wanted = desired(&self.config, &self.view());
            self.apply_node(&wanted).await;
        }
    }

    /// Attaches the program where it should be and is not, and detaches it where it is and should not be.
    pub(super) fn attach_missing(&mut self) -> Result<(), DataplaneError> {
        let wanted = self.carriers();
        let gone: Vec<String> =
            self.attachments.keys().filter(|name| !wanted.contains(*name)).cloned().collect();
        for interface in gone {
            self.edges.dataplane.detach(&interface)?;
            self.attachments.remove(&interface);
        }
        for interface in wanted {
            if self.attachments.contains_key(&interface) {
                continue;
            }
            let mode = wanted_mode(&self.config, &self.world, &interface);
            let attachment = self.edges.dataplane.attach(&interface, mode)?;
            info!(%interface, mode = attachment.mode, reason = %attachment.reason, "XDP attached");
            let index = self.world.link_named(&interface).map_or(0, |link| link.index);
            self.attachments.insert(interface, Attached { index, attachment });
        }
        self.keep_tags();
        Ok(())
    }

    /// Has attached interfaces that carry VLAN interfaces leave the tags on what they receive.
    fn keep_tags(&mut self) {
        let attached = self.attachments.keys().filter(|name| !self.tagged.contains_key(*name));
        let carriers: Vec<String> = attached.filter(|name| self.world.carries_vlans(name)).cloned().collect();
        for interface in carriers {
            let changed = TagOffload::switch_off(&interface).unwrap_or_else(|error| {
                warn!("{error}");
                None
            });
            self.tagged.insert(interface, changed);
        }
    }

    /// [`carriers`]
    pub(super) fn carriers(&self) -> BTreeSet<String> {
        carriers(&self.config, &self.world)
    }

    /// Settings of each interface. `arp_announce` keeps the kernel from naming a VIP as the sender of ARP
    /// requests: a backup that asked for a client's address in the VIP's name would draw the VIP's traffic to
    /// itself. `promote_secondaries` keeps the other VIPs of a network when one of them goes. `accept_local` lets
    /// the stack forward the `nat` replies that generic mode cannot redirect.
    pub(super) fn set_sysctls(&mut self) {
        let mut wanted = vec![
            (InterfaceSysctl::ArpAnnounce, ARP_ANNOUNCE_PRIMARY),
            (InterfaceSysctl::PromoteSecondaries, 1),
        ];
        if self.config.services.iter().flat_map(|service| &service.backends).any(|b| b.mode == Mode::Nat) {
            wanted.push((InterfaceSysctl::AcceptLocal, 1));
        }
        for interface in self.config.attached_interfaces() {
            for &(setting, value) in &wanted {
                match setting.raise(interface, value) {
                    Ok(guard) => self.sysctls.extend(guard),
                    Err(error) => warn!(interface, "{error}"),
                }
            }
        }
    }

    /// Notes VIPs that an earlier daemon left on the node, so that those not wanted are removed.
    pub(super) fn adopt_addresses(&mut self) {
        let on_interfaces = self.config.virtual_routers.iter().flat_map(|router| {
            router.all_vips().map(|vip| (router.interface_of(vip.addr()).to_owned(), vip))
        });
        let on_loopback =
            self.config.services.iter().map(|service| (LOOPBACK.to_owned(), service.vip.into()));
        let leftovers: Vec<Assigned> = on_interfaces
            .chain(on_loopback)
            .filter(|(interface, address)| self.world.has_address(interface, *address))
            .collect();
        for leftover in leftovers {
            info!(interface = %leftover.0, address = %leftover.1, "found a VIP left by an earlier lb");
            self.addresses.note(leftover);
        }
    }

    /// Records whether something works; logs changes only.
    pub(super) fn problem(&mut self, what: &str, result: Result<(), String>) -> bool {
        match result {
            Ok(()) => {
                if self.problems.remove(what).is_some() {
                    info!("{what}: works again");
                }
                true
            }
            Err(text) => {
                if self.problems.get(what) != Some(&text) {
                    error!("{what}: {text}");
                    self.problems.insert(what.to_owned(), text);
                }
                false
            }
        }
    }
}

/// How an address is added that the configuration places.
fn address_options(config: &Config, interface: &str, address: IpNet) -> AddressOptions {
    let number = |scope: Option<Scope>| scope.map_or(0, Scope::number);
    let own = |own: &&NodeAddress| own.interface == interface && own.address == address;
    if let Some(own) = config.addresses.iter().find(own) {
        return AddressOptions { of_node: true, label: own.label.clone(), scope: number(own.scope) };
    }
    let router = config.router_of(address.addr()).filter(|_| interface != LOOPBACK);
    let place = router.and_then(|router| router.placement.places.get(&address.addr()));
    let place = place.cloned().unwrap_or_default();
    AddressOptions { of_node: false, label: place.label, scope: number(place.scope) }
}

/// The interfaces the program belongs on: those of the configuration, of a VLAN interface its parent.
pub(super) fn carriers(config: &Config, world: &World) -> BTreeSet<String> {
    config.attached_interfaces().into_iter().map(|name| world.carrier(name).to_owned()).collect()
}

/// How to attach to an interface: as it is configured itself, or else as a VLAN interface on it is.
pub(super) fn wanted_mode(config: &Config, world: &World, interface: &str) -> XdpMode {
    let settings = &config.interfaces;
    let of_vlan = || settings.iter().find(|(name, _)| world.carrier(name) == interface);
    let settings = settings.get(interface).or_else(|| of_vlan().map(|(_, settings)| settings));
    settings.map(|settings| settings.xdp).unwrap_or_default()
}

/// What the controller knows, as [`desired`] asks for it.
struct Known<'a> {
    controller: &'a Controller,
}

impl View for Known<'_> {
    fn is_owner(&self, router: &str) -> bool {
        self.controller.routers.iter().any(|r| r.config.name == router && r.is_owner())
    }

    fn was_owner(&self, router: &str) -> bool {
        self.controller.routers.iter().any(|r| r.config.name == router && r.was_owner())
    }

    fn condition(&self, service: &Service, address: IpAddr, port: u16) -> Condition {
        self.controller.health.condition(service, address, port)
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        self.controller.world.is_own(address)
    }

    fn interfaces(&self) -> BTreeMap<u16, Interface> {
        self.controller.world.interfaces()
    }

    fn left(&self) -> Vec<Left> {
        self.controller.forwarding.left().collect()
    }

    fn devices(&self) -> BTreeMap<u32, Device> {
        self.controller.world.devices(&self.controller.carriers())
    }

    fn next_hop(&self, address: IpAddr) -> NextHop {
        self.controller.world.next_hop(address)
    }

    fn outer(&self, address: IpAddr) -> Outer {
        self.controller.world.outer(address)
    }

    fn met(&self) -> impl Iterator<Item = IpAddr> {
        self.controller.world.met().iter().copied()
    }

    fn index_of(&self, interface: &str) -> Option<u32> {
        self.controller.world.link_named(interface).map(|link| link.index)
    }

    fn neighbour(&self, address: IpAddr) -> Option<Mac> {
        self.controller.world.neighbour(address)
    }
}
