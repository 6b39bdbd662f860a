//! What adverts travel through: one for all virtual routers of an interface and source address.

use std::{
    fmt,
    net::IpAddr,
    task::{Context, Poll},
};

use super::{
    messages::Trouble,
    router::{Heard, Router},
};
use crate::{
    config::VirtualRouter,
    net::{VrrpSocket, VrrpSocketError},
    time::Timestamp,
    vrrp::{Advert, Datagram, DecodeCounters, DecodeError, packet},
};

/// What carries adverts: [`VrrpSocket`], or a test's. Nothing here waits.
pub trait Wire: fmt::Debug + Send {
    /// A packet that has already arrived, if there is one.
    fn try_recv(&self) -> Result<Option<Datagram>, VrrpSocketError>;
    /// Sends a message to a peer.
    fn send(&self, peer: IpAddr, payload: &[u8]) -> Result<(), VrrpSocketError>;
    /// Ready when a packet may have arrived; then it is emptied by [`try_recv`](Self::try_recv).
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()>;
}

impl Wire for VrrpSocket {
    fn try_recv(&self) -> Result<Option<Datagram>, VrrpSocketError> {
        Self::try_recv(self)
    }

    fn send(&self, peer: IpAddr, payload: &[u8]) -> Result<(), VrrpSocketError> {
        Self::send(self, peer, payload)
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        Self::poll_readable(self, context)
    }
}

/// A wire and what it received that belonged to no virtual router.
#[derive(Debug)]
pub struct Channel {
    interface: String,
    source: IpAddr,
    pub(super) wire: Box<dyn Wire>,
    /// Rejected packets that named no virtual router of this channel.
    pub(super) unattributed: DecodeCounters,
}

impl Channel {
    /// The channel of the virtual routers of an interface and source address.
    pub fn new((interface, source): (&str, IpAddr), wire: impl Wire + 'static) -> Self {
        let interface = interface.to_owned();
        Self { interface, source, wire: Box::new(wire), unattributed: DecodeCounters::default() }
    }

    /// Whether another serves the same virtual routers.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        (&self.interface, self.source) == (&other.interface, other.source)
    }

    /// Puts another in this one's place, which goes on counting; returns the one that was there.
    pub(super) fn replace(&mut self, by: Self) -> Self {
        let unattributed = self.unattributed;
        std::mem::replace(self, Self { unattributed, ..by })
    }

    /// Whether this virtual router speaks through this channel.
    pub(super) fn serves(&self, router: &VirtualRouter) -> bool {
        place(router) == (self.interface.as_str(), self.source)
    }

    /// Takes what waits in the wire, one packet; returns an advert and the index of its virtual router if it
    /// passed every check, and counts it where it did not.
    pub(super) fn receive(&mut self, routers: &mut [Router], now: Timestamp) -> Received {
        // An error is not final, and the wire is empty for now: an interface that is down is the control task's to see.
        let Ok(Some(datagram)) = self.wire.try_recv() else { return Received::Nothing };
        let decoded =
            packet::decode(&datagram, |id| self.router(routers, id).map(|index| &routers[index].acceptance));
        match decoded {
            Ok(advert) => match self.router(routers, advert.router_id) {
                Some(index) => {
                    let router = &mut routers[index];
                    router.adverts_received += 1;
                    router.heard =
                        Some(Heard { source: datagram.source, priority: advert.priority, at: now });
                    Received::Advert { index, advert, source: datagram.source }
                }
                None => Received::Rejected(None),
            },
            Err(error) => Received::Rejected(self.count(&datagram, routers, error)),
        }
    }

    fn router(&self, routers: &[Router], id: u8) -> Option<usize> {
        routers.iter().position(|router| router.config.router_id == id && self.serves(&router.config))
    }

    fn count(&mut self, datagram: &Datagram, routers: &mut [Router], error: DecodeError) -> Option<Trouble> {
        let index = packet::router_id(&datagram.payload).and_then(|id| self.router(routers, id));
        let count = match index {
            Some(index) => routers[index].rejected.count(&error),
            None => self.unattributed.count(&error),
        };
        let (interface, source) = (&self.interface, datagram.source);
        count.is_power_of_two().then(|| Trouble::Rejected {
            interface: interface.clone(),
            source,
            count,
            error,
        })
    }
}

/// What [`Channel::receive`] found.
#[derive(Debug)]
pub(super) enum Received {
    /// Nothing waits.
    Nothing,
    /// A packet that counts for nothing.
    Rejected(Option<Trouble>),
    /// An advert for the virtual router at `index`.
    Advert {
        /// Index of the virtual router.
        index: usize,
        /// The advert.
        advert: Advert,
        /// Who sent it.
        source: IpAddr,
    },
}

/// What tells the channel of a virtual router from others: interface and source address.
pub fn place(router: &VirtualRouter) -> (&str, IpAddr) {
    (&router.interface, router.source())
}
