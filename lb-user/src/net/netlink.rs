//! Links, addresses and routes of this network namespace, by rtnetlink, both families.

use std::{io, net::IpAddr, sync::Arc};

use futures_util::{Stream, TryStreamExt};
use ipnet::IpNet;
use lb_common::{Mac, Tag};
use rtnetlink::{
    Error, Handle,
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo},
        link::{InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia},
    },
};
use tokio::sync::Mutex;

/// Why the kernel's network could not be asked or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket could not be opened or set up.
    #[error("rtnetlink socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel refused.
    #[error("{operation}: {error}{}", remedy(error))]
    Refused {
        /// What was asked, with the address or interface it was about.
        operation: String,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// The kernel's answer makes no sense, or the connection to it has ended.
    #[error("{operation}: {reason}")]
    Protocol {
        /// What was asked.
        operation: String,
        /// What went wrong.
        reason: String,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => " (it needs CAP_NET_ADMIN: run as root, or give the capability)",
        Some(libc::EACCES) => {
            " (IPv6 may be off on the interface: `sysctl net.ipv6.conf.INTERFACE.disable_ipv6=0`, in a container \
             `--sysctl net.ipv6.conf.all.disable_ipv6=0`)"
        }
        Some(libc::ENODEV) => " (the interface is gone: see `ip link`)",
        _ => "",
    }
}

impl NetlinkError {
    pub(super) fn new(operation: &str, error: Error) -> Self {
        let operation = operation.to_owned();
        match error {
            Error::NetlinkError(message) => Self::Refused { operation, error: message.to_io() },
            Error::RequestFailed => {
                Self::Protocol { operation, reason: "the connection to the kernel has ended".to_owned() }
            }
            other => Self::Protocol { operation, reason: other.to_string() },
        }
    }

    pub(super) fn code(&self) -> Option<i32> {
        match self {
            Self::Open(error) | Self::Refused { error, .. } => error.raw_os_error(),
            Self::Protocol { .. } => None,
        }
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it; a new one when it is deleted and made again.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; `None` for interfaces without (tunnels).
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Somebody switched it on (IFF_UP).
    pub up: bool,
    /// The cable is in, or the other end is up (IFF_LOWER_UP).
    pub carrier: bool,
    /// The index of the bridge, bond or the like that it is a port of.
    pub master: Option<u32>,
    /// What it is part of, if it is a VLAN interface such as `eth0.100`.
    pub vlan: Option<Vlan>,
    /// The index of the interface below, if it is one with a MAC address of its own (macvlan).
    pub macvlan_on: Option<u32>,
}

/// The place of a VLAN interface: packets through it leave by the parent with the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// The index of the interface it is on.
    pub parent: u32,
    /// The protocol identifier of its tag: 0x8100 (802.1Q), or a provider's 0x88a8 (802.1ad).
    pub protocol: u16,
    /// The VLAN identifier, 1–4094.
    pub id: u16,
}

impl Link {
    /// Packets can pass: it is up and has carrier.
    pub fn usable(&self) -> bool {
        self.up && self.carrier
    }

    pub(super) fn parse(message: &LinkMessage) -> Option<Self> {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            carrier: message.header.flags.contains(LinkFlags::LowerUp),
            master: None,
            vlan: None,
            macvlan_on: None,
        };
        let (mut parent, mut tag, mut macvlan, mut elsewhere) = (None, None, false, false);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(bytes) => {
                    link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac);
                }
                LinkAttribute::Controller(index) => link.master = Some(*index).filter(|index| *index != 0),
                LinkAttribute::Link(index) => parent = Some(*index),
                LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                LinkAttribute::LinkInfo(infos) => {
                    tag = infos.iter().find_map(vlan_tag);
                    macvlan = infos.contains(&LinkInfo::Kind(InfoKind::MacVlan));
                }
                _ => {}
            }
        }
        // A parent in another network namespace has a number of that namespace.
        let parent = parent.filter(|_| !elsewhere);
        if let (Some(parent), Some((protocol, id))) = (parent, tag) {
            link.vlan = Some(Vlan { parent, protocol, id });
        }
        link.macvlan_on = parent.filter(|_| macvlan);
        (!link.name.is_empty()).then_some(link)
    }
}

/// Protocol identifier and VLAN identifier.
fn vlan_tag(info: &LinkInfo) -> Option<(u16, u16)> {
    let LinkInfo::Data(InfoData::Vlan(data)) = info else { return None };
    let id = data.iter().find_map(|part| match part {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })?;
    let protocol = data.iter().find_map(|part| match part {
        InfoVlan::Protocol(protocol) => Some(u16::from(*protocol)),
        _ => None,
    });
    Some((protocol.unwrap_or(Tag::PROTOCOL), id))
}

pub(super) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// An address of an interface, with its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceAddress {
    /// The interface.
    pub index: u32,
    /// The address and prefix length.
    pub address: IpNet,
}

impl InterfaceAddress {
    pub(super) fn parse(message: &AddressMessage) -> Option<Self> {
        // IFA_LOCAL is the node's own address; IFA_ADDRESS is the other end's on point-to-point links. IPv6 has
        // IFA_LOCAL on those only.
        let (mut local, mut other) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(address) => local = Some(*address),
                AddressAttribute::Address(address @ IpAddr::V6(_)) => other = Some(*address),
                _ => {}
            }
        }
        let address = IpNet::new(local.or(other)?, message.header.prefix_len).ok()?;
        Some(Self { index: message.header.index, address })
    }

    fn message(self) -> AddressMessage {
        let mut message = AddressMessage::default();
        let address = self.address.addr();
        message.header.family = family(address);
        message.header.prefix_len = self.address.prefix_len();
        message.header.index = self.index;
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        message
    }
}

/// How an address is added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressOptions {
    /// It is the node's own and no VIP: its prefix gets a route, and the node sends from it.
    pub of_node: bool,
    /// Its label (IPv4).
    pub label: Option<String>,
    /// Its scope by the kernel's numbers: 0 global, 200 site, 253 link, 254 host.
    pub scope: u8,
}

/// How the kernel would send to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// It is an address of this node.
    Local,
    /// It is another node's.
    Remote(Path),
}

/// The way to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    /// The interface.
    pub index: u32,
    /// The router in between, which may be of the other family; `None`: it is in the interface's network.
    pub gateway: Option<IpAddr>,
    /// The source address the kernel would take.
    pub source: Option<IpAddr>,
    /// The MTU of the route in bytes, where it has one of its own.
    pub mtu: Option<u32>,
}

impl Route {
    /// `Ok(None)`: a route that says that there is none.
    fn parse(message: &RouteMessage) -> Result<Option<Self>, String> {
        match message.header.kind {
            RouteType::Local => return Ok(Some(Self::Local)),
            RouteType::Unicast => {}
            RouteType::Unreachable | RouteType::Prohibit | RouteType::BlackHole => return Ok(None),
            kind => return Err(format!("a route of type {kind:?}")),
        }
        let (mut index, mut gateway, mut source, mut mtu) = (None, None, None, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(number) => index = Some(*number),
                RouteAttribute::Gateway(address) => gateway = ip_address(address),
                RouteAttribute::Via(RouteVia::Inet(address)) => gateway = Some(IpAddr::V4(*address)),
                RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some(IpAddr::V6(*address)),
                RouteAttribute::Via(via) => return Err(format!("a gateway of another family: {via:?}")),
                RouteAttribute::PrefSource(address) => source = ip_address(address),
                RouteAttribute::Metrics(metrics) => {
                    mtu = metrics.iter().find_map(|metric| match metric {
                        // 0: none of its own.
                        RouteMetric::Mtu(bytes) if *bytes > 0 => Some(*bytes),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        let index = index.ok_or("a route without interface")?;
        Ok(Some(Self::Remote(Path { index, gateway, source, mtu })))
    }
}

pub(super) fn ip_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// Asks and changes links, addresses and routes. Clones share one socket.
#[derive(Clone, Debug)]
pub struct Netlink {
    pub(super) handle: Handle,
    /// Held while a table is listed: the kernel lists one at a time for a socket (EBUSY).
    pub(super) listing: Arc<Mutex<()>>,
}

impl Netlink {
    /// Opens a socket in the network namespace of this thread, served by a task on the current tokio runtime
    /// that ends when the last clone is dropped.
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self { handle, listing: Arc::default() })
    }

    /// The interface of that name; `None` if there is none.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let operation = format!("looking interface {name} up");
        let request = self.handle.link().get().match_name(name).execute();
        match collect(&operation, request, Link::parse).await {
            Ok(links) => Ok(links.into_iter().next()),
            Err(error) if error.code() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All interfaces.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let _listing = self.listing.lock().await;
        collect("listing interfaces", self.handle.link().get().execute(), Link::parse).await
    }

    /// All addresses of all interfaces, of both families.
    pub async fn addresses(&self) -> Result<Vec<InterfaceAddress>, NetlinkError> {
        let _listing = self.listing.lock().await;
        collect("listing addresses", self.handle.address().get().execute(), InterfaceAddress::parse).await
    }

    /// Adds a VIP, without a route for its prefix; whether it was not there before.
    ///
    /// The kernel calls the second address of one network secondary, and deletes it with the first unless
    /// [`InterfaceSysctl::PromoteSecondaries`](super::InterfaceSysctl::PromoteSecondaries) is set.
    ///
    /// An IPv6 address is usable at once, without duplicate address detection (the other nodes have it too, on
    /// loopback or a moment ago), and deprecated (RFC 6724, rule 3): the node does not choose it as the source
    /// of its own packets.
    pub async fn add_address(&self, index: u32, address: IpNet) -> Result<bool, NetlinkError> {
        self.add_address_with(index, address, &AddressOptions::default()).await
    }

    /// As [`add_address`](Self::add_address), with options.
    pub async fn add_address_with(
        &self,
        index: u32,
        address: IpNet,
        options: &AddressOptions,
    ) -> Result<bool, NetlinkError> {
        let mut message = InterfaceAddress { index, address }.message();
        message.header.scope = AddressScope::from(options.scope);
        message.attributes.extend(options.label.clone().map(AddressAttribute::Label));
        if !options.of_node {
            let mut flags = AddressFlags::Noprefixroute;
            if let IpNet::V6(_) = address {
                flags |= AddressFlags::Nodad;
                let mut lifetimes = CacheInfo::default();
                (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (0, u32::MAX);
                message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
            }
            message.attributes.push(AddressAttribute::Flags(flags));
        }
        let operation = format!("adding address {address} to interface number {index}");
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        match self.acknowledged(&operation, RouteNetlinkMessage::NewAddress(message), flags).await {
            Ok(()) => Ok(true),
            Err(error) if error.code() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes an address; whether it was there before. An interface that is gone has no address.
    pub async fn delete_address(&self, index: u32, address: IpNet) -> Result<bool, NetlinkError> {
        let message = InterfaceAddress { index, address }.message();
        let operation = format!("deleting address {address} from interface number {index}");
        match self.acknowledged(&operation, RouteNetlinkMessage::DelAddress(message), 0).await {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.code(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How the kernel would send to `destination` now; `None`: it has no way to.
    pub async fn route(&self, destination: IpAddr) -> Result<Option<Route>, NetlinkError> {
        let operation = format!("looking the route to {destination} up");
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        let (bits, address) = match destination {
            IpAddr::V4(address) => (32, RouteAddress::Inet(address)),
            IpAddr::V6(address) => (128, RouteAddress::Inet6(address)),
        };
        message.header.destination_prefix_length = bits;
        message.attributes.push(RouteAttribute::Destination(address));
        let request = self.handle.route().get(message).execute();
        let routes = match collect(&operation, request, |message| Some(Route::parse(message))).await {
            Ok(routes) => routes,
            // No route; or one that says that there is none (`unreachable`, `prohibit`, `blackhole`).
            Err(error)
                if matches!(
                    error.code(),
                    Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let route = routes.into_iter().next().unwrap_or_else(|| Err("the kernel sent no answer".to_owned()));
        route.map_err(|reason| NetlinkError::Protocol { operation, reason })
    }

    /// Sends a request that the kernel answers by an acknowledgement only.
    pub(super) async fn acknowledged(
        &self,
        operation: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        use futures_util::StreamExt as _;

        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut handle = self.handle.clone();
        let mut answers = handle.request(message).map_err(|error| NetlinkError::new(operation, error))?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload {
                return Err(NetlinkError::new(operation, Error::NetlinkError(error)));
            }
        }
        Ok(())
    }
}

pub(super) async fn collect<M, T>(
    operation: &str,
    messages: impl Stream<Item = Result<M, Error>>,
    parse: impl Fn(&M) -> Option<T>,
) -> Result<Vec<T>, NetlinkError> {
    let messages = messages.try_filter_map(|message| std::future::ready(Ok(parse(&message))));
    messages.try_collect().await.map_err(|error| NetlinkError::new(operation, error))
}
