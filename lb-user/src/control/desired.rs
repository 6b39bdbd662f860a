//! What should be: a pure function of the configuration and of what is known of the world.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use ipnet::Ipv4Net;
use lb_common::{Be16, Interface, Mac, NextHop, ServiceKey6};

use crate::config::{Config, Mode, Protocol, Service};

/// The lease of VIPs that no virtual router guards.
pub(super) const STANDALONE_LEASE: u32 = 0;
/// The loopback interface, which carries the VIPs this node serves itself.
pub(super) const LOOPBACK: &str = "lo";

/// The state the reconciler brings about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Desired {
    /// Interface slot → what is behind it.
    pub(super) interfaces: BTreeMap<u16, Interface>,
    /// VIP → lease number.
    pub(super) vips: BTreeMap<Ipv4Addr, u32>,
    /// The services and where their packets go.
    pub(super) services: BTreeMap<ServiceKey6, DesiredService>,
    /// MAC addresses of the other directors.
    pub(super) directors: BTreeSet<Mac>,
    /// VIPs that this node has as addresses: (interface, address with prefix).
    pub(super) addresses: BTreeSet<(String, Ipv4Net)>,
}

/// A service as the data plane should know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DesiredService {
    /// The lease of its VIP.
    pub(super) lease: u32,
    /// Its transport protocol.
    pub(super) protocol: Protocol,
    /// Slots of its ring.
    pub(super) ring_size: u32,
    /// How long a packet of an unknown flow in a slot that changed hands is taken for one of an old connection.
    pub(super) learning_window: Duration,
    /// How long a remembered flow may be silent.
    pub(super) flow_timeout: Duration,
    /// Its backends, by address and port.
    pub(super) backends: BTreeMap<(Ipv4Addr, u16), DesiredBackend>,
}

/// A backend as the data plane should know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DesiredBackend {
    /// How packets get there, `local` where the address is this node's own.
    pub(super) mode: Mode,
    /// Its share of the ring: the configured weight, 0 while it is not healthy.
    pub(super) weight: u32,
    /// What is known of its health: whether the connections it has are worth keeping.
    pub(super) condition: Condition,
    /// Where its packets are sent; unresolved for `local`.
    pub(super) next_hop: NextHop,
}

/// What is known of a backend's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It may get new connections: it is up, or nobody checks it.
    Up,
    /// Not known yet: it gets no new connections and keeps those it has.
    Checking,
    /// It failed: it has no connections any more.
    Failed,
}

/// What is known of the world.
pub(super) trait View {
    /// Whether this node owns the VIPs of the virtual router of that name.
    fn is_owner(&self, router: &str) -> bool;
    /// The health of a backend.
    fn condition(&self, service: &Service, address: IpAddr, port: u16) -> Condition;
    /// Whether the address is one of this node's own.
    fn is_own_address(&self, address: IpAddr) -> bool;
    /// The interfaces that next hops name, by slot.
    fn interfaces(&self) -> BTreeMap<u16, Interface>;
    /// The next hop towards an address, `NextHop::UNRESOLVED` while unknown.
    fn next_hop(&self, address: IpAddr) -> NextHop;
    /// The MAC address of a directly connected neighbour, if known.
    fn neighbour(&self, address: Ipv4Addr) -> Option<Mac>;
}

/// The number of a virtual router's lease.
pub(super) fn lease_of_router(index: usize) -> u32 {
    index as u32 + 1
}

/// The key under which the data plane knows a service.
pub(super) fn service_key(service: &Service) -> ServiceKey6 {
    ServiceKey6 {
        address: service.vip.into(),
        port: Be16::new(service.port),
        protocol: service.protocol.number(),
        reserved: 0,
    }
}

/// Computes what should be.
pub(super) fn desired(config: &Config, view: &impl View) -> Desired {
    let mut desired = Desired { interfaces: view.interfaces(), ..Desired::default() };
    for (index, router) in config.virtual_routers.iter().enumerate() {
        for vip in &router.vips {
            desired.vips.insert(vip.addr(), lease_of_router(index));
            if view.is_owner(&router.name) {
                desired.addresses.insert((router.interface.clone(), *vip));
            }
        }
        let crate::config::Transport::Unicast { peers, .. } = &router.transport;
        desired.directors.extend(peers.iter().filter_map(|peer| view.neighbour(*peer)));
    }
    for service in &config.services {
        let lease = *desired.vips.entry(service.vip).or_insert(STANDALONE_LEASE);
        let backends = backends(service, view);
        let serves_itself = backends.values().any(|backend| backend.mode == Mode::Local);
        if serves_itself || lease == STANDALONE_LEASE {
            desired.addresses.insert((LOOPBACK.to_owned(), Ipv4Net::from(service.vip)));
        }
        desired.services.insert(
            service_key(service),
            DesiredService {
                lease,
                protocol: service.protocol,
                ring_size: service.ring_size,
                learning_window: service.learning_window,
                flow_timeout: service.flow_timeout,
                backends,
            },
        );
    }
    desired
}

fn backends(service: &Service, view: &impl View) -> BTreeMap<(Ipv4Addr, u16), DesiredBackend> {
    let mut backends = BTreeMap::new();
    for backend in &service.backends {
        // The data plane is IPv4 only so far; the configuration refuses backends of another family.
        let IpAddr::V4(address) = backend.address else { continue };
        let mode = if view.is_own_address(backend.address) { Mode::Local } else { backend.mode };
        let condition = view.condition(service, backend.address, backend.port);
        let next_hop = match mode {
            Mode::Local => NextHop::UNRESOLVED,
            Mode::Dr | Mode::Nat => view.next_hop(backend.address),
        };
        let weight = if condition == Condition::Up { backend.weight } else { 0 };
        backends.insert((address, backend.port), DesiredBackend { mode, weight, condition, next_hop });
    }
    backends
}
