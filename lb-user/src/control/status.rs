//! The answer to `lb status`, read off the control task's state.

use std::collections::BTreeMap;

use lb_common::{NextHop, Verdict};

use super::{
    controller::{Attached, Controller},
    desired::service_id,
};
use crate::{
    api::{BackendStatus, InterfaceStatus, RouterStatus, ServiceStatus, Status, TrackerStatus},
    config::{Backend, Mode, Service},
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
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            config: self.config_path.display().to_string(),
            uptime_seconds: now.since(self.started).as_secs(),
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
            vips: router.config.vips.iter().map(ToString::to_string).collect(),
            lease_ms: router.lease_ms(now),
            transitions: router.transitions(),
            counters: router.counters(),
        };
        self.routers.iter().map(status).collect()
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
        let (state, reason) = self.health.describe(service, backend);
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
