//! A packet socket for single IPv4 conversations past the kernel's routing: the caller says which interface
//! and MAC a packet goes to, and a filter in the kernel lets only the answers in.

use std::{
    io,
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddrV4},
};

use lb_common::Mac;
use socket2::{Domain, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use tokio::{io::unix::AsyncFd, runtime::Handle};

/// What is kept of a packet: the longest IPv4 and TCP headers together have 120 bytes.
const BUFFER_LENGTH: usize = 256;
const PROTOCOL_TCP: u32 = 6;

/// Why a packet socket could not be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum PacketSocketError {
    /// The socket could not be made or set up.
    #[error("packet socket: {call}: {error} (it needs CAP_NET_RAW: run as root, or give the capability)")]
    Open {
        /// The system call or socket option.
        call: &'static str,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// A packet could not be sent.
    #[error("sending to {mac} through interface number {interface}: {error}")]
    Send {
        /// The interface index.
        interface: u32,
        /// The receiver.
        mac: Mac,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// Receiving failed; an interface may have gone down.
    #[error("receiving from a packet socket: {0}")]
    Receive(#[source] io::Error),
}

/// Receives the TCP packets of one direction of one connection, on every interface: a neighbour answers by
/// the way its own routes say. Packets begin with their IPv4 header; the kernel writes and takes off what is
/// before it (the interface's own MAC as the sender, VLAN tags).
///
/// Closing one takes the kernel some 20 ms, for which a thread waits that has nothing else to do.
#[derive(Debug)]
pub struct PacketSocket(Option<AsyncFd<Socket>>);

impl PacketSocket {
    /// Opens a socket for TCP packets from `from` to `to`; within a tokio runtime. Needs CAP_NET_RAW.
    pub fn open(from: SocketAddrV4, to: SocketAddrV4) -> Result<Self, PacketSocketError> {
        let failed = |call| move |error| PacketSocketError::Open { call, error };
        // Without a protocol it receives nothing yet: nothing gets in before the filter.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None).map_err(failed("socket"))?;
        socket.set_nonblocking(true).map_err(failed("O_NONBLOCK"))?;
        socket.attach_filter(&filter(from, to)).map_err(failed("SO_ATTACH_FILTER"))?;
        socket.bind(&link_address(0, Mac([0; 6]))).map_err(failed("bind"))?;
        // SAFETY: the descriptor is the socket's own, which stays open and the same as long as it lives.
        let socket = unsafe { AsyncFd::register(socket) };
        Ok(Self(Some(socket.map_err(|error| failed("epoll")(error.into()))?)))
    }

    fn socket(&self) -> &AsyncFd<Socket> {
        // Invariant: only the drop takes it.
        self.0.as_ref().expect("a socket that is not dropped")
    }

    /// Sends an IPv4 packet, complete with checksums, to the neighbour with that MAC. Never waits.
    pub fn send(&self, interface: u32, mac: Mac, packet: &[u8]) -> Result<(), PacketSocketError> {
        // A packet socket sends all or nothing.
        match self.socket().get_ref().send_to(packet, &link_address(interface, mac)) {
            Ok(_) => Ok(()),
            Err(error) => Err(PacketSocketError::Send { interface, mac, error }),
        }
    }

    /// Waits for a packet; its first 256 bytes. Cancel safe.
    pub async fn recv(&self) -> Result<Vec<u8>, PacketSocketError> {
        loop {
            let mut guard = self.socket().readable().await.map_err(PacketSocketError::Receive)?;
            match guard.try_io(|socket| read(socket.get_ref())) {
                Ok(result) => return result.map_err(PacketSocketError::Receive),
                Err(_would_block) => {}
            }
        }
    }
}

impl Drop for PacketSocket {
    fn drop(&mut self) {
        let Some(socket) = self.0.take() else { return };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(socket))),
            Err(_) => drop(socket),
        }
    }
}

fn read(socket: &Socket) -> io::Result<Vec<u8>> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER_LENGTH];
    let length = socket.recv(&mut buffer)?;
    // SAFETY: the kernel has written the first `length` bytes of the buffer, and u8 has no invalid values.
    Ok(unsafe { buffer[..length].assume_init_ref() }.to_vec())
}

/// IPv4 packets on an interface (0: all) and, for sending, the receiver's MAC.
fn link_address(interface: u32, mac: Mac) -> SockAddr {
    let mut link_address = [0; 8];
    link_address[..6].copy_from_slice(&mac.0);
    let wanted = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_IP as u16).to_be(),
        // The kernel's indexes are positive ints; a number that is none names no interface.
        sll_ifindex: i32::try_from(interface).unwrap_or(i32::MAX),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: link_address,
    };
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is a `sockaddr_*` type of this platform, so it fits the storage and its alignment.
    unsafe {
        *storage.view_as::<libc::sockaddr_ll>() = wanted;
        SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    }
}

/// A classic BPF program over packets that begin with their IPv4 header: lets in first fragments of TCP
/// packets from `from` to `to`, whatever IP options they have.
fn filter(from: SocketAddrV4, to: SocketAddrV4) -> Vec<SockFilter> {
    use libc::{BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX};
    use libc::{BPF_MSH, BPF_RET, BPF_W};

    let load = |size, mode, at| Step::Plain(BPF_LD | size | mode, at);
    let address = |address: Ipv4Addr| Step::Only(u32::from(address));
    let port = |port: u16| Step::Only(u32::from(port));
    let steps = [
        load(BPF_B, BPF_ABS, 9),
        Step::Only(PROTOCOL_TCP),
        load(BPF_W, BPF_ABS, 12),
        address(*from.ip()),
        load(BPF_W, BPF_ABS, 16),
        address(*to.ip()),
        load(BPF_H, BPF_ABS, 6),
        // A later fragment has no TCP header.
        Step::Without(0x1fff),
        // X: the length of the IPv4 header.
        Step::Plain(BPF_LDX | BPF_B | BPF_MSH, 0),
        load(BPF_H, BPF_IND, 0),
        port(from.port()),
        load(BPF_H, BPF_IND, 2),
        port(to.port()),
        Step::Plain(BPF_RET | BPF_K, BUFFER_LENGTH as u32),
    ];
    let count = steps.len();
    let mut program: Vec<SockFilter> = steps
        .iter()
        .enumerate()
        .map(|(index, step)| {
            // How far it is to the instruction behind the last, which refuses.
            let refuse = (count - index - 1) as u8;
            match *step {
                Step::Plain(code, k) => SockFilter::new(code as u16, 0, 0, k),
                Step::Only(k) => SockFilter::new((BPF_JMP | BPF_JEQ | BPF_K) as u16, 0, refuse, k),
                Step::Without(k) => SockFilter::new((BPF_JMP | BPF_JSET | BPF_K) as u16, refuse, 0, k),
            }
        })
        .collect();
    program.push(SockFilter::new((BPF_RET | BPF_K) as u16, 0, 0, 0));
    program
}

/// An instruction of a filter that goes straight on or refuses.
enum Step {
    /// Code and operand.
    Plain(u32, u32),
    /// Goes on if what was loaded is this.
    Only(u32),
    /// Goes on if what was loaded has none of these bits.
    Without(u32),
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    const FROM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 4), 80);
    const TO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 61_234);

    /// An IPv4 header with `options` bytes of options, then ports.
    fn packet(options: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut packet = vec![0x45 + (options / 4) as u8, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
        packet.extend(FROM.ip().octets());
        packet.extend(TO.ip().octets());
        packet.extend(vec![1; options]);
        packet.extend(FROM.port().to_be_bytes());
        packet.extend(TO.port().to_be_bytes());
        packet.extend([0; 16]);
        change(&mut packet);
        packet
    }

    #[test]
    fn filter_lets_only_the_conversations_packets_in() {
        let cases = [
            ("an answer", true, packet(0, |_| {})),
            ("with IP options", true, packet(12, |_| {})),
            ("a first fragment", true, packet(0, |p| p[6] = 0x20)),
            ("a later fragment", false, packet(0, |p| p[7] = 1)),
            ("UDP", false, packet(0, |p| p[9] = 17)),
            ("from another address", false, packet(0, |p| p[15] ^= 1)),
            ("to another address", false, packet(0, |p| p[19] ^= 1)),
            ("from another port", false, packet(0, |p| p[21] ^= 1)),
            ("to another port", false, packet(0, |p| p[23] ^= 1)),
            ("ports where the options end elsewhere", false, packet(4, |p| p[0] = 0x45)),
            ("cut off before the ports", false, packet(0, |p| p.truncate(21))),
            ("nothing", false, Vec::new()),
        ];
        // The kernel filters what a datagram socket of any family receives.
        let (sender, receiver) = UnixDatagram::pair().expect("a pair of sockets");
        receiver.set_nonblocking(true).expect("a flag");
        let receiver = Socket::from(std::os::fd::OwnedFd::from(receiver));
        receiver.attach_filter(&filter(FROM, TO)).expect("the kernel takes the program");
        for (what, passes, packet) in cases {
            // A refused datagram is an error or a silent loss, as the kernel likes.
            let _ = sender.send(&packet);
            assert_eq!(read(&receiver).ok(), passes.then_some(packet), "{what}");
        }
    }
}
