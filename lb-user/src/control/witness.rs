//! What witnesses say, for the machines of the virtual routers.

use tracing::{info, warn};

use super::controller::Controller;
use crate::{
    config::VirtualRouter,
    protocol::Command,
    track::{Witness, WitnessEvent},
    vrrp::Input,
};

impl Controller {
    /// A witness answers again, or no longer does.
    pub(super) fn witness_event(&mut self, event: WitnessEvent) {
        let WitnessEvent { witness, answers } = event;
        let Witness { address, interface, .. } = &witness;
        if answers {
            info!(witness = %address, %interface, "the witness answers");
            self.silent_witnesses.remove(&witness);
        } else {
            warn!(witness = %address, %interface, "the witness does not answer");
            self.silent_witnesses.insert(witness);
        }
        self.tell_witnesses();
    }

    /// Tells the machines what they do not know.
    pub(super) fn tell_witnesses(&mut self) {
        for router in &mut self.routers {
            let answers =
                witness_of(&router.config).is_none_or(|witness| !self.silent_witnesses.contains(&witness));
            if router.witness != answers {
                router.witness = answers;
                self.edges.protocol.send(Command::Tell(router.key, Input::Witness(answers)));
            }
        }
    }
}

/// Whom a virtual router asks.
pub(super) fn witness_of(router: &VirtualRouter) -> Option<Witness> {
    let address = router.witness?;
    let source = Some(router.source())
        .filter(|source| !source.is_unspecified() && source.is_ipv4() == address.is_ipv4());
    Some(Witness { address, interface: router.interface.clone(), source })
}
