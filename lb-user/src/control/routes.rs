//! Routes that this daemon has in the kernel's tables: brought to what they should be, whatever happened to them.

use std::collections::BTreeSet;

use tracing::{debug, info};

use super::controller::Controller;
use crate::{
    config::{Route, Scope},
    net::OwnRoute,
};

/// How the problems with wanted routes begin.
const PROBLEM: &str = "route ";

/// What is known of the routes.
#[derive(Debug, Default)]
pub(super) struct KnownRoutes {
    /// Those that are there, as the kernel listed them; `None`: something happened since.
    there: Option<Vec<OwnRoute>>,
    /// Whether there may be any that are not wanted: an earlier daemon's at first.
    clean: bool,
}

impl KnownRoutes {
    /// Something happened that routes may have gone with.
    pub(super) fn look_again(&mut self) {
        self.there = None;
    }

    /// Whether a route is there.
    pub(super) fn has(&self, route: &OwnRoute) -> bool {
        self.there.iter().flatten().any(|there| route.is(there))
    }
}

impl Controller {
    /// Deletes the routes that should not be there: before the addresses that they name go.
    pub(super) async fn remove_routes(&mut self, wanted: &BTreeSet<Route>) -> bool {
        if wanted.is_empty() && self.own_routes.clean {
            return true;
        }
        if !self.list_routes().await {
            return false;
        }
        let wanted: Vec<OwnRoute> = wanted.iter().filter_map(|route| self.route_of(route).ok()).collect();
        let there = self.own_routes.there.clone().unwrap_or_default();
        let mut all = true;
        for route in there.iter().filter(|there| !wanted.iter().any(|route| route.is(there))) {
            let result = self.edges.own_routes.delete(route).await;
            debug!(to = %route.to, "route removed");
            all &= self.problem(
                &format!("remove the route to {}", route.to),
                result.map_err(|error| error.to_string()),
            );
            self.own_routes.look_again();
        }
        self.own_routes.clean = all && wanted.is_empty();
        all
    }

    /// Adds the routes that are not there.
    pub(super) async fn add_routes(&mut self, wanted: &BTreeSet<Route>) -> bool {
        let named: BTreeSet<String> = wanted.iter().map(name).collect();
        self.problems.retain(|what, _| !what.starts_with(PROBLEM) || named.contains(what));
        // What addresses and interfaces went may have taken routes along without a word.
        if wanted.is_empty() || !self.list_routes().await {
            return wanted.is_empty();
        }
        let mut all = true;
        for route in wanted {
            let result = match self.route_of(route) {
                Ok(own) if self.own_routes.has(&own) => Ok(()),
                Ok(own) => {
                    self.own_routes.look_again();
                    let result = self.edges.own_routes.add(&own).await.map_err(|error| error.to_string());
                    if result.is_ok() {
                        info!(to = %route.to, "route added");
                    }
                    // The next one is compared with what is there now.
                    self.list_routes().await;
                    result
                }
                Err(error) => Err(error),
            };
            all &= self.problem(&name(route), result);
        }
        all
    }

    async fn list_routes(&mut self) -> bool {
        if self.own_routes.there.is_some() {
            return true;
        }
        let result = match self.edges.own_routes.list().await {
            Ok(routes) => {
                self.own_routes.there = Some(routes);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        self.problem("routes of lb", result)
    }

    /// A route by the numbers of this node's interfaces.
    pub(super) fn route_of(&self, route: &Route) -> Result<OwnRoute, String> {
        let index = match &route.interface {
            None => None,
            Some(name) => {
                let link = self.world.link_named(name);
                Some(link.ok_or_else(|| format!("interface {name} does not exist"))?.index)
            }
        };
        Ok(own_route(route, index))
    }

    /// Whether a route is in the kernel's tables, as far as known.
    pub(super) fn has_route(&self, route: &Route) -> bool {
        self.route_of(route).is_ok_and(|own| self.own_routes.has(&own))
    }
}

/// A route as the kernel has it.
fn own_route(route: &Route, index: Option<u32>) -> OwnRoute {
    let usual = if route.via.is_some() { Scope::Global } else { Scope::Link };
    let scope = if route.to.addr().is_ipv4() { route.scope.unwrap_or(usual).number() } else { 0 };
    OwnRoute {
        to: route.to,
        via: route.via,
        source: route.source,
        index,
        table: route.table,
        metric: route.metric.unwrap_or_else(|| OwnRoute::default_metric(route.to)),
        scope,
    }
}

/// A route among the problems.
fn name(route: &Route) -> String {
    format!("{PROBLEM}{route}")
}
