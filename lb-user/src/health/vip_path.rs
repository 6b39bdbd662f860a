//! Does a backend take what is sent to the VIP? The configured check asks the backend's own address; a `dr`
//! backend serves only what arrives under the VIP, at its MAC. So a connection to the VIP is begun along that
//! path, and broken off as soon as it is answered.

mod segment;

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket},
};

use lb_common::Mac;

use self::segment::{Answer, Opening};
use super::{ProbeError, error::words};
use crate::net::{PacketSocket, PacketSocketError};

/// Above Linux's default range of ephemeral ports (32768–60999): no connection of this node uses one of
/// these.
const SOURCE_PORTS: std::ops::Range<u16> = 61_000..65_535;

/// The way from this node to a backend that packets for the VIP take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VipPath {
    /// The VIP is not asked for at this backend: it is this node, it gets packets under its own address
    /// (`nat`), or the service is not TCP.
    #[default]
    NotAsked,
    /// The backend's MAC is not known (yet).
    Unresolved,
    /// As the data plane forwards.
    Resolved {
        /// The index of the interface packets leave by, with its MAC as their sender.
        interface: u32,
        /// The MAC they go to.
        mac: Mac,
    },
}

/// Asks for `vip` at the neighbour with that MAC, from `source` (`None`: the address the kernel would take
/// towards `backend`). Waits for ever when nobody answers; dropped or done, it leaves nothing half-open.
pub(super) async fn ask(
    interface: u32,
    mac: Mac,
    vip: SocketAddrV4,
    backend: Ipv4Addr,
    source: Option<IpAddr>,
) -> Result<(), ProbeError> {
    let source = match source {
        Some(IpAddr::V4(source)) => source,
        Some(IpAddr::V6(_)) | None => {
            source_towards(backend).map_err(|error| ProbeError::Socket(words(&error)))?
        }
    };
    let random = RandomState::new().hash_one(0);
    let port = SOURCE_PORTS.start + (random >> 32) as u16 % (SOURCE_PORTS.end - SOURCE_PORTS.start);
    let opening = Opening { source: SocketAddrV4::new(source, port), vip, sequence: random as u32 };
    let mut half_open = HalfOpen::begin(opening, interface, mac).map_err(|error| unable(&error))?;
    match half_open.answer().await.map_err(|error| unable(&error))? {
        Answer::Accepted => Ok(()),
        Answer::Refused => Err(ProbeError::VipRefused { vip, backend }),
    }
}

/// A connection that was begun; dropping it resets it at the backend.
struct HalfOpen {
    socket: PacketSocket,
    opening: Opening,
    interface: u32,
    mac: Mac,
    refused: bool,
}

impl HalfOpen {
    fn begin(opening: Opening, interface: u32, mac: Mac) -> Result<Self, PacketSocketError> {
        let socket = PacketSocket::open(opening.vip, opening.source)?;
        socket.send(interface, mac, &opening.syn())?;
        Ok(Self { socket, opening, interface, mac, refused: false })
    }

    async fn answer(&mut self) -> Result<Answer, PacketSocketError> {
        loop {
            if let Some(answer) = self.opening.answer(&self.socket.recv().await?) {
                self.refused = answer == Answer::Refused;
                return Ok(answer);
            }
        }
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        if self.refused {
            return;
        }
        if let Err(error) = self.socket.send(self.interface, self.mac, &self.opening.reset()) {
            // The backend gives up by itself after about a minute.
            tracing::debug!(vip = %self.opening.vip, %error, "probe of the VIP not reset");
        }
    }
}

fn unable(error: &PacketSocketError) -> ProbeError {
    ProbeError::Packet(error.to_string())
}

/// The address the kernel would send from; nothing is sent.
fn source_towards(backend: Ipv4Addr) -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // Any port but 0 will do.
    socket.connect((backend, 9))?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}
