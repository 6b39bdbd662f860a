//! The sockets of BFD: opened here, where it may take its time, and given to the protocol thread. A node without them does
//! its work; its peers' death is noticed by their adverts.

use std::{collections::BTreeMap, net::IpAddr};

use tracing::{info, warn};

use super::controller::Controller;
use crate::{
    api::BfdStatus,
    bfd::{Diagnostic, DownReason},
    net::{BfdSocket, Listen},
    protocol::{Command, Detector, RouterReport, SessionChange, SessionReport, place},
};

/// The detectors that the protocol thread has, by interface and source: the index the interface had when the socket was
/// opened, and the peers.
pub(super) type OpenDetectors = BTreeMap<(String, IpAddr), (u32, Vec<IpAddr>)>;

impl Controller {
    /// Opens what the virtual routers need and is not open, or not any more.
    pub(super) fn open_detectors(&mut self) {
        let mut wanted = OpenDetectors::new();
        for router in self.routers.iter().filter(|router| router.config.bfd.is_some()) {
            // Whom a group reaches is not known beforehand.
            let (interface, Listen::Unicast(source)) = place(&router.config) else { continue };
            let Some(link) = self.world.link_named(interface) else { continue };
            let detector = wanted.entry((interface.to_owned(), source)).or_insert((link.index, Vec::new()));
            let unknown = router.config.peers().iter().filter(|peer| !detector.1.contains(peer));
            let unknown: Vec<IpAddr> = unknown.copied().collect();
            detector.1.extend(unknown);
        }
        self.detectors.retain(|place, _| wanted.contains_key(place));
        let (mut opened, mut problems) = (Vec::new(), Vec::new());
        for (place, detector) in wanted {
            if self.detectors.get(&place) == Some(&detector) {
                continue;
            }
            let (interface, source) = (place.0.as_str(), place.1);
            let inside = self.edges.protocol.enter();
            match BfdSocket::open(interface, source, &detector.1) {
                Ok(socket) => {
                    opened.push(Detector::new((interface, source), socket));
                    self.detectors.insert(place, detector);
                }
                // What keeps it from being opened may pass: it is tried again whenever the network changes.
                Err(error) => problems.push(error.to_string()),
            }
            drop(inside);
        }
        if !opened.is_empty() {
            self.edges.protocol.send(Command::Detect(opened));
        }
        self.problem("BFD sockets", problems.is_empty().then_some(()).ok_or(problems.join("; ")));
    }
}

/// Tells the operator what became of a session.
pub(super) fn log_change(peer: IpAddr, change: SessionChange) {
    match change {
        SessionChange::Up => info!(%peer, "BFD session up"),
        SessionChange::Down(reason @ (DownReason::TimedOut | DownReason::Damped)) => {
            warn!(%peer, "BFD session down: {}", reason_of(reason));
        }
        SessionChange::Down(reason) => info!(%peer, "BFD session down: {}", reason_of(reason)),
    }
}

fn reason_of(reason: DownReason) -> String {
    match reason {
        DownReason::TimedOut => "nothing was received for the detection time".to_owned(),
        DownReason::Signalled(diagnostic) => {
            format!("the peer says that it is down (diagnostic {})", diagnostic.0)
        }
        DownReason::PeerAdminDown(Diagnostic::ADMINISTRATIVELY_DOWN) => "the peer ends it".to_owned(),
        DownReason::PeerAdminDown(diagnostic) => {
            format!("the peer holds it down (diagnostic {})", diagnostic.0)
        }
        DownReason::Damped => {
            "it failed five times in 30 s, and is held down for a minute; adverts alone decide meanwhile"
                .to_owned()
        }
        DownReason::Stopped => "this node ends it".to_owned(),
    }
}

/// The sessions of a virtual router for `lb status`.
pub(super) fn status(report: Option<&RouterReport>) -> Vec<BfdStatus> {
    let status = |session: &SessionReport| {
        let counts = [
            ("sent", session.sent),
            ("received", session.received),
            ("send_errors", session.send_errors),
            ("downs", session.downs),
        ];
        BfdStatus {
            peer: session.peer,
            state: session.state.name().to_owned(),
            remote_state: session.remote_state.name().to_owned(),
            diagnostic: session.diagnostic.0,
            damped: session.damped,
            detection_ms: session.detection_time.as_millis().try_into().unwrap_or(u64::MAX),
            counters: counts
                .into_iter()
                .chain(session.rejected.iter())
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
        }
    };
    report.into_iter().flat_map(|report| &report.sessions).map(status).collect()
}
