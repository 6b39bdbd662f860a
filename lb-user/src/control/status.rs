//! The answer to `lb status`, read off the control task's state.

use std::collections::BTreeMap;

use lb_common::{NextHop, Verdict};

use super::{
    controller::{Attached, Controller},
    desired::service_id,
    trackers::Surroundings,
};
use crate::{
    api::{
        BackendStatus, InterfaceStatus, RouteStatus, RouterStatus, RuleStatus, ServiceStatus, Status,
        ThreadStatus, TrackerStatus, VirtualMacStatus, WatchedStatus, WitnessStatus,
    },
    config::{Backend, Mode, Route, Rule, Service, VirtualRouter},
    protocol::{Grant, PRIORITY, Scheduling},
    time::Timestamp,
};

impl Controller {
    /// Everything, as it is now.
    pub(super) fn status(&self) -> Status {
        let now = Timestamp::now();
        let mut problems: Vec<String> =
            self.problems.iter().map(|(what, text)| format!("{what}: {text}")).collect();
        let verdicts = match self.edges.dataplane.verdicts() {
            Ok(counts) => Verdict::ALL.iter().map(|verdict| verdict.name().to_owned()).zip(counts).collect(),
            Err(error) => {
                problems.push(error.to_string());
                BTreeMap::new()
            }
        };
        if let Some(problem) = self.edges.notifier.problem() {
            problems.push(format!("notify_fifo: {problem}"));
        }
        let notifications_dropped = self.edges.notifier.dropped();
        Status {
            notifications_dropped,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            config: self.config_files(),
            uptime_seconds: now.since(self.started).as_secs(),
            protocol_thread: thread_status(self.edges.protocol.scheduling()),
            guardian: self.guardian_status(),
            interfaces: self.interfaces_status(),
            virtual_routers: self.routers_status(now),
            trackers: self
                .trackers
                .describe()
                .map(|(kind, name, state, detail)| TrackerStatus {
                    kind: kind.to_owned(),
                    name: name.to_owned(),
                    state,
                    detail,
                })
                .collect(),
            services: self.config.services.iter().map(|service| self.service_status(service)).collect(),
            routes: self.routes_status(&self.config.routes),
            rules: self.rules_status(&self.config.rules),
            verdicts,
            problems,
        }
    }

    fn interfaces_status(&self) -> Vec<InterfaceStatus> {
        let status = |name: &str| match self.attachments.get(name) {
            Some(Attached { attachment, .. }) => InterfaceStatus {
                name: name.to_owned(),
                xdp: attachment.mode.to_owned(),
                reason: attachment.reason.clone(),
            },
            None => InterfaceStatus {
                name: name.to_owned(),
                xdp: "detached".to_owned(),
                reason: "the interface is gone or refused the program".to_owned(),
            },
        };
        self.carriers().iter().map(|name| status(name)).collect()
    }

    fn routers_status(&self, now: Timestamp) -> Vec<RouterStatus> {
        let status = |router: &super::router::Router| RouterStatus {
            name: router.config.name.clone(),
            interface: router.config.interface.clone(),
            router_id: router.config.router_id,
            state: router.state_name().to_owned(),
            reason: router.reason().to_owned(),
            priority: router.priority,
            configured_priority: router.config.priority,
            sync_group: self.config.group_of(&router.config.name).map(|group| group.name.clone()),
            watched: self.watched(&router.config),
            vips: router.config.all_vips().map(|vip| vip.to_string()).collect(),
            virtual_mac: self.virtual_mac_status(&router.config),
            routes: self.routes_status(&router.config.placement.routes),
            rules: self.rules_status(&router.config.placement.rules),
            lease_ms: router.lease_ms(now),
            transitions: router.transitions(),
            witness: router.config.witness.map(|address| WitnessStatus { address, answers: router.witness }),
            bfd: super::detectors::status(router.report.as_ref()),
            counters: router.counters(),
        };
        self.routers.iter().map(status).collect()
    }

    fn watched(&self, router: &VirtualRouter) -> Vec<WatchedStatus> {
        let around = Surroundings { config: &self.config, world: &self.world, health: &self.health };
        let watched = self.trackers.effects(router, around).watched;
        watched
            .into_iter()
            .map(|(state, effect)| WatchedStatus { state, effect: effect.to_string() })
            .collect()
    }

    fn virtual_mac_status(&self, router: &VirtualRouter) -> Option<VirtualMacStatus> {
        let interface = router.placement.virtual_mac.clone()?;
        let link = self.world.link_named(&interface);
        let state = link.map_or("missing", |link| if link.up { "up" } else { "down" });
        Some(VirtualMacStatus { mac: router.virtual_mac().to_string(), state: state.to_owned(), interface })
    }

    fn routes_status(&self, routes: &[Route]) -> Vec<RouteStatus> {
        let state = |route| if self.has_route(route) { "present" } else { "absent" };
        routes
            .iter()
            .map(|route| RouteStatus { route: route.to_string(), state: state(route).to_owned() })
            .collect()
    }

    fn rules_status(&self, rules: &[Rule]) -> Vec<RuleStatus> {
        let state = |rule| if self.own_rules.has(rule) { "present" } else { "absent" };
        rules
            .iter()
            .map(|rule| RuleStatus { rule: rule.to_string(), state: state(rule).to_owned() })
            .collect()
    }

    fn service_status(&self, service: &Service) -> ServiceStatus {
        let dataplane = self.edges.dataplane.as_ref();
        let id = service_id(service);
        let traffic = self.forwarding.service_counters(dataplane, id).unwrap_or_default();
        let (unsettled_slots, remembered_flows) = self.forwarding.remembered(id);
        ServiceStatus {
            unsettled_slots,
            remembered_flows,
            flows_left_behind: self.forwarding.left_behind(id),
            name: service.name.clone(),
            vip: service.vip,
            port: service.ports.into(),
            protocol: service.protocol.to_string(),
            traffic: traffic.into(),
            backends: service.backends.iter().map(|backend| self.backend_status(service, backend)).collect(),
        }
    }

    fn backend_status(&self, service: &Service, backend: &Backend) -> BackendStatus {
        let (state, mut reason) = self.health.describe(service, backend);
        if backend.backup {
            reason.insert_str(0, "backup, ");
        }
        let (mut mode, mut next_hop) = (backend.mode, None);
        if self.world.is_own(backend.address) {
            mode = Mode::Local;
        } else {
            let hop = self.world.next_hop(backend.address);
            next_hop = (hop != NextHop::UNRESOLVED).then(|| hop.mac().to_string());
        }
        let dataplane = self.edges.dataplane.as_ref();
        let traffic = self
            .forwarding
            .backend_counters(dataplane, service_id(service), backend.address, backend.port)
            .unwrap_or_default();
        BackendStatus {
            address: backend.address,
            port: backend.port,
            mode: mode.to_string(),
            weight: backend.weight,
            state: state.to_owned(),
            reason,
            next_hop,
            traffic: traffic.into(),
        }
    }
}

fn thread_status(Scheduling { realtime, memory }: &Scheduling) -> ThreadStatus {
    let is_realtime = *realtime == Grant::Given;
    let note = |what, grant: &Grant| match grant {
        Grant::Refused(why) => Some(format!("{what}: {why}")),
        Grant::Given | Grant::NotWanted => None,
    };
    ThreadStatus {
        scheduling: if is_realtime { format!("SCHED_RR {PRIORITY}") } else { "SCHED_OTHER".to_owned() },
        memory_locked: *memory == Grant::Given,
        notes: note("no real-time class", realtime).into_iter().chain(note("memory", memory)).collect(),
    }
}
