//! The health of every backend that is checked: the machines, and the targets of the checker.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use tracing::{info, warn};

use super::{
    desired::{Condition, ServiceId, service_id},
    world::World,
};
use crate::{
    config::{Backend, Check, Config, Mode, Protocol, Service},
    health::{CheckId, HealthEvent, Machine, State, Target, VipPath},
    time::Timestamp,
};

/// A backend of a service.
type Key = (ServiceId, IpAddr, u16);

/// What is known about the backends' health.
#[derive(Debug, Default)]
pub(super) struct Health {
    checked: BTreeMap<Key, Checked>,
    by_id: BTreeMap<CheckId, Key>,
    next_id: u64,
    /// Nodes that are about to go, or may be dead, and until when their backends are spared for that.
    leaving: BTreeMap<IpAddr, Timestamp>,
}

#[derive(Debug)]
struct Checked {
    target: Target,
    machine: Machine,
    service: String,
    /// Packets come to it under the VIP, unless it is this node.
    takes_vip: bool,
}

impl Health {
    /// Takes a configuration and returns the targets to check. A backend whose check asks the same as before
    /// keeps its state.
    pub(super) fn configure(&mut self, config: &Config, world: &World, now: Timestamp) -> Vec<Target> {
        let mut old = std::mem::take(&mut self.checked);
        self.by_id.clear();
        for service in &config.services {
            for backend in &service.backends {
                let Some(check) = &backend.check else { continue };
                let key = (service_id(service), backend.address, backend.port);
                let port = probed_port(service, backend, check);
                // The probe along the way of the VIP's packets speaks TCP over IPv4 to one port.
                let takes_vip = service.protocol == Protocol::Tcp
                    && backend.mode == Mode::Dr
                    && service.vip.is_ipv4()
                    && service.ports.one().is_some();
                let wanted = Target {
                    id: CheckId(0),
                    address: backend.address,
                    port,
                    check: check.clone(),
                    source: probe_source(config, service, backend),
                    vip: SocketAddr::new(service.vip, service.ports.one().unwrap_or(port)),
                    vip_path: vip_path(takes_vip, backend.address, world),
                };
                let checked = match old.remove(&key) {
                    Some(mut known) if asks_the_same(&known.target, &wanted) => {
                        known.machine.reconfigure(check);
                        known.target = Target { id: known.target.id, ..wanted };
                        known.takes_vip = takes_vip;
                        known
                    }
                    _ => {
                        self.next_id += 1;
                        let target = Target { id: CheckId(self.next_id), ..wanted };
                        let machine = Machine::new(check, now);
                        Checked { target, machine, service: service.name.clone(), takes_vip }
                    }
                };
                self.by_id.insert(checked.target.id, key);
                self.checked.insert(key, checked);
            }
        }
        self.targets()
    }

    /// Follows the neighbours: if packets for the VIP now take another way to any backend, the targets to
    /// check. The backends keep their states.
    pub(super) fn follow_paths(&mut self, world: &World) -> Option<Vec<Target>> {
        let mut changed = false;
        for checked in self.checked.values_mut() {
            let path = vip_path(checked.takes_vip, checked.target.address, world);
            changed |= path != checked.target.vip_path;
            checked.target.vip_path = path;
        }
        changed.then(|| self.targets())
    }

    fn targets(&self) -> Vec<Target> {
        self.checked.values().map(|checked| checked.target.clone()).collect()
    }

    /// Takes the result of a probe; says whether any backend's fitness changed.
    pub(super) fn event(&mut self, event: &HealthEvent) -> bool {
        let Some(checked) = self.by_id.get(&event.id).and_then(|key| self.checked.get_mut(key)) else {
            return false;
        };
        let result = event.result.as_ref().map(|_| ());
        let transition = checked.machine.probe_result(event.at, result);
        if transition.is_some() {
            checked.log();
        }
        transition.is_some()
    }

    /// The VRRP peer at `address` fell silent: its backends are down until probes say otherwise. Says whether any
    /// backend's fitness changed.
    pub(super) fn peer_lost(&mut self, address: IpAddr, now: Timestamp) -> bool {
        let mut changed = false;
        for (_, checked) in self.checked.iter_mut().filter(|((_, a, _), _)| *a == address) {
            if checked.machine.peer_lost(now, "its node stopped sending VRRP adverts").is_some() {
                checked.log();
                changed = true;
            }
        }
        changed
    }

    /// The node at `address` says that it goes, or nothing is heard of it any more: until `until` its backends get no new
    /// connections. By then their checks have decided. Says whether that is new.
    pub(super) fn leaves(&mut self, address: IpAddr, until: Timestamp) -> bool {
        self.leaving.insert(address, until).is_none()
    }

    /// The node at `address` is there. Says whether it was leaving.
    pub(super) fn stays(&mut self, address: IpAddr) -> bool {
        self.leaving.remove(&address).is_some()
    }

    /// Forgets nodes that were to go until now; says whether there were any.
    pub(super) fn give_up_leaving(&mut self, now: Timestamp) -> bool {
        self.leaving.extract_if(.., |_, until| *until <= now).count() > 0
    }

    /// When a node that was to leave may be back.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.leaving.values().min().copied()
    }

    /// Whether every checked backend has been asked at least once.
    pub(super) fn all_known(&self) -> bool {
        self.checked.values().all(|checked| *checked.machine.state() != State::Checking)
    }

    /// What is known of a backend; what nobody checks is up.
    pub(super) fn condition(&self, service: &Service, address: IpAddr, port: u16) -> Condition {
        match self.checked.get(&(service_id(service), address, port)).map(|checked| checked.machine.state()) {
            None | Some(State::Up) if self.leaving.contains_key(&address) => Condition::Leaving,
            None | Some(State::Up) => Condition::Up,
            Some(State::Checking) => Condition::Checking,
            Some(State::Down { .. }) => Condition::Failed,
        }
    }

    /// Whether a backend is healthy; `None` while that is not known.
    pub(super) fn is_up(&self, service: &Service, backend: &Backend) -> Option<bool> {
        match self
            .checked
            .get(&(service_id(service), backend.address, backend.port))
            .map(|c| c.machine.state())
        {
            None | Some(State::Up) => Some(true),
            Some(State::Checking) => None,
            Some(State::Down { .. }) => Some(false),
        }
    }

    /// Whether the healthy backends of a service have the weight it asks for; `None` while that depends on backends not
    /// yet known.
    pub(super) fn has_quorum(&self, service: &Service) -> Option<bool> {
        let weight = |wanted: Option<bool>| {
            let ordinary = service.backends.iter().filter(|backend| !backend.backup);
            ordinary
                .filter(|backend| self.is_up(service, backend) == wanted)
                .map(|backend| u64::from(backend.weight))
                .sum::<u64>()
        };
        let quorum = u64::from(service.quorum);
        match (weight(Some(true)), weight(None)) {
            (up, _) if up >= quorum => Some(true),
            (up, unknown) if up + unknown >= quorum => None,
            _ => Some(false),
        }
    }

    /// The state and its reason, for `lb status`.
    pub(super) fn describe(&self, service: &Service, backend: &Backend) -> (&'static str, String) {
        let checked = self.checked.get(&(service_id(service), backend.address, backend.port));
        if self.condition(service, backend.address, backend.port) == Condition::Leaving {
            return ("leaving", "its node says that it goes, or is silent".to_owned());
        }
        let Some(checked) = checked else { return ("up", "not checked".to_owned()) };
        match checked.machine.state() {
            State::Checking => {
                ("checking", checked.machine.last_error().unwrap_or("no result yet").to_owned())
            }
            State::Up => match checked.machine.last_error() {
                Some(error) => ("up", format!("last probe failed: {error}")),
                None => ("up", "check passes".to_owned()),
            },
            State::Down { reason } => ("down", reason.clone()),
        }
    }
}

impl Checked {
    fn log(&self) {
        let Target { address, port, .. } = self.target;
        let service = &self.service;
        match self.machine.state() {
            State::Up => info!(%service, %address, port, "backend is up"),
            State::Down { reason } => warn!(%service, %address, port, %reason, "backend is down"),
            State::Checking => {}
        }
    }
}

/// The port to connect to: of several ports the first, unless the check says which. (For all ports it does.)
fn probed_port(service: &Service, backend: &Backend, check: &Check) -> u16 {
    let (first, _) = service.ports.bounds();
    check.port.unwrap_or(if backend.port == 0 { first } else { backend.port })
}

fn asks_the_same(known: &Target, wanted: &Target) -> bool {
    known.check.kind == wanted.check.kind
        && known.check.port == wanted.check.port
        && (known.address, known.port) == (wanted.address, wanted.port)
}

/// The way packets for the VIP take to a backend, as the data plane forwards them.
fn vip_path(takes_vip: bool, address: IpAddr, world: &World) -> VipPath {
    if !takes_vip || !address.is_ipv4() || world.is_own(address) {
        return VipPath::NotAsked;
    }
    match world.station(address) {
        Some((interface, Some(mac))) => VipPath::Resolved { interface, mac },
        _ => VipPath::Unresolved,
    }
}

/// The address probes come from: the VRRP source address where the service belongs to a virtual router, so that
/// an owner never asks from the VIP, which the backend may have as well. A node's own backend is asked from
/// wherever the kernel likes.
fn probe_source(config: &Config, service: &Service, backend: &Backend) -> Option<IpAddr> {
    let source = config.router_of(service.vip)?.source();
    // An IPv6 VIP is deprecated where it is an address, so the kernel does not choose it.
    let alike = backend.address.is_ipv4() && source.is_ipv4();
    let known = !source.is_unspecified();
    (known && alike && backend.address != source && backend.mode != Mode::Nat).then_some(source)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lb_common::Mac;

    use std::net::Ipv4Addr;

    use super::*;
    use crate::net::{InterfaceAddress, Link, Neighbour, NetEvent, NextHop as NetNextHop, Path};

    const TUTORIAL: &str = include_str!("../../../configs/tutorial-a.toml");
    const NODE_A: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 20, 128, 2));
    const NODE_B: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 20, 128, 3));
    const MAC_B: Mac = Mac([2, 0, 0, 0, 0, 0x0b]);
    const INTERFACE: u32 = 7;

    /// What node-a knows at first: itself, and that node-b is behind eth0.
    fn world() -> World {
        let mut world = World::default();
        world.event(NetEvent::Link(Link {
            index: INTERFACE,
            name: "eth0".to_owned(),
            mac: Some(Mac([2, 0, 0, 0, 0, 0x0a])),
            mtu: 1500,
            up: true,
            carrier: true,
            master: None,
            vlan: None,
            macvlan_on: None,
        }));
        let address = ipnet::IpNet::new(NODE_A, 16).unwrap();
        world.event(NetEvent::AddressAdded(InterfaceAddress { index: INTERFACE, address }));
        let path = Path { index: INTERFACE, gateway: None, source: None, mtu: None };
        world.route(NODE_B, Some(path));
        world
    }

    fn learn(world: &mut World, mac: Option<Mac>) {
        let next_hop = NetNextHop { index: INTERFACE, address: NODE_B };
        world.event(NetEvent::Neighbour(Neighbour { next_hop, mac }));
    }

    fn paths(targets: &[Target]) -> BTreeMap<IpAddr, VipPath> {
        targets.iter().map(|target| (target.address, target.vip_path)).collect()
    }

    fn resolved(mac: Mac) -> VipPath {
        VipPath::Resolved { interface: INTERFACE, mac }
    }

    #[test]
    fn the_vip_is_asked_for_at_other_nodes_of_mode_dr_and_tcp_only() {
        // (what the tutorial's text becomes, the path to node-b)
        let cases = [
            (TUTORIAL.to_owned(), resolved(MAC_B)),
            (TUTORIAL.replace("mode = \"dr\"", "mode = \"nat\""), VipPath::NotAsked),
            (
                TUTORIAL
                    .replace("protocol = \"tcp\"", "protocol = \"udp\"")
                    .replace("check = { http = \"/\"", "check = { tcp = true"),
                VipPath::NotAsked,
            ),
        ];
        for (text, to_b) in cases {
            let config = Config::parse("test.toml", &text).unwrap();
            let mut world = world();
            learn(&mut world, Some(MAC_B));
            let targets = Health::default().configure(&config, &world, Timestamp(0));
            let expected = BTreeMap::from([(NODE_A, VipPath::NotAsked), (NODE_B, to_b)]);
            assert_eq!(paths(&targets), expected, "{text}");
        }
    }

    #[test]
    fn a_new_mac_is_followed_without_forgetting_the_state() {
        let config = Config::parse("tutorial-a.toml", TUTORIAL).unwrap();
        let (mut health, mut world) = (Health::default(), world());
        let targets = health.configure(&config, &world, Timestamp(0));
        assert_eq!(paths(&targets)[&NODE_B], VipPath::Unresolved);
        assert_eq!(health.follow_paths(&world), None, "nothing has changed");

        learn(&mut world, Some(MAC_B));
        let targets = health.follow_paths(&world).expect("the MAC is known now");
        assert_eq!(paths(&targets)[&NODE_B], resolved(MAC_B));
        let id = targets.iter().find(|target| target.address == NODE_B).unwrap().id;
        assert!(health.event(&HealthEvent { id, at: Timestamp(1), result: Ok(Duration::ZERO) }));

        let other = Mac([2, 0, 0, 0, 0, 0x1b]);
        learn(&mut world, Some(other));
        let targets = health.follow_paths(&world).expect("the MAC is another");
        let to_b = targets.iter().find(|target| target.address == NODE_B).unwrap();
        assert_eq!((to_b.id, to_b.vip_path), (id, resolved(other)));
        assert_eq!(health.condition(&config.services[0], NODE_B, 80), Condition::Up);

        // A new configuration that asks the same keeps both.
        assert_eq!(paths(&health.configure(&config, &world, Timestamp(2))), paths(&targets));
        assert_eq!(health.condition(&config.services[0], NODE_B, 80), Condition::Up);
        learn(&mut world, None);
        assert_eq!(paths(&health.follow_paths(&world).unwrap())[&NODE_B], VipPath::Unresolved);
    }
}
