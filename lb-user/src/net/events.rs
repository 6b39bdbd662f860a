//! What changes in the kernel's network, as it happens.

use std::io;

use rtnetlink::{
    MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::{RouteMessage, RouteType},
    },
    sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE},
};
use tokio::sync::mpsc;

use super::{
    neighbour::Neighbour,
    netlink::{InterfaceAddress, Link, Netlink, NetlinkError},
    own_routes::ROUTE_PROTOCOL,
    own_rules,
};

/// How many events may wait for the control task. When it falls further behind, the kernel's buffer fills, and
/// it gets a [`NetEvent::Resync`] in the end.
const QUEUE: usize = 1024;
/// Bytes of events the kernel keeps for us: thousands of neighbours may change at once.
const RECEIVE_BUFFER: i32 = 1 << 20;

/// A change in the kernel's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// Everything there is: the first event, and again when events were lost. Forget what was known before.
    Resync(Snapshot),
    /// An interface is new, or something about it changed.
    Link(Link),
    /// An interface is gone, with its addresses and neighbours.
    LinkRemoved {
        /// The number it had.
        index: u32,
        /// The name it had.
        name: String,
    },
    /// An interface has an address.
    AddressAdded(InterfaceAddress),
    /// An interface has an address no more, whoever took it away.
    AddressRemoved(InterfaceAddress),
    /// A route came, went or changed: ask for those of interest again. Routes of many messages that arrive
    /// together are one event.
    RoutesChanged,
    /// A route of this daemon's ([`OwnRoute`](super::OwnRoute)) was deleted. Not told of IPv4 routes that go with an
    /// address or an interface.
    OwnRouteGone,
    /// A neighbour was resolved, changed its MAC, or (`mac: None`) does not answer or was forgotten.
    Neighbour(Neighbour),
}

/// Everything [`NetEvent`]s are about, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All interfaces.
    pub links: Vec<Link>,
    /// All addresses.
    pub addresses: Vec<InterfaceAddress>,
    /// All neighbours.
    pub neighbours: Vec<Neighbour>,
}

impl Netlink {
    /// All links, addresses and neighbours.
    pub async fn snapshot(&self) -> Result<Snapshot, NetlinkError> {
        Ok(Snapshot {
            links: self.links().await?,
            addresses: self.addresses().await?,
            neighbours: self.neighbours().await?,
        })
    }
}

/// Follows the changes of this thread's network namespace, by a task on the current tokio runtime that ends
/// when the receiver is dropped. An `Err` is the last item: the kernel can no longer be followed.
pub fn follow(netlink: &Netlink) -> Result<mpsc::Receiver<Result<NetEvent, NetlinkError>>, NetlinkError> {
    let socket = subscribe().map_err(NetlinkError::Open)?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let netlink = netlink.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            Err(error) = run(&socket, &netlink, &sender) => {
                // A receiver that is gone needs no error.
                let _ = sender.send(Err(error)).await;
            }
        }
    });
    Ok(receiver)
}

fn subscribe() -> io::Result<TokioSocket> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Rule,
        MulticastGroup::Neigh,
    ];
    let mask = groups.into_iter().fold(0, |mask, group| mask | 1 << (group as u32 - 1));
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().set_rx_buf_sz(RECEIVE_BUFFER)?;
    socket.socket_mut().bind(&SocketAddr::new(0, mask))?;
    Ok(socket)
}

type Sender = mpsc::Sender<Result<NetEvent, NetlinkError>>;

/// Ends with an error, or with `Ok` when nobody listens any more.
async fn run(socket: &TokioSocket, netlink: &Netlink, sender: &Sender) -> Result<(), NetlinkError> {
    // What changes while the first snapshot is taken waits in the socket, and is told again afterwards.
    let mut lost = true;
    loop {
        if lost && sender.send(Ok(NetEvent::Resync(netlink.snapshot().await?))).await.is_err() {
            return Ok(());
        }
        lost = false;
        match socket.recv_from_full().await {
            Ok((bytes, _)) => {
                for event in parse(&bytes) {
                    if sender.send(Ok(event)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                tracing::warn!("network events were lost; everything is read again");
                lost = true;
            }
            Err(error) => {
                return Err(NetlinkError::Refused {
                    operation: "following network events".to_owned(),
                    error,
                });
            }
        }
    }
}

/// The events in one datagram of the kernel; what we do not know is left out.
fn parse(bytes: &[u8]) -> Vec<NetEvent> {
    let mut events = Vec::new();
    let mut rest = bytes;
    while let Some(length) = rest.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes) as usize) {
        let Some(message) = rest.get(..length).filter(|_| length > 0) else {
            tracing::warn!(length, left = rest.len(), "network event cut off");
            break;
        };
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message) {
            Ok(message) => {
                let event = event(message.payload);
                // A routing daemon changes thousands at once.
                if event != Some(NetEvent::RoutesChanged) || events.last() != Some(&NetEvent::RoutesChanged) {
                    events.extend(event);
                }
            }
            // A newer kernel than the parser: one message less.
            Err(error) => tracing::debug!(%error, "network event not understood"),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    events
}

fn event(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<NetEvent> {
    let NetlinkPayload::InnerMessage(message) = payload else {
        return None;
    };
    match message {
        // A bridge tells about its ports in messages of its own family: not about the interface itself.
        RouteNetlinkMessage::NewLink(message) if message.header.interface_family == AddressFamily::Unspec => {
            Link::parse(&message).map(NetEvent::Link)
        }
        RouteNetlinkMessage::DelLink(message) if message.header.interface_family == AddressFamily::Unspec => {
            Link::parse(&message).map(|link| NetEvent::LinkRemoved { index: link.index, name: link.name })
        }
        RouteNetlinkMessage::NewAddress(message) => {
            InterfaceAddress::parse(&message).map(NetEvent::AddressAdded)
        }
        RouteNetlinkMessage::DelAddress(message) => {
            InterfaceAddress::parse(&message).map(NetEvent::AddressRemoved)
        }
        RouteNetlinkMessage::DelRoute(message) if u8::from(message.header.protocol) == ROUTE_PROTOCOL => {
            Some(NetEvent::OwnRouteGone)
        }
        RouteNetlinkMessage::NewRoute(message) | RouteNetlinkMessage::DelRoute(message) => {
            leads_away(&message).then_some(NetEvent::RoutesChanged)
        }
        RouteNetlinkMessage::DelRule(message) if own_rules::is_own(&message) => Some(NetEvent::OwnRouteGone),
        // Whatever it is about, another way may be taken now.
        RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => Some(NetEvent::RoutesChanged),
        RouteNetlinkMessage::NewNeighbour(message) => Neighbour::parse(&message).map(NetEvent::Neighbour),
        RouteNetlinkMessage::DelNeighbour(message) => Neighbour::parse(&message)
            .map(|neighbour| NetEvent::Neighbour(Neighbour { mac: None, ..neighbour })),
        _ => None,
    }
}

/// Whether it is a route to others. Those of the node's own addresses come and go with these, which are events
/// of their own, and multicast is not for backends.
fn leads_away(message: &RouteMessage) -> bool {
    !matches!(
        message.header.kind,
        RouteType::Local | RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast
    )
}
