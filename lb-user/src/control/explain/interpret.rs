//! From what the program wrote down to the operator's terms.

use std::net::{IpAddr, SocketAddr};

use lb_common::{MODE_LOCAL, Stage, Trace, Variant, Verdict, slot_backend, slot_is_unsettled};

use super::{
    super::{
        desired::{BACKEND_LEASE, service_id},
        forwarding::{BackendKey, Forwarding, mode_of},
        health::Health,
        router::Router,
        world::World,
    },
    frame,
};
use crate::{
    api::{
        ExplainedBackend, ExplainedHop, ExplainedPacket, ExplainedService, ExplainedSlot, ExplainedVip,
        Explanation, backend_name,
    },
    config::{Config, Service},
    dataplane::Explained,
    time::Timestamp,
};

/// What the control task knows that the program does not: names.
pub(in crate::control) struct Known<'a> {
    pub(in crate::control) config: &'a Config,
    pub(in crate::control) forwarding: &'a Forwarding,
    pub(in crate::control) world: &'a World,
    pub(in crate::control) health: &'a Health,
    pub(in crate::control) routers: &'a [Router],
}

impl Known<'_> {
    /// Puts a decision into words.
    pub(in crate::control) fn interpret(
        &self,
        packet: ExplainedPacket,
        explained: &Explained,
    ) -> Result<Explanation, String> {
        let Explained { trace, outcome } = explained;
        if trace.out == Trace::OUT_STAGE {
            let stage =
                Stage::ALL.get(trace.out_through as usize).map(|stage| stage.program(Variant::Generic));
            let stage = stage.unwrap_or("of an unknown number");
            return Err(format!(
                "a rare stage of the program ({stage}) takes it over, which is not followed here"
            ));
        }
        let Some(verdict) = Verdict::ALL.get(trace.verdict as usize).copied() else {
            return Err(
                "the XDP program wrote down no verdict, which is a fault of lb; please report it".to_owned()
            );
        };
        let service = self.service_found(trace);
        let chosen = self.chosen(trace);
        let backend = chosen.map(|key| self.backend_found(service, key));
        let mut explanation = Explanation {
            vip: self.vip_found(packet.destination.ip(), trace),
            service: service.map(|service| ExplainedService {
                name: service.name.clone(),
                vip: service.vip,
                port: service.ports.into(),
                protocol: service.protocol,
            }),
            slot: self.slot_found(&packet, trace),
            backend,
            next_hop: self.hop(&packet, chosen, explained),
            packet,
            verdict: String::new(),
            action: action(outcome.action).to_owned(),
            meaning: String::new(),
            remedy: None,
        };
        explanation.put_into_words(verdict);
        Ok(explanation)
    }

    /// The service whose ring was asked.
    fn service_found(&self, trace: &Trace) -> Option<&Service> {
        if trace.found & Trace::FOUND_SERVICE == 0 {
            return None;
        }
        let id = self.forwarding.service_of_ring(trace.service.ring)?;
        self.config.services.iter().find(|service| service_id(service) == id)
    }

    fn vip_found(&self, address: IpAddr, trace: &Trace) -> Option<ExplainedVip> {
        let lease = if trace.found & Trace::FOUND_SERVICE != 0 {
            trace.service.lease
        } else if trace.found & Trace::FOUND_LEASE != 0 {
            trace.lease
        } else {
            return None;
        };
        let vip = |router: Option<&Router>, state: &str, reason: &str| ExplainedVip {
            address,
            virtual_router: router.map(|router| router.config.name.clone()),
            state: state.to_owned(),
            reason: reason.to_owned(),
            lease_ms: router.and_then(|router| router.lease_ms(Timestamp::now())),
        };
        Some(match self.routers.iter().find(|router| router.lease == lease) {
            Some(router) => vip(Some(router), router.state_name(), router.reason()),
            None if lease == BACKEND_LEASE => {
                vip(None, "backend_only", "this node serves it and never answers for it")
            }
            None => vip(None, "standalone", "no virtual router guards it: this node always answers for it"),
        })
    }

    fn slot_found(&self, packet: &ExplainedPacket, trace: &Trace) -> Option<ExplainedSlot> {
        if trace.found & Trace::FOUND_SLOT == 0 {
            return None;
        }
        let settled = !slot_is_unsettled(trace.current);
        let reason = (!settled).then(|| unsettled_reason(packet, trace).to_owned());
        Some(ExplainedSlot {
            number: trace.slot,
            of: trace.service.ring_size,
            settled,
            current: self.name(slot_backend(trace.current)),
            previous: self.name(trace.previous),
            remembered: self.name(trace.remembered),
            reason,
        })
    }

    /// What a backend identifier is called; `None` for nobody.
    fn name(&self, id: u32) -> Option<String> {
        (id != 0).then(|| match self.forwarding.backend_key(id) {
            Some(key) => backend_name(key.address, key.port),
            None => format!("a backend that is gone (number {id})"),
        })
    }

    /// The backend that was chosen. The one looked up last is it, unless nobody was: then a backend that was remembered
    /// had failed.
    fn chosen(&self, trace: &Trace) -> Option<BackendKey> {
        if trace.verdict == Verdict::NoBackend as u32 {
            return None;
        }
        self.forwarding.backend_key(trace.backend)
    }

    fn backend_found(&self, service: Option<&Service>, key: BackendKey) -> ExplainedBackend {
        let mut found = ExplainedBackend {
            address: key.address,
            port: key.port,
            mode: mode_of(key.mode).map_or_else(|| key.mode.to_string(), |mode| mode.to_string()),
            weight: 0,
            state: "leaving".to_owned(),
            reason: "it left the configuration and keeps the connections it has".to_owned(),
        };
        let configured = service.and_then(|service| {
            let backend = service.backends.iter().find(|b| (b.address, b.port) == (key.address, key.port))?;
            Some((service, backend))
        });
        if let Some((service, backend)) = configured {
            let (state, reason) = self.health.describe(service, backend);
            (found.weight, found.state, found.reason) = (backend.weight, state.to_owned(), reason);
        }
        found
    }

    /// The way from here: what the program did to the packet, and where it did not get so far, what is known of the way
    /// to the backend.
    fn hop(
        &self,
        packet: &ExplainedPacket,
        chosen: Option<BackendKey>,
        explained: &Explained,
    ) -> Option<ExplainedHop> {
        let trace = &explained.trace;
        let towards = chosen.filter(|key| key.mode != MODE_LOCAL).and_then(|key| self.world.hop(key.address));
        let left = match trace.out {
            // Through the same device, perhaps by another of the VLAN interfaces on it.
            Trace::OUT_BACK => {
                towards.as_ref().map(|hop| &hop.interface).or(Some(&packet.interface)).cloned()
            }
            Trace::OUT_SLOT => self.world.name_of_slot(trace.out_through),
            Trace::OUT_INTERFACE => self.world.name_of(trace.out_through),
            _ => None,
        };
        let sent = left.is_some();
        let interface = left.or_else(|| towards.as_ref().map(|hop| hop.interface.clone()))?;
        let seen = if sent { frame::read(&explained.outcome.frame) } else { None };
        let came = [packet.source, packet.destination].map(|end: SocketAddr| end.to_string());
        let known_mac = towards.as_ref().and_then(|hop| hop.mac);
        Some(ExplainedHop {
            interface,
            neighbour: towards.map(|hop| hop.neighbour),
            mac: seen.as_ref().map(|seen| seen.destination_mac).or(known_mac).map(|mac| mac.to_string()),
            addresses: seen.map(|seen| seen.addresses).filter(|addresses| *addresses != came),
        })
    }
}

/// How an unsettled slot decided.
fn unsettled_reason(packet: &ExplainedPacket, trace: &Trace) -> &'static str {
    let chosen = trace.would_remember;
    if trace.remembered != 0 && trace.remembered == trace.backend && chosen == 0 {
        "so it stays there"
    } else if trace.remembered != 0 {
        "but that backend failed"
    } else if packet.opening {
        "a new connection goes to the current one"
    } else if trace.found & Trace::FOUND_SOCKET != 0 {
        "this node has a socket for it, so it is this node's own"
    } else if trace.found & Trace::FOUND_NO_SOCKET != 0 && chosen != trace.previous {
        "this node has no socket for it, so it is the other's"
    } else {
        "what is not remembered goes to the previous one"
    }
}

/// An XDP action in words; the program that explains returns no other.
fn action(action: u32) -> &'static str {
    const DROP: u32 = 1;
    const PASS: u32 = 2;
    match action {
        DROP => "drop",
        PASS => "pass",
        _ => "send",
    }
}
