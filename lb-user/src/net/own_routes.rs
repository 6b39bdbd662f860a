//! Routes that this daemon puts into the kernel's tables, and finds again by their protocol number.

use std::{io, net::IpAddr};

use futures_util::StreamExt as _;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType},
    },
};

use super::netlink::{Netlink, NetlinkError, family, ip_address};

/// The number of this daemon in the `protocol` field of its routes, which `ip route show proto 112` lists. It is VRRP's
/// IP protocol number; nothing else is known to use it there.
pub const ROUTE_PROTOCOL: u8 = 112;

/// The metric of IPv6 routes that are given none.
const METRIC_V6: u32 = 1_024;

/// A route as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnRoute {
    /// Where it leads.
    pub to: IpNet,
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The source address of packets that have none yet.
    pub source: Option<IpAddr>,
    /// The interface; one that is to be added may leave it to the gateway.
    pub index: Option<u32>,
    /// The table.
    pub table: u32,
    /// The metric.
    pub metric: u32,
    /// The scope by the kernel's numbers: 0 everywhere, 253 on the link, 254 this node. IPv6 has none: 0.
    pub scope: u8,
}

impl OwnRoute {
    /// The metric that the kernel gives a route to a network of this family where none is asked for.
    pub fn default_metric(to: IpNet) -> u32 {
        if to.addr().is_ipv4() { 0 } else { METRIC_V6 }
    }

    /// Whether `there`, a route of the kernel's, is this one.
    pub fn is(&self, there: &Self) -> bool {
        Self { index: self.index.or(there.index), ..*self } == *there
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let header = &mut message.header;
        header.address_family = family(self.to.addr());
        header.destination_prefix_length = self.to.prefix_len();
        header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
        header.scope = RouteScope::from(self.scope);
        header.kind = RouteType::Unicast;
        let address = |address| match address {
            IpAddr::V4(address) => RouteAddress::Inet(address),
            IpAddr::V6(address) => RouteAddress::Inet6(address),
        };
        let mut attributes = vec![
            RouteAttribute::Destination(address(self.to.addr())),
            RouteAttribute::Table(self.table),
            RouteAttribute::Priority(self.metric),
        ];
        attributes.extend(self.via.map(|via| RouteAttribute::Gateway(address(via))));
        attributes.extend(self.source.map(|source| RouteAttribute::PrefSource(address(source))));
        attributes.extend(self.index.map(RouteAttribute::Oif));
        message.attributes = attributes;
        message
    }

    fn parse(message: &RouteMessage) -> Option<Self> {
        if u8::from(message.header.protocol) != ROUTE_PROTOCOL {
            return None;
        }
        let length = message.header.destination_prefix_length;
        let everywhere = match message.header.address_family {
            rtnetlink::packet_route::AddressFamily::Inet => IpNet::V4(Ipv4Net::default()),
            _ => IpNet::V6(Ipv6Net::default()),
        };
        let mut route = Self {
            to: everywhere,
            via: None,
            source: None,
            index: None,
            table: message.header.table.into(),
            metric: 0,
            scope: message.header.scope.into(),
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => {
                    route.to = IpNet::new(ip_address(address)?, length).ok()?;
                }
                RouteAttribute::Gateway(address) => route.via = ip_address(address),
                RouteAttribute::PrefSource(address) => route.source = ip_address(address),
                RouteAttribute::Oif(index) => route.index = Some(*index),
                RouteAttribute::Table(table) => route.table = *table,
                RouteAttribute::Priority(metric) => route.metric = *metric,
                _ => {}
            }
        }
        Some(route)
    }
}

/// Lists, adds and deletes routes of [`ROUTE_PROTOCOL`].
#[derive(Clone, Debug)]
pub struct OwnRoutes {
    /// A socket whose questions the kernel reads to the letter: it leaves the routes of others out of a list, which may be
    /// a million.
    netlink: Netlink,
}

impl OwnRoutes {
    /// Opens a socket as [`Netlink::open`] does.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { netlink: Netlink::open_strict()? })
    }

    /// Those that are there, of both families.
    pub async fn list(&self) -> Result<Vec<OwnRoute>, NetlinkError> {
        let _listing = self.netlink.listing.lock().await;
        let mut routes = Vec::new();
        for family in [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())] {
            let mut message = RouteMessage::default();
            message.header.address_family = super::netlink::family(family.addr());
            message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
            let operation = "listing the routes of lb";
            let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetRoute(message));
            request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
            let mut handle = self.netlink.handle.clone();
            let mut answers = handle.request(request).map_err(|error| NetlinkError::new(operation, error))?;
            while let Some(answer) = answers.next().await {
                match answer.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(message)) => {
                        routes.extend(OwnRoute::parse(&message));
                    }
                    // A kernel without IPv6, or without a table that would hold any.
                    NetlinkPayload::Error(error)
                        if matches!(
                            error.to_io().raw_os_error(),
                            Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::ENOENT)
                        ) => {}
                    NetlinkPayload::Error(error) => {
                        let error = rtnetlink::Error::NetlinkError(error);
                        return Err(NetlinkError::new(operation, error));
                    }
                    _ => {}
                }
            }
        }
        Ok(routes)
    }

    /// Adds a route.
    pub async fn add(&self, route: &OwnRoute) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(route.message());
        let operation = format!("adding the route to {}", route.to);
        let result = self.netlink.acknowledged(&operation, message, NLM_F_CREATE | NLM_F_EXCL).await;
        result.map_err(|error| explained(operation, error))
    }

    /// Deletes a route; one that is not there is deleted already.
    pub async fn delete(&self, route: &OwnRoute) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelRoute(route.message());
        match self.netlink.acknowledged(&format!("deleting the route to {}", route.to), message, 0).await {
            Err(error) if !matches!(error.code(), Some(libc::ESRCH | libc::ENODEV | libc::ENETDOWN)) => {
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

/// What the kernel's number means for a route.
fn explained(operation: String, error: NetlinkError) -> NetlinkError {
    let reason = match error.code() {
        Some(libc::EEXIST) => {
            "somebody else has a route to it in the same table with the same metric: delete that one, or give this one \
             another `metric`"
        }
        Some(libc::ENETUNREACH) => "the gateway (`via`) is in no network of the interface",
        Some(libc::EHOSTUNREACH) => "the gateway (`via`) cannot be reached",
        Some(libc::ENETDOWN) => "the interface is down",
        Some(libc::EINVAL) => {
            "the kernel refuses the gateway, which must be a neighbour, or the source, which must be an address of this node"
        }
        _ => return error,
    };
    NetlinkError::Protocol { operation, reason: reason.to_owned() }
}

impl Netlink {
    /// A socket on which the kernel takes the fields of a request for a list as a filter.
    fn open_strict() -> Result<Self, NetlinkError> {
        let (mut connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        let strict: io::Result<()> =
            rtnetlink::sys::AsyncSocket::socket_mut(connection.socket_mut()).set_netlink_get_strict_chk(true);
        strict.map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self { handle, listing: std::sync::Arc::default() })
    }
}
