//! Leaving: the VIPs are handed over, then everything that was put on the node is taken back.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::{
    controller::{Controller, Signal},
    desired::Desired,
    router::Router,
};
use crate::{
    bfd::SessionState,
    protocol::{Command, Event},
    time::Timestamp,
};

/// How long commands may take that are told of the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Controller {
    /// Hands over and cleans up.
    pub(super) async fn stop(&mut self, signals: &mut mpsc::Receiver<Signal>) {
        info!("stopping");
        let heard = self.has_peers_up().await;
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
        self.outlast_handover().await;
        if heard {
            self.drain(signals).await;
        }
        self.withdraw().await;
        self.edges.notifier.finish(LAST_WORDS).await;
        info!("stopped");
    }

    /// Waits until clients know of who took the VIPs over.
    async fn outlast_handover(&mut self) {
        let Some(last) = self.routers.iter().filter_map(Router::was_owner_until).max() else { return };
        sleep(last.since(Timestamp::now())).await;
        for router in &mut self.routers {
            router.forget_ownership(last);
        }
    }

    /// Whether a peer hears by BFD that this node ends.
    async fn has_peers_up(&mut self) -> bool {
        self.inquire().await;
        let reports = self.routers.iter().filter_map(|router| router.report.as_ref());
        reports.flat_map(|report| &report.sessions).any(|session| session.state == SessionState::Up)
    }

    /// The peers send no new connections here from now on; those that are here get time to end. A second signal cuts it
    /// short.
    async fn drain(&mut self, signals: &mut mpsc::Receiver<Signal>) {
        if self.config.services.is_empty() || self.config.daemon.drain.is_zero() {
            return;
        }
        // No longer owner: the addresses go from the interfaces to the loopback interface.
        self.reconcile().await;
        let again = async {
            while let Some(signal) = signals.recv().await {
                if signal == Signal::Stop {
                    return;
                }
            }
            sleep(Duration::MAX).await;
        };
        let _cut_short = timeout(self.config.daemon.drain, again).await;
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
