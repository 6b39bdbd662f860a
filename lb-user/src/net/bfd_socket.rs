//! The UDP sockets that carry the BFD packets of one interface and source address (RFC 5881 §4, §5).

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr, SocketAddrV6},
    os::fd::AsRawFd as _,
    task::{Context, Poll},
};

use nix::{
    net::if_::if_nametoindex,
    sys::socket::{
        ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt,
        sockopt::{Ipv4RecvTtl, Ipv6RecvHopLimit},
    },
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use crate::bfd::packet::{Datagram, PORT, TTL};

/// DSCP CS6, network control, as adverts have it.
const NETWORK_CONTROL: u32 = 0xc0;
/// The source port tells nobody anything, but must be one of these, and a session's own (RFC 5881 §4).
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;
/// More than the longest packet, 255 bytes by its length field.
const BUFFER_LENGTH: usize = 512;

/// Why the sockets could not be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum BfdSocketError {
    /// A socket could not be made or set up.
    #[error("BFD socket on interface {interface}, source {source_address}: {call}: {error}{}", remedy(error))]
    Open {
        /// The interface.
        interface: String,
        /// The source address.
        source_address: IpAddr,
        /// The system call or socket option.
        call: &'static str,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// A packet could not be sent.
    #[error("sending a BFD packet to {peer} on interface {interface}: {error}{}", remedy(error))]
    Send {
        /// The interface.
        interface: String,
        /// The peer's address.
        peer: IpAddr,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// Receiving failed; the interface may have gone down. Receive again.
    #[error("receiving BFD on interface {interface}: {error}{}", remedy(error))]
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
        Some(libc::EADDRINUSE) => {
            " (another program, such as FRR's bfdd or keepalived, has UDP port 3784: stop it, or write bfd = \"off\")"
        }
        Some(libc::EADDRNOTAVAIL) => {
            " (this node has no such address: see `ip address`, and `unicast.source` in the configuration)"
        }
        Some(libc::EPERM | libc::EACCES) => {
            " (it needs CAP_NET_RAW: run as root, or give the capability; for sending, a firewall may forbid it)"
        }
        Some(libc::ENODEV) => " (there is no such interface: see `ip link`)",
        Some(libc::ENETDOWN) => " (the interface is down: `ip link set … up`)",
        Some(libc::ENETUNREACH) => " (no route to the peer on that interface: see `ip route get`)",
        _ => "",
    }
}

/// One socket that receives what is sent to [`PORT`] of the source address by the interface, and one to send from
/// for each peer.
///
/// They stay with the interface they were opened on: when that is deleted and made again under the same name,
/// open new ones.
#[derive(Debug)]
pub struct BfdSocket {
    receiver: AsyncFd<Socket>,
    senders: Vec<(IpAddr, Socket)>,
    interface: String,
    /// Needed to name a link-local peer.
    index: u32,
}

impl BfdSocket {
    /// Opens the sockets; within a tokio runtime.
    pub fn open(interface: &str, source: IpAddr, peers: &[IpAddr]) -> Result<Self, BfdSocketError> {
        let failed = |call| {
            move |error| BfdSocketError::Open {
                interface: interface.to_owned(),
                source_address: source,
                call,
                error,
            }
        };
        let index = if_nametoindex(interface).map_err(|error| failed("if_nametoindex")(error.into()))?;
        let socket = || -> Result<Socket, BfdSocketError> {
            let socket = Socket::new(Domain::for_address(at(source, 0, 0)), Type::DGRAM, Some(Protocol::UDP))
                .map_err(failed("socket"))?;
            socket.bind_device(Some(interface.as_bytes())).map_err(failed("SO_BINDTODEVICE"))?;
            socket.set_nonblocking(true).map_err(failed("O_NONBLOCK"))?;
            Ok(socket)
        };

        let receiver = socket()?;
        let told_ttl = if source.is_ipv4() {
            setsockopt(&receiver, Ipv4RecvTtl, &true)
        } else {
            setsockopt(&receiver, Ipv6RecvHopLimit, &true)
        };
        told_ttl.map_err(|error| failed("IP_RECVTTL")(error.into()))?;
        receiver.bind(&at(source, PORT, index).into()).map_err(failed("bind"))?;

        let mut senders = Vec::new();
        for peer in peers {
            let sender = socket()?;
            let set = if source.is_ipv4() {
                sender.set_ttl_v4(TTL.into()).and_then(|()| sender.set_tos_v4(NETWORK_CONTROL))
            } else {
                sender.set_unicast_hops_v6(TTL.into()).and_then(|()| sender.set_tclass_v6(NETWORK_CONTROL))
            };
            set.map_err(failed("IP_TTL, IP_TOS"))?;
            bind_to_free_port(&sender, source, index).map_err(failed("bind"))?;
            senders.push((*peer, sender));
        }
        // SAFETY: the descriptor is the socket's own, which stays open and the same as long as it lives.
        let receiver = unsafe { AsyncFd::register(receiver) };
        let receiver = receiver.map_err(|error| failed("epoll")(error.into()))?;
        Ok(Self { receiver, senders, interface: interface.to_owned(), index })
    }

    /// The peers it can send to.
    pub fn peers(&self) -> impl Iterator<Item = IpAddr> {
        self.senders.iter().map(|(peer, _)| *peer)
    }

    /// Ready when a packet may have arrived; then it is to be emptied by [`try_recv`](Self::try_recv).
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.receiver.poll_read_ready(context).map(|ready| {
            // An error shows itself when the packet is read.
            if let Ok(mut ready) = ready {
                ready.retain_ready();
            }
        })
    }

    /// A packet that has already arrived, if there is one.
    pub fn try_recv(&self) -> Result<Option<Datagram>, BfdSocketError> {
        loop {
            // The socket itself is asked first: after a freeze the runtime may not have heard of the packet yet.
            // Asked through the runtime, an empty socket ends the readiness that `poll_readable` waits for.
            let result = match read(self.receiver.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.receiver.try_io(Interest::READABLE, read)
                }
                result => result,
            };
            match result {
                Ok(Some(datagram)) => return Ok(Some(datagram)),
                // Without a source address or a TTL: the kernel does not hand such over.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => {
                    return Err(BfdSocketError::Receive { interface: self.interface.clone(), error });
                }
            }
        }
    }

    /// Sends a packet to a peer. Never waits: a full send buffer is an error.
    ///
    /// `Ok` means that the kernel took it; the peer's MAC may still have to be resolved.
    pub fn send(&self, peer: IpAddr, payload: &[u8]) -> Result<(), BfdSocketError> {
        let sender = self.senders.iter().find(|(known, _)| *known == peer);
        let sent = match sender {
            Some((_, sender)) => sender.send_to(payload, &at(peer, PORT, self.index).into()),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        sent.map(drop).map_err(|error| BfdSocketError::Send {
            interface: self.interface.clone(),
            peer,
            error,
        })
    }
}

/// A port of the range that no other socket of this address has, beginning anywhere.
fn bind_to_free_port(socket: &Socket, source: IpAddr, index: u32) -> io::Result<()> {
    let count = SOURCE_PORTS.len() as u64;
    let anywhere = crate::time::Timestamp::now().0 % count;
    for step in 0..count {
        // Invariant: the remainder is below the range's length.
        let port = SOURCE_PORTS.start() + u16::try_from((anywhere + step) % count).unwrap_or(0);
        match socket.bind(&at(source, port, index).into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// A link-local address means nothing without its interface.
fn at(address: IpAddr, port: u16, index: u32) -> SocketAddr {
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            SocketAddrV6::new(address, port, 0, index).into()
        }
        address => SocketAddr::new(address, port),
    }
}

/// One datagram; `None` if the kernel did not say whence and with what TTL it came.
fn read(socket: &Socket) -> io::Result<Option<Datagram>> {
    let mut buffer = [0; BUFFER_LENGTH];
    let mut control = nix::cmsg_space!(libc::c_int);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let ttl = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => u8::try_from(ttl).ok(),
        _ => None,
    });
    let source = message.address.as_ref().and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    });
    let length = message.bytes;
    Ok(source.zip(ttl).map(|(source, ttl)| Datagram { source, ttl, payload: buffer[..length].to_vec() }))
}
