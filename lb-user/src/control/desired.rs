//! What should be: a pure function of the configuration and of what is known of the world.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;
use lb_common::{Device, Interface, Mac, NextHop, VirtualMac, limits};

use super::virtual_mac::DesiredMac;
use crate::config::{Backend, Config, Mode, Ports, Protocol, Route, Rule, Service, VirtualRouter};

/// The lease of VIPs that no virtual router guards.
pub(super) const STANDALONE_LEASE: u32 = 0;
/// The lease of VIPs that this node serves without ever answering for them. Nobody renews it.
pub(super) const BACKEND_LEASE: u32 = limits::LEASES - 1;
/// The loopback interface, which carries the VIPs this node serves itself.
pub(super) const LOOPBACK: &str = "lo";

/// The state the reconciler brings about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Desired {
    /// Interface slot → what is behind it.
    pub(super) interfaces: BTreeMap<u16, Interface>,
    /// Index → what is known of that device.
    pub(super) devices: BTreeMap<u32, Device>,
    /// VIP → what guards it.
    pub(super) vips: BTreeMap<IpAddr, DesiredVip>,
    /// The services and where their packets go.
    pub(super) services: BTreeMap<ServiceId, DesiredService>,
    /// MAC addresses of the other directors.
    pub(super) directors: BTreeSet<Mac>,
    /// Networks whose encapsulated packets are taken out.
    pub(super) tunnel_sources: BTreeSet<IpNet>,
    /// Next hops of backends that were taken out of the configuration and still have connections.
    pub(super) left: BTreeMap<IpAddr, NextHop>,
    /// VIPs that this node has as addresses: (interface, address with prefix).
    pub(super) addresses: BTreeSet<(String, IpNet)>,
    /// Interfaces with the MAC address of a virtual router, by name.
    pub(super) virtual_macs: BTreeMap<String, DesiredMac>,
    /// The MAC addresses of virtual routers, and the lease that each goes with.
    pub(super) virtual_leases: BTreeMap<VirtualMac, u32>,
    /// Routes of this node's.
    pub(super) routes: BTreeSet<Route>,
    /// Policy rules of this node's.
    pub(super) rules: BTreeSet<Rule>,
}

/// A VIP as the data plane should know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DesiredVip {
    /// Its lease number.
    pub(super) lease: u32,
    /// Some of its services have several ports.
    pub(super) has_ranges: bool,
    /// Its owner does not take what no service is for.
    pub(super) not_accepted: bool,
    /// This node has it as an address.
    pub(super) held: bool,
}

/// What tells a service from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ServiceId {
    /// The VIP.
    pub(super) vip: IpAddr,
    /// What clients connect to.
    pub(super) ports: Ports,
    /// The transport protocol.
    pub(super) protocol: Protocol,
}

/// A service as the data plane should know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DesiredService {
    /// The lease of its VIP.
    pub(super) lease: u32,
    /// Slots of its ring.
    pub(super) ring_size: u32,
    /// How long a packet of an unknown flow in a slot that changed hands is taken for one of an old connection.
    pub(super) learning_window: Duration,
    /// How long a remembered flow may be silent.
    pub(super) flow_timeout: Duration,
    /// Its backends, by address and port (0: the one the client chose).
    pub(super) backends: BTreeMap<(IpAddr, u16), DesiredBackend>,
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
    /// The outer source address and the MTU; nothing for `local`.
    pub(super) outer: Outer,
}

/// What of the way to a backend goes into the packets to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Outer {
    /// The address the kernel would send from.
    pub(super) source: Option<IpAddr>,
    /// The longest IP packet in bytes, 0 for no limit.
    pub(super) mtu: u16,
}

/// What is known of a backend's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It may get new connections: it is up, or nobody checks it.
    Up,
    /// Not known yet: it gets no new connections and keeps those it has.
    Checking,
    /// Its node is about to go, or may be dead: it gets no new connections, if another can have them, and keeps those it
    /// has.
    Leaving,
    /// It failed, and is to keep the connections it has all the same: it gets no new ones.
    Spared,
    /// It failed: it has no connections any more.
    Failed,
}

/// A backend that was taken out of the configuration, and that a slot or a flow still names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// The VIP of its service.
    pub(super) vip: IpAddr,
    /// Its address.
    pub(super) address: IpAddr,
    /// It is this node itself.
    pub(super) is_local: bool,
}

/// What is known of the world.
pub(super) trait View {
    /// The backends that are left over from earlier configurations.
    fn left(&self) -> Vec<Left> {
        Vec::new()
    }
    /// Whether this node owns the VIPs of the virtual router of that name.
    fn is_owner(&self, router: &str) -> bool;
    /// Whether another node has become owner so lately that clients may not know of it yet.
    fn was_owner(&self, _router: &str) -> bool {
        false
    }
    /// The health of a backend.
    fn condition(&self, service: &Service, address: IpAddr, port: u16) -> Condition;
    /// Whether the address is one of this node's own.
    fn is_own_address(&self, address: IpAddr) -> bool;
    /// The interfaces that next hops name, by slot.
    fn interfaces(&self) -> BTreeMap<u16, Interface>;
    /// The devices the program should know, by index.
    fn devices(&self) -> BTreeMap<u32, Device>;
    /// The next hop towards an address, `NextHop::UNRESOLVED` while unknown.
    fn next_hop(&self, address: IpAddr) -> NextHop;
    /// The source address and MTU of packets to an address, as far as known.
    fn outer(&self, address: IpAddr) -> Outer;
    /// Directors that the configuration does not name.
    fn met(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::empty()
    }
    /// The index of an interface.
    fn index_of(&self, _interface: &str) -> Option<u32> {
        None
    }
    /// The MAC address of a directly connected neighbour, if known.
    fn neighbour(&self, address: IpAddr) -> Option<Mac>;
}

/// The number of a virtual router's lease.
pub(super) fn lease_of_router(index: usize) -> u32 {
    index as u32 + 1
}

/// What tells `service` from the others.
pub(super) fn service_id(service: &Service) -> ServiceId {
    ServiceId { vip: service.vip, ports: service.ports, protocol: service.protocol }
}

/// Computes what should be.
pub(super) fn desired(config: &Config, view: &impl View) -> Desired {
    let mut desired =
        Desired { interfaces: view.interfaces(), devices: view.devices(), ..Desired::default() };
    for (index, router) in config.virtual_routers.iter().enumerate() {
        let owner = view.is_owner(&router.name);
        // Frames for a virtual MAC address go to the new owner as soon as the switch has heard of it.
        let has_vips = owner || (router.placement.virtual_mac.is_none() && view.was_owner(&router.name));
        for vip in router.all_vips() {
            let lease = lease_of_router(index);
            let (not_accepted, held) = (!router.accepts(), has_vips);
            desired.vips.insert(vip.addr(), DesiredVip { lease, has_ranges: false, not_accepted, held });
            if has_vips {
                desired.addresses.insert((router.interface_of(vip.addr()).to_owned(), vip));
            }
        }
        if let Some(name) = &router.placement.virtual_mac {
            desired.virtual_macs.insert(name.clone(), virtual_mac(router, owner));
            if let Some(ifindex) = view.index_of(&router.interface) {
                let Mac([.., family, number]) = router.virtual_mac();
                let mac = VirtualMac { ifindex, end: [family, number], reserved: 0 };
                desired.virtual_leases.insert(mac, lease_of_router(index));
            }
        }
        if has_vips {
            desired.routes.extend(router.placement.routes.iter().cloned());
            desired.rules.extend(router.placement.rules.iter().cloned());
        }
        desired.directors.extend(router.peers().iter().filter_map(|peer| view.neighbour(*peer)));
    }
    desired.directors.extend(view.met().filter_map(|node| view.neighbour(node)));
    desired.tunnel_sources.extend(&config.daemon.tunnel_sources);
    let of_node = config.addresses.iter().map(|own| (own.interface.clone(), own.address));
    desired.addresses.extend(of_node);
    desired.routes.extend(config.routes.iter().cloned());
    desired.rules.extend(config.rules.iter().cloned());
    for service in &config.services {
        let alone = if service.backend_only { BACKEND_LEASE } else { STANDALONE_LEASE };
        let vip =
            desired.vips.entry(service.vip).or_insert(DesiredVip { lease: alone, ..DesiredVip::default() });
        vip.has_ranges |= service.ports.one().is_none();
        let lease = vip.lease;
        let backends = backends(service, view);
        let serves_itself = backends.values().any(|backend| backend.mode == Mode::Local);
        if serves_itself || lease == STANDALONE_LEASE {
            desired.addresses.insert((LOOPBACK.to_owned(), IpNet::from(service.vip)));
        }
        desired.services.insert(
            service_id(service),
            DesiredService {
                lease,
                ring_size: service.ring_size,
                learning_window: service.learning_window,
                flow_timeout: service.flow_timeout,
                backends,
            },
        );
    }
    for left in view.left() {
        if !left.is_local {
            desired.left.insert(left.address, view.next_hop(left.address));
        } else if desired.vips.contains_key(&left.vip) {
            // Without the address the stack would reset what is to be preserved.
            desired.addresses.insert((LOOPBACK.to_owned(), IpNet::from(left.vip)));
        }
    }
    desired
}

fn virtual_mac(router: &VirtualRouter, owner: bool) -> DesiredMac {
    DesiredMac {
        parent: router.interface.clone(),
        mac: router.virtual_mac(),
        up: owner,
        has_ipv6: router.all_vips().any(|vip| vip.addr().is_ipv6()),
    }
}

fn backends(service: &Service, view: &impl View) -> BTreeMap<(IpAddr, u16), DesiredBackend> {
    let mut backends = BTreeMap::new();
    for backend in &service.backends {
        let address = backend.address;
        let mode = if view.is_own_address(address) { Mode::Local } else { backend.mode };
        let condition = match view.condition(service, address, backend.port) {
            Condition::Failed if backend.keep_connections => Condition::Spared,
            condition => condition,
        };
        let (next_hop, outer) = match mode {
            Mode::Local => (NextHop::UNRESOLVED, Outer::default()),
            Mode::Dr | Mode::Nat => (view.next_hop(address), Outer { source: None, ..view.outer(address) }),
            Mode::Ipip | Mode::Gue => (view.next_hop(address), view.outer(address)),
        };
        let weight = if condition == Condition::Up { backend.weight } else { 0 };
        backends.insert((address, backend.port), DesiredBackend { mode, weight, condition, next_hop, outer });
    }
    let backups_serve = backups_serve(service, &backends);
    for backend in service.backends.iter().filter(|backend| backend.backup != backups_serve) {
        if let Some(known) = backends.get_mut(&(backend.address, backend.port)) {
            known.weight = 0;
        }
    }
    if backends.values().all(|backend| backend.weight == 0) {
        // Better one that goes than none.
        for backend in &service.backends {
            let known = backends.get_mut(&(backend.address, backend.port));
            if let Some(known) = known.filter(|known| known.condition == Condition::Leaving) {
                known.weight = backend.weight;
            }
        }
    }
    backends
}

/// Whether the ordinary backends miss the quorum, and there are others that can stand in. While one of the ordinary ones
/// has yet to be asked, that is not known, and nobody stands in.
fn backups_serve(service: &Service, backends: &BTreeMap<(IpAddr, u16), DesiredBackend>) -> bool {
    let known = |backend: &Backend| backends.get(&(backend.address, backend.port));
    let of = |backup| service.backends.iter().filter(move |one| one.backup == backup).filter_map(known);
    let weight = |backup| of(backup).map(|one| u64::from(one.weight)).sum::<u64>();
    weight(true) > 0
        && weight(false) < u64::from(service.quorum)
        && of(false).all(|one| one.condition != Condition::Checking)
}
