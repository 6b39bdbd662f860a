//! Leaving in the place of a dead daemon: sockets, leases and addresses, as [`Handover`] has it.

use futures_util::future::select_all;
use nix::net::if_::if_nametoindex;
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::{
    handover::{Action, Handover, Legacy, Outcome},
    orders::RouterOrders,
};
use crate::{
    dataplane::Leases,
    net::{Listen, Netlink, OwnRoute, OwnRoutes, OwnRules, VrrpSocket},
    time::{Timestamp, UnixTime},
    vrrp::{Datagram, Endpoint, packet},
};
use lb_common::LEASE_BACKUP;

/// Leaves, and then says so: nothing is logged before it is done, because nobody may be reading the log.
pub(super) async fn leave(daemon: u32, mut routers: Vec<Router>, leases: &Leases) {
    let begun = Timestamp::now();
    let ends = hand_over(begun, &mut routers, leases).await;
    let (removed, failed) = remove_vips(&routers).await;
    warn!("lb (pid {daemon}) died without stopping; its guardian gives the VIPs up in its place");
    for (router, (outcome, at)) in routers.iter().zip(ends) {
        let (router, after) = (&router.orders.name, at.since(begun));
        match outcome {
            Outcome::HandedOver => info!(router, ?after, "handed over"),
            Outcome::NobodyCame => warn!(router, ?after, "no other node took the VIPs over"),
            Outcome::LeaseOver => warn!(router, "the lease was over: nobody was told"),
            Outcome::WasBackup => debug!(router, "was backup"),
        }
    }
    if !removed.is_empty() {
        info!("removed {}", removed.join(", "));
    }
    for error in failed {
        error!("something of an owner may be left on the node: {error}");
    }
}

/// Says farewell where the lease runs, and renews it until another owner is heard, or for as long as is worth it. How that
/// ended for each virtual router, and when.
async fn hand_over(begun: Timestamp, routers: &mut [Router], leases: &Leases) -> Vec<(Outcome, Timestamp)> {
    let legacies: Vec<Legacy> = routers.iter().map(|router| router.legacy(leases)).collect();
    let (mut handover, actions) = Handover::begin(begun, &legacies);
    for action in actions {
        match action {
            Action::WriteLease { router, expiry } => routers[router].write_lease(leases, expiry),
            Action::SayFarewell { router } => {
                if !routers[router].say_farewell() {
                    handover.farewell_failed(router);
                }
            }
        }
    }
    let mut ends = vec![(Outcome::WasBackup, begun); routers.len()];
    while let Some(next) = handover.next_timeout() {
        let _packet_or_not = timeout(next.since(Timestamp::now()), readable(routers)).await;
        // The clock before the packets, and the packets before the timeout.
        let now = Timestamp::now();
        let mut actions = Vec::new();
        for (index, router) in routers.iter_mut().enumerate() {
            while let Some(another_owner) = router.receive() {
                actions.extend(another_owner.then(|| handover.heard(index)).flatten());
            }
        }
        actions.extend(handover.timeout(now));
        for action in actions {
            if let Action::WriteLease { router, expiry } = action {
                routers[router].write_lease(leases, expiry);
                ends[router].1 = now;
            }
        }
    }
    for (router, end) in ends.iter_mut().enumerate() {
        // Invariant: nothing is due when, and only when, it has ended for all.
        end.0 = handover.outcome(router).unwrap_or(Outcome::LeaseOver);
    }
    ends
}

/// Takes what an owner has off the node, whoever owns the VIPs now; the VIPs that were removed, and what went wrong. What the
/// node serves as a backend (on the loopback) stays, and so does the XDP program: the new owner steers here as before.
async fn remove_vips(routers: &[Router]) -> (Vec<String>, Vec<String>) {
    let (mut removed, mut failed) = (Vec::new(), Vec::new());
    let sockets = Netlink::open().and_then(|netlink| Ok((netlink, OwnRoutes::open()?)));
    let (netlink, own_routes) = match sockets {
        Ok(sockets) => sockets,
        Err(error) => return (removed, vec![error.to_string()]),
    };
    let own_rules = OwnRules::new(netlink.clone());
    for RouterOrders { vips, virtual_mac, routes, rules, .. } in routers.iter().map(|router| &router.orders) {
        for rule in rules {
            failed.extend(own_rules.delete(rule).await.err().map(|error| error.to_string()));
        }
        for (interface, route) in routes {
            let index = interface.as_ref().and_then(index_of).or(route.index);
            let deleted = own_routes.delete(&OwnRoute { index, ..*route }).await;
            failed.extend(deleted.err().map(|error| error.to_string()));
        }
        for (interface, vip) in vips {
            // It went with its interface.
            let Some(index) = index_of(interface) else { continue };
            match netlink.delete_address(index, *vip).await {
                Ok(true) => removed.push(format!("{vip} from {interface}")),
                Ok(false) => {}
                Err(error) => failed.push(error.to_string()),
            }
        }
        if let Some(index) = virtual_mac.as_ref().and_then(index_of) {
            let switched = netlink.switch_link(index, false).await;
            failed.extend(switched.err().map(|error| error.to_string()));
        }
    }
    (removed, failed)
}

fn index_of(interface: impl AsRef<str>) -> Option<u32> {
    if_nametoindex(interface.as_ref()).ok()
}

/// Resolves when a packet waits for one of them; never, where none has a socket.
async fn readable(routers: &[Router]) {
    let waits: Vec<_> = routers
        .iter()
        .filter_map(|router| router.socket.as_ref())
        .map(|socket| Box::pin(socket.readable()))
        .collect();
    if waits.is_empty() {
        return std::future::pending().await;
    }
    // An error shows itself when the packet is read.
    drop(select_all(waits).await);
}

/// A virtual router, with the socket that was opened for it in quieter times.
#[derive(Debug)]
pub(super) struct Router {
    orders: RouterOrders,
    endpoint: Endpoint,
    socket: Option<VrrpSocket>,
}

impl Router {
    /// Opens its socket, which hears nothing yet: adverts that nobody reads would fill it.
    pub(super) fn new(orders: RouterOrders) -> Self {
        let socket = open(&orders).and_then(|socket| {
            socket.stop_hearing().ok()?;
            Some(socket)
        });
        let endpoint = Endpoint::new(orders.acceptance.clone());
        Self { orders, endpoint, socket }
    }

    fn legacy(&self, leases: &Leases) -> Legacy {
        let lease = leases.expiry(self.orders.lease).unwrap_or(LEASE_BACKUP);
        Legacy { lease, patience: self.orders.patience }
    }

    fn write_lease(&self, leases: &Leases, expiry: u64) {
        // A lease that does not exist guards nothing.
        let _exists = leases.set(self.orders.lease, expiry);
    }

    /// Sends priority 0 to every peer, and listens from then on; whether every peer was told.
    fn say_farewell(&mut self) -> bool {
        if let Some(socket) = &self.socket
            && socket.hear().is_ok()
        {
            // From before it was deaf.
            while self.receive().is_some() {}
            if self.tell_peers() {
                return true;
            }
        }
        // The interface may have been made anew since.
        self.socket = open(&self.orders);
        self.tell_peers()
    }

    fn tell_peers(&mut self) -> bool {
        let acceptance = &self.orders.acceptance;
        let Some(socket) = &self.socket else { return false };
        // Each of them, whether or not the others can be told.
        let untold = acceptance.destinations().filter(|destination| {
            let farewell = self.endpoint.encode(0, *destination, UnixTime::now());
            !farewell.is_ok_and(|farewell| socket.send(acceptance.source, *destination, &farewell).is_ok())
        });
        untold.count() == 0
    }

    /// Reads a packet; whether it is the advert of another owner. `None`: there is none.
    fn receive(&mut self) -> Option<bool> {
        // An error is not final, but for now nothing is to be had.
        let datagram: Datagram = self.socket.as_ref()?.try_recv().ok()??;
        let id = self.orders.acceptance.router_id;
        let advert =
            packet::decode(&datagram, UnixTime::now(), |named| (named == id).then_some(&mut self.endpoint));
        Some(advert.is_ok_and(|advert| advert.priority > 0))
    }
}

fn open(orders: &RouterOrders) -> Option<VrrpSocket> {
    VrrpSocket::open(&orders.interface, Listen::from(&orders.acceptance))
        .inspect_err(|error| debug!("guardian: {error}"))
        .ok()
}
