//! A packet socket.

use std::{
    ffi::CString,
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    ifaddrs::getifaddrs,
    sys::{
        socket::{AddressFamily, SockaddrLike, setsockopt, sockopt::ReceiveTimeout},
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

fn mac_of(interface: &str) -> io::Result<MacAddress> {
    getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .filter_map(|entry| entry.address)
        .find(|address| address.family() == Some(AddressFamily::Packet))
        .and_then(|address| address.as_link_addr()?.addr())
        .map(MacAddress)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no interface {interface}")))
}
