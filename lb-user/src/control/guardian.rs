//! What the guardian is told, and what it is asked.

use std::time::Duration;

use super::{controller::Controller, desired::lease_of_router, routes::own_route};
use crate::{
    api::GuardianStatus,
    config::{Config, Route, VirtualRouter, VrrpVersion},
    guardian::RouterOrders,
    net::OwnRoute,
    vrrp::Acceptance,
};

/// The longest skew of a VRRPv2 backup is just under a second.
const PATIENCE_V2: Duration = Duration::from_millis(1_200);
/// A VRRPv3 backup's is just under one interval; what a claim may take beyond.
const MARGIN_V3: Duration = Duration::from_millis(200);

impl Controller {
    /// Tells the guardian of the configuration in force.
    pub(super) fn order_guardian(&self) {
        if let Some(guardian) = &self.edges.guardian {
            guardian.order(orders(&self.config));
        }
    }

    /// Says that nothing is left to do, and waits until the guardian has ended.
    pub(super) async fn dismiss_guardian(&mut self) {
        if let Some(guardian) = self.edges.guardian.take() {
            guardian.stop().await;
        }
    }

    pub(super) fn guardian_status(&self) -> Option<GuardianStatus> {
        let state = self.edges.guardian.as_ref()?.state();
        Some(GuardianStatus { pid: state.pid, lost: state.lost, reason: state.reason })
    }
}

/// What there is to do should this process die.
fn orders(config: &Config) -> Vec<RouterOrders> {
    let routers = config.virtual_routers.iter().enumerate();
    routers
        .map(|(index, router)| RouterOrders {
            name: router.name.clone(),
            lease: lease_of_router(index),
            interface: router.interface.clone(),
            acceptance: Acceptance::from(router),
            vips: router.all_vips().map(|vip| (router.interface_of(vip.addr()).to_owned(), vip)).collect(),
            virtual_mac: router.placement.virtual_mac.clone(),
            routes: router.placement.routes.iter().map(numbered_later).collect(),
            rules: router.placement.rules.clone(),
            patience: patience(router),
        })
        .collect()
}

fn numbered_later(route: &Route) -> (Option<String>, OwnRoute) {
    (route.interface.clone(), own_route(route, None))
}

/// How long it takes at most until a backup that heard the farewell has claimed.
fn patience(router: &VirtualRouter) -> Duration {
    match router.version {
        VrrpVersion::V2 => PATIENCE_V2,
        VrrpVersion::V3 => router.advert_interval + MARGIN_V3,
    }
}
