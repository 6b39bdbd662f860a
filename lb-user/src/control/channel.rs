//! The sockets adverts travel through: one for all virtual routers of an interface and source address or group.

use std::net::IpAddr;

use futures_util::future::select_all;
use tracing::{debug, warn};

use super::router::{Heard, Router};
use crate::{
    config::VirtualRouter,
    net::{Listen, VrrpSocket, VrrpSocketError},
    time::{Timestamp, UnixTime},
    vrrp::{Advert, Datagram, DecodeCounters, packet},
};

/// A socket and what it received that belonged to no virtual router.
#[derive(Debug)]
pub(super) struct Channel {
    /// The interface.
    pub(super) interface: String,
    /// The index the interface had when the socket was opened; the socket goes with that interface.
    pub(super) index: u32,
    /// What it receives.
    pub(super) listen: Listen,
    /// The socket.
    pub(super) socket: VrrpSocket,
    /// Rejected packets that named no virtual router of this channel.
    pub(super) unattributed: DecodeCounters,
}

impl Channel {
    /// Opens the channel a virtual router needs.
    pub(super) fn open(router: &VirtualRouter, index: u32) -> Result<Self, VrrpSocketError> {
        let (interface, listen) = place(router);
        let socket = VrrpSocket::open(interface, listen)?;
        Ok(Self {
            interface: interface.to_owned(),
            index,
            listen,
            socket,
            unattributed: DecodeCounters::default(),
        })
    }

    /// Whether this virtual router speaks through this channel.
    pub(super) fn serves(&self, router: &VirtualRouter) -> bool {
        place(router) == (self.interface.as_str(), self.listen)
    }

    /// Takes what waits in the socket, one packet; returns an advert and the index of its virtual router if it
    /// passed every check, and counts it where it did not.
    pub(super) fn receive(&mut self, routers: &mut [Router]) -> Received {
        let datagram = match self.socket.try_recv() {
            Ok(Some(datagram)) => datagram,
            Ok(None) => return Received::Nothing,
            Err(error) => {
                debug!(interface = %self.interface, %error, "VRRP socket");
                return Received::Nothing;
            }
        };
        let owner_of_id = |routers: &[Router], id: u8| {
            routers.iter().position(|router| router.config.router_id == id && self.serves(&router.config))
        };
        let decoded = packet::decode(&datagram, UnixTime::now(), |id| {
            owner_of_id(routers, id).map(|index| &mut routers[index].endpoint)
        });
        match decoded {
            Ok(advert) => match owner_of_id(routers, advert.router_id) {
                Some(index) => {
                    let router = &mut routers[index];
                    router.adverts_received += 1;
                    let heard =
                        Heard { source: datagram.source, priority: advert.priority, at: Timestamp::now() };
                    router.heard = Some(heard);
                    Received::Advert { index, advert, source: datagram.source }
                }
                None => Received::Rejected,
            },
            Err(error) => {
                self.count(&datagram, routers, &error);
                Received::Rejected
            }
        }
    }

    fn count(&mut self, datagram: &Datagram, routers: &mut [Router], error: &packet::DecodeError) {
        let id = packet::router_id(&datagram.payload);
        let index = id.and_then(|id| {
            routers.iter().position(|router| router.config.router_id == id && self.serves(&router.config))
        });
        let count = match index {
            Some(index) => routers[index].rejected.count(error),
            None => self.unattributed.count(error),
        };
        // Each power of two: the first is seen at once and a flood does not flood the log.
        if count.is_power_of_two() {
            warn!(
                interface = %self.interface, source = %datagram.source, count, "VRRP packet rejected: {error}"
            );
        }
    }
}

/// What [`Channel::receive`] found.
#[derive(Debug)]
pub(super) enum Received {
    /// The socket is empty.
    Nothing,
    /// A packet that counts for nothing.
    Rejected,
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

/// Resolves when a packet waits in one of the channels; never, where there is none.
pub(super) async fn readable(channels: &[Channel]) {
    if channels.is_empty() {
        return std::future::pending().await;
    }
    // An error shows itself when the packet is read.
    let waits = channels.iter().map(|channel| Box::pin(channel.socket.readable()));
    drop(select_all(waits).await);
}

fn place(router: &VirtualRouter) -> (&str, Listen) {
    (&router.interface, Listen::from(router))
}
