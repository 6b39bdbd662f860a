//! The raw socket that carries adverts of IP protocol 112 on one interface, from one source address.

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    task::{Context, Poll},
};

use etherparse::Ipv4HeaderSlice;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use crate::vrrp::packet::{Datagram, IP_PROTOCOL, TTL};

/// DSCP CS6, network control: what routers and switches expect routing protocols to carry.
const TOS_NETWORK_CONTROL: u32 = 0xc0;
/// More than the largest advert (255 addresses: 1,036 bytes) with the largest IP header (60 bytes).
const BUFFER_LENGTH: usize = 2048;

/// Why the socket could not be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum VrrpSocketError {
    /// The socket could not be made or set up.
    #[error(
        "VRRP socket on interface {interface}, source {source_address}: {call}: {error}{}",
        remedy(error)
    )]
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
    /// An advert could not be sent.
    #[error("sending a VRRP advert to {peer} on interface {interface}: {error}{}", remedy(error))]
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
        Some(libc::EADDRNOTAVAIL) => {
            " (this node has no such address: see `ip address`, and `unicast.source` in the configuration)"
        }
        Some(libc::ENODEV) => " (there is no such interface: see `ip link`)",
        Some(libc::ENETDOWN) => " (the interface is down: `ip link set … up`)",
        Some(libc::ENETUNREACH) => " (no route to the peer on that interface: see `ip route get`)",
        _ => "",
    }
}

/// A raw socket for adverts, bound to an interface and to the source address, so that it receives only what
/// is sent to that address, and never what this node sends itself.
///
/// It stays with the interface it was opened on: when that is deleted and made again under the same name,
/// open a new one.
#[derive(Debug)]
pub struct VrrpSocket {
    socket: AsyncFd<Socket>,
    interface: String,
}

impl VrrpSocket {
    /// Opens the socket; within a tokio runtime. Needs CAP_NET_RAW.
    pub fn open(interface: &str, source: IpAddr) -> Result<Self, VrrpSocketError> {
        let failed = |call| {
            move |error| VrrpSocketError::Open {
                interface: interface.to_owned(),
                source_address: source,
                call,
                error,
            }
        };
        let protocol = Protocol::from(i32::from(IP_PROTOCOL));
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol)).map_err(failed("socket"))?;
        socket.bind_device(Some(interface.as_bytes())).map_err(failed("SO_BINDTODEVICE"))?;
        socket.bind(&SocketAddr::new(source, 0).into()).map_err(failed("bind"))?;
        socket.set_ttl_v4(u32::from(TTL)).map_err(failed("IP_TTL"))?;
        socket.set_tos_v4(TOS_NETWORK_CONTROL).map_err(failed("IP_TOS"))?;
        socket.set_nonblocking(true).map_err(failed("O_NONBLOCK"))?;
        // SAFETY: the descriptor is the socket's own, which stays open and the same as long as it lives.
        let socket = unsafe { AsyncFd::register(socket) };
        let socket = socket.map_err(|error| failed("epoll")(error.into()))?;
        Ok(Self { socket, interface: interface.to_owned() })
    }

    /// Waits for a packet. Cancel safe. An error is not final: receive again.
    pub async fn recv(&self) -> Result<Datagram, VrrpSocketError> {
        loop {
            let mut guard = self.socket.readable().await.map_err(|error| self.receive_error(error))?;
            match guard.try_io(|socket| read(socket.get_ref())) {
                Ok(Ok(Some(datagram))) => return Ok(datagram),
                // Not an IPv4 packet: the kernel does not hand such over; wait for the next.
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
            let result = match read(self.socket.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.try_io(Interest::READABLE, read)
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

    /// Sends a message (what follows the IP header) to a peer. Never waits: a full send buffer is an error.
    ///
    /// `Ok` means that the kernel took it; the peer's MAC may still have to be resolved.
    pub fn send(&self, peer: IpAddr, payload: &[u8]) -> Result<(), VrrpSocketError> {
        let address = SocketAddr::new(peer, 0).into();
        match self.socket.get_ref().send_to(payload, &address) {
            // A raw socket sends all or nothing.
            Ok(_) => Ok(()),
            Err(error) => Err(VrrpSocketError::Send { interface: self.interface.clone(), peer, error }),
        }
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

/// One packet; `None` if it does not begin with an IPv4 header.
fn read(socket: &Socket) -> io::Result<Option<Datagram>> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER_LENGTH];
    let length = socket.recv(&mut buffer)?;
    // SAFETY: the kernel has written the first `length` bytes of the buffer, and u8 has no invalid values.
    let bytes = unsafe { buffer[..length].assume_init_ref() };
    Ok(parse(bytes))
}

fn parse(bytes: &[u8]) -> Option<Datagram> {
    let header = Ipv4HeaderSlice::from_slice(bytes).ok()?;
    let payload = bytes[header.slice().len()..].to_vec();
    Some(Datagram { source: header.source_addr().into(), ttl: header.ttl(), payload })
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
            Datagram { source: Ipv4Addr::new(192, 0, 2, 1).into(), ttl: 254, payload: vec![1, 2, 3] }
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
            source_address: Ipv4Addr::new(192, 0, 2, 1).into(),
            call: "bind",
            error: io::Error::from_raw_os_error(libc::EADDRNOTAVAIL),
        };
        let text = error.to_string();
        for part in ["eth0", "192.0.2.1", "bind", "unicast.source"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
