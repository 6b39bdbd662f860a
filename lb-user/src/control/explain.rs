//! The answer to `lb explain`: a packet is made up, the loaded program decides about it, and what it wrote down is put
//! into the operator's terms.

mod frame;
pub(super) mod interpret;

use lb_common::Mac;

use self::{frame::Ends, interpret::Known};
use super::controller::{Attached, Controller};
use crate::{
    api::{ExplainRequest, ExplainedPacket, Explanation},
    net::Link,
};

/// The sender's MAC address where its own is not known: nobody's, and so no director's.
const SOMEBODY: Mac = Mac([2, 0, 0, 0, 0, 0]);

impl Controller {
    /// Where a packet would go, and why. The error says what to ask instead.
    pub(super) fn explain(&mut self, request: &ExplainRequest) -> Result<Explanation, String> {
        request.check()?;
        let interface = self.ingress(request)?;
        let Some(link) = self.world.link_named(&interface).cloned() else {
            return Err(format!("interface {interface} does not exist any more"));
        };
        let carrier = self.world.carrier(&interface).to_owned();
        let Some(Attached { attachment, .. }) = self.attachments.get(&carrier) else {
            return Err(format!("the XDP program is not on {carrier} at the moment; `lb status` says why"));
        };
        let packet = ExplainedPacket {
            source: request.source,
            destination: request.destination,
            protocol: request.protocol,
            opening: request.opening,
            interface,
            xdp: attachment.mode.to_owned(),
        };
        // What comes in by a VLAN interface is decided about as if it were untagged: its tags lead there and come off first.
        let frame = self.frame(request, &link);
        let explained =
            self.edges.dataplane.explain(link.index, &frame).map_err(|error| error.to_string())?;
        self.known().interpret(packet, &explained)
    }

    fn known(&self) -> Known<'_> {
        Known {
            config: &self.config,
            forwarding: &self.forwarding,
            world: &self.world,
            health: &self.health,
            routers: &self.routers,
        }
    }

    /// The interface the packet comes in by.
    fn ingress(&self, request: &ExplainRequest) -> Result<String, String> {
        let names = self.config.attached_interfaces();
        let list = || names.join(", ");
        if let Some(wanted) = &request.interface {
            return if self.attachments.contains_key(self.world.carrier(wanted)) {
                Ok(wanted.clone())
            } else {
                Err(format!("the XDP program is not on {wanted}; --interface takes one of: {}", list()))
            };
        }
        let router = self.config.router_of(request.destination.ip());
        router
            .map(|router| router.interface.as_str())
            .or(names.first().copied())
            .map(str::to_owned)
            .ok_or_else(|| "the configuration attaches the XDP program to no interface".to_owned())
    }

    fn frame(&self, request: &ExplainRequest, link: &Link) -> Vec<u8> {
        let ends = Ends {
            // What comes from another director counts as steered already.
            source_mac: self.world.neighbour(request.source.ip()).unwrap_or(SOMEBODY),
            destination_mac: link.mac.unwrap_or_default(),
        };
        frame::build(request, &ends)
    }
}
