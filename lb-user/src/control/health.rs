//! The health of every backend that is checked: the machines, and the targets of the checker.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use tracing::{info, warn};

use super::desired::{Condition, ServiceId, service_id};
use crate::{
    config::{Backend, Check, Config, Mode, Service, Transport},
    health::{CheckId, HealthEvent, Machine, State, Target},
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
}

#[derive(Debug)]
struct Checked {
    target: Target,
    machine: Machine,
    service: String,
}

impl Health {
    /// Takes a configuration and returns the targets to check. A backend whose check asks the same as before
    /// keeps its state.
    pub(super) fn configure(&mut self, config: &Config, now: Timestamp) -> Vec<Target> {
        let mut old = std::mem::take(&mut self.checked);
        self.by_id.clear();
        for service in &config.services {
            for backend in &service.backends {
                let Some(check) = &backend.check else { continue };
                let key = (service_id(service), backend.address, backend.port);
                let port = probed_port(service, backend, check);
                let wanted = Target {
                    id: CheckId(0),
                    address: backend.address,
                    port,
                    check: check.clone(),
                    source: probe_source(config, service, backend),
                    vip: SocketAddr::new(service.vip, service.ports.one().unwrap_or(port)),
                };
                let checked = match old.remove(&key) {
                    Some(mut known) if asks_the_same(&known.target, &wanted) => {
                        known.machine.reconfigure(check);
                        known.target = Target { id: known.target.id, ..wanted };
                        known
                    }
                    _ => {
                        self.next_id += 1;
                        let target = Target { id: CheckId(self.next_id), ..wanted };
                        Checked { target, machine: Machine::new(check, now), service: service.name.clone() }
                    }
                };
                self.by_id.insert(checked.target.id, key);
                self.checked.insert(key, checked);
            }
        }
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
    pub(super) fn peer_lost(&mut self, address: Ipv4Addr, now: Timestamp) -> bool {
        let mut changed = false;
        for (_, checked) in self.checked.iter_mut().filter(|((_, a, _), _)| *a == IpAddr::V4(address)) {
            if checked.machine.peer_lost(now, "its node stopped sending VRRP adverts").is_some() {
                checked.log();
                changed = true;
            }
        }
        changed
    }

    /// What is known of a backend; what nobody checks is up.
    pub(super) fn condition(&self, service: &Service, address: IpAddr, port: u16) -> Condition {
        match self.checked.get(&(service_id(service), address, port)).map(|checked| checked.machine.state()) {
            None | Some(State::Up) => Condition::Up,
            Some(State::Checking) => Condition::Checking,
            Some(State::Down { .. }) => Condition::Failed,
        }
    }

    /// The state and its reason, for `lb status`.
    pub(super) fn describe(&self, service: &Service, backend: &Backend) -> (&'static str, String) {
        let Some(checked) = self.checked.get(&(service_id(service), backend.address, backend.port)) else {
            return ("up", "not checked".to_owned());
        };
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

/// The address probes come from: the VRRP source address where the service belongs to a virtual router, so that
/// an owner never asks from the VIP, which the backend may have as well. A node's own backend is asked from
/// wherever the kernel likes.
fn probe_source(config: &Config, service: &Service, backend: &Backend) -> Option<IpAddr> {
    let Transport::Unicast { source, .. } = &config.router_of(service.vip)?.transport;
    // An IPv6 VIP is deprecated where it is an address, so the kernel does not choose it.
    (backend.address.is_ipv4() && backend.address != IpAddr::V4(*source) && backend.mode != Mode::Nat)
        .then_some(IpAddr::V4(*source))
}
