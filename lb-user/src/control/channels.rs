//! The sockets of adverts: opened here, where it may take its time, and given to the protocol thread.

use std::net::IpAddr;

use super::{controller::Controller, controller::StartError};
use crate::{
    config::{Config, VirtualRouter},
    net::{VrrpSocket, VrrpSocketError},
    protocol::{Channel, Link, place},
};

/// A channel that the protocol thread has.
#[derive(Clone, Debug)]
pub(super) struct OpenChannel {
    interface: String,
    source: IpAddr,
    /// The index the interface had when the socket was opened; the socket goes with that interface.
    index: u32,
}

impl OpenChannel {
    fn serves(&self, router: &VirtualRouter) -> bool {
        place(router) == (self.interface.as_str(), self.source)
    }
}

/// Channels that are open and not given to the protocol thread yet.
#[derive(Debug, Default)]
pub(super) struct Opened {
    pub(super) channels: Vec<Channel>,
    known: Vec<OpenChannel>,
}

impl Controller {
    /// Opens what `config` needs and is not open.
    pub(super) fn open_channels(&self, config: &Config) -> Result<Opened, StartError> {
        let mut opened = Opened::default();
        for router in &config.virtual_routers {
            if self.channels.iter().chain(&opened.known).any(|channel| channel.serves(router)) {
                continue;
            }
            let (interface, source) = place(router);
            let index = self.world.link_named(interface).map_or(0, |link| link.index);
            opened.channels.push(open(&self.edges.protocol, interface, source)?);
            opened.known.push(OpenChannel { interface: interface.to_owned(), source, index });
        }
        Ok(opened)
    }

    /// Notes that the channels are the protocol thread's, which closes those that `config` does not need.
    pub(super) fn note_channels(&mut self, opened: Opened, config: &Config) -> Vec<Channel> {
        self.channels.extend(opened.known);
        self.channels.retain(|channel| config.virtual_routers.iter().any(|router| channel.serves(router)));
        opened.channels
    }

    /// Opens anew what was bound to an interface that was deleted and made again.
    pub(super) fn reopen_channels(&mut self) {
        let mut problems = Vec::new();
        let mut opened = Vec::new();
        for channel in &mut self.channels {
            let Some(link) = self.world.link_named(&channel.interface) else { continue };
            if link.index == channel.index {
                continue;
            }
            match open(&self.edges.protocol, &channel.interface, channel.source) {
                Ok(socket) => {
                    opened.push(socket);
                    channel.index = link.index;
                }
                // The address comes back later than the interface; its arrival is the next attempt.
                Err(error) => problems.push(error.to_string()),
            }
        }
        if !opened.is_empty() {
            self.tell_configuration(opened);
        }
        self.problem("VRRP sockets", problems.is_empty().then_some(()).ok_or(problems.join("; ")));
    }
}

fn open(protocol: &Link, interface: &str, source: IpAddr) -> Result<Channel, VrrpSocketError> {
    let _inside = protocol.enter();
    Ok(Channel::new((interface, source), VrrpSocket::open(interface, source)?))
}
