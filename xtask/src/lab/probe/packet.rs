//! A packet socket.

use std::{
    ffi::CString,
    io, mem,
    net::SocketAddrV4,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    ifaddrs::getifaddrs,
    sys::{
        socket::{AddressFamily, MsgFlags, SockaddrLike, recv, setsockopt, sockopt::ReceiveTimeout},
        time::TimeVal,
    },
};

use crate::lab::spec::MacAddress;

/// Sends and receives whole Ethernet frames of one EtherType on one interface.
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    /// The interface's own MAC address.
    pub(crate) mac: MacAddress,
}

impl PacketSocket {
    /// Opens it in the network namespace of the calling thread.
    pub(crate) fn open(interface: &str, ethertype: u16) -> io::Result<Self> {
        let mac = mac_of(interface)?;
        let name = CString::new(interface)?;
        // SAFETY: `name` is a valid C string for the duration of the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // Protocol 0: nothing is received before the socket is bound to the interface.
        // SAFETY: a plain system call without pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and nothing else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: sockaddr_ll is plain data for which zeros are valid.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::sa_family_t;
        address.sll_protocol = ethertype.to_be();
        address.sll_ifindex = index.cast_signed();
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: `address` is a sockaddr_ll of `length` bytes that outlives the call.
        if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket, mac })
    }

    /// Sends one frame, Ethernet header included.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        nix::unistd::write(&self.socket, frame)?;
        Ok(())
    }

    /// Receives one frame that has already come; `None` if there is none.
    pub(crate) fn receive_now<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => Ok(Some(&buffer[..length])),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Receives one frame; `None` if there is none within `timeout`.
    pub(crate) fn receive<'a>(
        &self,
        buffer: &'a mut [u8],
        timeout: Duration,
    ) -> io::Result<Option<&'a [u8]>> {
        // Zero would mean to wait for ever.
        let micros = i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX).max(1);
        let timeout = TimeVal::new(micros / 1_000_000, micros % 1_000_000);
        setsockopt(&self.socket, ReceiveTimeout, &timeout)?;
        match nix::unistd::read(&self.socket, buffer) {
            Ok(length) => Ok(Some(&buffer[..length])),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A whole frame with a UDP datagram over IPv4 (RFC 768, 791), without the checksum that UDP may leave out.
pub(crate) fn udp_frame(
    from_mac: MacAddress,
    to_mac: MacAddress,
    from: SocketAddrV4,
    to: SocketAddrV4,
    payload: &[u8],
) -> Vec<u8> {
    let udp_length = 8 + payload.len();
    let mut header = vec![0x45, 0];
    header.extend(((20 + udp_length) as u16).to_be_bytes());
    // Identification 0, don't fragment, TTL 64, UDP, no checksum yet.
    header.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    header.extend(from.ip().octets());
    header.extend(to.ip().octets());
    let checksum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&checksum);

    let mut frame = [&to_mac.0[..], &from_mac.0, &[0x08, 0x00], &header].concat();
    for field in [from.port(), to.port(), udp_length as u16, 0] {
        frame.extend(field.to_be_bytes());
    }
    frame.extend(payload);
    frame
}

/// The Internet checksum (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn mac_of(interface: &str) -> io::Result<MacAddress> {
    getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .filter_map(|entry| entry.address)
        .find(|address| address.family() == Some(AddressFamily::Packet))
        .and_then(|address| address.as_link_addr()?.addr())
        .map(MacAddress)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no interface {interface}")))
}
