//! Leaving: the VIPs are handed over, then everything that was put on the node is taken back.

use std::time::Duration;

use lb_common::LEASE_BACKUP;
use tracing::{info, warn};

use super::{
    channel::{self, Received},
    controller::Controller,
    desired::Desired,
};
use crate::{time::Timestamp, vrrp::Input};

/// How long a leaving owner goes on serving unless it hears a new owner first: the longest skew a VRRPv2
/// backup waits after a farewell is just under a second.
const HANDOVER: Duration = Duration::from_millis(1_200);

impl Controller {
    /// Hands over and cleans up.
    pub(super) async fn stop(&mut self) {
        info!("stopping");
        let owned: Vec<usize> =
            (0..self.routers.len()).filter(|index| self.routers[*index].is_owner()).collect();
        for index in 0..self.routers.len() {
            if self.routers[index].started {
                self.input(index, Input::Stop);
            }
        }
        self.hand_over(owned).await;
        self.withdraw().await;
        info!("stopped");
    }

    /// Takes back what was put on the node: addresses first, then the guard.
    pub(super) async fn withdraw(&mut self) {
        self.apply_node(&Desired::default()).await;
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

    /// Make before break: the farewell is out, and this node goes on answering for the VIPs until it hears the
    /// new owner, or for [`HANDOVER`] where nobody takes over.
    async fn hand_over(&mut self, mut owned: Vec<usize>) {
        let deadline = Timestamp::now() + HANDOVER;
        for index in &owned {
            self.write_lease(*index, deadline.0);
        }
        while !owned.is_empty() {
            let left = deadline.since(Timestamp::now());
            if left.is_zero() {
                warn!("no other node took the VIPs over");
                break;
            }
            let waited = tokio::time::timeout(left, channel::readable(&self.channels)).await;
            if waited.is_err() {
                continue;
            }
            for channel in &mut self.channels {
                loop {
                    match channel.receive(&mut self.routers) {
                        Received::Nothing => break,
                        Received::Advert { index, advert, source } if advert.priority > 0 => {
                            if let Some(position) = owned.iter().position(|owned| *owned == index) {
                                info!(router = %self.routers[index].config.name, %source, "handed over");
                                owned.swap_remove(position);
                                let lease = self.routers[index].lease;
                                if let Err(error) = self.edges.dataplane.set_lease(lease, LEASE_BACKUP) {
                                    warn!(%error, "lease not written");
                                }
                            }
                        }
                        Received::Advert { .. } | Received::Rejected => {}
                    }
                }
            }
        }
        for index in owned {
            self.write_lease(index, LEASE_BACKUP);
        }
    }
}
