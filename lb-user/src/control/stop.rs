//! Leaving: the VIPs are handed over, then everything that was put on the node is taken back.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::{channel, controller::Controller, router::Router};
use crate::{
    time::Timestamp,
    vrrp::{Input, State},
};

impl Controller {
    /// Hands over and cleans up.
    pub(super) async fn stop(&mut self) {
        info!("stopping");
        for index in 0..self.routers.len() {
            if self.routers[index].started {
                self.input(index, Input::Stop);
            }
        }
        self.hand_over().await;
        self.withdraw().await;
        info!("stopped");
    }

    /// Takes back what was put on the node: addresses first, then the guard.
    pub(super) async fn withdraw(&mut self) {
        self.apply_addresses(&BTreeSet::new()).await;
        let attached: Vec<String> = self.attachments.keys().cloned().collect();
        for interface in attached {
            if let Err(error) = self.edges.dataplane.detach(&interface) {
                warn!(%interface, %error, "not detached");
            }
        }
        self.restore_settings();
    }

    fn restore_settings(&mut self) {
        for guard in self.sysctls.drain(..) {
            if let Err(error) = guard.restore() {
                warn!(%error, "setting not restored");
            }
        }
        for guard in std::mem::take(&mut self.tagged).into_values().flatten() {
            if let Err(error) = guard.restore() {
                warn!(%error, "setting not restored");
            }
        }
    }

    /// Make before break: the machines that leave answer for their VIPs until another does, or a bound passes.
    async fn hand_over(&mut self) {
        let leaving = |router: &Router| router.machine.state() == State::Leaving;
        while let Some(next) = self
            .routers
            .iter()
            .filter(|router| leaving(router))
            .filter_map(|router| router.machine.next_timeout())
            .min()
        {
            let left = next.since(Timestamp::now());
            // Too early does no harm: packets are read in either case, before timeouts.
            tokio::time::timeout(left, channel::readable(&self.channels)).await.ok();
            self.receive();
            for index in 0..self.routers.len() {
                if leaving(&self.routers[index]) {
                    self.input(index, Input::Timeout);
                }
            }
        }
    }
}
