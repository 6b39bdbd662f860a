//! The raw socket that carries adverts of IP protocol 112 on one interface, to one address or group.
//!
//! Checksums are the codec's: the kernel sums up raw packets of IPv6 only for ICMPv6, or where IPV6_CHECKSUM asks it to.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd as _,
    task::{Context, Poll},
};

use etherparse::Ipv4HeaderSlice;
use nix::{
    cmsg_space,
    errno::Errno,
    net::if_::if_nametoindex,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, recvmsg, sendmsg},
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockFilter, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    config::{Transport, VirtualRouter},
    vrrp::packet::{Acceptance, Datagram, IP_PROTOCOL, MAX_LENGTH, TTL},
};

/// DSCP CS6, network control: what routers and switches expect routing protocols to carry.
const NETWORK_CONTROL: u32 = 0xc0;
/// More than the largest advert with the largest IPv4 header (60 bytes).
const BUFFER_LENGTH: usize = MAX_LENGTH + 64;

/// Why the socket could not be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum VrrpSocketError {
    /// The socket could not be made or set up.
    #[error("VRRP socket on interface {interface} for {address}: {call}: {error}{}", remedy(error))]
    Open {
        /// The interface.
        interface: String,
        /// The address it is for: this node's or a group.
        address: IpAddr,
        /// The system call or socket option.
        call: &'static str,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// An advert could not be sent.
    #[error(
        "sending a VRRP advert from {source_address} to {destination} on interface {interface}: {error}{}",
        remedy(error)
    )]
    Send {
        /// The interface.
        interface: String,
        /// The source address.
        source_address: IpAddr,
        /// The peer's address, or the group.
        destination: IpAddr,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// Receiving failed; the interface may have gone down. Receive again.
    #[error("receiving VRRP on interface {interface}: {error}{}", remedy(error))]
    Receive {
        /// The interface.
        interface: String,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            " (it needs CAP_NET_RAW: run as root, or give the capability; for sending, a firewall may forbid it)"
        }
        // IPv6 answers EINVAL for the source of a single packet.
        Some(libc::EADDRNOTAVAIL | libc::EINVAL) => {
            " (this node has no such address, or not yet: see `ip address`, and `source` in the configuration)"
        }
        Some(libc::ENODEV) => " (there is no such interface: see `ip link`)",
        Some(libc::ENETDOWN) => " (the interface is down: `ip link set … up`)",
        Some(libc::ENETUNREACH) => {
            " (no route to it on that interface and from that source: see `ip route get`)"
        }
        _ => "",
    }
}

/// What a socket receives, beside being for one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// What is sent to this node's own address.
    Unicast(IpAddr),
    /// What is sent to a group.
    Multicast(IpAddr),
}

impl From<&VirtualRouter> for Listen {
    fn from(router: &VirtualRouter) -> Self {
        match router.transport {
            Transport::Unicast { source, .. } => Self::Unicast(source),
            Transport::Multicast { group, .. } => Self::Multicast(group),
        }
    }
}

impl From<&Acceptance> for Listen {
    fn from(acceptance: &Acceptance) -> Self {
        acceptance.group.map_or(Self::Unicast(acceptance.source), Self::Multicast)
    }
}

impl Listen {
    fn address(self) -> IpAddr {
        match self {
            Self::Unicast(address) | Self::Multicast(address) => address,
        }
    }
}

/// A raw socket for adverts of one family, bound to an interface and to an address, so that it receives only what is
/// sent to that address, and never what this node sends itself.
///
/// It stays with the interface it was opened on: when that is deleted and made again under the same name,
/// open a new one, which joins the group anew.
#[derive(Debug)]
pub struct VrrpSocket {
    socket: AsyncFd<Socket>,
    interface: String,
    /// Where all that is received was sent to.
    local: IpAddr,
}

impl VrrpSocket {
    /// Opens the socket; within a tokio runtime. Needs CAP_NET_RAW.
    pub fn open(interface: &str, listen: Listen) -> Result<Self, VrrpSocketError> {
        let local = listen.address();
        let failed = |call| {
            move |error| VrrpSocketError::Open {
                interface: interface.to_owned(),
                address: local,
                call,
                error,
            }
        };
        let protocol = Protocol::from(i32::from(IP_PROTOCOL));
        let domain = if local.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).map_err(failed("socket"))?;
        // With it link-local addresses and groups need no scope of their own.
        socket.bind_device(Some(interface.as_bytes())).map_err(failed("SO_BINDTODEVICE"))?;
        socket.bind(&SocketAddr::new(local, 0).into()).map_err(failed("bind"))?;
        match local {
            IpAddr::V4(_) => {
                socket.set_ttl_v4(u32::from(TTL)).map_err(failed("IP_TTL"))?;
                socket.set_tos_v4(NETWORK_CONTROL).map_err(failed("IP_TOS"))?;
            }
            IpAddr::V6(_) => {
                socket.set_unicast_hops_v6(u32::from(TTL)).map_err(failed("IPV6_UNICAST_HOPS"))?;
                socket.set_tclass_v6(NETWORK_CONTROL).map_err(failed("IPV6_TCLASS"))?;
                socket.set_recv_hoplimit_v6(true).map_err(failed("IPV6_RECVHOPLIMIT"))?;
            }
        }
        if let Listen::Multicast(group) = listen {
            let index = if_nametoindex(interface).map_err(|error| failed("if_nametoindex")(error.into()))?;
            join(&socket, group, index).map_err(|(call, error)| failed(call)(error))?;
        }
        socket.set_nonblocking(true).map_err(failed("O_NONBLOCK"))?;
        // SAFETY: the descriptor is the socket's own, which stays open and the same as long as it lives.
        let socket = unsafe { AsyncFd::register(socket) };
        let socket = socket.map_err(|error| failed("epoll")(error.into()))?;
        Ok(Self { socket, interface: interface.to_owned(), local })
    }

    /// Waits for a packet. Cancel safe. An error is not final: receive again.
    pub async fn recv(&self) -> Result<Datagram, VrrpSocketError> {
        loop {
            let mut guard = self.socket.readable().await.map_err(|error| self.receive_error(error))?;
            match guard.try_io(|socket| read(socket.get_ref(), self.local)) {
                Ok(Ok(Some(datagram))) => return Ok(datagram),
                // No IP packet at all: the kernel does not hand such over; wait for the next.
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(error)) => return Err(self.receive_error(error)),
            }
        }
    }

    /// Waits until a packet may have arrived, then empty the socket by [`try_recv`](Self::try_recv). Cancel safe.
    pub async fn readable(&self) -> io::Result<()> {
        let mut ready = self.socket.readable().await?;
        ready.retain_ready();
        Ok(())
    }

    /// [`readable`](Self::readable) for whoever waits for several at once. It wakes the task that asked last.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        // An error is there to be met by `try_recv`.
        self.socket.poll_read_ready(context).map(|ready| drop(ready.map(|mut ready| ready.retain_ready())))
    }

    /// A packet that has already arrived, if there is one. A node drains the socket by it before it lets a
    /// timeout decide anything.
    pub fn try_recv(&self) -> Result<Option<Datagram>, VrrpSocketError> {
        loop {
            // The socket itself is asked first: after a freeze the runtime may not have heard of the packet yet.
            // Asked through the runtime, an empty socket ends the readiness that `readable` waits for.
            let result = match read(self.socket.get_ref(), self.local) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.try_io(Interest::READABLE, |socket| read(socket, self.local))
                }
                result => result,
            };
            match result {
                Ok(Some(datagram)) => return Ok(Some(datagram)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(self.receive_error(error)),
            }
        }
    }

    /// Sends a message (what follows the IP header) from `source`, an address of this node, to a peer or a group. Never
    /// waits: a full send buffer is an error.
    ///
    /// `Ok` means that the kernel took it; the peer's MAC may still have to be resolved.
    pub fn send(&self, source: IpAddr, destination: IpAddr, payload: &[u8]) -> Result<(), VrrpSocketError> {
        let descriptor = self.socket.get_ref().as_raw_fd();
        let payload = [IoSlice::new(payload)];
        let flags = MsgFlags::empty();
        // A raw socket sends all or nothing.
        let sent = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let from = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from(source).to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let to = SockaddrIn::from(SocketAddrV4::new(destination, 0));
                sendmsg(descriptor, &payload, &[ControlMessage::Ipv4PacketInfo(&from)], flags, Some(&to))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let from = libc::in6_pktinfo {
                    ipi6_ifindex: 0,
                    ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
                };
                let to = SockaddrIn6::from(SocketAddrV6::new(destination, 0, 0, 0));
                sendmsg(descriptor, &payload, &[ControlMessage::Ipv6PacketInfo(&from)], flags, Some(&to))
            }
            _ => Err(Errno::EAFNOSUPPORT),
        };
        let failed = |error: Errno| VrrpSocketError::Send {
            interface: self.interface.clone(),
            source_address: source,
            destination,
            error: error.into(),
        };
        sent.map(drop).map_err(failed)
    }

    /// Has the kernel drop what arrives, so that a socket nobody reads does not fill. What has arrived stays.
    pub fn stop_hearing(&self) -> io::Result<()> {
        const DROP_ALL: SockFilter = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
        self.socket.get_ref().attach_filter(&[DROP_ALL])
    }

    /// Undoes [`stop_hearing`](Self::stop_hearing).
    pub fn hear(&self) -> io::Result<()> {
        self.socket.get_ref().detach_filter()
    }

    fn receive_error(&self, error: io::Error) -> VrrpSocketError {
        VrrpSocketError::Receive { interface: self.interface.clone(), error }
    }
}

/// Joins a group, and never hears this node's own adverts to it.
fn join(socket: &Socket, group: IpAddr, index: u32) -> Result<(), (&'static str, io::Error)> {
    let at = |call| move |error| (call, error);
    match group {
        IpAddr::V4(group) => {
            let interface = InterfaceIndexOrAddress::Index(index);
            socket.join_multicast_v4_n(&group, &interface).map_err(at("IP_ADD_MEMBERSHIP"))?;
            socket.set_multicast_ttl_v4(u32::from(TTL)).map_err(at("IP_MULTICAST_TTL"))?;
            socket.set_multicast_loop_v4(false).map_err(at("IP_MULTICAST_LOOP"))
        }
        IpAddr::V6(group) => {
            socket.join_multicast_v6(&group, index).map_err(at("IPV6_JOIN_GROUP"))?;
            socket.set_multicast_hops_v6(u32::from(TTL)).map_err(at("IPV6_MULTICAST_HOPS"))?;
            socket.set_multicast_loop_v6(false).map_err(at("IPV6_MULTICAST_LOOP"))
        }
    }
}

/// One packet to `local`; `None` if it is not what its family's packets are like.
fn read(socket: &Socket, local: IpAddr) -> io::Result<Option<Datagram>> {
    let mut buffer = [0; BUFFER_LENGTH];
    if local.is_ipv4() {
        let length = nix::sys::socket::recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        return Ok(parse(&buffer[..length]));
    }
    // Raw sockets of IPv6 hand over no header; what was in it comes beside the payload.
    let mut control = cmsg_space!(libc::c_int);
    let mut pieces = [IoSliceMut::new(&mut buffer)];
    let message =
        recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut pieces, Some(&mut control), MsgFlags::empty())?;
    let ttl = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv6HopLimit(limit) => u8::try_from(limit).ok(),
        _ => None,
    });
    let source = message.address.map(|address| IpAddr::V6(address.ip()));
    let length = message.bytes;
    let received = source.zip(ttl).map(|(source, ttl)| Datagram {
        source,
        destination: local,
        ttl,
        payload: buffer[..length].to_vec(),
    });
    Ok(received)
}

fn parse(bytes: &[u8]) -> Option<Datagram> {
    let header = Ipv4HeaderSlice::from_slice(bytes).ok()?;
    Some(Datagram {
        source: header.source_addr().into(),
        destination: header.destination_addr().into(),
        ttl: header.ttl(),
        payload: bytes[header.slice().len()..].to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn header_with_options_is_skipped_and_its_fields_kept() {
        let mut bytes = vec![
            0x46, 0xc0, 0, 27, 0, 1, 0, 0, 254, 112, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, // header
            0x94, 4, 0, 0, // router alert
        ];
        bytes.extend([1, 2, 3]);
        let datagram = parse(&bytes).expect("an IPv4 packet");
        assert_eq!(
            datagram,
            Datagram {
                source: Ipv4Addr::new(192, 0, 2, 1).into(),
                destination: Ipv4Addr::new(192, 0, 2, 2).into(),
                ttl: 254,
                payload: vec![1, 2, 3]
            }
        );
    }

    #[test]
    fn what_is_no_ipv4_packet_is_nothing() {
        for bytes in [&[][..], &[0x45; 19], &[0x60; 40], &[0x4f; 24]] {
            assert_eq!(parse(bytes), None, "{bytes:x?}");
        }
    }

    #[test]
    fn errors_name_interface_address_and_remedy() {
        let error = VrrpSocketError::Open {
            interface: "eth0".to_owned(),
            address: Ipv4Addr::new(192, 0, 2, 1).into(),
            call: "bind",
            error: io::Error::from_raw_os_error(libc::EADDRNOTAVAIL),
        };
        let text = error.to_string();
        for part in ["eth0", "192.0.2.1", "bind", "`source`"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
