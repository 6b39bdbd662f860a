//! The kernel's neighbour table: which MAC a next hop has, and keeping it known.
//!
//! The XDP program cannot resolve a MAC itself, and the packets it forwards do not keep the kernel's entries
//! fresh. So every next hop is marked as in use (NTF_USE starts a resolution at once) and as managed
//! (NTF_EXT_MANAGED: Linux 5.16 and later resolve it again by themselves). Older kernels ignore the second
//! mark; [`NeighbourKeeper::refresh`], called every [`REFRESH`], does the same for them, and for entries that
//! somebody flushed.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
    time::Duration,
};

use lb_common::Mac;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
        NeighbourState,
    },
};

use super::netlink::{Netlink, NetlinkError, collect};

/// How often to call [`NeighbourKeeper::refresh`].
pub const REFRESH: Duration = Duration::from_secs(5);

/// Where packets go next: an address in the network of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHop {
    /// The interface.
    pub index: u32,
    /// A host's address, or a router's.
    pub address: IpAddr,
}

/// What the kernel knows of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Neighbour {
    /// Which one.
    pub next_hop: NextHop,
    /// Its MAC; `None` while it is not resolved.
    pub mac: Option<Mac>,
}

impl Neighbour {
    pub(super) fn parse(message: &NeighbourMessage) -> Option<Self> {
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
            _ => None,
        })?;
        let known = matches!(
            message.header.state,
            NeighbourState::Reachable
                | NeighbourState::Stale
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Permanent
                | NeighbourState::Noarp
        );
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac)
            }
            _ => None,
        });
        let next_hop = NextHop { index: message.header.ifindex, address };
        Some(Self { next_hop, mac: mac.filter(|_| known) })
    }
}

impl Netlink {
    /// All entries of the neighbour tables of both families.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, NetlinkError> {
        self.neighbour_tables(Neighbour::parse).await
    }

    async fn neighbour_tables<T>(
        &self,
        parse: impl Fn(&NeighbourMessage) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        let _listing = self.listing.lock().await;
        let mut all = Vec::new();
        // One by one: without a family the kernel lists the forwarding tables of bridges as well.
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let request = self.handle.neighbours().get().set_address_family(family).execute();
            all.extend(collect("listing neighbours", request, &parse).await?);
        }
        Ok(all)
    }

    /// The entries somebody set by hand (`ip neighbour … nud permanent`), which must be left as they are.
    async fn static_neighbours(&self) -> Result<HashSet<NextHop>, NetlinkError> {
        let parse = |message: &NeighbourMessage| {
            matches!(message.header.state, NeighbourState::Permanent | NeighbourState::Noarp)
                .then(|| Neighbour::parse(message))
                .flatten()
                .map(|neighbour| neighbour.next_hop)
        };
        Ok(self.neighbour_tables(parse).await?.into_iter().collect())
    }

    async fn use_neighbour(&self, next_hop: NextHop, managed: bool) -> Result<(), NetlinkError> {
        let NextHop { index, address } = next_hop;
        let mut message = NeighbourMessage::default();
        let (family, destination) = match address {
            IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
            IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
        };
        message.header.family = family;
        message.header.ifindex = index;
        message.header.state = NeighbourState::None;
        message.header.flags = NeighbourFlags::Use;
        message.attributes.push(NeighbourAttribute::Destination(destination));
        if managed {
            message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        }
        let operation = format!("resolving neighbour {address} on interface number {index}");
        let flags = if managed { NLM_F_CREATE | NLM_F_REPLACE } else { NLM_F_REPLACE };
        self.acknowledged(&operation, RouteNetlinkMessage::NewNeighbour(message), flags).await
    }
}

/// A next hop that could not be marked, and why.
pub type Failure = (NextHop, NetlinkError);

/// Keeps a set of next hops resolved. What becomes of them is told by
/// [`NetEvent::Neighbour`](super::NetEvent::Neighbour).
#[derive(Debug)]
pub struct NeighbourKeeper {
    netlink: Netlink,
    next_hops: BTreeSet<NextHop>,
}

impl NeighbourKeeper {
    /// A keeper of nothing.
    pub fn new(netlink: Netlink) -> Self {
        Self { netlink, next_hops: BTreeSet::new() }
    }

    /// Sets which next hops to keep resolved: new ones are resolved at once, those no longer named are left
    /// to the kernel. Returns those that failed; [`refresh`](Self::refresh) tries them again.
    pub async fn set(&mut self, next_hops: BTreeSet<NextHop>) -> Result<Vec<Failure>, NetlinkError> {
        if next_hops == self.next_hops {
            return Ok(Vec::new());
        }
        let fixed = self.netlink.static_neighbours().await?;
        for gone in self.next_hops.difference(&next_hops).filter(|next_hop| !fixed.contains(next_hop)) {
            if let Err(error) = self.netlink.use_neighbour(*gone, false).await {
                // The entry or its interface is gone: nothing is left to release.
                tracing::debug!(%error, "neighbour not released");
            }
        }
        let new: Vec<NextHop> = next_hops.difference(&self.next_hops).copied().collect();
        self.next_hops = next_hops;
        Ok(self.resolve(&new, &fixed).await)
    }

    /// Has every next hop resolved again that needs it; call it every [`REFRESH`]. Returns those that failed.
    pub async fn refresh(&mut self) -> Result<Vec<Failure>, NetlinkError> {
        if self.next_hops.is_empty() {
            return Ok(Vec::new());
        }
        let fixed = self.netlink.static_neighbours().await?;
        let all: Vec<NextHop> = self.next_hops.iter().copied().collect();
        Ok(self.resolve(&all, &fixed).await)
    }

    async fn resolve(&self, next_hops: &[NextHop], fixed: &HashSet<NextHop>) -> Vec<Failure> {
        let mut failures = Vec::new();
        for next_hop in next_hops.iter().filter(|next_hop| !fixed.contains(next_hop)) {
            if let Err(error) = self.netlink.use_neighbour(*next_hop, true).await {
                failures.push((*next_hop, error));
            }
        }
        failures
    }
}
