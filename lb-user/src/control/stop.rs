//! Leaving: the VIPs are handed over, then everything that was put on the node is taken back.

use std::time::Duration;

use tracing::{info, warn};

use super::{controller::Controller, desired::Desired};
use crate::protocol::{Command, Event};

/// How long commands may take that are told of the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Controller {
    /// Hands over and cleans up.
    pub(super) async fn stop(&mut self) {
        info!("stopping");
        self.edges.protocol.send(Command::Stop);
        // It ends by itself after a second or so.
        while let Some(event) = self.edges.protocol.event().await {
            if let Event::Ended { alone } = &event {
                for router in self.routers.iter().filter(|router| alone.contains(&router.key)) {
                    warn!(router = %router.config.name, "no other node took the VIPs over");
                }
                break;
            }
            self.protocol_event(&event);
        }
        self.withdraw().await;
        self.edges.notifier.finish(LAST_WORDS).await;
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
        self.dismiss_guardian().await;
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
}
